# SPDX-License-Identifier: Apache-2.0
"""What a model's own configuration says: whether it can be served, and how long a sequence.

Lets a start that cannot work end before torch is loaded. Must not know weights or memory.
"""

from __future__ import annotations

import json

from vllm.config.model_source import ModelSource
from vllm.errors import ModelError
from vllm.loader.gguf_config import read_config
from vllm.loader.gguf_file import GGUFError, GGUFFile
from vllm.models.config import ModelConfig
from vllm.models.hf_config import from_hf


def check_model(source: ModelSource) -> ModelConfig:
    """The configuration. Raises ModelError naming file, key and value where it cannot be served."""
    if source.kind == "gguf":
        try:
            return read_config(GGUFFile(source.path))
        except GGUFError as error:
            raise ModelError(str(error)) from None
    path = source.path / "config.json"
    return from_hf(json.loads(path.read_bytes()), str(path))


def check_length(source: ModelSource, wanted: int) -> None:
    """Raise ModelError with both numbers where `wanted` tokens are more than the model has."""
    most = check_model(source).longest_position
    if wanted > most:
        raise ModelError(
            f"--max-model-len is {wanted}, but {source.name} was made for {most} tokens; give "
            f"{most} or less, or leave it out"
        )
