# SPDX-License-Identifier: Apache-2.0
"""The command line: `vllm serve`, its supervisor and the start of `vllm-rs`.

Owns argument parsing, sockets handed to children, start order, signals and exit codes. Must never
import torch and never hold a request.
"""
