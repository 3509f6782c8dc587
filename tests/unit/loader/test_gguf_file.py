# SPDX-License-Identifier: Apache-2.0
"""The GGUF reader: what it reads equals what the `gguf` package wrote, and no bytes get past it."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzzing import examples
from vllm.loader import gguf_file
from vllm.loader.gguf_file import GGUFFile

TOKENS = ["<unk>", "a", "é", "日本", ""]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with every kind of value, written by the independent `gguf` package."""
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("llama.block_count", 2)
    writer.add_float32("llama.eps", 0.5)
    writer.add_bool("flag", True)
    writer.add_int64("big", -(2**40))
    writer.add_string("text", "héllo")
    writer.add_array("tokens", TOKENS)
    writer.add_array("scores", [0.5, -1.5, 2.0])
    writer.add_tensor("dense", np.arange(12, dtype=np.float32).reshape(3, 4))
    packed = gguf.quants.quantize(
        np.linspace(-1, 1, 128, dtype=np.float32).reshape(2, 64), gguf.GGMLQuantizationType.Q8_0
    )
    writer.add_tensor("packed", packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_reads_what_was_written(small: Path) -> None:
    file = GGUFFile(small)
    assert file.version == 3
    assert file.require("llama.block_count", int) == 2
    assert file.metadata["llama.eps"] == 0.5
    assert file.metadata["flag"] is True
    assert file.metadata["big"] == -(2**40)
    assert file.metadata["text"] == "héllo"
    assert list(file.metadata["tokens"]) == TOKENS
    assert file.metadata["scores"].tolist() == [0.5, -1.5, 2.0]
    assert file.tensors["dense"].shape == (3, 4)
    values = np.frombuffer(file.tensor_bytes("dense"), dtype=np.float32)
    assert values.tolist() == list(range(12))
    assert file.tensors["packed"].shape == (2, 64)
    assert file.tensors["packed"].nbytes == 2 * 2 * 34


def test_tensors_are_read_again_after_their_pages_were_dropped(small: Path) -> None:
    file = GGUFFile(small)
    view = file.tensor_bytes("dense")
    before = bytes(view)
    file.drop_pages()
    assert bytes(view) == before == bytes(file.tensor_bytes("dense"))


def test_missing_names_are_named(small: Path) -> None:
    file = GGUFFile(small)
    with pytest.raises(gguf_file.GGUFMissingError, match="'nope' is missing"):
        file.tensor_bytes("nope")
    with pytest.raises(gguf_file.GGUFMissingError, match=r"metadata key 'a\.b' is missing"):
        file.require("a.b", int)
    with pytest.raises(gguf_file.GGUFError, match="'text' is 'héllo'"):
        file.require("text", int)


@pytest.mark.parametrize("content", [b"", b"GG", b"PK\x03\x04 zip", b"\x00" * 100])
def test_foreign_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "foreign"
    path.write_bytes(content)
    with pytest.raises(gguf_file.GGUFForeignError, match="not a GGUF file"):
        GGUFFile(path)


@pytest.mark.parametrize(
    ("version", "text"), [(1, "version 1"), (4, "version 4"), (3 << 24, "big-endian GGUF")]
)
def test_unsupported_versions(tmp_path: Path, version: int, text: str) -> None:
    path = tmp_path / "old.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", version, 0, 0))
    with pytest.raises(gguf_file.GGUFUnsupportedError, match=text):
        GGUFFile(path)


def test_every_truncation_is_reported(small: Path, tmp_path: Path) -> None:
    whole = small.read_bytes()
    file = GGUFFile(small)
    end = max(t.start + t.nbytes for t in file.tensors.values())
    path = tmp_path / "cut.gguf"
    for length in range(4, end, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(gguf_file.GGUFTruncatedError, match="truncated"):
            GGUFFile(path)


def _read_everything(path: Path) -> None:
    file = GGUFFile(path)
    for value in file.metadata.values():
        if isinstance(value, gguf_file.GGUFArray):
            value.tolist()
    for name in file.tensors:
        bytes(file.tensor_bytes(name))


edits = st.lists(
    st.tuples(st.integers(0, 1 << 16), st.sampled_from([1, 2, 4, 8]), st.binary(max_size=8)),
    min_size=1,
    max_size=6,
)


@settings(
    max_examples=examples(400),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(edits=edits, keep=st.integers(0, 1 << 16))
def test_corrupt_bytes_never_raise_anything_else(
    small: Path, tmp_path: Path, edits: list[tuple[int, int, bytes]], keep: int
) -> None:
    content = bytearray(small.read_bytes())
    header = 700  # most damage into the part that is parsed
    for place, width, new in edits:
        position = place % header
        content[position : position + width] = new
    if keep % 3 == 0:
        del content[keep % len(content) :]
    path = tmp_path / "corrupt.gguf"
    path.write_bytes(content)
    try:
        _read_everything(path)
    except gguf_file.GGUFError as error:
        assert str(path) in str(error)


def test_import_loads_no_torch() -> None:
    code = "import sys, vllm.loader.gguf_file; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
