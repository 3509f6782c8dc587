// SPDX-License-Identifier: Apache-2.0

//! How byte-level BPE tokenizers cut text into words, by the name that GGUF files give (`tokenizer.ggml.pre`).
//!
//! The expressions are those of the models' own `tokenizer.json` files. Names whose expression is not known for
//! certain are left out on purpose: a wrong guess gives plausible, wrong ids.

use serde_json::{Value, json};

/// Cutting rules of one family of models.
pub(crate) struct PreTokenizer {
    /// The `pre_tokenizer` section of a `tokenizer.json`.
    pub(crate) section: Value,
    /// The `normalizer` section.
    pub(crate) normalizer: Value,
    /// Whether a word that is itself in the vocabulary is taken whole, whatever the merges say.
    pub(crate) ignore_merges: bool,
    /// Whether a sequence begins with the beginning-of-sequence token unless the file says otherwise.
    pub(crate) add_bos: bool,
}

const CONTRACTIONS: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const TAIL: &str = r"\s*[\r\n]+|\s+(?!\S)|\s+";

/// The rules for a name; `None` for a name that is not known.
pub(crate) fn find(name: &str) -> Option<PreTokenizer> {
    let plain = |section| PreTokenizer {
        section,
        normalizer: Value::Null,
        ignore_merges: false,
        add_bos: false,
    };
    let composed = |section| PreTokenizer {
        normalizer: json!({"type": "NFC"}),
        ..plain(section)
    };
    Some(match name {
        "gpt-2" | "phi-2" => plain(byte_level(true)),
        "smollm" | "starcoder" | "refact" | "codeshell" => plain(single_digits()),
        "command-r" => composed(single_digits()),
        "dbrx" | "smaug-bpe" | "chatglm-bpe" => {
            plain(split(&[&words(r"\p{L}+", "{1,3}", r"\p{L}")]))
        }
        "glm4" => PreTokenizer {
            ignore_merges: true,
            ..plain(split(&[&words(r"\p{L}+", "{1,3}", r"\p{L}")]))
        },
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "lfm2" => PreTokenizer {
            ignore_merges: true,
            add_bos: true,
            ..plain(split(&[&words(r"\p{L}+", "{1,3}", r"\p{L}")]))
        },
        "qwen2" => composed(split(&[&words(r"\p{L}+", "", r"\p{L}")])),
        "qwen35" => plain(split(&[&words(r"[\p{L}\p{M}]+", "", r"\p{L}\p{M}")])),
        "deepseek-v3" => plain(split(&DEEPSEEK_V3)),
        "tekken" => PreTokenizer {
            ignore_merges: true,
            add_bos: true,
            ..plain(split(&[&cased_words("", "")]))
        },
        "gpt-4o" | "llama4" => plain(split(&[&cased_words(CONTRACTIONS_OPTIONAL, "{1,3}")])),
        _ => return None,
    })
}

/// Names that [`find`] knows, for error messages.
pub(crate) const NAMES: &str = "gpt-2, phi-2, smollm, starcoder, refact, codeshell, command-r, dbrx, smaug-bpe, \
    chatglm-bpe, glm4, llama3, llama-v3, llama-bpe, falcon3, lfm2, qwen2, qwen35, deepseek-v3, tekken, gpt-4o, llama4";

const CONTRACTIONS_OPTIONAL: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?";

const DEEPSEEK_V3: [&str; 3] = [
    r"\p{N}{1,3}",
    "[\u{4e00}-\u{9fa5}\u{3040}-\u{309f}\u{30a0}-\u{30ff}]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| \
     ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
];

/// The rule of cl100k and its relatives: contractions, a word with at most one other character in front, digits in
/// groups of `digits`, runs of symbols, line breaks, spaces.
fn words(word: &str, digits: &str, letters: &str) -> String {
    let symbols = format!(r" ?[^\s{letters}\p{{N}}]+[\r\n]*");
    format!(r"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?{word}|\p{{N}}{digits}|{symbols}|{TAIL}")
}

/// The rule of o200k and its relatives: as above, but a change from lower to upper case begins a new word.
fn cased_words(contractions: &str, digits: &str) -> String {
    const UPPER: &str = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]";
    const LOWER: &str = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]";
    const LEAD: &str = r"[^\r\n\p{L}\p{N}]?";
    let capitalized = format!("{LEAD}{UPPER}*{LOWER}+{contractions}");
    let shouted = format!("{LEAD}{UPPER}+{LOWER}*{contractions}");
    format!(r"{capitalized}|{shouted}|\p{{N}}{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{TAIL}")
}

fn byte_level(use_regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex})
}

fn single_digits() -> Value {
    let digits = json!({"type": "Digits", "individual_digits": true});
    json!({"type": "Sequence", "pretokenizers": [digits, byte_level(true)]})
}

fn split(expressions: &[&str]) -> Value {
    let step = |expression: &&str| json!({"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": false});
    let mut steps: Vec<Value> = expressions.iter().map(step).collect();
    steps.push(byte_level(false));
    json!({"type": "Sequence", "pretokenizers": steps})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_in_the_message_is_known() {
        for name in NAMES.split(',').map(str::trim) {
            assert!(find(name).is_some(), "{name}");
        }
        assert!(find("default").is_none());
    }

    #[test]
    fn only_families_that_compose_characters_do() {
        let composes = |name: &str| find(name).is_some_and(|rule| rule.normalizer["type"] == "NFC");
        let names = NAMES.split(',').map(str::trim);
        let composing: Vec<&str> = names.filter(|name| composes(name)).collect();
        assert_eq!(composing, ["command-r", "qwen2"]);
    }

    /// The published expressions, to the letter: the fast encoder recognizes families by them.
    #[test]
    fn assembled_expressions_are_the_published_ones() {
        assert_eq!(
            words(r"\p{L}+", "{1,3}", r"\p{L}"),
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        );
        assert_eq!(
            words(r"\p{L}+", "", r"\p{L}"),
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        );
        assert_eq!(
            words(r"[\p{L}\p{M}]+", "", r"\p{L}\p{M}"),
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        );
        assert_eq!(
            cased_words(CONTRACTIONS_OPTIONAL, "{1,3}"),
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        );
    }
}
