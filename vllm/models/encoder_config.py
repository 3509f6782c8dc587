# SPDX-License-Identifier: Apache-2.0
"""What an encoder for embeddings looks like: BERT's config.json, and how its author pools.

Owns the keys of both, the latter from the files of sentence-transformers. Must not know tensors:
importing torch here is a bug.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllm.models.config import ModelConfigError, at_least
from vllm.models.fields import Fields

ARCHITECTURES = ("BertModel",)
_POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of a BERT (Devlin et al. 2018, arXiv 1810.04805) and what is made of its last layer.

    `max_length` is the longest text in tokens, special tokens included; `pooling` "mean" (of all
    tokens) or "cls" (the first one); `normalize`: embeddings have length 1.
    """

    architecture: str
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    vocab_size: int
    max_position: int
    type_vocab_size: int
    layer_norm_eps: float
    max_length: int
    pooling: str
    normalize: bool

    def __post_init__(self) -> None:
        at_least(self, 1, "hidden_size", "intermediate_size", "num_layers", "num_heads")
        at_least(self, 1, "vocab_size", "max_position", "type_vocab_size", "max_length")
        if self.hidden_size % self.num_heads:
            raise ModelConfigError(
                f"hidden_size ({self.hidden_size}) is not a multiple of num_attention_heads "
                f"({self.num_heads})"
            )
        if not (math.isfinite(self.layer_norm_eps) and self.layer_norm_eps >= 0):
            raise ModelConfigError(f"layer_norm_eps is {self.layer_norm_eps}, at least 0 is needed")


def is_encoder(folder: Path) -> bool:
    """Whether a model directory holds an encoder rather than a model that generates."""
    path = folder / "config.json"
    return path.is_file() and _architecture(_read(path)) in ARCHITECTURES


def read_encoder_config(folder: Path) -> EncoderConfig:
    """The configuration of a directory. Raises `ModelConfigError` naming file, key and value."""
    source = folder / "config.json"
    values = _read(source)
    fields = Fields(values, str(source))
    fields.refuse_unless("hidden_act", "gelu", "gelu")
    fields.refuse_unless("position_embedding_type", "absolute", "absolute")
    length = fields.integer("max_position_embeddings", 512)
    pooling, normalize = _pooling(folder)
    try:
        return EncoderConfig(
            architecture=_architecture(values),
            hidden_size=fields.integer("hidden_size"),
            intermediate_size=fields.integer("intermediate_size"),
            num_layers=fields.integer("num_hidden_layers"),
            num_heads=fields.integer("num_attention_heads"),
            vocab_size=fields.integer("vocab_size"),
            max_position=length,
            type_vocab_size=fields.integer("type_vocab_size", 2),
            layer_norm_eps=fields.number("layer_norm_eps", 1e-12),
            max_length=min(length, _max_length(folder, length)),
            pooling=pooling,
            normalize=normalize,
        )
    except ModelConfigError as error:
        raise ModelConfigError(f"{source}: {error}") from None


def _architecture(values: dict[str, Any]) -> str:
    names = values.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else ""


def _pooling(folder: Path) -> tuple[str, bool]:
    """What the modules behind the transformer do; without them the first token, normalized."""
    path = folder / "modules.json"
    if not path.is_file():
        return "cls", True
    pooling, normalize = "cls", False
    for module in _read(path, list):
        kind = str(module.get("type", "")).rpartition(".")[2] if isinstance(module, dict) else ""
        if kind == "Pooling":
            pooling = _mode(folder / str(module.get("path")) / "config.json")
        elif kind == "Normalize":
            normalize = True
        elif kind != "Transformer":
            raise ModelConfigError(f"{path}: module {module!r} is not supported")
    return pooling, normalize


def _mode(path: Path) -> str:
    values = _read(path)
    chosen = [key for key, value in values.items() if key.startswith("pooling_mode_") and value]
    if len(chosen) != 1 or chosen[0] not in _POOLINGS:
        raise ModelConfigError(
            f"{path}: the chosen pooling is {', '.join(chosen) or 'none'}; one of "
            f"{', '.join(_POOLINGS)} is supported"
        )
    return _POOLINGS[chosen[0]]


def _max_length(folder: Path, usual: int) -> int:
    path = folder / "sentence_bert_config.json"
    return (
        Fields(_read(path), str(path)).integer("max_seq_length", usual) if path.is_file() else usual
    )


def _read(path: Path, kind: type = dict) -> Any:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelConfigError(f"{path}: not readable JSON: {error}") from None
    if not isinstance(value, kind):
        raise ModelConfigError(
            f"{path}: a JSON {'array' if kind is list else 'object'} is expected"
        )
    return value
