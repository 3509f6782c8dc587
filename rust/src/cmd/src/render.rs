// SPDX-License-Identifier: Apache-2.0

//! `vllm-rs render MODEL`: a request's prompt as token ids, without a server and without engines.

use std::io::{Read, Write as _};
use std::path::PathBuf;

use vllm_server::render;

use crate::fault::{Code, Fault};
use crate::launch::{self, ModelPlan};
use crate::resolve;

/// Largest request read from standard input.
const MAX_INPUT: u64 = vllm_openai::limits::MAX_BODY_BYTES as u64;

/// Flags of `vllm-rs render`.
#[derive(Debug, clap::Args)]
pub struct RenderFlags {
    /// Directory, GGUF file, name of an embedded model, or ORG/NAME
    model: String,
    /// File with the JSON body of a chat or completions request; default: standard input
    #[arg(long, value_name = "PATH")]
    request: Option<PathBuf>,
    /// File with a Jinja chat template
    #[arg(long, value_name = "PATH")]
    chat_template: Option<PathBuf>,
    /// auto: sampling defaults of the model's author; vllm: neutral ones
    #[arg(long, default_value = "auto", value_parser = ["auto", "vllm"])]
    generation_config: String,
}

/// Prints what `/v1/chat/completions/render` or `/v1/completions/render` would answer.
pub fn run(flags: RenderFlags) -> Result<(), Fault> {
    let template = flags
        .chat_template
        .map(|path| {
            std::fs::read_to_string(&path).map_err(|error| {
                Fault::usage(format!("--chat-template {}: {error}", path.display()))
            })
        })
        .transpose()?;
    let model = launch::load(ModelPlan {
        path: resolve::model(&flags.model)?,
        root: flags.model,
        names: Vec::new(),
        template,
        neutral_defaults: flags.generation_config == "vllm",
    })?;
    let body = read(flags.request)?;
    let rendered =
        render::body(&model, &body).map_err(|error| Fault::usage(error.message.clone()))?;
    // A reader that has seen enough is no failure.
    let _ = writeln!(std::io::stdout(), "{rendered}");
    Ok(())
}

fn read(path: Option<PathBuf>) -> Result<Vec<u8>, Fault> {
    let fault = |error: std::io::Error| Fault::usage(format!("the request: {error}"));
    let source: Box<dyn Read> = match &path {
        Some(path) => Box::new(
            std::fs::File::open(path)
                .map_err(|error| Fault::usage(format!("--request {}: {error}", path.display())))?,
        ),
        None => Box::new(std::io::stdin()),
    };
    let mut body = Vec::new();
    source
        .take(MAX_INPUT + 1)
        .read_to_end(&mut body)
        .map_err(fault)?;
    if body.len() as u64 > MAX_INPUT {
        let message = format!("the request is larger than {MAX_INPUT} bytes");
        return Err(Fault::new(Code::Usage, message));
    }
    Ok(body)
}
