# SPDX-License-Identifier: Apache-2.0
"""Programs for people who work on this repository; nothing here is part of the package."""
