# SPDX-License-Identifier: Apache-2.0
"""The ranks that compute one model together, as the model sees them.

Owns the interface and the group of one. Must not know models, processes or what is summed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Group(Protocol):
    """This process is `rank` of `size`. Every rank makes the same calls in the same order."""

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...

    def connect(self, device: torch.device) -> None:
        """Meet the other ranks; `device` is where this one computes."""

    def all_reduce(self, x: Tensor) -> None:
        """`x`, contiguous and of one shape everywhere, becomes the sum over all ranks."""

    def least(self, value: int) -> int:
        """The least of all ranks' values."""


class Alone:
    """A group of one."""

    rank, size = 0, 1

    def connect(self, device: torch.device) -> None:
        """Nobody to meet."""

    def all_reduce(self, x: Tensor) -> None:
        """Nothing to add."""

    def least(self, value: int) -> int:
        return value


ALONE = Alone()
