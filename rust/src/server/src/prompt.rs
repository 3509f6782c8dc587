// SPDX-License-Identifier: Apache-2.0

//! From a request to token ids: render, encode, and the limits of the model's context.

use std::sync::Arc;
use std::time::Instant;

use vllm_chat::{
    ChatInput, ChatTemplate, Content, ContentPart, Message, RenderError, TemplateTokens,
};
use vllm_openai::{ApiError, ChatRequest, Options, Prompt, messages};

use crate::model::Model;
use crate::routes::Head;
use crate::sampling;

/// Longer texts are encoded on the worker threads: about a millisecond of work, and every stream of the shard waits
/// as long as a step on the shard takes.
const INLINE_BYTES: usize = 16 << 10;

/// Token ids of one prompt.
pub type Ids = Arc<[u32]>;

/// Renders and encodes a conversation; gives back the request's options.
pub async fn chat(head: &Head, request: ChatRequest) -> Result<(Options, Ids), ApiError> {
    check_template(head, &request)?;
    let (options, job) = ChatJob::split(request);
    let ids = chat_ids(head, job).await?;
    let ids = fit(&head.app.model, &options, ids, "messages")?;
    Ok((options, ids))
}

/// As [`chat`], on this thread and without a server.
pub fn chat_here(model: &Model, request: ChatRequest) -> Result<(Options, Ids), ApiError> {
    let (options, job) = ChatJob::split(request);
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
        Prompt::Texts(texts) => {
            encode_all(model, &texts, options.add_special_tokens.unwrap_or(true))?
        }
    };
    fit_all(model, options, lists)
}

/// Renders and encodes a conversation for `/tokenize`: no limit on its length but the body's.
pub async fn chat_unlimited(head: &Head, request: ChatRequest) -> Result<Vec<u32>, ApiError> {
    check_template(head, &request)?;
    chat_ids(head, ChatJob::split(request).1).await
}

/// A template is a program, and fuel does not bound all that it can do: it runs only where the operator trusts clients.
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
    let encoded = if job.bytes() <= INLINE_BYTES && job.template.is_none() {
        job.run(&app.model)
    } else {
        let model = app.model.clone();
        on_worker(head, move || job.run(&model)).await?
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
        Prompt::Texts(texts) => {
            encode(head, texts, options.add_special_tokens.unwrap_or(true)).await?
        }
    };
    fit_all(&head.app.model, options, lists)
}

fn fit_all(model: &Model, options: &Options, lists: Vec<Vec<u32>>) -> Result<Vec<Ids>, ApiError> {
    lists
        .into_iter()
        .map(|ids| fit(model, options, ids, "prompt"))
        .collect()
}

/// Encodes texts, long ones on the worker threads.
pub async fn encode(
    head: &Head,
    texts: Vec<String>,
    add_special: bool,
) -> Result<Vec<Vec<u32>>, ApiError> {
    let app = &head.app;
    let started = Instant::now();
    let model = app.model.clone();
    let bytes: usize = texts.iter().map(String::len).sum();
    let run = move || encode_all(&model, &texts, add_special);
    let ids = if bytes <= INLINE_BYTES {
        run()
    } else {
        on_worker(head, run).await?
    };
    app.cells.tokenize.observe(started.elapsed().as_secs_f64());
    ids
}

fn encode_all(
    model: &Model,
    texts: &[String],
    add_special: bool,
) -> Result<Vec<Vec<u32>>, ApiError> {
    let encode = |text: &String| encode_one(model, text, add_special, "prompt");
    texts.iter().map(encode).collect()
}

fn encode_one(
    model: &Model,
    text: &str,
    add_special: bool,
    field: &str,
) -> Result<Vec<u32>, ApiError> {
    let ids = model.tokenizer.encode(text, add_special);
    ids.map_err(|error| ApiError::field(field, format!("`{field}`: {error}.")))
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
    messages: Vec<Message>,
    /// In place of the model's own.
    template: Option<String>,
    documents: Vec<serde_json::Value>,
    kwargs: serde_json::Map<String, serde_json::Value>,
    add_generation_prompt: bool,
    continue_final_message: bool,
    add_special_tokens: bool,
}

/// Token ids, and the seconds that each step took.
struct Encoded {
    ids: Vec<u32>,
    rendering: f64,
    encoding: f64,
}

impl ChatJob {
    fn split(request: ChatRequest) -> (Options, Self) {
        let job = Self {
            messages: request.messages.into_iter().map(message).collect(),
            template: request.chat_template,
            documents: request.documents,
            kwargs: request.template_kwargs,
            add_generation_prompt: request.add_generation_prompt,
            continue_final_message: request.continue_final_message,
            // The template writes special tokens itself.
            add_special_tokens: request.options.add_special_tokens.unwrap_or(false),
        };
        (request.options, job)
    }

    fn bytes(&self) -> usize {
        self.messages
            .iter()
            .map(|message| content_bytes(&message.content))
            .sum()
    }

    fn run(&self, model: &Model) -> Result<Encoded, ApiError> {
        let started = Instant::now();
        let text = self.render(model)?;
        let rendering = started.elapsed().as_secs_f64();
        let ids = encode_one(model, &text, self.add_special_tokens, "messages")?;
        Ok(Encoded {
            ids,
            rendering,
            encoding: started.elapsed().as_secs_f64() - rendering,
        })
    }

    /// The messages with an empty text where there is none; `None` when each has one.
    fn with_texts(&self) -> Option<Vec<Message>> {
        let silent = |message: &Message| message.content == Content::None;
        let some = self.messages.iter().any(silent);
        some.then(|| self.messages.iter().map(with_text).collect())
    }

    fn template(&self, model: &Model) -> Result<ChatTemplate, ApiError> {
        let own = self.template.as_deref().map(|source| {
            let tokens = TemplateTokens::of(&model.about.special_tokens);
            ChatTemplate::compile(source, tokens)
                .map_err(|error| ApiError::field("chat_template", sentence(&error.to_string())))
        });
        let template = own.transpose()?.or_else(|| model.template.clone());
        template.ok_or_else(|| {
            ApiError::field(
                "messages",
                "The model has no chat template: send the text to /v1/completions instead.",
            )
        })
    }

    fn render(&self, model: &Model) -> Result<String, ApiError> {
        let template = self.template(model)?;
        let input = ChatInput {
            messages: &self.messages,
            add_generation_prompt: self.add_generation_prompt,
            continue_final_message: self.continue_final_message,
            documents: (!self.documents.is_empty()).then_some(&self.documents),
            template_kwargs: (!self.kwargs.is_empty()).then_some(&self.kwargs),
            ..ChatInput::default()
        };
        let mut text = template.render(&input);
        if let (Err(RenderError::Failed { .. }), Some(messages)) = (&text, self.with_texts()) {
            text = template.render(&ChatInput {
                messages: &messages,
                ..input
            });
        }
        text.map_err(|error| {
            let field = match error {
                RenderError::CannotContinue { .. } => "continue_final_message",
                _ => "messages",
            };
            ApiError::field(field, sentence(&error.to_string()))
        })
    }
}

/// An assistant message that only called tools has no content, which some templates ask for, and others cannot join
/// with their own text.
fn with_text(message: &Message) -> Message {
    let mut message = message.clone();
    if message.content == Content::None {
        message.content = Content::Text(String::new());
    }
    message
}

fn content_bytes(content: &Content) -> usize {
    match content {
        Content::None => 0,
        Content::Text(text) => text.len(),
        Content::Parts(parts) => parts.iter().map(|ContentPart::Text(text)| text.len()).sum(),
    }
}

fn message(message: messages::Message) -> Message {
    let mut out = Message {
        role: message.role,
        // Without content and without calls, nothing was said.
        content: match content(message.content) {
            Content::None if message.tool_calls.is_empty() => Content::Text(String::new()),
            content => content,
        },
        ..Message::default()
    };
    let mut add = |name: &str, value: Option<serde_json::Value>| {
        if let Some(value) = value {
            out.extra.insert(name.to_owned(), value);
        }
    };
    add("name", message.name.map(Into::into));
    add("tool_call_id", message.tool_call_id.map(Into::into));
    add(
        "tool_calls",
        (!message.tool_calls.is_empty()).then(|| message.tool_calls.into()),
    );
    // Templates know it by either name.
    add("reasoning", message.reasoning.clone().map(Into::into));
    add("reasoning_content", message.reasoning.map(Into::into));
    out
}

fn content(content: Option<messages::Content>) -> Content {
    match content {
        None => Content::None,
        Some(messages::Content::Text(text)) => Content::Text(text),
        Some(messages::Content::Parts(parts)) => {
            Content::Parts(parts.into_iter().map(ContentPart::Text).collect())
        }
    }
}

/// Upper case at the start, a full stop at the end.
fn sentence(text: &str) -> String {
    let mut rest = text.chars();
    let first = rest.next().map(|first| first.to_ascii_uppercase());
    let end = if text.ends_with(['.', '!', '?']) {
        ""
    } else {
        "."
    };
    first.into_iter().chain(rest).collect::<String>() + end
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
