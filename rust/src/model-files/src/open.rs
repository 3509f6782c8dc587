// SPDX-License-Identifier: Apache-2.0

//! Decides which form a model has, and reads the GGUF form.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::gguf::{Gguf, GgufError};
use crate::gguf_tokenizer::{self, Fault, Vocabulary};
use crate::{
    ChatTemplates, Error, GenerationDefaults, ModelFiles, ModelFormat, SpecialToken, SpecialTokens,
    directory,
};

impl ModelFiles {
    /// Opens a Hugging Face directory or a GGUF file. Reads metadata only, never weights.
    ///
    /// # Errors
    ///
    /// Names the file and what is wrong with it: absent, unreadable, truncated, foreign, or of an unsupported kind.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let metadata = path.metadata().map_err(|cause| Error::Io {
            path: path.to_owned(),
            cause,
        })?;
        if metadata.is_dir() {
            return directory::open(path);
        }
        if !looks_like_gguf(path)? {
            return Err(Error::NotAModel {
                path: path.to_owned(),
            });
        }
        open_gguf(path)
    }
}

/// By name or by content; a file named `.gguf` goes to the reader, which says what is wrong with it.
fn looks_like_gguf(path: &Path) -> Result<bool, Error> {
    if path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
    {
        return Ok(true);
    }
    let mut magic = Vec::with_capacity(4);
    let file = File::open(path).map_err(|cause| Error::Io {
        path: path.to_owned(),
        cause,
    })?;
    file.take(4)
        .read_to_end(&mut magic)
        .map_err(|cause| Error::Io {
            path: path.to_owned(),
            cause,
        })?;
    Ok(magic == b"GGUF")
}

fn open_gguf(path: &Path) -> Result<ModelFiles, Error> {
    let gguf = Gguf::open(path)?;
    read_gguf(path, &gguf).map_err(|fault| match fault {
        Fault::Gguf(cause) => Error::Gguf {
            path: path.to_owned(),
            cause,
        },
        Fault::Unsupported(reason) => Error::UnsupportedTokenizer {
            path: path.to_owned(),
            reason,
        },
    })
}

fn read_gguf(path: &Path, gguf: &Gguf) -> Result<ModelFiles, Fault> {
    let architecture = gguf.string("general.architecture")?.map(str::to_owned);
    let of_architecture = |name: &str| match &architecture {
        Some(architecture) => gguf.unsigned(&format!("{architecture}.{name}")),
        None => Ok(None),
    };
    let vocabulary = Vocabulary::read(gguf)?;
    let special_tokens = special_tokens(gguf, &vocabulary)?;
    Ok(ModelFiles {
        path: path.to_owned(),
        format: ModelFormat::Gguf,
        context_length: of_architecture("context_length")?,
        vocab_size: of_architecture("vocab_size")?.or(u32::try_from(vocabulary.tokens.len()).ok()),
        tokenizer_json: gguf_tokenizer::tokenizer_json(gguf, &vocabulary)?.into(),
        add_bos_token: gguf.boolean("tokenizer.ggml.add_bos_token")?,
        chat_templates: chat_templates(gguf)?,
        generation: GenerationDefaults {
            eos_token_ids: end_tokens(gguf)?,
            ..GenerationDefaults::default()
        },
        special_tokens,
        architecture,
    })
}

fn special_tokens(gguf: &Gguf, vocabulary: &Vocabulary<'_>) -> Result<SpecialTokens, GgufError> {
    let token = |role: &str| -> Result<Option<SpecialToken>, GgufError> {
        let Some(id) = gguf_tokenizer::special_id(gguf, role)? else {
            return Ok(None);
        };
        let text = vocabulary.text(id).map(str::to_owned);
        Ok(text.map(|text| SpecialToken { text, id: Some(id) }))
    };
    Ok(SpecialTokens {
        bos: token("bos")?,
        eos: token("eos")?,
        unk: token("unknown")?,
        pad: token("padding")?,
    })
}

/// End of sequence, of turn and of message: each ends a generation.
fn end_tokens(gguf: &Gguf) -> Result<Vec<u32>, GgufError> {
    let mut ids = Vec::new();
    for role in ["eos", "eot", "eom"] {
        ids.extend(gguf_tokenizer::special_id(gguf, role)?);
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

fn chat_templates(gguf: &Gguf) -> Result<ChatTemplates, GgufError> {
    let key = "tokenizer.chat_template";
    let mut templates = ChatTemplates {
        default: gguf.string(key)?.map(str::to_owned),
        ..Default::default()
    };
    let prefix = "tokenizer.chat_template.";
    for key in gguf.keys_below(prefix) {
        if let Some(source) = gguf.string(key)? {
            templates
                .named
                .insert(key[prefix.len()..].to_owned(), source.to_owned());
        }
    }
    Ok(templates)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf_writer::GgufWriter;
    use serde_json::Value;

    fn open(bytes: &[u8]) -> Result<ModelFiles, Error> {
        let file = tempfile::Builder::new()
            .suffix(".gguf")
            .tempfile()
            .expect("a temporary file");
        std::fs::write(file.path(), bytes).expect("write");
        ModelFiles::open(file.path())
    }

    fn byte_level(pre: &str) -> GgufWriter {
        GgufWriter::new(3)
            .string("general.architecture", "llama")
            .u32("llama.context_length", 128)
            .string("tokenizer.ggml.model", "gpt2")
            .string("tokenizer.ggml.pre", pre)
            .strings(
                "tokenizer.ggml.tokens",
                &["<|end|>", "a", "b", "ab", "\u{120}ab"],
            )
            .i32s("tokenizer.ggml.token_type", &[3, 1, 1, 1, 1])
            .strings("tokenizer.ggml.merges", &["a b", "\u{120} ab"])
            .u32("tokenizer.ggml.eos_token_id", 0)
            .u32("tokenizer.ggml.eot_token_id", 3)
            .string("tokenizer.chat_template", "{{ messages }}")
            .string("tokenizer.chat_template.rag", "rag")
    }

    fn json(files: &ModelFiles) -> Value {
        serde_json::from_str(&files.tokenizer_json).expect("valid JSON")
    }

    #[test]
    fn byte_level_bpe_becomes_a_tokenizer_json() {
        let files = open(&byte_level("smollm").finish()).expect("opens");
        assert_eq!(files.format, ModelFormat::Gguf);
        assert_eq!(files.architecture.as_deref(), Some("llama"));
        assert_eq!(
            (files.context_length, files.vocab_size),
            (Some(128), Some(5))
        );
        assert_eq!(files.generation.eos_token_ids, [0, 3]);
        let eos = files.special_tokens.eos.as_ref().expect("eos");
        assert_eq!((eos.text.as_str(), eos.id), ("<|end|>", Some(0)));
        assert_eq!(files.special_tokens.bos, None);
        assert_eq!(
            files.chat_templates.default.as_deref(),
            Some("{{ messages }}")
        );
        assert_eq!(files.chat_templates.named["rag"], "rag");
        let json = json(&files);
        assert_eq!(json["model"]["vocab"]["\u{120}ab"], 4);
        assert_eq!(json["model"]["merges"][1][1], "ab");
        assert_eq!(json["added_tokens"][0]["content"], "<|end|>");
        assert_eq!(json["pre_tokenizer"]["pretokenizers"][0]["type"], "Digits");
        assert_eq!(json["post_processor"], Value::Null);
    }

    #[test]
    fn flags_decide_on_the_frame() {
        let bytes = byte_level("gpt-2")
            .u32("tokenizer.ggml.bos_token_id", 1)
            .boolean("tokenizer.ggml.add_bos_token", true)
            .finish();
        let json = json(&open(&bytes).expect("opens"));
        assert_eq!(
            json["post_processor"]["single"][0]["SpecialToken"]["id"],
            "a"
        );
        assert_eq!(json["post_processor"]["special_tokens"]["a"]["ids"][0], 1);
    }

    #[test]
    fn scores_become_merges() {
        let bytes = GgufWriter::new(2)
            .string("tokenizer.ggml.model", "llama")
            .strings(
                "tokenizer.ggml.tokens",
                &["<unk>", "<s>", "</s>", "a", "b", "ab", "aba", "\u{2581}"],
            )
            .i32s("tokenizer.ggml.token_type", &[2, 3, 3, 1, 1, 1, 1, 1])
            .f32s(
                "tokenizer.ggml.scores",
                &[0.0, 0.0, 0.0, -5.0, -6.0, -1.0, -0.5, -2.0],
            )
            .finish();
        let files = open(&bytes).expect("opens");
        let json = json(&files);
        assert_eq!(
            json["model"]["merges"].to_string(),
            r#"[["ab","a"],["a","b"]]"#
        );
        assert_eq!(json["model"]["unk_token"], "<unk>");
        assert_eq!(
            json["post_processor"]["single"][0]["SpecialToken"]["id"],
            "<s>"
        );
        assert_eq!(files.special_tokens.eos.expect("the usual id").text, "</s>");
    }

    #[test]
    fn unsupported_tokenizers_are_refused_by_name() {
        let message = open(&byte_level("default").finish())
            .expect_err("refused")
            .to_string();
        assert!(
            message.contains("tokenizer.ggml.pre is \"default\" (supported: gpt-2,"),
            "{message}"
        );
        let bytes = GgufWriter::new(3)
            .string("tokenizer.ggml.model", "bert")
            .strings("tokenizer.ggml.tokens", &["a"])
            .finish();
        let message = open(&bytes).expect_err("refused").to_string();
        assert!(
            message.contains("tokenizer.ggml.model is \"bert\" (supported: gpt2, llama)"),
            "{message}"
        );
    }

    #[test]
    fn foreign_and_truncated_files_are_refused() {
        let message = open(b"PK\x03\x04").expect_err("a zip").to_string();
        assert!(message.contains("not a GGUF file"), "{message}");
        let whole = byte_level("smollm").finish();
        let message = open(&whole[..whole.len() - 1])
            .expect_err("cut short")
            .to_string();
        assert!(
            message.contains("truncated") && message.contains("tokenizer.chat_template.rag"),
            "{message}"
        );
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), "hello").expect("write");
        assert!(matches!(
            ModelFiles::open(file.path()),
            Err(Error::NotAModel { .. })
        ));
        assert!(matches!(
            ModelFiles::open("/nonexistent/model"),
            Err(Error::Io { .. })
        ));
    }
}
