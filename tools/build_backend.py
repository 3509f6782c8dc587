# SPDX-License-Identifier: Apache-2.0
"""The build back end: setuptools, asking for torch only where kernels are to be built.

Owns the list of build requirements that depend on a switch; must not build anything itself. A
static list would make every downstream build of the frontend alone fetch gigabytes of torch.
"""

from __future__ import annotations

import os

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403 - a back end re-exports the hooks it keeps

_KERNELS = ["cmake>=3.26", "ninja", "torch>=2.10"]


def _requirements(wanted: list[str]) -> list[str]:
    if os.environ.get("VLLM_TARGET_DEVICE", "auto") == "empty":
        return wanted
    return [*wanted, *_KERNELS]


def get_requires_for_build_wheel(config_settings=None) -> list[str]:
    return _requirements(build_meta.get_requires_for_build_wheel(config_settings))


def get_requires_for_build_editable(config_settings=None) -> list[str]:
    return _requirements(build_meta.get_requires_for_build_editable(config_settings))
