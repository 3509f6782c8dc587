# SPDX-License-Identifier: Apache-2.0
"""`generate` of Hugging Face's transformers on a directory in bfloat16, as JSON on stdout.

Run by `benchmarks.dense` with an interpreter that has transformers; imports nothing of ours.

    python transformers_peer.py DIRECTORY THREADS PROMPT OUTPUT PREFILL BATCH...
"""

from __future__ import annotations

import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM


def seconds(model, batch: int, prompt: int, output: int) -> float:
    """From the prompts to the last of `output` tokens each."""
    ids = torch.randint(10, 1000, (batch, prompt))
    start = time.perf_counter()
    model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, min_new_tokens=output,
        max_new_tokens=output, pad_token_id=0,
    )  # fmt: skip
    return time.perf_counter() - start


def main() -> None:
    directory, *numbers = sys.argv[1:]
    threads, prompt, output, prefill, *batches = map(int, numbers)
    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16)
    seconds(model, 1, prompt, 2)
    rates = {}
    for batch in batches:
        decode = seconds(model, batch, prompt, output + 1) - seconds(model, batch, prompt, 1)
        rates[f"BF16 decode B={batch}"] = batch * output / decode
    rates[f"BF16 prefill {prefill}"] = prefill / seconds(model, 1, prefill, 1)
    print(json.dumps(rates))


if __name__ == "__main__":
    main()
