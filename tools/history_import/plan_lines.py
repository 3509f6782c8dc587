# SPDX-License-Identifier: Apache-2.0
"""The plan as a person reads it: one word, then what it means for this import.

Owns wording only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .profile import Profile

if TYPE_CHECKING:
    from .plan import Plan

# What forges cut or refuse: commits listed for a pull request, commits of a rebase merge.
LISTED, REBASED = 250, 100
SHOWN = 6


def lines(plan: Plan) -> list[str]:
    pairs = [
        ("source", _source(plan)),
        ("target", _target(plan)),
        ("layout", _layout(plan)),
        ("tip", _tip(plan)),
        ("rewrite", _rewrite(plan)),
        ("files", _files(plan)),
        ("names", _names(plan)),
        ("licence", _licence(plan.profile)),
        ("DCO", _dco(plan)),
        ("size", _size(plan.profile)),
        ("odd", _odd(plan.profile)),
        ("forge", _forge(plan)),
        ("uses", _uses(plan)),
    ]
    return [f"{word:8} {text}" for word, text in pairs if text] + ["nothing was changed"]


def count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def size(number: int) -> str:
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number >= factor:
            return f"{number / factor:.1f} {unit}"
    return f"{number} bytes"


def names(found: Iterable[bytes]) -> str:
    """The first few, and how many more."""
    shown = [name.decode("utf-8", "backslashreplace") for name in found]
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    return ", ".join(shown[:SHOWN]) + more


def _source(plan: Plan) -> str:
    about = plan.profile
    short = plan.ref.removeprefix("refs/heads/")
    parts = [count(about.commits, "commit"), count(about.merges, "merge")]
    if about.roots > 1:
        parts.append(count(about.roots, "root"))
    parts += [count(about.authors, "author"), size(about.packed_bytes)]
    return f"{plan.source}  {short}  {plan.pin[:8]}   {', '.join(parts)}"


def _target(plan: Plan) -> str:
    prefix = plan.host.prefix
    state = "new"
    if prefix.submodule:
        behind = f"{count(plan.host.behind, 'commit')} behind" if plan.host.behind else "at"
        state = f"now a submodule at {prefix.submodule[:8]}, {behind} the pin"
    return f"{plan.target}/ ({state})"


def _layout(plan: Plan) -> str:
    line = f"+{count(plan.added, 'commit')} on {plan.base_branch}'s first-parent line"
    if plan.layout == "linear":
        line += "; git log --since stops at the first older date"
    return f"{plan.layout}: {line}"


def _tip(plan: Plan) -> str:
    if plan.difference:
        return f"will be {plan.tip[:8]} ({plan.engines[0]}; {plan.difference.line})"
    agree = "agree" if len(plan.engines) > 1 else "was not compared"
    return f"will be {plan.tip[:8]} ({' and '.join(plan.engines)} {agree})"


def _rewrite(plan: Plan) -> str:
    done = [
        f"{count(plan.qualified, 'message')} qualified",
        f"{count(plan.defused, 'closing keyword')} defused",
        f"{count(plan.translated, 'hash', 'hashes')} translated",
    ]
    if digits := len(plan.profile.digits_like_ids):
        done.append(f"{count(digits, 'number')} like a hash left alone")
    return f"{', '.join(done)}; list: {plan.folder}/messages.txt"


def _files(plan: Plan) -> str:
    parts = []
    if revs := plan.ignored_revs:
        where = "to merge by hand into the root's" if plan.host.own_ignore_revs else "for the root"
        lost = f", {count(revs.unknown, 'line')} without a commit" if revs.unknown else ""
        ids = f"{count(revs.ids, 'id')} translated into {plan.folder}/blame-ignore-revs"
        parts.append(f".git-blame-ignore-revs: {ids} {where}{lost}")
    if inert := plan.profile.root_only:
        parts.append(f"inert below {plan.target}/: {names(inert)}")
    return "; ".join(parts)


def _names(plan: Plan) -> str:
    parts = []
    if same := plan.host.same_names:
        parts.append(f"{names(same)} at both roots, no conflict")
    if folded := plan.profile.folded:
        parts.append(f"{names(folded)}: differs from another path only in case")
    return "; ".join(parts)


def _licence(about: Profile) -> str:
    if not about.licence_since:
        return "no licence file at the pinned commit's root"
    return f"present since commit {about.licence_since} of {about.commits}"


def _dco(plan: Plan) -> str:
    about = plan.profile
    if not about.unsigned:
        return "every commit is signed off by its author"
    commits = count(about.unsigned_commits, "commit")
    people = count(len(about.unsigned), "author")
    return f"{commits} of {people} without sign-off; texts: {plan.folder}/dco/"


def _size(about: Profile) -> str:
    blobs = about.blobs
    line = f"largest of {count(blobs.count, 'blob')}: {size(blobs.largest)}"
    line += f" ({names([blobs.largest_path])})" if blobs.count else ""
    if blobs.lfs_pointers:
        line += f"; {count(len(blobs.lfs_pointers), 'LFS pointer')}, whose content stays behind"
    return line


def _odd(about: Profile) -> str:
    parts = [f"header {key} since {oid[:8]}" for key, oid in about.extended.items()]
    parts += [f"{count(n, 'message')} in {key}" for key, n in about.encodings.items()]
    parts += [f"{count(n, 'file')} of mode {key}" for key, n in about.odd_modes.items()]
    return ", ".join(parts)


def _forge(plan: Plan) -> str:
    total = plan.profile.commits + plan.added
    limits = [
        f"over {LISTED} (lists are cut)" if total > LISTED else "",
        f"over {REBASED} (no rebase merge)" if total > REBASED else "",
    ]
    over = " and ".join(filter(None, limits))
    parts = [f"{count(total, 'commit')}{': ' + over if over else ''}"]
    if signed := plan.profile.signatures:
        kept = "originals kept" if plan.keeps_originals else "originals NOT kept"
        parts.append(f"signatures: {signed} lost, {kept}")
    if plan.host.automation:
        parts.append(f"{names(plan.host.automation)} may act on the imported commits")
    return "; ".join(parts)


def _uses(plan: Plan) -> str:
    found = plan.host.submodule_uses
    return f"the word submodule is in {names(found)}" if found else ""
