# SPDX-License-Identifier: Apache-2.0
"""MODEL as the user wrote it -> files on this machine that are a model at all.

MODEL is a directory, a GGUF file, a name from the table of embedded models, or ORG/NAME on the hub
(local cache first, else a download). What comes back was looked at: a missing file, a cut-off or
foreign GGUF ends here in one line, before any process is started. Whether the engine supports the
architecture is the engine's to say. Must not know torch, processes or tokens.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vllm.config.embedded import DEFAULT_MODEL, EMBEDDED, fetch
from vllm.errors import ModelError
from vllm.loader.gguf_file import GGUFError, GGUFFile
from vllm.logging import init_logger

logger = init_logger(__name__)

__all__ = ["DEFAULT_MODEL", "ModelSource", "check_directory", "check_gguf", "resolve"]

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
HUB_FILES = ("*.json", "*.safetensors", "tokenizer.model", "*.jinja")
_WEIGHTS_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class ModelSource:
    """A model on this machine.

    `name` is MODEL as given (the default served name); `path` a directory with `config.json`,
    `tokenizer.json` and safetensors, or one GGUF file.
    """

    name: str
    path: Path
    kind: Literal["directory", "gguf"]


def resolve(model: str, *, revision: str | None = None, load_format: str = "auto") -> ModelSource:
    """Find MODEL, fetch it where needed, look at its files.

    `load_format` "dummy" needs no weights. Raises ModelError with one line that names the cause.
    """
    if not model:
        raise ModelError("MODEL is empty; leave it out to serve the default model")
    path = Path(model).expanduser()
    if path.exists():
        return _local(model, path, load_format)
    if model in EMBEDDED:
        return _local(model, fetch(EMBEDDED[model]), load_format)
    if _HUB_NAME.fullmatch(model) and not model.endswith(".gguf"):
        return _local(model, _from_hub(model, revision, load_format), load_format)
    raise ModelError(
        f"model {model!r}: there is no such file or directory, and it is neither an embedded model "
        f"({', '.join(EMBEDDED)}) nor ORG/NAME"
    )


def _local(name: str, path: Path, load_format: str) -> ModelSource:
    if not path.is_dir():
        check_gguf(path)
        return ModelSource(name, path.absolute(), "gguf")
    if not (path / "config.json").exists():
        only = _only_gguf(path)
        check_gguf(only)
        return ModelSource(name, only.absolute(), "gguf")
    check_directory(path, load_format)
    return ModelSource(name, path.absolute(), "directory")


def _only_gguf(folder: Path) -> Path:
    """The GGUF file of a directory that holds one and no `config.json`."""
    files = sorted(folder.glob("*.gguf"))
    if len(files) == 1:
        return files[0]
    if files:
        names = ", ".join(file.name for file in files[:5])
        raise ModelError(f"{folder} holds {len(files)} GGUF files ({names}): name the one to serve")
    raise ModelError(f"{folder} is not a model: it has neither config.json nor a GGUF file")


def check_gguf(path: Path) -> None:
    """The whole header and tensor table of a GGUF file. Raises ModelError."""
    if not path.is_file():  # opening a pipe or a device might never end
        raise ModelError(f"{path} is not a model: it is neither a file nor a directory")
    try:
        GGUFFile(path)
    except GGUFError as error:
        raise ModelError(str(error)) from None
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from None


def check_directory(folder: Path, load_format: str = "auto") -> None:
    """That a directory has everything a start needs. Raises ModelError naming what is missing."""
    _read_json(folder / "config.json")
    if not (folder / "tokenizer.json").is_file():
        raise ModelError(f"{folder} has no tokenizer.json, which the tokenizer is loaded from")
    if load_format != "dummy":
        _check_weights(folder)


def _check_weights(folder: Path) -> None:
    index = folder / _WEIGHTS_INDEX
    if index.exists():
        names = _shards(index)
    else:
        names = {file.name for file in folder.glob("*.safetensors")}
    if not names:
        raise ModelError(f"{folder} has no *.safetensors file, which the weights are loaded from")
    for name in sorted(names):
        _check_safetensors(folder / name)


def _shards(index: Path) -> set[str]:
    weight_map = _read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError(f"{index} has no `weight_map`")
    names = set(weight_map.values())
    if not all(isinstance(name, str) and "/" not in name for name in names):
        raise ModelError(f"{index}: `weight_map` must map to file names in the same directory")
    return names


def _check_safetensors(path: Path) -> None:
    """Header and length (format: 8 bytes header size, JSON header, data; the library's README)."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = file.read(length) if 8 + length <= size else b""
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from None
    if len(header) != length or size < 8:
        raise ModelError(
            f"{path} is truncated or no safetensors file: its header says {length} bytes, "
            f"the file has {size}"
        )
    needed = 8 + length + _data_end(path, header)
    if needed > size:
        raise ModelError(f"{path} is truncated: its tensors need {needed} bytes, it has {size}")


def _data_end(path: Path, header: bytes) -> int:
    try:
        tensors = json.loads(header)
        rows = [row for name, row in tensors.items() if name != "__metadata__"]
        return max((int(row["data_offsets"][1]) for row in rows), default=0)
    except (ValueError, AttributeError, KeyError, IndexError, TypeError):
        raise ModelError(f"{path} is not a safetensors file: its header cannot be read") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise ModelError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path} is not a JSON object")
    return value


def _from_hub(name: str, revision: str | None, load_format: str) -> Path:
    """The snapshot of ORG/NAME: the local cache where it is complete, else a download."""
    cached = _cached_snapshot(name, revision)
    if cached is not None and _is_complete(cached, load_format):
        return cached
    logger.info("model %s is not in the local hub cache: downloading", name)
    return _download(name, revision)


def _is_complete(folder: Path, load_format: str) -> bool:
    try:
        check_directory(folder, load_format)
    except ModelError as error:
        logger.info("%s", error)
        return False
    return True


def _cached_snapshot(name: str, revision: str | None) -> Path | None:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 (slow import, one path needs it)
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError  # noqa: PLC0415

    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise ModelError(f"model {name!r}: {error}") from None


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(HUB_FILES)))
    except Exception as error:  # the client library lets several libraries' errors through
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"model {name!r} is not in the local hub cache and cannot be downloaded: "
            f"{reason[0][:300]}"
        ) from None
