# SPDX-License-Identifier: Apache-2.0
"""A small importer of the tests' own: it shares no code with the tool, and can be told to err.

Owns the building of an imported host from raw objects. It must not know the tool.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from .generator import git, tip
from .generator.objects import Workshop, run_git, tree_bytes

OWN_ENTRY = tuple[bytes, str]  # mode, id
DROPPED = {b"gpgsig", b"gpgsig-sha256", b"mergetag"}
PERSON = b"Mona Maintainer <mona@example.org> 1780000000 +0200"
PREFIX = b"rust"
NUMBER = re.compile(rb"(^|[^A-Za-z0-9_/&#-])#([0-9])")
CLOSING = re.compile(
    rb"\b(close|closes|closed|fix|fixes|fixed|resolve|resolves|resolved)(:[ \t]*|[ \t]+)"
    rb"(?=(?:[\w.-]+/[\w.-]+)?#[0-9]|https?://github\.com/[\w.-]+/[\w.-]+/(?:issues|pull)/[0-9])",
    re.I,
)


@dataclass
class Draft:
    """A commit before it is one; everything may be changed."""

    tree: str
    parents: list[str]
    author: bytes
    committer: bytes
    headers: list[tuple[bytes, bytes]]
    message: bytes

    def write(self, workshop: Workshop) -> str:
        return workshop.commit(
            self.tree, self.parents, self.author, self.committer, self.message, self.headers
        )


def read(repository: Path, oid: str) -> Draft:
    head, _, message = run_git(repository, "cat-file", "commit", oid).partition(b"\n\n")
    lines = head.replace(b"\n ", b"\0").split(b"\n")
    pairs = [line.replace(b"\0", b"\n").partition(b" ")[::2] for line in lines]
    get = {key: value for key, value in pairs}
    parents = [value.decode() for key, value in pairs if key == b"parent"]
    usual = {b"tree", b"parent", b"author", b"committer"}
    headers = [(key, value) for key, value in pairs if key not in usual]
    return Draft(
        get[b"tree"].decode(), parents, get[b"author"], get[b"committer"], headers, message
    )


def entries(repository: Path, tree: str) -> dict[bytes, OWN_ENTRY]:
    listed = run_git(repository, "ls-tree", "-z", tree).split(b"\0")[:-1]
    found = {}
    for row in listed:
        about, _, name = row.partition(b"\t")
        mode, _kind, oid = about.split()
        found[name] = (mode.lstrip(b"0"), oid.decode())
    return found


@dataclass
class Build:
    """One import, step by step; a mutation replaces a step or changes what a step is given."""

    source: Path
    host: Path
    config: dict[str, str] = field(default_factory=dict)  # name, url, digest for the trailers
    qualify: bytes = b"Inferact/vllm-frontend-rs"
    linear: bool = False
    workshop: Workshop = field(default_factory=Workshop)
    images: dict[str, str] = field(default_factory=dict)
    on_image: dict[str, Callable[[Draft], None]] = field(
        default_factory=dict
    )  # by how its subject begins
    on_every_image: Callable[[Draft], None] | None = None
    leave_out: set[str] = field(default_factory=set)
    on_join: Callable[[Draft], None] | None = None
    on_tip: Callable[[str], str] | None = None
    trailers: dict[str, str] = field(default_factory=dict)  # replaced ones
    translate: bool = True
    drop_signatures: bool = True

    def wrapped(self, tree: str, around: dict[bytes, OWN_ENTRY] | None = None) -> str:
        inside = {} if not entries(self.source, tree) else {PREFIX: (b"40000", tree)}
        return self.tree({**(around or {}), **inside})

    def tree(self, content: dict[bytes, OWN_ENTRY]) -> str:
        return self.workshop.add(b"tree", tree_bytes(content))

    def blob(self, data: bytes) -> OWN_ENTRY:
        return b"100644", self.workshop.add(b"blob", data)

    def message(self, text: bytes, oid: str) -> bytes:
        if self.translate:
            for ancestor in git(self.source, "rev-list", oid).split()[1:]:
                pattern = re.compile(rb"(?<![\w/])" + ancestor[:7].encode() + rb"[0-9a-f]{0,33}\b")
                text = pattern.sub(lambda m, a=ancestor: self._id(m[0], a), text)
        text = NUMBER.sub(rb"\1" + self.qualify + rb"#\2", text)
        return CLOSING.sub(rb"\1\2upstream ", text)

    def _id(self, found: bytes, ancestor: str) -> bytes:
        same = ancestor.startswith(found.decode()) and (len(found) == 40 or not found.isdigit())
        return self.images.get(ancestor, ancestor)[: len(found)].encode() if same else found

    def draft(self, oid: str, before: str, around: dict[bytes, OWN_ENTRY]) -> Draft:
        made = read(self.source, oid)
        made.tree = self.wrapped(made.tree, around)
        made.parents = [self.images[p] for p in made.parents] if not self.linear else [before]
        if self.drop_signatures:
            made.headers = [pair for pair in made.headers if pair[0] not in DROPPED]
        made.message = self.message(made.message, oid)
        return made

    def make_images(self, pin: str) -> str:
        """Of all ancestors; an image left out is replaced by its first parent's."""
        before = tip(self.host)
        around = entries(self.host, before) if self.linear else {}
        around = {name: entry for name, entry in around.items() if name != PREFIX}
        for oid in git(self.source, "rev-list", "--topo-order", "--reverse", pin).split():
            if oid in self.images:
                continue
            made = self.draft(oid, before, around)
            subject = read(self.source, oid).message.split(b"\n")[0].decode("latin-1")
            if subject in self.leave_out:
                self.images[oid] = made.parents[0]
                continue
            for change in [self.on_every_image, *self._hooks(subject)]:
                if change:
                    change(made)
            self.images[oid] = before = made.write(self.workshop)
        last = self.images[pin]
        return self.on_tip(last) if self.on_tip else last

    def _hooks(self, subject: str) -> list[Callable[[Draft], None]]:
        return [hook for begin, hook in self.on_image.items() if subject.startswith(begin)]

    def join(
        self, image: str, pin: str, kind: str = "import", *, on: str = "", **options: str
    ) -> str:
        """The commit with the trailers, on the host's main or on `on`."""
        self.workshop.write(self.host)
        host = image if self.linear else on or tip(self.host)
        content = entries(self.host, host)
        if not self.linear:
            content[PREFIX] = entries(self.host, read(self.host, image).tree)[PREFIX]
        tree = options.get("tree") or self.tree(content)
        parents = [host] if self.linear else [host, image]
        message = self.join_message(image, pin, kind, options.get("resolution", ""))
        made = Draft(tree, parents, PERSON, PERSON, [], message)
        if self.on_join:
            self.on_join(made)
        oid = made.write(self.workshop)
        self.workshop.write(self.host)
        return oid

    def join_message(self, image: str, pin: str, kind: str, resolution: str = "") -> bytes:
        pairs = {
            "Name": self.config["name"],
            "Kind": kind,
            "Source": self.config["url"],
            "Commit": pin,
            "Tip": image,
            "Commits": git(self.source, "rev-list", "--count", pin),
            "Config": f"sha256:{self.config['digest']}",
            "Engines": "graft 1",
        } | self.trailers
        if resolution:
            pairs["Resolution"] = resolution
        lines = "".join(f"History-Import-{key}: {value}\n" for key, value in pairs.items())
        return f"import: bring it into rust/ with its history\n\n{lines}".encode()

    def originals(self, pin: str) -> None:
        """Their objects, as a fetch would bring them, and the ref that keeps them."""
        run_git(
            self.host,
            "fetch",
            "--quiet",
            "--no-tags",
            str(self.source),
            "refs/heads/*:refs/fetched/*",
        )
        for ref in git(self.host, "for-each-ref", "--format=%(refname)", "refs/fetched").split():
            self.ref(ref, None)
        self.ref(f"refs/imports/{self.config['name']}/original", pin)

    def ref(self, name: str, oid: str | None) -> None:
        run_git(self.host, "update-ref", *([name, oid] if oid else ["-d", name]))

    def run(self, pin: str = "") -> str:
        """Everything as it should be, but for what a mutation changed before."""
        pin = pin or tip(self.source)
        self.originals(pin)
        base = tip(self.host)
        image = self.make_images(pin)
        joined = self.join(image, pin)
        name = self.config["name"]
        self.ref("refs/heads/import/frontend", joined)
        self.ref(f"refs/imports/{name}/tip", image)
        self.ref(f"refs/backup/history-import/{name}/main", base)
        return joined

    def copy(self) -> Draft:
        return replace(read(self.host, tip(self.host, "refs/heads/import/frontend")))
