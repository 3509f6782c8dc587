# SPDX-License-Identifier: Apache-2.0
"""Tests of the compiled kernels: every op against a float64 reference, on every ISA of this CPU.

Needs torch, pytest and, where no library has been built yet, CMake and a C++ compiler. Must not
import anything of ours but `vllm.kernels`.
"""
