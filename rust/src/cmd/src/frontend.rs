// SPDX-License-Identifier: Apache-2.0

//! `vllm-rs frontend`: the HTTP half below a supervisor, which owns sockets, engines and handshake.

use std::future::pending;
use std::os::fd::RawFd;
use std::time::Duration;

use vllm_engine_client::{Listener as EngineListener, TransportConfig};
use vllm_server::Listener;

use crate::fault::{Code, Fault};
use crate::launch::{self, Launch, ModelPlan};
use crate::logging::{self, LogFormat};
use crate::process;
use crate::resolve;
use crate::settings::{Settings, Shards};
use crate::signals::Signals;
use crate::{descriptors, environment};

/// Flags of `vllm-rs frontend`.
#[derive(Debug, clap::Args)]
pub struct FrontendFlags {
    /// Inherited socket for HTTP, bound, listening or not
    #[arg(long, value_name = "FD")]
    listen_fd: RawFd,
    /// Inherited listening socket that engines get their requests from
    #[arg(long, value_name = "FD")]
    input_listener_fd: RawFd,
    /// Inherited listening socket that engines send their outputs to
    #[arg(long, value_name = "FD")]
    output_listener_fd: RawFd,
    /// Inherited socket for gRPC (not served yet)
    #[arg(long, value_name = "FD")]
    grpc_listen_fd: Option<RawFd>,
    /// Address of a data-parallel coordinator (not supported yet)
    #[arg(long, value_name = "ADDRESS")]
    coordinator_address: Option<String>,
    /// Index of the first engine
    #[arg(long, default_value_t = 0)]
    engine_start_index: u32,
    /// Number of engines
    #[arg(long, default_value_t = 1)]
    engine_count: u32,
    /// Engines of the whole deployment; only the ones above matter here
    #[arg(long, hide = true)]
    data_parallel_size: Option<u32>,
    /// Descriptor that holds the configuration as a JSON object
    #[arg(long, value_name = "FD", conflicts_with = "args_json")]
    args_fd: Option<RawFd>,
    /// The configuration as a JSON object; shows in the process list
    #[arg(long, value_name = "JSON")]
    args_json: Option<String>,
    /// Form of the log lines; the configuration's `log_format` otherwise
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
    /// Event loops: auto (one, more by load) or a number
    #[arg(long, default_value = "auto")]
    shards: String,
}

/// Serves until a signal.
pub fn run(flags: FrontendFlags) -> Result<(), Fault> {
    let fd = flags
        .args_fd
        .map(|fd| process::inherit("--args-fd", fd))
        .transpose()?;
    let settings = Settings::read(flags.args_json.as_deref(), fd)?;
    let format = flags.log_format.map_or_else(|| settings.log_format(), Ok)?;
    logging::setup("frontend", format)?;
    process::die_with_parent();
    descriptors::raise_limit();
    settings.log_others();
    refuse(&flags)?;
    let launch = plan(&flags, settings)?;
    launch::on_shard(async { launch::run(launch, Signals::install()?, pending()).await })
}

fn refuse(flags: &FrontendFlags) -> Result<(), Fault> {
    if let Some(address) = flags
        .coordinator_address
        .as_deref()
        .filter(|address| !address.is_empty())
    {
        return Err(Fault::usage(format!(
            "--coordinator-address {address}: a data-parallel coordinator is not supported yet"
        )));
    }
    if let Some(fd) = flags.grpc_listen_fd {
        return Err(Fault::usage(format!(
            "--grpc-listen-fd {fd}: gRPC is not served yet"
        )));
    }
    Ok(())
}

/// Parses everything before anything is opened.
fn plan(flags: &FrontendFlags, mut settings: Settings) -> Result<Launch, Fault> {
    let shards = Shards::parse(&flags.shards, flags.engine_count as usize)?;
    let config = settings.server(shards)?;
    let patience = settings.patience()?;
    let prefix_affinity = settings.prefix_affinity();
    let ready = environment::seconds("VLLM_ENGINE_READY_TIMEOUT_S")?;
    let http = process::inherit("--listen-fd", flags.listen_fd)?;
    let model = model_plan(&mut settings)?;
    let engine = |flag: &str, fd| {
        let listener = EngineListener::from_fd(process::inherit(flag, fd)?);
        listener.map_err(|error| Fault::new(Code::Address, format!("{flag} {fd}: {error}")))
    };
    Ok(Launch {
        config,
        model,
        listener: Listener::adopt(http).map_err(|error| {
            Fault::new(
                Code::Address,
                format!("--listen-fd {}: {error}", flags.listen_fd),
            )
        })?,
        transport: TransportConfig {
            engine_start_index: flags.engine_start_index,
            engine_count: flags.engine_count,
            patience,
            prefix_affinity,
            ready_timeout: ready.unwrap_or(Duration::from_secs(600)),
            ..TransportConfig::new(
                engine("--input-listener-fd", flags.input_listener_fd)?,
                engine("--output-listener-fd", flags.output_listener_fd)?,
            )
        },
    })
}

fn model_plan(settings: &mut Settings) -> Result<ModelPlan, Fault> {
    let neutral_defaults = match settings.generation_config.as_deref() {
        None | Some("auto") => false,
        Some("vllm") => true,
        Some(other) => {
            return Err(Fault::usage(format!(
                "--generation-config is {other:?}; accepted: auto or vllm"
            )));
        }
    };
    Ok(ModelPlan {
        path: resolve::model(&settings.model)?,
        root: settings
            .model_tag
            .clone()
            .unwrap_or_else(|| settings.model.clone()),
        names: std::mem::take(&mut settings.served_model_name).into(),
        template: settings.chat_template.take(),
        neutral_defaults,
    })
}
