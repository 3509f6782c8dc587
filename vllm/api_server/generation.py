# SPDX-License-Identifier: Apache-2.0
"""One state machine per choice: the engine's tokens in, deltas of text out.

Whole answers and streams fold the same deltas. Leaving a choice before its end, for whatever
reason, aborts its request in the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

import numpy as np

from vllm.api_server import errors
from vllm.api_server.errors import ApiError
from vllm.api_server.requests import Request
from vllm.logging import init_logger
from vllm.protocol.client import AsyncEngineClient
from vllm.protocol.errors import SHUTTING_DOWN, VALIDATION_ERROR, EngineDeadError
from vllm.protocol.messages import (
    EngineCoreOutput,
    EngineCoreRequest,
    FinishReason,
    LogprobsLists,
    LogprobsTensors,
    RequestFailure,
)
from vllm.text.detokenize import Detokenizer, StopMatcher
from vllm.text.tokenizer import Tokenizer

logger = init_logger(__name__)


@dataclass(frozen=True)
class Ended:
    """OpenAI's `finish_reason`, and the stop string or stop token id behind it."""

    reason: str
    stop: int | str | None = None


@dataclass
class Delta:
    """What a choice gained by one output; `ended` is set on its last one.

    `text` is final; `ids` are all new tokens, also those without text yet; `logprobs` has a row for
    each of them, when asked for; `prompt_logprobs` comes once, when asked for; `first` marks the
    choice's first delta.
    """

    first: bool = False
    text: str = ""
    ids: list[int] = field(default_factory=list)
    logprobs: LogprobsLists | None = None
    prompt_logprobs: LogprobsTensors | None = None
    ended: Ended | None = None

    def joined(self, later: Delta) -> Delta:
        """Both as one; the later one is not a first delta."""
        return Delta(
            first=self.first,
            text=self.text + later.text,
            ids=self.ids + later.ids,
            logprobs=_joined(self.logprobs, later.logprobs),
            prompt_logprobs=self.prompt_logprobs or later.prompt_logprobs,
            ended=later.ended,
        )


def _joined(rows: LogprobsLists | None, later: LogprobsLists | None) -> LogprobsLists | None:
    if rows is None or later is None:
        return rows or later
    return LogprobsLists(
        np.concatenate((rows.token_ids, later.token_ids)),
        np.concatenate((rows.logprobs, later.logprobs)),
        np.concatenate((rows.sampled_token_ranks, later.sampled_token_ranks)),
    )


class Choice:
    """One choice: `index` counts over all prompts of the request, `prompt` says which it
    continues.
    """

    def __init__(
        self, index: int, prompt: int, request: Request, tokenizer: Tokenizer, ids: Sequence[int]
    ) -> None:
        self.index, self.prompt = index, prompt
        self.tokens = 0
        self.cached_tokens = 0
        self._prompt_only = request.prompt_only
        self._begun = False
        self._least = request.get("min_tokens", 0)
        self._include_stop = request.get("include_stop_str_in_output", False)
        skip = request.get("skip_special_tokens", True)
        # An echoed prompt stands before the answer.
        shown = tokenizer.decode(ids, skip_special_tokens=skip) if request.echo else ""
        self._before = shown
        self._detokenizer = Detokenizer(tokenizer, ids, skip_special_tokens=skip)
        self._matcher = StopMatcher(request.get("stop") or (), self._include_stop)

    def take(self, output: EngineCoreOutput) -> Delta:
        """Advance by one output. Raises ApiError when the engine failed on the request."""
        if output.finish_reason == FinishReason.ERROR:
            raise failure(output.request_id, output.error)
        if output.prefill_stats is not None:
            self.cached_tokens = output.prefill_stats.num_cached_tokens
        if self._prompt_only:
            _leave_out_tokens(output)
        delta = Delta(prompt_logprobs=output.new_prompt_logprobs_tensors)
        self._begin(output, delta)
        used = self._take_text(output, delta)
        delta.ids = output.new_token_ids[:used]
        delta.logprobs = output.new_logprobs
        self.tokens += used
        if delta.ended is None and output.finish_reason is not None:
            # The end of the text: whatever was held back is final now.
            text, _ = self._matcher.push(self._detokenizer.finish(), may_stop=False)
            delta.text += text + self._matcher.finish()
            delta.ended = Ended(output.finish_reason.name.lower(), output.stop_reason)
        return delta

    def _begin(self, output: EngineCoreOutput, delta: Delta) -> None:
        """The first output that a client sees something of."""
        visible = output.new_token_ids or output.finish_reason is not None or delta.prompt_logprobs
        if not self._begun and visible:
            self._begun = delta.first = True
            delta.text = self._before

    def _take_text(self, output: EngineCoreOutput, delta: Delta) -> int:
        """Append the text of the new tokens; how many of them count (a stop string cuts)."""
        ids = output.new_token_ids
        # A stop token is counted, but its text does not show.
        hidden = output.finish_reason == FinishReason.STOP and not self._include_stop
        for at, number in enumerate(ids[:-1] if hidden else ids):
            text = self._detokenizer.push([number])
            may_stop = self.tokens + at + 1 > self._least
            shown, stop = self._matcher.push(text, may_stop)
            delta.text += shown
            if stop is not None:
                delta.ended = Ended("stop", stop)
                return at + 1
        return len(ids)


def _leave_out_tokens(output: EngineCoreOutput) -> None:
    """Engines generate at least one token; who asked for none gets none."""
    output.new_token_ids, output.new_logprobs, output.stop_reason = [], None, None
    if output.finish_reason is not None:
        output.finish_reason = FinishReason.LENGTH


def failure(request_id: str, error: RequestFailure | None) -> ApiError:
    """What a client is told when the engine ended its request with an error; the log has more."""
    if error is None:
        logger.error("request %s: the engine failed without saying why", request_id)
        return errors.engine_failed()
    logger.warning("request %s: the engine says %s: %s", request_id, error.code, error.message)
    if error.code == VALIDATION_ERROR:
        return errors.bad_request("The engine refused the request's parameters.")
    if error.code == SHUTTING_DOWN:
        return errors.engine_lost()
    return errors.engine_busy() if error.retryable else errors.engine_failed()


async def run_choice(
    client: AsyncEngineClient, choice: Choice, request: EngineCoreRequest
) -> AsyncGenerator[Delta]:
    """Submit a choice's request and give its deltas, the last one with `ended`."""
    submitted = False
    try:
        async with client.submit(request) as outputs:
            submitted = True
            async for output in outputs:
                delta = choice.take(output)
                yield delta
                if delta.ended is not None:
                    return
    except EngineDeadError as error:
        logger.warning("request %s: %s", request.request_id, error)
        raise (errors.engine_lost() if submitted else errors.no_engine()) from None
    logger.error("request %s: the engine ended it without a reason", request.request_id)
    raise errors.engine_failed()


async def run_all(
    client: AsyncEngineClient, work: Sequence[tuple[Choice, EngineCoreRequest]]
) -> AsyncGenerator[tuple[Choice, Delta]]:
    """All choices of a request at once, deltas in the order in which they arrive.

    The first failure ends all. Closing the iterator aborts what is not over.
    """
    arrived: asyncio.Queue[tuple[Choice, Delta] | ApiError | BaseException] = asyncio.Queue()

    async def pump(choice: Choice, request: EngineCoreRequest) -> None:
        try:
            async with contextlib.aclosing(run_choice(client, choice, request)) as deltas:
                async for delta in deltas:
                    arrived.put_nowait((choice, delta))
        except Exception as error:
            arrived.put_nowait(error)

    tasks = [asyncio.create_task(pump(choice, request)) for choice, request in work]
    try:
        open_choices = len(tasks)
        while open_choices:
            item = await arrived.get()
            if isinstance(item, BaseException):
                raise item
            open_choices -= item[1].ended is not None
            yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
