#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Where nvcc is, and how to get it.

Owns the order in which a CUDA toolkit is looked for and the name of the matching package. Must not
know how anything is compiled. Runs with nothing but the standard library; torch is looked at, not
imported, because an import takes seconds.

    cuda_toolkit.py nvcc         print the path of nvcc; exit code 1 and the places tried if none
    cuda_toolkit.py include      print the folder of the toolkit's headers, likewise
    cuda_toolkit.py requirement  print what to install to have nvcc in this Python
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

EXTRAS = "nvcc,cudart,cccl,nvvm,crt"
"""Parts of the package `cuda-toolkit` that nvcc needs (cccl: headers of <cuda_fp16.h>)."""

SYSTEM_NVCC = Path("/usr/local/cuda/bin/nvcc")
"""Where NVIDIA's installers put it."""


def package_folders(name: str) -> list[Path]:
    """Folders of an importable package, without importing it."""
    spec = importlib.util.find_spec(name)
    return [Path(p) for p in spec.submodule_search_locations or []] if spec else []


def candidates() -> Iterator[tuple[str, Path | None]]:
    """Where nvcc may be, best first: (the place in words, the path or None)."""
    compiler = os.environ.get("CUDACXX")
    yield "CUDACXX", Path(compiler) if compiler else None
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        home = os.environ.get(variable)
        yield variable, Path(home, "bin", "nvcc") if home else None
    on_path = shutil.which("nvcc")
    yield "PATH", Path(on_path) if on_path else None
    yield "the usual place", SYSTEM_NVCC
    for folder in package_folders("nvidia"):
        for toolkit in sorted(folder.glob("cu[0-9]*"), reverse=True):
            yield f"{toolkit.name} of the packages in {folder}", toolkit / "bin" / "nvcc"


def find_nvcc() -> Path | None:
    """The first nvcc there is."""
    return next((path for _, path in candidates() if path and os.access(path, os.X_OK)), None)


def find_include() -> Path | None:
    """The folder of cuda_runtime_api.h beside that nvcc, or in Python's packages without one."""
    nvcc = find_nvcc()
    roots = [nvcc.resolve().parent.parent] if nvcc else []
    roots += [toolkit for folder in package_folders("nvidia") for toolkit in folder.glob("cu*")]
    folders = [root / "include" for root in roots]
    return next((f for f in folders if (f / "cuda_runtime_api.h").is_file()), None)


def torch_cuda_version() -> str | None:
    """The CUDA version torch was built for, as "13.2"; None for a torch without CUDA or none."""
    for folder in package_folders("torch"):
        text = (folder / "version.py").read_text(encoding="utf-8")
        match = re.search(r"^cuda\b[^=]*=\s*['\"]([\d.]+)['\"]", text, re.MULTILINE)
        return match.group(1) if match else None
    return None


def requirement() -> str | None:
    """The package that brings nvcc at the version torch was built for.

    None for a torch without CUDA, and before 13.0, when the packages had no nvcc in them.
    """
    version = torch_cuda_version()
    if version is None or int(version.split(".")[0]) < 13:
        return None
    major, minor = version.split(".")[:2]
    return f"cuda-toolkit[{EXTRAS}]=={major}.{minor}.*"


def explain_missing() -> str:
    """One line: what was looked for, where, and how to get it."""
    places = ", ".join(
        f"{place} ({'not set or empty' if path is None else f'no {path}'})"
        for place, path in candidates()
    )
    wanted = requirement()
    version = torch_cuda_version() or "12.8 or later"  # the first that knows sm_100
    remedy = f"pip install '{wanted}'" if wanted else f"install NVIDIA's CUDA toolkit {version}"
    return f"no nvcc found; looked at {places}; to get one: {remedy}"


def main(arguments: list[str]) -> int:
    """Prints the answer to one question; 1 where there is none, 2 for a wrong question."""
    questions = {"nvcc": find_nvcc, "include": find_include, "requirement": requirement}
    if len(arguments) != 1 or arguments[0] not in questions:
        print(f"usage: cuda_toolkit.py {'|'.join(questions)}", file=sys.stderr)
        return 2
    answer = questions[arguments[0]]()
    if answer is None:
        print(explain_missing(), file=sys.stderr)
        return 1
    print(answer)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
