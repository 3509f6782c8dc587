# SPDX-License-Identifier: Apache-2.0
"""Token ids to text, a few ids at a time, and the search for stop strings in that text.

Both hold back only what is ambiguous (an incomplete UTF-8 sequence; the beginning of a stop
string), and give the same text however the ids are divided into pushes. Must not know requests.
"""

from __future__ import annotations

import codecs
import itertools
from collections.abc import Iterable, Sequence

from tokenizers.decoders import DecodeStream

from vllm.text.tokenizer import Tokenizer

_MOST_BYTES_OF_ONE_CHARACTER = 4


class Detokenizer:
    """Text of the tokens that follow a prompt (or, with `prompt` empty, of a whole sequence)."""

    def __init__(
        self, tokenizer: Tokenizer, prompt: Sequence[int] = (), skip_special_tokens: bool = True
    ) -> None:
        self._tokenizer = tokenizer
        self._skip = skip_special_tokens
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._from_prompt = b""
        self._stream: DecodeStream | None = None
        if tokenizer.form is None:
            self._stream = DecodeStream(ids=list(prompt), skip_special_tokens=skip_special_tokens)
        else:
            self._follow(prompt)

    def _follow(self, prompt: Sequence[int]) -> None:
        """Take up the beginning of a character that `prompt` ends with, without the text before."""
        shown = (data for number in reversed(prompt) if (data := self._bytes(number)))
        last = list(itertools.islice(shown, _MOST_BYTES_OF_ONE_CHARACTER))
        self._utf8.decode(b"".join(reversed(last)))
        self._from_prompt = self._utf8.getstate()[0]

    def push(self, ids: Iterable[int]) -> str:
        """The text that is certain after `ids`."""
        if self._stream is not None:
            core = self._tokenizer.core
            return "".join(self._stream.step(core, number) or "" for number in ids)
        return "".join(self._decode(self._bytes(number)) for number in ids)

    def _decode(self, data: bytes) -> str:
        if self._from_prompt and data:
            # What does not become a character is the prompt's fault and no part of this text.
            if not _may_go_on(self._from_prompt + data[:1]):
                self._utf8.reset()
            self._from_prompt = b""
        return self._utf8.decode(data)

    def _bytes(self, number: int) -> bytes:
        if self._skip and self._tokenizer.is_special(number):
            return b""
        return self._tokenizer.token_bytes(number) or b""

    def finish(self) -> str:
        """What is still held back, as U+FFFD."""
        if self._from_prompt:
            return ""
        return self._utf8.decode(b"", final=True)


def _may_go_on(data: bytes) -> bool:
    """Whether `data` is, or begins, UTF-8."""
    try:
        codecs.utf_8_decode(data, "strict", False)
    except UnicodeDecodeError:
        return False
    return True


class StopMatcher:
    """Watches a text for stop strings.

    The winner is the string whose last character comes first; of several that end together the one
    listed first. With `include_stop` the stop string itself belongs to the output.
    """

    def __init__(self, stops: Sequence[str], include_stop: bool = False) -> None:
        self._stops = [stop for stop in stops if stop]
        self._include = include_stop
        self._held = ""

    def push(self, text: str, may_stop: bool = True) -> tuple[str, str | None]:
        """Take more text: what can be released, and the stop string that was completed, if any.

        With `may_stop` false no stop string may end in this text (`min_tokens` not reached); a
        later one may begin in it.
        """
        text, before = self._held + text, len(self._held)
        found = self._first_match(text, before + 1) if may_stop else None
        if found is not None:
            stop, end = found
            self._held = ""
            return text[: end if self._include else end - len(stop)], stop
        keep = self._ambiguous(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], None

    def finish(self) -> str:
        """The text is over: what was held back."""
        held, self._held = self._held, ""
        return held

    def _first_match(self, text: str, least_end: int) -> tuple[str, int] | None:
        """The stop string with the earliest end, at or after `least_end`, and that end."""
        best: tuple[str, int] | None = None
        for stop in self._stops:
            at = text.find(stop, max(0, least_end - len(stop)))
            if at >= 0 and (best is None or at + len(stop) < best[1]):
                best = (stop, at + len(stop))
        return best

    def _ambiguous(self, text: str) -> int:
        """Length of the longest end of `text` that begins a stop string without completing it."""
        longest = 0
        for stop in self._stops:
            for length in range(min(len(stop) - 1, len(text)), longest, -1):
                if text.endswith(stop[:length]):
                    longest = length
                    break
        return longest
