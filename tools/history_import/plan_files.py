# SPDX-License-Identifier: Apache-2.0
"""The plan's folder: rewritten messages, the translated list for blame, DCO texts, the summary.

Owns these files' format. Knows nothing of how they were computed.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from . import signoff
from .config import Config
from .errors import Refused
from .prepare import Prepared
from .report import printable

if TYPE_CHECKING:
    from .plan import Plan

# Bytes of an address in a file's name; file systems take 255 with all that is added.
LONGEST = 100
OURS = ("messages.txt", "numbers.txt", "blame-ignore-revs", "summary.txt", "dco")


def write(folder: Path, config: Config, prepared: Prepared, plan: Plan) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _clear(folder)
        (folder / "messages.txt").write_bytes(messages(prepared))
        numbers = "".join(line + "\n" for line in plan.profile.digits_like_ids)
        (folder / "numbers.txt").write_text(numbers)
        if plan.ignored_revs:
            (folder / "blame-ignore-revs").write_bytes(plan.ignored_revs.data)
        _write_dco(folder / "dco", prepared)
        lines = "".join(printable(line) + "\n" for line in plan.lines())
        (folder / "summary.txt").write_text(lines)
    except OSError as error:
        raise Refused(f"cannot write the plan into {folder}: {error.strerror}") from None


def _clear(folder: Path) -> None:
    """What an earlier plan left, and nothing else that may be in a folder somebody named."""
    for name in OURS:
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)


def messages(prepared: Prepared) -> bytes:
    """Only lines that change, before and after, as the bytes they are."""
    parts = []
    for oid, rewrite in prepared.rewritten.rewrites.items():
        image = prepared.rewritten.images[oid]
        parts.append(f"commit {oid} -> {image}\n".encode())
        old = prepared.closure.commit(oid).message.split(b"\n")
        new = rewrite.message.split(b"\n")
        changed = ((a, b) for a, b in zip(old, new, strict=True) if a != b)
        parts += [b"- %s\n+ %s\n" % pair for pair in changed]
    return b"".join(parts)


def _write_dco(folder: Path, prepared: Prepared) -> None:
    if not prepared.profile.unsigned:
        return
    folder.mkdir()
    for who in prepared.profile.unsigned:
        text = signoff.text(who, prepared.rewritten.images)
        (folder / f"{file_name(who.email or who.name)}.txt").write_bytes(text)


def file_name(address: bytes) -> str:
    """Readable; a digest where that is not the whole address, so that no two share a file."""
    text = address.decode("utf-8", "replace")
    readable = re.sub(r"[^\w.@+-]", "_", text).lstrip(".") or "nobody"
    if readable.encode() == address and len(address) <= LONGEST:
        return readable
    short = readable.encode()[:LONGEST].decode("utf-8", "ignore")
    return f"{short}-{hashlib.sha256(address).hexdigest()[:12]}"
