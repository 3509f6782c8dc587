# SPDX-License-Identifier: Apache-2.0
"""A few hundred CPU op calls as one: recorded once, replayed with whatever lies in their memory.

Owns the life of a recording. Must not know what the ops compute. Calling an op from Python costs
some microseconds, as much as a small op itself; a replay costs that once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import finalize

from vllm.kernels import ops

Result = TypeVar("Result")


class Recording(Generic[Result]):
    """What `calls` did, to be done again; `result` is what it returned.

    `calls` runs once, now, and may only call CPU ops of `vllm.kernels.ops`, on memory that stays
    where it is: torch's own operations are not recorded. `calls` is kept, and with it the tensors
    that it refers to. Raises RuntimeError for an op that cannot be recorded.
    """

    def __init__(self, calls: Callable[[], Result]) -> None:
        ops.begin_recording()
        try:
            self.result = calls()
        except BaseException:
            ops.drop_recording(ops.end_recording())
            raise
        self._number = ops.end_recording()
        self._calls = calls
        finalize(self, ops.drop_recording, self._number)

    def replay(self) -> Result:
        """Make the calls again; raises RuntimeError as they would, for instance for a bad id."""
        ops.replay(self._number)
        return self.result
