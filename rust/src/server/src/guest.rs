// SPDX-License-Identifier: Apache-2.0

//! Templates that requests bring, each rendered in a process of its own.
//!
//! A template is a program. Fuel counts its steps, and some steps take long: comparing two lists that hold themselves
//! sixty times over never ends. So the system counts what such a process uses, and ends it at the limit.
//!
//! Owns: what goes to that process and comes back, and its limits. Must not know: requests.

use std::io::{self, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vllm_chat::{ChatTemplate, TemplateTokens};
use vllm_openai::ApiError;

use crate::conversation::{Conversation, sentence};

/// The program's argument.
pub const VERB: &str = "render-guest";

/// Processor time of the process, a rendering and all around it. A body of 64 KiB may cost 200 ms in all: what is left
/// is for taking the process down, some 20 ms, and for encoding the text.
const CPU: Duration = Duration::from_millis(100);

/// More time for each MiB of the request: a long conversation is read, rendered and written.
const CPU_PER_MIB: Duration = Duration::from_millis(100);

/// Address space of the process, stack and program included.
const MEMORY: u64 = 512 << 20;

/// Longest text that a template adds to what the request holds. So much of the costliest text takes some 11 ms to encode.
const TEXT: usize = 64 << 10;

/// A template and what it is rendered with.
#[derive(Serialize)]
pub struct Guest<'a> {
    source: &'a str,
    tokens: &'a TemplateTokens,
    conversation: &'a Conversation,
}

#[derive(Deserialize)]
struct Received {
    source: String,
    tokens: TemplateTokens,
    conversation: Conversation,
}

/// Why there is no text, for the client.
#[derive(Serialize, Deserialize)]
struct Refusal {
    field: String,
    message: String,
}

impl<'a> Guest<'a> {
    /// `source` with the special tokens of the model.
    pub fn new(
        source: &'a str,
        tokens: &'a TemplateTokens,
        conversation: &'a Conversation,
    ) -> Self {
        Self {
            source,
            tokens,
            conversation,
        }
    }

    /// Renders in this process, for those who bring a template to a program that they run themselves.
    ///
    /// # Errors
    ///
    /// For the client, if the template does not compile, refuses the conversation or fails on it.
    pub fn render(&self) -> Result<String, ApiError> {
        let text = vllm_chat::on_deep_stack(|| {
            render(self.source, self.tokens.clone(), self.conversation)
        });
        text.map_err(|error| failed(&error))?
    }

    /// Renders in a process of `program VERB`, which calls [`serve`].
    ///
    /// # Errors
    ///
    /// As [`Self::render`], and if the process reaches one of its limits.
    pub fn render_in(&self, program: &Path) -> Result<String, ApiError> {
        let task = serde_json::to_vec(self).map_err(|error| failed(&error.into()))?;
        let output = run(program, &task).map_err(|error| failed(&error))?;
        match output.status.signal() {
            None => read(&output),
            Some(libc::SIGPROF) => Err(out_of_time(task.len())),
            Some(_) => Err(out_of_memory(task.len())),
        }
    }
}

fn render(
    source: &str,
    tokens: TemplateTokens,
    conversation: &Conversation,
) -> Result<String, ApiError> {
    let template = ChatTemplate::compile_guest(source, tokens)
        .map_err(|error| ApiError::field("chat_template", sentence(&error.to_string())))?;
    conversation.render(&template)
}

fn run(program: &Path, task: &[u8]) -> io::Result<Output> {
    let mut child = Command::new(program)
        .arg(VERB)
        // The allocator takes address space for much more than it uses.
        .env("MIMALLOC_ARENA_RESERVE", "32MiB")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that has ended says why below.
        let _ = stdin.write_all(task);
    }
    child.wait_with_output()
}

fn read(output: &Output) -> Result<String, ApiError> {
    let answer: Result<String, Refusal> = serde_json::from_slice(&output.stdout)
        .map_err(|error| failed(&io::Error::other(format!("{}: {error}", output.status))))?;
    answer.map_err(|refusal| ApiError::field(refusal.field, refusal.message))
}

fn failed(error: &io::Error) -> ApiError {
    tracing::error!(%error, "the process of a request's template failed");
    ApiError::internal()
}

fn cpu_limit(task: usize) -> Duration {
    CPU + CPU_PER_MIB.mul_f64(task as f64 / f64::from(1 << 20))
}

fn text_limit(task: usize) -> usize {
    // The shortest message takes some fifty bytes of JSON, the tags around it about thirty.
    TEXT + task
}

fn memory_limit(task: usize) -> u64 {
    // Values of JSON take some ten times their text.
    MEMORY + 64 * task as u64
}

fn out_of_time(task: usize) -> ApiError {
    let limit = cpu_limit(task).as_millis();
    ApiError::field(
        "chat_template",
        format!(
            "Rendering `chat_template` takes more than {limit} ms of processor time: shorten the conversation or the \
             template."
        ),
    )
}

fn out_of_memory(task: usize) -> ApiError {
    let limit = memory_limit(task) >> 20;
    ApiError::field(
        "chat_template",
        format!(
            "Rendering `chat_template` takes more than {limit} MiB of memory, or nests values or calls too deep: \
             shorten the conversation or the template."
        ),
    )
}

fn bounded(text: String, limit: usize) -> Result<String, ApiError> {
    if text.len() <= limit {
        return Ok(text);
    }
    let message = format!(
        "`chat_template` makes a prompt of {} bytes; at most {limit} are taken for a request of this size.",
        text.len()
    );
    Err(ApiError::field("chat_template", message))
}

/// The other end: reads a template from standard input, renders it within the limits, writes the answer.
///
/// # Errors
///
/// If standard input or output fails, or holds what no server wrote.
pub fn serve() -> io::Result<()> {
    let mut task = Vec::new();
    io::stdin().read_to_end(&mut task)?;
    limit(task.len())?;
    let received: Received = serde_json::from_slice(&task)?;
    let text = render(&received.source, received.tokens, &received.conversation);
    let answer = text
        .and_then(|text| bounded(text, text_limit(task.len())))
        .map_err(|error| Refusal {
            field: error.param.unwrap_or_default(),
            message: error.message,
        });
    serde_json::to_writer(io::stdout().lock(), &answer)?;
    Ok(())
}

/// Lets the system end this process at the limits of a task of so many bytes.
fn limit(task: usize) -> io::Result<()> {
    let most = |limit| libc::rlimit {
        rlim_cur: limit,
        rlim_max: limit,
    };
    let cpu = cpu_limit(task);
    let timer = libc::itimerval {
        it_interval: libc::timeval {
            tv_sec: 0,
            tv_usec: 0,
        },
        it_value: libc::timeval {
            tv_sec: cpu.as_secs() as libc::time_t,
            tv_usec: libc::suseconds_t::from(cpu.subsec_micros() as i32),
        },
    };
    // SAFETY: the calls read the values that they are given, and keep no reference.
    let results = unsafe {
        [
            libc::setrlimit(libc::RLIMIT_CORE, &most(0)),
            libc::setrlimit(libc::RLIMIT_AS, &most(memory_limit(task))),
            libc::setitimer(libc::ITIMER_PROF, &timer, std::ptr::null_mut()),
        ]
    };
    if results.iter().all(|result| *result == 0) {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
