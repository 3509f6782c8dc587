# SPDX-License-Identifier: Apache-2.0
"""The entrance of the command `vllm`: parse, run, tell errors in one line each."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from vllm import envs
from vllm.cli.parser import parse
from vllm.errors import ExitCode, UsageError, VLLMError
from vllm.log_lines import open_standard_streams
from vllm.logging import init_logger, say, setup

logger = init_logger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code (`vllm.errors.ExitCode`)."""
    open_standard_streams()
    try:
        envs.check()
        parsed = parse(sys.argv[1:] if arguments is None else arguments)
        setup("supervisor", parsed.log_format)
        return _run(parsed)
    except UsageError as error:
        say(f"error: {error}")
        return int(error.exit_code)
    except VLLMError as error:
        return _tell(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception:
        logger.exception("a bug ends the command")
        return int(ExitCode.INTERNAL)


def _run(parsed: argparse.Namespace) -> int:
    from vllm.cli.serve import serve  # noqa: PLC0415 (needs zmq and msgspec; --version does not)

    return serve(parsed)


def _tell(error: VLLMError) -> int:
    from vllm.cli.supervisor import ToldByChild  # noqa: PLC0415

    if isinstance(error, ToldByChild):
        logger.debug("%s", error)
    else:
        logger.error("%s", error)
    return int(error.exit_code)


if __name__ == "__main__":
    sys.exit(main())
