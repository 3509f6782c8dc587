# SPDX-License-Identifier: Apache-2.0
"""What a model brings along besides its weights: special tokens, chat template, recommended
sampling.

Read from a Hugging Face directory or from a GGUF file's metadata into one value. Must not know how
text is encoded or rendered, nor tensors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vllm.errors import ModelError
from vllm.loader.gguf_file import GGUFError, GGUFFile

_SAMPLING = {
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "min_p": float,
    "repetition_penalty": float,
}
_ROLES = ("bos", "eos", "unk", "pad")


@dataclass(frozen=True)
class ModelFiles:
    """Everything a frontend needs of a model.

    `special_tokens` maps `bos_token`, `eos_token`, ... to their text; `eos_token_ids` end a
    generation (sorted); `sampling` holds the defaults that the model's author recommends, by field
    name, and `max_new_tokens` where given; `context_length` is the longest sequence in tokens it
    was made for.
    """

    path: Path
    gguf: GGUFFile | None
    chat_template: str | None
    special_tokens: Mapping[str, str] = field(default_factory=dict)
    eos_token_ids: tuple[int, ...] = ()
    sampling: Mapping[str, float] = field(default_factory=dict)
    context_length: int | None = None
    vocab_size: int | None = None  # rows of the embedding table; may exceed the tokenizer's ids


def open_model_files(path: Path) -> ModelFiles:
    """Read the metadata of a directory or GGUF file, never its weights. Raises ModelError."""
    if path.is_dir():
        return _from_directory(path)
    try:
        return _from_gguf(GGUFFile(path))
    except GGUFError as error:
        raise ModelError(str(error)) from None


def _from_gguf(gguf: GGUFFile) -> ModelFiles:
    tokens = gguf.require("tokenizer.ggml.tokens", object)
    special: dict[str, str] = {}
    for role, key in zip(_ROLES, ("bos", "eos", "unknown", "padding"), strict=True):
        number = gguf.metadata.get(f"tokenizer.ggml.{key}_token_id")
        if isinstance(number, int) and 0 <= number < len(tokens):
            special[f"{role}_token"] = tokens[number]
    architecture = gguf.get("general.architecture", str, "")
    return ModelFiles(
        path=gguf.path,
        gguf=gguf,
        chat_template=gguf.get("tokenizer.chat_template", str),
        special_tokens=special,
        eos_token_ids=_gguf_eos(gguf),
        context_length=gguf.get(f"{architecture}.context_length", int),
        vocab_size=gguf.get(f"{architecture}.vocab_size", int, len(tokens)),
    )


def _gguf_eos(gguf: GGUFFile) -> tuple[int, ...]:
    """End of sequence, of turn and of message: each ends a generation."""
    keys = [f"tokenizer.ggml.{kind}_token_id" for kind in ("eos", "eot", "eom")]
    return tuple(sorted({gguf.get(key, int) for key in keys if key in gguf.metadata}))


def _from_directory(folder: Path) -> ModelFiles:
    config = _read(folder / "config.json")
    tokenizer_config = _read(folder / "tokenizer_config.json")
    special_map = _read(folder / "special_tokens_map.json")
    generation = _read(folder / "generation_config.json")
    special = _special_texts({**special_map, **_known(tokenizer_config)})
    return ModelFiles(
        path=folder,
        gguf=None,
        chat_template=_directory_template(folder, tokenizer_config),
        special_tokens=special,
        eos_token_ids=_directory_eos(folder, config, generation, special),
        sampling=_sampling(generation),
        context_length=_int_or_none(config.get("max_position_embeddings")),
        vocab_size=_int_or_none(config.get("vocab_size")),
    )


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; an absent file is an empty one."""
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path} is not a JSON object")
    return value


def _known(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if value is not None}


def _special_texts(config: dict[str, Any]) -> dict[str, str]:
    """Special tokens by role; each is a string or an object with `content`."""
    texts: dict[str, str] = {}
    for role in _ROLES:
        value = config.get(f"{role}_token")
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            texts[f"{role}_token"] = text
    return texts


def _directory_template(folder: Path, tokenizer_config: dict[str, Any]) -> str | None:
    """`chat_template.jinja` wins, as in Transformers; of several in a list the one called
    default.
    """
    file = folder / "chat_template.jinja"
    if file.exists():
        return file.read_text(encoding="utf-8")
    template = tokenizer_config.get("chat_template")
    if isinstance(template, list):
        named = {row.get("name"): row.get("template") for row in template if isinstance(row, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _directory_eos(
    folder: Path, config: dict[str, Any], generation: dict[str, Any], special: dict[str, str]
) -> tuple[int, ...]:
    ids: set[int] = set()
    for source in (config, generation):
        value = source.get("eos_token_id")
        values = value if isinstance(value, list) else [value]
        ids.update(number for number in values if isinstance(number, int))
    number = _added_token_id(folder, special.get("eos_token"))
    return tuple(sorted(ids if number is None else ids | {number}))


def _added_token_id(folder: Path, text: str | None) -> int | None:
    """The id that `tokenizer.json` gives a special token; the config files don't always repeat
    it.
    """
    for row in _read(folder / "tokenizer.json").get("added_tokens") or []:
        if isinstance(row, dict) and text is not None and row.get("content") == text:
            return _int_or_none(row.get("id"))
    return None


def _sampling(generation: dict[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, kind in {**_SAMPLING, "max_new_tokens": int}.items():
        value = generation.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = kind(value)
    return found


def _int_or_none(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
