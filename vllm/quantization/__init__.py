# SPDX-License-Identifier: Apache-2.0
"""Storage formats of weights: what stays packed, what is turned into which dense form.

Must not know models or files.
"""
