# SPDX-License-Identifier: Apache-2.0
"""`python -m vllm.cli`, the same as the command `vllm`."""

from __future__ import annotations

import sys

from vllm.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
