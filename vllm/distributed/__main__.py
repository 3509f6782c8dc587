# SPDX-License-Identifier: Apache-2.0
"""``python -m vllm.distributed --args-fd N``: be one rank above 0 of an engine.

Must not know more than where to find what to do.
"""

from __future__ import annotations

import argparse
import os

from vllm import logging
from vllm.distributed.follower import main
from vllm.log_lines import open_standard_streams


def _read_arguments() -> bytes:
    parser = argparse.ArgumentParser(prog="python -m vllm.distributed", description=__doc__)
    parser.add_argument("--args-fd", type=int, required=True, help="descriptor with the arguments")
    with os.fdopen(parser.parse_args().args_fd, "rb") as source:
        return source.read()


if __name__ == "__main__":
    open_standard_streams()
    code = main(_read_arguments())
    logging.flush()
    os._exit(code)  # as engines do: taking torch apart takes a second
