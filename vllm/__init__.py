# SPDX-License-Identifier: Apache-2.0
"""The Python half of the server: command line, engine, reference frontend, offline use.

Importing the package is cheap on purpose: torch is loaded by the engine process only, and the
kernels are tested on machines with nothing else, so names are resolved on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_LAZY = {
    "LLM": "vllm.llm",
    "CompletionOutput": "vllm.outputs",
    "EmbeddingRequestOutput": "vllm.outputs",
    "RequestOutput": "vllm.outputs",
    "SamplingParams": "vllm.sampling.params",
    "ScoringRequestOutput": "vllm.outputs",
    "TextPrompt": "vllm.inputs",
    "TokensPrompt": "vllm.inputs",
    "__version__": "vllm.version",
}
__all__ = [
    "LLM",
    "CompletionOutput",
    "EmbeddingRequestOutput",
    "RequestOutput",
    "SamplingParams",
    "ScoringRequestOutput",
    "TextPrompt",
    "TokensPrompt",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'vllm' has no attribute {name!r}")
