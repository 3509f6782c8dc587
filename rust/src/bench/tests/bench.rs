// SPDX-License-Identifier: Apache-2.0

//! The whole load generator against a server that answers from a script.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Parser;
use vllm_bench::{BenchArgs, BenchError, Report};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: BenchArgs,
}

const EVENTS: [&str; 5] = [
    "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
    "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n",
    "data: {\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\n\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\n\n",
    "data: [DONE]\n\n",
];
const WHOLE: &str = "{\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}";
const MODELS: &str = "{\"data\":[{\"id\":\"scripted\"}]}";

/// Reads one request; `None` when the client is gone.
fn read_request(stream: &mut TcpStream) -> Option<String> {
    let (mut text, mut byte) = (String::new(), [0]);
    while !text.ends_with("\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        text.push(char::from(byte[0]));
    }
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.and_then(|length| length.parse().ok()).unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    Some(text + std::str::from_utf8(&body).expect("JSON is UTF-8"))
}

fn sized(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn answer(request: &str, number: usize) -> String {
    if request.starts_with("GET /v1/models") {
        return sized("200 OK", MODELS);
    }
    if number % 4 == 3 {
        return sized(
            "503 Service Unavailable",
            "{\"error\":{\"message\":\"busy\"}}",
        );
    }
    if !request.contains("\"stream\":true") {
        return sized("200 OK", WHOLE);
    }
    let chunk = |event: &&str| format!("{:x}\r\n{event}\r\n", event.len());
    let chunks: String = EVENTS.iter().map(chunk).collect();
    format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
}

/// A server that fails every fourth POST. Its threads end with their connections.
fn serve() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    let posts = Arc::new(AtomicUsize::new(0));
    let counter = posts.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, counter) = (stream.expect("accepted"), counter.clone());
            std::thread::spawn(move || {
                while let Some(request) = read_request(&mut stream) {
                    let post = request.starts_with("POST");
                    let number = if post {
                        counter.fetch_add(1, Ordering::SeqCst)
                    } else {
                        0
                    };
                    let answer = answer(&request, number);
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, posts)
}

fn measure(options: &str) -> Result<(Report, usize), BenchError> {
    let (address, posts) = serve();
    let command = format!("bench --base-url {address} {options}");
    let args = Cli::parse_from(command.split_whitespace()).args;
    let report = vllm_bench::measure(&args)?;
    Ok((report, posts.load(Ordering::SeqCst)))
}

#[test]
fn streams_are_counted_and_failures_named() {
    let pid = std::process::id();
    let (report, posts) = measure(&format!("--num-requests 8 --concurrency 3 --pid {pid}"))
        .expect("the server answers");
    assert_eq!((report.completed, report.failed, posts), (6, 2, 8));
    assert_eq!(report.model, "scripted");
    assert_eq!((report.prompt_tokens, report.completion_tokens), (30, 12));
    assert_eq!(
        (
            report.ttft_ms.count,
            report.itl_ms.count,
            report.e2e_ms.count
        ),
        (6, 6, 6)
    );
    assert_eq!(report.errors.get("status 503: busy"), Some(&2));
    assert!(report.server.expect("a process id was given").cpu_s > 0.0);
    let table = report.table();
    assert!(table.contains("6 completed, 2 failed") && table.contains("2 x status 503: busy"));
    let json: serde_json::Value = serde_json::from_str(&report.json()).expect("JSON");
    assert_eq!(json["ttft_ms"]["count"], 6);
}

#[test]
fn whole_answers_arrive_at_a_rate_after_a_warm_up() {
    let options = "--no-stream --endpoint completions --num-requests 3 --rate 500 --concurrency 8";
    let (report, posts) = measure(&format!("{options} --warmup 4")).expect("the server answers");
    assert_eq!((report.completed, report.failed, posts), (3, 0, 7));
    assert_eq!((report.completion_tokens, report.ttft_ms.count), (6, 0));
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let args = Cli::parse_from(["bench", "--base-url", "http://127.0.0.1:1"]).args;
    let error = vllm_bench::measure(&args).expect_err("nothing listens on port 1");
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}
