# SPDX-License-Identifier: Apache-2.0
"""The asyncio client against real engine processes around a scripted core, and against bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
import zmq
import zmq.asyncio

from tests.wire.peers import PATIENCE_S, ROOT, SCRIPTED, request
from vllm.api_server.metrics import Metrics
from vllm.protocol.client import AsyncEngineClient
from vllm.protocol.codec import Encoder
from vllm.protocol.errors import EngineDeadError, HandshakeError, UtilityError
from vllm.protocol.handshake import HandshakeOwner, engine_identity
from vllm.protocol.listeners import Listener, listen_ipc
from vllm.protocol.messages import (
    ENGINE_CORE_DEAD,
    EngineAddresses,
    EngineCoreOutput,
    EngineCoreOutputs,
    EngineCoreReadyResponse,
    EngineInit,
    FinishReason,
)
from vllm.protocol.silence import Patience

FOREVER = 1_000_000


@dataclass
class World:
    """Engines, a client that leads their handshake, and their sockets."""

    client: AsyncEngineClient
    arguments: dict[str, Any]
    engines: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def spawn(self, index: int) -> None:
        arguments = json.dumps(self.arguments | {"engine_index": index})
        command = [*SCRIPTED, "--args-json", arguments]
        self.engines.append(subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL))


@contextlib.asynccontextmanager
async def world(
    engines: int = 1, patience: Patience | None = None, **options: Any
) -> AsyncIterator[World]:
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="c"))
        data_in, data_out = (stack.enter_context(listen_ipc(folder)) for _ in range(2))
        addresses = EngineAddresses(inputs=[data_in.address], outputs=[data_out.address])
        owner = HandshakeOwner(range(engines), EngineInit(addresses=addresses))
        arguments = {"handshake": f"ipc://{folder}/h", "engine": {"step_s": 0.005} | options}
        here = World(None, arguments)  # type: ignore[arg-type]
        try:
            for index in range(engines):
                here.spawn(index)
            here.client = await AsyncEngineClient.connect_owning_handshake(
                handshake=arguments["handshake"],
                owner=owner,
                input=data_in,
                output=data_out,
                ready_timeout=PATIENCE_S,
                patience=patience,
            )
            async with here.client:
                yield here
        finally:
            for engine in here.engines:
                engine.kill()
                engine.wait()


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 2 * PATIENCE_S))


async def until(condition: Callable[[], Any], what: str) -> None:
    """Look again and again; the time limit of the test bounds it."""
    while True:
        result = condition()
        if await result if asyncio.iscoroutine(result) else result:
            return
        await asyncio.sleep(0.01)


async def collect(stream: Any) -> list[int]:
    return [token async for output in stream for token in output.new_token_ids]


def test_requests_utilities_and_statistics() -> None:
    async def test() -> None:
        async with world(max_model_len=99) as here:
            client = here.client
            assert client.registration.max_model_len == 99
            assert client.health == {0: None}
            streams = [client.submit(request(f"r{i}", [i], max_tokens=5)) for i in range(20)]
            results = await asyncio.gather(*map(collect, streams))
            assert results == [[i + 1, i + 2, i + 3, i + 4, i + 5] for i in range(20)]
            assert await client.utility("echo", 1, [2]) == [[1, [2]]]
            with pytest.raises(UtilityError, match="no utility 'nothing'"):
                await client.utility("nothing")
            assert client.stats[0].step_counter > 0
            queries, hits = client.cache_look_ups[0]
            assert queries >= 3 * 5  # at least the reports of five steps, added up
            assert hits * 3 == queries * 2
            page = Metrics("m").text(client)
            labels = '{model_name="m",engine="0"}'
            assert f"vllm:prefix_cache_queries_total{labels} {queries}\n" in page
            assert f"vllm:prefix_cache_hits_total{labels} {hits}\n" in page

    run(test)


def test_closing_a_stream_aborts() -> None:
    async def test() -> None:
        async with world() as here:
            client = here.client
            async with client.submit(request("early", max_tokens=FOREVER)) as stream:
                assert (await anext(stream)).new_token_ids == [11]
            async with client.submit(request("whole", max_tokens=1)) as stream:
                await collect(stream)

            async def aborted() -> bool:
                return await client.utility("aborted_requests") == [["early"]]

            await until(aborted, "the abort")
            assert await client.utility("running_requests") == [[]]
            with pytest.raises(StopAsyncIteration):
                await anext(stream)

    run(test)


def test_refusals_are_outputs() -> None:
    async def test() -> None:
        async with world() as here:
            refused = request("no", extra_args={"refuse": "engine_paused"})
            (output,) = [output async for output in here.client.submit(refused)]
            assert output.finish_reason is FinishReason.ERROR
            assert output.error is not None
            assert output.error.retryable
            wrong = request("wrong")
            assert wrong.sampling_params is not None
            wrong.sampling_params.top_p = 7.0  # past the checks of this side
            (output,) = [output async for output in here.client.submit(wrong)]
            assert output.error is not None
            assert "top_p" in output.error.message

    run(test)


def test_id_in_use_is_refused() -> None:
    async def test() -> None:
        async with world() as here:
            here.client.submit(request("same", max_tokens=FOREVER))
            with pytest.raises(ValueError, match="in use"):
                here.client.submit(request("same"))

    run(test)


def test_killed_engine_fails_its_requests_and_comes_back() -> None:
    async def test() -> None:
        async with world() as here:
            client = here.client
            stream = client.submit(request("r", max_tokens=FOREVER))
            await anext(stream)
            here.engines[0].kill()
            with pytest.raises(EngineDeadError, match="engine 0 closed its connection"):
                await collect(stream)
            assert not client.healthy
            with pytest.raises(EngineDeadError):
                client.submit(request("s"))
            with pytest.raises(EngineDeadError):
                await client.utility("is_sleeping")

    run(test)


def test_stopped_engine_fails_its_requests_and_is_taken_back() -> None:
    async def test() -> None:
        async with world(engines=2, patience=Patience(2.0)) as here:
            client = here.client
            streams = [client.submit(request(f"r{i}", max_tokens=FOREVER)) for i in range(2)]
            await asyncio.gather(*map(anext, streams))
            here.engines[0].send_signal(signal.SIGSTOP)
            stopped = next(index for index in (0, 1) if f"r{index}" in client._engines[0].streams)
            with pytest.raises(EngineDeadError, match=r"engine 0 did not answer within 2 s"):
                await collect(streams[stopped])
            assert client.health == {0: "engine 0 did not answer within 2 s", 1: None}
            await anext(streams[1 - stopped])
            assert len(await collect(client.submit(request("other", max_tokens=3)))) == 3
            here.engines[0].send_signal(signal.SIGCONT)
            await until(lambda: client.health == {0: None, 1: None}, "the engine to be back")
            streams[1 - stopped].close()

            async def is_idle() -> bool:
                return await client.utility("running_requests") == [[], []]

            await until(is_idle, "the aborts")

    run(test)


def test_idle_engine_is_asked_and_stays() -> None:
    async def test() -> None:
        async with world(patience=Patience(0.5)) as here:
            engine = here.client._engines[0]
            for _ in range(3):  # turns without any other message
                await until(lambda: engine.pulse.silent_turns > 0, "a silent turn")
                await until(lambda: engine.pulse.silent_turns == 0, "the answer")
            assert here.client.healthy

    run(test)


def test_long_call_suspends_the_question() -> None:
    async def test() -> None:
        async with world(patience=Patience(0.2)) as here:
            call = asyncio.ensure_future(here.client.utility("never"))
            await until(lambda: here.client._engines[0].calls, "the call")
            here.client._engines[0].pulse.silent_turns = 100
            for _ in range(3):
                await here.client._watch_silence()  # a look that must change nothing
            assert here.client.healthy
            call.cancel()

    run(test)


def test_exception_in_the_engine_is_told() -> None:
    async def test() -> None:
        async with world() as here:
            with pytest.raises(EngineDeadError, match="ended because of an error"):
                await collect(here.client.submit(request("r", extra_args={"explode": True})))
            assert not here.client.healthy

    run(test)


def test_several_engines() -> None:
    async def test() -> None:
        async with world(engines=2) as here:
            client = here.client
            assert client.registration.num_gpu_blocks == 200
            streams = [client.submit(request(f"r{i}", max_tokens=FOREVER)) for i in range(4)]
            await asyncio.gather(*(anext(stream) for stream in streams))
            running = await client.utility("running_requests")
            assert [len(ids) for ids in running] == [2, 2]
            named = request("named", max_tokens=1)
            named.data_parallel_rank = 1
            assert await collect(client.submit(named)) == [11]
            here.engines[1].kill()
            lost = [i for i in range(4) if f"r{i}" in running[1]]
            for i in lost:
                with pytest.raises(EngineDeadError):
                    await collect(streams[i])
            assert client.healthy
            assert client.health[1] is not None
            assert await collect(client.submit(request("after", max_tokens=2))) == [11, 12]
            with pytest.raises(EngineDeadError, match="engine 1 closed"):
                client.submit(named)

    run(test)


# ------------------------------------------------------------------------------ a scripted peer


@dataclass
class FakeEngine:
    """The engine's sockets without an engine: sends exactly what a test wants."""

    client: AsyncEngineClient
    input: zmq.asyncio.Socket
    output: zmq.asyncio.Socket

    async def send(self, *outputs: EngineCoreOutput, **slots: Any) -> None:
        await self.send_frames(Encoder().encode(EngineCoreOutputs(0, list(outputs), **slots)))

    async def send_frames(self, frames: list[Any]) -> None:
        await self.output.send_multipart(frames)


REGISTRATION = EngineCoreReadyResponse(
    max_model_len=1,
    num_gpu_blocks=1,
    block_size=1,
    dtype="float32",
    vllm_version="0",
    max_num_seqs=1,
    max_num_batched_tokens=1,
    instance_id="",
)


@contextlib.asynccontextmanager
async def fake_engine() -> AsyncIterator[FakeEngine]:
    with (
        tempfile.TemporaryDirectory(prefix="c") as folder,
        listen_ipc(folder) as data_in,
        listen_ipc(folder) as data_out,
        zmq.asyncio.Context() as context,
    ):
        dealer, push = context.socket(zmq.DEALER), context.socket(zmq.PUSH)
        dealer.setsockopt(zmq.IDENTITY, engine_identity(0))
        for peer, listener in ((dealer, data_in), (push, data_out)):
            peer.setsockopt(zmq.LINGER, 0)
            peer.connect(listener.address)
        await dealer.send_multipart(Encoder().encode(REGISTRATION))
        client = await AsyncEngineClient.connect(
            input=data_in, output=data_out, ready_timeout=PATIENCE_S
        )
        async with client:
            yield FakeEngine(client, dealer, push)
        dealer.close(0)
        push.close(0)


def test_messages_that_cannot_be_read_cost_only_themselves() -> None:
    async def test() -> None:
        async with fake_engine() as engine:
            one, other = (engine.client.submit(request(name)) for name in ("one", "other"))
            await engine.send_frames([b"\xc1"])
            await engine.send_frames([b"", b"", b""])
            bad = ["other", [2], None, None, None, 99]
            await engine.send_frames([msgspec.msgpack.encode([0, [["one", [1]], bad]])])
            await engine.send(EngineCoreOutput("one", [3], finish_reason=FinishReason.STOP))
            assert await collect(one) == [1, 3]
            (last,) = [output async for output in other]
            assert last.error is not None
            assert last.error.code == "internal_error"
            assert engine.client.healthy

    run(test)


def test_request_that_is_only_named_as_finished_fails() -> None:
    async def test() -> None:
        async with fake_engine() as engine:
            stream = engine.client.submit(request("r"))
            await engine.send(finished_requests=["r"])
            with pytest.raises(EngineDeadError, match="without a reason"):
                await collect(stream)

    run(test)


def test_death_frame() -> None:
    async def test() -> None:
        async with fake_engine() as engine:
            stream = engine.client.submit(request("r"))
            call = asyncio.create_task(engine.client.utility("slow"))
            await asyncio.sleep(0)
            await engine.send_frames([ENGINE_CORE_DEAD])
            with pytest.raises(EngineDeadError):
                await collect(stream)
            with pytest.raises(EngineDeadError):
                await call

    run(test)


def test_engine_that_registers_again_is_used_again() -> None:
    async def test() -> None:
        async with fake_engine() as engine:
            stream = engine.client.submit(request("r"))
            await engine.input.send_multipart(Encoder().encode(REGISTRATION))
            with pytest.raises(EngineDeadError, match="started again"):
                await collect(stream)
            again = engine.client.submit(request("r"))
            await engine.send(EngineCoreOutput("r", [5], finish_reason=FinishReason.STOP))
            assert await collect(again) == [5]

    run(test)


def test_utility_timeout() -> None:
    async def test() -> None:
        async with fake_engine() as engine:
            with pytest.raises(TimeoutError):
                await engine.client.utility("slow", timeout=0.05)

    run(test)


def test_no_registration_in_time() -> None:
    async def test() -> None:
        with tempfile.TemporaryDirectory(prefix="c") as folder:
            listeners: list[Listener] = [listen_ipc(folder), listen_ipc(folder)]
            with pytest.raises(HandshakeError, match="engine 0, 1 did not register within 0"):
                await AsyncEngineClient.connect(
                    input=listeners[0], output=listeners[1], engine_count=2, ready_timeout=0.1
                )
            for listener in listeners:
                listener.close()

    run(test)
