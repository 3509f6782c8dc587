# SPDX-License-Identifier: Apache-2.0
"""Clients that people use, as published, against the built server with the default model.

Owns their environments (one each, pinned, in the user's cache) and a program per client that runs
every scenario; must not know how a server is built.
"""
