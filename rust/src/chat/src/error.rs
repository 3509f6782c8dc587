// SPDX-License-Identifier: Apache-2.0

//! Why a template could not be compiled or rendered, in words for the person who wrote the request.

use std::path::Path;

/// The template source is not valid.
#[derive(Debug, thiserror::Error)]
#[error("the chat template does not compile: {message}")]
pub struct CompileError {
    message: String,
}

impl CompileError {
    pub(crate) fn new(error: &minijinja::Error) -> Self {
        Self {
            message: describe(error),
        }
    }

    pub(crate) fn long_tag(line: u16, limit: usize) -> Self {
        Self {
            message: format!(
                "the tag that reaches line {line} has more than {limit} words: split it with `set`"
            ),
        }
    }

    pub(crate) fn many_elifs(line: u16, limit: usize) -> Self {
        Self {
            message: format!(
                "the template has more than {limit} `elif` (line {line}): look the value up in a mapping"
            ),
        }
    }

    pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        Self {
            message: format!("{} cannot be read: {error}", path.display()),
        }
    }
}

/// What failed, and on which line of the template.
pub(crate) fn describe(error: &minijinja::Error) -> String {
    let what = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    match error.line() {
        Some(line) => format!("{what} (line {line} of the template)"),
        None => what,
    }
}

/// A rendering that failed. All of these are the request's fault or the template's: answer 400 with the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// The template itself refused the conversation (`raise_exception`).
    #[error("the model's chat template refuses this conversation: {message}")]
    Refused {
        /// The template's own words.
        message: String,
    },
    /// The rendering took more steps than allowed.
    #[error(
        "rendering the chat template takes more than {limit} steps: shorten the conversation or the template"
    )]
    TooMuchWork {
        /// The bound.
        limit: u64,
    },
    /// The template failed on this input.
    #[error("the chat template failed on this conversation: {message}")]
    Failed {
        /// What failed, and where in the template.
        message: String,
    },
    /// `continue_final_message` with a conversation that has nothing to go on from.
    #[error("`continue_final_message`: {message}")]
    CannotContinue {
        /// Why not.
        message: &'static str,
    },
}
