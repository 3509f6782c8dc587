# SPDX-License-Identifier: Apache-2.0
"""Renders every fixture with Jinja2, set up as Hugging Face Transformers does.

The result is kept as `NAME.out`:

    python expected.py          writes the results
    python expected.py --check  fails if one of them would change

A fixture is a JSON object (messages and variables), a line `---`, and a template. The Rust tests
compare their own rendering with the kept result. Needs `jinja2`; must not know the Rust code.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from jinja2 import TemplateError, nodes
from jinja2.exceptions import UndefinedError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

FOLDER = Path(__file__).parent / "fixtures"


class Refusal(TemplateError):
    """What `raise_exception` raises."""


class Generation(Extension):
    """`{% generation %}` shows what it encloses."""

    tags = {"generation"}  # noqa: RUF012 - how jinja2 extensions are written

    def parse(self, parser):
        next(parser.stream)
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True))


def refuse(message):
    raise Refusal(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def render(source: str, given: dict) -> str:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = refuse
    variables = {"messages": given.get("jinja_messages", given["messages"])}
    variables["add_generation_prompt"] = given.get("add_generation_prompt", False)
    variables |= {"tools": None, "documents": None}
    for name in ("bos_token", "eos_token", "tools", "documents"):
        if name in given:
            variables[name] = given[name]
    variables |= given.get("template_kwargs", {})
    try:
        return "rendered\n" + environment.from_string(source).render(variables)
    except Refusal as refusal:
        return f"refused\n{refusal}"
    except (UndefinedError, TypeError):
        return "failed\n"


def main() -> int:
    changed = []
    for path in sorted(FOLDER.glob("*.txt")):
        given, source = path.read_text(encoding="utf-8").split("\n---\n", 1)
        result = render(source, json.loads(given))
        kept = path.with_suffix(".out")
        if not kept.exists() or kept.read_bytes() != result.encode():
            changed.append(path.stem)
            if "--check" not in sys.argv:
                kept.write_bytes(result.encode())
    print("changed:", ", ".join(changed) or "nothing")
    return 1 if changed and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
