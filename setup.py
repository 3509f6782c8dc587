# SPDX-License-Identifier: Apache-2.0
"""What the wheel is made of besides Python: the Rust binary and the kernel libraries.

VLLM_BUILD_RUST=0 leaves the binary out, VLLM_TARGET_DEVICE=empty the kernels. A part that is asked
for and cannot be built fails the build.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools_rust import Binding, RustExtension
from setuptools_rust import build_rust as rust_command

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tools"))

import build_csrc  # noqa: E402
import build_rust  # noqa: E402


def load_version_module():
    """`vllm/version.py` by path: importing the package is the business of its users."""
    spec = importlib.util.spec_from_file_location("version", ROOT / "vllm" / "version.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BASE = load_version_module().base_version()


def scm_version() -> dict:
    """setuptools-scm, counting from the workspace's version instead of from the nearest tag."""

    def scheme(found) -> str:
        return str(found.tag) if found.exact else f"{BASE}.dev{found.distance or 0}"

    return {
        "version_scheme": scheme,
        "fallback_version": BASE,
        "version_file": "vllm/_version.py",
    }


class BuildKernels(build_ext):
    """Kernel libraries are plain shared objects, not Python modules: no ABI tag in the name."""

    def build_extension(self, ext: Extension) -> None:
        if ext.name == KERNELS:
            folder = ROOT / "vllm" if self.inplace else Path(self.build_lib) / "vllm"
            build_csrc.build(folder)
        else:
            super().build_extension(ext)

    def get_outputs(self) -> list[str]:
        return [str(p) for p in (Path(self.build_lib) / "vllm").glob("_C_*.so")]

    def copy_extensions_to_source(self) -> None:
        """Nothing to copy: an in-place build already wrote into the source tree."""


class BuildBinary(rust_command):
    """Stamps an in-place binary with its sources, as `build_rust.sh` does."""

    def run(self) -> None:
        fingerprint = build_rust.sources_module().fingerprint(build_rust.WORKSPACE)
        super().run()
        if self.inplace and build_rust.wanted():
            build_rust.sources_module().write_stamp(build_rust.INSTALLED, fingerprint)


class AnyPythonWheel(bdist_wheel):
    """Neither the binary nor the stable-ABI libraries depend on the Python version."""

    def get_tag(self) -> tuple[str, str, str]:
        return ("py3", "none", super().get_tag()[2])


KERNELS = "vllm.kernels_of_csrc"


def rust_extensions() -> list[RustExtension]:
    if not build_rust.wanted():
        return []
    build_rust.require_cargo()
    return [
        RustExtension(
            "vllm.vllm-rs",
            path="rust/src/cmd/Cargo.toml",
            args=["--bin", "vllm-rs"],
            cargo_manifest_args=["--locked"],
            binding=Binding.Exec,
            debug=False,
        )
    ]


def kernel_extensions() -> list[Extension]:
    return [] if build_csrc.target_device() == "empty" else [Extension(KERNELS, sources=[])]


# A build folder of an earlier run may hold parts that this one was told to leave out.
shutil.rmtree(ROOT / "build" / "lib", ignore_errors=True)
os.chdir(ROOT)
setup(
    use_scm_version=scm_version(),
    rust_extensions=rust_extensions(),
    ext_modules=kernel_extensions(),
    cmdclass={
        "build_ext": BuildKernels,
        "build_rust": BuildBinary,
        "bdist_wheel": AnyPythonWheel,
    },
)
