# SPDX-License-Identifier: Apache-2.0
"""The Python half reads and writes the golden vectors (README.md in this folder)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.wire import make_golden
from tests.wire.golden_io import FOLDER, load, to_value
from vllm.protocol.codec import (
    Decoder,
    Encoder,
    OutputsDecoder,
    RequestDecoder,
    is_death,
    recover_call,
    recover_request_id,
)
from vllm.protocol.errors import DecodeError
from vllm.protocol.messages import (
    ENGINE_CORE_DEAD,
    CoordinatorUpdate,
    EngineCoreReadyResponse,
    EngineHello,
    EngineInit,
    FinishReason,
    RequestType,
)

READERS = {
    "outputs": OutputsDecoder,
    "hello": lambda: Decoder(EngineHello),
    "init": lambda: Decoder(EngineInit),
    "registration": lambda: Decoder(EngineCoreReadyResponse),
    "coordinator_update": lambda: Decoder(CoordinatorUpdate),
    "request": RequestDecoder,
}
GOOD = load("requests", "outputs", "startup", "coordinator")
BROKEN = load("broken")


def read(case: dict[str, Any]) -> Any:
    return READERS[case["kind"]]().decode(case["frames"])


def names(cases: list[dict[str, Any]]) -> dict[str, Any]:
    return {"argvalues": cases, "ids": [case["name"] for case in cases]}


@pytest.mark.parametrize("case", **names([c for c in GOOD if c["kind"] != "death"]))
def test_reads(case: dict[str, Any]) -> None:
    message = read(case)
    if case["kind"] == "request":
        kind, body = message
        assert {"type": kind.name, "message": to_value(body)} == case["value"]
        return
    if "failed" in case:
        failed = [o for o in message.outputs if o.error is not None]
        assert [o.request_id for o in failed] == case["failed"]
        assert all(o.finish_reason is FinishReason.ERROR for o in failed)
        message.outputs = [o for o in message.outputs if o.error is None]
    assert to_value(message) == case["value"]


@pytest.mark.parametrize("case", **names([c for c in GOOD if c.get("encode")]))
def test_writes_the_same_bytes(case: dict[str, Any]) -> None:
    message = read(case)
    encoder = Encoder()
    if case["kind"] == "request":
        frames = encoder.encode_request(*message)
    elif case["kind"] == "hello":
        frames = encoder.encode(message.to_map())
    else:
        frames = encoder.encode(message)
    assert [bytes(frame).hex() for frame in frames] == [f.hex() for f in case["frames"]]


@pytest.mark.parametrize("case", **names(BROKEN))
def test_refuses(case: dict[str, Any]) -> None:
    with pytest.raises(DecodeError):
        read(case)
    if case["kind"] == "request":
        assert recovered(case["frames"]) == case["recovered"]


def recovered(frames: list[bytes]) -> Any:
    """Whom an engine can answer although the message cannot be read."""
    if len(frames) < 2 or len(frames[0]) != 1:
        return None
    if frames[0][0] == RequestType.ADD:
        return recover_request_id(frames[1])
    if frames[0][0] == RequestType.UTILITY:
        call = recover_call(frames[1])
        return None if call is None else list(call)
    return None


def test_death_is_seen_before_decoding() -> None:
    (case,) = [case for case in GOOD if case["kind"] == "death"]
    assert case["frames"] == [ENGINE_CORE_DEAD]
    assert is_death(case["frames"])
    assert not is_death([ENGINE_CORE_DEAD, b""])
    assert not is_death([ENGINE_CORE_DEAD + b"!"])


@pytest.mark.parametrize("name", make_golden.FILES)
def test_files_are_what_the_script_writes(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == make_golden.render(name)
