// SPDX-License-Identifier: Apache-2.0

//! What cannot work: one line, its exit code, before anything starts.

use std::net::TcpListener;

use crate::process::{command, fails, model_folder};

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
    let frontend = |configuration: &str| {
        let mut command = command();
        command.args([
            "frontend",
            "--listen-fd",
            "900",
            "--input-listener-fd",
            "901",
            "--output-listener-fd",
            "902",
            "--args-json",
            configuration,
        ]);
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
    fails(&mut frontend("{\"model\": \"/m\"}"), 2, "--listen-fd 900");
    fails(&mut frontend("{"), 2, "--args-json");
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
