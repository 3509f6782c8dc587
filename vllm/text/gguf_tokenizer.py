# SPDX-License-Identifier: Apache-2.0
"""A `tokenizers.Tokenizer` from the vocabulary inside a GGUF file.

Two kinds of vocabulary: `gpt2` (byte-level BPE with merges; `tokenizer.ggml.pre` names how text is
cut into words) and `llama` (SentencePiece BPE: pieces with scores, bytes as a fall-back). The
format is ggml's `docs/gguf.md`, section "Tokenizer"; the word patterns are those that the models'
own `tokenizer.json` files state. Anything else is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from vllm.errors import ModelError
from vllm.loader.gguf_file import GGUFFile

SPACE = "\u2581"  # SentencePiece writes a space as this character


class TokenType(IntEnum):
    """`tokenizer.ggml.token_type`."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LLAMA3 = (
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def _by_pattern(pattern: str) -> Callable[[], pre_tokenizers.PreTokenizer]:
    def build() -> pre_tokenizers.PreTokenizer:
        return pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(pattern), "isolated", invert=False),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )

    return build


def _gpt2() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _digits_then_gpt2() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _gpt2()])


_PRE_TOKENIZERS: dict[str, Callable[[], pre_tokenizers.PreTokenizer]] = {
    "gpt-2": _gpt2,
    "default": _gpt2,
    "smollm": _digits_then_gpt2,
    "starcoder": _digits_then_gpt2,
    "llama-bpe": _by_pattern(_LLAMA3),
    "llama3": _by_pattern(_LLAMA3),
    "llama-v3": _by_pattern(_LLAMA3),
    "qwen2": _by_pattern(_QWEN2),
}
# Encoders whose merges are skipped when a whole word is one token, as their `tokenizer.json` says.
_IGNORE_MERGES = {"llama-bpe", "llama3", "llama-v3"}


def tokenizer_from_gguf(gguf: GGUFFile) -> Tokenizer:
    """Build the tokenizer. Raises ModelError (unknown kind) and GGUFError (missing metadata)."""
    kind = gguf.require("tokenizer.ggml.model", str)
    tokens = list(gguf.require("tokenizer.ggml.tokens", Sequence))
    types = list(gguf.get("tokenizer.ggml.token_type", Sequence, ())) or [1] * len(tokens)
    if len(types) != len(tokens):
        raise ModelError(f"{gguf.path}: {len(tokens)} tokens, but {len(types)} token types")
    if kind == "gpt2":
        tokenizer = _byte_level(gguf, tokens)
    elif kind == "llama":
        tokenizer = _sentencepiece(gguf, tokens, types)
    else:
        raise ModelError(
            f"{gguf.path}: tokenizer kind {kind!r} is not supported; gpt2 and llama are"
        )
    _add_special_tokens(tokenizer, tokens, types)
    default_bos = kind == "llama" or gguf.metadata.get("tokenizer.ggml.pre") in _IGNORE_MERGES
    _add_frame(gguf, tokenizer, tokens, default_bos=default_bos)
    return tokenizer


def _byte_level(gguf: GGUFFile, tokens: list[str]) -> Tokenizer:
    pre = gguf.get("tokenizer.ggml.pre", str, "default")
    if pre not in _PRE_TOKENIZERS:
        raise ModelError(
            f"{gguf.path}: tokenizer.ggml.pre {pre!r} is not supported; "
            f"{', '.join(sorted(_PRE_TOKENIZERS))} are"
        )
    merges = [_pair(gguf, text) for text in gguf.require("tokenizer.ggml.merges", Sequence)]
    vocabulary = {text: number for number, text in enumerate(tokens)}
    try:
        model = models.BPE(vocabulary, merges, ignore_merges=pre in _IGNORE_MERGES)
    except Exception as error:  # the library raises bare Exception
        raise ModelError(f"{gguf.path}: the tokenizer's merges do not fit: {error}") from None
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = _PRE_TOKENIZERS[pre]()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _pair(gguf: GGUFFile, merge: str) -> tuple[str, str]:
    left, space, right = merge.partition(" ")
    if not (left and space and right):
        raise ModelError(f"{gguf.path}: merge {merge!r} is not two tokens with a space between")
    return left, right


def _sentencepiece(gguf: GGUFFile, tokens: list[str], types: list[int]) -> Tokenizer:
    scores = list(gguf.require("tokenizer.ggml.scores", Sequence))
    if len(scores) != len(tokens):
        raise ModelError(f"{gguf.path}: {len(tokens)} tokens, but {len(scores)} scores")
    vocabulary = {text: number for number, text in enumerate(tokens)}
    unknown = next((t for t, kind in zip(tokens, types, strict=True) if kind == 2), None)
    model = models.BPE(
        vocabulary,
        _merges_by_score(tokens, scores, types, vocabulary),
        unk_token=unknown,
        fuse_unk=True,
        byte_fallback=True,
    )
    tokenizer = Tokenizer(model)
    prefix = gguf.get("tokenizer.ggml.add_space_prefix", bool, True)
    steps: list[Any] = [normalizers.Prepend(SPACE)] if prefix else []
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return tokenizer


def _merges_by_score(
    tokens: list[str], scores: list[float], types: list[int], vocabulary: dict[str, int]
) -> list[tuple[str, str]]:
    """SentencePiece joins the neighbours whose union has the highest score; as ranked merges that
    is every split of every piece into two pieces, best union first.
    """
    ranked: list[tuple[float, int, int, tuple[str, str]]] = []
    for number, (text, kind) in enumerate(zip(tokens, types, strict=True)):
        if kind not in (TokenType.NORMAL, TokenType.USER_DEFINED):
            continue
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in vocabulary and right in vocabulary:
                order = vocabulary[left]
                ranked.append((-scores[number], number, order, (left, right)))
    ranked.sort()
    return [pair for *_, pair in ranked]


def _add_special_tokens(tokenizer: Tokenizer, tokens: list[str], types: list[int]) -> None:
    control = [t for t, kind in zip(tokens, types, strict=True) if kind == TokenType.CONTROL]
    unknown = [t for t, kind in zip(tokens, types, strict=True) if kind == TokenType.UNKNOWN]
    defined = [t for t, kind in zip(tokens, types, strict=True) if kind == TokenType.USER_DEFINED]
    special = [AddedToken(text, normalized=False, special=True) for text in control + unknown]
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in defined])


def _add_frame(
    gguf: GGUFFile, tokenizer: Tokenizer, tokens: list[str], *, default_bos: bool
) -> None:
    """What `add_special_tokens` puts around a text: BOS and EOS, where the file says so."""
    bos = _frame_token(gguf, tokens, "bos", default_bos)
    eos = _frame_token(gguf, tokens, "eos", False)
    frame = [*bos, "$A", *eos]
    if len(frame) > 1:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=" ".join(frame),
            pair=None,
            special_tokens=[(text, tokens.index(text)) for text in (*bos, *eos)],
        )


def _frame_token(gguf: GGUFFile, tokens: list[str], role: str, default: bool) -> list[str]:
    number = gguf.get(f"tokenizer.ggml.{role}_token_id", int)
    if number is None or not gguf.get(f"tokenizer.ggml.add_{role}_token", bool, default):
        return []
    if number >= len(tokens):
        raise ModelError(f"{gguf.path}: {role} token id {number} is outside of the vocabulary")
    return [tokens[number]]
