# SPDX-License-Identifier: Apache-2.0
"""The messages of a chat request: roles, text parts, and earlier tool calls."""

from __future__ import annotations

from typing import Any

from vllm.api_server.body import (
    Member,
    check_count,
    compact,
    is_text,
    mismatch,
    parse_text,
)
from vllm.api_server.errors import ApiError, bad_field, shorten
from vllm.api_server.limits import MAX_MESSAGES

ROLES = ("system", "developer", "user", "assistant", "tool")
# Types of parts that carry text, and the member that holds it.
TEXT_PARTS = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "refusal": "refusal",
}


def read_messages(path: str, member: Member) -> list[dict[str, Any]]:
    """Messages as templates read them: `content` is a string, a list of text parts, or None."""
    values = member.value
    if not isinstance(values, list):
        raise mismatch(path, member.raw, "a list of messages")
    check_count(path, len(values), MAX_MESSAGES)
    if not values:
        raise bad_field(path, "`messages` must have at least one message.")
    return [_message(f"{path}[{index}]", value) for index, value in enumerate(values)]


def _wrong(path: str, expected: str, value: Any) -> ApiError:
    return mismatch(path, compact(value), expected)


def _message(path: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(path, "an object", value)
    role = _role(f"{path}.role", value)
    content = value.get("content")
    content = None if content is None else _content(f"{path}.content", content)
    message: dict[str, Any] = {"role": role, "content": content}
    for name in ("name", "tool_call_id"):
        if (found := _optional_text(path, value, name)) is not None:
            message[name] = found
    if calls := _tool_calls(f"{path}.tool_calls", value.get("tool_calls")):
        message["tool_calls"] = calls
    elif content is None:
        message["content"] = ""  # without content and without calls, nothing was said
    current = _optional_text(path, value, "reasoning")
    older = _optional_text(path, value, "reasoning_content")
    if (reasoning := older if current is None else current) is not None:
        message["reasoning_content"] = reasoning
    if content is None and role != "assistant":
        raise bad_field(
            f"{path}.content",
            f"`{path}.content` is missing: a {role} message needs a string or a list of "
            "text parts.",
        )
    return message


def _role(path: str, value: dict[str, Any]) -> str:
    known = ", ".join(ROLES)
    if "role" not in value:
        raise bad_field(path, f"`{path}` is missing: send one of {known}.")
    if value["role"] not in ROLES:
        raise _wrong(path, f"one of {known}", value["role"])
    return value["role"]


def _optional_text(path: str, value: dict[str, Any], name: str) -> str | None:
    found = value.get(name)
    if found is not None and not is_text(found):
        raise _wrong(f"{path}.{name}", "a string", found)
    return found


def _content(path: str, value: Any) -> str | list[dict[str, str]]:
    if is_text(value):
        return value
    if not isinstance(value, list):
        raise _wrong(path, "a string or a list of parts", value)
    texts = [_part(f"{path}[{index}]", part) for index, part in enumerate(value)]
    return [{"type": "text", "text": text} for text in texts]


def _part(path: str, value: Any) -> str:
    if is_text(value):
        return value
    if not isinstance(value, dict):
        raise _wrong(path, "an object with a `type`", value)
    kind = value.get("type")
    if not isinstance(kind, str):
        raise bad_field(f"{path}.type", f'`{path}.type` must be a string, as "text".')
    if kind not in TEXT_PARTS:
        raise bad_field(
            f"{path}.type",
            f'`{path}.type` is "{shorten(kind)}", but this server takes only text parts. '
            'Send {"type": "text", "text": ...}.',
            "unsupported_field",
        )
    text: Any = value.get(TEXT_PARTS[kind])
    if not is_text(text):
        raise _wrong(f"{path}.{TEXT_PARTS[kind]}", "a string", text)
    return text


def _tool_calls(path: str, value: Any) -> list[Any]:
    """Earlier calls, their `function.arguments` read from JSON text, as templates expect."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise _wrong(path, "a list of tool calls", value)
    return [_open_arguments(f"{path}[{index}]", call) for index, call in enumerate(value)]


def _open_arguments(path: str, call: Any) -> Any:
    path = f"{path}.function"
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise bad_field(path, f"`{path}` must be an object with `name` and `arguments`.")
    text = function.get("arguments")
    if not isinstance(text, str):
        return call
    try:
        arguments = parse_text(text) if text else {}
    except ValueError:
        where = f"{path}.arguments"
        raise bad_field(where, f"`{where}` must be JSON text of an object.") from None
    return {**call, "function": {**function, "arguments": arguments}}
