// SPDX-License-Identifier: Apache-2.0

//! The limit of open descriptors.

use std::net::TcpStream;
use std::os::unix::process::CommandExt;

use vllm_mock_engine::MockOptions;

use crate::frontend::{await_ready, frontend};
use crate::process::{Running, command, complete, engine, model_folder};

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
    let address = running.address();
    let crowd: Vec<_> = (0..200)
        .map(|_| TcpStream::connect(&address).expect("the kernel accepts"))
        .collect();
    assert!(
        complete(&address).contains("\"text\":\"okay\""),
        "all of them fit"
    );
    drop(crowd);
}
