# SPDX-License-Identifier: Apache-2.0
"""Small GGUF files and the default model for the tests of `vllm.text`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import pytest

from vllm.config.embedded import DEFAULT_MODEL, EMBEDDED, fetch


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The default model's GGUF file, fetched by the product's own code into the user's cache."""
    return fetch(EMBEDDED[DEFAULT_MODEL])


@pytest.fixture
def make_gguf(tmp_path: Path) -> Any:
    """`make_gguf(tokens, types, **keys)` writes a GGUF file with a vocabulary and no tensors."""

    def make(tokens: list[str], types: list[int], **keys: Any) -> Path:
        path = tmp_path / "vocabulary.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_token_list(tokens)
        writer.add_token_types(types)
        for key, value in keys.items():
            writer.add_key_value(f"tokenizer.ggml.{key}", value, *_type_of(value))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    return make


def _type_of(value: Any) -> tuple[Any, ...]:
    kinds = gguf.GGUFValueType
    if isinstance(value, list):
        return (kinds.ARRAY, kinds.STRING if isinstance(value[0], str) else kinds.FLOAT32)
    table = {bool: kinds.BOOL, int: kinds.UINT32, str: kinds.STRING}
    return (table[type(value)],)
