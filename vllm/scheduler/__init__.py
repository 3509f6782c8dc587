# SPDX-License-Identifier: Apache-2.0
"""What runs in the next step: queue, policy, batch.

Plain Python on ints and deques. Must not know tensors: importing torch here is a bug.
"""
