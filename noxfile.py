# SPDX-License-Identifier: Apache-2.0
"""The only entrance: building, serving, testing and measuring are sessions; `nox -l` lists them.

Owns which steps a session has; how a step works is in `tools/`.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from tools import build_csrc, build_rust  # noqa: E402
from tools.dev import environment, toolchain, wheel  # noqa: E402
from tools.dev.counts import Counts  # noqa: E402

nox.needs_version = ">=2025.2"
nox.options.sessions = ["tests"]
# One environment for all, see tools/dev/environment.py.
nox.options.default_venv_backend = "none"

CARGO_FUZZ = "0.13.2"
WORKSPACE = ["--manifest-path", str(ROOT / "rust" / "Cargo.toml"), "--workspace", "--locked"]


def check_tools(session: nox.Session) -> None:
    """Every missing tool at once, before anything is downloaded."""
    if build_csrc.target_device() != "empty" and (line := toolchain.missing_compiler()):
        session.error(line)
    if build_rust.wanted():
        build_rust.require_cargo()


def prepare(session: nox.Session) -> None:
    """The shared environment, with the nvcc that fits torch unless CUDA is not wanted."""
    check_tools(session)
    environment.prepare(session)
    device = build_csrc.target_device()
    if device in ("auto", "cuda") and not toolchain.has_system_nvcc():
        packages = toolchain.cuda_packages(environment.site_packages())
        if packages:
            environment.install(session, environment.FOLDER, *packages)


def compile_in_place(session: nox.Session) -> None:
    """The binary and the kernel libraries, where the editable package finds them."""
    if build_rust.wanted():
        build_rust.build()
    run_python(session, "tools/build_csrc.py")


def compile_double(session: nox.Session) -> None:
    """The engine double that tests and benchmarks put behind the frontend."""
    double = ["build", *WORKSPACE[:2], "--locked", "--release", "-p", "vllm-mock-engine"]
    session.run(build_rust.require_cargo(), *double, external=True)


def run_python(session: nox.Session, *arguments: str, **environ: str) -> None:
    session.run(environment.python(), *arguments, env=environ or None, external=True)


def pytest(*arguments: str) -> list[str]:
    return [environment.python(), "-m", "pytest", *arguments]


@nox.session
def build(session: nox.Session) -> None:
    """Build binary, kernels and wheel; a request against the wheel in a fresh environment."""
    prepare(session)
    value = wheel.fingerprint()
    compile_in_place(session)
    if done := wheel.up_to_date(value):
        session.log(f"nothing changed: {done.relative_to(ROOT)} is built and passed its request")
        return
    built = wheel.build(session)
    wheel.smoke(session, built)
    wheel.remember(value)
    session.log(f"{built.relative_to(ROOT)} passed its request")


@nox.session
def serve(session: nox.Session) -> None:
    """Build what changed and serve the default model on 127.0.0.1:8000; ARGS go to `vllm serve`."""
    prepare(session)
    compile_in_place(session)
    os.execv(
        environment.python(), [environment.python(), "-m", "vllm.cli", "serve", *session.posargs]
    )


def default_model(session: nox.Session) -> str:
    """The path of the default model, fetched where it is not in the user's cache yet."""
    program = "from vllm.config import embedded, model_source as source;"
    program += "print(source.resolve(embedded.DEFAULT_MODEL).path)"
    words = session.run(environment.python(), "-c", program, silent=True, external=True)
    return str(words).strip().splitlines()[-1]


def rust_checks(session: nox.Session, counts: Counts, arguments: list[str]) -> None:
    """Formatting, clippy, the template fixtures against Jinja2, and the tests of every crate."""
    cargo = build_rust.require_cargo()
    fixtures = str(ROOT / "rust" / "src" / "chat" / "tests" / "expected.py")
    manifest = WORKSPACE[:2]
    counts.check("cargo fmt", [cargo, "fmt", *manifest, "--all", "--check"])
    clippy = [cargo, "clippy", *WORKSPACE, "--all-targets", "--", "-D", "warnings"]
    counts.check("clippy", clippy)
    counts.check("template fixtures", [environment.python(), fixtures, "--check"])
    tests = [cargo, "test", *WORKSPACE, "--no-fail-fast", *arguments]
    counts.run("cargo test", tests, VLLM_TEST_MODEL=default_model(session))


def kernel_tests(counts: Counts, arguments: list[str]) -> None:
    counts.run("kernels", pytest("tests/kernels", *arguments))


def python_tests(counts: Counts, arguments: list[str]) -> None:
    chosen = arguments or ["tests", "--ignore=tests/kernels"]
    counts.run("python", pytest(*chosen))


def lint_checks(counts: Counts, arguments: list[str]) -> None:
    hooks = [environment.python(), "-m", "pre_commit", "run", "--all-files"]
    counts.check("lint", [*hooks, *arguments], PATH=environment.path())


@contextmanager
def checks(session: nox.Session) -> Iterator[Counts]:
    """Everything built, then the checks of the body, then the closing line.

    The session fails when any of them did.
    """
    prepare(session)
    compile_in_place(session)
    if build_rust.wanted():
        compile_double(session)
    counts = Counts()
    yield counts
    if counts.broken:
        print(f"\nfailed: {', '.join(counts.broken)}")
    print(f"\n{counts}", flush=True)
    if counts.failed or counts.broken:
        session.error("see above")


@nox.session(name="test-rust-frontend")
def test_rust_frontend(session: nox.Session) -> None:
    """Format, clippy, cargo tests, and the tests that drive the built binary."""
    with checks(session) as counts:
        rust_checks(session, counts, session.posargs)
        counts.run("end to end", pytest("tests/e2e"))


@nox.session(name="test-python")
def test_python(session: nox.Session) -> None:
    """All Python tests but the kernels'; ARGS go to pytest."""
    with checks(session) as counts:
        python_tests(counts, session.posargs)


@nox.session(name="test-kernels")
def test_kernels(session: nox.Session) -> None:
    """Every kernel against its float64 reference; CUDA where there is a GPU; ARGS go to pytest."""
    with checks(session) as counts:
        kernel_tests(counts, session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """The local pre-commit hooks over all files."""
    prepare(session)
    counts = Counts()
    lint_checks(counts, session.posargs)
    if counts.failed:
        session.error("see above")


@nox.session
def tests(session: nox.Session) -> None:
    """Everything a contributor must see pass: lint, Rust, kernels, Python, end to end, wheel."""
    with checks(session) as counts:
        lint_checks(counts, [])
        rust_checks(session, counts, [])
        kernel_tests(counts, [])
        python_tests(counts, session.posargs)
        if not session.posargs:
            counts.check("wheel", [sys.executable, "-m", "nox", "-s", "build"])


@nox.session(name="tests-slow")
def tests_slow(session: nox.Session) -> None:
    """The tests marked slow (scale, long simulations); ARGS go to pytest."""
    with checks(session) as counts:
        counts.run("slow", pytest("-m", "slow", "--timeout=3000", *(session.posargs or ["tests"])))


@nox.session(name="test-clients")
def test_clients(session: nox.Session) -> None:
    """Published clients, each in an environment of its own, against the built server."""
    with checks(session) as counts:
        chosen = session.posargs or ["tests/clients"]
        counts.run("clients", pytest("-m", "clients", *chosen))


@nox.session(name="test-ray")
def test_ray(session: nox.Session) -> None:
    """Engines and ranks on a Ray cluster of two nodes on this host; ARGS go to pytest."""
    with checks(session) as counts:
        environment.install(session, environment.FOLDER, *environment.extra("ray"))
        counts.run("ray", pytest("-m", "ray", *(session.posargs or ["tests/e2e"])))


@nox.session
def soak(session: nox.Session) -> None:
    """A simulated day without tensors, 20 real minutes with the default model; ARGS as --help."""
    prepare(session)
    compile_in_place(session)
    run_python(session, "-m", "tests.soak", *session.posargs)


@nox.session(name="history-import")
def history_import(session: nox.Session) -> None:
    """Bring an upstream repository into the tree with its history; ARGS are VERB CONFIG."""
    folder = environment.history_import(session)
    interpreter = str(folder / "bin" / "python")
    session.run(interpreter, "-m", "tools.history_import", *session.posargs, external=True)


def cargo_fuzz(session: nox.Session) -> str:
    """PATH with cargo-fuzz; it is installed for this repository where it is not yet."""
    folder = ROOT / ".nox" / "cargo"
    path = f"{os.environ['PATH']}{os.pathsep}{folder / 'bin'}"
    if shutil.which("cargo-fuzz", path=path) is None:
        install = [build_rust.require_cargo(), "install", "cargo-fuzz", "--locked"]
        session.run(*install, "--version", CARGO_FUZZ, "--root", str(folder), external=True)
    return path


def fuzz_targets(session: nox.Session, counts: Counts, seconds: int) -> None:
    """Every libFuzzer target for so long."""
    cargo, path = build_rust.require_cargo(), cargo_fuzz(session)
    folder = ROOT / "rust" / "fuzz"
    seeds = ["-p", "vllm-fuzzing", "--example", "seeds", "--", str(folder / "corpus")]
    session.run(cargo, "run", "--quiet", *WORKSPACE[:2], "--locked", *seeds, external=True)
    for target in sorted(path.stem for path in (folder / "fuzz_targets").iterdir()):
        run = [cargo, "fuzz", "run", "-s", "none", "--fuzz-dir", str(folder)]
        limits = ["--", f"-max_total_time={seconds}", "-max_len=16384", "-timeout=60"]
        counts.check(f"cargo fuzz {target}", [*run, target, *limits], PATH=path)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz tests of both languages, fifty times as long; libFuzzer; ARGS: seconds per target."""
    environ = {"VLLM_FUZZ_FACTOR": "50"}
    seconds = int(session.posargs[0]) if session.posargs else 300
    with checks(session) as counts:
        cargo = build_rust.require_cargo()
        crates = ["-p", "vllm-engine-client", "-p", "vllm-zmtp", "-p", "vllm-fuzzing"]
        chosen = [*crates, "--test", "codec", "--test", "session", "--test", "short"]
        counts.run("in Rust", [cargo, "test", *WORKSPACE[:2], "--locked", *chosen], **environ)
        files = ["tests/wire/test_fuzz.py", "tests/unit/loader"]
        counts.run("wire and GGUF in Python", pytest("--timeout=3000", *files), **environ)
        counts.run("routes", pytest("-m", "", "--timeout=3000", "tests/fuzz"))
        fuzz_targets(session, counts, seconds)


@nox.session
def bench(session: nox.Session) -> None:
    """Our frontend beside upstream's in one run, and our engine; ARGS go to benchmarks/run.py."""
    prepare(session)
    compile_in_place(session)
    compile_double(session)
    run_python(session, "-m", "benchmarks.run", *session.posargs)
