# SPDX-License-Identifier: Apache-2.0
"""Model families, one file each: a forward pass over layers, and its configuration.

Must not know scheduling, requests, msgspec or zmq.
"""
