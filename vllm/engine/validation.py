# SPDX-License-Identifier: Apache-2.0
"""What the engine checks of a request before it becomes one of its own.

Owns the limits that depend on the model and the list of what is not built. Ranges of single
parameters are `SamplingParams`' matter. Whatever a client sends ends here in a `RequestError` that
names field, value and limit, or is safe for the rest of the engine. Must not know tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vllm.errors import RequestError
from vllm.protocol.errors import VALIDATION_ERROR
from vllm.protocol.messages import EngineCoreRequest
from vllm.sampling.params import SamplingParams


@dataclass(frozen=True)
class RequestLimits:
    """What the model, the KV cache and the operator allow. `max_logprobs` -1: no limit; `thinks`:
    the marks of a thought are known.
    """

    vocab_size: int
    max_model_len: int
    max_logprobs: int
    priorities: bool = True
    thinks: bool = False


FLOAT32_MAX = (2 - 2**-23) * 2.0**127
_NO_MARKERS = (
    "this server does not know where the model's thoughts begin and end; start it with "
    "--reasoning-config"
)
_IN_FLOAT32 = "a finite number of 32 bits is needed"

# Fields that ask for something that is not built: (name, what it would need to be).
_REQUEST_FIELDS = (
    ("pooling_params", "pooling"),
    ("mm_features", "multimodal input"),
    ("lora_request", "LoRA"),
    ("prompt_embeds", "prompt embeddings"),
    ("resumable", "streaming input"),
)
_SAMPLING_FIELDS = (
    ("structured_outputs", "structured output"),
    ("prompt_logprob_token_ids", "log probabilities of given prompt tokens"),
    ("prompt_logprob_start", "a start position of prompt log probabilities"),
    ("trace_decode_token_ids", "tracing of given tokens"),
)


def refuse(field: str, value: Any, limit: str) -> RequestError:
    """The error for a field outside its limit."""
    text = repr(value)
    shown = text if len(text) <= 80 else text[:77] + "..."
    return RequestError(VALIDATION_ERROR, f"{field} is {shown}; {limit}")


def check_request(request: EngineCoreRequest, limits: RequestLimits) -> SamplingParams:
    """Raise `RequestError` for anything the engine cannot do; else the sampling parameters."""
    _check_unsupported(request, _REQUEST_FIELDS)
    if request.prompt_is_token_ids is not None and not all(request.prompt_is_token_ids):
        raise refuse("prompt_is_token_ids", False, "prompt embeddings are not supported")
    if request.sampling_params is None:
        raise refuse("sampling_params", None, "sampling parameters are needed")
    if request.priority != 0 and not limits.priorities:
        raise refuse(
            "priority",
            request.priority,
            "this server serves in order of arrival; start it with --scheduling-policy priority",
        )
    _check_prompt(request.prompt_token_ids, limits)
    _check_sampling(request.sampling_params, limits)
    return request.sampling_params


def _check_unsupported(values: Any, table: Iterable[tuple[str, str]]) -> None:
    for name, feature in table:
        value = getattr(values, name)
        if value is not None and value is not False:
            raise refuse(name, value, f"{feature} is not supported")


def _check_prompt(prompt: Sequence[int] | None, limits: RequestLimits) -> None:
    if not prompt:
        raise refuse("prompt_token_ids", prompt, "at least one token is needed")
    if len(prompt) >= limits.max_model_len:
        raise RequestError(
            VALIDATION_ERROR,
            f"prompt_token_ids has {len(prompt)} tokens; with at least one output token the limit "
            f"is max_model_len = {limits.max_model_len}: shorten the prompt",
        )
    _check_ids("prompt_token_ids", prompt, limits)


def _check_sampling(params: SamplingParams, limits: RequestLimits) -> None:
    _check_unsupported(params, _SAMPLING_FIELDS)
    if params.thinking_token_budget is not None and not limits.thinks:
        raise refuse("thinking_token_budget", params.thinking_token_budget, _NO_MARKERS)
    if params.n != 1:
        raise refuse("n", params.n, "each choice is a request of its own, with n left out")
    if params.extra_args:
        name = next(iter(params.extra_args))
        raise refuse("extra_args", name, "neither KV transfer nor plug-ins are supported")
    _check_logprobs("logprobs", params.logprobs, limits)
    _check_logprobs("prompt_logprobs", params.prompt_logprobs, limits)
    _check_ids("logprob_token_ids", params.logprob_token_ids or (), limits)
    _check_logprobs("logprob_token_ids", len(params.logprob_token_ids or ()), limits)
    if params.repetition_penalty > FLOAT32_MAX:
        raise refuse("repetition_penalty", params.repetition_penalty, _IN_FLOAT32)
    _check_bias(params, limits)
    _check_bad_words(params, limits)
    if params.allowed_token_ids is not None:
        _check_allowed(params, limits)


def _check_ids(field: str, ids: Sequence[int], limits: RequestLimits) -> None:
    """min and max run in C, which matters for long prompts."""
    if not ids:
        return
    for value in (min(ids), max(ids)):
        if not 0 <= value < limits.vocab_size:
            raise RequestError(
                VALIDATION_ERROR,
                f"{field} contains token {value}; the model has tokens 0 to "
                f"{limits.vocab_size - 1}",
            )


def _check_logprobs(field: str, count: int | None, limits: RequestLimits) -> None:
    if count is None or limits.max_logprobs == -1:
        return
    wanted = limits.vocab_size if count == -1 else count
    if wanted > limits.max_logprobs:
        raise refuse(field, count, f"this server gives at most {limits.max_logprobs} per token")


def _check_bias(params: SamplingParams, limits: RequestLimits) -> None:
    bias = params.logit_bias
    if not bias:
        return
    _check_ids("logit_bias", list(bias), limits)
    for token, value in bias.items():
        if not abs(value) <= FLOAT32_MAX:  # false for NaN, too
            raise refuse(f"logit_bias[{token}]", value, _IN_FLOAT32)


def _check_allowed(params: SamplingParams, limits: RequestLimits) -> None:
    """At every step one of the allowed tokens can be chosen."""
    allowed = params.allowed_token_ids or []
    if not allowed:
        raise refuse("allowed_token_ids", allowed, "at least one token is needed")
    _check_ids("allowed_token_ids", allowed, limits)
    # The last token of a word is banned where the output ends with the rest of it.
    forbidden = {word[-1] for word in params._bad_words_token_ids or () if word}
    if params.min_tokens > 0:
        forbidden |= params._all_stop_token_ids
    if forbidden.issuperset(allowed):
        reason = "bad_words or min_tokens can forbid each of them; allow another token"
        raise refuse("allowed_token_ids", allowed, reason)


def _check_bad_words(params: SamplingParams, limits: RequestLimits) -> None:
    words = params._bad_words_token_ids
    if params.bad_words and not words:
        raise refuse("bad_words", params.bad_words, "the engine needs them as token ids")
    for word in words or ():
        if not word:
            raise refuse("bad_words", word, "a word must have at least one token")
        _check_ids("bad_words", word, limits)
