// SPDX-License-Identifier: Apache-2.0

//! A compiled chat template.

use std::sync::Arc;

use vllm_model_files::ModelFiles;

use crate::{ChatInput, CompileError, RenderError};

/// A chat template, compiled once and rendered from any thread. Cheap to clone.
#[derive(Clone)]
pub struct ChatTemplate {
    _inner: Arc<()>,
}

/// Texts of the special tokens that templates read as variables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

/// Whether a template reads a message's content as a string or as a list of parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentFormat {
    /// `message.content` is text: text parts are joined by line breaks.
    String,
    /// `message.content` is a list of parts: text becomes one part.
    Parts,
}

impl ChatTemplate {
    /// Compiles a template.
    pub fn compile(_source: &str, _tokens: TemplateTokens) -> Result<Self, CompileError> {
        Ok(Self {
            _inner: Arc::new(()),
        })
    }

    /// Compiles the default template of a model; `None` for a model without one.
    pub fn from_model(files: &ModelFiles) -> Result<Option<Self>, CompileError> {
        let tokens = TemplateTokens::default();
        let source = files.chat_templates.default.as_deref();
        source
            .map(|source| Self::compile(source, tokens))
            .transpose()
    }

    /// How this template reads message contents.
    pub fn content_format(&self) -> ContentFormat {
        ContentFormat::String
    }

    /// Renders a conversation into the text of a prompt.
    pub fn render(&self, _input: &ChatInput<'_>) -> Result<String, RenderError> {
        Err(RenderError::Failed {
            message: "not built yet".into(),
        })
    }
}
