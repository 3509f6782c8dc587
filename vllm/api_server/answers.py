# SPDX-License-Identifier: Apache-2.0
"""Answers of chat and completions: one body, or chunks of a stream, folded from the same deltas."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from vllm.api_server.errors import ApiError
from vllm.api_server.generation import Choice, Delta, Ended
from vllm.api_server.logprobs import CompletionLogprobs, Namer, mean, sampled
from vllm.api_server.requests import ChatRequest, Request
from vllm.protocol.messages import LogprobsTensors

DONE = b"data: [DONE]\n\n"
Deltas = AsyncGenerator[tuple[Choice, Delta]]


def usage_of(prompt: int, completion: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
    }


def to_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def event(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + to_json(value) + b"\n\n"


@dataclass
class Answer:
    """What stays the same while a request is answered."""

    id: str
    model: str
    request: Request
    namer: Namer
    prompts: list[list[int]]
    details: bool = False
    choices: list[Choice] = field(default_factory=list)
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def is_chat(self) -> bool:
        return isinstance(self.request, ChatRequest)

    @property
    def with_ids(self) -> bool:
        return self.request.get("return_token_ids", False)

    @property
    def prompt_tokens(self) -> int:
        return sum(map(len, self.prompts))

    @property
    def echoes_logprobs(self) -> bool:
        """An echoed prompt has log probabilities where the answer has them."""
        return self.request.echo and self.request.logprobs is not None

    @property
    def shows_prompt_logprobs(self) -> bool:
        return self.request.get("prompt_logprobs") is not None

    def usage(self, completion: int) -> dict[str, Any]:
        """Of the whole request. A prompt's cached tokens count once, as its first choice found
        them: the others find what that one computed.
        """
        usage = usage_of(self.prompt_tokens, completion)
        if self.details:
            firsts = self.choices[:: self.request.candidates]
            cached = sum(choice.cached_tokens for choice in firsts)
            usage["prompt_tokens_details"] = {"cached_tokens": cached}
        return usage

    def head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


# ------------------------------------------------------------------------------------------- whole


@dataclass
class _Folded:
    """Everything a choice produced."""

    prompt: int
    text: str = ""
    ids: list[int] = field(default_factory=list)
    chat: list[dict[str, Any]] = field(default_factory=list)
    completion: CompletionLogprobs = field(default_factory=CompletionLogprobs)
    prompt_logprobs: list[dict[str, Any] | None] | None = None
    sampled: list[float] = field(default_factory=list)
    ended: Ended = field(default_factory=lambda: Ended("abort"))

    def add(self, answer: Answer, delta: Delta) -> None:
        self.text += delta.text
        self.ids += delta.ids
        if delta.prompt_logprobs is not None:
            self._add_prompt(answer, delta.prompt_logprobs)
        if delta.logprobs is not None:
            self.sampled += sampled(delta.logprobs, len(delta.ids))
        if delta.logprobs is not None and answer.is_chat:
            self.chat += answer.namer.chat(delta.logprobs, len(delta.ids))
        elif delta.logprobs is not None:
            self.completion.add(answer.namer, delta.logprobs, len(delta.ids))
        self.ended = delta.ended or self.ended

    def _add_prompt(self, answer: Answer, logprobs: LogprobsTensors) -> None:
        if answer.shows_prompt_logprobs:
            self.prompt_logprobs = answer.namer.prompt(logprobs)
        if answer.echoes_logprobs:
            first = answer.prompts[self.prompt][0]
            self.completion.echo(answer.namer, first, logprobs)


async def whole(answer: Answer, deltas: Deltas) -> dict[str, Any]:
    """Run a request to its end and give the body."""
    folded: dict[int, _Folded] = {}
    async for choice, delta in deltas:
        folded.setdefault(choice.index, _Folded(choice.prompt)).add(answer, delta)
    every = [folded[index] for index in sorted(folded)]
    parts = _best(answer, every)
    build = _chat_choice if answer.is_chat else _completion_choice
    body = answer.head("chat.completion" if answer.is_chat else "text_completion")
    body["choices"] = [build(answer, part, index) for index, part in enumerate(parts)]
    body["usage"] = answer.usage(sum(len(part.ids) for part in every))
    if answer.is_chat and parts[0].prompt_logprobs is not None:
        body["prompt_logprobs"] = parts[0].prompt_logprobs
    if answer.is_chat and answer.with_ids:
        body["prompt_token_ids"] = answer.prompts[0]
    return body


def _best(answer: Answer, candidates: list[_Folded]) -> list[_Folded]:
    """The likeliest candidates of each prompt, the likeliest first."""
    if not answer.request.ranks:
        return candidates
    best = []
    for prompt in range(len(answer.prompts)):
        own = [part for part in candidates if part.prompt == prompt]
        own.sort(key=lambda part: -mean(part.sampled))
        best += own[: answer.request.choices]
    return best


def _chat_choice(answer: Answer, part: _Folded, index: int) -> dict[str, Any]:
    asked = answer.request.logprobs is not None
    choice: dict[str, Any] = {
        "index": index,
        "message": {"role": "assistant", "content": part.text},
        "logprobs": {"content": part.chat} if asked else None,
        "finish_reason": part.ended.reason,
        "stop_reason": part.ended.stop,
    }
    if answer.with_ids:
        choice["token_ids"] = part.ids
    return choice


def _completion_choice(answer: Answer, part: _Folded, index: int) -> dict[str, Any]:
    asked = answer.request.logprobs is not None
    choice: dict[str, Any] = {
        "index": index,
        "text": part.text,
        "logprobs": part.completion.body() if asked else None,
        "finish_reason": part.ended.reason,
        "stop_reason": part.ended.stop,
    }
    if part.prompt_logprobs is not None:
        choice["prompt_logprobs"] = part.prompt_logprobs
    if answer.with_ids:
        choice |= {"token_ids": part.ids, "prompt_token_ids": answer.prompts[part.prompt]}
    return choice


# ------------------------------------------------------------------------------------------ stream


class Chunks:
    """Turns deltas into the events of a stream."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        options = answer.request.stream_options
        self._final_usage = options.get("include_usage", False)
        self._continuous = self._final_usage and options.get("continuous_usage_stats", False)
        self._kind = "chat.completion.chunk" if answer.is_chat else "text_completion"
        self._started: dict[int, CompletionLogprobs] = {}
        self._completion_tokens = 0
        self._shows_prompt = answer.shows_prompt_logprobs and not answer.is_chat
        self._interval = answer.request.get("stream_interval", 1)
        self._held: dict[int, tuple[Choice, Delta]] = {}

    async def events(self, deltas: Deltas) -> AsyncGenerator[bytes]:
        """All events of the stream; an error that comes after the first one is an event too."""
        try:
            async for choice, delta in deltas:
                due = self._due(choice, delta)
                for chunk in self._chunks(choice, due) if due is not None else ():
                    yield event(chunk)
        except ApiError as error:
            if not self._started:
                raise
            for choice, delta in self._held.values():
                for chunk in self._chunks(choice, delta):
                    yield event(chunk)
            yield event(error.body())
            return
        if self._final_usage:
            usage = self._answer.usage(self._completion_tokens)
            yield event(self._answer.head(self._kind) | {"choices": [], "usage": usage})
        yield DONE

    def _due(self, choice: Choice, delta: Delta) -> Delta | None:
        """Deltas wait until so many tokens came together; the first and the last never do."""
        if self._interval == 1 or delta.first:
            return delta
        held = self._held.pop(choice.index, None)
        whole = delta if held is None else held[1].joined(delta)
        if whole.ended is not None or len(whole.ids) >= self._interval:
            return whole
        self._held[choice.index] = choice, whole
        return None

    def _chunks(self, choice: Choice, delta: Delta) -> list[dict[str, Any]]:
        chunks = []
        if delta.first:
            self._started[choice.index] = CompletionLogprobs()
            if self._answer.is_chat:
                chunks.append(self._role(choice, delta))
        # The role comes before any token is generated, and its usage says so.
        self._completion_tokens += len(delta.ids)
        shows_ids = self._answer.with_ids and delta.ids
        has_logprobs = delta.logprobs is not None and self._answer.request.logprobs is not None
        shows_prompt = delta.prompt_logprobs is not None and not self._answer.is_chat
        if delta.text or shows_ids or has_logprobs or shows_prompt or delta.ended is not None:
            chunks.append(self._content(choice, delta))
        return chunks

    def _role(self, choice: Choice, delta: Delta) -> dict[str, Any]:
        """Chat: the chunk that says who speaks, and the prompt's ids when they were asked for."""
        chunk = self._chunk(
            {
                "index": choice.index,
                "delta": {"role": "assistant", "content": ""},
                "logprobs": None,
                "finish_reason": None,
            }
        )
        if delta.prompt_logprobs is not None and choice.index == 0:
            chunk["prompt_logprobs"] = self._answer.namer.prompt(delta.prompt_logprobs)
        if self._answer.with_ids:
            chunk["prompt_token_ids"] = self._answer.prompts[choice.prompt]
        return chunk

    def _content(self, choice: Choice, delta: Delta) -> dict[str, Any]:
        part: dict[str, Any] = {"index": choice.index}
        part |= {"delta": {"content": delta.text}} if self._answer.is_chat else {"text": delta.text}
        part["logprobs"] = self._logprobs(choice, delta)
        part["finish_reason"] = delta.ended.reason if delta.ended else None
        if delta.ended is not None or not self._answer.is_chat:
            part["stop_reason"] = delta.ended.stop if delta.ended else None
        if delta.prompt_logprobs is not None and self._shows_prompt:
            part["prompt_logprobs"] = self._answer.namer.prompt(delta.prompt_logprobs)
        if self._answer.with_ids:
            part["token_ids"] = delta.ids
            if not self._answer.is_chat and delta.first:
                part["prompt_token_ids"] = self._answer.prompts[choice.prompt]
        return self._chunk(part)

    def _logprobs(self, choice: Choice, delta: Delta) -> dict[str, Any] | None:
        echoed = delta.prompt_logprobs if self._answer.echoes_logprobs else None
        new = delta.logprobs if delta.ids else None
        if self._answer.request.logprobs is None or (new is None and echoed is None):
            return None
        namer = self._answer.namer
        if self._answer.is_chat and new is not None:
            return {"content": namer.chat(new, len(delta.ids))}
        lists = CompletionLogprobs(self._started[choice.index].offset)
        if echoed is not None:
            lists.echo(namer, self._answer.prompts[choice.prompt][0], echoed)
        if new is not None:
            lists.add(namer, new, len(delta.ids))
        self._started[choice.index] = lists
        return lists.body()

    def _chunk(self, part: dict[str, Any]) -> dict[str, Any]:
        chunk = self._answer.head(self._kind) | {"choices": [part]}
        if self._continuous:
            chunk["usage"] = self._usage()
        return chunk

    def _usage(self) -> dict[str, int]:
        return usage_of(self._answer.prompt_tokens, self._completion_tokens)
