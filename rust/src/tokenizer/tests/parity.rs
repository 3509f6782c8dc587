// SPDX-License-Identifier: Apache-2.0

//! Token ids equal those of the `tokenizers` crate.

mod common;

use proptest::prelude::*;
use serde_json::json;
use vllm_model_files::ModelFiles;
use vllm_tokenizer::Tokenizer;

/// Compares piece by piece, so that a difference is shown with the text around it.
fn assert_equal_ids(
    name: &str,
    ours: &Tokenizer,
    oracle: &tokenizers::Tokenizer,
    text: &str,
    size: usize,
) {
    let mut rest = text;
    while !rest.is_empty() {
        let mut cut = rest.len().min(size);
        while !rest.is_char_boundary(cut) {
            cut += 1;
        }
        let (piece, after) = rest.split_at(cut);
        assert_equal(name, ours, oracle, piece);
        rest = after;
    }
}

fn assert_equal(name: &str, ours: &Tokenizer, oracle: &tokenizers::Tokenizer, text: &str) {
    for add_special in [false, true] {
        let expected = oracle
            .encode_fast(text, add_special)
            .expect("the oracle encodes");
        let got = ours.encode(text, add_special).expect("we encode");
        let least = ours.least_tokens(text);
        assert!(least <= got.len(), "{name}: {least} > {}", got.len());
        if got != expected.get_ids() {
            let at = got
                .iter()
                .zip(expected.get_ids())
                .take_while(|(a, b)| a == b)
                .count();
            let from = at.saturating_sub(3);
            let near = |ids: &[u32]| {
                let window = &ids[from.min(ids.len())..(at + 5).min(ids.len())];
                window
                    .iter()
                    .map(|id| ours.token_text(*id).into_owned())
                    .collect::<Vec<_>>()
            };
            panic!(
                "{name}: token {at} differs: {:?}, expected {:?}",
                near(&got),
                near(expected.get_ids())
            );
        }
    }
}

#[test]
fn every_family_of_byte_level_tokenizers() {
    let mut json = common::byte_level_json();
    let text = common::mixed_text(2, 150_000);
    for normalizer in [json!(null), json!({"type": "NFC"})] {
        json["normalizer"] = normalizer;
        for (name, rule) in common::families() {
            json["pre_tokenizer"] = rule;
            let (ours, oracle) = common::both(&json);
            let encoder = match name {
                "o200k" | "tekken" | "deepseek" => "fastokens",
                _ => "byte-level",
            };
            assert_eq!(ours.encoder(), encoder, "{name}");
            assert_equal_ids(name, &ours, &oracle, &text, 2_000);
            assert_equal(name, &ours, &oracle, &text);
        }
    }
}

/// The least number of tokens is met by the longest token's text, and holds where NFC makes the most of it shorter.
#[test]
fn the_least_number_of_tokens_is_told_without_encoding() {
    let mut json = common::byte_level_json();
    json["pre_tokenizer"] = common::families()[0].1.clone();
    let added = "<|a rather long added token, of 44 letters|>";
    let mut token = json["added_tokens"][0].clone();
    token["content"] = added.into();
    token["id"] = json["model"]["vocab"]
        .as_object()
        .map_or(0, |vocab| vocab.len())
        .into();
    json["added_tokens"]
        .as_array_mut()
        .expect("a list")
        .push(token);
    for (normalizer, longest) in [(json!(null), 44), (json!({"type": "NFC"}), 176)] {
        json["normalizer"] = normalizer;
        let (ours, oracle) = common::both(&json);
        assert_eq!(ours.longest_token(), Some(longest));
        assert_eq!(ours.least_tokens(&"x".repeat(longest * 7 + 1)), 8);
        for text in [
            "\u{212a}",
            "\u{1fef}",
            "\u{1112}\u{1161}\u{11ab}",
            "\u{2126}\u{314}\u{300}\u{345}",
        ] {
            assert_equal("least", &ours, &oracle, &text.repeat(500));
        }
        assert_equal("added", &ours, &oracle, &added.repeat(50));
    }
    let (ours, _) = common::both(&common::byte_fallback_json());
    assert_eq!(
        (ours.longest_token(), ours.least_tokens("a text")),
        (None, 0)
    );
}

/// SmolLM2 has no tokens for some bytes that are rare in text, and none for unknown ones.
#[test]
fn bytes_without_a_token_are_left_out() {
    let mut json = common::byte_level_json();
    let vocabulary = json["model"]["vocab"].as_object_mut();
    let vocabulary = vocabulary.expect("a vocabulary");
    let lost = ["\u{f2}", "\u{f3}", "\u{10d}"];
    lost.iter().for_each(|byte| drop(vocabulary.remove(*byte)));
    let holds = |token: &str| lost.iter().any(|byte| token.contains(byte));
    vocabulary.retain(|token, _| !holds(token));
    let merges = json["model"]["merges"].as_array_mut().expect("merges");
    merges.retain(|pair| {
        !pair
            .as_array()
            .expect("a pair")
            .iter()
            .any(|token| holds(token.as_str().expect("a token")))
    });
    for (name, rule) in common::families() {
        json["pre_tokenizer"] = rule;
        let (ours, oracle) = common::both(&json);
        let text = common::mixed_text(8, 20_000) + "\r\n\u{c0001} a\u{d0000}b";
        assert_equal(name, &ours, &oracle, &text);
    }
}

#[test]
fn byte_fallback_vocabularies() {
    let (ours, oracle) = common::both(&common::byte_fallback_json());
    assert_eq!(ours.encoder(), "fastokens");
    let text = common::mixed_text(3, 200_000) + "<s> a </s><unk> <0x41>";
    assert_equal_ids("byte fallback", &ours, &oracle, &text, 500);
    assert_equal(
        "byte fallback",
        &ours,
        &oracle,
        &common::mixed_text(7, 10_000),
    );
}

#[test]
fn a_token_that_no_merge_makes_goes_to_the_reference() {
    let mut json = common::byte_fallback_json();
    let vocabulary = json["model"]["vocab"]
        .as_object_mut()
        .expect("a vocabulary");
    let id = vocabulary.remove("0").expect("a digit");
    vocabulary.insert("a\u{2580}".into(), id);
    let (ours, oracle) = common::both(&json);
    // The byte tokens contain 0, which is no token.
    assert_eq!(ours.encoder(), "tokenizers");
    assert_equal("unreachable", &ours, &oracle, "a\u{2580} <0x41> <0x41>");
}

#[test]
fn whole_words_and_other_models_go_to_the_reference() {
    let mut json = common::byte_level_json();
    json["added_tokens"][0]["single_word"] = true.into();
    let (ours, oracle) = common::both(&json);
    assert_eq!(ours.encoder(), "tokenizers");
    assert_equal(
        "single word",
        &ours,
        &oracle,
        "a<|endoftext|>b <|endoftext|> c",
    );
    let (ours, oracle) = common::both(&json!({
        "version": "1.0", "added_tokens": [], "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
            "vocab": {"[UNK]": 0, "play": 1, "##ing": 2, "a": 3, "!": 4}},
    }));
    assert_eq!(ours.encoder(), "tokenizers");
    assert_eq!(
        ours.encode("playing a play!", false),
        Ok(vec![1, 2, 3, 1, 4]),
        "never truncated"
    );
    assert_eq!(
        ours.decode(&[1, 2, 3, 1, 4], false),
        oracle.decode(&[1, 2, 3, 1, 4], false).expect("decodes")
    );
    let mut detokenizer = ours.detokenizer(&[], false);
    let mut text = String::new();
    detokenizer.push(&[1, 2, 3, 1], &mut text);
    detokenizer.finish(&mut text);
    assert_eq!(text, "playing a play");
}

/// The megabyte: the default model's own vocabulary.
#[test]
fn a_megabyte_of_mixed_text_on_the_default_model() {
    let Some(path) = common::model() else {
        eprintln!(
            "skipped: the default model is not on this machine (VLLM_TEST_MODEL, or fetched by `nox -s serve`)"
        );
        return;
    };
    let files = ModelFiles::open(path).expect("opens");
    let ours = Tokenizer::load(&files).expect("loads");
    assert_eq!(ours.encoder(), "byte-level");
    let oracle: tokenizers::Tokenizer = files.tokenizer_json.parse().expect("tokenizers loads it");
    let text = common::mixed_text(4, 1 << 20);
    assert_equal_ids("SmolLM2", &ours, &oracle, &text, 16_000);
    assert_equal("SmolLM2", &ours, &oracle, &common::mixed_text(5, 200_000));
    for id in 0..ours.vocab_size() as u32 {
        let token = oracle.id_to_token(id).expect("no holes");
        assert_eq!(ours.token_to_id(&token), Some(id));
        assert_eq!(
            ours.token_text(id),
            oracle.decode(&[id], false).expect("decodes"),
            "token {id}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_text_encodes_as_the_oracle_does(texts in prop::collection::vec(any::<String>(), 1..4), seed: u64) {
        thread_local! {
            static PAIR: (Tokenizer, tokenizers::Tokenizer) = common::both(&common::byte_level_json());
        }
        let mut text = texts.concat();
        text.push_str(&common::mixed_text(seed, 300));
        PAIR.with(|(ours, oracle)| assert_equal("any text", ours, oracle, &text));
    }
}
