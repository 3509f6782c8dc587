# SPDX-License-Identifier: Apache-2.0
"""The list of revisions that blame skips, at a sync: added where the host has none, else offered.

Owns that choice. It must not know how a list is translated nor what else a sync does.
"""

from __future__ import annotations

import os

from . import join, trees
from .config import Config
from .ignore_revs import Translated
from .prepare import Prepared
from .stage import Stage


def added(config: Config, stage: Stage, parent: str, tree: str, prepared: Prepared) -> str:
    """Only where the host has no list of its own yet; a list it has is the host's to change."""
    translated = _translated(config, stage, prepared)
    if translated is None or _hosts(config, stage, parent) is not None:
        return tree
    name = os.fsencode(join.ignore_revs_name(config))
    oid = join.write(stage.repository, "blob", translated.data)
    return trees.splice(stage.repository, tree, name, (join.FILE, oid))


def left_to_the_host(config: Config, stage: Stage, parent: str, prepared: Prepared) -> str:
    """The file that has the ids which the host's own list lacks; nothing if it has them all."""
    translated, own = _translated(config, stage, prepared), _hosts(config, stage, parent)
    if translated is None or own is None or _ids(translated.data) <= _ids(own):
        return ""
    path = prepared.place.plan_folder / "blame-ignore-revs"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(translated.data)
    return str(path)


def _translated(config: Config, stage: Stage, prepared: Prepared) -> Translated | None:
    with stage.repository.objects() as objects:
        return join.translated_revs(objects, config, config.source.pin, prepared.rewritten.images)


def _hosts(config: Config, stage: Stage, parent: str) -> bytes | None:
    name = join.ignore_revs_name(config)
    if not name:
        return None
    with stage.repository.objects() as objects:
        entry = trees.lookup(objects, objects.commit(parent).tree, name)
        return objects.read(entry.oid)[1] if entry and not entry.is_tree else None


def _ids(data: bytes) -> set[bytes]:
    lines = (line.partition(b"#")[0].strip() for line in data.splitlines())
    return {line for line in lines if line}
