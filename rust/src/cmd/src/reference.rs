// SPDX-License-Identifier: Apache-2.0

//! `vllm-rs reference PAGE`: what the tables of this binary say, for documentation and tests.

use std::io::Write as _;

use clap::builder::PossibleValue;
use clap::{Arg, ArgAction, Command};
use serde_json::{Value, json};
use vllm_server::reference;

/// What to print.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Page {
    /// The HTTP interface as Markdown
    HttpApi,
    /// The HTTP interface as OpenAPI 3.1
    Openapi,
    /// Every option of every command as JSON
    Options,
}

/// Flags of `vllm-rs reference`.
#[derive(Debug, clap::Args)]
pub struct ReferenceFlags {
    /// What to print
    page: Page,
}

/// Prints a page. `root` is the whole command line.
pub fn run(flags: &ReferenceFlags, root: &Command) {
    let text = match flags.page {
        Page::HttpApi => reference::markdown(),
        Page::Openapi => format!("{}\n", reference::openapi()),
        Page::Options => format!("{:#}\n", Value::from(commands("", root))),
    };
    // A reader that has seen enough is no failure.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Every command that has options, by its whole name.
fn commands(above: &str, command: &Command) -> Vec<Value> {
    let name = format!("{above} {}", command.get_name()).trim().to_owned();
    let below = command
        .get_subcommands()
        .flat_map(|command| commands(&name, command));
    let below: Vec<_> = below.collect();
    let options: Vec<_> = command
        .get_arguments()
        .filter(|argument| is_option(argument))
        .map(option)
        .collect();
    let own = (!options.is_empty()).then(|| json!({"command": name, "options": options}));
    own.into_iter().chain(below).collect()
}

fn is_option(argument: &Arg) -> bool {
    let automatic = ["help", "version"].contains(&argument.get_id().as_str());
    argument.get_long().is_some() && !automatic && !argument.is_hide_set()
}

fn option(argument: &Arg) -> Value {
    let takes_value = argument.get_action().takes_values();
    let choices: Vec<_> = argument
        .get_possible_values()
        .iter()
        .map(PossibleValue::get_name)
        .map(str::to_owned)
        .collect();
    let defaults = argument.get_default_values();
    json!({
        "name": argument.get_long(),
        "help": argument.get_help().map(ToString::to_string),
        "value": argument.get_value_names().filter(|_| takes_value).map(|names| names[0].as_str()),
        "default": defaults.first().and_then(|value| value.to_str()).filter(|_| takes_value),
        "choices": if takes_value { choices } else { Vec::new() },
        "many": matches!(argument.get_action(), ArgAction::Append),
    })
}
