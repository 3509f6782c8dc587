# SPDX-License-Identifier: Apache-2.0
"""Jinja2 set up as Hugging Face Transformers 5 sets it up for chat templates: the oracle.

Shares no code with the project's own renderers. `tools` and `documents` are `none` where a request
has none, as `apply_chat_template` passes them.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Refusal(TemplateError):
    """What `raise_exception` raises."""


class _Generation(Extension):
    """`{% generation %}` shows what it encloses, in a scope of its own as a call block has it."""

    tags = {"generation"}  # noqa: RUF012 - how jinja2 extensions are written

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_shown"), [], [], body).set_lineno(line)

    def _shown(self, caller: Any) -> str:
        return caller()


def _refuse(message: str) -> None:
    raise Refusal(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def answer(source: str, tokens: dict[str, str], cases: list[dict[str, Any]]) -> dict[str, Any]:
    """How each case ends, in the form of `rust/src/chat/examples/render.rs`."""
    try:
        template = _environment().from_string(source)
    except TemplateSyntaxError as error:
        return {"broken": str(error)}
    return {"cases": [_rendered(template, tokens, case) for case in cases]}


def _rendered(template: Any, tokens: dict[str, str], case: dict[str, Any]) -> dict[str, str]:
    variables = {
        **tokens,
        "messages": case["messages"],
        "tools": None,
        "documents": None,
        "add_generation_prompt": case["add_generation_prompt"],
        **case.get("template_kwargs", {}),
    }
    try:
        return {"rendered": template.render(variables)}
    except Refusal as refusal:
        return {"refused": str(refusal)}
    except Exception as error:  # a template can provoke any error of its filters
        return {"failed": f"{type(error).__name__}: {error}"}
