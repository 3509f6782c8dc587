# SPDX-License-Identifier: Apache-2.0
"""What stands behind the nox sessions: the environment, the steps, the counting of results.

Owns how a contributor's checks are run; must not know what any of them checks.
"""
