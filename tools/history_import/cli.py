# SPDX-License-Identifier: Apache-2.0
"""`history-import VERB CONFIG`: which module does a verb, its arguments, and the exit code.

Exit codes: 0 done, 1 a proof failed, 2 refused or usage, 3 a conflict to resolve, 70 a fault of the
tool itself; as shells count them, 130 interrupted and 141 nobody reads on. Knows nothing of
how a verb works: each verb's module has `run(config, host, options)` or, where the verb's function
takes other arguments, `command(config, host, options)`; and `add_options(parser)` if it has any.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

from . import config as configuration
from . import lock, report
from .errors import HistoryImportError, Refused
from .git import Repository

VERBS = {
    "plan": ("plan", "say what an import would do and the future tip; nothing is changed"),
    "import": ("importing", "bring the source's history onto a new branch, proved"),
    "verify": ("verify", "prove an imported history from the objects alone"),
    "sync": ("sync", "bring what the source got since"),
    "export": ("exporting", "replay the host's commits below the prefix onto the source's tip"),
    "rescue": ("rescue", "give a squashed import its history back by one replace ref"),
    "rollback": ("rollback", "return to the state before the import"),
    "doctor": ("doctor", "find and mend what a former submodule left in a clone"),
    "status": ("status", "what is imported, how far behind, what to do next"),
}
# Verbs that work in the import's scratch folder or move its refs.
ALONE = {"plan", "import", "sync", "rescue", "rollback"}
# As shells count a process that SIGINT ended.
INTERRUPTED = 130
# As shells count a process that SIGPIPE ended; and EX_SOFTWARE of sysexits.
READER_GONE = 141
UNEXPECTED = 70
EXITS = "exit codes: 0 done, 1 a proof failed, 2 refused or usage, 3 a conflict to resolve"


def overview() -> str:
    lines = [f"  {verb:9} {help}" for verb, (_, help) in VERBS.items()]
    return "\n".join(["usage: history-import VERB CONFIG [options]", "", *lines, "", EXITS])


def parser_of(verb: str, module: ModuleType) -> argparse.ArgumentParser:
    about = VERBS[verb][1]
    parser = argparse.ArgumentParser(f"history-import {verb}", description=about, epilog=EXITS)
    optional = getattr(module, "CONFIG_OPTIONAL", False)
    parser.add_argument("config", type=Path, nargs="?" if optional else None, help="TOML file")
    parser.add_argument("--host", type=Path, default=Path(), help="repository (default: here)")
    parser.add_argument("--json", action="store_true", help="the same as data on stdout")
    if hasattr(module, "add_options"):
        module.add_options(parser)
    return parser


def open_host(path: Path) -> Repository:
    """The host's top folder, or its git directory where it is bare."""
    if not path.is_dir():
        raise Refused(f"{path} is not a folder", "name the host with --host")
    inside = Repository(path)
    bare = inside.run("rev-parse", "--is-bare-repository").stdout.strip()
    if not bare:
        raise Refused(f"{path.resolve()} is not in a git repository", "name the host with --host")
    question = "--absolute-git-dir" if bare == b"true" else "--show-toplevel"
    return Repository(inside.line("rev-parse", question))


def main(arguments: list[str] | None = None) -> int:
    """The verb's exit code; what nobody expected is one line and no proof's code."""
    try:
        code = dispatch(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # `verify ... | head -1`; nothing more can be said on stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    except Exception as error:
        said = " / ".join(str(error).splitlines())
        print(f"history-import: {type(error).__name__}: {said}; report this", file=sys.stderr)
        return UNEXPECTED


def dispatch(arguments: list[str] | None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0 if words else 2
    verb = words[0]
    if verb not in VERBS:
        print(f"history-import: unknown verb {verb!r}\n\n{overview()}", file=sys.stderr)
        return 2
    module = importlib.import_module(f".{VERBS[verb][0]}", __package__)
    options = parser_of(verb, module).parse_args(words[1:])
    return perform(verb, module, options)


def alone_if_needed(
    verb: str, config: configuration.Config | None, host: Repository
) -> contextlib.AbstractContextManager[None]:
    if config is None or verb not in ALONE:
        return contextlib.nullcontext()
    return lock.alone(config.name, verb, host)


def perform(verb: str, module: ModuleType, options: argparse.Namespace) -> int:
    try:
        config = configuration.load(options.config) if options.config else None
        work = getattr(module, "command", None) or module.run
        host = open_host(options.host)
        with alone_if_needed(verb, config, host):
            result = work(config, host, options)
    except OSError as system:  # a full disk, a folder without permission
        error: HistoryImportError = Refused(f"{system.strerror}: {system.filename}", "mend that")
        report.show_error(verb, error, options.json)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"history-import {verb}: interrupted; the same command goes on", file=sys.stderr)
        return INTERRUPTED
    except HistoryImportError as error:
        report.show_error(verb, error, options.json)
        return error.exit_code
    report.show(verb, result, options.json)
    return report.exit_code(result)
