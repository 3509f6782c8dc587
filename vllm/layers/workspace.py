# SPDX-License-Identifier: Apache-2.0
"""Activations, allocated once for the largest step; a step of T tokens uses their first T rows.

Owns the memory. Must not know what lies in it. Steps of the same number of tokens find the same
views, which recorded steps depend on.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from vllm.layers.linear import Target

MAX_KEPT_VIEWS = 256  # steps of up to so many different token counts find their views ready


class Buffer:
    """One kind of activation, [max_tokens, width]."""

    def __init__(self, whole: Tensor) -> None:
        self.whole = whole
        self._views: dict[Hashable, tuple[Tensor, ...]] = {}

    def rows(self, count: int) -> Tensor:
        """[count, width]; the same tensor each time."""
        return self._kept(count, ())[0]

    def columns(self, count: int, widths: Sequence[int]) -> tuple[Tensor, ...]:
        """[count, width] for each of `widths`, side by side."""
        return self._kept(count, tuple(widths))

    def _kept(self, count: int, widths: tuple[int, ...]) -> tuple[Tensor, ...]:
        views = self._views.get((count, widths))
        if views is None:
            if len(self._views) >= MAX_KEPT_VIEWS:
                self._views.clear()
            rows = self.whole[:count]
            views = rows.split(widths, dim=1) if widths else (rows,)
            self._views[count, widths] = views
        return views


class Workspace:
    """Buffers by name and width: layers that reserve the same share it."""

    def __init__(self, max_tokens: int, target: Target) -> None:
        self.max_tokens, self.device = max_tokens, target.device
        self.dtype = target.activation_dtype
        self._buffers: dict[tuple[str, int], Buffer] = {}

    def reserve(self, name: str, width: int, dtype: torch.dtype | None = None) -> Buffer:
        """The buffer `name` of this width, zero at first; activations' dtype unless given."""
        key = (name, width)
        if key not in self._buffers:
            shape = (self.max_tokens, width)
            whole = torch.zeros(shape, dtype=dtype or self.dtype, device=self.device)
            self._buffers[key] = Buffer(whole)
        return self._buffers[key]
