# SPDX-License-Identifier: Apache-2.0
"""What can be said of _C_cuda.so without a GPU: it loads, has every op and every architecture, and
refuses wrong arguments by name. And where the build looks for nvcc."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys

import pytest
import torch

from tests.kernels.cuda import backends

IMPLEMENTED = [
    "apply_logit_bias",
    "apply_penalties",
    "argmax",
    "choose_greedy",
    "copy_heads",
    "dequantize",
    "embedding_dequantize",
    "fp8_linear",
    "fused_add_rms_norm",
    "fused_experts",
    "gelu_tanh_and_mul",
    "kv_write",
    "linear",
    "paged_attention",
    "quant_linear",
    "quant_unpack",
    "rms_norm",
    "rotary_embedding",
    "route_experts",
    "sample_top_k_top_p",
    "scale",
    "silu_and_mul",
    "soft_cap",
    "token_logprobs_and_ranks",
    "topk_logprobs",
]

# Done once, on the CPU; dense weights are laid out for the CPU's kernels alone.
REFUSED = ["linear_pack", "quant_repack"]

# Read and write what the host keeps of each request.
ON_THE_HOST = ["append_tokens", "fill_decode_inputs"]

# The state of the runtime asks for no tensor, so it has no device to be dispatched by.
WITHOUT_TENSORS = [
    "begin_recording",
    "cpu_isa",
    "drop_recording",
    "end_recording",
    "get_num_threads",
    "set_num_threads",
]


def call(op: str, *arguments):
    """Calls the CUDA implementation whatever the device of the arguments."""
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)
    return getattr(torch.ops.vllm_kernels, op).default.redispatch(keys, *arguments)


def declared_ops() -> list[str]:
    names = torch._C._dispatch_get_all_op_names()
    return sorted(n.removeprefix("vllm_kernels::") for n in names if n.startswith("vllm_kernels::"))


def test_every_op_is_implemented_or_refused(built_library):
    assert declared_ops() == sorted(IMPLEMENTED + REFUSED + ON_THE_HOST + WITHOUT_TENSORS)
    for op in IMPLEMENTED + REFUSED:
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"vllm_kernels::{op}", "CUDA"), op


def test_loads_without_a_gpu_in_a_fresh_process(built_library):
    code = (
        "import torch\n"
        f"for path in {[str(backends.CPU_LIBRARY), str(built_library)]!r}:\n"
        "    torch.ops.load_library(path)\n"
    )
    # No GPU to be seen, and no toolkit on the loader's path.
    environment = {"CUDA_VISIBLE_DEVICES": "", "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_has_machine_code_for_every_architecture(built_library):
    # nvcc keeps the options of each cubin beside it in the fat binary, one entry per .cu file.
    binary = built_library.read_bytes()
    files = len(list((backends.ROOT / "csrc" / "cuda").glob("*.cu")))
    for architecture in (b"sm_80", b"sm_90a", b"sm_100"):
        found = len(re.findall(rb"(?<![\w])" + architecture + rb"(?!\w)", binary))
        assert found >= files, f"{architecture.decode()}: {found} of {files} kernel files"


def test_needs_no_cuda_library_at_load(built_library):
    assert b"libcudart.so" not in built_library.read_bytes()


X = torch.zeros(2, 16)
CACHE = torch.zeros(3, 2, 4, 8)
LOGITS = torch.zeros(2, 5)
ROW = torch.zeros(2)
MANY = torch.zeros(0, 1025)
BYTES = torch.zeros(18, dtype=torch.uint8)


def attention_arguments(**changes):
    arguments = {
        "out": torch.zeros(2, 32),
        "q": torch.zeros(2, 32),
        "k_cache": CACHE,
        "v_cache": CACHE.clone(),
        "block_tables": torch.zeros(1, 2, dtype=torch.int32),
        "seq_lens": torch.ones(1, dtype=torch.int32),
        "query_start_loc": torch.zeros(2, dtype=torch.int32),
        "scale": 1.0,
    }
    return (arguments | changes).values()


WRONG = [
    ("rms_norm", (X, X, torch.zeros(16), 1e-5), "x is on the CPU, expected a CUDA device"),
    ("rms_norm", (X, X, torch.zeros(7), 1e-5), r"weight has shape \[7\], expected \[16\]"),
    ("rms_norm", (X, X.double(), X[0], 1e-5), "x has dtype float64, expected float32 or float16"),
    ("rms_norm", (X.half(), X, X[0], 1e-5), "out has dtype float16, expected float32"),
    ("rms_norm", (X.T, X.T, ROW, 1e-5), "must have adjacent elements"),
    ("fused_add_rms_norm", (X, X, X[0], 1e-5), "x and residual must not be the same memory"),
    (
        "rotary_embedding",
        (torch.zeros(2, dtype=torch.int64), X, X.clone(), 5, torch.zeros(9, 4), True),
        r"q has shape \[2, 16\], its second size must be a multiple of head_dim 5",
    ),
    (
        "rotary_embedding",
        (torch.zeros(2, dtype=torch.int64), X, X.clone(), 8, torch.zeros(9, 10), True),
        r"cos_sin_cache has shape \[9, 10\], its second size must be even and at most head_dim 8",
    ),
    ("silu_and_mul", (X, torch.zeros(2, 5)), r"x has shape \[2, 5\], its second size must be even"),
    (
        "kv_write",
        (X, X, CACHE, CACHE.clone(), torch.zeros(2, dtype=torch.int32)),
        "slot_mapping has dtype int32, expected int64",
    ),
    (
        "kv_write",
        (X, X, CACHE, CACHE.half(), torch.zeros(2, dtype=torch.int64)),
        "v_cache has dtype float16, expected float32",
    ),
    (
        "paged_attention",
        attention_arguments(q=torch.zeros(2, 24), out=torch.zeros(2, 24)),
        r"q has shape \[2, 24\], its second size must be a multiple of kv heads x head dim = 16",
    ),
    (
        "paged_attention",
        attention_arguments(k_cache=torch.zeros(3, 2, 4, 4), v_cache=torch.zeros(3, 2, 4, 4)),
        r"head dim is 4 .*multiples of 8 up to 256",
    ),
    (
        "paged_attention",
        attention_arguments(q=torch.zeros(2, 32).half(), out=torch.zeros(2, 32).half()),
        "q has dtype float16 and k_cache float32, expected the same dtype",
    ),
    ("paged_attention", attention_arguments(), "q is on the CPU, expected a CUDA device"),
    ("paged_attention", (*attention_arguments(), -7), "window is -7, expected 0 .none. or more"),
    (
        "paged_attention",
        (*attention_arguments(), 0, -30.0),
        "soft_cap is -30, expected 0 .off. or more",
    ),
    ("soft_cap", (X, 0.0), "cap is 0, expected a number above 0"),
    ("scale", (X, 2.0), "x is on the CPU, expected a CUDA device"),
    ("gelu_tanh_and_mul", (X, torch.zeros(2, 5)), r"x has shape \[2, 5\], its second size must be"),
    (
        "copy_heads",
        (X.view(2, 2, 8), X.view(2, 2, 8).half()),
        "x has dtype float16, expected float32",
    ),
    ("copy_heads", (X.view(2, 2, 8), X.view(2, 2, 8)), "out and x must not lie in the same memory"),
    (
        "choose_greedy",
        (torch.zeros(2).long(), torch.zeros(2).long(), X, LOGITS),
        r"suspect has shape \[2\], expected \[1\]",
    ),
    ("argmax", (torch.zeros(2), LOGITS), "out has dtype float32, expected int64"),
    (
        "topk_logprobs",
        (torch.zeros(2, 6), torch.zeros(2, 6, dtype=torch.int64), LOGITS),
        r"logprobs has shape \[2, 6\], more columns than the 5 logits of a row",
    ),
    (
        "sample_top_k_top_p",
        (torch.zeros(2, dtype=torch.int64), LOGITS, ROW, ROW, ROW, ROW, ROW.double()),
        "top_k has dtype float32, expected int32",
    ),
    (
        "sample_top_k_top_p",
        (torch.zeros(0, dtype=torch.int64), torch.zeros(0, 600000), ROW, ROW, ROW, ROW, ROW),
        r"logits has shape \[0, 600000\], the CUDA kernel takes rows of at most 524288 tokens",
    ),
    ("linear", (X, X, X.half(), None), "weight has dtype float16, expected float32"),
    ("linear", (X, X, X, None), r"out has shape \[2, 16\], expected \[2, 2\]"),
    ("fp8_linear", (X, X, X, ROW, None), "weight has dtype float32, expected float8_e4m3fn"),
    (
        "fp8_linear",
        (X, X, torch.zeros(16, 16).to(torch.float8_e4m3fn), ROW, None),
        r"scales has 2 elements, expected 16 .rows of weight. or 1",
    ),
    (
        "route_experts",
        (torch.zeros(2, 2).int(), torch.zeros(2, 2), X, None, False, 3, 1, 1, True, 1.0),
        "groups is 3, which does not divide 16 experts",
    ),
    (
        "route_experts",
        (torch.zeros(0, 2).int(), torch.zeros(0, 2), MANY, None, False, 1, 1, 1, True, 1.0),
        "there are 1025 experts, the CUDA kernel takes at most 1024",
    ),
    (
        "fused_experts",
        (X, X, X[:, :2].int(), X[:, :2].clone(), torch.zeros(3, 8, 16), 0, X, 0, 4, None),
        r"down has shape \[2, 16\], expected \[3, 16, 4\]",
    ),
    (
        "fused_experts",
        (X, X, X[:, :2].int(), X[:, :2].clone(), torch.zeros(3, 8, 16).half(), 0, X, 0, 4, None),
        "gate_up has dtype float16, expected float32 or uint8",
    ),
    (
        "linear_pack",
        (X, X, 0),
        "linear_pack: not implemented on CUDA; the kernels there read weights",
    ),
    ("quant_repack", (BYTES, 2, 1, 32), "quant_repack: not implemented on CUDA; repack on the CPU"),
    ("quant_linear", (X, X, BYTES, 2, 2, 16, None, 0), "k is 16, expected 32 to"),
    ("quant_linear", (X, X, BYTES, 11, 2, 32, None, 0), r"qtype is 11, expected 2 \(Q4_0\)"),
    ("quant_linear", (X, X, BYTES, 2, 16, 32, None, 0), "packed has 18 bytes, expected 320"),
    (
        "quant_linear",
        (X, X, torch.zeros(320, dtype=torch.uint8), 2, 16, 32, None, 0),
        r"x has shape \[2, 16\], expected \[any, 32\]",
    ),
    ("dequantize", (torch.zeros(33), BYTES, 2), "out has 33 elements, expected a multiple of 32"),
    ("dequantize", (torch.zeros(32), BYTES, 2), "out is on the CPU, expected a CUDA device"),
    (
        "embedding_dequantize",
        (X, torch.zeros(2, dtype=torch.int64), X, 30),
        "raw has dtype float32, expected bfloat16",
    ),
]


@pytest.mark.parametrize(("op", "arguments", "message"), WRONG)
def test_wrong_arguments_are_refused(built_library, op, arguments, message):
    with pytest.raises(RuntimeError, match=message) as error:
        call(op, *arguments)
    assert str(error.value).startswith(f"{op}: ")


@pytest.mark.gpu
def test_tensors_of_two_devices_are_refused(gpu):
    x = X.cuda()
    with pytest.raises(RuntimeError, match="weight is on the CPU, expected a CUDA device"):
        gpu.rms_norm(x, x, torch.zeros(16), 1e-5)


@pytest.mark.gpu
def test_ops_run_on_the_current_stream_and_in_graphs(gpu):
    x, weight = torch.randn(4, 64, device="cuda"), torch.ones(64, device="cuda")
    out, replayed = torch.empty_like(x), torch.empty_like(x)
    gpu.rms_norm(out, x, weight, 1e-5)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):  # captures the current stream, which is not the default one
        gpu.rms_norm(replayed, x, weight, 1e-5)
    graph.replay()
    assert torch.equal(replayed, out)


@pytest.mark.gpu
def test_ops_with_scratch_memory_can_be_captured(gpu):
    """Attention and experts take memory of torch's allocator, inside of a graph the graph's own."""
    x, cache = torch.randn(2, 256, device="cuda"), torch.randn(60, 2, 16, 64, device="cuda")
    tables = torch.arange(60, device="cuda", dtype=torch.int32).repeat(2, 1)
    lens = torch.tensor([900, 700], device="cuda", dtype=torch.int32)
    starts = torch.arange(3, device="cuda", dtype=torch.int32)
    ids = torch.tensor([[0, 3], [1, 2]], device="cuda", dtype=torch.int32)
    weights = torch.rand(2, 2, device="cuda")
    up, down = torch.randn(4, 64, 256, device="cuda"), torch.randn(4, 256, 32, device="cuda")
    attended, out = torch.empty_like(x), torch.empty_like(x)

    def step():
        gpu.paged_attention(attended, x, cache, cache, tables, lens, starts, 0.1)
        gpu.fused_experts(out, attended, ids, weights, up, 0, down, 0, 32, None)

    step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    for _ in range(3):
        x.copy_(torch.randn_like(x))
        graph.replay()
        replayed = out.clone()
        step()
        assert torch.equal(out, replayed)


def load_toolkit_script():
    path = backends.ROOT / "csrc" / "cmake" / "cuda_toolkit.py"
    spec = importlib.util.spec_from_file_location("cuda_toolkit", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def toolkit(monkeypatch, tmp_path):
    """The script on a machine without any CUDA: no variables, an empty PATH, no packages."""
    module = load_toolkit_script()
    for variable in ("CUDACXX", "CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module, "SYSTEM_NVCC", tmp_path / "system" / "nvcc")
    monkeypatch.setattr(module, "package_folders", lambda name: [tmp_path / "packages" / name])
    return module


def install(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def install_torch(tmp_path, cuda: str):
    version = tmp_path / "packages" / "torch" / "version.py"
    version.parent.mkdir(parents=True)
    version.write_text(f"cuda: Optional[str] = {cuda}\nhip: Optional[str] = None\n")


def test_nvcc_is_looked_for_from_the_most_explicit_place_on(toolkit, tmp_path, monkeypatch):
    assert toolkit.find_nvcc() is None
    in_packages = install(tmp_path / "packages/nvidia/cu13/bin/nvcc")
    assert toolkit.find_nvcc() == in_packages
    on_path = install(tmp_path / "nvcc")
    assert toolkit.find_nvcc() == on_path
    in_home = install(tmp_path / "home/bin/nvcc")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "home"))
    assert toolkit.find_nvcc() == in_home
    named = install(tmp_path / "named-nvcc")
    monkeypatch.setenv("CUDACXX", str(named))
    assert toolkit.find_nvcc() == named


def test_a_missing_nvcc_is_one_line_with_the_remedy(toolkit, tmp_path, capsys):
    install_torch(tmp_path, "'13.2'")
    assert toolkit.main(["nvcc"]) == 1
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert "CUDACXX (not set or empty)" in text
    assert "pip install 'cuda-toolkit[nvcc,cudart,cccl,nvvm,crt]==13.2.*'" in text


@pytest.mark.parametrize(("cuda", "remedy"), [("None", "12.8 or later"), ("'12.8'", "12.8")])
def test_where_no_package_has_nvcc_none_is_named(toolkit, tmp_path, cuda, remedy):
    install_torch(tmp_path, cuda)
    assert toolkit.requirement() is None
    assert toolkit.explain_missing().endswith(f"install NVIDIA's CUDA toolkit {remedy}")
