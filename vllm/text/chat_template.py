# SPDX-License-Identifier: Apache-2.0
"""From chat messages to the prompt text a model was trained on.

Runs the model's Jinja template in the environment that Hugging Face Transformers gives it:
sandboxed, `trim_blocks` and `lstrip_blocks`, loop controls, `tojson` that leaves non-ASCII text
alone, `raise_exception`, `strftime_now`, and the `{% generation %}` tag, which only marks text.
Must not know tokens or HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from jinja2 import TemplateError, nodes
from jinja2.exceptions import TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

ContentFormat = Literal["string", "parts", "both"]
# Private use: stand for a text and for what is not text while the template's form is probed.
_TEXT, _OTHER = "\ue0f1", "\ue0f2"


class ChatTemplateError(ValueError):
    """A template that does not compile, or that refuses the conversation; the message says why."""


class ChatTemplateFailure(ChatTemplateError):
    """A template that failed on the conversation, which it did not refuse."""


class ContinuationError(ChatTemplateError):
    """`continue_final_message` with a conversation that has nothing to go on from."""


class ChatTemplate:
    """A compiled template. `special_tokens` are the variables `bos_token`, `eos_token`, ..."""

    def __init__(self, source: str, special_tokens: Mapping[str, str] | None = None) -> None:
        self._special = dict(special_tokens or {})
        try:
            self._template = _environment().from_string(source)
        except TemplateSyntaxError as error:
            raise ChatTemplateError(f"the chat template does not compile: {error}") from None
        self.content_format = self._probe_format()

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt of a conversation; message contents are strings or lists of text parts.

        `continue_final_message` ends the prompt inside the last message. `variables` win over
        everything else. Raises ChatTemplateError with the template's own words.
        """
        prepared = [self._prepare(message) for message in messages]
        if continue_final_message:
            return self._render_open(prepared, variables or {})
        return self._render(prepared, add_generation_prompt, variables or {})

    def _render(
        self, messages: list[dict[str, Any]], generation: bool, variables: Mapping[str, Any]
    ) -> str:
        context = {
            **self._special,
            "messages": messages,
            # `none` unless given, as Transformers passes them: templates ask `tools is not none`.
            "tools": None,
            "documents": None,
            "add_generation_prompt": generation,
            **variables,
        }
        try:
            return self._template.render(context)
        except _Refusal as error:
            raise ChatTemplateError(
                f"the model's chat template refuses this conversation: {error}"
            ) from None
        except RecursionError:
            raise ChatTemplateError("the chat template does not end on this input") from None
        except Exception as error:  # a template can provoke any error of its filters
            raise ChatTemplateFailure(
                f"the chat template failed on this conversation: {error}"
            ) from None

    def _render_open(self, messages: list[dict[str, Any]], variables: Mapping[str, Any]) -> str:
        """The prompt up to the end of the last message's text, as Transformers cuts it: spaces at
        its end stay if the template left them.
        """
        text = _last_text(messages[-1].get("content") if messages else None)
        if not text.strip():
            raise ContinuationError(
                "`continue_final_message`: the last message has no text to go on from"
            )
        prompt = self._render(messages, False, variables)
        at = prompt.rfind(text.strip())
        if at < 0:
            raise ContinuationError(
                "`continue_final_message`: the model's chat template does not show the last "
                "message's text"
            )
        kept = text.lstrip() if prompt[at:].startswith(text.lstrip()) else text.strip()
        return prompt[: at + len(kept)]

    def _prepare(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Fit the content to what the template reads: one string, or a list of parts."""
        prepared = dict(message)
        content = prepared.get("content")
        if isinstance(content, str) and self.content_format == "parts":
            prepared["content"] = [{"type": "text", "text": content}]
        if isinstance(content, list) and self.content_format == "string":
            prepared["content"] = _joined(content)
        return prepared

    def _probe_format(self) -> ContentFormat:
        """Which forms of content the template shows, found by trying it. A form that it prints as a
        whole (a dumped list) is not read.
        """
        part = {"type": "text", "text": _TEXT, "other": _OTHER}
        if not self._shows([part]):
            return "string"
        return "both" if self._shows(_TEXT) else "parts"

    def _shows(self, content: Any) -> bool:
        try:
            shown = self._render([{"role": "user", "content": content}], True, {})
        except ChatTemplateError:
            return False
        return _TEXT in shown and _OTHER not in shown


def _last_text(content: Any) -> str:
    """The text that a continued message ends with."""
    if isinstance(content, list):
        content = content[-1].get("text") if content else None
    return content if isinstance(content, str) else ""


def _joined(content: Any) -> str:
    """Text parts as one string, a line each."""
    parts = content if isinstance(content, list) else []
    return "\n".join(part if isinstance(part, str) else part.get("text", "") for part in parts)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


class _Refusal(TemplateError):
    """The template's own refusal."""


def _raise(message: str) -> None:
    raise _Refusal(message)


class _Generation(Extension):
    """`{% generation %}...{% endgeneration %}` marks the assistant's text for training; shown as
    is.
    """

    tags = {"generation"}  # noqa: RUF012 - so in the base class

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
