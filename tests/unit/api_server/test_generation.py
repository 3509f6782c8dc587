# SPDX-License-Identifier: Apache-2.0
"""One choice alone, and the usage of all of them."""

from __future__ import annotations

import json
from typing import Any

from vllm.api_server.answers import Answer
from vllm.api_server.generation import Choice
from vllm.api_server.logprobs import Namer
from vllm.api_server.requests import CompletionRequest, read_completion
from vllm.protocol.messages import EngineCoreOutput, FinishReason, PrefillStats


class Letters:
    """A tokenizer whose tokens are characters."""

    form = "bytes"

    def decode(self, ids: Any, skip_special_tokens: bool = True) -> str:
        return "".join(map(chr, ids))

    def token_bytes(self, number: int) -> bytes:
        return bytes([number])

    def token_text(self, number: int) -> str:
        return chr(number)

    def is_special(self, number: int) -> bool:
        return False


def request(**fields: Any) -> CompletionRequest:
    return read_completion(json.dumps({"prompt": "ab"} | fields).encode())


def choice(asked: CompletionRequest, index: int, prompt: int, cached: int) -> Choice:
    made = Choice(index, prompt, asked, Letters(), [97, 98])  # type: ignore[arg-type]
    stats = PrefillStats(num_cached_tokens=cached)
    output = EngineCoreOutput("r", [99], prefill_stats=stats, finish_reason=FinishReason.STOP)
    made.last = made.take(output)  # type: ignore[attr-defined]
    return made


def test_the_prompt_alone_has_no_token_and_ends_at_its_limit() -> None:
    made = choice(request(max_tokens=0, echo=True), 0, 0, 0)
    delta = made.last  # type: ignore[attr-defined]
    assert (delta.text, delta.ids, delta.ended.reason) == ("ab", [], "length")
    assert made.tokens == 0


def test_cached_tokens_count_once_per_prompt() -> None:
    asked = request(prompt=["ab", "cd"], n=2)
    choices = [
        choice(asked, index, index // 2, cached) for index, cached in enumerate((1, 2, 0, 2))
    ]
    namer = Namer(Letters(), asked)  # type: ignore[arg-type]
    answer = Answer("id", "m", asked, namer, [[97, 98], [99, 100]], True, choices)
    assert answer.usage(4)["prompt_tokens_details"] == {"cached_tokens": 1}
    assert "prompt_tokens_details" not in Answer("id", "m", asked, namer, [[97]]).usage(4)
