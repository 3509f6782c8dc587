// SPDX-License-Identifier: Apache-2.0

//! Ways to start and to end.

use std::net::TcpStream;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use vllm_mock_engine::MockOptions;

use crate::frontend::frontend;
use crate::process::{PATIENCE, Running, command, complete, engine, http, model_folder};

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
    let address = running.address();
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
