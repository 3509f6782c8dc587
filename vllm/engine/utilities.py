# SPDX-License-Identifier: Apache-2.0
"""Calls from frontends that are not requests: versions, caches, questions (wire protocol, 5).

Owns the state behind them; pausing and sleeping are in `pausing`. A method here is callable over
the wire by its name; those that are known and not built say so. Must not know how a call arrives.
"""

from __future__ import annotations

from typing import Any, NoReturn

from vllm.engine.pausing import Pausing
from vllm.errors import NotSupported
from vllm.protocol.messages import EngineCoreOutput

DEFAULT_WEIGHT_VERSION = "default"


class Utilities(Pausing):
    """The part of an engine that answers utility calls."""

    def __init__(self) -> None:
        super().__init__()
        self.weight_version = DEFAULT_WEIGHT_VERSION
        self.ended: list[EngineCoreOutput] = []  # goes out with the next step

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
