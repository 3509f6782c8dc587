# SPDX-License-Identifier: Apache-2.0
"""The model runner: persistent input batch, KV tensors, one forward pass per step.

Owns tensors of running requests by row. Must not know requests' text, HTTP or scheduling policy.
"""
