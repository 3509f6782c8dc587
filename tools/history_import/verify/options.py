# SPDX-License-Identifier: Apache-2.0
"""The command line of `verify`: its options, and the listing of refs that `--refs-before` reads.

Knows nothing of the points.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import Refused


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ref", default="HEAD", help="the host's ref to prove (default: HEAD)")
    parser.add_argument(
        "--source",
        type=Path,
        help="a repository with the source's objects; default: refs/imports/NAME/original, "
        "else a fetch",
    )
    parser.add_argument(
        "--refs-before",
        type=Path,
        metavar="FILE",
        help="the host's refs from before the import, as `git for-each-ref` prints them",
    )
    parser.add_argument(
        "--source-refs-before",
        type=Path,
        metavar="FILE",
        help="the same of the source, which must be a local repository",
    )
    how_much = parser.add_mutually_exclusive_group()
    how_much.add_argument("--no-blame", action="store_true", help="leave out blame and log")
    how_much.add_argument(
        "--sample",
        type=int,
        metavar="FILES",
        help="blame and log of so many files; default: all below the size that the result states",
    )
    parser.add_argument("--no-fetch", action="store_true", help="never fetch the source")


def read_refs(path: Path | None) -> dict[bytes, str] | None:
    """`ID TYPE TAB NAME` or `ID NAME`, a line each."""
    if path is None:
        return None
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise Refused(f"cannot read {path}: {error.strerror}", "name a saved listing") from None
    return {
        words[-1]: words[0].decode("ascii", "replace") for line in lines if (words := line.split())
    }
