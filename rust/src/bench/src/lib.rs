// SPDX-License-Identifier: Apache-2.0

//! The load generator behind `vllm-rs bench serve`: sends requests to an OpenAI-compatible server
//! and reports latencies, throughput and what they cost the server.
//!
//! It runs on one thread and speaks HTTP/1.1 over plain sockets, so that it is never the slower
//! side. It knows nothing of the server beyond its HTTP interface and, for the cost, its process id.

mod args;
mod cost;
mod error;
mod http;
mod load;
mod prompts;
mod report;
mod sse;

pub use args::{BenchArgs, Endpoint, Prompts};
pub use error::BenchError;
pub use report::{Cost, Percentiles, Report};

/// Runs the load, prints a table and writes the JSON result where it was asked for.
pub fn run(args: BenchArgs) -> Result<(), BenchError> {
    let report = measure(&args)?;
    match args.json.as_deref() {
        Some("-") => println!("{}", report.json()),
        Some(path) => {
            print!("{}", report.table());
            std::fs::write(path, report.json()).map_err(|source| BenchError::Write {
                path: path.to_owned(),
                source,
            })?;
        }
        None => print!("{}", report.table()),
    }
    Ok(())
}

/// Runs the load and returns what it measured.
pub fn measure(args: &BenchArgs) -> Result<Report, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(BenchError::Runtime)?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, load::run(args))
}
