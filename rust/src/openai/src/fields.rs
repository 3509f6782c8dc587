// SPDX-License-Identifier: Apache-2.0

//! The table of request fields: name, routes, what it accepts, whether it is served.
//!
//! Validation, the handling of unknown fields and the reference pages read this table and nothing else.
//! Rows are sorted by name (a test asserts it); a field whose meaning differs by route has one row per route.

use serde_json::value::RawValue;

use crate::error::ApiError;
use crate::limits::*;
use crate::request::Draft;
use crate::{chat, completions, generate, messages};

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
    const REQUEST: Self = Self(3 | 4);
    /// Where `logprobs` is a number.
    const COUNTED_LOGPROBS: Self = Self(2 | 8);
    /// Fields about sampling, wherever they stand.
    const SAMPLED: Self = Self(3 | 8);

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
        match (open, max == f64::MAX) {
            (true, true) => format!("a number above {min}"),
            (true, false) => format!("a number above {min} and at most {max}"),
            (false, _) => format!("a number from {min} to {max}"),
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
    serde_json::from_str::<Typed>(raw).is_ok_and(|t| t.r#type == "text")
}

type Set<T> = fn(&mut Draft, T);

/// What a field accepts and where its value goes.
pub enum Rule {
    /// A boolean.
    Bool(Set<bool>),
    /// A whole number within inclusive bounds.
    Int((i64, i64), Set<i64>),
    /// A number.
    Float(Bounds, Set<f64>),
    /// A string of at most so many bytes.
    Text(usize, Set<String>),
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

/// The row of a field on a route.
pub fn find(name: &str, route: Routes) -> Option<&'static Field> {
    let start = FIELDS.partition_point(|f| f.name < name);
    FIELDS[start..]
        .iter()
        .take_while(|f| f.name == name)
        .find(|f| f.routes.overlaps(route))
}

const fn row(name: &'static str, routes: Routes, doc: &'static str, rule: Rule) -> Field {
    Field {
        name,
        routes,
        doc,
        rule,
    }
}

const fn range((min, max): (f64, f64)) -> Bounds {
    Bounds {
        min,
        max,
        open: false,
    }
}

const fn above(min: f64, max: f64) -> Bounds {
    Bounds {
        min,
        max,
        open: true,
    }
}

use Neutral::{Literals, Null, TypeText};
use Routes as R;
use Rule::{Bool, Float, Ids, Int, Json, NoEffect, Refused, Text, TextList, TextOrList};

const OFF: Neutral = Literals(&["false"]);
const U32: (i64, i64) = (0, u32::MAX as i64);
const TOOLS: &str = "tool calls are not served yet";
const REASONING: &str = "reasoning models are not served yet";
const STRUCTURED: &str = "structured output is not served yet";
const MEDIA: &str = "only text goes in and comes out";

/// Every known field of chat, completions and generate.
pub static FIELDS: &[Field] = &[
    row(
        "add_generation_prompt",
        R::CHAT,
        "The template opens the assistant's turn; by default unless the last message is continued.",
        Bool(|d, v| d.add_generation_prompt = Some(v)),
    ),
    row(
        "add_special_tokens",
        R::BOTH,
        "The tokenizer adds its special tokens; by default to a prompt, not to a rendered conversation.",
        Bool(|d, v| d.options.add_special_tokens = Some(v)),
    ),
    row(
        "allowed_token_ids",
        R::SAMPLED,
        "Only these tokens are generated.",
        Ids(MAX_ALLOWED_TOKEN_IDS, |d, v| {
            d.options.sampling.allowed_token_ids = v
        }),
    ),
    row("audio", R::CHAT, "Audio output.", Refused(Null, MEDIA)),
    row(
        "bad_words",
        R::SAMPLED,
        "Texts that are not generated.",
        TextList((MAX_BAD_WORDS, MAX_STOP_BYTES), |d, v| {
            d.options.sampling.bad_words = v
        }),
    ),
    row(
        "best_of",
        R::BOTH,
        "Candidates per prompt, of which the `n` likeliest per token are answered; not with `stream`.",
        Int((1, MAX_N), |d, v| d.options.best_of = Some(v as u32)),
    ),
    row(
        "cache_salt",
        R::REQUEST,
        "Keeps prefix-cache entries of different tenants apart.",
        Text(MAX_ID_BYTES, |d, v| d.options.cache_salt = Some(v)),
    ),
    row(
        "chat_template",
        R::CHAT,
        "A chat template of the request's own.",
        Refused(Null, "the server renders with the model's own template"),
    ),
    row(
        "chat_template_kwargs",
        R::CHAT,
        "Variables for the chat template.",
        Json(
            "an object of template variables",
            chat::read_template_kwargs,
        ),
    ),
    row(
        "continue_final_message",
        R::CHAT,
        "The last message is continued instead of answered.",
        Bool(|d, v| d.continue_final_message = v),
    ),
    row(
        "detokenize",
        R::SAMPLING,
        "Token ids are all that is answered.",
        NoEffect,
    ),
    row(
        "documents",
        R::CHAT,
        "Documents for the chat template.",
        Json("a list of objects", chat::read_documents),
    ),
    row(
        "early_stopping",
        R::BOTH,
        "Beam search.",
        Refused(OFF, "beam search is not served"),
    ),
    row(
        "echo",
        R::CHAT,
        "The prompt's text stands before the answer, with its log probabilities if the answer has them.",
        Refused(
            OFF,
            "a conversation is not repeated; `continue_final_message` goes on in the last message",
        ),
    ),
    row(
        "echo",
        R::COMPLETIONS,
        "The prompt's text stands before the answer, with its log probabilities if the answer has them.",
        Bool(|d, v| d.options.echo = v),
    ),
    row(
        "features",
        R::GENERATE,
        "Multimodal input.",
        Refused(Null, MEDIA),
    ),
    row(
        "frequency_penalty",
        R::SAMPLED,
        "Lowers the logit of a token for each time it was generated.",
        Float(range(PENALTY), |d, v| {
            d.options.sampling.frequency_penalty = Some(v)
        }),
    ),
    row(
        "function_call",
        R::CHAT,
        "Function calls, the older form.",
        Refused(Literals(&["\"none\"", "\"auto\""]), TOOLS),
    ),
    row(
        "functions",
        R::CHAT,
        "Function definitions, the older form.",
        Refused(Literals(&["[]"]), TOOLS),
    ),
    row(
        "guided_choice",
        R::BOTH,
        "Structured output, the older form.",
        Refused(Null, STRUCTURED),
    ),
    row(
        "guided_decoding_backend",
        R::BOTH,
        "Structured output, the older form.",
        Refused(Null, STRUCTURED),
    ),
    row(
        "guided_grammar",
        R::BOTH,
        "Structured output, the older form.",
        Refused(Null, STRUCTURED),
    ),
    row(
        "guided_json",
        R::BOTH,
        "Structured output, the older form.",
        Refused(Null, STRUCTURED),
    ),
    row(
        "guided_regex",
        R::BOTH,
        "Structured output, the older form.",
        Refused(Null, STRUCTURED),
    ),
    row(
        "guided_whitespace_pattern",
        R::BOTH,
        "Structured output, the older form.",
        Refused(Null, STRUCTURED),
    ),
    row(
        "ignore_eos",
        R::SAMPLED,
        "The end-of-sequence token does not end the answer.",
        Bool(|d, v| d.options.sampling.ignore_eos = v),
    ),
    row(
        "include_reasoning",
        R::CHAT,
        "The answer carries what the model thought.",
        Refused(Literals(&["true"]), REASONING),
    ),
    row(
        "include_stop_str_in_output",
        R::SAMPLED,
        "The stop string or stop token stays in the text.",
        Bool(|d, v| d.options.sampling.include_stop_str_in_output = v),
    ),
    row(
        "kv_transfer_params",
        R::REQUEST,
        "Transfer of KV-cache blocks between engines.",
        Refused(Literals(&["{}"]), "the engine has no KV connector"),
    ),
    row(
        "length_penalty",
        R::BOTH,
        "Beam search.",
        Refused(Literals(&["1", "1.0"]), "beam search is not served"),
    ),
    row(
        "logit_bias",
        R::SAMPLED,
        "Token id to a number added to its logit; values are clamped to -100 to 100.",
        Json("an object of token id to bias", read_logit_bias),
    ),
    row(
        "logprob_token_ids",
        R::SAMPLED,
        "Tokens whose log probabilities are answered.",
        Refused(
            Literals(&["[]"]),
            "log probabilities of chosen ids are not served yet",
        ),
    ),
    row(
        "logprobs",
        R::CHAT,
        "Log probabilities of the generated tokens: for chat true or false, otherwise the number of candidates per token.",
        Bool(|d, v| d.want_logprobs = v),
    ),
    row(
        "logprobs",
        R::COUNTED_LOGPROBS,
        "Log probabilities of the generated tokens: for chat true or false, otherwise the number of candidates per token.",
        Int(U32, |d, v| d.options.logprobs = Some(v as u32)),
    ),
    row(
        "max_completion_tokens",
        R::CHAT,
        "Most tokens of an answer; wins over `max_tokens`.",
        Int((1, U32.1), |d, v| d.max_completion_tokens = Some(v as u32)),
    ),
    row(
        "max_tokens",
        R::SAMPLED,
        "Most tokens of an answer; default: 16 for completions, otherwise what the context leaves.",
        Int((1, U32.1), |d, v| {
            d.options.sampling.max_tokens = Some(v as u32)
        }),
    ),
    row(
        "media_io_kwargs",
        R::CHAT,
        "Multimodal input.",
        Refused(Literals(&["{}"]), MEDIA),
    ),
    row(
        "messages",
        R::CHAT,
        "The conversation, oldest message first.",
        Json("a list of messages", messages::read),
    ),
    row("metadata", R::BOTH, "Notes of the client's own.", NoEffect),
    row(
        "min_p",
        R::SAMPLED,
        "Least probability of a token relative to the likeliest one.",
        Float(range((0.0, 1.0)), |d, v| d.options.sampling.min_p = Some(v)),
    ),
    row(
        "min_tokens",
        R::SAMPLED,
        "Nothing ends the answer before so many tokens.",
        Int(U32, |d, v| d.options.sampling.min_tokens = Some(v as u32)),
    ),
    row(
        "mm_processor_kwargs",
        R::BOTH,
        "Multimodal input.",
        Refused(Literals(&["{}"]), MEDIA),
    ),
    row(
        "modalities",
        R::CHAT,
        "What the answer consists of.",
        Refused(Literals(&["[\"text\"]"]), MEDIA),
    ),
    row(
        "model",
        R::REQUEST,
        "A served name; see `/v1/models`.",
        Text(4096, |d, v| d.options.model = Some(v)),
    ),
    row(
        "n",
        R::SAMPLED,
        "Choices per prompt.",
        Int((1, MAX_N), |d, v| d.options.n = Some(v as u32)),
    ),
    row(
        "output_kind",
        R::SAMPLING,
        "How outputs are grouped on their way; the answer does not depend on it.",
        NoEffect,
    ),
    row(
        "parallel_tool_calls",
        R::CHAT,
        "Several tool calls in one answer.",
        NoEffect,
    ),
    row(
        "prediction",
        R::CHAT,
        "Predicted output.",
        Refused(Null, "predicted outputs are not served"),
    ),
    row(
        "presence_penalty",
        R::SAMPLED,
        "Lowers the logit of a token that was generated.",
        Float(range(PENALTY), |d, v| {
            d.options.sampling.presence_penalty = Some(v)
        }),
    ),
    row(
        "priority",
        R::REQUEST,
        "Lower is earlier; also the header X-Vllm-Priority.",
        Int((-MAX_PRIORITY, MAX_PRIORITY), |d, v| {
            d.options.priority = Some(v as i32)
        }),
    ),
    row(
        "prompt",
        R::COMPLETIONS,
        "What to continue: one or several, as text or as token ids.",
        Json(
            "a string, token ids, or a list of either",
            completions::read_prompt,
        ),
    ),
    row("prompt_cache_key", R::BOTH, "A hint for caches.", NoEffect),
    row(
        "prompt_embeds",
        R::COMPLETIONS,
        "The prompt as embeddings.",
        Refused(Null, "prompts are text or token ids"),
    ),
    row(
        "prompt_logprobs",
        R::SAMPLED,
        "Candidates per prompt token in the answer's `prompt_logprobs`.",
        Int(U32, |d, v| d.options.prompt_logprobs = Some(v as u32)),
    ),
    row(
        "reasoning",
        R::CHAT,
        "Options of reasoning models.",
        Refused(Null, REASONING),
    ),
    row(
        "reasoning_effort",
        R::CHAT,
        "How much a reasoning model thinks.",
        Refused(Null, REASONING),
    ),
    row(
        "repetition_detection",
        R::SAMPLED,
        "Ends an answer that repeats itself.",
        Refused(Null, "the engine does not detect repetition yet"),
    ),
    row(
        "repetition_penalty",
        R::SAMPLED,
        "Divides or multiplies logits of tokens of prompt and answer.",
        Float(above(0.0, f64::MAX), |d, v| {
            d.options.sampling.repetition_penalty = Some(v)
        }),
    ),
    row(
        "request_id",
        R::REQUEST,
        "The client's own id; also the header X-Request-Id.",
        Text(MAX_ID_BYTES, |d, v| d.options.request_id = Some(v)),
    ),
    row(
        "response_format",
        R::BOTH,
        "The form of the answer.",
        Refused(TypeText, STRUCTURED),
    ),
    row(
        "return_token_ids",
        R::BOTH,
        "The answer carries the token ids of prompt and choices.",
        Bool(|d, v| d.options.return_token_ids = v),
    ),
    row(
        "return_tokens_as_token_ids",
        R::REQUEST,
        "Tokens in log probabilities read `token_id:N`.",
        Bool(|d, v| d.options.return_tokens_as_token_ids = v),
    ),
    row(
        "safety_identifier",
        R::BOTH,
        "The client's own user.",
        NoEffect,
    ),
    row(
        "sampling_params",
        R::GENERATE,
        "How tokens are chosen, by the names that completions use.",
        Json(
            "an object of sampling fields",
            generate::read_sampling_params,
        ),
    ),
    row(
        "seed",
        R::SAMPLED,
        "Makes sampling repeatable; choice i gets seed + i.",
        Int((i64::MIN, i64::MAX), |d, v| {
            d.options.sampling.seed = Some(v)
        }),
    ),
    row(
        "service_tier",
        R::CHAT,
        "The class of service.",
        Refused(Literals(&["\"auto\"", "\"default\""]), "there is one tier"),
    ),
    row(
        "session_id",
        R::REQUEST,
        "Requests of one session are kept together; also the header X-Session-ID.",
        Text(MAX_ID_BYTES, |d, v| d.options.session_id = Some(v)),
    ),
    row(
        "skip_special_tokens",
        R::SAMPLED,
        "Special tokens do not show in the text; true by default.",
        Bool(|d, v| d.options.sampling.skip_special_tokens = Some(v)),
    ),
    row(
        "spaces_between_special_tokens",
        R::SAMPLED,
        "Spaces between special tokens.",
        Refused(Literals(&["true"]), "the tokenizer decides about spaces"),
    ),
    row(
        "stop",
        R::SAMPLED,
        "Texts that end the answer.",
        TextOrList((MAX_STOP_STRINGS, MAX_STOP_BYTES), |d, v| {
            d.options.sampling.stop = v
        }),
    ),
    row(
        "stop_token_ids",
        R::SAMPLED,
        "Tokens that end the answer.",
        Ids(MAX_STOP_TOKEN_IDS, |d, v| {
            d.options.sampling.stop_token_ids = v
        }),
    ),
    row(
        "store",
        R::CHAT,
        "Keeping the answer on the server.",
        Refused(OFF, "answers are not stored"),
    ),
    row(
        "stream",
        R::REQUEST,
        "Server-sent events instead of one body.",
        Bool(|d, v| d.options.stream = v),
    ),
    row(
        "stream_interval",
        R::REQUEST,
        "Tokens per event after the first one.",
        Int((1, MAX_STREAM_INTERVAL), |d, v| {
            d.options.stream_interval = Some(v as u32)
        }),
    ),
    row(
        "stream_options",
        R::REQUEST,
        "`include_usage`: a last event carries the usage; `continuous_usage_stats`: every event does.",
        Json("an object of stream options", chat::read_stream_options),
    ),
    row(
        "structured_outputs",
        R::SAMPLED,
        "A grammar for the answer.",
        Refused(Null, STRUCTURED),
    ),
    row(
        "suffix",
        R::COMPLETIONS,
        "Text after the insertion.",
        Refused(Literals(&["\"\""]), "the model has no infill template"),
    ),
    row(
        "temperature",
        R::SAMPLED,
        "0 is greedy; the model's default otherwise.",
        Float(range(TEMPERATURE), |d, v| {
            d.options.sampling.temperature = Some(v)
        }),
    ),
    row(
        "thinking_token_budget",
        R::SAMPLED,
        "Most tokens of thinking.",
        Refused(Literals(&["-1"]), REASONING),
    ),
    row(
        "token_ids",
        R::GENERATE,
        "The prompt.",
        Json("a list of token ids", generate::read_token_ids),
    ),
    row(
        "tool_choice",
        R::CHAT,
        "Which tool is called.",
        Refused(Literals(&["\"none\"", "\"auto\""]), TOOLS),
    ),
    row(
        "tools",
        R::CHAT,
        "Tool definitions.",
        Refused(Literals(&["[]"]), TOOLS),
    ),
    row(
        "top_k",
        R::SAMPLED,
        "Most candidates for a token; 0 and -1: all.",
        Int((-1, i32::MAX as i64), |d, v| {
            d.options.sampling.top_k = Some(v)
        }),
    ),
    row(
        "top_logprobs",
        R::CHAT,
        "Candidates per generated token; needs `logprobs`.",
        Int(U32, |d, v| d.top_logprobs = Some(v as u32)),
    ),
    row(
        "top_p",
        R::SAMPLED,
        "Probability mass of the candidates for a token.",
        Float(above(0.0, 1.0), |d, v| d.options.sampling.top_p = Some(v)),
    ),
    row(
        "truncate_prompt_tokens",
        R::BOTH,
        "Only the last tokens of the prompt are used; -1: as many as fit.",
        Int((-1, i32::MAX as i64), |d, v| {
            d.options.truncate_prompt_tokens = Some(v)
        }),
    ),
    row(
        "use_beam_search",
        R::BOTH,
        "Beam search.",
        Refused(OFF, "beam search is not served"),
    ),
    row("user", R::REQUEST, "The client's own user.", NoEffect),
    row(
        "verbosity",
        R::CHAT,
        "How much is said.",
        Refused(Null, "the model has no such setting"),
    ),
    row(
        "vllm_xargs",
        R::BOTH,
        "Arguments of plug-ins.",
        Refused(Literals(&["{}"]), "the engine has no plug-ins"),
    ),
    row(
        "web_search_options",
        R::CHAT,
        "Web search.",
        Refused(Null, "there is no web search"),
    ),
];

/// `{"50256": -100}`: keys are token ids, values are clamped to [-100, 100].
fn read_logit_bias(draft: &mut Draft, path: &str, raw: &RawValue) -> Result<(), ApiError> {
    use crate::{body, capped};
    let expected = "an object of token id to number";
    let pairs = capped::object(path, raw, MAX_LOGIT_BIAS, expected)?;
    let mut bias = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        let id = token_id(path, &key)?;
        let value: f64 = body::parse(&format!("{path}.{id}"), value, "a number")?;
        bias.push((id, value.clamp(LOGIT_BIAS.0, LOGIT_BIAS.1)));
    }
    draft.options.sampling.logit_bias = bias;
    Ok(())
}

fn token_id(path: &str, key: &str) -> Result<u32, ApiError> {
    // `parse` takes a plus sign.
    let digits = key.bytes().all(|byte| byte.is_ascii_digit());
    let id = key
        .parse::<u32>()
        .ok()
        .filter(|_| digits)
        .filter(|&id| i64::from(id) <= MAX_TOKEN_ID);
    id.ok_or_else(|| {
        let shown = crate::error::shorten(key);
        ApiError::field(
            path,
            format!("`{path}` has the key \"{shown}\", which is not a token id."),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_no_route_has_two_rows_of_a_name() {
        for pair in FIELDS.windows(2) {
            let (a, b) = (&pair[0], &pair[1]);
            assert!(
                a.name < b.name || (a.name == b.name && !a.routes.overlaps(b.routes)),
                "{} {}",
                a.name,
                b.name
            );
        }
    }

    #[test]
    fn a_name_finds_the_row_of_its_route() {
        assert!(matches!(
            find("logprobs", Routes::CHAT).map(|f| &f.rule),
            Some(Rule::Bool(_))
        ));
        assert!(matches!(
            find("logprobs", Routes::COMPLETIONS).map(|f| &f.rule),
            Some(Rule::Int(..))
        ));
        assert!(find("messages", Routes::COMPLETIONS).is_none());
        assert!(find("no_such_field", Routes::BOTH).is_none());
    }
}
