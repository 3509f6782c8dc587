// SPDX-License-Identifier: Apache-2.0

//! From configuration to a running server, and to its end.

use std::future::Future;
use std::path::PathBuf;
use std::time::Instant;

use tokio::runtime::Builder;
use tokio::task::LocalSet;
use vllm_chat::{ChatTemplate, TemplateTokens};
use vllm_engine_client::{EngineClient, TransportConfig};
use vllm_model_files::{GenerationDefaults, ModelFiles};
use vllm_server::{Listener, Model, Server, ServerConfig, Stopped};

use crate::fault::{Code, Fault};
use crate::memory;
use crate::signals::Signals;

/// Threads for long prompts; more would only fight with the engine for cores.
const WORKERS: usize = 2;

/// Where the model is and how it is shown.
#[derive(Debug, Clone)]
pub struct ModelPlan {
    /// Directory or GGUF file.
    pub path: PathBuf,
    /// As given.
    pub root: String,
    /// Names clients may use.
    pub names: Vec<String>,
    /// Another chat template than the model's.
    pub template: Option<String>,
    /// Sampling defaults of the model's author are left aside.
    pub neutral_defaults: bool,
}

/// Runs a future on this thread, which becomes shard 0.
pub fn on_shard<T>(future: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(WORKERS)
        .build();
    let runtime =
        runtime.map_err(|error| Fault::new(Code::Internal, format!("no runtime: {error}")))?;
    let result = LocalSet::new().block_on(&runtime, future);
    runtime.shutdown_background();
    result
}

/// Everything a server needs.
pub struct Launch {
    /// Settings of the server.
    pub config: ServerConfig,
    /// The model.
    pub model: ModelPlan,
    /// Where clients connect.
    pub listener: Listener,
    /// Where engines connect.
    pub transport: TransportConfig,
}

/// Serves until a signal, or until `broken` says why not. `broken` is something whose end is the server's.
pub async fn run(
    launch: Launch,
    mut signals: Signals,
    broken: impl Future<Output = Fault>,
) -> Result<(), Fault> {
    let mut broken = std::pin::pin!(broken);
    let (grace, shutdown_timeout) = (launch.config.drain_grace, launch.config.shutdown_timeout);
    let started = tokio::select! {
        started = start(launch) => started?,
        fault = &mut broken => return Err(fault),
        number = signals.next() => {
            tracing::info!("stopping on {} before the start was over", Signals::name(number));
            return Ok(());
        }
    };
    let end = tokio::select! {
        fault = &mut broken => Err(fault),
        number = signals.next() => Ok(number),
    };
    if let Ok(number) = &end {
        let (name, running) = (Signals::name(*number), started.running());
        tracing::info!(
            "stopping on {name}: {running} requests run, new ones are taken for {} s, {} s to finish",
            grace.as_secs_f64(),
            shutdown_timeout.as_secs_f64()
        );
        tokio::select! {
            () = started.leave() => {}
            never = signals.exit_at_next() => match never {},
        }
    }
    let deadline = tokio::time::sleep(shutdown_timeout);
    tokio::select! {
        stopped = started.stop(deadline) => log_end(stopped),
        never = signals.exit_at_next() => match never {},
    }
    end.map(drop)
}

fn log_end(stopped: Stopped) {
    match stopped {
        Stopped::Drained => tracing::info!("stopped: every request was answered"),
        Stopped::Aborted => tracing::warn!("stopped: requests that still ran were ended"),
    }
}

async fn start(launch: Launch) -> Result<Server, Fault> {
    let began = Instant::now();
    let plan = launch.model;
    let address = launch
        .listener
        .address()
        .map_err(|error| Fault::new(Code::Address, format!("the HTTP socket: {error}")))?;
    let address = match launch.config.tls {
        Some(_) => address.replacen("http:", "https:", 1),
        None => address,
    };
    let loading = tokio::task::spawn_blocking(move || {
        let model = load(plan);
        memory::give_back_unused();
        model
    });
    let connecting = EngineClient::connect(launch.transport);
    let loaded = async {
        let loaded = loading
            .await
            .map_err(|_| Fault::new(Code::Internal, "reading the model's files failed"))??;
        tracing::info!(
            "tokenizer and chat template: {:.1} s",
            began.elapsed().as_secs_f64()
        );
        Ok(loaded)
    };
    let connected = async {
        connecting
            .await
            .map_err(|error| Fault::new(Code::EngineStart, error.to_string()))
    };
    let (model, engine) = tokio::try_join!(loaded, connected)?;
    let name = model.name().to_owned();
    let server = Server::start(launch.config, model, engine, launch.listener);
    let server = server.map_err(|error| {
        Fault::new(
            Code::Address,
            format!("cannot listen on {address}: {error}"),
        )
    })?;
    tracing::info!(
        "serving {name} on {address}: ready after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    Ok(server)
}

/// Reads the model's files and prepares tokenizer and template.
pub fn load(plan: ModelPlan) -> Result<Model, Fault> {
    let fault = |error: &dyn std::fmt::Display| Fault::new(Code::Model, error.to_string());
    let mut files = ModelFiles::open(&plan.path).map_err(|error| fault(&error))?;
    if plan.neutral_defaults {
        let eos_token_ids = std::mem::take(&mut files.generation.eos_token_ids);
        files.generation = GenerationDefaults {
            eos_token_ids,
            ..GenerationDefaults::default()
        };
    }
    let mut model = Model::load(&files, plan.root, plan.names).map_err(|error| fault(&error))?;
    // The program that runs, whatever has been installed in its place since.
    model.guest_program = Some("/proc/self/exe".into());
    if let Some(source) = plan.template {
        let template = ChatTemplate::compile(&source, tokens(&files));
        model.template =
            Some(template.map_err(|error| Fault::usage(format!("--chat-template: {error}")))?);
        model.about.chat_template = Some(source);
    }
    Ok(model)
}

fn tokens(files: &ModelFiles) -> TemplateTokens {
    let text = |token: &Option<vllm_model_files::SpecialToken>| {
        token.as_ref().map(|token| token.text.clone())
    };
    let special = &files.special_tokens;
    TemplateTokens {
        bos: text(&special.bos),
        eos: text(&special.eos),
        unk: text(&special.unk),
        pad: text(&special.pad),
    }
}
