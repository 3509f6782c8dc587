// SPDX-License-Identifier: Apache-2.0

//! The command line as a whole.

use std::sync::LazyLock;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use vllm_bench::BenchArgs;
use vllm_engine_client::WIRE_VERSION;

use crate::fault::{Code, Fault};
use crate::frontend::{self, FrontendFlags};
use crate::reference::{self, ReferenceFlags};
use crate::render::{self, RenderFlags};
use crate::serve::{self, ServeFlags};

/// An OpenAI-compatible server in front of vLLM engines
#[derive(Debug, Parser)]
#[command(name = "vllm-rs")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve HTTP below a supervisor that owns sockets and engines
    Frontend(FrontendFlags),
    /// Serve a model: launch headless engines, or wait for external ones
    Serve(Box<ServeFlags>),
    /// Print a request's prompt as token ids, without engines
    Render(RenderFlags),
    /// Print what this binary's tables say: the HTTP interface, the options
    Reference(ReferenceFlags),
    /// Render the chat template on standard input, for a server that runs this program
    #[command(name = vllm_server::guest::VERB, hide = true)]
    RenderGuest,
    /// Measure servers
    #[command(subcommand)]
    Bench(Bench),
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Send load to a server; report latencies and what they cost it
    Serve(BenchArgs),
}

/// `0.1.0 (wire 33)`: what a supervisor compares.
static VERSION: LazyLock<String> =
    LazyLock::new(|| format!("{} (wire {WIRE_VERSION})", env!("CARGO_PKG_VERSION")));

/// Parses the arguments and runs the command. Bad arguments end the process with code 2.
pub fn run() -> Result<(), Fault> {
    let matches = Cli::command().version(VERSION.as_str()).try_get_matches();
    let matches = matches.unwrap_or_else(|error| refuse(&error));
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match cli.command {
        Command::Frontend(flags) => frontend::run(flags),
        Command::Serve(flags) => serve::run(*flags),
        Command::Render(flags) => render::run(flags),
        Command::RenderGuest => vllm_server::guest::serve()
            .map_err(|error| Fault::new(Code::Internal, error.to_string())),
        Command::Reference(flags) => {
            reference::run(&flags, &Cli::command());
            Ok(())
        }
        Command::Bench(Bench::Serve(args)) => {
            vllm_bench::run(args).map_err(|error| Fault::new(Code::Internal, error.to_string()))
        }
    }
}

/// Prints what is wrong with the arguments, or the help that was asked for, and ends the process.
fn refuse(error: &clap::Error) -> ! {
    let unknown = error.kind() == clap::error::ErrorKind::UnknownArgument;
    let serving = std::env::args_os()
        .nth(1)
        .is_some_and(|word| word == "serve");
    if unknown && serving {
        let _ = error.print();
        eprintln!(
            "flags of model and engine follow `--`: vllm-rs serve MODEL -- --max-model-len 4096"
        );
        std::process::exit(i32::from(Code::Usage as u8));
    }
    error.exit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().version(VERSION.as_str()).debug_assert();
    }
}
