# SPDX-License-Identifier: Apache-2.0
"""Sums over ranks by torch: NCCL between GPUs, gloo between CPUs.

Owns the connection of the ranks. It is an object, not torch's one group per process, which a
program around us may have for itself. Must not know what is summed.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from weakref import finalize

import torch
from torch import Tensor
from torch.distributed import ProcessGroupGloo, TCPStore

CONNECT_S = 60.0
"""How long ranks that have all started wait for each other."""
_COLLECTIVE = timedelta(days=1)  # a dead rank is noticed otherwise, a slow one may take its time


class Collectives:
    """One rank's end. `host` is the address that gloo listens on."""

    def __init__(
        self, rank: int, size: int, store: TCPStore, device: torch.device, host: str
    ) -> None:
        connect = _nccl if device.type == "cuda" else _gloo
        self._groups: list[Any] = [connect(rank, size, store, host)]
        # Where this object lives until the interpreter ends, gloo's threads must end before: one
        # that lets go of the last tensor meanwhile aborts the process.
        finalize(self, self._groups.clear)

    def all_reduce(self, x: Tensor) -> None:
        self._groups[0].allreduce([x]).wait()


def open_store(listener: int, host: str, port: int, size: int) -> TCPStore:
    """Where ranks find each other, behind a TCP socket that listens: its descriptor."""
    return TCPStore(
        host,
        port,
        size,
        is_master=True,
        timeout=timedelta(seconds=CONNECT_S),
        wait_for_workers=False,
        master_listen_fd=listener,
    )


def join_store(host: str, port: int, size: int) -> TCPStore:
    """The same, from another rank."""
    timeout = timedelta(seconds=CONNECT_S)
    return TCPStore(host, port, size, is_master=False, timeout=timeout, wait_for_workers=False)


def _gloo(rank: int, size: int, store: TCPStore, host: str) -> Any:
    kind: Any = ProcessGroupGloo  # its options are in no type stub
    options = kind._Options()
    options._timeout = _COLLECTIVE
    options._devices = [kind.create_device(hostname=host)]
    return kind(store, rank, size, options)


def _nccl(rank: int, size: int, store: TCPStore, _host: str) -> Any:
    from torch.distributed import ProcessGroupNCCL  # noqa: PLC0415 - not in every build of torch

    options = ProcessGroupNCCL.Options()
    options._timeout = _COLLECTIVE
    return ProcessGroupNCCL(store, rank, size, options)
