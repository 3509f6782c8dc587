// SPDX-License-Identifier: Apache-2.0

//! `vllm-rs serve MODEL`: this process owns the handshake, and launches engines or waits for them.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use tokio::process::{Child, Command};
use vllm_engine_client::handshake::{HandshakeConfig, HandshakeOwner};
use vllm_engine_client::{Listener as EngineListener, TransportConfig};
use vllm_server::Listener;

use crate::fault::{Code, Fault};
use crate::http_flags::{HttpFlags, seconds};
use crate::launch::{self, Launch, ModelPlan};
use crate::logging::{self, LogFormat};
use crate::process;
use crate::resolve;
use crate::settings::{Names, Settings, Shards};
use crate::signals::Signals;
use crate::{descriptors, environment};

/// Flags of `vllm-rs serve`.
#[derive(Debug, clap::Args)]
pub struct ServeFlags {
    /// Directory, GGUF file, name of an embedded model, or ORG/NAME
    model: String,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0: any free one
    #[arg(long, default_value_t = 8000, value_parser = port)]
    port: u16,
    /// Names clients may use; default: MODEL as given
    #[arg(long, num_args = 1.., value_name = "NAME")]
    served_model_name: Vec<String>,
    /// Key that clients must send; repeatable; shows in the process list (VLLM_API_KEY does not)
    #[arg(long, value_name = "KEY")]
    api_key: Vec<String>,
    /// File with one key per line; blank lines and lines that begin with # are none
    #[arg(long, value_name = "PATH")]
    api_key_file: Option<std::path::PathBuf>,
    /// File with a Jinja chat template
    #[arg(long, value_name = "PATH")]
    chat_template: Option<std::path::PathBuf>,
    /// auto: sampling defaults of the model's author; vllm: neutral ones
    #[arg(long, default_value = "auto", value_parser = ["auto", "vllm"])]
    generation_config: String,
    /// Most log probabilities per token; -1: no limit
    #[arg(long, allow_negative_numbers = true)]
    max_logprobs: Option<i64>,
    /// Marks around a model's thoughts, as {"reasoning_start_str": "<think>", "reasoning_end_str": "</think>"}: what
    /// `thinking_token_budget` needs
    #[arg(long, value_name = "JSON", value_parser = json)]
    reasoning_config: Option<serde_json::Value>,
    /// Largest accepted body in bytes, with a unit if you like (32MiB)
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_request_body_size: Option<usize>,
    #[command(flatten)]
    http: HttpFlags,
    /// Seconds that running requests get to finish after the first signal
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS", value_parser = seconds)]
    shutdown_timeout: f64,
    /// Seconds after that signal in which /ready says 503 and requests are still taken; default: 0
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    drain_grace: Option<f64>,
    /// Seconds an engine may show no sign of life before its requests fail; 0: any time
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    engine_silence_timeout: Option<f64>,
    /// The same while it may work on a prompt, whose steps take long
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    engine_prompt_timeout: Option<f64>,
    /// Form of the log lines
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,
    /// Event loops: auto (one, more by load) or a number
    #[arg(long, default_value = "auto")]
    shards: String,
    /// Address that engines connect to
    #[arg(long, default_value = "127.0.0.1")]
    data_parallel_address: String,
    /// Port of the handshake; 0: any free one
    #[arg(long, default_value_t = 0, value_parser = port)]
    data_parallel_rpc_port: u16,
    /// Engines in total
    #[arg(long, default_value_t = 1, value_parser = count)]
    data_parallel_size: u32,
    /// Engines launched here; default: all
    #[arg(long, value_parser = count)]
    data_parallel_size_local: Option<u32>,
    /// Flags for the engines, after `--`
    #[arg(last = true, value_name = "ENGINE_FLAGS")]
    engine_flags: Vec<String>,
}

fn size(text: &str) -> Result<usize, String> {
    environment::parse_size(text).ok_or_else(|| format!("accepted: {}", environment::SIZES))
}

fn json(text: &str) -> Result<serde_json::Value, String> {
    serde_json::from_str(text).map_err(|error| format!("this is not JSON: {error}"))
}

fn port(text: &str) -> Result<u16, String> {
    text.parse()
        .map_err(|_| "accepted: a port from 0 (any free one) to 65535".to_owned())
}

fn count(text: &str) -> Result<u32, String> {
    text.parse()
        .map_err(|_| "accepted: a whole number of engines".to_owned())
}

/// Serves until a signal, or until an engine's process ends.
pub fn run(flags: ServeFlags) -> Result<(), Fault> {
    logging::setup("frontend", flags.log_format)?;
    descriptors::raise_limit();
    let local = flags
        .data_parallel_size_local
        .unwrap_or(flags.data_parallel_size);
    if flags.data_parallel_size == 0 || local > flags.data_parallel_size {
        let size = flags.data_parallel_size;
        return Err(Fault::usage(format!(
            "--data-parallel-size {size} and --data-parallel-size-local {local} do not fit together"
        )));
    }
    refuse_keys(&flags.engine_flags)?;
    let mut settings = settings(&flags)?;
    flags.http.apply(&mut settings);
    let patience = settings.patience()?;
    let prefix_affinity = settings.prefix_affinity();
    let config = settings.server(Shards::parse(&flags.shards, local as usize)?)?;
    let ready =
        environment::seconds("VLLM_ENGINE_READY_TIMEOUT_S")?.unwrap_or(Duration::from_secs(600));
    let listener = bind_http(&flags)?;
    if local > 0 {
        resolve::check_python()?;
    }
    let path = resolve::model(&flags.model)?;
    let model = ModelPlan {
        path,
        root: flags.model.clone(),
        names: flags.served_model_name.clone(),
        template: settings.chat_template.take(),
        neutral_defaults: flags.generation_config == "vllm",
    };
    launch::on_shard(async {
        let signals = Signals::install()?;
        let (mut transport, owner) = engine_sockets(&flags, ready).await?;
        transport.patience = patience;
        transport.prefix_affinity = prefix_affinity;
        let child = if local > 0 {
            Some(launch_engines(&flags, local, owner.address())?)
        } else {
            None
        };
        let launch = Launch {
            config,
            model,
            listener,
            transport,
        };
        let result = with_engines(child, |ended| launch::run(launch, signals, ended)).await;
        drop(owner);
        result
    })
}

/// Engines need no keys, and what is in their arguments shows in the list of processes.
fn refuse_keys(engine_flags: &[String]) -> Result<(), Fault> {
    let is_key = |flag: &&String| flag.replace('_', "-").starts_with("--api-key");
    match engine_flags.iter().find(is_key) {
        None => Ok(()),
        // The flag's value may follow an equals sign.
        Some(_) => Err(Fault::usage(
            "--api-key behind `--`: engines need no keys; give it before `--`",
        )),
    }
}

/// Runs a server beside its engines' process, which is gone afterwards.
async fn with_engines<F: Future<Output = Result<(), Fault>>>(
    child: Option<Child>,
    run: impl FnOnce(std::pin::Pin<Box<dyn Future<Output = Fault>>>) -> F,
) -> Result<(), Fault> {
    let Some(mut child) = child else {
        return run(Box::pin(std::future::pending())).await;
    };
    let (told, ended) = tokio::sync::oneshot::channel();
    let (stop, stopping) = tokio::sync::oneshot::channel::<()>();
    let watch = tokio::task::spawn_local(async move {
        tokio::select! {
            status = child.wait() => drop(told.send(status)),
            _ = stopping => process::stop(&mut child, "the engines' process").await,
        }
    });
    let result = run(Box::pin(async move {
        match ended.await {
            Ok(status) => describe_end(status),
            Err(_) => std::future::pending().await,
        }
    }))
    .await;
    drop(stop);
    let _ = watch.await;
    result
}

fn describe_end(status: std::io::Result<std::process::ExitStatus>) -> Fault {
    let Ok(status) = status else {
        return Fault::new(Code::EngineDied, "the engine's process was lost");
    };
    let code = status
        .code()
        .and_then(Code::told)
        .unwrap_or(Code::EngineDied);
    Fault::new(code, format!("the engine's process ended: {status}"))
}

fn settings(flags: &ServeFlags) -> Result<Settings, Fault> {
    let read = |flag: &str, path: &std::path::Path| {
        std::fs::read_to_string(path)
            .map_err(|error| Fault::usage(format!("{flag} {}: {error}", path.display())))
    };
    let mut keys = flags.api_key.clone();
    if !keys.is_empty() {
        tracing::warn!(
            "--api-key shows in the process list: VLLM_API_KEY or --api-key-file is better"
        );
    }
    if let Some(path) = &flags.api_key_file {
        let text = read("--api-key-file", path)?;
        keys.extend(
            text.trim_start_matches('\u{feff}') // some editors put a mark in front
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty() && !line.starts_with('#'))
                .map(str::to_owned),
        );
    }
    keys.extend(environment::key("VLLM_API_KEY")?);
    let template = flags
        .chat_template
        .as_deref()
        .map(|path| read("--chat-template", path))
        .transpose()?;
    Ok(Settings {
        api_key: Names::Many(keys),
        chat_template: template,
        max_logprobs: flags.max_logprobs,
        reasoning_config: flags.reasoning_config.clone(),
        shutdown_timeout: Some(flags.shutdown_timeout),
        drain_grace: flags.drain_grace,
        max_request_body_size: flags.max_request_body_size,
        engine_silence_timeout: flags.engine_silence_timeout,
        engine_prompt_timeout: flags.engine_prompt_timeout,
        ..Settings::default()
    })
}

fn bind_http(flags: &ServeFlags) -> Result<Listener, Fault> {
    let (host, port) = (flags.host.as_str(), flags.port);
    let fault = |why: &dyn std::fmt::Display| {
        Fault::new(
            Code::Address,
            format!(
                "cannot listen on {host} port {port}: {why}; choose others with --host and --port"
            ),
        )
    };
    let address = match host.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, port),
        Err(_) => {
            let found = (host, port)
                .to_socket_addrs()
                .map_err(|error| fault(&error))?
                .next();
            found.ok_or_else(|| fault(&"the name has no address"))?
        }
    };
    Listener::bind(address).map_err(|error| fault(&error))
}

/// Handshake, input and output on TCP: no file is left behind, whoever dies when.
async fn engine_sockets(
    flags: &ServeFlags,
    ready: Duration,
) -> Result<(TransportConfig, HandshakeOwner), Fault> {
    let host = &flags.data_parallel_address;
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.clone()
    };
    let bind = |port: u16| {
        let address = format!("tcp://{host}:{port}");
        EngineListener::bind(&address).map_err(|error| {
            Fault::new(
                Code::Address,
                format!("cannot listen on {address}: {error}"),
            )
        })
    };
    let (input, output) = (bind(0)?, bind(0)?);
    let address = |listener: &EngineListener| {
        listener
            .address()
            .map_err(|error| Fault::new(Code::Address, format!("engine socket: {error}")))
    };
    let owner = HandshakeOwner::start(HandshakeConfig {
        listener: bind(flags.data_parallel_rpc_port)?,
        engine_start_index: 0,
        engine_count: flags.data_parallel_size,
        input: address(&input)?,
        output: address(&output)?,
    })
    .await
    .map_err(|error| Fault::new(Code::Address, error.to_string()))?;
    tracing::info!("engines connect to {}", owner.address());
    let transport = TransportConfig {
        engine_count: flags.data_parallel_size,
        ready_timeout: ready,
        ..TransportConfig::new(input, output)
    };
    Ok((transport, owner))
}

/// Starts the Python package without its frontend.
fn launch_engines(flags: &ServeFlags, local: u32, handshake: &str) -> Result<Child, Fault> {
    let port = handshake.rsplit(':').next().unwrap_or_default();
    let mut command = Command::new(resolve::python());
    command.args(["-m", "vllm.cli", "serve", &flags.model, "--headless"]);
    command.args([
        "--data-parallel-address",
        &flags.data_parallel_address,
        "--data-parallel-rpc-port",
        port,
    ]);
    command.args([
        "--data-parallel-size",
        &flags.data_parallel_size.to_string(),
    ]);
    command.args(["--data-parallel-size-local", &local.to_string()]);
    if flags.log_format == LogFormat::Json {
        command.args(["--log-format", "json"]);
    }
    if let Some(most) = flags.max_logprobs {
        command.args(["--max-logprobs", &most.to_string()]);
    }
    if let Some(marks) = &flags.reasoning_config {
        command.args(["--reasoning-config", &marks.to_string()]);
    }
    command.args(&flags.engine_flags);
    // Keys are the frontend's alone.
    command.env_remove("VLLM_API_KEY");
    process::spawn(command, "the engine")
}
