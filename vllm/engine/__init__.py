# SPDX-License-Identifier: Apache-2.0
"""The engine: core step loop, request state, outputs, and the process around them.

Owns a request from its admission to its last token. Must not know how a kernel computes, nor text.
"""
