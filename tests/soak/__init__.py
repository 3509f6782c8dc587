# SPDX-License-Identifier: Apache-2.0
"""Long runs of mixed traffic: `nox -s soak`; short forms are among the tests."""
