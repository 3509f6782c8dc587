# SPDX-License-Identifier: Apache-2.0
"""Layers that models share: linear, norm, rotary embedding, attention, embedding.

Each owns its weights and calls `vllm.kernels.ops`. Must not know requests, msgspec or zmq.
"""
