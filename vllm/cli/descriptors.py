# SPDX-License-Identifier: Apache-2.0
"""How many descriptors a process may have open: a connection is one; children inherit the limit.

Must not know what they are used for.
"""

from __future__ import annotations

import resource

ENOUGH = 1 << 20
"""More than any server here opens; above it some programs become slow."""


def raise_limit() -> int:
    """Raise the soft limit as far as this process may; the limit now.

    Shells start with 1,024 for the sake of programs that use select(2); no process here does.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft
