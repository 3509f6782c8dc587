# SPDX-License-Identifier: Apache-2.0
"""Which class computes which architecture, under its names in config.json and in GGUF.

Owns that one table. Must not know how a model computes.
"""

from __future__ import annotations

from vllm.models.llama import LlamaModel
from vllm.models.qwen import Qwen3Model

_CLASSES: dict[str, type[LlamaModel]] = {
    "LlamaForCausalLM": LlamaModel,
    "MistralForCausalLM": LlamaModel,
    "llama": LlamaModel,
    "Qwen2ForCausalLM": LlamaModel,  # with biases, see `qwen`
    "qwen2": LlamaModel,
    "Qwen3ForCausalLM": Qwen3Model,
    "qwen3": Qwen3Model,
}


def model_class(architecture: str) -> type[LlamaModel]:
    """The class for an architecture that a configuration was read for."""
    return _CLASSES[architecture]
