# SPDX-License-Identifier: Apache-2.0
"""Replace refs that give a squash commit its lost second parent, and nothing else.

Owns how such a ref is told from any other, and the join that it stands for. It must not know who
wrote the ref: what counts is the two commits and what they are about.
"""

from __future__ import annotations

from ..config import Config
from ..git import ObjectReader, Repository
from . import graph
from .identity import SIGNATURES
from .joins import Found, Join
from .store import has
from .trees import Trees

PLACE = b"refs/replace/"
FORBIDDEN = (PLACE, b"refs/original/")


def misleading(host: Repository, store: Repository) -> list[bytes]:
    """The refs that change what git shows of the history and mend no squash."""
    mended = mends(host, store)
    return [
        name
        for name in host.refs()
        if name.startswith(FORBIDDEN) and name.removeprefix(PLACE).decode(errors="replace")
        not in mended
    ]  # fmt: skip


def mends(host: Repository, store: Repository) -> dict[str, str]:
    """Squash commit -> its replacement."""
    listed = host.refs()
    tips = [
        oid
        for name, oid in listed.items()
        if name.startswith(b"refs/imports/") and name.endswith(b"/tip")
    ]
    found = {}
    with store.objects() as objects:
        for name, made in listed.items():
            squash = name.removeprefix(PLACE).decode(errors="replace")
            if name.startswith(PLACE) and _mends(objects, store, squash, made, tips):
                found[squash] = made
    return found


def _mends(
    objects: ObjectReader, store: Repository, squash: str, made: str, tips: list[str]
) -> bool:
    """One parent more, which is an imported history; a signature of the old bytes may go."""
    if not (has(store, squash) and has(store, made)):
        return False
    old, new = (graph.split(objects.read(oid)[1]) for oid in (squash, made))
    kept = tuple(line for line in old.extra if graph.key_of(line) not in SIGNATURES)
    same = old._replace(parents=(), extra=()) == new._replace(parents=(), extra=())
    one_more = len(old.parents) == 1 and new.parents[:-1] == old.parents
    if not (same and one_more and new.extra == kept):
        return False
    tip = new.parents[-1]
    return any(store.is_ancestor(tip, one) for one in tips) or _is_below(objects, tip, old.tree)


def _is_below(objects: ObjectReader, tip: str, root: str) -> bool:
    """Without the import's refs: the other parent has one folder, and the squash has it whole."""
    known, path = Trees(objects), b""
    tree = objects.commit(tip).tree
    while len(entries := known.entries(tree)) == 1 and entries[0].is_tree:
        path += (b"/" if path else b"") + entries[0].name
        tree = entries[0].oid
        if known.tree_at(root, path) == tree:
            return True
    return False


def join(
    config: Config, host: Repository, store: Repository, source: Repository, tip: str, found: Found
) -> Join | None:
    """The join that a replace ref makes of a squash commit on the line; to be proved like any."""
    if config.target.layout == "linear" or not has(source, config.source.pin):
        return None
    mended = mends(host, store)
    line = store.git("rev-list", "--first-parent", tip, "--").decode().split()
    for squash in (oid for oid in line if oid in mended):
        others = set(found.without_history) - {squash}
        with store.objects() as objects:
            parts = graph.split(objects.read(mended[squash])[1])
        if not others and (commit := _source_of(config, store, source, parts.parents[-1])):
            return Join(squash, parts, _trailers(config, source, commit, parts, found),
                        mended[squash])  # fmt: skip
    return None


def _source_of(config: Config, store: Repository, source: Repository, image: str) -> str:
    """The commit whose tree and number of ancestors the image has; its id is proved later."""
    count = _count(store, image)
    with store.objects() as objects:
        prefix = config.target.prefix.encode()
        tree = Trees(objects).tree_at(objects.commit(image).tree, prefix)
    history = graph.read(source, config.source.pin)
    alike = [oid for oid in reversed(history.oids) if history.parts(oid).tree == tree]
    # An engine that writes trees anew leaves no equal one; the pin is then the one to try.
    for oid in [*alike, config.source.pin]:
        if _count(source, oid) == count:
            return oid
    return ""


def _count(repository: Repository, oid: str) -> int:
    return int(repository.git("rev-list", "--count", oid, "--"))


def _trailers(
    config: Config, source: Repository, commit: str, parts: graph.Parts, found: Found
) -> dict[str, str]:
    return {
        "Name": config.name,
        "Kind": "sync" if found.joins else "import",
        "Commit": commit,
        "Tip": parts.parents[-1],
        "Commits": str(_count(source, commit)),
        "Config": f"sha256:{config.digest}",
    }
