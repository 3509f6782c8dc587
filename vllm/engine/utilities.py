# SPDX-License-Identifier: Apache-2.0
"""Calls from frontends that are not requests: pausing, versions, questions (wire protocol, 5).

Owns the state behind them. A method here is callable over the wire by its name; those that are
known and not built say so. Must not know how a call arrives.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NoReturn

from vllm.errors import NotSupported, RequestError
from vllm.protocol.messages import EngineCoreOutput

DEFAULT_WEIGHT_VERSION = "default"
PAUSE_MODES = ("abort", "keep")


class Utilities:
    """The part of an engine that answers utility calls."""

    def __init__(self) -> None:
        self.weight_version = DEFAULT_WEIGHT_VERSION
        self.ended: list[EngineCoreOutput] = []  # goes out with the next step
        self._paused: str | None = None

    @property
    def frozen(self) -> bool:
        """Paused in mode "keep": requests stay where they are and no step is computed."""
        return self._paused == "keep"

    def refuse_if_paused(self) -> None:
        """Raise `RequestError` where a pause ends requests instead of keeping them."""
        if self._paused == "abort":
            raise RequestError(
                "engine_paused", "generation is paused; try again after it resumes", retryable=True
            )

    @abstractmethod
    def abort_all(self) -> None:
        """End every request and tell its client."""

    @abstractmethod
    def clear_cache(self, reset_running: bool) -> None:
        """Forget what is in the prefix cache; with `reset_running` also what is running."""

    # ------------------------------------------------------------------ callable over the wire

    def is_sleeping(self) -> bool:
        return False

    def is_scheduler_paused(self) -> bool:
        return self._paused is not None

    def pause_generation(self, mode: str = "abort", clear_cache: bool = True) -> None:
        """Stop generating: "abort" ends all requests, "keep" freezes them until resumed."""
        if mode not in PAUSE_MODES:
            accepted = ", ".join(PAUSE_MODES)
            raise NotSupported(f"pause mode {mode!r} (accepted are {accepted})")
        self._paused = mode
        if mode == "abort":
            self.abort_all()

    def pause_scheduler(self, mode: str = "abort", clear_cache: bool = True) -> None:
        """The name that 0.32 uses."""
        self.pause_generation(mode, clear_cache)

    def resume_scheduler(self) -> None:
        self._paused = None

    def reset_prefix_cache(
        self, reset_running: bool = False, reset_connector: bool = False
    ) -> bool:
        """True: nothing computed before the call is found by a request that comes after it.

        Running requests go on with what they have, or begin anew with `reset_running`. There is
        no connector that could hold more.
        """
        self.clear_cache(reset_running)
        return True

    def reset_mm_cache(self) -> None:
        """Nothing multimodal is cached."""

    def reset_encoder_cache(self) -> None:
        """Nothing multimodal is cached."""

    def get_supported_tasks(self) -> list[str]:
        return ["generate"]

    def get_weight_version(self) -> str:
        return self.weight_version

    def set_weight_version(self, version: str) -> None:
        self.weight_version = version

    def list_loras(self) -> list[int]:
        return []


def _not_supported(name: str) -> Any:
    def refuse(self: Utilities, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotSupported(name)

    refuse.__name__ = name
    refuse.__doc__ = "Known to the protocol and not built; raises `NotSupported`."
    return refuse


for _name in (
    "sleep",
    "wake_up",
    "release_kv_cache_memory",
    "profile",
    "add_lora",
    "remove_lora",
    "pin_lora",
    "compute_weight_checksums",
    "collective_rpc",
    "save_sharded_state",
    "execute_dummy_batch",
    "reinitialize_distributed",
    "commit_prepared_elastic_ep",
    "handle_fault_tolerance",
):
    setattr(Utilities, _name, _not_supported(_name))
