# SPDX-License-Identifier: Apache-2.0
"""A step that hangs is reported once, with its shape and place, and is left alone."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from tests.models import make_llama
from tests.unit.engine.drive import request
from vllm.config.engine import EngineConfig
from vllm.engine.core import EngineCore
from vllm.engine.loop import EngineLoop
from vllm.engine.sockets import Incoming, Outgoing
from vllm.engine.watchdog import Watchdog, logger
from vllm.protocol.messages import RequestType


class Lines(logging.Handler):
    """What the watchdog says; `said` is set when it says something."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.said = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.said.set()


@pytest.fixture
def log() -> Iterator[Lines]:
    lines = Lines()
    logger.addHandler(lines)
    yield lines
    logger.removeHandler(lines)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_slow_step_is_reported_once_and_when_it_ends(log: Lines) -> None:
    clock = Clock()
    watchdog = Watchdog(10.0, lambda: "3 requests", clock)
    watchdog.check()
    watchdog.begin()
    clock.now += 9.9
    watchdog.check()
    assert log.lines == []
    clock.now += 1.0
    watchdog.check()
    watchdog.check()
    (line,) = log.lines
    assert line.startswith("a step has not ended for 10.9 s: 3 requests; it is at ")
    assert "in _place" in line  # this very thread, as deep as it goes
    clock.now += 5.0
    watchdog.end()
    assert log.lines[1:] == ["the step ended after 15.9 s"]


def test_quick_steps_and_idle_hours_say_nothing(log: Lines) -> None:
    clock = Clock()
    watchdog = Watchdog(10.0, lambda: "", clock)
    for _ in range(5):
        watchdog.begin()
        clock.now += 5.0
        watchdog.check()
        watchdog.end()
        clock.now += 10_000.0
        watchdog.check()
    assert log.lines == []


def test_the_loop_goes_on_after_a_step_that_hung(
    tmp_path: Path, log: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = EngineCore(EngineConfig(str(make_llama(tmp_path)), dequantize=True))
    inbox: SimpleQueue[Incoming | None] = SimpleQueue()
    outbox: SimpleQueue[Outgoing | None] = SimpleQueue()
    loop = EngineLoop(core, inbox, outbox, step_limit_s=0.3)
    forward = core.runner.model.forward

    def hang_until_reported(*args: Any) -> Any:
        assert log.said.wait(60)
        return forward(*args)

    monkeypatch.setattr(core.runner.model, "forward", hang_until_reported)
    inbox.put(Incoming(0, RequestType.ADD, request("r", [1, 2, 3], max_tokens=1)))
    thread = threading.Thread(target=loop.run)
    thread.start()
    output = None
    while output is None or not output.finished:
        item = outbox.get(timeout=60)
        assert item is not None and item.message is not None
        output = item.message.outputs[0]
    loop.stop()
    thread.join()
    assert "1 requests (0 of them one token), 3 tokens, longest context 3; it is at" in log.lines[0]
    assert "threading.py" in log.lines[0]
    assert len(output.new_token_ids) == 1
