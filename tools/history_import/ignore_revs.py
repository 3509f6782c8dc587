# SPDX-License-Identifier: Apache-2.0
"""The list of commits that blame skips, with the images' ids, for the host's root.

Git reads such a list without complaint when its ids do not exist, so none may stay that does not.
Owns the list's format. Knows nothing of where it is written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

ENTRY = re.compile(rb"([0-9a-fA-F]{4,40})([ \t]*(?:#[^\n]*)?)")
UNKNOWN = b"# not in the imported history: "


@dataclass(frozen=True)
class Translated:
    data: bytes
    ids: int
    unknown: int


def translate(data: bytes, images: Mapping[str, str]) -> Translated:
    """Comments and blank lines stay; a line that names no imported commit becomes a comment."""
    done, ids, unknown = [], 0, 0
    for line in data.splitlines(keepends=True):
        text = line.rstrip(b"\r\n")
        end = line[len(text) :]
        if not text.strip() or text.lstrip().startswith(b"#"):
            done.append(line)
        elif image := _image(text, images):
            done.append(image + end)
            ids += 1
        else:
            done.append(UNKNOWN + text + end)
            unknown += 1
    return Translated(b"".join(done), ids, unknown)


def _image(text: bytes, images: Mapping[str, str]) -> bytes | None:
    found = ENTRY.fullmatch(text.strip())
    if not found:
        return None
    prefix = found.group(1).decode("ascii").lower()
    full = [prefix] if prefix in images else [oid for oid in images if oid.startswith(prefix)]
    return images[full[0]].encode() + found.group(2) if len(full) == 1 else None
