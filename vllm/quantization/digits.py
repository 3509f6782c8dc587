# SPDX-License-Identifier: Apache-2.0
"""How precisely a packed layer sees its input: one 8-bit digit per element, or more.

More are two, for weights of 4 bits three for every two elements (`DigitForm` in
`csrc/include/cpu_kernels.h`). Owns the choice per weight. Must not know kernels or layouts.

Noise on SmolLM2's logits (root mean square over their spread, float64 forward pass with that one
input rounded, two texts): one digit in v 2.0-2.4 %, down 1.4-2.0 %, up 1.3-1.8 %, the head
1.0-1.4 %, q and k 0.9-1.4 %, gate 0.9-1.4 %, o 0.5-0.7 %; two digits everywhere 0.02 %, three for
two elements 0.23 %. All inputs in one digit, as llama.cpp has them, make 3.2-4.5 %, all in bfloat16
0.6-0.9 %. One digit takes three quarters of the arithmetic, so it goes where much time is spent and
little is lost: o and gate are 34 % of a layer's products and make 1.0-1.6 % together (the root of
the sum of squares; 1.1 % measured, with either form of the others). up would be another 25 % and
make 1.8 % in all. q and k would be another 13 %, but with them the model no longer knows the
capital of France.
"""

from __future__ import annotations

from collections.abc import Sequence

from vllm.quantization.weight import Weight

ONE_DIGIT = ("self_attn.o_proj.weight", "mlp.gate_proj.weight")


def count_coarse_rows(weights: Sequence[Weight], multiple: int) -> int:
    """Rows of the matrices, one below the other, that see one digit: the first ones.

    A multiple of `multiple`, unless it is all of them.
    """
    rows, total = 0, sum(weight.shape[0] for weight in weights)
    for weight in weights:
        if not weight.name.endswith(ONE_DIGIT):
            break
        rows += weight.shape[0]
    return rows if rows == total else rows // multiple * multiple
