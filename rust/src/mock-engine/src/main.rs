// SPDX-License-Identifier: Apache-2.0

//! The mock engine as a process.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use vllm_mock_engine::{Counters, MockOptions};

/// An engine double that speaks the wire and computes nothing.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    options: MockOptions,
}

fn main() -> ExitCode {
    let options = Cli::parse().options;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs only an epoll descriptor");
    match runtime.block_on(vllm_mock_engine::run(
        options,
        Arc::new(Counters::default()),
    )) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vllm-mock-engine: {error}");
            ExitCode::FAILURE
        }
    }
}
