# SPDX-License-Identifier: Apache-2.0
"""An engine never outlives the process that started it, however that one ended.

Watches the parent by a descriptor of the kernel's rather than by a death signal: the signal follows
the parent's *thread* that started us, which may end long before its process. Knows nothing of
requests.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable

POLL_S = 0.5
GRACE_S = 10.0
"""How long an orphan may take to abort its requests."""
EXIT_ORPHANED = 1


def watch_parent(on_death: Callable[[], None], parent: int | None = None) -> threading.Thread:
    """Call ``on_death`` when process ``parent`` (default: the parent) is gone, and end this process
    the hard way ``GRACE_S`` seconds later.
    """
    parent = os.getppid() if parent is None else parent
    thread = threading.Thread(target=_watch, args=(parent, on_death), name="lifeline", daemon=True)
    thread.start()
    return thread


def _watch(parent: int, on_death: Callable[[], None]) -> None:
    _wait_for_end(parent)
    on_death()
    time.sleep(GRACE_S)
    os._exit(EXIT_ORPHANED)


def _wait_for_end(parent: int) -> None:
    try:
        descriptor = os.pidfd_open(parent)
    except ProcessLookupError:
        return
    except OSError:  # a kernel, or a sandbox, without pidfd
        while os.getppid() == parent:
            time.sleep(POLL_S)
        return
    try:
        if os.getppid() == parent:  # else it ended before the descriptor was opened
            select.select([descriptor], [], [])
    finally:
        os.close(descriptor)
