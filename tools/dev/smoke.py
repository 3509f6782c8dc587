# SPDX-License-Identifier: Apache-2.0
"""Start the installed server on a free port, ask for the capital of France, stop it.

Run by the Python of the environment under test, in isolated mode; standard library only. Exit code
0 when the answer names Paris, streamed and not, and the server ended with 0 on SIGTERM.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

QUESTION = "What is the capital of France?"
START_LIMIT_S = 180.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_ready(server: subprocess.Popen, url: str) -> None:
    """Return when /health is 200. Raises SystemExit when the server ended or the limit passed."""
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise SystemExit(f"error: the server ended with exit code {server.returncode}")
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"error: {url}/health was not 200 within {START_LIMIT_S:.0f} s")


def ask(url: str, stream: bool) -> str:
    body = {
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": 32,
        "temperature": 0,
        "stream": stream,
    }
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        text = answer.read().decode()
    return joined(text) if stream else json.loads(text)["choices"][0]["message"]["content"]


def joined(events: str) -> str:
    """The text of a stream of server-sent chunks."""
    lines = [line[6:] for line in events.splitlines() if line.startswith("data: {")]
    choices = [choice for line in lines for choice in json.loads(line)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def main() -> None:
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [str(Path(sys.executable).parent / "vllm"), "serve", "--port", str(port)]
    server = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": ""})
    try:
        wait_ready(server, url)
        for stream in (False, True):
            answer = ask(url, stream)
            print(f"{'streamed' if stream else 'whole'}: {answer!r}")
            if "Paris" not in answer:
                raise SystemExit("error: the answer does not name Paris")
    finally:
        server.send_signal(signal.SIGTERM)
        code = server.wait(timeout=60)
    if code:
        raise SystemExit(f"error: the server ended with exit code {code} on SIGTERM")


if __name__ == "__main__":
    main()
