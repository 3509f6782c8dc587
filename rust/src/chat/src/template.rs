// SPDX-License-Identifier: Apache-2.0

//! A compiled chat template.

use std::error::Error as _;
use std::path::Path;
use std::sync::Arc;

use minijinja::{Environment, ErrorKind, Value};
use serde::{Deserialize, Serialize};
use vllm_model_files::{ModelFiles, SpecialToken, SpecialTokens};

use crate::environment::{self, Refusal};
use crate::input::{ChatInput, Content, ContentPart, Message};
use crate::{CompileError, RenderError, dialect, long_tags, values};

/// Bound on the work of one rendering, in instructions; 64 bytes of output or of text handled count as one. A long
/// conversation takes some hundred thousand; exhausting it takes a fraction of a second.
const FUEL: u64 = 4_000_000;

/// The same for a template that a request brings. Each level of a nested value costs one, so this bounds the stack
/// that it can need, see [`crate::on_deep_stack`].
pub(crate) const GUEST_FUEL: u64 = FUEL / 4;

/// Bound while a template's form is probed, with a conversation of one word: a template that needs more reads text.
const PROBE_FUEL: u64 = FUEL / 20;

const NAME: &str = "chat template";

/// A chat template, compiled once and rendered from any thread. Cheap to clone.
#[derive(Clone)]
pub struct ChatTemplate {
    shared: Arc<Shared>,
}

struct Shared {
    environment: Environment<'static>,
    tokens: TemplateTokens,
    format: ContentFormat,
    fuel: u64,
}

/// Texts of the special tokens that templates read as variables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateTokens {
    /// `bos_token`
    pub bos: Option<String>,
    /// `eos_token`
    pub eos: Option<String>,
    /// `unk_token`
    pub unk: Option<String>,
    /// `pad_token`
    pub pad: Option<String>,
}

/// In which form a template reads a message's content, found by trying it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentFormat {
    /// Text only: text parts are joined by line breaks.
    String,
    /// Parts only: text becomes one part.
    Parts,
    /// Either: the content is passed on as the client sent it.
    Both,
}

impl TemplateTokens {
    /// The special tokens of a model.
    pub fn of(special: &SpecialTokens) -> Self {
        let text = |token: &Option<SpecialToken>| token.as_ref().map(|token| token.text.clone());
        Self {
            bos: text(&special.bos),
            eos: text(&special.eos),
            unk: text(&special.unk),
            pad: text(&special.pad),
        }
    }

    fn variables(&self) -> impl Iterator<Item = (&str, Value)> {
        let named = [
            ("bos_token", &self.bos),
            ("eos_token", &self.eos),
            ("unk_token", &self.unk),
            ("pad_token", &self.pad),
        ];
        named
            .into_iter()
            .filter_map(|(name, text)| Some((name, Value::from(text.as_deref()?))))
    }
}

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    ///
    /// With the line of the first mistake.
    pub fn compile(source: &str, tokens: TemplateTokens) -> Result<Self, CompileError> {
        Self::compile_within(FUEL, source, tokens)
    }

    /// Compiles a template that a request brings, which may do less. Call this and all that follows within
    /// [`crate::on_deep_stack`].
    ///
    /// # Errors
    ///
    /// With the line of the first mistake.
    pub fn compile_guest(source: &str, tokens: TemplateTokens) -> Result<Self, CompileError> {
        Self::compile_within(GUEST_FUEL, source, tokens)
    }

    fn compile_within(
        fuel: u64,
        source: &str,
        tokens: TemplateTokens,
    ) -> Result<Self, CompileError> {
        let failed = |error| CompileError::new(&error);
        let source = dialect::translate(source);
        long_tags::check(&source, environment::syntax().map_err(failed)?)?;
        let mut environment = environment::environment().map_err(failed)?;
        environment.set_fuel(Some(PROBE_FUEL));
        environment
            .add_template_owned(NAME, source)
            .map_err(failed)?;
        let mut shared = Shared {
            environment,
            tokens,
            format: ContentFormat::String,
            fuel,
        };
        shared.format = shared.probe();
        shared.environment.set_fuel(Some(fuel));
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Compiles the default template of a model; `None` for a model without one.
    pub fn from_model(files: &ModelFiles) -> Result<Option<Self>, CompileError> {
        let source = files.chat_templates.default.as_deref();
        source
            .map(|source| Self::compile(source, TemplateTokens::of(&files.special_tokens)))
            .transpose()
    }

    /// Compiles a template from a file (`--chat-template`), with the special tokens of a model.
    pub fn from_file(path: &Path, files: &ModelFiles) -> Result<Self, CompileError> {
        let source = std::fs::read_to_string(path)
            .map_err(|error| CompileError::unreadable(path, &error))?;
        Self::compile(&source, TemplateTokens::of(&files.special_tokens))
    }

    /// How this template reads message contents.
    pub fn content_format(&self) -> ContentFormat {
        self.shared.format
    }

    /// Renders a conversation into the text of a prompt.
    ///
    /// # Errors
    ///
    /// If the template refuses the conversation, fails on it, or takes too long. All of these are for the client.
    pub fn render(&self, input: &ChatInput<'_>) -> Result<String, RenderError> {
        let prompt = self.shared.render(input, self.shared.format)?;
        if input.continue_final_message {
            return continued(prompt, input.messages);
        }
        Ok(prompt)
    }
}

impl Shared {
    fn render(&self, input: &ChatInput<'_>, format: ContentFormat) -> Result<String, RenderError> {
        let messages = input
            .messages
            .iter()
            .map(|message| values::from_message(message, format));
        self.run(input, messages.collect())
    }

    fn run(&self, input: &ChatInput<'_>, messages: Value) -> Result<String, RenderError> {
        let list = |items: &[serde_json::Value]| items.iter().map(values::from_json).collect();
        let prompt = input.add_generation_prompt && !input.continue_final_message;
        let own = [
            ("messages", messages),
            ("add_generation_prompt", Value::from(prompt)),
        ];
        let given = [
            ("tools", input.tools.map(list)),
            ("documents", input.documents.map(list)),
        ];
        let given = given
            .into_iter()
            .map(|(name, value)| (name, value.unwrap_or_else(|| Value::from(()))));
        let kwargs = input.template_kwargs.into_iter().flatten();
        let kwargs = kwargs.map(|(name, value)| (name.as_str(), values::from_json(value)));
        let context = self
            .tokens
            .variables()
            .chain(own)
            .chain(given)
            .chain(kwargs);
        let template = self
            .environment
            .get_template(NAME)
            .map_err(|error| failure(&error, self.fuel))?;
        template
            .render(Value::from_pairs(context))
            .map_err(|error| failure(&error, self.fuel))
    }

    /// Which forms of content the template shows. A form that it prints as a whole (a dumped list) is not read.
    fn probe(&self) -> ContentFormat {
        const TEXT: &str = "\u{e0f1}";
        const OTHER: &str = "\u{e0f2}";
        let shows = |content: Value| {
            let role = ("role", Value::from("user"));
            let messages = [Value::from_pairs([role, ("content", content)])]
                .into_iter()
                .collect();
            let input = ChatInput {
                add_generation_prompt: true,
                ..ChatInput::default()
            };
            let shown = self.run(&input, messages).unwrap_or_default();
            shown.contains(TEXT) && !shown.contains(OTHER)
        };
        let part = [
            ("type", Value::from("text")),
            ("text", Value::from(TEXT)),
            ("other", Value::from(OTHER)),
        ];
        let parts = [Value::from_pairs(part)].into_iter().collect();
        match (shows(Value::from(TEXT)), shows(parts)) {
            (true, true) => ContentFormat::Both,
            (false, true) => ContentFormat::Parts,
            _ => ContentFormat::String,
        }
    }
}

/// Cuts the prompt after the last message's text, as Transformers does: spaces at its end stay if the template left
/// them.
fn continued(mut prompt: String, messages: &[Message]) -> Result<String, RenderError> {
    let refuse = |message| Err(RenderError::CannotContinue { message });
    let text = match messages.last().map(|message| &message.content) {
        Some(Content::Text(text)) => text.as_str(),
        Some(Content::Parts(parts)) => parts.last().map_or("", |ContentPart::Text(text)| text),
        Some(Content::None) | None => "",
    };
    if text.trim().is_empty() {
        return refuse("the last message has no text to go on from");
    }
    let Some(at) = prompt.rfind(text.trim()) else {
        return refuse("the model's chat template does not show the last message's text");
    };
    let kept = if prompt[at..].starts_with(text.trim_start()) {
        text.trim_start()
    } else {
        text.trim()
    };
    prompt.truncate(at + kept.len());
    Ok(prompt)
}

/// A template's failure in words for the client.
fn failure(error: &minijinja::Error, fuel: u64) -> RenderError {
    let mut cause = error.source();
    while let Some(source) = cause {
        if let Some(Refusal(message)) = source.downcast_ref() {
            return RenderError::Refused {
                message: message.clone(),
            };
        }
        cause = source.source();
    }
    if error.kind() == ErrorKind::OutOfFuel {
        return RenderError::TooMuchWork { limit: fuel };
    }
    RenderError::Failed {
        message: crate::error::describe(error),
    }
}
