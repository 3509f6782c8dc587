# SPDX-License-Identifier: Apache-2.0
"""Children: configuration by descriptor, ends in words, none left."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time

import pytest

from vllm import children
from vllm.errors import EngineStartError, ExitCode

ECHO = """
import json, os, sys
arguments = json.load(os.fdopen(int(sys.argv[sys.argv.index("--args-fd") + 1])))
sys.exit(arguments["code"] + ("VLLM_API_KEY" in os.environ))
"""
STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write({}, b"x")
time.sleep(100)
"""


def test_the_configuration_arrives_and_keys_are_not_inherited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    child = children.start("echo", [sys.executable, "-c", ECHO], {"code": 40, "key": "secret"})
    assert child.wait(60)
    assert child.process.returncode == 40
    assert "exit code 40" in child.describe_end()
    assert child.told_code is None


def test_codes_of_the_table_were_told_by_the_child() -> None:
    child = children.start("echo", [sys.executable, "-c", ECHO], {"code": int(ExitCode.MODEL)})
    assert child.wait(60)
    assert child.told_code == ExitCode.MODEL


@pytest.mark.parametrize(
    ("name", "cause"), [("SIGKILL", "out of memory"), ("SIGBUS", "a model file that was cut short")]
)
def test_a_signal_is_told_with_its_usual_cause(name: str, cause: str) -> None:
    program = f"import os, signal; os.kill(os.getpid(), signal.{name})"
    child = children.start("victim", [sys.executable, "-c", program], {})
    assert child.wait(60)
    assert f"was ended by {name}: {cause}" in child.describe_end()


def test_a_child_that_ignores_sigterm_is_killed_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where an earlier test set the log up, its lines do not reach the root's handlers.
    monkeypatch.setattr(children.logger, "handlers", [caplog.handler])
    reader, writer = os.pipe()
    program = STUBBORN.format(writer)
    child = children.start("stubborn", [sys.executable, "-c", program], {}, (writer,))
    os.close(writer)
    assert os.read(reader, 1) == b"x"
    began = time.monotonic()
    children.stop([child], 0.1)
    assert time.monotonic() - began < 60
    assert child.process.returncode == -signal.SIGKILL
    assert "SIGKILL" in child.describe_end()
    assert "stubborn" in caplog.text
    assert "did not end within 0.1 s of SIGTERM and is killed" in caplog.text
    os.close(reader)


def test_a_child_that_the_system_has_no_room_for() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        with pytest.raises(EngineStartError, match=r"engine 0 .*Too many open files; see `ulimit"):
            children.start("engine 0", [sys.executable], {}, failure=EngineStartError)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_signals_without_a_name_are_told_by_number() -> None:
    assert children.signal_name(signal.SIGKILL) == "SIGKILL"
    assert children.signal_name(signal.SIGRTMIN + 6) == f"signal {signal.SIGRTMIN + 6}"
