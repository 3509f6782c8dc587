// SPDX-License-Identifier: Apache-2.0

//! From a request to token ids: render, encode, and the limits of the model's context.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use vllm_chat::TemplateTokens;
use vllm_openai::{ApiError, ChatRequest, Options, Prompt};

use crate::conversation::Conversation;
use crate::guest::Guest;
use crate::model::Model;
use crate::routes::Head;
use crate::sampling;

/// Longer texts are encoded on the worker threads: about a millisecond of work, and every stream of the shard waits
/// as long as a step on the shard takes.
const INLINE_BYTES: usize = 16 << 10;

/// The same for bodies that are read as JSON, which is faster than encoding.
const INLINE_JSON_BYTES: usize = 64 << 10;

/// Token ids of one prompt.
pub type Ids = Arc<[u32]>;

/// Reads a request's body, a long one on the worker threads.
pub async fn read<T: Send + 'static>(
    head: &Head,
    body: Bytes,
    from_json: impl FnOnce(&[u8]) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    if body.len() <= INLINE_JSON_BYTES {
        return from_json(&body);
    }
    on_worker(head, move || from_json(&body)).await?
}

/// Renders and encodes a conversation; gives back the request's options.
pub async fn chat(head: &Head, request: ChatRequest) -> Result<(Options, Ids), ApiError> {
    check_template(head, &request)?;
    let (options, mut job) = ChatJob::split(request);
    job.encoding.must_fit = must_fit(&options);
    let ids = chat_ids(head, job).await?;
    let ids = fit(&head.app.model, &options, ids, "messages")?;
    Ok((options, ids))
}

/// As [`chat`], on this thread and without a server.
pub fn chat_here(model: &Model, request: ChatRequest) -> Result<(Options, Ids), ApiError> {
    let (options, mut job) = ChatJob::split(request);
    job.encoding.must_fit = must_fit(&options);
    let ids = fit(model, &options, job.run(model)?.ids, "messages")?;
    Ok((options, ids))
}

/// As [`completion`], on this thread and without a server.
pub fn completion_here(
    model: &Model,
    options: &Options,
    prompt: Prompt,
) -> Result<Vec<Ids>, ApiError> {
    let lists = match prompt {
        Prompt::Ids(lists) => lists,
        Prompt::Texts(texts) => encode_all(model, &texts, Encoding::of_completion(options))?,
    };
    fit_all(model, options, lists)
}

/// Renders and encodes a conversation for `/tokenize`: no limit on its length but the body's.
pub async fn chat_unlimited(head: &Head, request: ChatRequest) -> Result<Vec<u32>, ApiError> {
    check_template(head, &request)?;
    chat_ids(head, ChatJob::split(request).1).await
}

/// A template is a program: it runs only where the operator trusts clients, and in a process of its own.
fn check_template(head: &Head, request: &ChatRequest) -> Result<(), ApiError> {
    if request.chat_template.is_none() || head.app.shared.config.trust_templates {
        return Ok(());
    }
    Err(ApiError::field(
        "chat_template",
        "`chat_template` is taken only by a server started with --trust-request-chat-template. Leave it out to render \
         with the model's own template.",
    )
    .with_code("unsupported_field"))
}

async fn chat_ids(head: &Head, job: ChatJob) -> Result<Vec<u32>, ApiError> {
    let app = &head.app;
    let model = app.model.clone();
    let encoded = if job.is_heavy() {
        on_worker(head, move || job.run(&model)).await?
    } else {
        // A short conversation may make a long text.
        let rendered = job.render(&model)?;
        if rendered.text.len() <= INLINE_BYTES {
            rendered.encode(&model)
        } else {
            on_worker(head, move || rendered.encode(&model)).await?
        }
    };
    let Encoded {
        ids,
        rendering,
        encoding,
    } = encoded?;
    app.cells.render.observe(rendering);
    app.cells.tokenize.observe(encoding);
    Ok(ids)
}

/// Encodes the prompts of a completions request.
pub async fn completion(
    head: &Head,
    options: &Options,
    prompt: Prompt,
) -> Result<Vec<Ids>, ApiError> {
    let lists = match prompt {
        Prompt::Ids(lists) => lists,
        Prompt::Texts(texts) => encode(head, texts, Encoding::of_completion(options)).await?,
    };
    fit_all(&head.app.model, options, lists)
}

fn fit_all(model: &Model, options: &Options, lists: Vec<Vec<u32>>) -> Result<Vec<Ids>, ApiError> {
    lists
        .into_iter()
        .map(|ids| fit(model, options, ids, "prompt"))
        .collect()
}

/// How a text is encoded.
#[derive(Clone, Copy)]
pub struct Encoding {
    /// Within the tokenizer's own frame.
    pub add_special_tokens: bool,
    /// A text that cannot fit the model's context is refused before any work is done for it.
    pub must_fit: bool,
}

impl Encoding {
    fn of_completion(options: &Options) -> Self {
        Self {
            add_special_tokens: options.add_special_tokens.unwrap_or(true),
            must_fit: must_fit(options),
        }
    }
}

/// A prompt that will be cut may have any length.
fn must_fit(options: &Options) -> bool {
    options.truncate_prompt_tokens.is_none()
}

/// Encodes texts, long ones on the worker threads.
pub async fn encode(
    head: &Head,
    texts: Vec<String>,
    how: Encoding,
) -> Result<Vec<Vec<u32>>, ApiError> {
    let app = &head.app;
    let started = Instant::now();
    let model = app.model.clone();
    let bytes: usize = texts.iter().map(String::len).sum();
    let run = move || encode_all(&model, &texts, how);
    let ids = if bytes <= INLINE_BYTES {
        run()
    } else {
        on_worker(head, run).await?
    };
    app.cells.tokenize.observe(started.elapsed().as_secs_f64());
    ids
}

fn encode_all(model: &Model, texts: &[String], how: Encoding) -> Result<Vec<Vec<u32>>, ApiError> {
    let encode = |text: &String| encode_one(model, text, how, "prompt");
    texts.iter().map(encode).collect()
}

fn encode_one(model: &Model, text: &str, how: Encoding, field: &str) -> Result<Vec<u32>, ApiError> {
    let context = model.context as usize;
    if how.must_fit && cannot_fit(model, text) {
        let longest = model.tokenizer.longest_token().unwrap_or(0);
        return Err(ApiError::context_bytes(field, text.len(), longest, context));
    }
    let ids = model.tokenizer.encode(text, how.add_special_tokens);
    ids.map_err(|error| ApiError::field(field, format!("`{field}`: {error}.")))
}

/// A text's bytes are counted only where all of them together could be too many.
fn cannot_fit(model: &Model, text: &str) -> bool {
    let (tokenizer, context) = (&model.tokenizer, model.context as usize);
    let longest = tokenizer.longest_token();
    longest.is_some_and(|longest| text.len().div_ceil(longest) >= context)
        && tokenizer.least_tokens(text) >= context
}

async fn on_worker<T: Send + 'static>(
    head: &Head,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    let workers = &head.app.shared.workers;
    workers.spawn_blocking(job).await.map_err(|error| {
        tracing::error!(request = head.id, %error, "a prompt's worker failed");
        ApiError::internal()
    })
}

/// A conversation on its way to token ids; moves to another thread when it is long.
struct ChatJob {
    conversation: Conversation,
    /// In place of the model's own.
    template: Option<String>,
    encoding: Encoding,
}

/// The text of a conversation, and the seconds that it took.
struct Rendered {
    text: String,
    encoding: Encoding,
    rendering: f64,
}

impl Rendered {
    fn encode(&self, model: &Model) -> Result<Encoded, ApiError> {
        let started = Instant::now();
        Ok(Encoded {
            ids: encode_one(model, &self.text, self.encoding, "messages")?,
            rendering: self.rendering,
            encoding: started.elapsed().as_secs_f64(),
        })
    }
}

/// Token ids, and the seconds that each step took.
struct Encoded {
    ids: Vec<u32>,
    rendering: f64,
    encoding: f64,
}

impl ChatJob {
    fn split(mut request: ChatRequest) -> (Options, Self) {
        let job = Self {
            template: request.chat_template.take(),
            // The template writes special tokens itself.
            encoding: Encoding {
                add_special_tokens: request.options.add_special_tokens.unwrap_or(false),
                must_fit: false,
            },
            conversation: Conversation::of(&mut request),
        };
        (request.options, job)
    }

    /// Whether rendering may take longer than a shard may stand still. A template of the request's own is a program
    /// that nobody knows.
    fn is_heavy(&self) -> bool {
        self.template.is_some() || self.conversation.weight() > INLINE_BYTES
    }

    fn run(&self, model: &Model) -> Result<Encoded, ApiError> {
        self.render(model)?.encode(model)
    }

    fn render(&self, model: &Model) -> Result<Rendered, ApiError> {
        let started = Instant::now();
        let text = self.text(model)?;
        Ok(Rendered {
            text,
            encoding: self.encoding,
            rendering: started.elapsed().as_secs_f64(),
        })
    }

    fn text(&self, model: &Model) -> Result<String, ApiError> {
        let Some(source) = &self.template else {
            let template = model.template.as_ref().ok_or_else(no_template)?;
            return self.conversation.render(template);
        };
        let tokens = TemplateTokens::of(&model.about.special_tokens);
        let guest = Guest::new(source, &tokens, &self.conversation);
        match &model.guest_program {
            Some(program) => guest.render_in(program),
            None => guest.render(),
        }
    }
}

fn no_template() -> ApiError {
    ApiError::field(
        "messages",
        "The model has no chat template: send the text to /v1/completions instead.",
    )
}

/// Cuts a prompt as asked and checks that it leaves room for an answer.
pub fn fit(model: &Model, options: &Options, ids: Vec<u32>, field: &str) -> Result<Ids, ApiError> {
    let context = model.context as usize;
    let ids = match options.truncate_prompt_tokens {
        None => &ids[..],
        Some(keep) => last(
            &ids,
            usize::try_from(keep).unwrap_or(context.saturating_sub(1)),
        ),
    };
    if ids.is_empty() {
        return Err(ApiError::field(
            field,
            "The prompt has no tokens: send at least one.",
        ));
    }
    if ids.len() >= context {
        return Err(ApiError::context_length(field, ids.len(), context));
    }
    sampling::check(model, field, ids.iter().copied())?;
    Ok(ids.into())
}

fn last(ids: &[u32], keep: usize) -> &[u32] {
    &ids[ids.len().saturating_sub(keep)..]
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use vllm_openai::ChatRequest;

    use super::{ChatJob, INLINE_BYTES};

    fn is_heavy(mut body: Value) -> bool {
        if body["messages"].is_null() {
            body["messages"] = json!([{"role": "user", "content": "x"}]);
        }
        let request = ChatRequest::from_json(body.to_string().as_bytes()).expect("sound");
        ChatJob::split(request).1.is_heavy()
    }

    #[test]
    fn all_that_reaches_the_template_counts() {
        let text = "x".repeat(INLINE_BYTES);
        let call = |arguments: Value| json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments.to_string()}});
        let assistant = |name: &str, value: Value| {
            let mut message = json!({"role": "assistant", "content": "x"});
            message[name] = value;
            json!({"messages": [message, {"role": "user", "content": "x"}]})
        };
        let numbers = vec![1; INLINE_BYTES / 16];
        for heavy in [
            json!({"messages": [{"role": "user", "content": text}]}),
            json!({"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]}),
            json!({"messages": vec![json!({"role": "user", "content": ""}); 1000]}),
            assistant("reasoning", json!(text)),
            assistant("name", json!(text)),
            assistant("tool_calls", json!([call(json!({"a": text}))])),
            assistant("tool_calls", json!([call(json!({"a": numbers}))])),
            assistant("tool_calls", json!(vec![call(json!({})); 100])),
            json!({"documents": [{"title": text}]}),
            json!({"chat_template_kwargs": {"a": text}}),
            json!({"chat_template_kwargs": {"a": numbers}}),
        ] {
            let shown: String = heavy.to_string().chars().take(100).collect();
            assert!(is_heavy(heavy), "{shown}");
        }
        assert!(!is_heavy(json!({})));
        assert!(!is_heavy(assistant("reasoning", json!("x".repeat(1000)))));
    }
}
