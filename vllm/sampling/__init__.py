# SPDX-License-Identifier: Apache-2.0
"""From logits to tokens: the parameters a caller gives, and how they are applied.

Must not know HTTP. Importing the package loads nothing; ``params`` needs no torch.
"""
