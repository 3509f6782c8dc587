# SPDX-License-Identifier: Apache-2.0
"""The boundary between a frontend and an engine: ZeroMQ frames that carry MessagePack.

Owns the message types, their encoding in both directions, the handshake and the client side of the
sockets. Must not know how requests are scheduled, what a kernel is, or anything of HTTP.

Importing this package loads nothing; take what you need from its modules:

========== =========================================================================
errors     what can go wrong on the wire, free of dependencies
messages   one type for every message
codec      bytes to messages and back, in both directions
handshake  HELLO, INIT and READY, from either end
listeners  listening sockets that are handed from one process to another
client     a frontend's end of the sockets, on asyncio
========== =========================================================================
"""

from __future__ import annotations

WIRE_VERSION = 33
"""Both halves of a deployment must agree on this number; it follows the minor version of the
upstream release whose wire is spoken."""
