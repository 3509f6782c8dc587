# SPDX-License-Identifier: Apache-2.0
"""Both engines over one closure, their ids compared, and the one that counts.

Owns what happens when they differ. Knows nothing of hosts beyond the tree a linear layout needs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType

from . import difference, filter_repo, graft, scratch
from .closure import Closure
from .config import Config
from .difference import Difference
from .errors import EngineFailed, Refused
from .filter_repo import FilterRepo
from .git import Repository
from .graft import Graft, Wrapper
from .messages import Rewrite
from .packs import PackWriter
from .scratch import Scratch
from .steps import at


@dataclass(frozen=True)
class Rewritten:
    images: dict[str, str] = field(repr=False)  # source commit -> image, parents first
    rewrites: dict[str, Rewrite] = field(repr=False)  # only messages that changed
    engines: tuple[str, ...]  # those that gave exactly these ids
    difference: Difference | None
    objects: Repository = field(repr=False)  # where the images can be read

    @property
    def tip(self) -> str:
        return next(reversed(self.images.values()))


class Engines:
    """`start` the slow one, do something else meanwhile, then `finish`; `with` stops it."""

    def __init__(self, config: Config, place: Scratch, closure: Closure) -> None:
        self.config, self.place, self.closure = config, place, closure
        self._references = closure.references() if config.messages.translate_hashes else {}
        self._other = _start_other(config, place, closure, self._references)

    def __enter__(self) -> Engines:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind and self._other:
            self._other.stop()

    def finish(self) -> Rewritten:
        ours = init_objects(self.place, "graft.git")
        grafted = run_graft(self.config, self.closure, self._references, ours)
        at("engines.grafted")
        other = self._other
        if other is None:
            return Rewritten(grafted.images, grafted.rewrites, (graft.VERSION,), None, ours)
        try:
            filtered = other.finish()
        except EngineFailed as error:
            return _without(self.config, grafted, ours, error)
        found = difference.first(grafted.images, filtered, ours, other.repository)
        at("engines.compared")
        return _choose(self.config, grafted, ours, filtered, other.repository, found)


def rewrite(config: Config, place: Scratch, closure: Closure) -> Rewritten:
    with Engines(config, place, closure) as engines:
        return engines.finish()


def _start_other(
    config: Config, place: Scratch, closure: Closure, references: dict[str, dict[str, str]]
) -> FilterRepo | None:
    """Not installed is no obstacle where only the graft is asked for; it is then not compared."""
    if config.engine.use == "graft" and filter_repo.installed() != config.engine.filter_repo:
        return None
    filter_repo.require(config)
    other = FilterRepo(config, place, closure)
    other.start(references)
    return other


def init_objects(place: Scratch, name: str) -> Repository:
    made = scratch.init_bare(place.folder / name)
    scratch.add_alternate(made, place.source)
    return made


def run_graft(
    config: Config,
    closure: Closure,
    references: dict[str, dict[str, str]],
    where: Repository,
) -> graft.Grafted:
    writer = PackWriter(where)
    wrap = Wrapper(writer, config.target.prefix.encode())
    grafted = Graft(closure, rules(config), references).run(writer, wrap)
    at("graft.before_write")
    writer.finish()
    at("graft.written")
    return grafted


def rules(config: Config) -> graft.Rules:
    asked = config.messages
    return graft.Rules(
        asked.qualify.encode(), asked.defuse_closing_keywords, asked.translate_hashes
    )


def _without(
    config: Config, grafted: graft.Grafted, ours: Repository, error: EngineFailed
) -> Rewritten:
    """git-filter-repo could not do it: the graft alone goes on only when it was asked for."""
    if config.engine.use != "graft":
        raise error
    image = grafted.images.get(error.commit, "")
    found = Difference(error.commit, image, "", error.message, len(grafted.images))
    return Rewritten(grafted.images, grafted.rewrites, (graft.VERSION,), found, ours)


def _choose(
    config: Config,
    grafted: graft.Grafted,
    ours: Repository,
    filtered: dict[str, str],
    theirs: Repository,
    found: Difference | None,
) -> Rewritten:
    stock = f"filter-repo {config.engine.filter_repo}"
    if found is None:
        both = (stock, graft.VERSION)
        return Rewritten(grafted.images, grafted.rewrites, both, None, ours)
    if config.engine.use == "both":
        raise Refused(
            f"the engines do not agree: {found.line}",
            'set engine.use to "graft" (keeps it) or "filter-repo" (loses it) to decide',
        )
    if config.engine.use == "graft":
        return Rewritten(grafted.images, grafted.rewrites, (graft.VERSION,), found, ours)
    return Rewritten(filtered, grafted.rewrites, (stock,), found, theirs)


def restack(
    config: Config, closure: Closure, place: Scratch, base: str, merged: Rewritten
) -> Rewritten:
    """The linear layout: the same commits one after another on the host's tip."""
    forks = [
        oid for oid, parents in zip(closure.oids, closure.parents, strict=True) if len(parents) > 1
    ]
    if forks:
        raise Refused(
            f"layout linear needs a source without merges; {forks[0]} is one of {len(forks)}",
            'flattening history is not offered: use layout = "merge"',
        )
    if closure.oids and sum(not parents for parents in closure.parents) > 1:
        raise Refused("layout linear needs a source with one root", 'use layout = "merge"')
    where = init_objects(place, "linear.git")
    scratch.add_alternate(where, place.source, place.host)
    writer = PackWriter(where)
    with where.objects() as objects:
        root = objects.commit(base).tree
        levels = graft.levels_beside(objects, root, config.target.prefix.encode())
    wrap = Wrapper(writer, config.target.prefix.encode(), levels)
    references = closure.references() if config.messages.translate_hashes else {}
    stacked = Graft(closure, rules(config), references).run(writer, wrap, onto=base)
    at("linear.before_write")
    writer.finish()
    at("linear.written")
    return Rewritten(stacked.images, stacked.rewrites, merged.engines, merged.difference, where)
