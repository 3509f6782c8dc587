# SPDX-License-Identifier: Apache-2.0
"""Settings of every test: property tests repeat the same cases on a machine that may be busy."""

from __future__ import annotations

from tests.fuzzing import FACTOR

try:
    from hypothesis import settings
except ImportError:  # the kernel tests run on machines with only torch and pytest
    pass
else:
    # No deadline: the machine is shared. The same cases each time, so that a red run can be
    # repeated; a long run looks for new ones.
    settings.register_profile("shared-machine", deadline=None, derandomize=FACTOR == 1)
    settings.load_profile("shared-machine")
