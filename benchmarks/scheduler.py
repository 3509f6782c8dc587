# SPDX-License-Identifier: Apache-2.0
"""The scheduler alone, without tensors: requests scheduled per second of CPU time.

Owns the workloads. A request counts once per step it is in; sampling is a constant. `decode` keeps
a full batch decoding while others wait, `traffic` mixes arrivals under four system prompts, chunked
prompts, ends and preemptions. Both run with 10 and with 100,000 requests in the queue.
"""

from __future__ import annotations

import random
import time

from benchmarks.table import Row, Samples
from vllm.engine.request import Request
from vllm.kvcache.manager import KVCacheManager
from vllm.scheduler.scheduler import Limits, Scheduler

SEQS, TOKENS, BLOCKS, BLOCK_SIZE = 128, 2048, 8192, 16
WAITING = (10, 100_000)
SCHEDULED = 200_000


class Load:
    """A scheduler whose queue is refilled to `waiting` requests after every step."""

    def __init__(self, waiting: int, prompt: int, output: int) -> None:
        self.scheduler = Scheduler(
            Limits(SEQS, TOKENS), KVCacheManager(BLOCKS, BLOCK_SIZE, caching=True)
        )
        self.rng = random.Random(7)
        self.systems = [self._text(prompt * 3 // 4) for _ in range(4)]
        self.own = prompt - len(self.systems[0])
        self.output = output
        self.arrivals = 0
        self.waiting = waiting
        self.refill()

    def _text(self, length: int) -> list[int]:
        return [self.rng.randrange(32_000) for _ in range(length)]

    def refill(self) -> None:
        """Arrivals; their tokens are made up outside of what is timed."""
        while self.scheduler.num_waiting < self.waiting:
            prompt = self.rng.choice(self.systems) + self._text(self.own)
            self.scheduler.add(Request(str(self.arrivals), prompt, None, order=self.arrivals))
            self.arrivals += 1

    def step(self) -> int:
        """Schedule, complete, append a token to who is due, end who is done."""
        scheduler = self.scheduler
        batch = scheduler.schedule()
        scheduler.complete(batch)
        for request in batch.requests:
            if request.num_computed_tokens == request.num_tokens:
                request.output_token_ids.append(1)
                if request.num_output_tokens >= self.output:
                    scheduler.remove(request)
        return len(batch.requests)

    def rate(self) -> float:
        """Scheduled requests per second of this process's CPU time, arrivals left out."""
        done, spent = 0, 0.0
        while done < SCHEDULED:
            start = time.process_time()
            done += self.step()
            spent += time.process_time() - start
            self.refill()
        self.scheduler.check_integrity()
        return done / spent


def run(repeats: int) -> list[Row]:
    """All rows, in scheduled requests per second of CPU time."""
    samples = Samples()
    for _ in range(repeats):
        for waiting in WAITING:
            samples.add(f"decode, {waiting} waiting", Load(waiting, 64, 512).rate())
            samples.add(f"traffic, {waiting} waiting", Load(waiting, 256, 32).rate())
    return [Row(name, "request/s of CPU", samples[name], None, "higher") for name in samples]
