# SPDX-License-Identifier: Apache-2.0
"""Validated requests: what chat and completions have in common, and what each has of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vllm.api_server import body
from vllm.api_server.body import Member
from vllm.api_server.errors import bad_field
from vllm.api_server.fields import CHAT, COMPLETIONS, FIELDS, check_misplaced, check_refused
from vllm.api_server.limits import DEFAULT_MAX_TOKENS, MAX_CHOICES
from vllm.logging import init_logger

logger = init_logger(__name__)


@dataclass
class Request:
    """A chat or completions request. `values` holds the fields the client gave, by name.

    `logprobs` is the number of candidates per generated token, 0 for the sampled one alone, None
    for none at all; `max_tokens` None means as many as fit.
    """

    values: dict[str, Any]
    logprobs: int | None = None
    max_tokens: int | None = None

    def get(self, name: str, default: Any = None) -> Any:
        """A field's value, or `default` where the client left it out."""
        return self.values.get(name, default)

    @property
    def choices(self) -> int:
        """Choices per prompt."""
        return self.get("n", 1)

    @property
    def candidates(self) -> int:
        """Choices generated per prompt."""
        return self.get("best_of", self.choices)

    @property
    def ranks(self) -> bool:
        """More is generated than answered: the likeliest are."""
        return self.candidates > self.choices

    @property
    def echo(self) -> bool:
        return self.get("echo", False)

    @property
    def prompt_logprobs(self) -> int | None:
        """Candidates per prompt token; an echoed prompt has those of the answer."""
        asked = [self.get("prompt_logprobs"), self.logprobs if self.echo else None]
        return max((count for count in asked if count is not None), default=None)

    @property
    def prompt_only(self) -> bool:
        """No token is generated: the prompt alone is answered."""
        return self.max_tokens == 0

    @property
    def shown_logprobs(self) -> int | None:
        """Candidates per token in the answer: the likeliest, or those that were named."""
        if self.logprobs is None:
            return None
        return max(self.logprobs, len(self.get("logprob_token_ids", ())))

    @property
    def stream(self) -> bool:
        return self.get("stream", False)

    @property
    def stream_options(self) -> dict[str, bool]:
        return self.get("stream_options") or {}


@dataclass
class ChatRequest(Request):
    """`POST /v1/chat/completions`."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    add_generation_prompt: bool = True


@dataclass
class CompletionRequest(Request):
    """`POST /v1/completions`; the prompts are all texts or all token ids."""

    prompts: list[str] | list[list[int]] = field(default_factory=list)


@dataclass
class TokenizeRequest:
    """`POST /tokenize`: a text or a conversation."""

    model: str | None
    text: str | None
    chat: ChatRequest | None
    add_special_tokens: bool | None
    return_token_strs: bool


@dataclass
class DetokenizeRequest:
    """`POST /detokenize`."""

    model: str | None
    tokens: list[int]


def _read(raw: bytes, route: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, member in dict(body.read_members(raw)).items():  # the last of a name counts
        row = FIELDS[route].get(name)
        if row is None and check_misplaced(name, member, route):
            continue
        if row is None:
            logger.debug("unknown field %.64r is ignored", name)
        elif member.value is None:
            continue
        elif row.refused is not None:
            check_refused(row, member)
        elif row.read is not None:
            body.check_characters(name, member)
            values[name] = row.read(name, member)
    return values


def _check_common(request: Request) -> None:
    """Checks that need more than one field."""
    if "stream_options" in request.values and not request.stream:
        raise bad_field(
            "stream_options", "`stream_options` is only allowed together with `stream: true`."
        )
    options = request.stream_options
    if options.get("continuous_usage_stats") and not options.get("include_usage"):
        raise bad_field(
            "stream_options.continuous_usage_stats",
            "`stream_options.continuous_usage_stats` needs `include_usage: true`.",
        )
    if request.get("truncate_prompt_tokens") == 0:
        raise bad_field(
            "truncate_prompt_tokens",
            "`truncate_prompt_tokens` must be at least 1, or -1 for as many as fit, not 0.",
        )
    _check_nothing(request)
    _check_logprob_ids(request)
    _check_best_of(request)
    least = request.get("min_tokens")
    if least is not None and request.max_tokens is not None and least > request.max_tokens:
        raise bad_field(
            "min_tokens",
            f"`min_tokens` ({least}) must not be above `max_tokens` ({request.max_tokens}).",
        )


def _check_nothing(request: Request) -> None:
    if request.prompt_only and not request.echo and request.get("prompt_logprobs") is None:
        raise bad_field(
            "max_tokens",
            "`max_tokens` is 0, which leaves nothing to answer: it needs `echo` or "
            "`prompt_logprobs`.",
        )


def _check_logprob_ids(request: Request) -> None:
    if request.get("logprob_token_ids") and request.logprobs != 0:
        raise bad_field(
            "logprob_token_ids",
            "`logprob_token_ids` needs log probabilities without candidates: for chat "
            "`logprobs: true` without `top_logprobs`, otherwise `logprobs: 0`.",
        )


def _check_best_of(request: Request) -> None:
    best_of, n = request.candidates, request.choices
    if best_of < n:
        raise bad_field("best_of", f"`best_of` ({best_of}) must not be below `n` ({n}).")
    if request.ranks and request.stream:
        raise bad_field(
            "best_of",
            "`best_of` above `n` cannot be streamed: which candidates are best shows at their "
            "ends.",
        )


def read_chat(raw: bytes) -> ChatRequest:
    """Read and validate a chat request. Raises ApiError."""
    values = _read(raw, CHAT)
    if "messages" not in values:
        raise bad_field("messages", "`messages` is missing: send a list of at least one message.")
    top = values.get("top_logprobs")
    if not values.get("logprobs") and top:
        raise bad_field("top_logprobs", "`top_logprobs` needs `logprobs: true`.")
    request = ChatRequest(
        values,
        logprobs=(top or 0) if values.get("logprobs") else None,
        max_tokens=values.get("max_completion_tokens", values.get("max_tokens")),
        messages=values["messages"],
    )
    _check_common(request)
    request.add_generation_prompt = _generation_prompt(values)
    return request


def _generation_prompt(values: dict[str, Any]) -> bool:
    """A message that is continued must not be followed by a new turn."""
    continued = values.get("continue_final_message", False)
    if continued and values.get("add_generation_prompt"):
        raise bad_field(
            "continue_final_message",
            "`continue_final_message` and `add_generation_prompt` exclude each other: send "
            "`add_generation_prompt: false`.",
        )
    return values.get("add_generation_prompt", not continued)


def read_completion(raw: bytes) -> CompletionRequest:
    """Read and validate a completions request. Raises ApiError."""
    values = _read(raw, COMPLETIONS)
    if "prompt" not in values:
        raise bad_field(
            "prompt", "`prompt` is missing: send a string, token ids, or a list of either."
        )
    request = CompletionRequest(
        values,
        logprobs=values.get("logprobs"),
        max_tokens=values.get("max_tokens", DEFAULT_MAX_TOKENS),
        prompts=values["prompt"],
    )
    _check_common(request)
    total = len(request.prompts) * request.candidates
    if total > MAX_CHOICES:
        name = "best_of" if request.ranks else "n"
        raise bad_field(
            name,
            f"{len(request.prompts)} prompts with `{name}` = {request.candidates} are {total} "
            f"choices; at most {MAX_CHOICES} are served at once.",
        )
    return request


def read_tokenize(raw: bytes) -> TokenizeRequest:
    """Read and validate a `/tokenize` request. Raises ApiError."""
    members = body.read_members(raw)
    strings = body.optional(members, "return_token_strs", body.boolean) or False
    if body.optional(members, "messages", lambda _, member: member) is not None:
        chat = read_chat(raw)
        special = chat.get("add_special_tokens")
        return TokenizeRequest(chat.get("model"), None, chat, special, strings)
    text = body.optional(members, "prompt", body.text)
    if text is None:
        raise bad_field("prompt", "`prompt` is missing: send a string, or `messages`.")
    return TokenizeRequest(
        body.optional(members, "model", body.text),
        text,
        None,
        body.optional(members, "add_special_tokens", body.boolean),
        strings,
    )


def read_detokenize(raw: bytes) -> DetokenizeRequest:
    """Read and validate a `/detokenize` request. Raises ApiError."""
    members: list[tuple[str, Member]] = body.read_members(raw)
    tokens = body.optional(members, "tokens", body.ids)
    if tokens is None:
        raise bad_field("tokens", "`tokens` is missing: send a list of token ids.")
    return DetokenizeRequest(body.optional(members, "model", body.text), tokens)
