# SPDX-License-Identifier: Apache-2.0
"""The published templates, each once, and the conversations they are rendered with."""

from __future__ import annotations

import json
from typing import Any

from tests.parity import packages

TOKENS = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
}

# Blanks at both ends, combining and invisible characters, template syntax, special tokens.
_ODD = (
    "  e\u0301 \u200b\u202e\ufeff \U0001f469\u200d\U0001f4bb \u0130\u1e9e 'q' \"dq\" {{ x }} "
    "{% if %} <s> </s> <|im_end|> \\n \t\r\n tail\u2028 \n"
)


def _said(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def _parts(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


CASES: dict[str, dict[str, Any]] = {
    "plain": {
        "messages": [_said("user", "What is the capital of France?")],
        "add_generation_prompt": True,
    },
    "system and turns": {
        "messages": [
            _said("system", "You are terse."),
            _said("user", "Hi"),
            _said("assistant", "Hello!"),
            _said("user", "And now?"),
            _said("assistant", " Later. "),
            _said("user", "ok"),
        ],
        "add_generation_prompt": True,
    },
    "parts": {
        "messages": [_said("user", _parts("first part", "second part"))],
        "add_generation_prompt": True,
    },
    "odd text, assistant last": {
        "messages": [_said("user", _ODD), _said("assistant", _ODD)],
        "add_generation_prompt": False,
    },
}


def published() -> dict[str, str]:
    """Name -> source of every distinct template of the packages."""
    found: dict[str, str] = {}
    for package in packages.TEMPLATES:
        folder = packages.fetched(package)
        for path in sorted(folder.rglob("*.jinja*")):
            name = f"{package.name}: {path.relative_to(folder)}"
            found.setdefault(path.read_bytes().decode(), name)
    for family, package in packages.TOKENIZERS.items():
        file = packages.fetched(package) / "models" / "tokenizer_config.json"
        source = json.loads(file.read_text(encoding="utf-8"))["chat_template"]
        found.setdefault(source, f"{package.name}: {family}")
    return {name: source for source, name in found.items()}


def fitted(case: dict[str, Any], content_format: str) -> dict[str, Any]:
    """The case with contents in the form that the template reads: `string`, `parts` or `both`."""
    messages = [
        message | {"content": _fitted(message["content"], content_format)}
        for message in case["messages"]
    ]
    return case | {"messages": messages}


def _fitted(content: Any, content_format: str) -> Any:
    if content_format == "parts" and isinstance(content, str):
        return _parts(content)
    if content_format == "string" and isinstance(content, list):
        return "\n".join(part["text"] for part in content)
    return content
