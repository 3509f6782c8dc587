# SPDX-License-Identifier: Apache-2.0
"""The KV cache of the engines under test: a share of what is free would depend on who else is
there, and tests may run side by side.
"""

from __future__ import annotations

CACHE = 64 << 20  # bytes
