// SPDX-License-Identifier: Apache-2.0

//! Log lines on stderr, one per event, as text or JSON, in the same form as the Python package's.
//!
//! No caller ever waits for whoever reads them: see [`crate::log_queue`].

use std::fmt::{self, Debug};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::environment;
use crate::fault::{Code, Fault};
use crate::log_queue::LogQueue;

/// At the end of the process, for lines that are still to be written.
const LAST_WORDS: Duration = Duration::from_millis(500);

static DROPPED: LazyLock<Arc<AtomicU64>> = LazyLock::new(Arc::default);
static LINES: OnceLock<(Lines, LogQueue)> = OnceLock::new();

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
pub fn setup(process: &'static str, format: LogFormat) -> Result<(), Fault> {
    let (filter, complaint) = filter()?;
    let lines = Lines { process, format };
    let queue = LogQueue::before(std::io::stderr(), DROPPED.clone(), confess);
    let queue = queue.map_err(|error| {
        Fault::new(
            Code::Internal,
            format!("no thread for the log: {error}; see `ulimit -u`"),
        )
    })?;
    // A second setup in one process changes nothing.
    let _ = LINES.set((lines, queue.clone()));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || queue.clone())
        .event_format(lines)
        .finish();
    let _ = tracing::subscriber::set_global_default(subscriber);
    std::panic::set_hook(Box::new(tell_panic));
    if let Some(complaint) = complaint {
        tracing::warn!("{complaint}");
    }
    Ok(())
}

/// How many lines found no room so far.
pub fn dropped() -> Arc<AtomicU64> {
    DROPPED.clone()
}

/// Gives lines that wait a short time to be written.
pub fn flush() {
    if let Some((_, queue)) = LINES.get() {
        queue.flush(LAST_WORDS);
    }
}

/// Tells why the process ends, as `error: ...`, in no form, for whoever started it.
pub fn last_words(error: &dyn fmt::Display) {
    match LINES.get() {
        None => eprintln!("error: {error}"),
        Some((_, queue)) => queue.push(format!("error: {error}\n").as_bytes()),
    }
    flush();
}

fn confess(dropped: u64) -> String {
    let message = format!("{dropped} log lines were dropped: nobody read them in time");
    let mut line = String::new();
    if let Some((lines, _)) = LINES.get() {
        // Writing to a text cannot fail.
        let _ = lines.write(
            &mut Writer::new(&mut line),
            "warning",
            Fields::saying(message),
        );
    }
    line
}

/// A panic's own words go to stderr too, which must not hold a shard up.
fn tell_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let backtrace = std::backtrace::Backtrace::capture();
    match backtrace.status() {
        std::backtrace::BacktraceStatus::Captured => tracing::error!("{panic}: {backtrace}"),
        _ => tracing::error!("{panic}; RUST_BACKTRACE=1 shows the way there"),
    }
}

/// The filter, and what is wrong with the variable that should have given it.
fn filter() -> Result<(EnvFilter, Option<String>), Fault> {
    let level = environment::read("VLLM_LOGGING_LEVEL", level, LEVELS)?.unwrap_or("info");
    // A client that goes away or stays idle is no event for an operator.
    let default = || EnvFilter::new(format!("{level},hyper=error,h2=error"));
    let Some(text) = std::env::var_os("RUST_LOG") else {
        return Ok((default(), None));
    };
    let shown = text.to_string_lossy();
    let asked = text.to_str().ok_or_else(|| "is not UTF-8".to_owned());
    let asked = asked.and_then(|text| EnvFilter::try_new(text).map_err(|error| error.to_string()));
    Ok(match asked {
        Ok(filter) => (filter, None),
        Err(error) => (
            default(),
            Some(format!("RUST_LOG is ignored: {shown:?} {error}")),
        ),
    })
}

const LEVELS: &str = "debug, info, warning or error";

fn level(text: &str) -> Option<&'static str> {
    match text.to_ascii_lowercase().as_str() {
        "debug" => Some("debug"),
        "info" => Some("info"),
        "warning" => Some("warn"),
        "error" => Some("error"),
        _ => None,
    }
}

#[derive(Debug, Clone, Copy)]
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
        self.write(&mut out, level, fields)
    }
}

impl Lines {
    fn write(&self, out: &mut Writer<'_>, level: &str, fields: Fields) -> fmt::Result {
        match self.format {
            LogFormat::Text => self.text(out, level, &fields),
            LogFormat::Json => self.json(out, level, fields),
        }
    }

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
    fn saying(message: String) -> Self {
        Self {
            message,
            ..Self::default()
        }
    }

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
