# SPDX-License-Identifier: Apache-2.0
"""The exact bytes each token id stands for, where the vocabulary's form allows saying so.

Two forms do: byte-level BPE, whose 256 byte characters are GPT-2's alphabet (Radford et al. 2019,
`encoder.py` of the GPT-2 release), and SentencePiece with byte fall-back, whose pieces are text
with U+2581 for a space and `<0xNN>` for a byte. Must not know sequences of tokens.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from tokenizers import Tokenizer

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@cache
def byte_alphabet() -> dict[str, int]:
    """Character -> byte. Printable Latin-1 stands for itself, the other 68 bytes from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in set(printable)]
    table |= {chr(0x100 + index): byte for index, byte in enumerate(others)}
    return table


def byte_level_bytes(token: str) -> bytes:
    """Bytes of a token in the byte-level alphabet; characters outside of it are themselves."""
    table = byte_alphabet()
    if all(char in table for char in token):
        return bytes(table[char] for char in token)
    return token.encode()


def sentencepiece_bytes(token: str) -> bytes:
    """Bytes of a SentencePiece piece."""
    match = _BYTE_PIECE.fullmatch(token)
    if match is not None:
        return bytes([int(match[1], 16)])
    return token.replace("\u2581", " ").encode()


def vocabulary_form(core: Tokenizer) -> str | None:
    """`byte_level`, `sentencepiece`, or None where decoding needs more than each token's bytes."""
    decoder = json.loads(core.to_str()).get("decoder") or {}
    kinds = _decoder_steps(decoder)
    if kinds == ["ByteLevel"]:
        return "byte_level"
    if kinds[:3] == ["Replace", "ByteFallback", "Fuse"] and kinds[3:] in ([], ["Strip"]):
        return "sentencepiece"
    return None


def _decoder_steps(decoder: dict[str, Any]) -> list[str]:
    if decoder.get("type") == "Sequence":
        return [step.get("type") for step in decoder.get("decoders", [])]
    return [decoder["type"]] if "type" in decoder else []
