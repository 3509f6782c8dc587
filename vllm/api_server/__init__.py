# SPDX-License-Identifier: Apache-2.0
"""The reference frontend: OpenAI's chat and completions over the wire, written for clarity.

It runs where the Rust frontend is not installed, and is the oracle that the Rust frontend is
compared with, request by request: bodies, errors and defaults are the same. Must not know torch,
weights or the scheduler.

========== ==================================================================
body       bytes -> JSON members -> typed values, with errors that name the field
fields     the table of request fields: what each accepts, which are refused
messages   the messages of a chat request
requests   validated requests
model      names, tokenizer, template and defaults of the served model
sampling   request fields -> the engine's parameters
generation one state machine per choice: tokens in, text out
logprobs   log probabilities as the routes show them
answers    whole bodies and stream chunks
metrics    counters in Prometheus' text form
app        routes, keys, errors
========== ==================================================================
"""
