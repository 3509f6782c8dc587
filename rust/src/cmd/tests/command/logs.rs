// SPDX-License-Identifier: Apache-2.0

//! Standard streams that nobody reads, or that are not there.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Instant;

use crate::frontend::{Frontend, await_ready, frontend_with};
use crate::process::{PATIENCE, command, complete, http};

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

/// A ready frontend that logs all it does to `writer`, by both of its streams.
fn talkative(writer: std::io::PipeWriter) -> Frontend {
    let mut command = command();
    command
        .arg("frontend")
        .stdout(writer.try_clone().expect("a descriptor"));
    let frontend = frontend_with(command, &[("RUST_LOG", "trace")], writer.into());
    await_ready(&frontend.address);
    frontend
}

#[test]
fn nobody_who_reads_the_log_slowly_holds_anything_up() {
    let (reader, writer) = stalled();
    let mut frontend = talkative(writer);
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
    let mut frontend = talkative(writer);
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
