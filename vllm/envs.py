# SPDX-License-Identifier: Apache-2.0
"""Every environment variable the package reads, each declared once: type, default, one line of doc.

`vllm.envs.NAME` parses the variable on access; `check()` parses all that are set, so that a bad
value ends the command before anything starts. Must not know what the values are used for. Variables
of other libraries (`HF_HOME`, `HF_HUB_OFFLINE`, `XDG_CACHE_HOME`, `CUDA_VISIBLE_DEVICES`) keep
their own rules.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vllm.errors import UsageError

TRUE_WORDS = ("1", "true", "yes", "on")
FALSE_WORDS = ("0", "false", "no", "off")
_UNITS = {
    "": 1,
    "b": 1,
    "k": 1000,
    "m": 1000**2,
    "g": 1000**3,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
}
_UNITS |= {"kb": 1000, "mb": 1000**2, "gb": 1000**3}
SIZE_FORMS = "a number of bytes, with a unit if you like: k, M, G, KiB, MiB, GiB"


def parse_bool(text: str) -> bool:
    """`text` as a boolean. Raises ValueError with the accepted words."""
    word = text.strip().lower()
    if word not in TRUE_WORDS + FALSE_WORDS:
        raise ValueError(f"{'/'.join(TRUE_WORDS)} or {'/'.join(FALSE_WORDS)}")
    return word in TRUE_WORDS


def parse_size(text: str) -> int:
    """`text` as bytes; decimal units (k, M, G) and binary ones (KiB, MiB, GiB). Raises
    ValueError.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError(SIZE_FORMS)
    return int(float(match[1]) * _UNITS[match[2].lower()])


def _parse_key(text: str) -> str:
    """A key without the line break that a secret's file often ends with."""
    if key := text.strip():
        return key
    raise ValueError("a key; unset it for a server without keys")


def _at_least(kind: Callable[[str], Any], least: float, words: str) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            raise ValueError(words) from None
        if not least <= value < float("inf"):
            raise ValueError(words)
        return value

    return parse


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.strip().lower() not in words:
            raise ValueError(", ".join(words[:-1]) + " or " + words[-1])
        return text.strip().lower()

    return parse


@dataclass(frozen=True)
class Variable:
    """One environment variable: its default, its parser (raises ValueError with the accepted
    values).
    """

    default: Any
    parse: Callable[[str], Any]
    doc: str
    empty_is_unset: bool = True

    def read(self, name: str) -> Any:
        text = os.environ.get(name)
        if text is None or (text == "" and self.empty_is_unset):
            return self.default
        try:
            return self.parse(text)
        except ValueError as error:
            raise UsageError(
                f"environment variable {name} is {text!r}; accepted: {error}"
            ) from None


VARIABLES: dict[str, Variable] = {
    # --- command line and supervisor
    "VLLM_USE_RUST_FRONTEND": Variable(
        None, parse_bool, "Rust frontend or Python one; unset: Rust where its binary is installed."
    ),
    "VLLM_RUST_FRONTEND_PATH": Variable(
        "auto", str, "Path of the `vllm-rs` binary; `auto` is the one inside the package."
    ),
    "VLLM_RS_PYTHON": Variable(
        None,
        str,
        "Python that `vllm-rs serve` launches engines with; the console script sets it.",
    ),
    "VLLM_API_KEY": Variable(
        None,
        _parse_key,
        "Key that clients must send; preferred to --api-key. Set and empty, it is refused.",
        empty_is_unset=False,
    ),
    "VLLM_ENGINE_READY_TIMEOUT_S": Variable(
        600.0,
        _at_least(float, 1, "seconds, at least 1"),
        "Longest wait for the engines to be ready.",
    ),
    "VLLM_ENGINE_ITERATION_TIMEOUT_S": Variable(
        60.0,
        _at_least(float, 0, "seconds, at least 0"),
        "A step that takes longer is reported in the log; 0: none is.",
    ),
    "VLLM_RPC_BASE_PATH": Variable(
        None,
        str,
        "Folder below which the private folder of the sockets is made; default: temp folder.",
    ),
    "VLLM_CACHE_ROOT": Variable(
        None, str, "Folder of downloaded models; default: $XDG_CACHE_HOME/vllm, ~/.cache/vllm."
    ),
    "VLLM_LOGGING_LEVEL": Variable(
        "info", _one_of("debug", "info", "warning", "error"), "Least severe log line shown."
    ),
    "RUST_LOG": Variable(
        None,
        str,
        "Log lines of the Rust frontend, as `info,vllm_server=debug`; wins over VLLM_LOGGING_LEVEL "
        "there, and is ignored with a warning where it is malformed.",
    ),
    # --- HTTP
    "VLLM_HTTP_MAX_REQUEST_BODY_SIZE": Variable(
        32 << 20, parse_size, "Largest accepted request body in bytes; unit suffixes are accepted."
    ),
    "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": Variable(
        5.0,
        _at_least(float, 0, "seconds, at least 0"),
        "Idle seconds before a connection is closed.",
    ),
    "VLLM_SERVER_DEV_MODE": Variable(
        False, parse_bool, "Serve the operators' routes (sleep, pause, ...), behind the key."
    ),
    # --- wire
    "VLLM_MSGPACK_ZERO_COPY_THRESHOLD": Variable(
        256,
        _at_least(int, 0, "a number of bytes, at least 0"),
        "Arrays from this size on ride in their own frame.",
    ),
    # --- kernels
    "VLLM_KERNEL_DIR": Variable(
        None, str, "Folder of the compiled kernel libraries; default: the package."
    ),
    "VLLM_CPU_ISA": Variable(
        None,
        _one_of("scalar", "avx2", "avx512", "amx"),
        "Forces the CPU kernels' instruction set; default: the best.",
    ),
}


def __getattr__(name: str) -> Any:
    if name in VARIABLES:
        return VARIABLES[name].read(name)
    raise AttributeError(f"module {__name__!r} declares no variable {name!r}")


def check() -> None:
    """Parse every declared variable. Raises UsageError on the first one that is set to a bad
    value.
    """
    for name, variable in VARIABLES.items():
        variable.read(name)
