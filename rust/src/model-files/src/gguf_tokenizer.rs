// SPDX-License-Identifier: Apache-2.0

//! Rewrites the tokenizer inside a GGUF file as the text of a `tokenizer.json`.
//!
//! Two kinds are understood: `gpt2` (byte-level BPE with merges) and `llama` (SentencePiece BPE with scores, whose
//! merges are derived from the scores). Everything else is refused by name.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::gguf::{Gguf, GgufError};
use crate::pre_tokenizers::{self, PreTokenizer};

/// SentencePiece's sign for a space.
const SPACE_SIGN: &str = "\u{2581}";

/// Token types as numbered in `tokenizer.ggml.token_type`.
const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
const BYTE: i64 = 6;

/// Why the tokenizer could not be rewritten.
#[derive(Debug)]
pub(crate) enum Fault {
    Gguf(GgufError),
    Unsupported(String),
}

impl From<GgufError> for Fault {
    fn from(error: GgufError) -> Self {
        Fault::Gguf(error)
    }
}

/// The vocabulary as it stands in the file.
pub(crate) struct Vocabulary<'a> {
    pub(crate) tokens: Vec<&'a str>,
    types: Vec<i64>,
}

impl<'a> Vocabulary<'a> {
    pub(crate) fn read(gguf: &'a Gguf) -> Result<Self, GgufError> {
        let key = "tokenizer.ggml.tokens";
        let missing = || GgufError::MissingKey { key: key.into() };
        let tokens = gguf
            .strings(key)?
            .ok_or_else(missing)?
            .collect::<Result<Vec<_>, _>>()?;
        let types = gguf
            .integers("tokenizer.ggml.token_type")?
            .unwrap_or_default();
        Ok(Self { tokens, types })
    }

    fn kind(&self, id: usize) -> i64 {
        self.types.get(id).copied().unwrap_or(1)
    }

    pub(crate) fn text(&self, id: u32) -> Option<&'a str> {
        self.tokens.get(id as usize).copied()
    }

    /// Tokens that are matched in text before anything else.
    fn added_tokens(&self) -> Vec<Value> {
        let kinds = (0..self.tokens.len()).map(|id| (id, self.kind(id)));
        let added = kinds.filter(|(_, kind)| matches!(*kind, UNKNOWN | CONTROL | USER_DEFINED));
        added
            .map(|(id, kind)| self.added_token(id, kind != USER_DEFINED))
            .collect()
    }

    fn added_token(&self, id: usize, special: bool) -> Value {
        json!({
            "id": id, "content": self.tokens[id], "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": special,
        })
    }
}

/// The sections of a `tokenizer.json` that differ between kinds.
struct Sections {
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
    /// The `model` section without vocabulary and merges.
    model: Value,
    merges: String,
    add_bos: bool,
}

/// Rewrites the tokenizer of `gguf`.
pub(crate) fn tokenizer_json(gguf: &Gguf, vocabulary: &Vocabulary<'_>) -> Result<String, Fault> {
    let missing = || GgufError::MissingKey {
        key: "tokenizer.ggml.model".into(),
    };
    let model = gguf.string("tokenizer.ggml.model")?.ok_or_else(missing)?;
    let sections = match model {
        "gpt2" => byte_level_bpe(gguf)?,
        "llama" => sentence_piece_bpe(gguf, vocabulary)?,
        other => {
            return Err(Fault::Unsupported(format!(
                "tokenizer.ggml.model is {other:?} (supported: gpt2, llama)"
            )));
        }
    };
    let frame = post_processor(gguf, vocabulary, &sections)?;
    Ok(assemble(vocabulary, &sections, &frame))
}

fn assemble(vocabulary: &Vocabulary<'_>, sections: &Sections, frame: &Value) -> String {
    let mut model = sections.model.to_string();
    model.pop();
    format!(
        r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":{},"normalizer":{},"pre_tokenizer":{},"post_processor":{frame},"decoder":{},"model":{model},"vocab":{},"merges":{}}}}}"#,
        Value::from(vocabulary.added_tokens()),
        sections.normalizer,
        sections.pre_tokenizer,
        sections.decoder,
        vocabulary_json(&vocabulary.tokens),
        sections.merges,
    )
}

fn vocabulary_json(tokens: &[&str]) -> String {
    let mut out = String::with_capacity(tokens.len() * 20);
    for (id, token) in tokens.iter().enumerate() {
        out.push(if id == 0 { '{' } else { ',' });
        push_json(token, &mut out);
        out.push(':');
        out.push_str(&id.to_string());
    }
    out.push('}');
    out
}

fn merges_json<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = String::from("[");
    for (index, (left, right)) in pairs.enumerate() {
        out.push_str(if index == 0 { "[" } else { ",[" });
        push_json(left, &mut out);
        out.push(',');
        push_json(right, &mut out);
        out.push(']');
    }
    out.push(']');
    out
}

/// Appends a JSON string; tokens rarely need an escape.
fn push_json(text: &str, out: &mut String) {
    if text
        .bytes()
        .all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\')
    {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&Value::from(text).to_string());
    }
}

fn byte_level_bpe(gguf: &Gguf) -> Result<Sections, Fault> {
    let name = gguf.string("tokenizer.ggml.pre")?.unwrap_or("default");
    let PreTokenizer {
        section,
        normalizer,
        ignore_merges,
        add_bos,
    } = pre_tokenizers::find(name).ok_or_else(|| unknown_pre_tokenizer(name))?;
    Ok(Sections {
        normalizer,
        pre_tokenizer: section,
        decoder: json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
        model: bpe(None, false, ignore_merges),
        merges: listed_merges(gguf)?,
        add_bos,
    })
}

fn unknown_pre_tokenizer(name: &str) -> Fault {
    let known = pre_tokenizers::NAMES;
    Fault::Unsupported(format!(
        "tokenizer.ggml.pre is {name:?} (supported: {known})"
    ))
}

fn bpe(unk_token: Option<&str>, byte_fallback: bool, ignore_merges: bool) -> Value {
    json!({
        "type": "BPE", "dropout": null, "unk_token": unk_token, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": unk_token.is_some(), "byte_fallback": byte_fallback,
        "ignore_merges": ignore_merges,
    })
}

/// The merges of the file. A merge is two tokens with a space between; a token may itself begin with a space.
fn listed_merges(gguf: &Gguf) -> Result<String, Fault> {
    let key = "tokenizer.ggml.merges";
    let missing = || GgufError::MissingKey { key: key.into() };
    let merges = gguf
        .strings(key)?
        .ok_or_else(missing)?
        .collect::<Result<Vec<_>, _>>()?;
    let split = |merge: &&str| merge.char_indices().skip(1).any(|(_, char)| char == ' ');
    if let Some(bad) = merges.iter().find(|merge| !split(merge)) {
        return Err(Fault::Unsupported(format!(
            "{key} holds {bad:?}, which is no pair"
        )));
    }
    Ok(merges_json(merges.into_iter().filter_map(|merge| {
        let space = merge
            .char_indices()
            .skip(1)
            .find(|(_, char)| *char == ' ')?
            .0;
        Some((&merge[..space], &merge[space + 1..]))
    })))
}

fn sentence_piece_bpe(gguf: &Gguf, vocabulary: &Vocabulary<'_>) -> Result<Sections, Fault> {
    if gguf.boolean("tokenizer.ggml.remove_extra_whitespaces")? == Some(true) {
        let reason =
            "tokenizer.ggml.remove_extra_whitespaces is set, which no llama tokenizer needs";
        return Err(Fault::Unsupported(reason.into()));
    }
    let missing = || GgufError::MissingKey {
        key: "tokenizer.ggml.scores".into(),
    };
    let scores = gguf.floats("tokenizer.ggml.scores")?.ok_or_else(missing)?;
    let prefix = gguf
        .boolean("tokenizer.ggml.add_space_prefix")?
        .unwrap_or(true);
    let unknown = gguf
        .unsigned("tokenizer.ggml.unknown_token_id")?
        .unwrap_or(0);
    let has_bytes = (0..vocabulary.tokens.len()).any(|id| vocabulary.kind(id) == BYTE);
    Ok(Sections {
        normalizer: space_normalizer(prefix),
        pre_tokenizer: Value::Null,
        decoder: space_decoder(prefix),
        model: bpe(vocabulary.text(unknown), has_bytes, false),
        merges: scored_merges(vocabulary, &scores),
        add_bos: true,
    })
}

fn space_normalizer(prefix: bool) -> Value {
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE_SIGN});
    if !prefix {
        return replace;
    }
    let prepend = json!({"type": "Prepend", "prepend": SPACE_SIGN});
    json!({"type": "Sequence", "normalizers": [prepend, replace]})
}

fn space_decoder(prefix: bool) -> Value {
    let mut steps = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE_SIGN}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        steps.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({"type": "Sequence", "decoders": steps})
}

/// SentencePiece joins the neighbours whose union scores highest. As a list of merges: every way to cut a token into
/// two tokens, best score first; the same order as Hugging Face's converter gives.
fn scored_merges(vocabulary: &Vocabulary<'_>, scores: &[f32]) -> String {
    let ids: HashMap<&str, usize> = vocabulary
        .tokens
        .iter()
        .enumerate()
        .map(|(id, token)| (*token, id))
        .collect();
    let mut merges: Vec<(f32, &str, &str)> = Vec::new();
    for (id, token) in vocabulary.tokens.iter().enumerate() {
        if matches!(vocabulary.kind(id), UNKNOWN | CONTROL | USER_DEFINED | BYTE) {
            continue;
        }
        let score = scores.get(id).copied().unwrap_or(0.0);
        let mut cuts: Vec<(usize, usize, usize)> = token
            .char_indices()
            .skip(1)
            .filter_map(|(at, _)| Some((*ids.get(&token[..at])?, *ids.get(&token[at..])?, at)))
            .collect();
        cuts.sort_unstable();
        merges.extend(
            cuts.iter()
                .map(|(_, _, at)| (score, &token[..*at], &token[*at..])),
        );
    }
    // Equal scores: longer left part first, then longer right part; the sort is stable.
    let length = |text: &str| std::cmp::Reverse(text.chars().count());
    merges.sort_by(|a, b| {
        b.0.total_cmp(&a.0)
            .then_with(|| (length(a.1), length(a.2)).cmp(&(length(b.1), length(b.2))))
    });
    merges_json(merges.iter().map(|(_, left, right)| (*left, *right)))
}

/// The frame of special tokens around a text.
fn post_processor(
    gguf: &Gguf,
    vocabulary: &Vocabulary<'_>,
    sections: &Sections,
) -> Result<Value, Fault> {
    let add_bos = gguf
        .boolean("tokenizer.ggml.add_bos_token")?
        .unwrap_or(sections.add_bos);
    let add_eos = gguf
        .boolean("tokenizer.ggml.add_eos_token")?
        .unwrap_or(false);
    let bos = named(special_id(gguf, "bos")?.filter(|_| add_bos), vocabulary);
    let eos = named(special_id(gguf, "eos")?.filter(|_| add_eos), vocabulary);
    if bos.is_none() && eos.is_none() {
        return Ok(Value::Null);
    }
    Ok(template(bos, eos))
}

fn named<'a>(id: Option<u32>, vocabulary: &Vocabulary<'a>) -> Option<(u32, &'a str)> {
    Some((id?, vocabulary.text(id?)?))
}

/// A `TemplateProcessing` section.
fn template(bos: Option<(u32, &str)>, eos: Option<(u32, &str)>) -> Value {
    let special = |text: &str, part: u32| json!({"SpecialToken": {"id": text, "type_id": part}});
    let part = |name: &str, part: u32| {
        let begin = bos.map(|(_, text)| special(text, part));
        let body = json!({"Sequence": {"id": name, "type_id": part}});
        begin
            .into_iter()
            .chain([body])
            .chain(eos.map(|(_, text)| special(text, part)))
    };
    let single: Vec<Value> = part("A", 0).collect();
    let pair: Vec<Value> = part("A", 0).chain(part("B", 1)).collect();
    let tokens: serde_json::Map<String, Value> = [bos, eos]
        .into_iter()
        .flatten()
        .map(|(id, text)| {
            (
                text.to_owned(),
                json!({"id": text, "ids": [id], "tokens": [text]}),
            )
        })
        .collect();
    json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens})
}

/// Id of a token with a role (`bos`, `eos`, `unknown`, ...). SentencePiece files may leave the usual ids out.
pub(crate) fn special_id(gguf: &Gguf, role: &str) -> Result<Option<u32>, GgufError> {
    let id = gguf.unsigned(&format!("tokenizer.ggml.{role}_token_id"))?;
    let is_llama = gguf.string("tokenizer.ggml.model")? == Some("llama");
    let usual = match role {
        "unknown" => Some(0),
        "bos" => Some(1),
        "eos" => Some(2),
        _ => None,
    };
    Ok(id.or(usual.filter(|_| is_llama)))
}
