# SPDX-License-Identifier: Apache-2.0
"""The named hosts: working repositories into which a source is imported, or that must be refused.

Owns the table of kinds. It must not know what the tool answers.
"""

from collections.abc import Callable
from pathlib import Path

from .edits import git
from .objects import init, run_git
from .story import START, Story, text

PREFIX = "rust"
HOST_START = START + 5 * 1800  # its dates fall between those of the source
PINNED_BEHIND = 4


def base_story() -> Story:
    """Six commits, so that the first-parent line is more than a point."""
    story = Story(HOST_START)
    story.put(b"README.md", b"# A monorepo\n")
    story.put(b"LICENSE", text("host licence", 15))
    story.commit(b"A monorepo\n")
    for n in range(1, 6):
        story.put(b"engine/core.py", text("core", 10 + n, changed=n))
        story.put(b"docs/page%d.md" % (n % 3), text(f"page{n % 3}", 5, changed=n))
        story.commit(b"engine: step %d (#%d)\n" % (n, 100 + n))
    return story


def settle(story: Story, folder: Path) -> Path:
    """A repository with a clean working tree on main, and a person in its configuration."""
    init(folder, {"refs/heads/main": story.head[0], **story.refs}, story.workshop, bare=False)
    run_git(folder, "config", "user.name", "Mona Maintainer")
    run_git(folder, "config", "user.email", "mona@example.org")
    run_git(folder, "reset", "--quiet", "--hard", "main")
    return folder


def plain(folder: Path, source: Path | None) -> Path:
    return settle(base_story(), folder)


def bare(folder: Path, source: Path | None) -> Path:
    story = base_story()
    init(folder, {"refs/heads/main": story.head[0]}, story.workshop, bare=True)
    run_git(folder, "config", "user.name", "Mona Maintainer")
    run_git(folder, "config", "user.email", "mona@example.org")
    return folder


def colliding(folder: Path, source: Path | None) -> Path:
    """The same names at the root as the source has, with lines in common."""
    story = base_story()
    for name in (b"LICENSE", b".gitignore", b"README.md", b"pyproject.toml"):
        story.put(name, text(name.decode(), 10, changed=9))
    story.commit(b"names that the source has too\n")
    return settle(story, folder)


def own_ignore_revs(folder: Path, source: Path | None) -> Path:
    story = base_story()
    story.put(b".git-blame-ignore-revs", b"# ours\n" + story.head[0].encode() + b"\n")
    story.commit(b"engine: a list of our own\n")
    return settle(story, folder)


def pinned(source: Path | None, behind: int) -> bytes:
    if source is None:
        raise ValueError("a host with a submodule needs the source it points into")
    return git(source, "rev-parse", f"refs/heads/main~{behind}").encode()


def with_submodule(
    folder: Path, source: Path | None, *, other: bool, behind: int = PINNED_BEHIND
) -> Path:
    story = base_story()
    section = b'[submodule "frontend"]\n\tpath = rust\n\turl = ' + str(source).encode() + b"\n"
    if other:
        dependency = (
            b'[submodule "dep"]\n\tpath = third_party/dep\n\turl = https://example.org/dep\n'
        )
        story.put(b"third_party/dep", b"3" * 40, b"160000")
        section = (
            dependency
            + section
            + b'[submodule "last"]\n\tpath = third_party/last\n\turl = ../last\n'
        )
        story.put(b"third_party/last", b"4" * 40, b"160000")
    story.put(b".gitmodules", section)
    story.put(PREFIX.encode(), pinned(source, behind), b"160000")
    story.commit(b"rust: the frontend as a submodule\n")
    return settle(story, folder)


def submodule(folder: Path, source: Path | None) -> Path:
    """A submodule at the prefix, pinned behind the source's tip, and two others that must stay."""
    return with_submodule(folder, source, other=True)


def submodule_only(folder: Path, source: Path | None) -> Path:
    """The only submodule, so ``.gitmodules`` must go with it."""
    return with_submodule(folder, source, other=False)


def submodule_at_tip(folder: Path, source: Path | None) -> Path:
    return with_submodule(folder, source, other=False, behind=0)


def submodule_elsewhere(folder: Path, source: Path | None) -> Path:
    """A submodule whose commit is not in the source's main."""
    story = base_story()
    story.put(b".gitmodules", b'[submodule "frontend"]\n\tpath = rust\n\turl = ../frontend\n')
    story.put(PREFIX.encode(), b"5" * 40, b"160000")
    story.commit(b"rust: a submodule of another place\n")
    return settle(story, folder)


def occupied(folder: Path, source: Path | None) -> Path:
    story = base_story()
    story.put(b"rust/own.rs", b"fn own() {}\n")
    story.commit(b"rust: our own\n")
    return settle(story, folder)


def occupied_by_file(folder: Path, source: Path | None) -> Path:
    story = base_story()
    story.put(b"rust", b"a file\n")
    story.commit(b"rust: a file\n")
    return settle(story, folder)


def case_collision(folder: Path, source: Path | None) -> Path:
    story = base_story()
    story.put(b"Rust/own.rs", b"fn own() {}\n")
    story.commit(b"Rust: with a capital\n")
    return settle(story, folder)


def dirty(folder: Path, source: Path | None) -> Path:
    made = plain(folder, source)
    (made / "README.md").write_bytes(b"# changed, not committed\n")
    return made


def untracked_at_prefix(folder: Path, source: Path | None) -> Path:
    made = plain(folder, source)
    (made / PREFIX).mkdir()
    (made / PREFIX / "note.txt").write_bytes(b"not committed\n")
    return made


def half_merged(folder: Path, source: Path | None) -> Path:
    """In the middle of a merge that nobody finished."""
    made = plain(folder, source)
    (made / ".git" / "MERGE_HEAD").write_text(git(made, "rev-parse", "main~2") + "\n")
    return made


def on_target_branch(folder: Path, source: Path | None) -> Path:
    made = plain(folder, source)
    run_git(made, "checkout", "--quiet", "-b", "import/frontend")
    return made


def shallow(folder: Path, source: Path | None) -> Path:
    full = plain(folder.with_name(folder.name + "-full"), source)
    run_git(None, "clone", "--quiet", "--depth=2", full.as_uri(), str(folder))
    return folder


def partial(folder: Path, source: Path | None) -> Path:
    full = plain(folder.with_name(folder.name + "-full"), source)
    run_git(full, "config", "uploadpack.allowFilter", "true")
    run_git(None, "clone", "--quiet", "--filter=blob:none", full.as_uri(), str(folder))
    return folder


def inside_source(folder: Path, source: Path | None) -> Path:
    """A clone of the source taken for the host: the mistake that loses repositories."""
    run_git(None, "clone", "--quiet", str(source), str(folder))
    return folder


def sha256(folder: Path, source: Path | None) -> Path:
    run_git(
        None,
        "init",
        "--quiet",
        "--template=",
        "--initial-branch=main",
        "--object-format=sha256",
        str(folder),
    )
    person = {
        "GIT_AUTHOR_NAME": "M",
        "GIT_AUTHOR_EMAIL": "m@example.org",
        "GIT_AUTHOR_DATE": f"{HOST_START} +0000",
        "GIT_COMMITTER_NAME": "M",
        "GIT_COMMITTER_EMAIL": "m@example.org",
        "GIT_COMMITTER_DATE": f"{HOST_START} +0000",
    }
    run_git(folder, "commit", "--quiet", "--allow-empty", "-m", "one", env=person)
    return folder


MAKERS: dict[str, Callable[[Path, Path | None], Path]] = {
    maker.__name__: maker
    for maker in (
        plain,
        bare,
        colliding,
        own_ignore_revs,
        submodule,
        submodule_only,
        submodule_at_tip,
        submodule_elsewhere,
        occupied,
        occupied_by_file,
        case_collision,
        dirty,
        untracked_at_prefix,
        half_merged,
        on_target_branch,
        shallow,
        partial,
        inside_source,
        sha256,
    )
}
HOSTS = tuple(MAKERS)


def make_host(kind: str, folder: Path, source: Path | None = None) -> Path:
    """A repository of the named kind at ``folder``, which must not exist; its base is main."""
    if kind not in MAKERS:
        raise ValueError(f"no host is called {kind!r}; there are {', '.join(HOSTS)}")
    return MAKERS[kind](folder, source)
