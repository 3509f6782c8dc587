# SPDX-License-Identifier: Apache-2.0
"""Sources whose messages are the difficulty: line ends, encodings, issue numbers, keywords, ids.

Owns only these stories.
"""

from .story import BEN, Story, text


def crlf_and_empty(story: Story) -> None:
    """Messages that tools like to tidy: none of their bytes may change."""
    messages = [
        b"subject\r\n\r\nbody\r\n",
        b"",
        b"\n",
        b"no newline at the end",
        b"\n\n  leading blank lines and spaces\n",
        b"trailing blank lines\n\n\n",
        b"trailing spaces   \n\nbody\t \n",
        b"subject only, then a tab\t",
        b"# looks like a comment\n\n# so does this\n",
        b"a trailer block\n\nSigned-off-by: Ada <a@example.org>\nsigned-OFF-by: b <b@example.net>",
        b"a bell \x07 and a form feed \x0c\n",
    ]
    for n, message in enumerate(messages):
        story.put(b"n.txt", b"%d\n" % n)
        story.commit(message)


def latin1(story: Story) -> None:
    """A declared encoding, the same bytes undeclared, and valid UTF-8 under a wrong declaration."""
    story.put(b"n.txt", b"1\n")
    story.commit("Grüße aus Köln\n".encode("latin-1"), headers=[(b"encoding", b"ISO-8859-1")])
    story.put(b"n.txt", b"2\n")
    story.commit(
        "undeclared: Füße\n".encode("latin-1"), author="Jörg <joerg@example.org>".encode("latin-1")
    )
    story.put(b"n.txt", b"3\n")
    story.commit("ähnlich (#7)\n".encode(), headers=[(b"encoding", b"ISO-8859-15")])
    story.put(b"n.txt", b"4\n")
    story.commit("Grüße, UTF-8\n".encode())


def references(story: Story) -> None:
    """Numbers, keywords and ids in every place where a rewriting must, or must not, touch them."""
    story.put(b"n.txt", b"0\n")
    first = story.commit(b"first (#1)")
    decimal = decimal_prefix(story)
    bodies = [
        b"Closes #171\n\nfixes: #3, Resolved #4 and closed\t#5\n",
        b"Fix other/place#8 and https://github.com/Inferact/vllm-frontend-rs/issues/9\n\nResolves https://github.com/Inferact/vllm-frontend-rs/pull/10\n",
        b"not numbers: a#1 b/#2 &#3; ##4 -#5 #x; but these: (#6) [#7] '#8' #9.\n",
        b"#11 begins the line, #12\n#13\tand #14",
        b"reverts commit " + first.encode() + b".\n\nSee " + first[:9].encode() + b" too.\n",
        b"in a URL https://example.org/commit/" + first[:12].encode() + b" it stays\n",
        b"part of a word x"
        + first[:10].encode()
        + b" and "
        + first[:10].encode()
        + b"_y stays; "
        + first[:7].upper().encode()
        + b" too\n",
        b"unknown id deadbeefdeadbeef and pid=" + decimal.encode() + b"\n",
        b"prefix closing is no keyword: disclose #15, fixings #16, hotfix #17\n",
        b"Closes: Inferact/vllm-frontend-rs#18\nCLOSES #19\nclose #20 fix #21 fixed #22\n",
    ]
    for n, body in enumerate(bodies, 1):
        story.put(b"n.txt", b"%d\n" % n)
        story.commit(body)


def decimal_prefix(story: Story) -> str:
    """The seven digits with which the id of a new commit begins, found by trying."""
    files, head, clock = dict(story.files), list(story.head), story.clock
    for attempt in range(2000):
        story.files, story.head, story.clock = dict(files), list(head), clock
        story.put(b"attempt.txt", b"%d\n" % attempt)
        oid = story.commit(b"a commit whose id begins like a number\n")
        if oid[:7].isdigit():
            return oid[:7]
    raise AssertionError("about one id in 27 begins with seven decimal digits")


def ignore_revs(story: Story) -> None:
    """A reformatting listed by its id; beside it a comment, an id with one, an unknown id."""
    story.put(b"code.rs", text("code", 40))
    story.commit(b"base\n")
    story.put(b"code.rs", text("code", 40).replace(b" ", b"  "))
    first = story.commit(b"style: reformat (#156)\n", author=BEN)
    story.put(b"code.rs", text("code", 41).replace(b" ", b"  "))
    second = story.commit(b"feat: a line\n")
    lines = [
        b"# reformatting",
        first.encode(),
        b"",
        second.encode() + b"  # with a comment behind",
        b"# unknown: " + b"1" * 40,
    ]
    story.put(b".git-blame-ignore-revs", b"\n".join(lines) + b"\n")
    story.commit(b"chore: ignore the reformatting in blame\n")
