# SPDX-License-Identifier: Apache-2.0
"""Command line of `vllm` -> parsed values, or one line that names the flag at fault.

Built from the table in `vllm.config.flags`. Must not know what the values are used for.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NoReturn

from vllm.config import config_file
from vllm.config.config_file import ConfigFile, Shapes
from vllm.config.embedded import DEFAULT_MODEL, EMBEDDED
from vllm.config.flags import REFUSED, SERVED, Flag, Refused
from vllm.errors import ExitCode, UsageError
from vllm.version import __version__

_REFUSED = {row.name: row for row in REFUSED}
_EPILOG = "exit codes: " + ", ".join(
    f"{code.value} {code.name.lower().replace('_', ' ')}" for code in ExitCode
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (try `{self.prog} --help`)")


def build_parser() -> argparse.ArgumentParser:
    """`vllm --version`, `vllm serve [MODEL] [flags]`."""
    parser = _Parser(prog="vllm", description="Serve language models.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"vllm {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    serve = commands.add_parser(
        "serve",
        help="start an OpenAI-compatible server",
        description="Start an OpenAI-compatible server for one model.",
        epilog=_EPILOG + ". A second signal ends everything at once: 128 + its number.",
        allow_abbrev=False,
    )
    serve.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help=f"directory, GGUF file, {' or '.join(EMBEDDED)} (default: {DEFAULT_MODEL}), or "
        "ORG/NAME on the hub",
    )
    for group in dict.fromkeys(flag.group for flag in SERVED):
        section = serve.add_argument_group(group)
        for flag in SERVED:
            if flag.group == group:
                section.add_argument(f"--{flag.name}", **_options(flag))
    return parser


def _options(flag: Flag) -> dict[str, Any]:
    help_text = flag.help.replace("%", "%%")
    if flag.kind is None:
        return {"action": "store_true", "help": help_text}
    shown = "" if flag.default is None else f" (default: {flag.default})"
    options: dict[str, Any] = {"default": flag.default, "help": help_text + shown}
    if flag.choices:
        options["choices"] = flag.choices
        return options
    options |= {"type": _named(flag.kind), "metavar": flag.metavar or _metavar(flag)}
    if flag.many == "append":
        options["action"] = "append"
    elif flag.many:
        options["nargs"] = flag.many
    return options


def _metavar(flag: Flag) -> str:
    return "TEXT" if flag.kind is str else "N"


def _named(kind: Any) -> Any:
    """argparse tells a ValueError's text only when it is an ArgumentTypeError."""

    def parse(text: str) -> Any:
        try:
            return kind(text)
        except ValueError as error:
            words = str(error)
            if "invalid literal" in words or "could not convert" in words:
                words = "a number is needed"
            raise argparse.ArgumentTypeError(f"{text!r}: {words}") from None

    return parse


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse a command line (without the program's name).

    Raises UsageError, one line, for a refused flag (naming it and why), an unknown flag (with the
    nearest known one), and values that are not accepted.
    """
    arguments = [_normalized(argument) for argument in arguments]
    if arguments[:1] != ["serve"]:
        return _parsed(arguments)
    file = _config_file(arguments[1:])
    if file is not None:
        arguments = ["serve", *file.words, *arguments[1:]]
    namespace = _parsed(["serve", *_without_refused(arguments[1:])])
    if file is not None and namespace.model is None:
        namespace.model = file.model
    _check_place(arguments)
    return namespace


def _check_place(arguments: Sequence[str]) -> None:
    """One place to listen at. Raises UsageError naming the flags that exclude each other."""
    given = {argument.partition("=")[0] for argument in arguments}
    network = sorted(given & {"--host", "--port"})
    if "--uds" in given and network:
        raise UsageError(
            f"--uds and {network[0]} exclude each other: the server listens on a Unix socket or on "
            "host and port; leave one of them out"
        )


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    namespace, unknown = build_parser().parse_known_args(arguments)
    if unknown:
        raise UsageError(_unknown(unknown[0]))
    return namespace


def _config_file(arguments: Sequence[str]) -> ConfigFile | None:
    """What the last `--config` names. Its words go in front: the command line wins."""
    finder = _Parser(prog="vllm serve", add_help=False, allow_abbrev=False)
    finder.add_argument("--config")
    path = finder.parse_known_args(arguments)[0].config
    if path is None:
        return None
    file = config_file.read(path, _shapes())
    return replace(file, words=tuple(word for word in file.words if not _opposed(word, arguments)))


def _shapes() -> Shapes:
    def names(kept: Callable[[Flag], bool]) -> frozenset[str]:
        return frozenset(flag.name for flag in SERVED if kept(flag))

    return Shapes(
        switches=names(lambda flag: flag.kind is None),
        single=names(lambda flag: flag.kind is not None and not flag.many),
        several=names(lambda flag: flag.many == "+"),
        repeated=names(lambda flag: flag.many == "append"),
    )


def _opposed(word: str, arguments: Sequence[str]) -> bool:
    """Whether the command line has the opposite of a file's switch, which then wins."""
    opposite = "--" + word[5:] if word.startswith("--no-") else "--no-" + word[2:]
    return opposite in arguments


def _normalized(argument: str) -> str:
    """`--max_model_len` is `--max-model-len`."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


def _without_refused(arguments: list[str]) -> list[str]:
    """Drop known flags that ask for nothing; refuse those that ask for something not served."""
    kept: list[str] = []
    at = 0
    while at < len(arguments):
        argument = arguments[at]
        at += 1
        if argument == "--":
            return kept + arguments[at - 1 :]
        row = _refused_row(argument)
        if row is None:
            kept.append(argument)
            continue
        name, equals, value = argument.partition("=")
        if not equals and at < len(arguments) and not arguments[at].startswith("--"):
            if arguments[at] in row.neutral:
                value = arguments[at]
                at += 1
            elif row.neutral and "" not in row.neutral:
                value = arguments[at]
        _check_neutral(row, name, value)
    return kept


def _refused_row(argument: str) -> Refused | None:
    name = argument.partition("=")[0]
    if not name.startswith("--"):
        return None
    return _REFUSED.get(name[2:]) or _REFUSED.get(name.removeprefix("--no-"))


def _check_neutral(row: Refused, name: str, value: str) -> None:
    if name.startswith("--no-") and name[2:] != row.name:
        value = "false"
        if "false" in row.neutral:
            return
    if value in row.neutral:
        return
    shown = f"{name} {value}".strip()
    raise UsageError(f"{shown} is not served: {row.reason}")


def _unknown(argument: str) -> str:
    name = argument.partition("=")[0]
    if not name.startswith("-"):
        return f"unexpected argument {argument!r} (one MODEL is served)"
    near = difflib.get_close_matches(name, [f"--{flag.name}" for flag in SERVED], 1)
    hint = f"; did you mean {near[0]}?" if near else " (try `vllm serve --help`)"
    return f"unknown flag {name}{hint}"
