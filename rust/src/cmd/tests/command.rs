// SPDX-License-Identifier: Apache-2.0

//! The built command: ways to start, ways to end, exit codes and the one line that goes with them.

#[allow(
    dead_code,
    reason = "the command needs less of it than the server's own tests"
)]
#[path = "../../server/tests/common/model.rs"]
mod model;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::json;
use vllm_engine_client::Listener as EngineListener;
use vllm_mock_engine::{MockEngine, MockOptions};

/// How long a test waits for a state before it fails.
const PATIENCE: Duration = Duration::from_secs(30);

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vllm-rs"));
    let ours = |name: &str| name.starts_with("VLLM_") || name == "RUST_LOG";
    std::env::vars()
        .filter(|(name, _)| ours(name))
        .for_each(|(name, _)| {
            command.env_remove(name);
        });
    command.stdin(Stdio::null());
    command
}

fn model_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    model::write(folder.path());
    folder
}

/// A running command whose lines are read.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    fn start(command: Command) -> Self {
        Self::start_with(command, Stdio::piped())
    }

    fn start_with(mut command: Command, stderr: Stdio) -> Self {
        let mut child = command.stderr(stderr).spawn().expect("the command starts");
        let (sender, lines) = mpsc::channel();
        if let Some(stderr) = child.stderr.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Self { child, lines }
    }

    /// The part of a line after `marker`.
    fn after(&self, marker: &str) -> String {
        let mut seen = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while let Ok(line) = self
            .lines
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            if let Some((_, rest)) = line.split_once(marker) {
                return rest.to_owned();
            }
            seen.push(line);
        }
        panic!("{marker:?} was never said: {seen:#?}");
    }

    fn signal(&self, signal: i32) {
        // SAFETY: the child was not waited for, so its id is its own.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// The exit code, which must come in time.
    fn code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the command did not end");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn http(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a socket option");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

fn complete(address: &str) -> String {
    let body = json!({"prompt": "x", "max_tokens": 4}).to_string();
    let length = body.len();
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    http(address, &(head + &body))
}

fn engine(options: MockOptions) -> MockEngine {
    MockEngine::spawn(MockOptions {
        tokens: b"okay".iter().copied().map(u32::from).collect(),
        ..options
    })
}

fn fails(command: &mut Command, code: i32, word: &str) {
    let Output { status, stderr, .. } = command.output().expect("the command starts");
    let said = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(code), "{said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("error: ") && last.contains(word), "{said}");
}

#[test]
fn the_version_line_names_the_wire() {
    let output = command()
        .arg("--version")
        .output()
        .expect("the command starts");
    let expected = format!(
        "vllm-rs {} (wire {})\n",
        env!("CARGO_PKG_VERSION"),
        vllm_engine_client::WIRE_VERSION
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

#[test]
fn serve_waits_for_external_engines_and_ends_on_sigterm() {
    let folder = model_folder();
    let mut command = command();
    command
        .arg("serve")
        .arg(folder.path())
        .args(["--port", "0", "--served-model-name", "tiny"]);
    command.args(["--data-parallel-size-local", "0", "--shutdown-timeout", "5"]);
    let mut running = Running::start(command);
    let _engine = engine(MockOptions::handshake(running.after("engines connect to ")));
    let address = running.after("serving tiny on http://");
    let address = address.split(':').take(2).collect::<Vec<_>>().join(":");
    assert!(complete(&address).contains("\"text\":\"okay\""));
    running.signal(libc::SIGTERM);
    running.after("every request was answered");
    assert_eq!(running.code(), Some(0));
}

/// A frontend below this process, its sockets inherited.
struct Frontend {
    running: Running,
    address: String,
    _engine: MockEngine,
    _folder: tempfile::TempDir,
}

/// Descriptors keep their numbers in the child.
fn pass(command: &mut Command, fds: Vec<RawFd>) {
    let keep = move || {
        // SAFETY: fcntl is async-signal-safe, the descriptors are open.
        fds.iter().for_each(|fd| unsafe {
            libc::fcntl(*fd, libc::F_SETFD, 0);
        });
        Ok(())
    };
    // SAFETY: the closure calls async-signal-safe functions only.
    unsafe { command.pre_exec(keep) };
}

/// Waits until `/health` is answered with 200.
fn await_ready(address: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !is_ready(address) {
        assert!(Instant::now() < deadline, "it never served");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether `/health` is answered with 200.
fn is_ready(address: &str) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

fn frontend(command: Command, environment: &[(&str, &str)]) -> Frontend {
    frontend_with(command, environment, Stdio::piped())
}

fn frontend_with(mut command: Command, environment: &[(&str, &str)], stderr: Stdio) -> Frontend {
    let folder = model_folder();
    let http = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let address = http.local_addr().expect("bound").to_string();
    let bind = || EngineListener::bind("tcp://127.0.0.1:0").expect("a loopback port");
    let (input, output) = (bind(), bind());
    let options = MockOptions::direct(
        input.address().expect("bound"),
        output.address().expect("bound"),
    );
    let settings = json!({"model": folder.path(), "model_tag": "tiny", "served_model_name": ["tiny"], "enable_lora": false});
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(settings.to_string().as_bytes())
        .expect("writable");
    std::io::Seek::rewind(&mut file).expect("a file");
    let fds = [
        OwnedFd::from(http),
        input.into(),
        output.into(),
        file.into(),
    ];
    let numbers: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    for (flag, number) in [
        "--listen-fd",
        "--input-listener-fd",
        "--output-listener-fd",
        "--args-fd",
    ]
    .iter()
    .zip(&numbers)
    {
        command.arg(flag).arg(number.to_string());
    }
    command.envs(environment.iter().copied());
    pass(&mut command, numbers);
    let running = Running::start_with(command, stderr);
    drop(fds);
    Frontend {
        running,
        address,
        _engine: engine(options),
        _folder: folder,
    }
}

#[test]
fn a_frontend_takes_over_its_descriptors_and_a_second_signal_ends_it_now() {
    let mut command = command();
    command.arg("frontend");
    let mut frontend = frontend(command, &[("RUST_LOG", "info,hyper=????=")]);
    frontend.running.after("RUST_LOG is ignored");
    frontend.running.after("serving tiny");
    assert!(complete(&frontend.address).contains("\"text\":\"okay\""));
    frontend.running.signal(libc::SIGINT);
    assert_eq!(frontend.running.code(), Some(0));
}

#[test]
fn a_frontend_does_not_outlive_the_process_that_started_it() {
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "\"$0\" frontend \"$@\" & wait",
        env!("CARGO_BIN_EXE_vllm-rs"),
    ]);
    let mut frontend = frontend(command, &[]);
    frontend.running.after("serving tiny");
    frontend.running.signal(libc::SIGKILL);
    frontend.running.code();
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(&frontend.address).is_ok() {
        assert!(Instant::now() < deadline, "the frontend lives on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_cannot_work_is_said_in_one_line_with_its_code() {
    let folder = model_folder();
    let path = folder.path().to_str().expect("UTF-8");
    let serve = |more: &[&str]| {
        let mut command = command();
        command
            .args([
                "serve",
                path,
                "--port",
                "0",
                "--data-parallel-size-local",
                "0",
            ])
            .args(more);
        command
    };
    fails(
        serve(&[]).env("VLLM_SERVER_DEV_MODE", "maybe"),
        2,
        "VLLM_SERVER_DEV_MODE",
    );
    fails(
        serve(&[]).env("VLLM_LOGGING_LEVEL", "loud"),
        2,
        "debug, info, warning or error",
    );
    fails(&mut serve(&["--shards", "0"]), 2, "--shards");
    fails(&mut serve(&["--api-key-file", "/nowhere"]), 2, "/nowhere");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    taken.set_nonblocking(true).expect("a socket option");
    let port = taken.local_addr().expect("bound").port().to_string();
    fails(command().args(["serve", path, "--port", &port]), 4, &port);
    let foreign = folder.path().join("foreign.gguf");
    std::fs::write(&foreign, b"not a model").expect("writable");
    let foreign = foreign.to_str().expect("UTF-8");
    fails(
        command().args([
            "serve",
            foreign,
            "--port",
            "0",
            "--data-parallel-size-local",
            "0",
        ]),
        3,
        "foreign.gguf",
    );
    fails(
        command().args([
            "frontend",
            "--listen-fd",
            "900",
            "--input-listener-fd",
            "901",
            "--output-listener-fd",
            "902",
            "--args-json",
            "{\"model\": \"/m\"}",
        ]),
        2,
        "--listen-fd 900",
    );
    fails(
        command().args([
            "frontend",
            "--listen-fd",
            "900",
            "--input-listener-fd",
            "901",
            "--output-listener-fd",
            "902",
            "--args-json",
            "{",
        ]),
        2,
        "--args-json",
    );
}

#[test]
fn a_request_is_rendered_without_a_server() {
    let folder = model_folder();
    let file = folder.path().join("request.json");
    std::fs::write(
        &file,
        r#"{"messages": [{"role": "user", "content": "a"}], "max_tokens": 3}"#,
    )
    .expect("the folder is writable");
    let run = |more: &[&std::ffi::OsStr]| -> Output {
        let mut command = command();
        command.arg("render").arg(folder.path()).args(more);
        command.output().expect("it runs")
    };
    let done = run(&["--request".as_ref(), file.as_ref()]);
    assert!(done.status.success(), "{done:?}");
    let rendered: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert_eq!(rendered["token_ids"][0], 256, "<|im_start|>");
    assert_eq!(rendered["sampling_params"]["max_tokens"], 3);
    std::fs::write(&file, r#"{"messages": []}"#).expect("the folder is writable");
    let refused = run(&["--request".as_ref(), file.as_ref()]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("`messages`"),
        "{refused:?}"
    );
}

#[test]
fn the_page_about_http_is_what_the_tables_say() {
    let mut command = command();
    let done = command.args(["reference", "http-api"]).output();
    let printed = String::from_utf8(done.expect("it runs").stdout).expect("UTF-8");
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../docs/reference/http-api.md"
    );
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        kept == printed,
        "docs/reference/http-api.md is not up to date: run tools/dev/reference_pages.py"
    );
}

#[test]
fn a_key_for_the_engines_is_refused_and_not_shown() {
    let folder = model_folder();
    for key in ["--api-key", "--api-key=hidden", "--api_key"] {
        let mut command = command();
        command.arg("serve").arg(folder.path());
        let done = command.args(["--port", "0", "--", key, "hidden"]).output();
        let done = done.expect("it runs");
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{said}");
        assert!(
            said.contains("--api-key") && !said.contains("hidden"),
            "{said}"
        );
    }
}

#[test]
fn certificates_are_read_before_anything_starts() {
    let folder = model_folder();
    let mut command = command();
    command
        .arg("serve")
        .arg(folder.path())
        .args(["--port", "0"]);
    let missing = folder.path().join("missing.pem");
    let done = command
        .arg("--ssl-certfile")
        .arg(&missing)
        .arg("--ssl-keyfile")
        .arg(&missing)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(2), "{said}");
    assert!(said.contains("missing.pem"), "{said}");
}

/// A pipe whose reader does not read, and that holds no byte more.
fn stalled() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let fd = writer.as_raw_fd();
    // SAFETY: the descriptor is open.
    let blocking = |on: bool| unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        let flags = if on {
            flags & !libc::O_NONBLOCK
        } else {
            flags | libc::O_NONBLOCK
        };
        libc::fcntl(fd, libc::F_SETFL, flags)
    };
    blocking(false);
    while writer.write(&[b'x'; 4096]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    blocking(true);
    (reader, writer)
}

/// HTTP/2 tells each frame at level trace.
fn make_it_talk(address: &str) {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]); // SETTINGS
    for _ in 0..1000 {
        bytes.extend([0, 0, 8, 6, 0, 0, 0, 0, 0]); // PING
        bytes.extend([1; 8]);
    }
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(&bytes).expect("it reads");
    let answered = stream.read(&mut [0; 64]).expect("it answers");
    assert!(answered > 0);
}

/// The counter of log lines that found no room.
fn dropped(address: &str) -> f64 {
    let head = "GET /metrics HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
    let page = http(address, head);
    let value = page
        .lines()
        .find_map(|line| line.strip_prefix("vllm:frontend_log_lines_dropped_total "));
    value
        .and_then(|value| value.parse().ok())
        .expect("the counter")
}

#[test]
fn nobody_who_reads_the_log_slowly_holds_anything_up() {
    let (reader, writer) = stalled();
    let mut command = command();
    command
        .arg("frontend")
        .stdout(writer.try_clone().expect("a descriptor"));
    let mut frontend = frontend_with(command, &[("RUST_LOG", "trace")], writer.into());
    await_ready(&frontend.address);
    let deadline = Instant::now() + PATIENCE;
    while dropped(&frontend.address) == 0.0 {
        make_it_talk(&frontend.address);
        assert!(complete(&frontend.address).contains("\"text\":\"okay\""));
        assert!(Instant::now() < deadline, "no line was ever dropped");
    }
    // The reader wakes up.
    let (sender, told) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(reader).lines().map_while(Result::ok) {
            if line.contains("log lines were dropped") {
                let _ = sender.send(());
            }
        }
    });
    told.recv_timeout(PATIENCE)
        .expect("it is told how many lines were dropped");
    frontend.running.signal(libc::SIGTERM);
    assert_eq!(frontend.running.code(), Some(0));
}

#[test]
fn a_stalled_log_does_not_keep_the_command_from_ending() {
    let (_reader, writer) = stalled();
    let mut command = command();
    command
        .arg("frontend")
        .stdout(writer.try_clone().expect("a descriptor"));
    let mut frontend = frontend_with(command, &[("RUST_LOG", "trace")], writer.into());
    await_ready(&frontend.address);
    frontend.running.signal(libc::SIGTERM);
    assert_eq!(frontend.running.code(), Some(0));
}

#[test]
fn the_command_works_without_standard_streams() {
    for closed in [&[2][..], &[0, 1, 2]] {
        let mut command = command();
        command.arg("frontend");
        let closed = closed.to_vec();
        let close = move || {
            // SAFETY: close is async-signal-safe.
            closed.iter().for_each(|fd| unsafe {
                libc::close(*fd);
            });
            Ok(())
        };
        // SAFETY: the closure calls async-signal-safe functions only.
        unsafe { command.pre_exec(close) };
        let mut frontend = frontend_with(command, &[], Stdio::null());
        await_ready(&frontend.address);
        assert!(complete(&frontend.address).contains("\"text\":\"okay\""));
        frontend.running.signal(libc::SIGTERM);
        assert_eq!(frontend.running.code(), Some(0));
    }
}

#[test]
fn when_no_descriptor_is_left_connections_are_closed_and_told_of_once() {
    let mut command = command();
    command.arg("frontend");
    let few = || {
        let limit = libc::rlimit {
            rlim_cur: 64,
            rlim_max: 64,
        };
        // SAFETY: setrlimit is async-signal-safe.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
        Ok(())
    };
    // SAFETY: the closure calls an async-signal-safe function only.
    unsafe { command.pre_exec(few) };
    let mut frontend = frontend(command, &[]);
    frontend.running.after("serving tiny");
    let crowd: Vec<_> = (0..100)
        .map(|_| TcpStream::connect(&frontend.address).expect("the kernel accepts"))
        .collect();
    frontend.running.after("refused ");
    drop(crowd);
    await_ready(&frontend.address);
    frontend.running.signal(libc::SIGTERM);
    assert_eq!(frontend.running.code(), Some(0));
}

#[test]
fn a_key_file_has_comments() {
    let folder = model_folder();
    let file = folder.path().join("keys");
    std::fs::write(
        &file,
        "# for the billing team\n\n  key-of-billing  \n #not a key\n",
    )
    .expect("writable");
    let mut command = command();
    command.arg("serve").arg(folder.path()).args([
        "--port",
        "0",
        "--data-parallel-size-local",
        "0",
    ]);
    command.arg("--api-key-file").arg(&file);
    let running = Running::start(command);
    let _engine = engine(MockOptions::handshake(running.after("engines connect to ")));
    let address = running.after(" on http://");
    let address = address
        .split(": ready")
        .next()
        .expect("an address")
        .to_owned();
    let status = |key: &str| {
        let head = format!(
            "GET /v1/models HTTP/1.1\r\nHost: t\r\nConnection: close\r\nAuthorization: Bearer {key}\r\n\r\n"
        );
        http(&address, &head)[9..12].to_owned()
    };
    assert_eq!(status("key-of-billing"), "200");
    assert_eq!(status("#not a key"), "401");
    assert_eq!(status("# for the billing team"), "401");
}

#[test]
fn what_a_flag_accepts_is_said() {
    for (flag, value, accepted) in [
        ("--port", "x", "0 (any free one) to 65535"),
        ("--port", "65536", "0 (any free one) to 65535"),
        ("--drain-grace", "soon", "seconds, at least 0"),
        ("--data-parallel-size", "two", "a whole number of engines"),
    ] {
        let done = command().args(["serve", "m", flag, value]).output();
        let done = done.expect("it runs");
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{said}");
        assert!(said.contains(accepted) && said.contains(flag), "{said}");
    }
}

#[test]
fn a_python_without_the_package_is_told_of_before_anything_starts() {
    let folder = model_folder();
    let path = folder.path().to_str().expect("UTF-8");
    let serve = |python: &str| {
        let mut command = command();
        command.args(["serve", path, "--port", "0"]);
        command.env("VLLM_RS_PYTHON", python);
        command
    };
    fails(&mut serve("/bin/false"), 6, "set VLLM_RS_PYTHON");
    fails(
        &mut serve("/nowhere/python"),
        6,
        "/nowhere/python cannot be run",
    );
    let mut named = command();
    named.args([
        "serve",
        "no/such",
        "--port",
        "0",
        "--data-parallel-size-local",
        "0",
    ]);
    fails(
        named.env("VLLM_RS_PYTHON", "/nowhere/python"),
        3,
        "set VLLM_RS_PYTHON",
    );
}

#[test]
fn a_grace_is_told_and_ends() {
    let folder = model_folder();
    let mut command = command();
    command.arg("serve").arg(folder.path());
    command.args([
        "--port",
        "0",
        "--data-parallel-size-local",
        "0",
        "--drain-grace",
        "0.1",
    ]);
    let mut running = Running::start(command);
    let _engine = engine(MockOptions::handshake(running.after("engines connect to ")));
    running.after("serving ");
    running.signal(libc::SIGTERM);
    running.after("new ones are taken for 0.1 s");
    assert_eq!(running.code(), Some(0));
}

#[test]
fn a_flag_of_the_engine_in_front_is_told_where_it_goes() {
    let done = command()
        .args(["serve", "m", "--max-model-len", "5"])
        .output();
    let done = done.expect("it runs");
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(2), "{said}");
    assert!(
        said.contains("--max-model-len") && said.contains("follow `--`"),
        "{said}"
    );
}

#[test]
fn the_soft_limit_of_descriptors_is_raised() {
    let folder = model_folder();
    let mut command = command();
    command.arg("serve").arg(folder.path());
    command.args(["--port", "0", "--data-parallel-size-local", "0"]);
    let few = || {
        let limit = libc::rlimit {
            rlim_cur: 32,
            rlim_max: 512,
        };
        // SAFETY: setrlimit is async-signal-safe.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
        Ok(())
    };
    // SAFETY: the closure calls an async-signal-safe function only.
    unsafe { command.pre_exec(few) };
    let running = Running::start(command);
    let _engine = engine(MockOptions::handshake(running.after("engines connect to ")));
    let address = running.after(" on http://");
    let address = address
        .split(": ready")
        .next()
        .expect("an address")
        .to_owned();
    let crowd: Vec<_> = (0..200)
        .map(|_| TcpStream::connect(&address).expect("the kernel accepts"))
        .collect();
    assert!(
        complete(&address).contains("\"text\":\"okay\""),
        "all of them fit"
    );
    drop(crowd);
}
