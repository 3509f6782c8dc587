# SPDX-License-Identifier: Apache-2.0
"""Brings a repository, with its whole history, below one folder of another, and proves it.

Owns everything about such imports. Knows nothing of what the two repositories contain, and never
writes to the source. `tools/history_import/verify` shares no code that rewrites with the rest.
"""
