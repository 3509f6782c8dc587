# SPDX-License-Identifier: Apache-2.0
"""Faults of engines and of clients while 500 other streams run: nothing takes the frontend down.

Each test holds the built frontend to the same: its process stays, the other streams get every byte
of their own answers, and when all is quiet its memory is back where it was.
"""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.crowd import Crowd, http_request, one
from tests.e2e.doubles import CONTEXT, Deployment, Double, deployment, raise_descriptor_limit
from tests.e2e.server import PATIENCE_S, wait_for
from vllm.protocol.listeners import Listener

OTHERS = 500
WELL, VICTIM = 0, 1  # ranks
GROWTH = 1.2
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(16) + bytes(32)
HUGE_FRAME = b"\x02" + struct.pack(">Q", 256 << 30)


class Scene:
    """The frontend, an engine that is always well, one that is not; `warm`: memory in bytes."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.well = deployment.double(WELL, 1, "--max-batch", "1000", "--step-ms", "20")
        self.victim = self.start_victim()
        deployment.wait_healthy()
        self.pid = deployment.process.pid
        with self.others():
            pass
        self.warm = deployment.memory()

    def start_victim(self) -> Double:
        return self.deployment.double(VICTIM, 1, "--max-batch", "1000", "--step-ms", "5")

    @contextlib.contextmanager
    def others(self) -> Iterator[Crowd]:
        """500 streams of the engine that is well, which end after the body, whole and unharmed."""
        tokens = self.well.counters()["tokens"]
        with Crowd(self.deployment.port, OTHERS, WELL) as crowd:
            crowd.wait_started()
            yield crowd
            assert crowd.running == OTHERS
            self.well.finish()
            assert crowd.check() == self.well.counters()["tokens"] - tokens
        assert self.deployment.process.poll() is None, self.deployment.log

    def wait_quiet(self) -> None:
        """Nothing runs anywhere, and the memory is given back."""
        wait_for(lambda: self.deployment.metric("num_requests_running") == 0, "the gauge at 0")
        for double in self.deployment.doubles:
            if double.process.poll() is None:
                wait_for(double.is_idle, "an engine without requests")
        self.deployment.wait_memory(GROWTH * self.warm, "the memory of an idle frontend")

    def is_ready(self, rank: int) -> bool:
        """Whether a request to an engine is answered."""
        with one(self.deployment.port, rank, max_tokens=2) as crowd:
            crowd.wait_ended()
            return crowd.streams[0].status == 200

    def replace_victim(self) -> None:
        """Another process in the victim's place; the frontend takes it in."""
        self.victim.close()
        self.deployment.doubles.remove(self.victim)
        self.victim = self.start_victim()
        wait_for(lambda: self.is_ready(VICTIM), "the new engine to be taken in")


@pytest.fixture(scope="module")
def scene(tiny_model: Path) -> Iterator[Scene]:
    raise_descriptor_limit()
    # Three seconds of silence: a busy machine must not look like a dead engine.
    with deployment(tiny_model, 2, engine_silence_timeout=3) as running:
        yield Scene(running)


@pytest.mark.parametrize("kind", ["garbage", "tenth", "missing-stats", "empty"])
def test_a_message_that_says_too_much_or_too_little_harms_nobody(scene: Scene, kind: str) -> None:
    with scene.others(), Crowd(scene.deployment.port, 5, VICTIM) as crowd:
        crowd.wait_started()
        # Once in the engine of few streams, once in the engine of all others.
        scene.victim.fault(kind)
        scene.well.fault(kind)
        scene.victim.finish()
        crowd.check()
    scene.wait_quiet()
    assert scene.deployment.status("/health") == 200


@pytest.mark.parametrize("kind", ["wrong-type", "bad-finish", "truncated"])
def test_an_output_that_cannot_be_decoded_fails_the_requests_it_names(
    scene: Scene, kind: str
) -> None:
    with scene.others(), one(scene.deployment.port, VICTIM) as crowd:
        crowd.wait_started()
        scene.victim.fault(kind)
        crowd.wait_ended()
        error = crowd.streams[0].error()
        assert (error["code"], error["type"]) == ("engine_error", "server_error")
        assert "cmpl-" not in error["message"]
        assert not any(character.isdigit() for character in error["message"]), "somebody's tokens?"
        assert scene.is_ready(VICTIM)
    scene.wait_quiet()


@pytest.mark.parametrize("kind", ["wrong-type", "bad-finish"])
def test_an_undecodable_output_among_500_fails_one_request_of_its_message(
    scene: Scene, kind: str
) -> None:
    """The first output of a step with all others."""
    with Crowd(scene.deployment.port, OTHERS, WELL) as crowd:
        crowd.wait_started()
        scene.well.fault(kind)
        wait_for(lambda: crowd.running == OTHERS - 1, "the end of the one")
        scene.well.finish()
        crowd.wait_ended()
        failed = [stream for stream in crowd.streams if b'"error"' in stream.received]
        assert [stream.error()["code"] for stream in failed] == ["engine_error"]
        for stream in crowd.streams:
            if stream not in failed:
                stream.check()
    scene.wait_quiet()


def _kill(scene: Scene) -> None:
    scene.victim.signal(signal.SIGKILL)


def _order(kind: str) -> Callable[[Scene], None]:
    return lambda scene: scene.victim.fault(kind)


@pytest.mark.parametrize(
    "end",
    [_order("die"), _order("sentinel"), _kill],
    ids=["exit", "farewell", "SIGKILL"],
)
def test_an_engine_that_ends_fails_its_own_requests(
    scene: Scene, end: Callable[[Scene], None]
) -> None:
    with scene.others():
        with Crowd(scene.deployment.port, 20, VICTIM) as crowd:
            crowd.wait_started()
            end(scene)
            crowd.wait_ended()
            codes = {stream.error()["code"] for stream in crowd.streams}
        assert codes == {"engine_unavailable"}
        wait_for(lambda: not scene.is_ready(VICTIM), "the engine to count as lost")
        assert scene.deployment.status("/health") == 200
        assert scene.deployment.metric("kv_cache_usage_perc", engine=str(VICTIM)) == 0
        scene.replace_victim()
    scene.wait_quiet()


def test_an_engine_that_connects_anew_is_taken_in_again(scene: Scene) -> None:
    with scene.others():
        with one(scene.deployment.port, VICTIM) as crowd:
            crowd.wait_started()
            scene.victim.fault("disconnect")
            crowd.wait_ended()
            assert crowd.streams[0].error()["code"] == "engine_unavailable"
        wait_for(lambda: scene.is_ready(VICTIM), "the engine to be taken in again")
    scene.wait_quiet()


def _stop(scene: Scene) -> None:
    scene.victim.signal(signal.SIGSTOP)


@pytest.mark.parametrize("hang", [_stop, _order("silent")], ids=["SIGSTOP", "deadlock"])
def test_an_engine_that_hangs_fails_its_own_requests(
    scene: Scene, hang: Callable[[Scene], None]
) -> None:
    with scene.others():
        with Crowd(scene.deployment.port, 20, VICTIM) as crowd:
            crowd.wait_started()
            hang(scene)
            crowd.wait_ended()
            assert {s.error()["code"] for s in crowd.streams} == {"engine_unavailable"}
        assert scene.deployment.status("/health") == 200
        if hang is _stop:
            scene.victim.signal(signal.SIGCONT)
            wait_for(lambda: scene.is_ready(VICTIM), "the engine to be taken back")
        else:
            scene.replace_victim()
    scene.wait_quiet()


@pytest.mark.parametrize("plane", [0, 1], ids=["input", "output"])
def test_a_header_of_256_gib_closes_its_connection_and_no_other(scene: Scene, plane: int) -> None:
    kind = (b"DEALER", b"PUSH")[plane]
    before = scene.deployment.log.count("274877906944")
    with scene.others():
        said = _say(scene.deployment.planes[plane], GREETING + _ready(kind) + HUGE_FRAME)
        assert said.startswith(GREETING[:10]), said
        wait_for(
            lambda: scene.deployment.log.count("274877906944") == before + 1, "one line in the log"
        )
    scene.wait_quiet()


def test_bytes_of_no_protocol_close_their_connections(scene: Scene) -> None:
    chance = random.Random(7)
    with scene.others():
        for plane in scene.deployment.planes:
            for _ in range(20):
                _say(plane, chance.randbytes(200))
                _say(plane, GREETING + chance.randbytes(200))
    scene.wait_quiet()


def _ready(kind: bytes) -> bytes:
    body = b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind
    return b"\x04" + bytes([len(body)]) + body


def _say(plane: Listener, data: bytes) -> bytes:
    """Send bytes to a socket of the engines; what is answered until it closes."""
    with socket.socket(socket.AF_UNIX) as hostile:
        hostile.settimeout(PATIENCE_S)
        hostile.connect(plane.sock.getsockname())
        heard = b""
        with contextlib.suppress(ConnectionError):
            hostile.sendall(data)
            hostile.shutdown(socket.SHUT_WR)
            while data := hostile.recv(4096):
                heard += data
        return heard


def test_1000_clients_that_leave_at_any_moment_leave_nothing(scene: Scene) -> None:
    chance = random.Random(5)
    with scene.others():
        for _ in range(10):
            with contextlib.ExitStack() as stack:
                for _ in range(100):
                    stack.callback(_begin(scene.deployment.port, chance))
        wait_for(scene.victim.is_idle, "the victim's requests to end")
        wait_for(lambda: scene.well.counters()["open"] == OTHERS, "only the others' requests")
        wait_for(lambda: scene.deployment.metric("num_requests_running") == OTHERS, "the gauge")
    scene.wait_quiet()


def _begin(port: int, chance: random.Random) -> Callable[[], None]:
    """Ask for something endless, or half of it; leaving comes later, politely or not."""
    body = {
        "prompt": [1], "max_tokens": 100_000, "ignore_eos": True,
        "n": chance.choice([1, 1, 3]), "stream": chance.random() < 0.7,
    }  # fmt: skip
    data = http_request(body, {"X-data-parallel-rank": str(VICTIM)})
    if chance.random() < 0.2:
        data = data[: chance.randrange(len(data))]
    sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    sock.sendall(data)
    if body["stream"] and data.endswith(b"}") and chance.random() < 0.5:
        sock.recv(chance.choice([1, 100, 4096]))
    if chance.random() < 0.5:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return sock.close


def test_requests_that_break_other_servers_are_refused_by_name(scene: Scene) -> None:
    with scene.others():
        post = scene.deployment.post
        body = {"prompt": [1], "max_tokens": 4}
        for wrong in (True, 7, [1], 0.5):
            reply = post("/v1/completions", body | {"structured_outputs": {"json": wrong}})
            assert reply.status_code == 400, reply.text
            assert "structured_outputs" in reply.json()["error"]["message"]
        reply = post("/v1/completions", body | {"prompt": [1] * (CONTEXT + 1)})
        assert reply.status_code == 400
        assert str(CONTEXT) in reply.text
        assert str(CONTEXT + 1) in reply.text
        assert scene.is_ready(VICTIM)
    scene.wait_quiet()
