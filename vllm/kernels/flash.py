# SPDX-License-Identifier: Apache-2.0
"""The flash kernel that comes with torch (Dao 2023, arXiv 2307.08691), for prompts on a GPU.

Owns the call and where it can be made. Torch's public functions offer either one length for all
sequences or no choice of the scale in all the versions we accept.
"""

from __future__ import annotations

import torch
from torch import Tensor

OLDEST = (8, 0)  # compute capability that it is built for
WIDEST = 256  # elements of a head


def is_available(device: torch.device, dtype: torch.dtype | None, head_dim: int) -> bool:
    """For activations of this dtype there, with heads of `head_dim` elements."""
    return (
        device.type == "cuda"
        and head_dim <= WIDEST
        and dtype in (torch.bfloat16, torch.float16)
        and torch.backends.cuda.is_flash_attention_available()
        and torch.cuda.get_device_capability(device) >= OLDEST
    )


def attend_causally(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    query_starts: Tensor,
    key_starts: Tensor,
    longest_query: int,
    longest_context: int,
    scale: float,
) -> Tensor:
    """[T, heads, head_dim], like q; k and v [keys, kv_heads, head_dim].

    P sequences lie one after the other, from `query_starts` and `key_starts` i32 [P + 1]; the
    queries of each are the last of its keys. Heads are a multiple of kv_heads, head_dim one of 8 up
    to 256.
    """
    return torch.ops.aten._flash_attention_forward(
        q,
        k,
        v,
        query_starts,
        key_starts,
        longest_query,
        longest_context,
        0.0,  # dropout
        True,  # causal, aligned at the ends
        False,
        scale=scale,
    )[0]
