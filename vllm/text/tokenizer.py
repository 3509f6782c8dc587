# SPDX-License-Identifier: Apache-2.0
"""The tokenizer of a model: text -> token ids, token id -> bytes, ids -> text.

Wraps the `tokenizers` library, which is the reference for encoding. Must not know chat templates or
requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer as CoreTokenizer

from vllm.errors import ModelError
from vllm.loader.gguf_file import GGUFError
from vllm.text.gguf_tokenizer import tokenizer_from_gguf
from vllm.text.model_files import ModelFiles, open_model_files
from vllm.text.token_bytes import byte_level_bytes, sentencepiece_bytes, vocabulary_form

_TO_BYTES = {"byte_level": byte_level_bytes, "sentencepiece": sentencepiece_bytes}


def load_tokenizer(files: ModelFiles | Path) -> Tokenizer:
    """The tokenizer of a model directory or GGUF file. Raises ModelError."""
    if isinstance(files, Path):
        files = open_model_files(files)
    if files.gguf is None:
        return Tokenizer(_from_json(files.path / "tokenizer.json"))
    try:
        return Tokenizer(tokenizer_from_gguf(files.gguf))
    except GGUFError as error:
        raise ModelError(str(error)) from None


def _from_json(path: Path) -> CoreTokenizer:
    try:
        return CoreTokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for every cause
        raise ModelError(f"{path} is not a tokenizer that can be used: {error}") from None


class Tokenizer:
    """A loaded tokenizer. `core` is the library's object, for what is not wrapped here."""

    def __init__(self, core: CoreTokenizer) -> None:
        core.no_truncation()
        core.no_padding()
        self.core = core
        self.form = vocabulary_form(core)
        added = core.get_added_tokens_decoder()
        self._added = {number: token.content for number, token in added.items()}
        self._special = frozenset(number for number, token in added.items() if token.special)
        self._bytes: dict[int, bytes | None] = {}
        vocabulary = core.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocabulary.values(), default=-1) + 1

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of `text`; special tokens written out in it are recognized."""
        return self.core.encode(text, add_special_tokens=add_special_tokens).ids

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """Text of a whole sequence; ids outside of the vocabulary give nothing."""
        return self.core.decode(list(ids), skip_special_tokens=skip_special_tokens)

    def token_bytes(self, number: int) -> bytes | None:
        """Exact bytes of a token within running text; None outside of the vocabulary."""
        if number not in self._bytes:
            self._bytes[number] = self._compute_bytes(number)
        return self._bytes[number]

    def _compute_bytes(self, number: int) -> bytes | None:
        if number in self._added:
            return self._added[number].encode()
        token = self.core.id_to_token(number)
        if token is None:
            return None
        to_bytes = _TO_BYTES.get(self.form or "")
        return to_bytes(token) if to_bytes else self.core.decode([number]).encode()

    def token_text(self, number: int) -> str:
        """The same as text, U+FFFD where the bytes are no UTF-8; empty for an unknown id."""
        return (self.token_bytes(number) or b"").decode("utf-8", "replace")

    def is_special(self, number: int) -> bool:
        """Whether the token is left out of text under `skip_special_tokens`."""
        return number in self._special

    def token_to_id(self, token: str) -> int | None:
        """Id of a token in its vocabulary form, added tokens included."""
        return self.core.token_to_id(token)
