# SPDX-License-Identifier: Apache-2.0
"""Generated requests and bytes against built programs; must not know how they are built inside."""
