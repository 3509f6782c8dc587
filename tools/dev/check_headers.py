# SPDX-License-Identifier: Apache-2.0
"""Every source file says its licence: the SPDX line stands in the first three lines.

Usage: check_headers.py FILE...; prints the files without it, exit code 1 when there is any.
"""

from __future__ import annotations

import sys
from pathlib import Path

LINE = "SPDX-License-Identifier: Apache-2.0"


def lacks_header(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="replace") as file:
        return not any(LINE in line for _, line in zip(range(3), file, strict=False))


def main(names: list[str]) -> int:
    missing = [name for name in names if Path(name).stat().st_size and lacks_header(Path(name))]
    for name in missing:
        print(f"{name}: no line '{LINE}' in its first three lines")
    return 1 if missing else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
