# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.wire.scripted_engine --args-json JSON``: an engine process without a model."""

from __future__ import annotations

import sys

from tests.wire.scripted_core import ScriptedCore
from vllm import logging
from vllm.engine.process import read_args, run

if __name__ == "__main__":
    args = read_args(sys.argv[2])
    logging.setup(f"engine {args.engine_index}")
    sys.exit(int(run(args, ScriptedCore)))
