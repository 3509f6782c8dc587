// SPDX-License-Identifier: Apache-2.0

//! A frontend below the test, its sockets inherited.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vllm_engine_client::Listener as EngineListener;
use vllm_mock_engine::{MockEngine, MockOptions};

use crate::process::{PATIENCE, Running, engine, model_folder};

/// A frontend below this process, its sockets inherited.
pub struct Frontend {
    pub running: Running,
    pub address: String,
    pub _engine: MockEngine,
    pub _folder: tempfile::TempDir,
}

/// Descriptors keep their numbers in the child.
pub fn pass(command: &mut Command, fds: Vec<RawFd>) {
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
pub fn await_ready(address: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !is_ready(address) {
        assert!(Instant::now() < deadline, "it never served");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether `/health` is answered with 200.
pub fn is_ready(address: &str) -> bool {
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

pub fn frontend(command: Command, environment: &[(&str, &str)]) -> Frontend {
    start(command, environment, Stdio::piped(), &json!({}))
}

/// As [`frontend`], with more settings.
pub fn frontend_set(command: Command, settings: &Value) -> Frontend {
    start(command, &[], Stdio::piped(), settings)
}

/// As [`frontend`], with its log in `stderr`.
pub fn frontend_with(command: Command, environment: &[(&str, &str)], stderr: Stdio) -> Frontend {
    start(command, environment, stderr, &json!({}))
}

fn start(
    mut command: Command,
    environment: &[(&str, &str)],
    stderr: Stdio,
    more: &Value,
) -> Frontend {
    let folder = model_folder();
    let http = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let address = http.local_addr().expect("bound").to_string();
    let bind = || EngineListener::bind("tcp://127.0.0.1:0").expect("a loopback port");
    let (input, output) = (bind(), bind());
    let options = MockOptions::direct(
        input.address().expect("bound"),
        output.address().expect("bound"),
    );
    let mut settings = json!({"model": folder.path(), "model_tag": "tiny", "served_model_name": ["tiny"], "enable_lora": false});
    for (name, value) in more.as_object().expect("settings") {
        settings[name] = value.clone();
    }
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
