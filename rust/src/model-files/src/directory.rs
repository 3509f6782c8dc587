// SPDX-License-Identifier: Apache-2.0

//! Reads a Hugging Face model directory.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{
    ChatTemplates, Error, GenerationDefaults, ModelFiles, ModelFormat, SpecialToken, SpecialTokens,
};

/// One id or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Ids {
    One(u32),
    Many(Vec<u32>),
}

impl Ids {
    fn into_vec(self) -> Vec<u32> {
        match self {
            Ids::One(id) => vec![id],
            Ids::Many(ids) => ids,
        }
    }
}

/// What is read of `config.json`. Models of several parts keep the language model's in `text_config`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    architectures: Option<Vec<String>>,
    text_config: Option<Box<Config>>,
    max_position_embeddings: Option<u32>,
    n_positions: Option<u32>,
    max_seq_len: Option<u32>,
    seq_length: Option<u32>,
    vocab_size: Option<u32>,
    eos_token_id: Option<Ids>,
}

impl Config {
    fn context_length(&self) -> Option<u32> {
        let nested = self
            .text_config
            .as_ref()
            .and_then(|config| config.context_length());
        nested
            .or(self.max_position_embeddings)
            .or(self.n_positions)
            .or(self.max_seq_len)
            .or(self.seq_length)
    }

    fn vocab_size(&self) -> Option<u32> {
        self.text_config
            .as_ref()
            .and_then(|config| config.vocab_size())
            .or(self.vocab_size)
    }
}

/// What is read of `generation_config.json`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct GenerationConfig {
    eos_token_id: Option<Ids>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<i64>,
    min_p: Option<f64>,
    repetition_penalty: Option<f64>,
    max_new_tokens: Option<u64>,
}

/// A token in `tokenizer_config.json` and `special_tokens_map.json`: text, or text with flags.
#[derive(Deserialize)]
#[serde(untagged)]
enum TokenText {
    Plain(String),
    Flagged { content: String },
}

impl TokenText {
    fn into_text(self) -> String {
        match self {
            TokenText::Plain(text) | TokenText::Flagged { content: text } => text,
        }
    }
}

/// A chat template in `tokenizer_config.json`: one, or several with names.
#[derive(Deserialize)]
#[serde(untagged)]
enum TemplateSource {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenizerConfig {
    bos_token: Option<TokenText>,
    eos_token: Option<TokenText>,
    unk_token: Option<TokenText>,
    pad_token: Option<TokenText>,
    add_bos_token: Option<bool>,
    chat_template: Option<TemplateSource>,
    added_tokens_decoder: BTreeMap<String, Map<String, Value>>,
}

/// The part of `tokenizer.json` that tells which tokens are added.
#[derive(Deserialize)]
struct AddedTokens {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
}

/// Opens the directory.
pub(crate) fn open(path: &Path) -> Result<ModelFiles, Error> {
    let config: Config = read_json(&path.join("config.json"))?.ok_or_else(|| Error::NotAModel {
        path: path.to_owned(),
    })?;
    let generation: GenerationConfig =
        read_json(&path.join("generation_config.json"))?.unwrap_or_default();
    let mut tokenizer_config: TokenizerConfig =
        read_json(&path.join("tokenizer_config.json"))?.unwrap_or_default();
    let declared = std::mem::take(&mut tokenizer_config.added_tokens_decoder);
    let (tokenizer_json, added) = tokenizer(&path.join("tokenizer.json"), declared)?;
    let chat_templates = chat_templates(path, tokenizer_config.chat_template.take())?;
    let add_bos_token = tokenizer_config.add_bos_token;
    let special_tokens = special_tokens(path, tokenizer_config, &added, &tokenizer_json)?;
    Ok(ModelFiles {
        path: path.to_owned(),
        format: ModelFormat::HuggingFace,
        context_length: config.context_length(),
        vocab_size: config.vocab_size(),
        generation: defaults(generation, config.eos_token_id, &special_tokens),
        architecture: config
            .architectures
            .and_then(|names| names.into_iter().next()),
        tokenizer_json: tokenizer_json.into(),
        add_bos_token,
        chat_templates,
        special_tokens,
    })
}

fn read_text(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(Error::Io {
            path: path.to_owned(),
            cause,
        }),
    }
}

fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| Error::Json {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    read_text(path)?.map(|text| parse(path, &text)).transpose()
}

/// The tokenizer and the ids of its added tokens. Tokens that only `tokenizer_config.json` declares are put in.
fn tokenizer(
    path: &Path,
    declared: BTreeMap<String, Map<String, Value>>,
) -> Result<(String, HashMap<String, u32>), Error> {
    let text = read_text(path)?.ok_or_else(|| Error::Missing {
        path: path.to_owned(),
        remedy: "the server needs the tokenizer in this form; save it with save_pretrained of a fast tokenizer",
    })?;
    let added: AddedTokens = parse(path, &text)?;
    let ids: HashMap<String, u32> = added
        .added_tokens
        .into_iter()
        .map(|token| (token.content, token.id))
        .collect();
    let extra = undeclared(path, declared, &ids)?;
    if extra.is_empty() {
        return Ok((text, ids));
    }
    add_tokens(path, &text, extra, ids)
}

/// Entries of `added_tokens_decoder` that `tokenizer.json` lacks, in its format.
fn undeclared(
    path: &Path,
    declared: BTreeMap<String, Map<String, Value>>,
    known: &HashMap<String, u32>,
) -> Result<Vec<(u32, String, Value)>, Error> {
    let path = path.with_file_name("tokenizer_config.json");
    let mut extra = Vec::new();
    for (id, mut token) in declared {
        let fault = |reason: String| Error::Json {
            path: path.clone(),
            reason,
        };
        let number: u32 = id
            .parse()
            .map_err(|_| fault(format!("added_tokens_decoder: {id:?} is not a token id")))?;
        let content = match token.get("content").and_then(Value::as_str) {
            Some(content) => content.to_owned(),
            None => return Err(fault(format!("added_tokens_decoder: {id} has no content"))),
        };
        if !known.contains_key(&content) && !known.values().any(|known| *known == number) {
            token.insert("id".into(), number.into());
            extra.push((number, content, Value::Object(token)));
        }
    }
    extra.sort_by_key(|(id, _, _)| *id);
    Ok(extra)
}

fn add_tokens(
    path: &Path,
    text: &str,
    extra: Vec<(u32, String, Value)>,
    mut ids: HashMap<String, u32>,
) -> Result<(String, HashMap<String, u32>), Error> {
    let mut json: Map<String, Value> = parse(path, text)?;
    let list = json
        .entry("added_tokens")
        .or_insert_with(|| Value::Array(Vec::new()));
    for (id, content, token) in extra {
        if let Value::Array(list) = list {
            list.push(token);
        }
        ids.insert(content, id);
    }
    Ok((Value::Object(json).to_string(), ids))
}

/// A `chat_template.jinja` beside the model wins over the templates in `tokenizer_config.json`.
fn chat_templates(path: &Path, configured: Option<TemplateSource>) -> Result<ChatTemplates, Error> {
    let mut templates = ChatTemplates::default();
    match configured {
        Some(TemplateSource::One(source)) => templates.default = Some(source),
        Some(TemplateSource::Named(list)) => {
            templates.named = list
                .into_iter()
                .map(|entry| (entry.name, entry.template))
                .collect();
            templates.default = templates.named.remove("default");
        }
        None => {}
    }
    for (name, source) in template_files(&path.join("additional_chat_templates"))? {
        templates.named.insert(name, source);
    }
    if let Some(source) = read_text(&path.join("chat_template.jinja"))? {
        templates.default = Some(source);
    } else if templates.default.is_none() {
        templates.default = processor_template(&path.join("chat_template.json"))?;
    }
    Ok(templates)
}

/// Older multimodal models keep the template in a file of its own.
fn processor_template(path: &Path) -> Result<Option<String>, Error> {
    #[derive(Deserialize)]
    struct Processor {
        chat_template: Option<String>,
    }
    Ok(read_json::<Processor>(path)?.and_then(|processor| processor.chat_template))
}

/// `NAME.jinja` files of a folder that need not exist.
fn template_files(folder: &Path) -> Result<Vec<(String, String)>, Error> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(Vec::new());
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "jinja")
    });
    paths.sort();
    let mut templates = Vec::new();
    for path in paths {
        let name = path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned());
        if let (Some(name), Some(source)) = (name, read_text(&path)?) {
            templates.push((name, source));
        }
    }
    Ok(templates)
}

fn special_tokens(
    path: &Path,
    config: TokenizerConfig,
    added: &HashMap<String, u32>,
    tokenizer_json: &str,
) -> Result<SpecialTokens, Error> {
    let mut map: HashMap<String, Value> =
        read_json(&path.join("special_tokens_map.json"))?.unwrap_or_default();
    let mut token = |role: &str, configured: Option<TokenText>| {
        let mapped = || serde_json::from_value(map.remove(role)?).ok();
        let text = configured.or_else(mapped).map(TokenText::into_text)?;
        let id = added
            .get(&text)
            .copied()
            .or_else(|| vocabulary_id(tokenizer_json, &text));
        Some(SpecialToken { text, id })
    };
    Ok(SpecialTokens {
        bos: token("bos_token", config.bos_token),
        eos: token("eos_token", config.eos_token),
        unk: token("unk_token", config.unk_token),
        pad: token("pad_token", config.pad_token),
    })
}

/// Id of a special token that is not among the added ones: a second look at `tokenizer.json`, rarely needed.
fn vocabulary_id(tokenizer_json: &str, text: &str) -> Option<u32> {
    #[derive(Deserialize)]
    struct Tokenizer {
        model: Model,
    }
    #[derive(Deserialize)]
    struct Model {
        vocab: HashMap<String, u32>,
    }
    let tokenizer: Tokenizer = serde_json::from_str(tokenizer_json).ok()?;
    tokenizer.model.vocab.get(text).copied()
}

fn defaults(
    generation: GenerationConfig,
    config_eos: Option<Ids>,
    special: &SpecialTokens,
) -> GenerationDefaults {
    let listed = generation.eos_token_id.or(config_eos);
    let mut eos_token_ids = listed.map(Ids::into_vec).unwrap_or_default();
    eos_token_ids.extend(special.eos.as_ref().and_then(|eos| eos.id));
    eos_token_ids.sort_unstable();
    eos_token_ids.dedup();
    GenerationDefaults {
        eos_token_ids,
        temperature: generation.temperature,
        top_p: generation.top_p,
        top_k: generation.top_k,
        min_p: generation.min_p,
        repetition_penalty: generation.repetition_penalty,
        max_new_tokens: generation.max_new_tokens,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            let folder = Self(tempfile::tempdir().expect("a temporary folder"));
            folder.json("config.json", json!({
                "architectures": ["LlamaForCausalLM"], "max_position_embeddings": 64, "vocab_size": 9, "eos_token_id": 5,
            }));
            folder.json(
                "tokenizer.json",
                json!({
                    "added_tokens": [{"id": 7, "content": "<end>"}],
                    "model": {"type": "BPE", "vocab": {"<s>": 1}, "merges": []},
                }),
            );
            folder
        }

        fn json(&self, name: &str, value: Value) {
            self.text(name, &value.to_string());
        }

        fn text(&self, name: &str, text: &str) {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folder");
            fs::write(path, text).expect("write");
        }

        fn open(&self) -> Result<ModelFiles, Error> {
            ModelFiles::open(self.0.path())
        }
    }

    #[test]
    fn everything_is_found() {
        let folder = Folder::new();
        folder.json("tokenizer_config.json", json!({
            "bos_token": "<s>", "eos_token": {"content": "<end>", "lstrip": false}, "chat_template": "configured",
        }));
        folder.json(
            "special_tokens_map.json",
            json!({"pad_token": {"content": "<end>"}}),
        );
        folder.json(
            "generation_config.json",
            json!({"eos_token_id": [7, 3], "temperature": 0.6, "top_k": 20}),
        );
        folder.text("additional_chat_templates/rag.jinja", "rag");
        let files = folder.open().expect("opens");
        assert_eq!(files.architecture.as_deref(), Some("LlamaForCausalLM"));
        assert_eq!(
            (files.context_length, files.vocab_size),
            (Some(64), Some(9))
        );
        assert_eq!(
            files.special_tokens.bos,
            Some(SpecialToken {
                text: "<s>".into(),
                id: Some(1)
            })
        );
        assert_eq!(
            files.special_tokens.eos,
            Some(SpecialToken {
                text: "<end>".into(),
                id: Some(7)
            })
        );
        assert_eq!(
            files.special_tokens.pad.as_ref().and_then(|pad| pad.id),
            Some(7)
        );
        assert_eq!(files.generation.eos_token_ids, [3, 7]);
        assert_eq!(
            (files.generation.temperature, files.generation.top_k),
            (Some(0.6), Some(20))
        );
        assert_eq!(files.chat_templates.default.as_deref(), Some("configured"));
        assert_eq!(files.chat_templates.named["rag"], "rag");
        folder.text("chat_template.jinja", "file");
        assert_eq!(
            folder
                .open()
                .expect("opens")
                .chat_templates
                .default
                .as_deref(),
            Some("file")
        );
    }

    #[test]
    fn named_templates_and_config_eos() {
        let folder = Folder::new();
        folder.json("tokenizer_config.json", json!({
            "chat_template": [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}],
        }));
        let files = folder.open().expect("opens");
        assert_eq!(files.chat_templates.default.as_deref(), Some("d"));
        assert_eq!(files.chat_templates.named["tool_use"], "t");
        assert_eq!(files.generation.eos_token_ids, [5]);
    }

    #[test]
    fn tokens_declared_beside_the_tokenizer_are_added() {
        let folder = Folder::new();
        folder.json("tokenizer_config.json", json!({
            "eos_token": "<im>",
            "added_tokens_decoder": {"7": {"content": "<end>"}, "8": {"content": "<im>", "special": true}},
        }));
        let files = folder.open().expect("opens");
        let json: Value = serde_json::from_str(&files.tokenizer_json).expect("JSON");
        assert_eq!(
            json["added_tokens"],
            json!([
                {"id": 7, "content": "<end>"}, {"id": 8, "content": "<im>", "special": true},
            ])
        );
        assert_eq!(files.special_tokens.eos.and_then(|eos| eos.id), Some(8));
    }

    #[test]
    fn faults_name_the_file() {
        let folder = Folder::new();
        fs::remove_file(folder.0.path().join("tokenizer.json")).expect("remove");
        let message = folder.open().expect_err("no tokenizer").to_string();
        assert!(message.contains("tokenizer.json: missing; "), "{message}");
        folder.text("generation_config.json", "{\"temperature\": \"hot\"}");
        let message = folder.open().expect_err("wrong type").to_string();
        assert!(
            message.contains("generation_config.json: not valid: invalid type"),
            "{message}"
        );
        fs::remove_file(folder.0.path().join("config.json")).expect("remove");
        assert!(matches!(folder.open(), Err(Error::NotAModel { .. })));
    }
}
