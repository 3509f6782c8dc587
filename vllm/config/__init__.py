# SPDX-License-Identifier: Apache-2.0
"""Configuration: flags, environment and files meet here once and become frozen dataclasses.

Must not know any process, socket or tensor.
"""
