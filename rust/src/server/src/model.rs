// SPDX-License-Identifier: Apache-2.0

//! What the server knows of the model: names, tokenizer, template, limits.

use std::path::PathBuf;

use vllm_chat::ChatTemplate;
use vllm_engine_client::Registration;
use vllm_model_files::{GenerationDefaults, ModelFiles, SpecialTokens};
use vllm_tokenizer::Tokenizer;

/// A model that could not be prepared.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ModelError(String);

/// The model behind a server, read once before anything is bound.
pub struct Model {
    /// Names that requests may use; the first one is shown.
    pub names: Vec<String>,
    /// The model as given at start.
    pub root: String,
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    /// Conversation to prompt; none for a base model.
    pub template: Option<ChatTemplate>,
    /// What renders the templates of requests, see [`crate::guest`]; none: this process, without a bound on its time.
    pub guest_program: Option<PathBuf>,
    /// Longest sequence in tokens, from the engines' registration.
    pub context: u32,
    /// Token ids are below this.
    pub vocab: u32,
    /// The end-of-sequence token.
    pub eos: Option<u32>,
    /// What `/tokenizer_info` tells.
    pub about: About,
    /// What the model's author recommends; `eos_token_ids` holds every id that ends a text.
    pub defaults: GenerationDefaults,
}

/// The tokenizer's surroundings, as text.
#[derive(Debug, Clone)]
pub struct About {
    /// Named special tokens.
    pub special_tokens: SpecialTokens,
    /// Whether the beginning-of-sequence token is added, where the model says so.
    pub add_bos_token: Option<bool>,
    /// Source of the chat template.
    pub chat_template: Option<String>,
}

impl About {
    fn of(files: &ModelFiles) -> Self {
        Self {
            special_tokens: files.special_tokens.clone(),
            add_bos_token: files.add_bos_token,
            chat_template: files.chat_templates.default.clone(),
        }
    }
}

impl Model {
    /// Loads tokenizer and template. `context` comes later, see [`Model::attach`].
    pub fn load(files: &ModelFiles, root: String, names: Vec<String>) -> Result<Self, ModelError> {
        let fail = |error: &dyn std::fmt::Display| ModelError(format!("{root}: {error}"));
        let tokenizer = Tokenizer::load(files).map_err(|error| fail(&error))?;
        let template = ChatTemplate::from_model(files).map_err(|error| fail(&error))?;
        let vocab = (tokenizer.vocab_size() as u32).max(files.vocab_size.unwrap_or(0));
        let eos = files.special_tokens.eos.as_ref().and_then(|token| token.id);
        let names = if names.is_empty() {
            vec![root.clone()]
        } else {
            names
        };
        let context = files.context_length.unwrap_or(u32::MAX);
        Ok(Self {
            names,
            tokenizer,
            template,
            guest_program: None,
            context,
            vocab,
            eos,
            defaults: files.generation.clone(),
            about: About::of(files),
            root,
        })
    }

    /// Takes over what the engines said about the model.
    pub fn attach(&mut self, registration: &Registration) {
        self.context = u32::try_from(registration.max_model_len).unwrap_or(u32::MAX);
    }

    /// The name to show.
    pub fn name(&self) -> &str {
        &self.names[0]
    }

    /// Whether a request may use this name.
    pub fn answers_to(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    /// Ids besides `eos` that end a text.
    pub fn extra_eos(&self) -> impl Iterator<Item = u32> + '_ {
        self.defaults
            .eos_token_ids
            .iter()
            .copied()
            .filter(|&id| Some(id) != self.eos)
    }
}
