# SPDX-License-Identifier: Apache-2.0
"""From a new token to the message about it: is the request done, and what does its client get.

Owns stop conditions and the form of outputs. Must not know tensors or scheduling.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm.engine.repetition import STOP_REASON
from vllm.engine.request import Request
from vllm.kvcache.prefix import LookUps
from vllm.protocol.errors import INTERNAL_ERROR
from vllm.protocol.messages import (
    EngineCoreEvent,
    EngineCoreOutput,
    FinishReason,
    LogprobsLists,
    LogprobsTensors,
    PrefillStats,
    PrefixCacheStats,
    Tensor,
)

if TYPE_CHECKING:
    from vllm.sampling.logprobs import TokenLogprobs  # whose module loads torch

Finish = tuple[FinishReason | None, int | str | None]
"""Why a request is over (None: it is not), and the stop token that did it or what was found."""

_GOES_ON: Finish = (None, None)

NO_LOOK_UPS = PrefixCacheStats()
"""Of a step that looked nothing up, which most are."""


def check_stop(request: Request) -> Finish:
    """Look at the token that was just appended."""
    params, output = request.sampling_params, request.output_token_ids
    token = output[-1]
    repeats = request.repetition is not None and request.repetition.append(token)
    may_stop = len(output) >= params.min_tokens
    if may_stop:
        if token == params._eos_token_id and not params.ignore_eos:
            return FinishReason.STOP, None
        if token in params.stop_token_ids:
            return FinishReason.STOP, token
    if len(request.prompt_token_ids) + len(output) >= request.max_total_tokens:
        return FinishReason.LENGTH, None
    if repeats and may_stop:
        return FinishReason.REPETITION, STOP_REASON
    return _GOES_ON


def make_output(request: Request, token: int, finish: Finish) -> EngineCoreOutput:
    """What the client is told about one step of its request."""
    output = EngineCoreOutput(request.request_id, [token])
    if finish is not _GOES_ON:
        output.finish_reason, output.stop_reason = finish
    if request.events:
        output.events = [EngineCoreEvent(int(kind), time) for kind, time in request.events]
        request.events.clear()
    if len(request.output_token_ids) == 1:
        output.prefill_stats = prefill_stats(request)
        output.trace_headers = request.trace_headers
    return output


def sample_logprobs(found: TokenLogprobs) -> LogprobsLists:
    """Of the step's token."""
    return LogprobsLists(found.token_ids, found.logprobs, found.ranks)


def prompt_logprobs(found: TokenLogprobs) -> LogprobsTensors:
    """Of the whole prompt, once it is computed."""
    return LogprobsTensors(
        Tensor.of(found.token_ids), Tensor.of(found.logprobs), Tensor.of(found.ranks)
    )


def nan_output(request: Request, num_nans: int) -> EngineCoreOutput:
    """The end of a request for which the model computed `num_nans` logits that are NaN."""
    message = f"the model computed NaN for {num_nans} tokens at position {request.num_tokens}"
    output = EngineCoreOutput.failure(request.request_id, message, INTERNAL_ERROR)
    output.num_nans_in_logits = num_nans
    return output


def prefill_stats(request: Request) -> PrefillStats:
    """Where the prompt's keys and values came from when the request was first served."""
    cached = request.num_found_tokens or 0
    return PrefillStats(
        num_prompt_tokens=request.num_prompt_tokens,
        num_computed_tokens=request.num_prompt_tokens - cached,
        num_cached_tokens=cached,
        num_local_cached_tokens=cached,
    )


def prefix_cache_stats(look_ups: LookUps) -> PrefixCacheStats:
    """Look-ups in the form of the wire; all hits are in this engine's own memory."""
    hits = look_ups.hits + look_ups.hits_again
    return PrefixCacheStats(
        reset=look_ups.reset,
        requests=look_ups.requests,
        queries=look_ups.queries,
        hits=look_ups.hits,
        preempted_requests=look_ups.requests_again,
        preempted_queries=look_ups.queries_again,
        preempted_hits=look_ups.hits_again,
        hits_by_source={"device": hits} if hits else {},
    )
