// SPDX-License-Identifier: Apache-2.0

//! The `vllm-rs` command: `frontend`, `serve`, `render`, `reference`, `bench`.
//!
//! Owns: flags, environment, inherited descriptors, signals, child processes, exit codes and log lines.
//! Must not know: HTTP details, messages of the wire.

mod cli;
mod descriptors;
mod environment;
mod fault;
mod frontend;
mod http_flags;
mod launch;
mod log_queue;
mod logging;
mod memory;
mod process;
mod reference;
mod render;
mod resolve;
mod serve;
mod settings;
mod signals;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(()) => {
            logging::flush();
            ExitCode::SUCCESS
        }
        Err(fault) => {
            logging::last_words(&fault);
            ExitCode::from(fault.code as u8)
        }
    }
}
