# SPDX-License-Identifier: Apache-2.0
"""One model over several processes, and engines on several hosts.

Owns groups of ranks and what travels between them. Must not know scheduling, sampling or text.
"""
