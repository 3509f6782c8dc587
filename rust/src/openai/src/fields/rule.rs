// SPDX-License-Identifier: Apache-2.0

//! What a row of the table is: its routes, what it accepts, where its value goes.

use serde_json::value::RawValue;

use crate::error::ApiError;
use crate::request::Draft;

/// Set of routes a row applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routes(u8);

impl Routes {
    /// `/v1/chat/completions`.
    pub const CHAT: Self = Self(1);
    /// `/v1/completions`.
    pub const COMPLETIONS: Self = Self(2);
    /// Both.
    pub const BOTH: Self = Self(3);
    /// `/inference/v1/generate`.
    pub const GENERATE: Self = Self(4);
    /// Its `sampling_params`.
    pub const SAMPLING: Self = Self(8);
    /// Fields of all requests that say nothing about sampling.
    pub(super) const REQUEST: Self = Self(3 | 4);
    /// Where `logprobs` is a number.
    pub(super) const COUNTED_LOGPROBS: Self = Self(2 | 8);
    /// Where an answer has at least one token.
    pub(super) const CHAT_OR_SAMPLING: Self = Self(1 | 8);
    /// Fields about sampling, wherever they stand.
    pub(super) const SAMPLED: Self = Self(3 | 8);

    /// Everywhere.
    pub(super) const ALL: Self = Self(15);

    /// The routes whose fields these are, in words.
    pub(crate) fn describe(self) -> &'static str {
        match self.0 & Self::BOTH.0 {
            1 => "/v1/chat/completions",
            2 => "/v1/completions",
            3 => "/v1/chat/completions and /v1/completions",
            _ => "/inference/v1/generate",
        }
    }

    /// Whether the sets share a route.
    pub fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Bounds of a float: `min <= x <= max`, or `min < x` when open below.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Lower bound.
    pub min: f64,
    /// Upper bound.
    pub max: f64,
    /// The lower bound itself is excluded.
    pub open: bool,
}

impl Bounds {
    /// Whether a value lies within; not-a-number never does.
    pub fn contains(self, x: f64) -> bool {
        x <= self.max
            && if self.open {
                x > self.min
            } else {
                x >= self.min
            }
    }

    /// In words, for messages.
    pub fn describe(self) -> String {
        let Self { min, max, open } = self;
        let most = if max < 1e15 {
            max.to_string()
        } else {
            format!("{max:e}")
        };
        if open {
            format!("a number above {min} and at most {most}")
        } else {
            format!("a number from {min} to {most}")
        }
    }
}

/// Values of an unserved field that ask for nothing and are therefore accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neutral {
    /// Only `null`.
    Null,
    /// One of these JSON texts.
    Literals(&'static [&'static str]),
    /// An object whose `type` is `text`.
    TypeText,
}

impl Neutral {
    /// Whether this JSON text asks for nothing.
    pub fn accepts(self, raw: &str) -> bool {
        match self {
            Self::Null => false,
            Self::Literals(values) => values.contains(&raw),
            Self::TypeText => type_is_text(raw),
        }
    }

    /// What to send instead, for messages.
    pub fn describe(self) -> String {
        match self {
            Self::Null => "Leave it out.".to_owned(),
            Self::Literals(values) => format!("Leave it out or send {}.", values.join(" or ")),
            Self::TypeText => r#"Leave it out or send {"type": "text"}."#.to_owned(),
        }
    }
}

fn type_is_text(raw: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Typed {
        r#type: String,
    }
    // serde reads a structure from a list, too.
    raw.starts_with('{') && serde_json::from_str::<Typed>(raw).is_ok_and(|t| t.r#type == "text")
}

pub(super) type Set<T> = fn(&mut Draft, T);

/// What a field accepts and where its value goes.
pub enum Rule {
    /// A boolean.
    Bool(Set<bool>),
    /// A whole number within inclusive bounds.
    Int((i64, i64), Set<i64>),
    /// A number.
    Float(Bounds, Set<f64>),
    /// A number of candidates per token, up to what the server gives.
    Candidates(Set<u32>),
    /// A string of at most so many bytes.
    Text(usize, Set<String>),
    /// A name that shows in logs and answers: not empty, without control characters, at most so many bytes.
    Id(usize, Set<String>),
    /// A string or a list of non-empty strings: most entries, most bytes of each.
    TextOrList((usize, usize), Set<Vec<String>>),
    /// A list of non-empty strings: most entries, most bytes of each.
    TextList((usize, usize), Set<Vec<String>>),
    /// A list of token ids: most entries.
    Ids(usize, Set<Vec<u32>>),
    /// A structure with a reader of its own; the text says what it is.
    Json(
        &'static str,
        fn(&mut Draft, &str, &RawValue) -> Result<(), ApiError>,
    ),
    /// Accepted, says nothing about the answer.
    NoEffect,
    /// Known, not served: values that ask for nothing pass, others answer 400 with this reason.
    Refused(Neutral, &'static str),
}

/// One row.
pub struct Field {
    /// Name in the JSON object.
    pub name: &'static str,
    /// Where it is known.
    pub routes: Routes,
    /// What it is for.
    pub doc: &'static str,
    /// What it accepts.
    pub rule: Rule,
}

impl Field {
    /// Whether values of this field have their effect.
    pub fn served(&self) -> bool {
        !matches!(self.rule, Rule::Refused(..))
    }
}

pub(super) const fn row(
    name: &'static str,
    routes: Routes,
    doc: &'static str,
    rule: Rule,
) -> Field {
    Field {
        name,
        routes,
        doc,
        rule,
    }
}

pub(super) const fn range((min, max): (f64, f64)) -> Bounds {
    Bounds {
        min,
        max,
        open: false,
    }
}

pub(super) const fn above(min: f64, max: f64) -> Bounds {
    Bounds {
        min,
        max,
        open: true,
    }
}
