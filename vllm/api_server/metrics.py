# SPDX-License-Identifier: Apache-2.0
"""Counters and gauges in Prometheus' text form, named as upstream names them.

A subset of the Rust frontend's: what can be counted without costing clarity. Must not know HTTP.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from vllm.protocol.client import AsyncEngineClient

_HELP = {
    "vllm:num_requests_running": ("gauge", "Requests in the engine's current batch."),
    "vllm:num_requests_waiting": ("gauge", "Requests that wait for the engine."),
    "vllm:kv_cache_usage_perc": ("gauge", "Used part of the KV cache, 0 to 1."),
    "vllm:prefix_cache_queries": ("counter", "Prompt tokens looked up in the prefix cache."),
    "vllm:prefix_cache_hits": ("counter", "Prompt tokens found in the prefix cache."),
    "vllm:prompt_tokens": ("counter", "Prompt tokens of all requests."),
    "vllm:generation_tokens": ("counter", "Generated tokens."),
    "vllm:request_success": ("counter", "Choices that ended, by reason."),
    "vllm:http_requests": ("counter", "HTTP requests, by route and status."),
}


@dataclass
class Metrics:
    """What is counted; `model` labels every sample."""

    model: str
    prompt_tokens: int = 0
    generation_tokens: int = 0
    finished: Counter[str] = field(default_factory=Counter)
    http: Counter[tuple[str, int]] = field(default_factory=Counter)

    def text(self, client: AsyncEngineClient | None) -> str:
        """The exposition of all samples (Prometheus text format 0.0.4)."""
        lines: list[str] = []
        for name, (kind, words) in _HELP.items():
            exposed = f"{name}_total" if kind == "counter" else name
            lines += [f"# HELP {exposed} {words}", f"# TYPE {exposed} {kind}"]
            for labels, value in self._samples(name, client):
                shown = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
                lines.append(f"{exposed}{{{shown}}} {value}")
        return "\n".join(lines) + "\n"

    def _samples(
        self, name: str, client: AsyncEngineClient | None
    ) -> list[tuple[dict[str, str], float]]:
        model = {"model_name": self.model}
        if name == "vllm:request_success":
            return [(model | {"finished_reason": k}, v) for k, v in self.finished.items()]
        if name == "vllm:http_requests":
            return [({"handler": k, "status": str(s)}, v) for (k, s), v in self.http.items()]
        if name in ("vllm:prompt_tokens", "vllm:generation_tokens"):
            return [(model, getattr(self, name.removeprefix("vllm:")))]
        return self._engine_samples(name, model, client)

    def _engine_samples(
        self, name: str, model: dict[str, str], client: AsyncEngineClient | None
    ) -> list[tuple[dict[str, str], float]]:
        if name.startswith("vllm:prefix_cache"):
            which = 0 if name.endswith("queries") else 1
            look_ups = client.cache_look_ups if client is not None else {}
            return [(model | {"engine": str(i)}, pair[which]) for i, pair in look_ups.items()]
        key = {
            "vllm:num_requests_running": "num_running_reqs",
            "vllm:num_requests_waiting": "num_waiting_reqs",
            "vllm:kv_cache_usage_perc": "kv_cache_usage",
        }[name]
        stats = client.stats if client is not None else {}
        return [
            (model | {"engine": str(index)}, float(getattr(found, key)))
            for index, found in stats.items()
        ]


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
