# SPDX-License-Identifier: Apache-2.0
"""The compiled kernels. Owns loading them and the typed functions over them (`vllm.kernels.ops`).

Must not know models, scheduling, messages or HTTP; imports torch and nothing else of ours.
"""
