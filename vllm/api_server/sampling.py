# SPDX-License-Identifier: Apache-2.0
"""From a request's fields to the engine's parameters: defaults, limits of this model, token ids."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vllm.api_server.errors import bad_field
from vllm.api_server.limits import MAX_PROMPT_LOGPROBS
from vllm.api_server.model import Model
from vllm.api_server.requests import Request
from vllm.errors import ValidationError
from vllm.protocol.messages import SamplingParams

_NEUTRAL = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
}
_SEEDS = 2**64  # a seed plus a choice's index stays within what the wire holds


def params_of(model: Model, request: Request, prompt_tokens: int) -> dict[str, Any]:
    """The parameters of one prompt's choices, without seed. Raises ApiError."""
    _check_ids(model, request)
    most = _max_tokens(model, request, prompt_tokens)
    chosen = {
        name: request.get(name, model.defaults.get(name, neutral))
        for name, neutral in _NEUTRAL.items()
    }
    params = {
        **chosen,
        **_stops(model, request),
        "presence_penalty": request.get("presence_penalty", 0.0),
        "frequency_penalty": request.get("frequency_penalty", 0.0),
        "max_tokens": max(most, 1),
        "min_tokens": _min_tokens(request, most),
        "logprobs": 0 if request.ranks and request.logprobs is None else request.logprobs,
        "logprob_token_ids": request.get("logprob_token_ids") or None,
        "prompt_logprobs": request.prompt_logprobs,
        "ignore_eos": request.get("ignore_eos", False),
        "logit_bias": request.get("logit_bias") or None,
        "allowed_token_ids": request.get("allowed_token_ids") or None,
        "bad_words": request.get("bad_words"),
        "thinking_token_budget": request.get("thinking_token_budget"),
        "repetition_detection": request.get("repetition_detection"),
        "_bad_words_token_ids": _bad_words(model, request.get("bad_words")),
    }
    _check_allowed(params)
    return params


def _check_allowed(params: dict[str, Any]) -> None:
    """At every step one of the allowed tokens can be chosen."""
    allowed = params["allowed_token_ids"]
    words = params["_bad_words_token_ids"] or ()
    # The last token of a word is banned where the answer ends with the rest of it.
    forbidden = {word[-1] for word in words if word}
    if params["min_tokens"] > 0:
        forbidden |= params["_all_stop_token_ids"]
    if allowed and forbidden.issuperset(allowed):
        raise bad_field(
            "allowed_token_ids",
            "`allowed_token_ids` has no token that can be generated: `bad_words` or `min_tokens` "
            "forbid each of them. Allow another one.",
        )


def check_prompt_logprobs(request: Request, prompts: list[list[int]]) -> None:
    """Refuse more log probabilities of prompts than one answer may have. Raises ApiError."""
    if request.prompt_logprobs is None:
        return
    tokens, rows = sum(map(len, prompts)), request.prompt_logprobs + 1
    asked = tokens * request.candidates * rows
    if asked > MAX_PROMPT_LOGPROBS:
        name = "logprobs" if request.get("prompt_logprobs") is None else "prompt_logprobs"
        raise bad_field(
            name,
            f"`{name}` asks for {asked} log probabilities of the prompt ({tokens} tokens, "
            f"{request.candidates} choices of each, {rows} candidates per token); an answer has at "
            f"most {MAX_PROMPT_LOGPROBS}. Ask for fewer candidates or choices.",
        )


def with_seed(params: dict[str, Any], seed: int | None, choice: int) -> SamplingParams:
    """The parameters of one choice; choice i gets `seed + i`. Raises ApiError."""
    own = None if seed is None else _wrapped(seed + choice)
    try:
        return SamplingParams(**params, seed=own)
    except ValidationError as error:
        raise bad_field(error.field or "", str(error)) from None


def _wrapped(seed: int) -> int:
    """Back into 64 signed bits."""
    return (seed + 2**63) % _SEEDS - 2**63


def _stops(model: Model, request: Request) -> dict[str, Any]:
    """The request's stop ids and, unless they are to be ignored, every end of sequence."""
    stops = set(request.get("stop_token_ids") or ())
    eos = None
    if not request.get("ignore_eos"):
        eos = model.eos
        stops.update(model.extra_eos)
    every = stops if eos is None else stops | {eos}
    return {"stop_token_ids": sorted(stops), "_eos_token_id": eos, "_all_stop_token_ids": every}


def _max_tokens(model: Model, request: Request, prompt_tokens: int) -> int:
    """What was asked for, or what is left of the context."""
    left = model.context - prompt_tokens
    if request.max_tokens is not None:
        return min(request.max_tokens, left)
    return min(int(model.defaults.get("max_new_tokens", left)), left)


def _min_tokens(request: Request, most: int) -> int:
    least = request.get("min_tokens", 0)
    if least > most:
        raise bad_field(
            "min_tokens",
            f"`min_tokens` is {least}, but at most {most} tokens can be generated after this "
            "prompt.",
        )
    return least


def _check_ids(model: Model, request: Request) -> None:
    for name in ("logprob_token_ids", "logit_bias", "stop_token_ids", "allowed_token_ids"):
        check_vocabulary(model, name, request.get(name) or ())


def check_vocabulary(model: Model, name: str, ids: Iterable[int]) -> None:
    """Ids must exist in the model's vocabulary. Raises ApiError."""
    for number in ids:
        if number >= model.vocab:
            raise bad_field(
                name,
                f"`{name}` has the token id {number}; the model's ids are below {model.vocab}.",
            )


def _bad_words(model: Model, words: list[str] | None) -> list[list[int]] | None:
    """A word is forbidden at the start of a text and, with a space before it, inside; one that is
    nothing but space, as a line feed, as it is.
    """
    if not words:
        return None
    found: list[list[int]] = []
    for word in words:
        bare = word.lstrip()
        if not bare:
            found.append(model.tokenizer.encode(word, add_special_tokens=False))
            continue
        alone = model.tokenizer.encode(bare, add_special_tokens=False)
        spaced = model.tokenizer.encode(" " + bare, add_special_tokens=False)
        if alone:
            found.append(alone)
        # A tokenizer that adds the space by itself gives the same ids twice; one that makes the
        # space a token of its own gives ids that would forbid the space.
        if len(spaced) == len(alone) and spaced[:1] != alone[:1]:
            found.append(spaced)
    return found
