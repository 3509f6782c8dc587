# SPDX-License-Identifier: Apache-2.0
"""Memory of weights: nothing overlaps, lines are whole, and what was kept stays."""

from __future__ import annotations

from itertools import pairwise

import torch

from vllm.layers import tape
from vllm.layers.tape import Tape


def random_bytes(size: int) -> torch.Tensor:
    return torch.randint(0, 256, (size,), dtype=torch.uint8)


def test_keeps_copies_at_whole_cache_lines_across_chunks() -> None:
    memory = Tape()
    given = [random_bytes(size) for size in (1, 64, 65, tape.CHUNK - 100, 3, tape.CHUNK + 1, 7)]
    kept = [memory.keep(data) for data in given]
    assert all(torch.equal(a, b) for a, b in zip(given, kept, strict=True))
    assert all(data.data_ptr() % tape.LINE == 0 for data in kept)
    spans = sorted((data.data_ptr(), data.data_ptr() + data.numel()) for data in kept)
    assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))


def test_neighbours_follow_each_other() -> None:
    memory = Tape()
    first, second = memory.keep(random_bytes(100)), memory.keep(random_bytes(64))
    assert second.data_ptr() - first.data_ptr() == 128
    assert first.data_ptr() % tape.PAGE == 0


def test_room_is_zero_and_follows_what_was_kept() -> None:
    memory = Tape()
    memory.keep(random_bytes(64)).fill_(7)
    room = [memory.reserve(size) for size in (100, tape.CHUNK, 64)]
    assert not any(part.any() for part in room)
    assert [part.numel() for part in room] == [100, tape.CHUNK, 64]
    assert all(part.data_ptr() % tape.LINE == 0 for part in room)


def test_memory_outlives_the_tape() -> None:
    given = random_bytes(1000)
    kept = Tape().keep(given)
    assert torch.equal(kept, given)
