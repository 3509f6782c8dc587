# SPDX-License-Identifier: Apache-2.0
"""Which class computes which architecture, under its names in config.json and in GGUF.

Owns that one table. Must not know how a model computes.
"""

from __future__ import annotations

from vllm.models.config import ModelConfig
from vllm.models.deepseek import DeepseekModel
from vllm.models.gemma import Gemma2Model, Gemma3Model, GemmaModel
from vllm.models.llama import LlamaModel
from vllm.models.qwen import Qwen3Model

_CLASSES: dict[str, type[LlamaModel]] = {
    "LlamaForCausalLM": LlamaModel,
    "MistralForCausalLM": LlamaModel,
    "MixtralForCausalLM": LlamaModel,  # with experts, as the configuration says
    "llama": LlamaModel,
    "Qwen2ForCausalLM": LlamaModel,  # with biases, see `qwen`
    "qwen2": LlamaModel,
    "Qwen3ForCausalLM": Qwen3Model,
    "Qwen3MoeForCausalLM": Qwen3Model,
    "qwen3": Qwen3Model,
    "qwen3moe": Qwen3Model,
    "GemmaForCausalLM": GemmaModel,
    "Gemma2ForCausalLM": Gemma2Model,
    "Gemma3ForCausalLM": Gemma3Model,
    "gemma2": Gemma2Model,
    "gemma3": Gemma3Model,
    "Phi3ForCausalLM": LlamaModel,  # with fused projections, as the configuration says
    "phi3": LlamaModel,
    "DeepseekV2ForCausalLM": DeepseekModel,
    "DeepseekV3ForCausalLM": DeepseekModel,
}


def model_class(config: ModelConfig) -> type[LlamaModel]:
    """The class for a configuration that was read."""
    return _CLASSES[config.architecture]
