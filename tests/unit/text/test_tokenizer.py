# SPDX-License-Identifier: Apache-2.0
"""Tokenizers from GGUF and tokenizer.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Core
from tokenizers import decoders, models, pre_tokenizers

from vllm.errors import ModelError
from vllm.text.model_files import open_model_files
from vllm.text.token_bytes import byte_alphabet
from vllm.text.tokenizer import Tokenizer, load_tokenizer

TEXTS = ["Hello, world", "don't  stop\n\n", "naïve 😀 日本語", "12345 x1", "<|im_start|>user\n", ""]

# A SentencePiece vocabulary: unknown, BOS, EOS, 256 bytes, then pieces with falling scores.
PIECES = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
WORDS = ["▁", "a", "b", "c", "ab", "▁ab", "bc"]


def sentencepiece(make_gguf: Any, **keys: Any) -> Tokenizer:
    tokens = PIECES + WORDS
    types = [2, 3, 3] + [6] * 256 + [1] * len(WORDS)
    scores = [0.0] * len(PIECES) + [-10.0, -11.0, -12.0, -13.0, -1.0, -2.0, -0.5]
    path = make_gguf(
        tokens, types, model="llama", scores=scores, bos_token_id=1, eos_token_id=2, **keys
    )
    return load_tokenizer(path)


@pytest.mark.parametrize("text", TEXTS)
def test_default_model_round_trips(smollm2: Path, text: str) -> None:
    tokenizer = load_tokenizer(smollm2)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert b"".join(tokenizer.token_bytes(number) or b"" for number in ids) == text.encode()


def test_default_model_knows_its_special_tokens(smollm2: Path) -> None:
    tokenizer = load_tokenizer(smollm2)
    assert tokenizer.encode("<|im_start|>") == [1]
    assert tokenizer.is_special(2)
    assert tokenizer.vocab_size == 49152
    assert tokenizer.token_bytes(49152) is None
    assert tokenizer.encode("12") == [tokenizer.token_to_id("1"), tokenizer.token_to_id("2")]


def test_sentencepiece_joins_by_score(make_gguf: Any) -> None:
    tokenizer = sentencepiece(make_gguf)
    pieces = [tokenizer.core.id_to_token(number) for number in tokenizer.encode("abc")]
    # "bc" has the best score, so it is joined before "ab" can be
    assert pieces == ["<s>", "▁", "a", "bc"]


def test_sentencepiece_falls_back_to_bytes(make_gguf: Any) -> None:
    tokenizer = sentencepiece(make_gguf, add_space_prefix=False)
    ids = tokenizer.encode("é", add_special_tokens=False)
    assert [tokenizer.token_bytes(number) for number in ids] == [b"\xc3", b"\xa9"]
    assert tokenizer.decode(ids) == "é"


def test_bos_is_added_as_the_file_says(make_gguf: Any) -> None:
    assert sentencepiece(make_gguf, add_bos_token=False).encode("ab")[0] != 1
    assert sentencepiece(make_gguf, add_eos_token=True).encode("ab")[-1] == 2


def test_unknown_kinds_are_refused_by_name(make_gguf: Any) -> None:
    with pytest.raises(ModelError, match="tokenizer kind 'bert' is not supported"):
        load_tokenizer(make_gguf(["a"], [1], model="bert"))
    with pytest.raises(ModelError, match="pre 'martian' is not supported"):
        load_tokenizer(make_gguf(["a"], [1], model="gpt2", pre="martian", merges=["a b"]))


def test_a_vocabulary_that_does_not_fit_is_one_line(make_gguf: Any) -> None:
    with pytest.raises(ModelError, match="merges do not fit"):
        load_tokenizer(make_gguf(["a"], [1], model="gpt2", merges=["x y"]))
    with pytest.raises(ModelError, match="is not two tokens"):
        load_tokenizer(make_gguf(["a"], [1], model="gpt2", merges=["xy"]))


def test_a_directory_tokenizer(tmp_path: Path) -> None:
    alphabet = {char: byte for char, byte in byte_alphabet().items()}
    core = Core(models.BPE(alphabet, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(open_model_files(tmp_path))
    assert tokenizer.encode("é") == [0xC3, 0xA9]
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="is not a tokenizer"):
        load_tokenizer(open_model_files(tmp_path))
