# SPDX-License-Identifier: Apache-2.0
"""Which class computes which architecture, under its names in config.json and in GGUF.

Owns that one table. Must not know how a model computes.
"""

from __future__ import annotations

from vllm.models.config import ModelConfig, ModelConfigError
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


def model_class(config: ModelConfig, device: str) -> type[LlamaModel]:
    """The class for a configuration that was read, on device "cpu" or "cuda".

    Raises `ModelConfigError` where the device has no kernels for what the model needs.
    """
    missing = [] if device == "cpu" else _only_on_cpu(config)
    if missing:
        raise ModelConfigError(
            f"{config.architecture} needs {', '.join(missing)}, which device {device!r} has no "
            "kernels for; use --device cpu"
        )
    return _CLASSES[config.architecture]


def _only_on_cpu(config: ModelConfig) -> list[str]:
    """What of a model CUDA's kernels do not compute."""
    needs = {
        "sliding windows": any(config.windows),
        "soft caps": config.attention_soft_cap > 0 or config.logit_soft_cap > 0,
        "the activation gelu_tanh": config.activation == "gelu_tanh",
        "latent attention": config.latent is not None,
    }
    return [name for name, needed in needs.items() if needed]
