# SPDX-License-Identifier: Apache-2.0
"""Two ways to run the CUDA kernels under test, with one signature per op: that of the op's schema.

Owns building the emulated library and the list of tensors' addresses that its C functions take.
Must not know what an op computes.

`Device` calls the ops of `_C_cuda.so` on a GPU. `Emulated` calls the same kernels, compiled as C++
with emulation/emulation.h, on CPU tensors: it tests indices, barriers and arithmetic where
there is no GPU, and nothing about the compiler, the launch or the speed. Needs torch and a C++
compiler with the CUDA headers, nothing else.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[3]
KERNEL_DIR = Path(os.environ.get("VLLM_KERNEL_DIR") or ROOT / "vllm")
CUDA_LIBRARY = KERNEL_DIR / "_C_cuda.so"
CPU_LIBRARY = KERNEL_DIR / "_C_cpu.so"
EMULATION = Path(__file__).with_name("emulation") / "emulation.h"

DTYPE_NUMBERS = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}


def missing_library() -> str | None:
    """Why the CUDA library can't be tested, or None."""
    for path in (CPU_LIBRARY, CUDA_LIBRARY):
        if not path.is_file():
            return f"{path} is not built: cmake -S csrc -B build/csrc -DVLLM_CUDA=ON"
    return None


def load_libraries() -> None:
    """Registers the ops: schemas first, then their CUDA implementations."""
    torch.ops.load_library(str(CPU_LIBRARY))
    torch.ops.load_library(str(CUDA_LIBRARY))


def missing_emulation() -> str | None:
    """Why the kernels can't be compiled for the host, or None."""
    if compiler() is None:
        return "no C++ compiler (CXX or g++) to compile the emulated kernels with"
    if toolkit_include() is None:
        return "no CUDA headers to compile the emulated kernels with: csrc/cmake/cuda_toolkit.py"
    return None


def compiler() -> str | None:
    return shutil.which(os.environ.get("CXX", "g++"))


def toolkit_include() -> str | None:
    script = ROOT / "csrc" / "cmake" / "cuda_toolkit.py"
    found = subprocess.run(
        [sys.executable, str(script), "include"], capture_output=True, text=True, check=False
    )
    if found.returncode != 0:
        return None
    # torch alone brings the runtime's headers, but not those of the compiler that they include.
    complete = (Path(found.stdout.strip()) / "crt" / "host_defines.h").is_file()
    return found.stdout.strip() if complete else None


def build_emulated(folder: Path) -> Path:
    """Compiles every kernel for the host, two files at a time, and links them."""
    flags = ["-x", "c++", "-std=c++20", "-O1", "-fPIC", "-include", str(EMULATION)]
    flags += ["-isystem", str(toolkit_include()), f"-I{ROOT / 'csrc' / 'include'}"]
    flags += ["-U_FORTIFY_SOURCE"]  # its longjmp takes a switch of stacks for an attack
    sources = sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
    pending = [(source, folder / f"{source.stem}.o") for source in sources]
    running: list[subprocess.Popen[bytes]] = []
    for source, target in pending:
        if len(running) == 2:
            _finish(running.pop(0))
        command = [str(compiler()), *flags, "-c", str(source), "-o", str(target)]
        running.append(subprocess.Popen(command))
    for process in running:
        _finish(process)
    library = folder / "cuda_emulated.so"
    objects = [str(target) for _, target in pending]
    subprocess.run([str(compiler()), "-shared", *objects, "-o", str(library)], check=True)
    return library


def _finish(process: subprocess.Popen[bytes]) -> None:
    if process.wait() != 0:
        raise subprocess.CalledProcessError(process.returncode, process.args)


class Device:
    """The compiled ops on the current GPU."""

    device = "cuda"

    def __getattr__(self, op: str):
        return getattr(torch.ops.vllm_kernels, op)


class Emulated:
    """The kernels on the host. Each method flattens its tensors as the op's binding does."""

    device = "cpu"

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))

    def _call(self, function: str, *arguments: object) -> None:
        error = getattr(self._library, f"vllm_cuda_{function}")(*map(_as_c, arguments), None)
        if error != 0:
            raise RuntimeError(f"vllm_cuda_{function} returned CUDA error {error}")

    def rms_norm(self, out: Tensor, x: Tensor, weight: Tensor, eps: float) -> None:
        self._call(
            "rms_norm", *_rows(out), *_rows(x), weight, x.size(0), _int(x.size(1)), eps,
            _type(x), _type(weight),
        )  # fmt: skip

    def fused_add_rms_norm(self, x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> None:
        self._call(
            "fused_add_rms_norm", *_rows(x), *_rows(residual), weight, x.size(0), _int(x.size(1)),
            eps, _type(x), _type(weight),
        )  # fmt: skip

    def rotary_embedding(
        self, positions: Tensor, q: Tensor, k: Tensor, head_dim: int, cache: Tensor, is_neox: bool
    ) -> None:
        self._call(
            "rotary_embedding", positions, q, k, positions.size(0), q.stride(0), k.stride(0),
            _int(q.size(1) // head_dim), _int(k.size(1) // head_dim), _int(head_dim),
            _int(cache.size(1)), cache, cache.size(0), ctypes.c_bool(is_neox), _type(q),
        )  # fmt: skip

    def silu_and_mul(self, out: Tensor, x: Tensor) -> None:
        self._call("silu_and_mul", *_rows(out), *_rows(x), x.size(0), out.size(1), _type(x))

    def gelu_tanh_and_mul(self, out: Tensor, x: Tensor) -> None:
        self._call("gelu_tanh_and_mul", *_rows(out), *_rows(x), x.size(0), out.size(1), _type(x))

    def soft_cap(self, x: Tensor, cap: float) -> None:
        self._call("soft_cap", *_rows(x), *x.shape, cap, _type(x))

    def scale(self, x: Tensor, factor: float) -> None:
        self._call("scale", *_rows(x), *x.shape, factor, _type(x))

    def copy_heads(self, out: Tensor, x: Tensor) -> None:
        rows, heads, width = out.shape
        self._call(
            "copy_heads", out, *out.stride()[:2], x, *x.stride()[:2], rows, _int(heads),
            _int(width), _type(x),
        )  # fmt: skip

    def linear(self, out: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> None:
        self._call(
            "linear", *_rows(out), *_rows(x), weight, bias, _int(x.size(0)), _int(weight.size(0)),
            _int(x.size(1)), _type(x),
        )  # fmt: skip

    def fp8_linear(
        self, out: Tensor, x: Tensor, weight: Tensor, scales: Tensor, bias: Tensor | None = None
    ) -> None:
        self._call(
            "fp8_linear", *_rows(out), *_rows(x), weight, scales, _int(len(scales)), bias,
            _int(x.size(0)), _int(weight.size(0)), _int(x.size(1)), _type(x),
        )  # fmt: skip

    def route_experts(
        self, ids: Tensor, weights: Tensor, logits: Tensor, bias: Tensor | None, sigmoid: bool,
        groups: int, top_groups: int, group_best: int, renormalize: bool, factor: float,
    ) -> None:  # fmt: skip
        rows, experts = logits.shape
        sizes = (experts, ids.size(1), groups, top_groups, group_best)
        self._call(
            "route_experts", ids, weights, *_rows(logits), bias, ctypes.c_bool(sigmoid), rows,
            *map(_int, sizes), ctypes.c_bool(renormalize), factor,
        )  # fmt: skip

    def fused_experts(
        self, out: Tensor, x: Tensor, ids: Tensor, weights: Tensor, gate_up: Tensor,
        gate_up_type: int, down: Tensor, down_type: int, inner: int, addend: Tensor | None = None,
    ) -> None:  # fmt: skip
        rows, hidden = x.shape
        sizes = [_int(n) for n in (ids.size(1), gate_up.size(0), hidden, inner)]
        count = self._library.vllm_cuda_experts_scratch
        count.restype = ctypes.c_int64
        scratch = torch.full((count(ctypes.c_int64(rows), *sizes, _type(x)),), -1, dtype=torch.int8)
        self._call(
            "fused_experts", *_rows(out), *_rows(x), addend,
            0 if addend is None else addend.stride(0), ids, weights,
            ctypes.byref(_ExpertMatrices.of(gate_up, gate_up_type)),
            ctypes.byref(_ExpertMatrices.of(down, down_type)), scratch, rows, *sizes, _type(x),
        )  # fmt: skip

    def quant_linear(
        self, out: Tensor, x: Tensor, packed: Tensor, qtype: int, n: int, k: int,
        bias: Tensor | None = None, coarse: int = 0,
    ) -> None:  # fmt: skip
        self._call(
            "quant_linear", *_rows(out), *_rows(x), packed, _int(qtype), bias, _int(x.size(0)),
            _int(n), _int(k), _type(x),
        )  # fmt: skip

    def quant_unpack(self, out: Tensor, packed: Tensor, qtype: int) -> None:
        self._call("quant_unpack", out, packed, _int(qtype), *map(_int, out.shape), _type(out))

    def dequantize(self, out: Tensor, raw: Tensor, qtype: int) -> None:
        self._call("dequantize", out, raw, _int(qtype), out.numel(), _type(out))

    def embedding_dequantize(self, out: Tensor, ids: Tensor, raw: Tensor, qtype: int) -> None:
        name, kind = ("embedding_dequantize", _int(qtype))
        if raw.dtype != torch.uint8:
            name, kind = ("embedding", _type(raw))
        self._call(
            name, *_rows(out), ids, ids.size(0), raw, kind, raw.size(0), _int(out.size(1)),
            _type(out),
        )  # fmt: skip

    def kv_write(
        self, k: Tensor, v: Tensor, k_cache: Tensor, v_cache: Tensor, slot_mapping: Tensor
    ) -> None:
        blocks, heads, block_size, head_dim = k_cache.shape
        self._call(
            "kv_write", k, v, k.size(0), k.stride(0), v.stride(0), k_cache, v_cache, slot_mapping,
            blocks, _int(heads), _int(block_size), _int(head_dim), _type(k), _type(k_cache),
        )  # fmt: skip

    def paged_attention(
        self, out: Tensor, q: Tensor, k_cache: Tensor, v_cache: Tensor, block_tables: Tensor,
        seq_lens: Tensor, query_start_loc: Tensor, scale: float, window: int = 0,
        soft_cap: float = 0.0,
    ) -> None:  # fmt: skip
        _, kv_heads, block_size, head_dim = k_cache.shape
        heads = q.size(1) // head_dim
        sizes = (_int(heads), _int(kv_heads), _int(block_size), _int(head_dim))
        self._call(
            "paged_attention", *_rows(out), *_rows(q), k_cache, v_cache, block_tables, seq_lens,
            query_start_loc, self._attention_scratch(q, block_tables, sizes), q.size(0),
            _int(seq_lens.size(0)), block_tables.size(1), *sizes, scale, _int(window), soft_cap,
            _type(q), _type(k_cache),
        )  # fmt: skip

    def _attention_scratch(self, q: Tensor, block_tables: Tensor, sizes: tuple) -> Tensor:
        """NaN, so that reading what was not written shows."""
        function = self._library.vllm_cuda_attention_scratch
        function.restype = ctypes.c_int64
        count = function(
            ctypes.c_int64(q.size(0)), _int(block_tables.size(0)),
            ctypes.c_int64(block_tables.size(1)), *sizes,
        )  # fmt: skip
        return torch.full((count,), torch.nan)

    def argmax(self, out: Tensor, logits: Tensor) -> None:
        self._call("argmax", out, *_rows(logits), logits.size(0), _int(logits.size(1)))

    def choose_greedy(self, out: Tensor, suspect: Tensor, hidden: Tensor, logits: Tensor) -> None:
        self._call(
            "choose_greedy", out, suspect, *_rows(hidden), _int(hidden.size(1)), _type(hidden),
            *_rows(logits), logits.size(0), _int(logits.size(1)),
        )  # fmt: skip

    def apply_logit_bias(
        self, logits: Tensor, rows: Tensor, token_ids: Tensor, bias: Tensor
    ) -> None:
        self._call(
            "apply_logit_bias", *_rows(logits), rows, token_ids, bias, rows.size(0), *logits.shape
        )

    def apply_penalties(
        self, logits: Tensor, token_ids: Tensor, output_counts: Tensor, in_prompt: Tensor,
        row_offsets: Tensor, repetition: Tensor, frequency: Tensor, presence: Tensor,
    ) -> None:  # fmt: skip
        self._call(
            "apply_penalties", *_rows(logits), token_ids, output_counts, in_prompt, row_offsets,
            repetition, frequency, presence, *logits.shape,
        )  # fmt: skip

    def token_logprobs_and_ranks(
        self, logprobs: Tensor, ranks: Tensor, logits: Tensor, token_ids: Tensor
    ) -> None:
        self._call(
            "token_logprobs", logprobs, ranks, *_rows(logits), token_ids, *token_ids.shape,
            _int(logits.size(1)),
        )  # fmt: skip

    def topk_logprobs(self, logprobs: Tensor, token_ids: Tensor, logits: Tensor) -> None:
        self._call(
            "topk_logprobs", logprobs, token_ids, *_rows(logits), *logprobs.shape,
            _int(logits.size(1)),
        )  # fmt: skip

    def sample_top_k_top_p(
        self, out: Tensor, logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor,
        min_p: Tensor, uniform: Tensor,
    ) -> None:  # fmt: skip
        self._call(
            "sample", out, *_rows(logits), temperature, top_k, top_p, min_p, uniform,
            logits.size(0), _int(logits.size(1)),
        )  # fmt: skip


class _ExpertMatrices(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("stride", ctypes.c_int64), ("qtype", ctypes.c_int))

    @classmethod
    def of(cls, stored: Tensor, qtype: int) -> _ExpertMatrices:
        bytes_apart = stored.stride(0) * stored.element_size()
        return cls(stored.data_ptr(), bytes_apart, qtype if stored.dtype == torch.uint8 else 0)


def _rows(matrix: Tensor) -> tuple[Tensor, int]:
    return matrix, matrix.stride(0)


def _int(value: int) -> ctypes.c_int:
    return ctypes.c_int(value)


def _type(tensor: Tensor) -> ctypes.c_int:
    return ctypes.c_int(DTYPE_NUMBERS[tensor.dtype])


def _as_c(argument: object) -> object:
    """Tensors become addresses, Python ints int64 and floats float32."""
    if isinstance(argument, Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, int):
        return ctypes.c_int64(argument)
    return ctypes.c_float(argument) if isinstance(argument, float) else argument
