# SPDX-License-Identifier: Apache-2.0
"""Sources whose headers, modes or names are the difficulty: what rewriting tools tend to normalise.

Owns only these stories.
"""

from .story import ADA, BEN, FORGE, Story, text

PGP = (
    b"-----BEGIN PGP SIGNATURE-----\n\niQEzBAABCAAdFiEE0000000000000000000000000000000000000000\n"
    b"=AAAA\n-----END PGP SIGNATURE-----\n"
)
SSH = (
    b"-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAg\n"
    b"-----END SSH SIGNATURE-----"
)


def odd_zone(story: Story) -> None:
    """Zones no clock has, the epoch, a date before its parent's, and one far in the future."""
    stamps = [
        b" 1773303600 +051800",
        b" 1773307200 -1200",
        b" 0 +0000",
        b" 1773300000 +0545",
        b" 4102444800 -0000",
        b" 1773310800 +1400",
    ]
    for n, stamp in enumerate(stamps):
        story.put(b"n.txt", b"%d\n" % n)
        story.commit(b"zone %d\n" % n, stamp=stamp)


def no_author_name(story: Story) -> None:
    """An e-mail without a name, a name without an e-mail, people who differ from the committer."""
    people = [b"<ghost@example.org>", b"Only Name <>", b'Q. O\'Tool, "quoted" <q@example.org>', BEN]
    for n, author in enumerate(people):
        story.put(b"n.txt", b"%d\n" % n)
        story.commit(b"person %d\n" % n, author=author, committer=FORGE)


def signatures(story: Story) -> None:
    """An OpenPGP and an SSH signature, one for SHA-256, and a merge that carries a signed tag."""
    story.put(b"a.txt", b"1\n")
    base = story.commit(b"signed by OpenPGP (#1)", headers=[(b"gpgsig", PGP)], committer=FORGE)
    story.put(b"a.txt", b"2\n")
    left = story.commit(b"signed by SSH\n", headers=[(b"gpgsig", SSH)])
    story.put(b"b.txt", b"3\n")
    right = story.commit(
        b"both object formats\n",
        parents=[base],
        headers=[(b"gpgsig", SSH), (b"gpgsig-sha256", PGP)],
    )
    tag = b"object %s\ntype commit\ntag v1\ntagger %s 1773400000 +0000\n\nv1\n%s" % (
        right.encode(),
        ADA,
        PGP,
    )
    story.commit(b"Merge tag 'v1'\n", parents=[left, right], headers=[(b"mergetag", tag)])
    story.put(b"c.txt", b"4\n")
    story.commit(b"not signed\n")


def change_id(story: Story) -> None:
    """Extended headers, alone, beside a signature, beside an encoding and with several lines."""
    variants: list[list[tuple[bytes, bytes]]] = [
        [],
        [(b"change-id", b"qpvuntsmwlqtpsluzzsnyyzlmlwvmlnu")],
        [(b"gpgsig", SSH), (b"change-id", b"kntqzsqtnspxxkyzrlsmyvqzpwluqmmo")],
        [(b"encoding", b"UTF-8"), (b"review", b"first line\nsecond line\n\nfourth line")],
        [],
    ]
    for n, headers in enumerate(variants):
        story.put(b"n.txt", b"%d\n" % n)
        story.commit(b"variant %d\n" % n, headers=headers)


def symlinks(story: Story) -> None:
    """Links to a file, to nowhere, out of the tree; one that becomes a file and then a folder."""
    story.put(b"real.txt", text("real", 3))
    story.put(b"link", b"real.txt", b"120000")
    story.put(b"dangling", b"no/such\n file", b"120000")
    story.put(b"outside", b"../../etc/hosts", b"120000")
    story.commit(b"links\n")
    story.put(b"link", b"a file now\n")
    story.commit(b"link becomes a file\n")
    del story.files[b"link"]
    story.put(b"link/inside.txt", b"a folder now\n")
    story.commit(b"file becomes a folder\n")


def executable(story: Story) -> None:
    """The executable bit, set at birth, set later, and taken away without another change."""
    story.put(b"run.sh", b"#!/bin/sh\n", b"100755")
    story.put(b"tool.py", b"print(1)\n")
    story.commit(b"one is executable\n")
    story.put(b"tool.py", b"print(1)\n", b"100755")
    story.commit(b"chmod +x\n")
    story.put(b"run.sh", b"#!/bin/sh\n")
    story.commit(b"chmod -x\n")


def mode_100664(story: Story) -> None:
    """A tree with the group-writable mode that git once wrote and now normalises."""
    story.put(b"a.txt", b"1\n")
    story.commit(b"ordinary mode\n")
    story.put(b"old/b.txt", b"2\n", b"100664")
    story.commit(b"mode 100664\n")
    story.put(b"a.txt", b"3\n")
    story.commit(b"the old mode stays\n")


def gitlink(story: Story) -> None:
    """A submodule inside the source."""
    story.put(b"a.txt", b"1\n")
    story.commit(b"base\n")
    story.put(b"vendor/dep", b"2" * 40, b"160000")
    story.put(
        b".gitmodules", b'[submodule "dep"]\n\tpath = vendor/dep\n\turl = https://example.org/dep\n'
    )
    story.commit(b"a submodule\n")


def nested_prefix(story: Story) -> None:
    """A folder, and below it a file, that are called like the prefix."""
    story.put(b"rust/lib.rs", text("lib", 6))
    story.put(b"top.rs", text("top", 6))
    story.commit(b"a folder called rust\n")
    story.put(b"rust/rust/deep.rs", text("deep", 6))
    story.put(b"src/rust", b"a file called rust\n")
    story.commit(b"and deeper\n")
    story.move(b"rust/lib.rs", b"lib.rs")
    story.commit(b"moved up\n")


def host_names(story: Story) -> None:
    """The names that hosts have at their own root, so blame can pick the wrong file."""
    for name in (b"LICENSE", b".gitignore", b"README.md", b"pyproject.toml", b".gitattributes"):
        story.put(name, text(name.decode(), 10))
    story.put(b".gitattributes", b"*.lock -diff\nrenderers/** linguist-generated\n")
    story.commit(b"names of the root\n")
    story.put(b"LICENSE", text("LICENSE", 10, changed=4))
    story.commit(b"one line of the licence\n", author=BEN)
    story.put(b"README.md", text("README.md", 12))
    story.commit(b"two lines more\n")


def odd_names(story: Story) -> None:
    """Names that need quoting in every text format."""
    names = [
        b"with space.txt",
        b'double"quote.txt',
        b"single'quote.txt",
        b"new\nline.txt",
        b"tab\tname.txt",
        b"back\\slash.txt",
        b"-dash.txt",
        b"latin-\xfc.txt",
        "grüße/ñandú.txt".encode(),
        b":(glob)star*.txt",
        b"trailing space ",
        b"\x01control.txt",
    ]
    for name in names:
        story.put(name, text("odd", 4))
    story.commit(b"odd names\n")
    for name in names:
        story.put(b"deep/" + name, text("deep", 3))
    story.commit(b"and below a folder\n")
    story.put(names[3], text("odd", 5))
    story.move(names[0], b"renamed with space.txt")
    story.commit(b"edited and moved\n", author=BEN)
