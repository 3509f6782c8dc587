# SPDX-License-Identifier: Apache-2.0
"""Kernels and engine on an NVIDIA GPU: see the README beside this."""
