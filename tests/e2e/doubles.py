# SPDX-License-Identifier: Apache-2.0
"""The built frontend before engine doubles: started, told what goes wrong, looked at, ended.

Owns the processes and what can be asked of them. Must not know what a test is about. Each double
says the alphabet over and over, beginning where the last id of a prompt points to, so that every
answer tells whose it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import RUST_MISSING, rust_frontend
from tests.e2e.loopback import double_path, running
from tests.e2e.server import PATIENCE_S, ROOT, wait_for
from vllm.protocol.listeners import Listener, listen_ipc

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
FIRST_ID = 64  # of "a" in the tokenizer of `tests.models`
CONTEXT = 1_000_000


def answer(prompt: list[int], length: int) -> str:
    """What a double says to a prompt, in `length` tokens."""
    first = prompt[-1]
    return "".join(ALPHABET[(first + at) % len(ALPHABET)] for at in range(length))


def double_binary() -> Path:
    """The engine double, built where it is not fresh; skips the test where nothing is built."""
    if rust_frontend() is None or (cargo := shutil.which("cargo")) is None:
        pytest.skip(RUST_MISSING)
    manifest = ["--manifest-path", str(ROOT / "rust" / "Cargo.toml")]
    command = [cargo, "build", *manifest, "--locked", "--release", "-p", "vllm-mock-engine"]
    subprocess.run(command, check=True)
    return double_path()


def raise_descriptor_limit() -> int:
    """Lets this process and those it starts open as many files as the system allows; how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Double:
    """A process of one or more engine doubles."""

    def __init__(self, deployment: Deployment, first: int, count: int, *flags: str) -> None:
        planes = deployment.planes
        ids = ",".join(str(FIRST_ID + at) for at in range(len(ALPHABET)))
        command = [
            str(double_binary()),
            *("--input", planes[0].address, "--output", planes[1].address),
            *("--start-index", str(first), "--engines", str(count), "--control"),
            *("--tokens", ids, "--from-prompt", "--max-model-len", str(CONTEXT), *flags),
        ]
        self.first = first
        with (deployment.folder / f"double-{first}.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )

    def _order(self, line: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(line, file=self.process.stdin, flush=True)
        reply = self.process.stdout.readline().strip()
        assert reply and not reply.startswith("error"), reply
        return reply

    def fault(self, kind: str, engine: int | None = None) -> None:
        """Let something go wrong in an engine's next step."""
        self._order(f"fault {kind} {self.first if engine is None else engine}")

    def finish(self, engine: int | None = None) -> None:
        """Let every request that runs in an engine end with its next token.

        An engine that is idle does so in its next step: what comes then ends with its first token.
        """
        self._order(f"finish {self.first if engine is None else engine}")

    def counters(self) -> dict[str, int]:
        """What the engines of this process have seen: requests, steps, tokens."""
        return dict(json.loads(self._order("counters")))

    def is_idle(self) -> bool:
        """No request waits or runs in the engines of this process."""
        return self.counters()["open"] == 0

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


@dataclass
class Deployment:
    """A frontend and the sockets it was given."""

    folder: Path
    web: socket.socket
    planes: tuple[Listener, Listener]
    process: subprocess.Popen[bytes]
    http: httpx.Client
    doubles: list[Double] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.web.getsockname()[1])

    @property
    def log(self) -> str:
        return (self.folder / "frontend.log").read_text()

    def double(self, first: int, count: int, *flags: str) -> Double:
        """Start engines; they register by themselves."""
        self.doubles.append(Double(self, first, count, *flags))
        return self.doubles[-1]

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.http.get(path, **options)

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        return self.http.post(path, json=body, **options)

    def status(self, path: str) -> int:
        return self.get(path).status_code

    def fresh_status(self, path: str) -> int:
        """As `status`, on a connection of its own."""
        url = f"http://127.0.0.1:{self.port}{path}"
        return httpx.get(url, timeout=PATIENCE_S).status_code

    def is_healthy(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return self.status("/health") == 200
        return False

    def wait_healthy(self) -> None:
        wait_for(lambda: self.ended or self.is_healthy(), "the frontend's health")
        assert not self.ended, self.log

    def metric(self, name: str, **labels: str) -> float:
        """Sum of a metric's samples that have these labels."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        lines = self.get("/metrics").text.splitlines()
        samples = [line for line in lines if line.startswith((f"vllm:{name}{{", f"vllm:{name} "))]
        assert samples, f"no metric {name}"
        chosen = [line for line in samples if all(label in line for label in wanted)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in chosen)

    def engine_loads(self) -> dict[int, int]:
        """Requests of each engine, as `/load` tells them."""
        engines = self.get("/load").json()["engines"]
        return {int(engine["index"]): int(engine["in_flight"]) for engine in engines}

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def memory(self) -> int:
        """Resident bytes of the frontend."""
        return self._status_kib("VmRSS") * 1024

    def peak_memory(self) -> int:
        """Most resident bytes that the frontend ever had."""
        return self._status_kib("VmHWM") * 1024

    def _status_kib(self, key: str) -> int:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith(f"{key}:")))

    def wait_memory(self, most: float, what: str) -> None:
        """Until no more than `most` bytes are resident.

        The allocator gives back as it works, so the server is asked for its health meanwhile, as
        every deployment does.
        """

        def is_given_back() -> bool:
            return self.status("/health") > 0 and self.memory() <= most

        try:
            wait_for(is_given_back, what)
        except AssertionError:
            raise AssertionError(f"{what}: {self.memory()} bytes, at most {most:.0f}") from None

    def sockets(self) -> int:
        """Sockets that the frontend has open."""
        links = Path(f"/proc/{self.process.pid}/fd").iterdir()
        return sum(_target(link).startswith("socket:") for link in links)


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except FileNotFoundError:
        return ""


@contextlib.contextmanager
def deployment(
    model: Path,
    engines: int,
    environ: dict[str, str] | None = None,
    inline: bool = False,
    binary: Path | None = None,
    **settings: Any,
) -> Iterator[Deployment]:
    """A frontend for so many engines, none of which is there yet; everything is ended afterwards.

    `settings` go by descriptor, or, with `inline`, by argument as other launchers pass them.
    `binary`: another one than the built one.
    """
    binary = binary or rust_frontend()
    if binary is None:
        pytest.skip(RUST_MISSING)
    with contextlib.ExitStack() as stack:
        # Not pytest's folder: paths of Unix sockets are short.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="d")))
        web = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=4096))
        planes = tuple(stack.enter_context(listen_ipc(str(folder))) for _ in range(2))
        arguments = {"model": str(model), "served_model_name": ["tiny"], **settings}
        fds = [web.fileno(), *(plane.fileno() for plane in planes)]
        names = ("--listen-fd", "--input-listener-fd", "--output-listener-fd")
        flags = [word for name, fd in zip(names, fds, strict=True) for word in (name, str(fd))]
        if inline:
            flags += ["--args-json", json.dumps(arguments)]
        else:
            fds.append(stack.enter_context(_readable(json.dumps(arguments))))
            flags += ["--args-fd", str(fds[-1])]
        command = [str(binary), "frontend", *flags, "--engine-count", str(engines)]
        log = folder / "frontend.log"
        process = stack.enter_context(running(command, log, fds=fds, environ=environ))
        url = f"http://127.0.0.1:{web.getsockname()[1]}"
        http = stack.enter_context(httpx.Client(base_url=url, timeout=PATIENCE_S))
        deployed = Deployment(folder, web, (planes[0], planes[1]), process, http)
        try:
            yield deployed
        finally:
            for double in deployed.doubles:
                double.close()


@contextlib.contextmanager
def _readable(text: str) -> Iterator[int]:
    """A descriptor that holds a text."""
    with tempfile.TemporaryFile() as file:
        file.write(text.encode())
        file.seek(0)
        yield file.fileno()
