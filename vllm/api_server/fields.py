# SPDX-License-Identifier: Apache-2.0
"""The table of request fields: on which routes each is known, what it accepts, whether it is
served.

Validation and the handling of unknown fields read this table and nothing else. A field of the table
that is not served answers 400 with its reason, unless its value asks for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from vllm.api_server import body
from vllm.api_server.body import Bounds, Member, mismatch
from vllm.api_server.errors import bad_field, shorten
from vllm.api_server.limits import (
    LOGIT_BIAS,
    MAX_ALLOWED_TOKEN_IDS,
    MAX_BAD_WORDS,
    MAX_DOCUMENTS,
    MAX_I32,
    MAX_I64,
    MAX_ID_BYTES,
    MAX_LOGIT_BIAS,
    MAX_LOGPROB_TOKEN_IDS,
    MAX_MODEL_BYTES,
    MAX_N,
    MAX_PRIORITY,
    MAX_PROMPTS,
    MAX_REPETITION_PENALTY,
    MAX_STOP_BYTES,
    MAX_STOP_STRINGS,
    MAX_STOP_TOKEN_IDS,
    MAX_STREAM_INTERVAL,
    MAX_TEMPLATE_BYTES,
    MAX_TOKEN_ID,
    MAX_U32,
    PENALTY,
    TEMPERATURE,
)
from vllm.api_server.messages import read_messages
from vllm.sampling.params import MAX_PATTERN_SIZE, RepetitionDetectionParams

CHAT, COMPLETIONS = "chat", "completions"
BOTH = (CHAT, COMPLETIONS)

Read = Callable[[str, Member], Any]


@dataclass(frozen=True)
class Field:
    """One row. `read` gives the value; a row without effect has none; `refused` is the reason."""

    name: str
    routes: tuple[str, ...]
    read: Read | None = None
    refused: str | None = None
    neutral: tuple[str, ...] = ()  # JSON texts of values that ask for nothing
    text_type: bool = False  # neutral is an object whose `type` is `text`


def _whole(least: int, most: int) -> Read:
    return lambda path, member: body.integer(path, member, least, most)


def _number(least: float, most: float, *, open: bool = False) -> Read:
    return lambda path, member: body.number(path, member, Bounds(least, most, open))


def _text(most: int) -> Read:
    return lambda path, member: body.text(path, member, most)


def _name(most: int) -> Read:
    return lambda path, member: body.name(path, member, most)


def _texts(items: int, *, single: bool) -> Read:
    return lambda path, member: body.texts(path, member, items, MAX_STOP_BYTES, single=single)


def _ids(most: int) -> Read:
    return lambda path, member: body.ids(path, member, most)


def read_logit_bias(path: str, member: Member) -> dict[int, float]:
    """`{"50256": -100}`: keys are token ids, values are clamped."""
    pairs = member.value
    if not isinstance(pairs, dict):
        raise mismatch(path, member.raw, "an object of token id to number")
    body.check_count(path, len(pairs), MAX_LOGIT_BIAS)
    least, most = LOGIT_BIAS
    ids = [(_token_id(path, key), value) for key, value in pairs.items()]
    return {i: min(max(_bias(f"{path}.{i}", value), least), most) for i, value in ids}


def _bias(path: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise mismatch(path, body.compact(value), "a number")
    if not math.isfinite(value):
        raise bad_field(path, f"`{path}` holds a number that is too large.")
    return value


def _token_id(path: str, key: str) -> int:
    digits = key.lstrip("0") or "0"
    if (
        not (key.isascii() and key.isdigit())
        or len(digits) > len(str(MAX_TOKEN_ID))
        or int(digits) > MAX_TOKEN_ID
    ):
        raise bad_field(path, f'`{path}` has the key "{shorten(key)}", which is not a token id.')
    return int(digits)


def read_object(expected: str) -> Read:
    def read(path: str, member: Member) -> dict[str, Any]:
        if not isinstance(member.value, dict):
            raise mismatch(path, member.raw, expected)
        return member.value

    return read


# What the server itself tells a template or its renderer.
RESERVED = (
    "add_generation_prompt",
    "chat_template",
    "continue_final_message",
    "conversation",
    "documents",
    "messages",
    "tokenize",
    "tools",
)


def read_template(path: str, member: Member) -> NoReturn:
    """This frontend renders with the model's own template alone."""
    body.text(path, member, MAX_TEMPLATE_BYTES)
    raise bad_field(
        path,
        f"`{path}` is taken only by a server started with --trust-request-chat-template. Leave it "
        "out to render with the model's own template.",
        "unsupported_field",
    )


def read_template_kwargs(path: str, member: Member) -> dict[str, Any]:
    """Variables for the template, none of them the server's own."""
    variables = read_object("an object of template variables")(path, member)
    for name in RESERVED:
        if name in variables:
            raise bad_field(
                f"{path}.{name}",
                f"`{path}.{name}` is reserved: it is set by the request's own fields, not by "
                "variables.",
            )
    return variables


def read_stream_options(path: str, member: Member) -> dict[str, bool]:
    """`include_usage` and `continuous_usage_stats`; other keys have no effect."""
    options = read_object("an object of stream options")(path, member)
    found = {}
    for name in ("include_usage", "continuous_usage_stats"):
        value = options.get(name)
        if value is not None and not isinstance(value, bool):
            raise mismatch(f"{path}.{name}", body.compact(value), "true or false")
        found[name] = bool(value)
    return found


def read_repetition_detection(path: str, member: Member) -> RepetitionDetectionParams | None:
    """Three sizes, 0 where they are left out; a largest size of 0 asks for nothing."""
    given = read_object("an object of three sizes")(path, member)
    largest = _size(path, given, "max_pattern_size", 0)
    least = _size(path, given, "min_pattern_size", 0)
    if least > largest:
        raise bad_field(
            f"{path}.min_pattern_size",
            f"`{path}.min_pattern_size` is {least}, above `{path}.max_pattern_size`, which is "
            f"{largest}.",
        )
    count = _size(path, given, "min_count", 2 if largest else 0)
    if not largest:
        return None
    return RepetitionDetectionParams(
        max_pattern_size=largest, min_pattern_size=least, min_count=count
    )


def _size(path: str, given: dict[str, Any], name: str, least: int) -> int:
    value = 0 if given.get(name) is None else given[name]
    path = f"{path}.{name}"
    expected = f"a whole number from {least} to {MAX_PATTERN_SIZE}"
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise mismatch(path, body.compact(value), expected)
    if not least <= value <= MAX_PATTERN_SIZE:
        raise bad_field(path, f"`{path}` is {value}; it must be {expected}.")
    return value


def read_documents(path: str, member: Member) -> list[dict[str, Any]]:
    """Objects for the template."""
    documents = member.value
    if not isinstance(documents, list) or not all(isinstance(item, dict) for item in documents):
        raise mismatch(path, member.raw, "a list of objects")
    body.check_count(path, len(documents), MAX_DOCUMENTS)
    return documents


_PROMPT = "a string, a list of token ids, a list of strings, or a list of lists of token ids"


def read_prompt(path: str, member: Member) -> list[str] | list[list[int]]:
    """One or several prompts, all texts or all token ids."""
    prompts = _prompts(path, member)
    body.check_count(path, len(prompts), MAX_PROMPTS)
    for index, prompt in enumerate(prompts):
        if isinstance(prompt, list):
            where = path if len(prompts) == 1 else f"{path}[{index}]"
            if not prompt:
                raise bad_field(where, f"`{where}` must have at least one token id.")
            body.check_ids(where, prompt)
    return prompts


def _prompts(path: str, member: Member) -> list[Any]:
    value = member.value
    if value == []:
        raise bad_field(path, f"`{path}` must not be an empty list.")
    if body.is_text(value):
        return [value]
    if body.is_ids(value):
        return [value]
    if isinstance(value, list) and (all(map(body.is_text, value)) or all(map(body.is_ids, value))):
        return value
    raise mismatch(path, member.raw, _PROMPT)


def _refuse(
    reason: str,
    names: str,
    routes: tuple[str, ...] = BOTH,
    *neutral: str,
    text_type: bool = False,
) -> list[Field]:
    return [
        Field(name, routes, refused=reason, neutral=neutral, text_type=text_type)
        for name in names.split()
    ]


_TOOLS = "tool calls are not served yet"
_REASONING = "thoughts are not told from answers yet"
_STRUCTURED = "structured output is not served yet"
_MEDIA = "only text goes in and comes out"
_BEAM = "beam search is not served"
_ECHO = "a conversation is not repeated; `continue_final_message` goes on in the last message"

_ROWS: list[Field] = [
    Field("add_generation_prompt", (CHAT,), body.boolean),
    Field("add_special_tokens", BOTH, body.boolean),
    Field("allowed_token_ids", BOTH, _ids(MAX_ALLOWED_TOKEN_IDS)),
    Field("bad_words", BOTH, _texts(MAX_BAD_WORDS, single=False)),
    Field("best_of", BOTH, _whole(1, MAX_N)),
    Field("cache_salt", BOTH, _name(MAX_ID_BYTES)),
    Field("chat_template", (CHAT,), read_template),
    Field("chat_template_kwargs", (CHAT,), read_template_kwargs),
    Field("continue_final_message", (CHAT,), body.boolean),
    Field("documents", (CHAT,), read_documents),
    Field("echo", (COMPLETIONS,), body.boolean),
    Field("frequency_penalty", BOTH, _number(*PENALTY)),
    Field("ignore_eos", BOTH, body.boolean),
    Field("include_stop_str_in_output", BOTH, body.boolean),
    Field("logit_bias", BOTH, read_logit_bias),
    Field("logprob_token_ids", BOTH, _ids(MAX_LOGPROB_TOKEN_IDS)),
    Field("logprobs", (CHAT,), body.boolean),
    Field("logprobs", (COMPLETIONS,), _whole(0, MAX_U32)),
    Field("max_completion_tokens", (CHAT,), _whole(1, MAX_U32)),
    Field("max_tokens", (CHAT,), _whole(1, MAX_U32)),
    Field("max_tokens", (COMPLETIONS,), _whole(0, MAX_U32)),
    Field("messages", (CHAT,), read_messages),
    Field("metadata", BOTH),
    Field("min_p", BOTH, _number(0.0, 1.0)),
    Field("min_tokens", BOTH, _whole(0, MAX_U32)),
    Field("model", BOTH, _text(MAX_MODEL_BYTES)),
    Field("n", BOTH, _whole(1, MAX_N)),
    Field("parallel_tool_calls", (CHAT,)),
    Field("presence_penalty", BOTH, _number(*PENALTY)),
    Field("priority", BOTH, _whole(-MAX_PRIORITY, MAX_PRIORITY)),
    Field("prompt", (COMPLETIONS,), read_prompt),
    Field("prompt_cache_key", BOTH),
    Field("prompt_logprobs", BOTH, _whole(0, MAX_U32)),
    Field("repetition_detection", BOTH, read_repetition_detection),
    Field("repetition_penalty", BOTH, _number(0.0, MAX_REPETITION_PENALTY, open=True)),
    Field("request_id", BOTH, _name(MAX_ID_BYTES)),
    Field("return_token_ids", BOTH, body.boolean),
    Field("return_tokens_as_token_ids", BOTH, body.boolean),
    Field("safety_identifier", BOTH),
    Field("seed", BOTH, _whole(-MAX_I64 - 1, MAX_I64)),
    Field("session_id", BOTH, _name(MAX_ID_BYTES)),
    Field("skip_special_tokens", BOTH, body.boolean),
    Field("stop", BOTH, _texts(MAX_STOP_STRINGS, single=True)),
    Field("stop_token_ids", BOTH, _ids(MAX_STOP_TOKEN_IDS)),
    Field("stream", BOTH, body.boolean),
    Field("stream_interval", BOTH, _whole(1, MAX_STREAM_INTERVAL)),
    Field("stream_options", BOTH, read_stream_options),
    Field("temperature", BOTH, _number(*TEMPERATURE)),
    Field("thinking_token_budget", BOTH, _whole(-1, MAX_U32)),
    Field("top_k", BOTH, _whole(-1, MAX_I32)),
    Field("top_logprobs", (CHAT,), _whole(0, MAX_U32)),
    Field("top_p", BOTH, _number(0.0, 1.0, open=True)),
    Field("truncate_prompt_tokens", BOTH, _whole(-1, MAX_I32)),
    Field("user", BOTH),
    *_refuse(_MEDIA, "audio", (CHAT,)),
    *_refuse(_MEDIA, "media_io_kwargs", (CHAT,), "{}"),
    *_refuse(_MEDIA, "mm_processor_kwargs", BOTH, "{}"),
    *_refuse(_MEDIA, "modalities", (CHAT,), '["text"]'),
    *_refuse(_BEAM, "early_stopping use_beam_search", BOTH, "false"),
    *_refuse(_BEAM, "length_penalty", BOTH, "1", "1.0"),
    *_refuse(_ECHO, "echo", (CHAT,), "false"),
    *_refuse(_TOOLS, "function_call tool_choice", (CHAT,), '"none"', '"auto"'),
    *_refuse(_TOOLS, "functions tools", (CHAT,), "[]"),
    *_refuse(_STRUCTURED, "guided_choice guided_decoding_backend guided_grammar guided_json"),
    *_refuse(_STRUCTURED, "guided_regex guided_whitespace_pattern structured_outputs"),
    *_refuse(_STRUCTURED, "response_format", text_type=True),
    *_refuse(_REASONING, "include_reasoning", (CHAT,), "true"),
    *_refuse(_REASONING, "reasoning reasoning_effort", (CHAT,)),
    *_refuse("the engine has no KV connector", "kv_transfer_params", BOTH, "{}"),
    *_refuse("predicted outputs are not served", "prediction", (CHAT,)),
    *_refuse("prompts are text or token ids", "prompt_embeds", (COMPLETIONS,)),
    *_refuse("there is one tier", "service_tier", (CHAT,), '"auto"', '"default"'),
    *_refuse("the tokenizer decides about spaces", "spaces_between_special_tokens", BOTH, "true"),
    *_refuse("answers are not stored", "store", (CHAT,), "false"),
    *_refuse("the model has no infill template", "suffix", (COMPLETIONS,), '""'),
    *_refuse("the model has no such setting", "verbosity", (CHAT,)),
    *_refuse("the engine has no plug-ins", "vllm_xargs", BOTH, "{}"),
    *_refuse("there is no web search", "web_search_options", (CHAT,)),
]
FIELDS: dict[str, dict[str, Field]] = {
    route: {row.name: row for row in _ROWS if route in row.routes} for route in BOTH
}


_PLACES = {CHAT: "/v1/chat/completions", COMPLETIONS: "/v1/completions"}


def check_misplaced(name: str, member: Member, route: str) -> bool:
    """Whether another route knows this field; 400 for a value that asks for something."""
    for other in BOTH:
        field = FIELDS[other].get(name)
        if other == route or field is None:
            continue
        asks = field.read is not None or (field.refused and not _is_neutral(field, member))
        if asks and member.value is not None:
            raise bad_field(
                name,
                f"`{name}` is a field of {_PLACES[other]} and has no meaning here: leave it out.",
                "unsupported_field",
            )
        return True
    return False


def check_refused(field: Field, member: Member) -> None:
    """400 for a value of an unserved field that asks for something."""
    if _is_neutral(field, member):
        return
    accepted = "Leave it out."
    if field.text_type:
        accepted = 'Leave it out or send {"type": "text"}.'
    elif field.neutral:
        accepted = f"Leave it out or send {' or '.join(field.neutral)}."
    raise bad_field(
        field.name,
        f"`{field.name}` is not supported with the value {shorten(member.raw)}: {field.refused}. "
        f"{accepted}",
        "unsupported_field",
    )


def _is_neutral(field: Field, member: Member) -> bool:
    return member.raw in field.neutral or (field.text_type and _is_text_type(member.value))


def _is_text_type(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") == "text"
