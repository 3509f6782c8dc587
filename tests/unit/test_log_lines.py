# SPDX-License-Identifier: Apache-2.0
"""The log's queue: nobody waits for its reader, and what it lost is told."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vllm import logging
from vllm.log_lines import MOST_LINES, LineQueue, open_standard_streams, writer

PATIENCE_S = 60.0
ROOT = Path(__file__).resolve().parents[2]


def test_lines_without_room_are_dropped_and_told_of() -> None:
    gate, written = threading.Event(), list[str]()

    def write(text: str) -> None:
        assert gate.wait(PATIENCE_S)
        written.append(text)

    lines = LineQueue(write, lambda dropped: f"{dropped} lost")
    for number in range(MOST_LINES + 10):
        lines.put(str(number))
    lost = lines.dropped
    assert lost in (9, 10)  # one line may be with the writer already
    lines.flush(0.01)  # the reader stalls: this ends all the same
    gate.set()
    lines.flush(PATIENCE_S)
    assert written[:2] == ["0", f"{lost} lost"]
    assert len(written) == MOST_LINES + 10 - lost + 1


def test_lines_that_cannot_be_written_are_counted() -> None:
    def write(text: str) -> None:
        raise BrokenPipeError

    lines = LineQueue(write, str)
    lines.put("x")
    lines.flush(PATIENCE_S)
    assert lines.dropped == 1


def test_a_line_is_written_whole_to_a_pipe_that_never_blocks() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    text = "x" * (1 << 20)
    with os.fdopen(writing, "w") as stream:
        thread = threading.Thread(target=writer(stream), args=(text,))
        thread.start()
        with os.fdopen(reading, "rb") as reader:
            assert reader.read(len(text)) == text.encode()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_a_closed_stream_is_no_failure_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    logging.setup("test")
    stream.close()
    logging.init_logger(__name__).warning("nobody sees this")
    logging.flush()


CLOSED = """
import os, sys
for number in range(3):
    os.close(number)
sys.stdin = sys.stdout = sys.stderr = None
from vllm.log_lines import open_standard_streams
open_standard_streams()
assert os.open(os.devnull, os.O_RDONLY) > 2
assert all(os.get_inheritable(number) for number in range(3))
print("goes nowhere", file=sys.stderr, flush=True)
"""


def test_standard_streams_that_were_closed_take_no_sockets_number() -> None:
    assert subprocess.run([sys.executable, "-c", CLOSED], cwd=ROOT, check=False).returncode == 0
    before = sys.stderr
    open_standard_streams()
    assert sys.stderr is before


STALLED = """
import os, sys, time
reading, writing = os.pipe()
os.set_blocking(writing, False)
try:
    while True:
        os.write(writing, bytes(4096))
except BlockingIOError:
    os.set_blocking(writing, True)
os.dup2(writing, 2)
from vllm import logging
logging.setup("test")
for number in range(10000):
    logging.init_logger("x").warning("line %d", number)
logging.say("more")
"""


def test_a_program_with_a_stalled_reader_ends() -> None:
    done = subprocess.run([sys.executable, "-c", STALLED], cwd=ROOT, timeout=120, check=False)
    assert done.returncode == 0
