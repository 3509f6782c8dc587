# SPDX-License-Identifier: Apache-2.0
"""Recorded decode steps: which sizes there are, and what fills them up.

On a GPU a step is filled up to one of a few sizes. Here the CPU does the same, its own recordings
in the place of CUDA's graphs, and a request's tokens have to stay what they are.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.models import BOS, make_llama
from tests.unit.engine.drive import finish, request
from vllm.config.engine import EngineConfig
from vllm.engine.core import EngineCore
from vllm.engine.request import Request
from vllm.sampling.params import SamplingParams
from vllm.scheduler.batch import Batch
from vllm.worker.decode_steps import DecodeSteps, bucket
from vllm.worker.input_batch import InputBatch
from vllm.worker.model_runner import ModelRunner


def test_sizes_double_and_then_grow_by_sixteen() -> None:
    sizes = [bucket(n, 100) for n in range(1, 101)]
    assert sorted(set(sizes)) == [1, 2, 4, 8, 16, 32, 48, 64, 80, 96, 100]
    assert all(n <= size for n, size in enumerate(sizes, 1))
    assert [bucket(n, 3) for n in (1, 2, 3)] == [1, 2, 3]


class Fake:
    """A recording that notes what is asked of it."""

    def __init__(self, calls: Any) -> None:
        self.result, self.replays = calls(), 0

    def replay(self) -> Any:
        self.replays += 1
        return self.result


def inputs_of(size: int) -> Any:
    return SimpleNamespace(num_tokens=size)


def test_a_size_is_computed_once_and_replayed_until_forgotten() -> None:
    computed: list[int] = []
    steps = DecodeSteps(lambda inputs: computed.append(inputs.num_tokens), Fake, most=4)
    for size in (2, 2, 4, 2, 8, 8):
        steps.run(inputs_of(size))
    assert computed == [2, 4, 8, 8]  # 8 is above `most`
    assert {size: r.replays for size, r in steps.recordings.items()} == {2: 2, 4: 0}
    steps.forget()
    steps.run(inputs_of(2))
    assert computed == [2, 4, 8, 8, 2]


def running(inputs: InputBatch, name: str, prompt: list[int], output: list[int]) -> Request:
    """A request all of whose tokens but the last are computed, its blocks 7, 8, ... ."""
    own = Request(name, prompt, SamplingParams(), order=0, max_total_tokens=99, seed=0)
    own.output_token_ids += output
    own.num_computed_tokens = own.num_scheduled_tokens = own.num_tokens - 1
    inputs.add(own)
    inputs.add_blocks(own, 0, list(range(7, 7 + -(-own.num_tokens // inputs.block_size))))
    return own


def test_rows_that_fill_a_step_up_write_nowhere_and_read_one_token() -> None:
    inputs = InputBatch(8, 64, 16, 4, torch.device("cpu"), lambda size: bucket(size, 8))
    full = Batch()
    for index in range(4):  # leaves its numbers where the padding of the next step will be
        full.add(running(inputs, f"x{index}", [1, 2, 3, 4, 5], [6, 7]), 1)
    inputs.prepare(full)
    batch = Batch()
    for own in full.requests[:3]:
        own.num_scheduled_tokens = own.num_computed_tokens
        batch.add(own, 1)
    step = inputs.prepare(batch)
    assert (step.is_decode, len(step.rows)) == (True, 3)
    assert step.token_ids.tolist() == [7, 7, 7, 0]
    assert step.positions.tolist() == [6, 6, 6, 0]
    attention = step.attention
    assert attention.slot_mapping.tolist() == [8 * 4 + 2] * 3 + [-1]
    assert attention.seq_lens.tolist() == [7, 7, 7, 1]
    assert attention.query_start_loc.tolist() == [0, 1, 2, 3, 4]
    assert step.starts.tolist() == [0, 1, 2, 3]
    assert attention.block_tables[:3, :2].tolist() == [[7, 8]] * 3
    assert attention.block_tables[3, 0] == 0


def test_steps_of_a_size_lie_at_the_same_place() -> None:
    inputs = InputBatch(8, 64, 16, 4, torch.device("cpu"), lambda size: bucket(size, 8))
    requests = [running(inputs, str(index), [index, 2], [3]) for index in range(4)]
    places = set()
    for count in (3, 1, 4, 2, 3):
        batch = Batch()
        for own in requests[:count]:
            own.num_scheduled_tokens = own.num_computed_tokens
            batch.add(own, 1)
        step = inputs.prepare(batch)
        tensors = (step.token_ids, step.positions, step.attention.slot_mapping)
        places.add((bucket(count, 8), *(tensor.data_ptr() for tensor in tensors)))
    assert sorted(size for size, *_ in places) == [1, 2, 4]


def test_steps_of_the_same_requests_go_on_from_the_last() -> None:
    inputs = InputBatch(8, 64, 16, 4, torch.device("cpu"))
    requests = [running(inputs, str(index), [index, 2, 5], [3]) for index in range(3)]
    prepared = []
    for step in range(6):
        if step == 3:  # another row, and the same list of requests
            inputs.remove(requests[1])
            inputs.add(requests[1])
            inputs.add_blocks(requests[1], 0, [9, 9, 9])
        batch = Batch()
        for own in requests:
            batch.add_decode(own, own.num_tokens)
        prepared.append(inputs.prepare(batch))
        assert prepared[-1].positions.tolist() == [own.num_tokens - 1 for own in requests]
        assert prepared[-1].token_ids.tolist() == [own.output_token_ids[-1] for own in requests]
        inputs.append_decoded(prepared[-1].rows, [10 + step] * 3)
        for own in requests:
            own.num_computed_tokens = own.num_scheduled_tokens
            own.output_token_ids.append(10 + step)
    assert [step is prepared[0] for step in prepared] == [True] * 3 + [False] * 3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llama(tmp_path_factory.mktemp("tiny"), seed=3)


def answers(model: Path, **config: Any) -> tuple[dict[str, list[int]], EngineCore]:
    engine = EngineCore(EngineConfig(str(model), dequantize=True, device="cpu", **config))
    extras: list[dict[str, Any]] = [{}, {"temperature": 1.0, "seed": 4}, {"logprobs": 2}]
    requests = [
        request(str(i), [BOS, *range(i, 3 * i)], max_tokens=10 + 3 * i, **extras[i % 3])
        for i in range(11)
    ]
    found = {name: result.tokens for name, result in finish(engine, requests).items()}
    return found, engine


@pytest.mark.parametrize("config", [{}, {"max_num_seqs": 5}, {"enforce_eager": True}])
def test_filled_up_steps_change_no_tokens(
    model: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any]
) -> None:
    expected, _ = answers(model)
    most = config.get("max_num_seqs", 128)
    monkeypatch.setattr(ModelRunner, "_padded", lambda _, size: bucket(size, most))
    found, engine = answers(model, **config)
    assert found == expected
    sizes = set(engine.runner._decode_steps.recordings)
    assert sizes <= {1, 2, 4, 5, 8, 16}
    assert bool(sizes) != bool(config.get("enforce_eager"))
