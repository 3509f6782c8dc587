# SPDX-License-Identifier: Apache-2.0
"""Pages of a map are let go of, and of no map but our own."""

from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models import make_llama
from vllm.loader.hf_checkpoint import HFCheckpoint, open_safetensors
from vllm.loader.mapped_files import MAPS, drop_pages

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process its maps")


def resident(file: Path) -> int:
    """kB of the file's maps that this process holds."""
    kilobytes, ours = 0, False
    for line in MAPS.with_name("smaps").read_text(errors="surrogateescape").splitlines():
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
    drop_pages(files[0], [tensors[0].data_ptr()])
    assert resident(files[0]) == 0
    assert resident(files[1]) >= 4096
    assert torch.equal(tensors[0], values)


def test_a_file_behind_a_link_and_one_that_is_not_mapped(tmp_path: Path) -> None:
    save_file({"x": torch.ones(4096)}, tmp_path / "blob")
    link = tmp_path / "model.safetensors"
    link.symlink_to("blob")
    opened = open_safetensors(link)
    tensor = opened.get_tensor("x")
    assert tensor.sum() == 4096
    drop_pages(link, [tensor.data_ptr()])
    assert resident(tmp_path / "blob") == 0
    drop_pages(tmp_path / "nothing", [tensor.data_ptr()])


def test_what_a_program_around_us_wrote_to_its_own_map_stays(tmp_path: Path) -> None:
    theirs = load_file(make_llama(tmp_path) / "model.safetensors")
    for tensor in theirs.values():
        tensor.add_(1)
    written = {name: tensor.clone() for name, tensor in theirs.items()}
    checkpoint = HFCheckpoint(tmp_path)
    read = {name: checkpoint.get(name).data for name in checkpoint.names()}
    checkpoint.release()
    assert all(torch.equal(tensor, written[name]) for name, tensor in theirs.items())
    assert not any(torch.equal(tensor, written[name]) for name, tensor in read.items())


def test_a_file_whose_name_is_no_text_may_be_mapped(tmp_path: Path) -> None:
    other = os.fsencode(tmp_path) + b"/\xff"
    with open(other, "wb+") as file:
        file.write(bytes(4096))
        file.flush()
        with mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ):
            checkpoint = HFCheckpoint(make_llama(tmp_path))
            checkpoint.get("model.norm.weight")
            checkpoint.release()
    assert resident(tmp_path / "model.safetensors") == 0


def test_a_checkpoint_lets_go_of_its_shards(tmp_path: Path) -> None:
    checkpoint = HFCheckpoint(make_llama(tmp_path, shards=2))
    tensors = {name: checkpoint.get(name).data for name in checkpoint.names()}
    sums = {name: float(tensor.sum()) for name, tensor in tensors.items()}
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert all(resident(shard) for shard in shards)
    checkpoint.release()
    assert not any(resident(shard) for shard in shards)
    assert {name: float(tensor.sum()) for name, tensor in tensors.items()} == sums
