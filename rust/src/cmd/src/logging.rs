// SPDX-License-Identifier: Apache-2.0

//! Log lines on stderr, one per event, as text or JSON, in the same form as the Python package's.

use std::fmt::{self, Debug};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::fault::Fault;

/// Form of a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object per line.
    Json,
}

impl LogFormat {
    /// By its name.
    pub fn parse(name: &str) -> Result<Self, Fault> {
        match name {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(Fault::usage(format!(
                "log-format is {name:?}; accepted: text or json"
            ))),
        }
    }
}

/// Sends this process's lines to stderr. `RUST_LOG` chooses them, else `VLLM_LOGGING_LEVEL`.
pub fn setup(process: &'static str, format: LogFormat) {
    let (filter, complaint) = filter();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .event_format(Lines { process, format })
        .finish();
    // A second setup in one process changes nothing.
    let _ = tracing::subscriber::set_global_default(subscriber);
    if let Some(complaint) = complaint {
        tracing::warn!("{complaint}");
    }
}

/// The filter, and what is wrong with the variable that should have given it.
fn filter() -> (EnvFilter, Option<String>) {
    let level = std::env::var("VLLM_LOGGING_LEVEL")
        .unwrap_or_default()
        .to_ascii_lowercase();
    let level = match level.as_str() {
        "debug" => "debug",
        "warning" | "warn" => "warn",
        "error" => "error",
        _ => "info",
    };
    // A client that goes away or stays idle is no event for an operator.
    let default = || EnvFilter::new(format!("{level},hyper=error,h2=error"));
    match std::env::var("RUST_LOG") {
        Err(_) => (default(), None),
        Ok(text) => match EnvFilter::try_new(&text) {
            Ok(filter) => (filter, None),
            Err(error) => (
                default(),
                Some(format!("RUST_LOG is ignored: {text:?} {error}")),
            ),
        },
    }
}

struct Lines {
    process: &'static str,
    format: LogFormat,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = match *event.metadata().level() {
            tracing::Level::ERROR => "error",
            tracing::Level::WARN => "warning",
            tracing::Level::INFO => "info",
            _ => "debug",
        };
        match self.format {
            LogFormat::Text => self.text(&mut out, level, &fields),
            LogFormat::Json => self.json(&mut out, level, fields),
        }
    }
}

impl Lines {
    fn text(&self, out: &mut Writer<'_>, level: &str, fields: &Fields) -> fmt::Result {
        let time = chrono::Local::now().format("%H:%M:%S");
        let level = level.to_ascii_uppercase();
        write!(
            out,
            "{time} {level:<7} {}: {}",
            self.process, fields.message
        )?;
        for (name, value) in &fields.others {
            write!(out, " {name}={value}")?;
        }
        out.write_char('\n')
    }

    fn json(&self, out: &mut Writer<'_>, level: &str, fields: Fields) -> fmt::Result {
        let time = chrono::Utc::now().timestamp_micros() as f64 / 1e6;
        let mut line = Map::new();
        line.insert("time".into(), time.into());
        line.insert("level".into(), level.into());
        line.insert("process".into(), self.process.into());
        line.insert("message".into(), fields.message.into());
        line.extend(fields.others);
        writeln!(out, "{}", Value::Object(line))
    }
}

/// An event's message and its other fields.
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text.replace('\n', " "),
            (name, value) => drop(self.others.insert(name.to_owned(), value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}
