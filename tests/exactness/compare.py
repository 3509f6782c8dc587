# SPDX-License-Identifier: Apache-2.0
"""How tokens and logits of the engine are held against a reference.

Tolerances are derived, not chosen. What a fast mode rounds is known (keys, values, queries and
attention weights to bfloat16, inputs of packed layers to 8-bit digits), so the reference computes
the same sequence with and without that rounding; the root mean square between the two is the error
such an implementation makes. The engine gets 1.5 times that, because it rounds other values (its
own) and the figure is an estimate. A CPU that does not multiply bfloat16 rounds keys and values
alone.

From there to tokens: two logits differ by sqrt(2) times the error of one, and among a few thousand
Gaussian draws none exceeds 4 sigma. A greedy token may differ from the reference's only where the
reference's own margin between the two is smaller than that.
"""

from __future__ import annotations

from torch import Tensor


def first_wrong_token(
    reference: Tensor, prompt_length: int, tokens: list[int]
) -> tuple[int, float] | None:
    """Where the engine's greedy tokens leave the reference's, and by how much.

    `reference` f64 [prompt + tokens, vocab] was computed on the engine's own tokens, so that each
    position is judged by itself. Returns the index and the reference's logit of its own choice less
    that of the engine's; None when all agree.
    """
    for index, token in enumerate(tokens):
        row = reference[prompt_length - 1 + index]
        best = int(row.argmax())
        if best != token:
            return index, float(row[best] - row[token])
    return None


def relative_rms(found: Tensor, expected: Tensor) -> float:
    """Root mean square of the difference over the standard deviation of what is expected.

    Rows are centred first: a constant added to all logits of a row changes nothing.
    """
    found = found.double() - found.double().mean(-1, keepdim=True)
    expected = expected - expected.mean(-1, keepdim=True)
    return float((found - expected).pow(2).mean().sqrt() / expected.pow(2).mean().sqrt())


def median_rms(found: Tensor, expected: Tensor) -> float:
    """The median of the rows' `relative_rms`: a mixture's tokens whose experts are nearly tied may
    go to others, which changes their rows altogether.
    """
    rows = [relative_rms(f[None], e[None]) for f, e in zip(found, expected, strict=True)]
    return sorted(rows)[len(rows) // 2]


def rounding_tolerance(rounded: Tensor, expected: Tensor) -> float:
    """The `relative_rms` that an implementation with this rounding may have."""
    return 1.5 * relative_rms(rounded, expected)


def check_divergence(
    reference: Tensor, prompt_length: int, tokens: list[int], tolerance: float
) -> None:
    """Fail if a token differs from the reference's by more than the tolerance explains."""
    wrong = first_wrong_token(reference, prompt_length, tokens)
    if wrong is not None:
        margin = 4 * 2**0.5 * tolerance * float(reference.std(-1).mean())
        index, difference = wrong
        assert difference < margin, f"token {index} differs by {difference}, margin is {margin}"
