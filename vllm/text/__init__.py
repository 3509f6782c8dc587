# SPDX-License-Identifier: Apache-2.0
"""Text in and out of tokens: tokenizer, chat template, incremental detokenizer.

Shared by the Python frontend and the offline `LLM`. Must not know HTTP, the wire or torch.
"""
