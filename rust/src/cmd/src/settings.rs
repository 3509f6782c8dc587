// SPDX-License-Identifier: Apache-2.0

//! A frontend's configuration as JSON: the object that every launcher of this protocol passes.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use vllm_engine_client::Patience;
use vllm_server::{
    ApiKeys, ClientCertificates, Cors, ProcessCounters, QueueLimits, ServerConfig, Tls, TlsSettings,
};

use crate::fault::Fault;
use crate::logging::{self, LogFormat};
use crate::{descriptors, environment, memory};

/// How often certificate files are looked at.
const CERTIFICATE_PERIOD: Duration = Duration::from_secs(2);
/// Between an answer and the next request, as in every way of starting.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// What a frontend is told.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Path of the model's directory or GGUF file.
    pub model: String,
    /// The model as given.
    pub model_tag: Option<String>,
    /// Names clients may use.
    pub served_model_name: Names,
    /// Accepted keys; none: no key is asked for.
    pub api_key: Names,
    /// Text of a chat template.
    pub chat_template: Option<String>,
    /// `auto`: the author's sampling defaults; `vllm`: neutral ones.
    pub generation_config: Option<String>,
    /// Most candidates per token; -1: no limit.
    pub max_logprobs: Option<i64>,
    /// The marks around a model's thoughts: `reasoning_start_str` and `reasoning_end_str`.
    pub reasoning_config: Option<Value>,
    /// Seconds for running requests after the first signal.
    pub shutdown_timeout: Option<f64>,
    /// Seconds that requests are still taken after that signal.
    pub drain_grace: Option<f64>,
    /// Seconds an engine may show no sign of life; 0: any time.
    pub engine_silence_timeout: Option<f64>,
    /// The same while it may work on a prompt.
    pub engine_prompt_timeout: Option<f64>,
    /// The shortest queue alone decides which engine gets a request.
    pub no_prefix_affinity: Option<bool>,
    /// Choices that may wait; -1: no limit.
    pub max_num_queued_reqs: Option<i64>,
    /// Prompt tokens that may wait; -1: no limit.
    pub max_num_queued_tokens: Option<i64>,
    /// Bytes.
    pub max_request_body_size: Option<usize>,
    /// Seconds.
    pub http_timeout_keep_alive: Option<f64>,
    /// `text` or `json`.
    pub log_format: Option<String>,
    /// Answers carry the request's id.
    pub enable_request_id_headers: Option<bool>,
    /// Origins of pages that may use the server.
    pub allowed_origins: Option<Vec<String>>,
    /// Methods that they may use.
    pub allowed_methods: Option<Vec<String>>,
    /// Headers that they may send.
    pub allowed_headers: Option<Vec<String>>,
    /// They may send the browser's credentials.
    pub allow_credentials: Option<bool>,
    /// Certificate chain.
    pub ssl_certfile: Option<PathBuf>,
    /// Its private key.
    pub ssl_keyfile: Option<PathBuf>,
    /// Authorities of clients' certificates.
    pub ssl_ca_certs: Option<PathBuf>,
    /// 0: no client certificates, 1: optional, 2: required.
    pub ssl_cert_reqs: Option<i64>,
    /// Unknown fields are refused.
    pub strict_fields: Option<bool>,
    /// Tokens per event of a stream.
    pub stream_interval: Option<u32>,
    /// Seconds of silence after which a stream sends a comment; 0: never.
    pub sse_keep_alive_interval: Option<f64>,
    /// Token ids in, token ids out.
    pub enable_scale_out: Option<bool>,
    /// Requests may bring chat templates.
    pub trust_request_chat_template: Option<bool>,
    /// The usage says how many prompt tokens were cached.
    pub enable_prompt_tokens_details: Option<bool>,
    /// No page at `/`.
    pub disable_web_ui: Option<bool>,
    /// `/metrics` needs no key.
    pub public_metrics: Option<bool>,
    /// Keys of other launchers.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// One name or a list.
#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
pub enum Names {
    /// Left out.
    #[default]
    None,
    /// One.
    One(String),
    /// Several, perhaps none.
    Many(Vec<String>),
}

impl From<Names> for Vec<String> {
    fn from(names: Names) -> Self {
        match names {
            Names::None => Vec::new(),
            Names::One(name) => vec![name],
            Names::Many(names) => names,
        }
    }
}

impl Settings {
    /// Reads `--args-json`, or `--args-fd` to its end.
    pub fn read(json: Option<&str>, fd: Option<OwnedFd>) -> Result<Self, Fault> {
        let (flag, text) = match (json, fd) {
            (Some(json), None) => ("--args-json", json.to_owned()),
            (None, Some(fd)) => ("--args-fd", read_all(fd)?),
            _ => {
                return Err(Fault::usage(
                    "the configuration is missing: give --args-fd or --args-json",
                ));
            }
        };
        // The text may hold keys: an error names the place, never the content.
        let mut settings: Self = serde_json::from_str(&text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            Fault::usage(format!(
                "{flag} is not the expected JSON object (line {line}, column {column})"
            ))
        })?;
        if settings.model.is_empty() {
            settings.model = settings.model_tag.clone().unwrap_or_default();
        }
        if settings.model.is_empty() {
            return Err(Fault::usage(format!(
                "{flag} has no \"model\": the path of a model directory or GGUF file"
            )));
        }
        Ok(settings)
    }

    /// The form of log lines.
    pub fn log_format(&self) -> Result<LogFormat, Fault> {
        self.log_format
            .as_deref()
            .map_or(Ok(LogFormat::Text), LogFormat::parse)
    }

    /// The server's settings: these, then the environment, then the defaults.
    pub fn server(&mut self, shards: Shards) -> Result<ServerConfig, Fault> {
        let defaults = ServerConfig::default();
        let keep_alive = seconds("http_timeout_keep_alive", self.http_timeout_keep_alive)?;
        let body = self.max_request_body_size.map_or_else(
            || environment::size("VLLM_HTTP_MAX_REQUEST_BODY_SIZE"),
            |size| Ok(Some(size)),
        );
        let keys = Vec::from(std::mem::take(&mut self.api_key));
        let config = ServerConfig {
            api_keys: ApiKeys::new(&keys).map_err(|error| Fault::usage(error.to_string()))?,
            cors: self.cors(defaults.cors),
            tls: self.tls()?,
            max_body_bytes: body?.unwrap_or(defaults.max_body_bytes),
            max_logprobs: max_logprobs(self.max_logprobs, defaults.max_logprobs)?,
            thinking_budgets: self.reasoning_config.is_some(),
            queue: self.queue(defaults.queue)?,
            shards: shards.least,
            max_shards: shards.most,
            shutdown_timeout: seconds("shutdown_timeout", self.shutdown_timeout)?
                .unwrap_or(defaults.shutdown_timeout),
            drain_grace: seconds("drain_grace", self.drain_grace)?.unwrap_or(defaults.drain_grace),
            max_connections: descriptors::connections(shards.most),
            counters: ProcessCounters {
                log_lines_dropped: logging::dropped(),
                ..ProcessCounters::default()
            },
            give_back: memory::give_back_idle,
            dev_mode: environment::flag("VLLM_SERVER_DEV_MODE")?.unwrap_or(false),
            request_id_headers: self.enable_request_id_headers.unwrap_or(false),
            strict_fields: self.strict_fields.unwrap_or(false),
            stream_interval: self.stream_interval.unwrap_or(1).max(1),
            sse_keep_alive: seconds("sse_keep_alive_interval", self.sse_keep_alive_interval)?
                .filter(|period| !period.is_zero()),
            scale_out: self.enable_scale_out.unwrap_or(false),
            trust_templates: self.trust_request_chat_template.unwrap_or(false),
            prompt_tokens_details: self.enable_prompt_tokens_details.unwrap_or(false),
            disable_web_ui: self.disable_web_ui.unwrap_or(false),
            public_metrics: self.public_metrics.unwrap_or(false),
            idle_timeout: keep_alive
                .map_or_else(
                    || environment::seconds("VLLM_HTTP_TIMEOUT_KEEP_ALIVE"),
                    |s| Ok(Some(s)),
                )?
                .unwrap_or(KEEP_ALIVE),
            ..defaults
        };
        config
            .validate()
            .map_err(|error| Fault::usage(error.to_string()))?;
        Ok(config)
    }

    /// How long an engine may be silent.
    pub fn patience(&self) -> Result<Patience, Fault> {
        let defaults = Patience::default();
        let silence = seconds("engine_silence_timeout", self.engine_silence_timeout)?;
        let prompt = seconds("engine_prompt_timeout", self.engine_prompt_timeout)?;
        Ok(Patience {
            silence: silence.unwrap_or(defaults.silence),
            prompt: prompt.unwrap_or(defaults.prompt),
        })
    }

    /// Whether prompts that begin alike go to one engine.
    pub fn prefix_affinity(&self) -> bool {
        !self.no_prefix_affinity.unwrap_or(false)
    }

    fn cors(&self, defaults: Cors) -> Cors {
        let list = |given: &Option<Vec<String>>, default| given.clone().unwrap_or(default);
        Cors {
            origins: list(&self.allowed_origins, defaults.origins),
            methods: list(&self.allowed_methods, defaults.methods),
            headers: list(&self.allowed_headers, defaults.headers),
            credentials: self.allow_credentials.unwrap_or(defaults.credentials),
        }
    }

    fn tls(&self) -> Result<Option<Arc<Tls>>, Fault> {
        let client_certificates = match self.ssl_cert_reqs {
            None | Some(0) => ClientCertificates::No,
            Some(1) => ClientCertificates::Optional,
            Some(2) => ClientCertificates::Required,
            Some(other) => {
                return Err(Fault::usage(format!(
                    "--ssl-cert-reqs is {other}; accepted: 0 (no), 1 (optional), 2 (required)"
                )));
            }
        };
        let (certificate, key) = match (&self.ssl_certfile, &self.ssl_keyfile) {
            // Other launchers spell every default out: 0 asks for nothing.
            (None, None)
                if self.ssl_ca_certs.is_none() && matches!(self.ssl_cert_reqs, None | Some(0)) =>
            {
                return Ok(None);
            }
            (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
            _ => {
                return Err(Fault::usage(
                    "TLS needs both --ssl-certfile and --ssl-keyfile",
                ));
            }
        };
        let tls = Tls::load(TlsSettings {
            certificate,
            key,
            client_authorities: self.ssl_ca_certs.clone(),
            client_certificates,
            period: CERTIFICATE_PERIOD,
        });
        tls.map(Some)
            .map_err(|error| Fault::usage(format!("TLS: {error}")))
    }

    fn queue(&self, defaults: QueueLimits) -> Result<QueueLimits, Fault> {
        let requests = self.max_num_queued_reqs;
        let tokens = self.max_num_queued_tokens;
        Ok(QueueLimits {
            requests: limit("max_num_queued_reqs", requests, defaults.requests)?,
            tokens: limit("max_num_queued_tokens", tokens, defaults.tokens)?,
        })
    }

    /// One line for the keys that mean nothing here.
    pub fn log_others(&self) {
        if !self.others.is_empty() {
            let names: Vec<_> = self.others.keys().collect();
            tracing::debug!("ignoring configuration that is not known here: {names:?}");
        }
    }
}

/// The flag that gives a value of the configuration.
fn flag(name: &str) -> String {
    format!("--{}", name.replace('_', "-"))
}

fn seconds(name: &str, value: Option<f64>) -> Result<Option<Duration>, Fault> {
    let parsed = value.map(|value| Duration::try_from_secs_f64(value).map_err(|_| value));
    parsed.transpose().map_err(|value| {
        Fault::usage(format!(
            "{} is {value}; accepted: seconds, at least 0",
            flag(name)
        ))
    })
}

/// A count of which -1 means that there is no limit.
fn limit(name: &str, given: Option<i64>, default: u64) -> Result<u64, Fault> {
    match given {
        None => Ok(default),
        Some(-1) => Ok(u64::MAX),
        Some(value) => u64::try_from(value).map_err(|_| {
            Fault::usage(format!(
                "{} is {value}; accepted: -1 (no limit), 0 or more",
                flag(name)
            ))
        }),
    }
}

fn max_logprobs(given: Option<i64>, default: u32) -> Result<u32, Fault> {
    let most = limit("max_logprobs", given, u64::from(default))?;
    Ok(u32::try_from(most).unwrap_or(u32::MAX))
}

fn read_all(fd: OwnedFd) -> Result<String, Fault> {
    let mut text = String::new();
    let read = File::from(fd).read_to_string(&mut text);
    read.map_err(|error| Fault::usage(format!("--args-fd could not be read: {error}")))?;
    Ok(text)
}

/// Event loops at start and at most.
#[derive(Debug, Clone, Copy)]
pub struct Shards {
    /// At start.
    pub least: usize,
    /// At most, opened by load.
    pub most: usize,
}

impl Shards {
    /// `auto`: one, and more by load up to the CPUs that the engines leave. A number: exactly so many.
    pub fn parse(text: &str, engines: usize) -> Result<Self, Fault> {
        if text == "auto" {
            let cpus = std::thread::available_parallelism().map_or(1, usize::from);
            let most = cpus.saturating_sub(engines).clamp(1, 256);
            return Ok(Self { least: 1, most });
        }
        match text.parse() {
            Ok(count @ 1..=256) => Ok(Self {
                least: count,
                most: count,
            }),
            _ => Err(Fault::usage(format!(
                "--shards is {text:?}; accepted: auto, or 1 to 256"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Settings, Fault> {
        Settings::read(Some(json), None)
    }

    #[test]
    fn names_are_one_or_many_and_unknown_keys_are_kept_aside() {
        let mut settings =
            read(r#"{"model": "/m", "served_model_name": "x", "api_key": ["a", "b"], "grpc": 1}"#)
                .expect("valid");
        assert_eq!(
            Vec::from(std::mem::take(&mut settings.served_model_name)),
            ["x"]
        );
        assert_eq!(settings.others.len(), 1);
        let config = settings
            .server(Shards { least: 1, most: 1 })
            .expect("valid");
        assert_eq!(config.api_keys.len(), 2);
    }

    #[test]
    fn a_launcher_that_spells_defaults_out_asks_for_nothing() {
        let mut settings = read(
            r#"{"model_tag": "/m", "served_model_name": null, "api_key": null, "ssl_keyfile": null,
                "ssl_certfile": null, "ssl_ca_certs": null, "ssl_cert_reqs": 0}"#,
        )
        .expect("valid");
        assert_eq!(settings.model, "/m");
        let config = settings
            .server(Shards { least: 1, most: 1 })
            .expect("no TLS was asked for");
        assert!(config.tls.is_none());
    }

    #[test]
    fn errors_never_show_the_content() {
        let fault = read(r#"{"model": "/m", "api_key": "secret", "max_logprobs": "x"}"#)
            .expect_err("a type error");
        assert!(!fault.to_string().contains("secret"), "{fault}");
        assert!(read("{}").is_err());
    }

    #[test]
    fn shards_are_auto_or_a_number() {
        assert!(Shards::parse("auto", 1000).is_ok_and(|shards| shards.most == 1));
        assert!(Shards::parse("3", 1).is_ok_and(|shards| shards.least == 3 && shards.most == 3));
        assert!(Shards::parse("0", 1).is_err());
    }
}
