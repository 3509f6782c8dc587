# SPDX-License-Identifier: Apache-2.0
"""The commits that tie imported history to the host's, built from objects without a working tree.

Owns a join's tree and message. Knows nothing of how images are made nor of refs.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import ignore_revs, record, trees
from .config import Config
from .errors import GitFailed, Refused
from .git import ObjectReader, Repository
from .ignore_revs import Translated

GITMODULES = b".gitmodules"
FILE = b"100644"


@dataclass(frozen=True)
class Person:
    author: bytes
    committer: bytes


def person(host: Repository) -> Person:
    """Whoever runs this, now; as git itself would write it into a commit of the host."""
    try:
        who = [host.git("var", f"GIT_{x}_IDENT", user=True) for x in ("AUTHOR", "COMMITTER")]
    except GitFailed:
        raise Refused(
            "git does not know who you are, and the merge commit needs an author",
            "git config user.name NAME, git config user.email ADDRESS",
        ) from None
    return Person(who[0].rstrip(b"\n"), who[1].rstrip(b"\n"))


def source_name(config: Config) -> str:
    """OWNER/REPO where it is configured, else the last part of the URL."""
    last = config.source.url.rstrip("/").removesuffix(".git").rpartition("/")[2]
    return config.messages.qualify or last


def subject(config: Config, kind: str, source: str) -> str:
    prefix, name = f"{config.target.prefix}/", source_name(config)
    return {
        "import": f"import: bring {name} into {prefix} with its history",
        "switch": f"import: switch {prefix} from a submodule to the history of {name}",
        "sync": f"import: sync {prefix} to {name} {source[:12]}",
    }[kind]


def commit(
    repository: Repository,
    config: Config,
    who: Person,
    *,
    kind: str,
    parents: list[str],
    tree: str,
    source: str,
    image: str,
    commits: int,
    engines: tuple[str, ...],
    notes: str = "",
    resolution: str = "",
) -> str:
    """`commits`: of the source up to here; `notes`: paragraphs of the message's body."""
    digest = config.digest
    url, name = config.source.url, config.name
    end = record.trailers(name, kind, url, source, image, commits, digest, engines, resolution)
    paragraphs = [subject(config, kind, source), notes.strip("\n"), end]
    message = "\n\n".join(filter(None, paragraphs))
    head = [b"tree " + tree.encode(), *(b"parent " + p.encode() for p in parents)]
    head += [b"author " + who.author, b"committer " + who.committer]
    data = b"\n".join(head) + b"\n\n" + message.encode()
    return write(repository, "commit", data)


def write(repository: Repository, kind: str, data: bytes) -> str:
    return repository.git("hash-object", "-t", kind, "-w", "--stdin", input=data).decode().strip()


def tree(
    repository: Repository,
    config: Config,
    parent: str,
    image: str,
    translated: Translated | None,
) -> str:
    """The host's tree with the image's prefix: the only other changes are the declared ones."""
    prefix = config.target.prefix.encode()
    with repository.objects() as objects:
        host, ours = objects.commit(parent).tree, objects.commit(image).tree
        old, new = trees.lookup(objects, host, prefix), trees.lookup(objects, ours, prefix)
        modules = trees.lookup(objects, host, GITMODULES)
        listed = objects.read(modules.oid)[1] if modules else b""
        name = ignore_revs_name(config)
        has_own = bool(name) and trees.lookup(objects, host, name) is not None
    made = trees.splice(repository, host, prefix, (new.mode, new.oid) if new else None)
    if modules and old and old.is_gitlink:
        left = without_submodule(listed, prefix)
        entry = (modules.mode, write(repository, "blob", left)) if left.strip() else None
        made = trees.splice(repository, made, GITMODULES, entry)
    if translated and not has_own:
        oid = write(repository, "blob", translated.data)
        made = trees.splice(repository, made, name, (FILE, oid))
    return made


def ignore_revs_name(config: Config) -> bytes:
    """At the host's root, where forges look for it."""
    return os.fsencode(config.target.ignore_revs.rpartition("/")[2])


def translated_revs(
    objects: ObjectReader, config: Config, source: str, images: Mapping[str, str]
) -> Translated | None:
    """The source's list as it is at commit `source`, or nothing where there is none."""
    path = config.target.ignore_revs.encode()
    entry = trees.lookup(objects, objects.commit(source).tree, path) if path else None
    if entry is None or not entry.mode.startswith(b"100"):
        return None
    return ignore_revs.translate(objects.read(entry.oid)[1], images)


def without_submodule(listed: bytes, prefix: bytes) -> bytes:
    """`.gitmodules` without the sections whose path is the prefix; git itself edits the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "modules"
        path.write_bytes(listed)
        files = Repository(folder)
        ask = ["config", "--file", str(path)]
        found = files.git(*ask, "--null", "--get-regexp", r"^submodule\..*\.path$", check=False)
        for pair in found.split(b"\0"):
            key, _, value = pair.partition(b"\n")
            if key and value.rstrip(b"/") == prefix:
                files.git(*ask, "--remove-section", key.removesuffix(b".path"))
        return path.read_bytes()
