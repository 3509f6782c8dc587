// SPDX-License-Identifier: Apache-2.0

//! The plain data that a model directory or GGUF file is reduced to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The form in which the model lies on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelFormat {
    /// A folder as published on the Hugging Face hub.
    HuggingFace,
    /// One GGUF file.
    Gguf,
}

/// Everything the frontend needs of a model; see [`ModelFiles::open`].
#[derive(Clone, Debug)]
pub struct ModelFiles {
    /// The folder or file that was opened.
    pub path: PathBuf,
    /// Directory or GGUF.
    pub format: ModelFormat,
    /// `architectures[0]` of `config.json` or `general.architecture` of a GGUF file.
    pub architecture: Option<String>,
    /// Longest sequence in tokens that the model was made for.
    pub context_length: Option<u32>,
    /// Rows of the embedding table; may exceed the tokenizer's largest id plus one.
    pub vocab_size: Option<u32>,
    /// The tokenizer as the text of a `tokenizer.json` (built from the metadata for GGUF).
    pub tokenizer_json: Arc<str>,
    /// Whether encoding with special tokens puts the beginning-of-sequence token first, where the model says so
    /// outside of `tokenizer.json`. Already part of [`ModelFiles::tokenizer_json`]; given for display only.
    pub add_bos_token: Option<bool>,
    /// Chat templates, none for a base model.
    pub chat_templates: ChatTemplates,
    /// Named special tokens.
    pub special_tokens: SpecialTokens,
    /// Defaults that the model's author recommends.
    pub generation: GenerationDefaults,
}

/// Jinja sources of the chat templates of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChatTemplates {
    /// The template used when a request names none.
    pub default: Option<String>,
    /// Further templates by name, such as `tool_use` or `rag`.
    pub named: BTreeMap<String, String>,
}

/// A special token: its text and, where the vocabulary has it, its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialToken {
    /// Text as it stands in the vocabulary, e.g. `<|im_end|>`.
    pub text: String,
    /// Token id.
    pub id: Option<u32>,
}

/// The special tokens that have a role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Beginning of sequence.
    pub bos: Option<SpecialToken>,
    /// End of sequence.
    pub eos: Option<SpecialToken>,
    /// Stands for what the vocabulary cannot express.
    pub unk: Option<SpecialToken>,
    /// Padding.
    pub pad: Option<SpecialToken>,
}

/// Contents of `generation_config.json` that serving uses. `None` means that the model does not say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationDefaults {
    /// Ids that end a generation: those of `generation_config.json` and `config.json`, and the tokenizer's end of
    /// sequence. Sorted, without duplicates.
    pub eos_token_ids: Vec<u32>,
    /// Softmax temperature.
    pub temperature: Option<f64>,
    /// Nucleus mass.
    pub top_p: Option<f64>,
    /// Number of most likely tokens kept.
    pub top_k: Option<i64>,
    /// Least probability relative to the most likely token.
    pub min_p: Option<f64>,
    /// Penalty on tokens seen in prompt or output.
    pub repetition_penalty: Option<f64>,
    /// Upper limit of new tokens.
    pub max_new_tokens: Option<u64>,
}
