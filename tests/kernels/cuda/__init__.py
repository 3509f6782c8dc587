# SPDX-License-Identifier: Apache-2.0
"""Tests of the CUDA kernels: on a GPU where there is one, and on the host everywhere.

Each op is compared with the float64 references of `tests.kernels.reference` on both backends (see
`backends`). Needs torch, pytest and, for the host, a C++ compiler and the CUDA headers.
"""
