# SPDX-License-Identifier: Apache-2.0
"""Speed, side by side in one run: our frontend beside upstream's, our engine beside llama.cpp.

Owns workloads, peers and the tables; must not hold a limit that fails a test: figures are
published, losses included.
"""
