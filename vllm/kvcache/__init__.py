# SPDX-License-Identifier: Apache-2.0
"""Which KV-cache block belongs to whom: block pool and per-request block tables.

Plain Python on ints. Must not know tensors, nor why a request wants its blocks.
"""
