# SPDX-License-Identifier: Apache-2.0
"""An engine process, seen by raw peers: start, requests, faults, signals, deaths."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.wire.golden_io import load
from tests.wire.peers import (
    ROOT,
    SCRIPTED,
    EngineUnderTest,
    Frontend,
    engine,
    is_running,
    request,
    wait_until,
)
from vllm.errors import ExitCode
from vllm.protocol.errors import SHUTTING_DOWN
from vllm.protocol.messages import (
    ENGINE_CORE_DEAD,
    FinishReason,
    RequestType,
    UtilityRequest,
)

FOREVER = 1_000_000
SLOW = {"step_s": 0.01}


@pytest.fixture(scope="module")
def shared() -> Any:
    """One engine with two frontends for the tests that leave it as it was."""
    with engine(frontends=2, engine=SLOW) as running:
        yield running.start()


@pytest.fixture
def frontend(shared: EngineUnderTest) -> Frontend:
    return shared.frontends[0]


# -------------------------------------------------------------------------------------------- start


def test_handshake_and_registration() -> None:
    with engine(frontends=2, engine_index=258, local=False, headless=True) as under_test:
        under_test.spawn()
        hello = under_test.hello()
        assert (hello.status, hello.local, hello.headless) == ("HELLO", False, True)
        assert under_test.identity == b"\x02\x01"
        under_test.init()
        for peer in under_test.frontends:
            assert peer.registration().max_model_len == 256
            assert peer.engine == b"\x02\x01"
        assert under_test.hello().status == "READY"
        under_test.process.terminate()
        log = under_test.end()
        assert "weights: " in log
        assert "ready: " in log


def test_no_init_in_time() -> None:
    with engine(init_timeout=0.1) as under_test:
        under_test.spawn()
        under_test.hello()
        log = under_test.end()
        assert under_test.process.returncode == ExitCode.ENGINE_START
        assert log.count("\n") == 1
        assert "no INIT from ipc://" in log


def test_failure_to_load_is_one_line_with_its_exit_code() -> None:
    with engine(engine={"fail_start": "model.gguf is cut short"}) as under_test:
        under_test.spawn()
        under_test.hello()
        under_test.init()
        log = under_test.end()
        assert under_test.process.returncode == ExitCode.MODEL
        assert log.count("\n") == 1
        assert "model.gguf is cut short" in log


@pytest.mark.parametrize("changes", [{"parallel_config": {"data_parallel_size": 2}}])
def test_coordination_is_refused_by_name(changes: dict[str, Any]) -> None:
    with engine() as under_test:
        under_test.spawn()
        under_test.hello()
        under_test.init(**changes)
        assert "coordinated data parallelism" in under_test.end()
        assert under_test.process.returncode == ExitCode.ENGINE_START


@pytest.mark.parametrize(
    ("args", "line"),
    [
        ("{", "truncated"),
        ("[]", "Expected `object`"),
        ('{"handshake": "ipc:///x", "colour": 1}', "unknown keys colour"),
        ('{"handshake": "ipc:///x", "engine_index": "0"}', "engine_index"),
        ('{"handshake": "ipc:///x", "engine_index": 65536}', "65535"),
        ('{"handshake": "nonsense"}', "nonsense"),
    ],
)
def test_bad_arguments_end_in_one_line(args: str, line: str) -> None:
    command = [sys.executable, "-m", "vllm.engine", "--args-json", args]
    done = subprocess.run(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    assert done.returncode in {ExitCode.USAGE, ExitCode.ENGINE_START}
    assert done.stderr.count("\n") == 1
    assert line in done.stderr


def test_arguments_come_from_a_descriptor() -> None:
    reading, writing = os.pipe()
    os.write(writing, json.dumps({"handshake": "nonsense"}).encode())
    os.close(writing)
    done = subprocess.run(
        [sys.executable, "-m", "vllm.engine", "--args-fd", str(reading)],
        cwd=ROOT,
        pass_fds=[reading],
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(reading)
    assert "nonsense" in done.stderr


# ----------------------------------------------------------------------------------------- requests


def test_request_with_logprobs(frontend: Frontend) -> None:
    frontend.add("logprobs", max_tokens=3, logprobs=2)
    outputs = list(frontend.outputs("logprobs"))
    assert [output.new_token_ids for output in outputs] == [[11], [12], [13]]
    assert all(output.new_logprobs.logprobs.shape == (1, 3) for output in outputs)
    assert outputs[-1].finish_reason is FinishReason.LENGTH
    assert outputs[0].prefill_stats.num_prompt_tokens == 1


def test_statistics_and_version_come_with_a_step(frontend: Frontend) -> None:
    frontend.add("stats", max_tokens=1)
    message = frontend.message()
    assert message.scheduler_stats.step_counter > 0
    assert message.weight_version == "default"
    assert message.timestamp > 0


@pytest.mark.parametrize("script", ["refuse", "crash"])
def test_core_refuses_one_request(frontend: Frontend, script: str) -> None:
    frontend.add(script, max_tokens=FOREVER, extra_args={script: "engine_paused"})
    (output,) = frontend.outputs(script)
    assert output.finish_reason is FinishReason.ERROR
    refused = script == "refuse"
    assert output.error.code == ("engine_paused" if refused else "internal_error")
    assert output.error.retryable is refused
    assert "scripted" not in output.error.message or refused


def test_abort_gets_no_answer_but_fresh_statistics(frontend: Frontend) -> None:
    frontend.add("aborted", max_tokens=FOREVER)
    next(frontend.outputs("aborted"))
    frontend.send(RequestType.ABORT, ["aborted", "unknown"])
    while (message := frontend.message()).scheduler_stats.num_running_reqs:
        pass
    assert message.outputs == []
    assert "aborted" in frontend.call("aborted_requests").result.value
    assert "unknown" not in frontend.call("aborted_requests").result.value


def test_running_id_is_refused(shared: EngineUnderTest) -> None:
    one, other = shared.frontends
    one.add("twice", max_tokens=FOREVER)
    next(one.outputs("twice"))
    other.add("twice", max_tokens=1)
    (output,) = other.outputs("twice")
    assert "is running" in output.error.message
    assert one.call("running_requests").result.value == ["twice"]
    one.send(RequestType.ABORT, ["twice"])


def test_frontends_get_their_own_outputs(shared: EngineUnderTest) -> None:
    one, other = shared.frontends
    one.add("of-one", [20], max_tokens=20)
    other.add("of-other", [40], max_tokens=20)
    assert one.result("of-one")[0] == list(range(21, 41))
    assert other.result("of-other")[0] == list(range(41, 61))


def test_one_frontend_gets_the_statistics_of_a_step() -> None:
    with engine(frontends=2, engine=SLOW) as under_test:
        under_test.start()
        for peer in under_test.frontends:
            peer.add(f"r{peer.index}", max_tokens=20)
        seen: list[int] = []
        for peer in under_test.frontends:
            while True:
                message = peer.message()
                if message.scheduler_stats is not None:
                    seen.append(message.scheduler_stats.step_counter)
                if message.outputs and message.outputs[0].finished:
                    break
        assert seen
        assert len(seen) == len(set(seen))


def test_other_frontends_requests_cannot_be_aborted(shared: EngineUnderTest) -> None:
    one, other = shared.frontends
    one.add("mine", max_tokens=30)
    other.send(RequestType.ABORT, ["mine"])
    assert len(one.result("mine")[0]) == 30


def test_client_index_of_another_frontend_is_refused(frontend: Frontend) -> None:
    for index in (1, 7):
        frontend.send(RequestType.ADD, request(f"as-{index}", client=index))
        (output,) = frontend.outputs(f"as-{index}")
        assert "client_index" in output.error.message


# ------------------------------------------------------------------------------------ broken bytes


@pytest.mark.parametrize(
    "case", [c for c in load("broken") if c["kind"] == "request"], ids=lambda c: c["name"]
)
def test_broken_message_costs_only_itself(frontend: Frontend, case: dict[str, Any]) -> None:
    frontend.send_frames(*case["frames"])
    recovered = case["recovered"]
    if isinstance(recovered, str):
        (output,) = frontend.outputs(recovered)
        assert output.error.code == "validation_error"
        assert output.error.message
    elif recovered is not None:
        assert frontend.answer(recovered[1]).failure_message
    assert frontend.call("is_sleeping").result.value is False


def test_error_names_field_and_limit(frontend: Frontend) -> None:
    (case,) = [c for c in load("broken") if c["name"] == "top_p 1.5"]
    frontend.send_frames(*case["frames"])
    (output,) = frontend.outputs("r-1")
    assert "top_p must be a finite number above 0 and at most 1, got 1.5" in output.error.message
    assert "sampling_params" in output.error.message


# ---------------------------------------------------------------------------------------- utilities


def test_utility_calls(frontend: Frontend) -> None:
    assert frontend.call("echo", [1, {"a": None}]).result.value == [[1, {"a": None}], None]
    assert frontend.call("is_sleeping", call_id=2**64 - 1).result.value is False
    assert frontend.call("add_lora", ["a", 1, "/p", None, False, False]).result.value is True


def test_a_call_may_wait_for_requests_to_end(frontend: Frontend) -> None:
    assert frontend.call("when_idle").result.value == "idle"
    frontend.add("r", [0], max_tokens=30)
    waiting = UtilityRequest(frontend.index, 7, "when_idle", [])
    frontend.send(RequestType.UTILITY, waiting)
    assert frontend.call("is_sleeping", call_id=8).result.value is False  # nothing is held up
    assert frontend.answer(7).result.value == "idle"
    outputs = [output for message in frontend.waiting for output in message.outputs]
    assert outputs[-1].finished  # its client was told before the answer
    frontend.waiting.clear()
    frontend.add("gone", [0], max_tokens=FOREVER)
    frontend.send(RequestType.UTILITY, waiting)
    frontend.send(RequestType.ABORT, ["gone"])
    assert frontend.answer(7).result.value == "idle"
    frontend.waiting.clear()


def test_a_call_that_waits_is_told_of_the_end() -> None:
    with engine() as under_test:
        peer = under_test.start().frontends[0]
        peer.send(RequestType.UTILITY, UtilityRequest(peer.index, 7, "never", []))
        assert peer.call("is_sleeping", call_id=8).result.value is False
        under_test.process.terminate()
        assert "shutting down" in peer.answer(7).failure_message
        under_test.end()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (["nothing"], "no utility 'nothing'"),
        (["_advance"], "no utility"),
        (["options"], "no utility"),
        (["step"], "no utility"),
        (["abort_requests", []], "no utility"),
        (["echo"], "missing a required argument: 'first'"),
        (["echo", 1, 2, 3], "too many positional arguments"),
        (["add_lora", ["a", 0, "/p"]], "request is not valid: lora_int_id must be at least 1"),
        (["set_weight_version", None], "argument version is not valid: Expected `str`, got `null`"),
        (["set_weight_version", ["v2"]], "argument version is not valid: Expected `str`"),
        (["reset_prefix_cache", "yes"], "argument reset_running is not valid: Expected `bool`"),
        (["fail"], "failed as scripted"),
        (["thing_without_a_form"], "no form on the wire"),
    ],
)
def test_utility_failures_are_answers(frontend: Frontend, call: list[Any], text: str) -> None:
    answer = frontend.call(*call)
    assert text in answer.failure_message
    assert answer.result is None
    assert frontend.call("get_weight_version").result.value == "default"


# -------------------------------------------------------------------------------------------- ends


def test_exception_in_a_step_is_told_to_all() -> None:
    with engine(frontends=2) as under_test:
        under_test.start()
        under_test.frontends[1].add("bomb", extra_args={"explode": True})
        for peer in under_test.frontends:
            assert peer.frames() == [ENGINE_CORE_DEAD]
        assert "exploded as scripted" in under_test.end()
        assert under_test.process.returncode == ExitCode.INTERNAL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_aborts_all(number: int) -> None:
    with engine(frontends=2, engine=SLOW) as under_test:
        under_test.start()
        for peer in under_test.frontends:
            peer.add("r", max_tokens=FOREVER) if peer.index == 0 else peer.add(
                "s", max_tokens=FOREVER
            )
            next(peer.outputs("rs"[peer.index]))
        under_test.process.send_signal(number)
        for peer in under_test.frontends:
            _, last = peer.result("rs"[peer.index])
            assert (last.finish_reason, last.error.code) == (FinishReason.ERROR, SHUTTING_DOWN)
        under_test.end()
        assert under_test.process.returncode == ExitCode.OK


def test_signal_wakes_an_idle_engine() -> None:
    with engine() as under_test:
        under_test.start()
        under_test.process.terminate()
        under_test.end()
        assert under_test.process.returncode == ExitCode.OK


def test_signal_before_init() -> None:
    with engine() as under_test:
        under_test.spawn()
        under_test.hello()
        under_test.process.terminate()
        under_test.end()
        assert under_test.process.returncode == ExitCode.OK


def test_draining_finishes_what_runs_and_takes_nothing_new() -> None:
    with engine(engine=SLOW, shutdown_timeout=60) as under_test:
        peer = under_test.start().frontends[0]
        peer.add("running", [0], max_tokens=200)
        next(peer.outputs("running"))
        under_test.process.terminate()
        wait_until(lambda: peer.call("is_sleeping").failure_message is not None, "draining")
        peer.add("late")
        collected = {"running": 1, "late": 0}
        last = {}
        while len(last) < 2:
            message = peer.waiting.pop(0) if peer.waiting else peer.message()
            for output in message.outputs:
                collected[output.request_id] += len(output.new_token_ids)
                if output.finished:
                    last[output.request_id] = output.finish_reason
        assert collected == {"running": 200, "late": 0}
        assert last == {"running": FinishReason.LENGTH, "late": FinishReason.ERROR}
        under_test.end()
        assert under_test.process.returncode == ExitCode.OK


@pytest.mark.parametrize("hurry", ["timeout", "second signal"])
def test_draining_has_an_end(hurry: str) -> None:
    seconds = 0.2 if hurry == "timeout" else 600
    with engine(engine=SLOW, shutdown_timeout=seconds) as under_test:
        peer = under_test.start().frontends[0]
        peer.add("r", max_tokens=FOREVER)
        next(peer.outputs("r"))
        under_test.process.terminate()
        if hurry == "second signal":
            wait_until(lambda: peer.call("is_sleeping").failure_message is not None, "draining")
            under_test.process.terminate()
        assert peer.result("r")[1].error.code == SHUTTING_DOWN
        under_test.end()
        assert under_test.process.returncode == ExitCode.OK


def test_engine_ends_with_its_parent() -> None:
    """However the parent ended; and no file is left behind."""
    with engine(engine=SLOW) as under_test:
        command = [*SCRIPTED, "--args-json", json.dumps(under_test.args)]
        parent = (
            "import subprocess, sys\n"
            f"child = subprocess.Popen({command!r})\n"
            "print(child.pid, flush=True)\n"
            "child.wait()\n"
        )
        under_test.process = subprocess.Popen(
            [sys.executable, "-c", parent], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        pid = int(under_test.process.stdout.readline())
        under_test.hello()
        under_test.init()
        peer = under_test.frontends[0]
        peer.registration()
        peer.add("r", max_tokens=FOREVER)
        next(peer.outputs("r"))
        under_test.process.kill()
        assert peer.result("r")[1].error.code == SHUTTING_DOWN
        wait_until(lambda: not is_running(pid), "the end of the engine")
        assert sorted(os.listdir(under_test.folder)) == ["h", "i0", "o0"]


def test_frontend_that_goes_away_does_not_disturb() -> None:
    with engine(frontends=2, engine=SLOW) as under_test:
        one, other = under_test.start().frontends
        one.add("lost", max_tokens=FOREVER)
        next(one.outputs("lost"))
        one.input.close(0)
        one.output.close(0)
        other.add("kept", max_tokens=50)
        assert len(other.result("kept")[0]) == 50


def test_idle_engine_takes_no_processor_time() -> None:
    with engine() as under_test:
        peer = under_test.start().frontends[0]
        peer.add("r", max_tokens=3)
        peer.result("r")
        before = cpu_seconds(under_test.process.pid)
        time.sleep(1.0)  # what is measured is a span of time
        assert cpu_seconds(under_test.process.pid) - before < 0.2


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
