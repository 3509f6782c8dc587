# SPDX-License-Identifier: Apache-2.0
"""What a mutation is, and the ways in which one spoils a build that would be right.

Owns the table that the mutations enter themselves into. Knows none of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .generator import change, tip
from .third_writer import Build, Draft, entries, read

BRANCH = "refs/heads/import/frontend"
Spoil = Callable[[Build], None]


@dataclass(frozen=True)
class Mutation:
    name: str
    point: int  # the one that names it
    others: frozenset[int]  # what follows from it
    spoil: Spoil
    linear: bool = False
    host: str = "plain"
    config: tuple[tuple[str, object], ...] = ()
    says: str = ""


MUTATIONS: list[Mutation] = []


def broken(
    point: int,
    *others: int,
    linear: bool = False,
    host: str = "plain",
    says: str = "",
    **config: object,
) -> Callable[[Spoil], Spoil]:
    def add(spoil: Spoil) -> Spoil:
        keys = tuple(config.items())
        made = Mutation(spoil.__name__, point, frozenset(others), spoil, linear, host, keys, says)
        MUTATIONS.append(made)
        return spoil

    return add


def each(subject: str, change: Callable[[Draft], None]) -> Spoil:
    def spoil(build: Build) -> None:
        build.on_image[subject] = change
        build.run()

    return spoil


def replaced(build: Build, root: str, path: bytes, entry: tuple[bytes, str] | None) -> str:
    """A new root tree; `path` has at most one folder on the way."""
    build.workshop.write(build.host)
    content = entries(build.host, root)
    folder, slash, name = path.partition(b"/")
    if slash:
        inside = entries(build.host, content[folder][1])
        inside.pop(name, None)
        content[folder] = (b"40000", build.tree(inside | ({name: entry} if entry else {})))
    else:
        content.pop(folder, None)
        content |= {folder: entry} if entry else {}
    return build.tree(content)


def in_tree(build: Build, subject: str, path: bytes, entry: tuple[bytes, str] | None) -> None:
    def change(draft: Draft) -> None:
        draft.tree = replaced(build, draft.tree, path, entry)

    build.on_image[subject] = change
    build.run()


def in_join(build: Build, path: bytes, entry: tuple[bytes, str] | None) -> None:
    def change(draft: Draft) -> None:
        draft.tree = replaced(build, draft.tree, path, entry)

    build.on_join = change
    build.run()


def in_message(subject: str, old: bytes, new: bytes) -> Spoil:
    return each(subject, lambda d: setattr(d, "message", d.message.replace(old, new)))


def gitmodules(build: Build, *sections: tuple[str, str]) -> None:
    text = "".join(
        f'[submodule "{name}"]\n\tpath = {path}\n\turl = ../x\n' for name, path in sections
    )
    change(build.host, {".gitmodules": text.encode()}, "submodules\n")


def second(build: Build, ref: str, kind: str = "sync", **options: str) -> str:
    pin = tip(build.source, ref)
    image = build.make_images(pin)
    build.workshop.write(build.host)
    joined = build.join(image, pin, kind, on=tip(build.host, BRANCH), **options)
    build.ref(BRANCH, joined)
    build.ref("refs/imports/frontend/original", pin)
    build.ref("refs/imports/frontend/tip", image)
    return joined


def as_one_commit(build: Build, message: bytes) -> None:
    build.run()
    draft = read(build.host, tip(build.host, BRANCH))
    draft.parents, draft.message = draft.parents[:1], message or draft.message
    oid = draft.write(build.workshop)
    build.workshop.write(build.host)
    build.ref(BRANCH, oid)
