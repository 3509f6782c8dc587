// SPDX-License-Identifier: Apache-2.0

//! The command as a process whose lines are read, and what a client asks it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vllm_mock_engine::{MockEngine, MockOptions};

use crate::model;

/// How long a test waits for a state before it fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn command() -> Command {
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

pub fn model_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    model::write(folder.path());
    folder
}

/// A running command whose lines are read.
pub struct Running {
    pub child: Child,
    pub lines: mpsc::Receiver<String>,
}

impl Running {
    pub fn start(command: Command) -> Self {
        Self::start_with(command, Stdio::piped())
    }

    pub fn start_with(mut command: Command, stderr: Stdio) -> Self {
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

    /// Where it serves.
    pub fn address(&self) -> String {
        let rest = self.after(" on http://");
        let address = rest.split(": ready").next();
        address.expect("an address").to_owned()
    }

    /// The part of a line after `marker`.
    pub fn after(&self, marker: &str) -> String {
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

    pub fn signal(&self, signal: i32) {
        // SAFETY: the child was not waited for, so its id is its own.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// The exit code, which must come in time.
    pub fn code(&mut self) -> Option<i32> {
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

pub fn http(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a socket option");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

pub fn complete(address: &str) -> String {
    let body = json!({"prompt": "x", "max_tokens": 4});
    send(address, "/v1/completions", &body)
}

/// The JSON of the answer.
pub fn post(address: &str, path: &str, body: &Value) -> Value {
    let answer = send(address, path, body);
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
    serde_json::from_str(body).expect("JSON")
}

fn send(address: &str, path: &str, body: &Value) -> String {
    let body = body.to_string();
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    http(address, &(head + &body))
}

pub fn engine(options: MockOptions) -> MockEngine {
    MockEngine::spawn(MockOptions {
        tokens: b"okay".iter().copied().map(u32::from).collect(),
        ..options
    })
}

pub fn fails(command: &mut Command, code: i32, word: &str) {
    let Output { status, stderr, .. } = command.output().expect("the command starts");
    let said = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(code), "{said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("error: ") && last.contains(word), "{said}");
}
