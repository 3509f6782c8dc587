# SPDX-License-Identifier: Apache-2.0
"""Whatever bytes arrive: readers raise ``DecodeError`` and nothing else, and no loop ends."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fuzzing import examples
from tests.wire.golden_io import load
from tests.wire.peers import EngineUnderTest, Frontend, engine
from vllm.protocol.codec import (
    Decoder,
    OutputsDecoder,
    RequestDecoder,
    is_death,
    recover_call,
    recover_request_id,
)
from vllm.protocol.errors import DecodeError
from vllm.protocol.messages import (
    CoordinatorUpdate,
    EngineCoreReadyResponse,
    EngineHello,
    EngineInit,
    RequestType,
)

CASES = load("requests", "outputs", "startup", "coordinator", "broken")
READERS: list[Callable[[], Any]] = [
    RequestDecoder,
    OutputsDecoder,
    lambda: Decoder(EngineHello),
    lambda: Decoder(EngineInit),
    lambda: Decoder(EngineCoreReadyResponse),
    lambda: Decoder(CoordinatorUpdate),
]

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.builds(msgspec.msgpack.Ext, st.integers(-128, 127), st.binary(max_size=16))
    | st.sampled_from(["r-1", "<f4", "float32", "temperature", "json", b"\0" * 8])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=24)
        | st.dictionaries(st.text(max_size=8) | st.integers(0, 9), inner, max_size=6)
    ),
    max_leaves=40,
)


def read_with_all(frames: list[bytes]) -> None:
    for make in READERS:
        try:
            make().decode(frames)
        except DecodeError as error:
            assert str(error)
    is_death(frames)
    for frame in frames:
        recover_request_id(frame)
        recover_call(frame)


@settings(max_examples=examples(200))
@given(st.lists(st.binary(max_size=64), max_size=4))
@example([])
@example([b""])
@example([b"\0", b"\xdd\xff\xff\xff\xff"])
@example([b"\0", b"\x81\xdd\xff\xff\xff\xff"])
@example([b"\0", b"\x91" * 200_000])
@example([b"\0", b"\xdf\xff\xff\xff\xff\xc0"])
def test_bytes(frames: list[bytes]) -> None:
    read_with_all(frames)


@settings(max_examples=examples(200))
@given(VALUES, st.sampled_from(list(RequestType)))
def test_values_of_any_form(value: Any, kind: RequestType) -> None:
    payload = msgspec.msgpack.encode(value)
    read_with_all([payload])
    read_with_all([kind.frame, payload, b"\0" * 8])


@settings(max_examples=examples(200))
@given(st.sampled_from(CASES), st.integers(0, 1000), VALUES)
def test_messages_with_one_slot_replaced(case: dict[str, Any], at: int, value: Any) -> None:
    index = 1 if case["kind"] == "request" and len(case["frames"]) > 1 else 0
    frames = list(case["frames"])
    try:
        message = msgspec.msgpack.decode(frames[index], ext_hook=_keep)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    place(message, at, value)
    try:
        frames[index] = msgspec.msgpack.encode(message)
    except RecursionError:
        return
    read_with_all(frames)


def place(message: Any, at: int, value: Any) -> None:
    """Put ``value`` somewhere into a nested message; ``at`` says where."""
    while isinstance(message, list | dict) and message:
        keys = list(range(len(message))) if isinstance(message, list) else list(message)
        key = keys[at % len(keys)]
        at //= len(keys)
        if at == 0 or not isinstance(message[key], list | dict) or not message[key]:
            message[key] = value
            return
        message = message[key]


def _keep(code: int, data: memoryview) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(code, bytes(data))


def damaged(case: dict[str, Any], source: random.Random) -> list[bytes]:
    """The frames of a case with some bytes changed, cut, repeated or swapped."""
    frames = [bytearray(frame) for frame in case["frames"]] or [bytearray()]
    for _ in range(source.randint(1, 4)):
        frame = source.choice(frames)
        at = source.randrange(len(frame)) if frame else 0
        match source.randrange(5):
            case 0:
                frame[at : at + 1] = bytes([source.randrange(256)])
            case 1:
                del frame[at:]
            case 2:
                frame[at:at] = frame[at : at + source.randint(1, 9)]
            case 3:
                frame[at : at + 1] = source.choice([b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xc9"])
            case 4:
                source.shuffle(frames)
    return [bytes(frame) for frame in frames]


@pytest.mark.parametrize("seed", range(4))
def test_damaged_messages(seed: int) -> None:
    source = random.Random(seed)
    for _ in range(10):
        for case in CASES:
            if case["name"] != "nested too deeply":
                read_with_all(damaged(case, source))


@pytest.fixture(scope="module")
def running() -> Any:
    with engine() as under_test:
        yield under_test.start()


@pytest.mark.parametrize("seed", range(4))
def test_running_engine_survives(running: EngineUnderTest, seed: int) -> None:
    """Damaged messages and pure noise, then an ordinary request."""
    frontend: Frontend = running.frontends[0]
    source = random.Random(seed)
    requests = [case for case in CASES if case["kind"] == "request"]
    for case in requests:
        frontend.send_frames(*damaged(case, source))
        frontend.send_frames(*(source.randbytes(source.randrange(40)) for _ in range(3)))
    frontend.send(RequestType.ABORT, frontend.call("running_requests", call_id=7).result.value)
    frontend.add(f"after-{seed}", [5], max_tokens=3)
    assert frontend.result(f"after-{seed}")[0] == [6, 7, 8]
    assert running.process.poll() is None
