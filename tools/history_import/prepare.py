# SPDX-License-Identifier: Apache-2.0
"""Everything up to the images: checks, fetch, profile, both engines. `plan` ends here.

Owns the order of these steps. Changes nothing but the scratch folder in the host's git directory.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from . import checks, closure, engines, profile
from .checks import Prefix
from .closure import Closure
from .config import Config
from .engines import Rewritten
from .git import Repository
from .profile import Profile
from .scratch import Scratch
from .steps import at


@dataclass(frozen=True)
class Prepared:
    base: str  # the host's base branch before
    place: Scratch = field(repr=False)
    closure: Closure = field(repr=False)
    profile: Profile
    prefix: Prefix
    rewritten: Rewritten


def run(config: Config, host: Repository) -> Prepared:
    base = checks.host(config, host)
    with host.objects() as objects:
        prefix = checks.prefix(config, objects, base)
    at("prepare.checked")
    place = Scratch(host, config)
    place.prepare()
    at("prepare.scratch")
    place.fetch()
    checks.space(place)
    found = closure.read(place.source, config.source.pin)
    checks.unrelated(config, base, found)
    with engines.Engines(config, place, found) as running:
        about = profile.read(place.source, found)
        at("prepare.profiled")
        checks.source(config, about)
        if prefix.submodule:
            checks.submodule_commit(config, found, prefix.submodule)
        rewritten = running.finish()
    if config.target.layout == "linear":
        rewritten = engines.restack(config, found, place, base, rewritten)
    at("prepare.rewritten")
    return Prepared(base, place, found, about, prefix, rewritten)
