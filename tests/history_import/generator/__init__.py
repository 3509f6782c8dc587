# SPDX-License-Identifier: Apache-2.0
"""Sources and hosts for the tests of tools/history_import: the same ids in every run, no network.

It must not know the tool: what it builds is made from git's formats alone.
"""

from .configuration import write_config
from .edits import advance, change, force_back, git, tip
from .hosts import HOSTS, make_host
from .sources import SOURCES, make_source

__all__ = [
    "HOSTS",
    "SOURCES",
    "advance",
    "change",
    "force_back",
    "git",
    "make_host",
    "make_source",
    "tip",
    "write_config",
]
