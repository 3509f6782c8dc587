# SPDX-License-Identifier: Apache-2.0
"""Limits of request fields, the same as the Rust frontend's; see docs of each field's row."""

from __future__ import annotations

MAX_N = 128  # choices of one request
MAX_STOP_STRINGS = 4
MAX_STOP_BYTES = 1024  # of a stop string or bad word
MAX_STOP_TOKEN_IDS = 1024
MAX_BAD_WORDS = 1024
MAX_LOGIT_BIAS = 1024
MAX_LOGPROB_TOKEN_IDS = 1024
MAX_TEMPLATE_BYTES = 64 << 10
MAX_ALLOWED_TOKEN_IDS = 1 << 20
MAX_TOKEN_ID = 2**31 - 1
MAX_ID_BYTES = 512  # request_id, cache_salt, session_id
MAX_MESSAGES = 16_384
MAX_MEMBERS = 1024  # of a request's JSON object
MAX_DOCUMENTS = 1024
MAX_STREAM_INTERVAL = 1024  # tokens per event
MAX_PROMPTS = 1024
MAX_CHOICES = 1024  # over all prompts of a request
MAX_PROMPT_LOGPROBS = 1 << 18  # over all choices of a request
MAX_PRIORITY = 2**31 - 1
MAX_MODEL_BYTES = 4096
MAX_U32 = 2**32 - 1
MAX_I32 = 2**31 - 1
MAX_I64 = 2**63 - 1
TEMPERATURE = (0.0, 2.0)
PENALTY = (-2.0, 2.0)
MAX_REPETITION_PENALTY = 1e38  # engines compute with 32 bits
LOGIT_BIAS = (-100.0, 100.0)
DEFAULT_MAX_TOKENS = 16  # of completions
