# SPDX-License-Identifier: Apache-2.0
"""What the server knows of the model: names, tokenizer, template, defaults, limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllm.errors import ModelError, UsageError
from vllm.text.chat_template import ChatTemplate, ChatTemplateError
from vllm.text.model_files import ModelFiles, open_model_files
from vllm.text.tokenizer import Tokenizer, load_tokenizer


@dataclass
class Model:
    """`names` are those that requests may use; `root` is MODEL as given; `context` the longest
    sequence in tokens; `vocab` is above every token id; `eos` ends a sequence, `extra_eos` too.
    """

    names: list[str]
    root: str
    tokenizer: Tokenizer
    template: ChatTemplate | None
    context: int
    vocab: int
    eos: int | None
    extra_eos: tuple[int, ...]
    defaults: Mapping[str, float]

    @property
    def name(self) -> str:
        """The name to show."""
        return self.names[0]


def load_model(config: Mapping[str, Any]) -> Model:
    """Load what a frontend needs, per its configuration. Raises ModelError (one line).

    The context length is the model's own until the engine's registration says less.
    """
    root = config.get("model_tag") or config["model"]
    files = open_model_files(Path(config["model"]))
    tokenizer = load_tokenizer(files)
    eos_text = files.special_tokens.get("eos_token")
    eos = None if eos_text is None else tokenizer.token_to_id(eos_text)
    neutral = config.get("generation_config") == "vllm"
    return Model(
        names=list(config.get("served_model_name") or [root]),
        root=root,
        tokenizer=tokenizer,
        template=_template(config.get("chat_template"), files, root),
        context=files.context_length or 2**32 - 1,
        vocab=max(tokenizer.vocab_size, files.vocab_size or 0),
        eos=eos,
        extra_eos=tuple(number for number in files.eos_token_ids if number != eos),
        defaults={} if neutral else files.sampling,
    )


def _template(given: str | None, files: ModelFiles, root: str) -> ChatTemplate | None:
    """The template of the flag, else the model's own; a base model has none."""
    source = given or files.chat_template
    if source is None:
        return None
    try:
        return ChatTemplate(source, files.special_tokens)
    except ChatTemplateError as error:
        if given:
            raise UsageError(f"--chat-template: {error}") from None
        raise ModelError(f"{root}: {error}") from None
