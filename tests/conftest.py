# SPDX-License-Identifier: Apache-2.0
"""Settings of every test: property tests repeat the same cases on a machine that may be busy."""

from __future__ import annotations

try:
    from hypothesis import settings
except ImportError:  # the kernel tests run on machines with only torch and pytest
    pass
else:
    # No deadline: the machine is shared. The same cases each time: a red run can be repeated.
    settings.register_profile("shared-machine", deadline=None, derandomize=True)
    settings.load_profile("shared-machine")
