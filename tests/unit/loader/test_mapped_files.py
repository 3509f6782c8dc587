# SPDX-License-Identifier: Apache-2.0
"""Pages of a mapped file are let go of, and nothing but a file's own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.models import make_llama
from vllm.loader.hf_checkpoint import HFCheckpoint, open_safetensors
from vllm.loader.mapped_files import MAPS, drop_pages

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process its maps")


def resident(file: Path) -> int:
    """kB of the file's maps that this process holds."""
    kilobytes, ours = 0, False
    for line in MAPS.with_name("smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            ours = line.endswith(" " + str(file.resolve()))
        elif ours and line.startswith("Rss:"):
            kilobytes += int(line.split()[1])
    return kilobytes


def test_a_mapped_tensor_is_read_again(tmp_path: Path) -> None:
    values = torch.randn(1 << 20)
    files = [tmp_path / "a model.safetensors", tmp_path / "other.safetensors"]
    for file in files:
        save_file({"x": values}, file)
    maps = [open_safetensors(file) for file in files]
    tensors = [opened.get_tensor("x") for opened in maps]
    assert all(torch.equal(tensor, values) for tensor in tensors)
    assert all(resident(file) >= 4096 for file in files)
    drop_pages(files[0])
    assert resident(files[0]) == 0
    assert resident(files[1]) >= 4096
    assert torch.equal(tensors[0], values)


def test_a_file_behind_a_link_and_one_that_is_not_mapped(tmp_path: Path) -> None:
    save_file({"x": torch.ones(4096)}, tmp_path / "blob")
    link = tmp_path / "model.safetensors"
    link.symlink_to("blob")
    opened = open_safetensors(link)
    assert opened.get_tensor("x").sum() == 4096
    drop_pages(link)
    assert resident(tmp_path / "blob") == 0
    drop_pages(tmp_path / "nothing")


def test_a_checkpoint_lets_go_of_its_shards(tmp_path: Path) -> None:
    checkpoint = HFCheckpoint(make_llama(tmp_path, shards=2))
    tensors = {name: checkpoint.get(name).data for name in checkpoint.names()}
    sums = {name: float(tensor.sum()) for name, tensor in tensors.items()}
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert all(resident(shard) for shard in shards)
    checkpoint.release()
    assert not any(resident(shard) for shard in shards)
    assert {name: float(tensor.sum()) for name, tensor in tensors.items()} == sums
