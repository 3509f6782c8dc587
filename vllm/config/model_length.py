# SPDX-License-Identifier: Apache-2.0
"""The longest sequence that a model was made for, from its own configuration.

Lets a start that cannot work end before torch is loaded. Must not know weights or memory.
"""

from __future__ import annotations

import json

from vllm.config.model_source import ModelSource
from vllm.errors import ModelError
from vllm.loader.gguf_file import GGUFFile
from vllm.models.hf_config import from_hf


def check_length(source: ModelSource, wanted: int) -> None:
    """Raise ModelError with both numbers where `wanted` tokens are more than the model has."""
    most = _longest(source)
    if most is not None and wanted > most:
        raise ModelError(
            f"--max-model-len is {wanted}, but {source.name} was made for {most} tokens; give "
            f"{most} or less, or leave it out"
        )


def _longest(source: ModelSource) -> int | None:
    """In tokens; None where the model's files do not say it in the usual place."""
    if source.kind == "gguf":
        gguf = GGUFFile(source.path)
        return gguf.get(f"{gguf.get('general.architecture', str, '')}.context_length", int)
    path = source.path / "config.json"
    return from_hf(json.loads(path.read_bytes()), str(path)).longest_position
