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
    /// Take orders on stdin, one a line: `fault KIND ENGINE` or `finish ENGINE` for the
    /// engine's next step, `counters`.
    #[arg(long)]
    control: bool,
}

fn main() -> ExitCode {
    let Cli { options, control } = Cli::parse();
    let counters = Arc::new(Counters::default());
    if control {
        let (orders, counters) = (options.orders.clone(), counters.clone());
        std::thread::spawn(move || {
            orders.serve(&counters, std::io::stdin().lock(), std::io::stdout())
        });
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs only an epoll descriptor");
    match runtime.block_on(vllm_mock_engine::run(options, counters)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vllm-mock-engine: {error}");
            ExitCode::FAILURE
        }
    }
}
