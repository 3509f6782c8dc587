# SPDX-License-Identifier: Apache-2.0
"""The rules of `deny.toml` that need no download: registry sources only, no banned crate.

`cargo deny check` knows more (licences, advisories) and runs where it is installed; these two are
checked on every machine, from Cargo.lock alone.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

RUST = Path(__file__).resolve().parent.parent.parent / "rust"


def load(name: str) -> dict:
    with (RUST / name).open("rb") as file:
        return tomllib.load(file)


def problems(lock: dict, deny: dict) -> list[str]:
    """One line for each package that comes from elsewhere or is banned."""
    banned = {entry["crate"]: entry["reason"] for entry in deny["bans"]["deny"]}
    found = []
    for package in lock["package"]:
        name, source = package["name"], package.get("source", "")
        if source and not source.startswith("registry+"):
            found.append(f"{name} comes from {source}; only crates.io is allowed")
        if name in banned:
            found.append(f"{name} is banned: {banned[name]}")
    return found


def main() -> int:
    lines = problems(load("Cargo.lock"), load("deny.toml"))
    print("\n".join(lines), end="\n" if lines else "")
    return 1 if lines else 0


if __name__ == "__main__":
    raise SystemExit(main())
