# SPDX-License-Identifier: Apache-2.0
"""Templates and tokenizers as published, rendered and encoded by our Rust code and by the original.

Owns the packages that carry them and the comparison; must not know servers or engines.
"""
