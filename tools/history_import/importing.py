# SPDX-License-Identifier: Apache-2.0
"""`import`: the images joined to the host, proved in a stage, then one transaction of refs.

Owns the order from images to refs. Knows nothing of how images are made or proofs are done.
"""

from __future__ import annotations

import argparse
import re
import textwrap
from dataclasses import dataclass, field
from typing import Any

from . import imported, join, prepare, refs, verify
from .config import Config
from .errors import ProofFailed, Refused
from .git import Repository
from .ignore_revs import Translated
from .plan_lines import count
from .prepare import Prepared
from .refs import RefUpdate
from .stage import Stage
from .steps import at
from .verify import VerifyResult

MESSAGE_WIDTH = 76
# Files whose every line is compared during an import; all other points are always proved in full.
# Equal trees, parents and authors decide blame already; 275 commits must not take half a minute.
SAMPLE = 8
# Of more commits than this no file is asked for: each question walks all of them.
LARGE = 20_000


@dataclass(frozen=True)
class Joined:
    kind: str
    commit: str
    source: str
    image: str
    commits: int  # of the source, up to here
    added: int  # of the source, by this join


@dataclass(frozen=True)
class Imported:
    name: str
    target: str
    base: str
    branch: str
    joins: list[Joined]
    proof: VerifyResult
    refs: list[RefUpdate]
    config: str = field(default="", kw_only=True)
    submodule: bool = False

    def lines(self) -> list[str]:
        return [*self._joins(), *proof_lines(self.proof), *ref_lines(self.refs), *self._next()]

    def _joins(self) -> list[str]:
        texts = {
            "switch": "switch at the pinned submodule commit {0}: {1}, no byte of {2}/ changes",
            "sync": "sync to {0}: {1}",
            "import": "import of {0}: {1} below {2}/",
        }
        lines = []
        for number, made in enumerate(self.joins, 1):
            about = (made.source[:8], count(made.added, "commit"), self.target)
            lines.append(f"{number}/{len(self.joins)} {texts[made.kind].format(*about)}")
        return lines

    def _next(self) -> list[str]:
        lines = [
            f"undo    history-import rollback {self.config}",
            f"check   history-import verify {self.config} --ref {self.branch}   (every line)",
            f"next    git push REMOTE {self.branch}   then merge it into {self.base} with a MERGE "
            "COMMIT (not squash, not rebase)",
            f"        bisecting the host: add refs/imports/{self.name}/tip as good, or limit to "
            "host paths",
        ]
        if self.submodule:
            lines.append(
                "        clones with the submodule: history-import doctor   "
                f"(git submodule deinit -f {self.target}, then pull)"
            )
        return lines


def proof_lines(proof: VerifyResult) -> list[str]:
    """The counts in one line, and what was only sampled in another."""
    blame, lines = proof.find(14), [f"proof   {proof.summary}"]
    if blame.ok is None:
        lines.append(f"        blame and log are left to verify: over {LARGE:,} commits")
    elif drawn := re.search(r"[\d,]+ of [\d,]+ files drawn", blame.detail):
        lines.append(f"        blame and log: {drawn.group()}")
    return lines


def ref_lines(updates: list[RefUpdate]) -> list[str]:
    words = ["refs  "] + ["      "] * len(updates)
    width = max((len(update.name) for update in updates), default=0)
    states = [f"was {u.old[:8]}" if u.old else "new" for u in updates]
    rows = zip(words, updates, states, strict=False)
    return [f"{word}  {u.name:{width}}  {u.new[:8] if u.new else '-'}  {s}" for word, u, s in rows]


def add_options(parser: argparse.ArgumentParser) -> None:
    help = f"prove blame and log of every file, not only of {SAMPLE} (verify does that too)"
    parser.add_argument("--every-line", action="store_true", help=help)


def run(
    config: Config, host: Repository, options: argparse.Namespace
) -> Imported | imported.Already:
    if done := imported.find(config, host):
        return done
    prepared = prepare.run(config, host)
    stage = Stage(prepared.place, prepared.rewritten.objects)
    joins = make_joins(config, stage, prepared)
    at("import.joined")
    wanted = wanted_refs(config, stage, prepared, joins)
    proof = prove(config, stage, wanted, **extent(options, len(prepared.closure)))
    updates = finish(stage, wanted)
    prepared.place.discard()
    at("import.discarded")
    return Imported(
        config.name,
        config.target.prefix,
        config.target.base,
        config.target.branch,
        joins,
        proof,
        updates,
        config=str(config.path or "CONFIG"),
        submodule=bool(prepared.prefix.submodule),
    )


def make_joins(config: Config, stage: Stage, prepared: Prepared) -> list[Joined]:
    if config.target.layout == "linear":
        return [_recorded(config, stage, prepared)]
    parent, joins, sofar = prepared.base, list[Joined](), 0
    for kind, source in steps_of(config, prepared):
        reached = prepared.closure.ancestors_of(source)
        made = _joined(config, stage, prepared, kind, source, parent, reached, sofar)
        parent, sofar = made.commit, len(reached)
        joins.append(made)
        at("import.join")
    return joins


def steps_of(config: Config, prepared: Prepared) -> list[tuple[str, str]]:
    """(kind, source commit): a submodule is first switched at its commit, then synced."""
    pin, submodule = config.source.pin, prepared.prefix.submodule
    if not submodule:
        return [("import", pin)]
    return [("switch", submodule)] + ([("sync", pin)] if submodule != pin else [])


def _joined(
    config: Config,
    stage: Stage,
    prepared: Prepared,
    kind: str,
    source: str,
    parent: str,
    reached: list[str],
    sofar: int,
) -> Joined:
    images = prepared.rewritten.images
    image = images[source]
    revs = _revs(config, stage, source, {oid: images[oid] for oid in reached})
    commit = join.commit(
        stage.repository,
        config,
        join.person(stage.host),
        kind=kind,
        parents=[parent, image],
        tree=join.tree(stage.repository, config, parent, image, revs),
        source=source,
        image=image,
        commits=len(reached),
        engines=prepared.rewritten.engines,
        notes=notes(config, prepared, kind, image, len(reached)),
    )
    return Joined(kind, commit, source, image, len(reached), len(reached) - sofar)


def _revs(config: Config, stage: Stage, source: str, images: dict[str, str]) -> Translated | None:
    with stage.repository.objects() as objects:
        return join.translated_revs(objects, config, source, images)


def _recorded(config: Config, stage: Stage, prepared: Prepared) -> Joined:
    """The linear layout's last commit changes nothing; it only carries the trailers."""
    pin, image = config.source.pin, prepared.rewritten.tip
    with stage.repository.objects() as objects:
        tree = objects.commit(image).tree
    total = len(prepared.closure)
    commit = join.commit(
        stage.repository,
        config,
        join.person(stage.host),
        kind="import",
        parents=[image],
        tree=tree,
        source=pin,
        image=image,
        commits=total,
        engines=prepared.rewritten.engines,
        notes=notes(config, prepared, "import", image, total),
    )
    return Joined("import", commit, pin, image, total, total)


def notes(config: Config, prepared: Prepared, kind: str, image: str, commits: int) -> str:
    """The body of a join's message: what a reader of the log years later wants to know."""
    prefix, about = config.target.prefix, prepared.profile
    kept = "byte for byte" if engines_empty(config) else "with references named in full"
    lines = [
        f"{count(commits, 'commit')} of the source, each with its author, dates and message "
        f"({kept}) and its files below {prefix}/."
    ]
    if kind == "switch":
        lines.append(f"The submodule is gone; no byte below {prefix}/ changes.")
    if about.licence_since > 1:
        since = f"since commit {about.licence_since} of {about.commits}"
        lines.append(f"The source has a licence file {since}; earlier snapshots carry none.")
    if about.signatures:
        kept = f" under refs/imports/{config.name}/original" if config.keep.originals else ""
        lines.append(f"Signatures are valid for the original commits{kept} only.")
    if config.target.layout == "merge":
        lines.append(f"To bisect the host, add {image[:12]} as good or limit to host paths.")
    return "\n".join(textwrap.fill(line, MESSAGE_WIDTH) for line in lines)


def engines_empty(config: Config) -> bool:
    asked = config.messages
    return not (asked.qualify or asked.defuse_closing_keywords or asked.translate_hashes)


def wanted_refs(
    config: Config, stage: Stage, prepared: Prepared, joins: list[Joined]
) -> dict[str, str]:
    wanted = {
        refs.branch(config.target.branch): joins[-1].commit,
        refs.imports(config.name, "tip"): joins[-1].image,
        refs.imports(config.name, "map"): map_blob(stage.repository, prepared.rewritten.images),
        refs.backup(config.name, config.target.base): prepared.base,
    }
    if config.keep.originals:
        wanted[refs.imports(config.name, "original")] = config.source.pin
    for tag in config.source.tags:
        found = prepared.place.source.resolve(f"refs/source-tags/{tag}^{{commit}}")
        image = prepared.rewritten.images.get(found or "")
        if image is None:
            raise Refused(
                f"tag {tag} of source.tags is at {found}, which is no ancestor of the pin",
                "leave it out or pin a later commit",
            )
        wanted[refs.imports(config.name, f"tags/{tag}")] = image
    return wanted


def map_blob(repository: Repository, images: dict[str, str]) -> str:
    """Source and image of every commit, for people; nothing of the tool trusts it."""
    text = "".join(f"{source} {image}\n" for source, image in images.items())
    return join.write(repository, "blob", text.encode())


def extent(options: argparse.Namespace, commits: int) -> dict[str, Any]:
    """How much of blame and log to ask for; verify's own default is every file."""
    if getattr(options, "every_line", False):
        return {}
    return {"sample": SAMPLE} if commits <= LARGE else {"blame": False}


def prove(config: Config, stage: Stage, wanted: dict[str, str], **extent: Any) -> VerifyResult:
    """In the stage: the host has neither the objects nor the refs yet."""
    before = stage.host.refs()
    stage.set_refs(wanted)
    at("import.before_proof")
    branch = refs.branch(config.target.branch)
    proof = verify.run(
        config, stage.repository, branch, stage.source.path, before, fetch=False, **extent
    )
    if not proof.ok:
        raise ProofFailed(
            f"the new history was not accepted: {failed(proof)}", "no ref was moved; report this"
        )
    at("import.proved")
    return proof


def failed(proof: VerifyResult) -> str:
    bad = [f"point {p.number} {p.name}: {p.detail}" for p in proof.points if p.ok is False]
    return "; ".join(bad)


def finish(stage: Stage, wanted: dict[str, str]) -> list[RefUpdate]:
    updates = refs.plan(stage.host, wanted)
    stage.land(list(wanted.values()))
    at("import.before_refs")
    refs.transaction(stage.host, updates)
    return updates
