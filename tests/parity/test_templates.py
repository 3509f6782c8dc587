# SPDX-License-Identifier: Apache-2.0
"""Prompts of real templates equal those of Jinja2 as Transformers sets it up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

from tests.parity import jinja
from tests.parity.rust import cargo
from tests.parity.templates import CASES, TOKENS, fitted, published
from vllm.text.chat_template import ChatTemplate, ChatTemplateError

pytestmark = [pytest.mark.download, pytest.mark.timeout(900)]

# Where we answer and Jinja2 does not: end of a template's name -> why that is right.
_ANSWERED_HERE_ONLY = {
    "CohereForAI-c4ai-command-r-plus-tool_use.jinja": (
        "loops over `tools` without asking for them: none is taken for an empty list, Jinja2 stops"
    ),
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use.jinja": (
        "loops over `tools` without asking for them: none is taken for an empty list, Jinja2 stops"
    ),
}


def _rust(sources: dict[str, str]) -> dict[str, Any]:
    cases = list(CASES.values())
    lines = [
        json.dumps({"template": source, "tokens": TOKENS, "cases": cases})
        for source in sources.values()
    ]
    words = ("run", "--quiet", "-p", "vllm-chat", "--example", "render")
    answers = cargo(*words, given="\n".join(lines)).rstrip("\n").split("\n")
    return dict(zip(sources, map(json.loads, answers), strict=True))


@pytest.fixture(scope="module")
def rendered() -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
    """Sources, what Rust made of them, and what Jinja2 did, all on one day."""
    sources = published()
    day = None
    while day != date.today():  # templates print the date
        day = date.today()
        ours = _rust(sources)
        theirs = {
            name: jinja.answer(source, TOKENS, _fit(ours[name])) for name, source in sources.items()
        }
    return sources, ours, theirs


def _fit(ours: dict[str, Any]) -> list[dict[str, Any]]:
    return [fitted(case, ours.get("format", "string")) for case in CASES.values()]


def _ended(answer: dict[str, str]) -> tuple[str, str]:
    """How it ended and what the client sees; engines word their own failures differently."""
    ((kind, text),) = answer.items()
    return (kind, "") if kind == "failed" else (kind, text)


def _differences(ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[str]:
    if "broken" in ours or "broken" in theirs:
        if "broken" not in ours or "broken" not in theirs:
            yield f"compiles for one only: {ours.get('broken')} / {theirs.get('broken')}"
        return
    for name, one, other in zip(CASES, ours["cases"], theirs["cases"], strict=True):
        if _ended(one) != _ended(other):
            yield f"{name}:\n    ours  {one}\n    Jinja {other}"


def _is_exception(name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    listed = any(name.endswith(end) for end in _ANSWERED_HERE_ONLY)
    kinds = [(*one, *other) for one, other in zip(ours["cases"], theirs["cases"], strict=True)]
    return listed and set(kinds) == {("rendered", "failed")}


def test_there_are_a_hundred_distinct_templates(rendered) -> None:
    sources, ours, _ = rendered
    kinds = [next(iter(case)) for one in ours.values() for case in one.get("cases", ())]
    assert len(sources) >= 100
    # Most render: equal refusals prove little.
    assert kinds.count("rendered") >= 0.9 * len(sources) * len(CASES)


def test_prompts_equal_those_of_jinja2(rendered) -> None:
    sources, ours, theirs = rendered
    found = {}
    for name in sources:
        lines = list(_differences(ours[name], theirs[name]))
        if lines and not _is_exception(name, ours[name], theirs[name]):
            found[name] = lines
    assert not found, "\n".join(
        f"{name}: {line}" for name, lines in found.items() for line in lines
    )


def test_every_exception_is_needed(rendered) -> None:
    sources, ours, theirs = rendered
    for end in _ANSWERED_HERE_ONLY:
        names = [name for name in sources if name.endswith(end)]
        assert names and all(list(_differences(ours[name], theirs[name])) for name in names), end


def test_the_reference_frontend_reads_templates_alike(rendered) -> None:
    sources, ours, theirs = rendered
    for name, source in sources.items():
        template = ChatTemplate(source, TOKENS)
        if "format" in ours[name] and not _is_exception(name, ours[name], theirs[name]):
            assert template.content_format == ours[name]["format"], name
        for case, expected in zip(CASES.values(), theirs[name]["cases"], strict=True):
            assert _python(template, case) == _ended(expected)[1], name


def _python(template: ChatTemplate, case: dict[str, Any]) -> str:
    try:
        return template.render(
            case["messages"], add_generation_prompt=case["add_generation_prompt"]
        )
    except ChatTemplateError as error:
        words = "the model's chat template refuses this conversation: "
        return str(error).removeprefix(words) if words in str(error) else ""
