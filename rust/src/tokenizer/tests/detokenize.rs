// SPDX-License-Identifier: Apache-2.0

//! Text equals that of the `tokenizers` crate, whatever the chunking.

mod common;

use proptest::prelude::*;
use serde_json::{Value, json};
use vllm_model_files::ModelFiles;
use vllm_tokenizer::Tokenizer;

fn streamed(ours: &Tokenizer, prompt: &[u32], ids: &[u32], cuts: &[usize], skip: bool) -> String {
    let mut detokenizer = ours.detokenizer(prompt, skip);
    let mut text = String::new();
    let mut rest = ids;
    for cut in cuts {
        let (chunk, after) = rest.split_at((*cut).min(rest.len()));
        detokenizer.push(chunk, &mut text);
        rest = after;
    }
    detokenizer.push(rest, &mut text);
    detokenizer.finish(&mut text);
    text
}

fn byte_level() -> Value {
    common::byte_level_json()
}

/// The SentencePiece decoder with its space prefix, and without (as Gemma has it).
fn byte_fallback(prefix: bool) -> Value {
    let mut json = common::byte_fallback_json();
    if !prefix {
        json["decoder"]["decoders"]
            .as_array_mut()
            .expect("steps")
            .pop();
    }
    json
}

thread_local! {
    static BYTE_LEVEL: (Tokenizer, tokenizers::Tokenizer) = common::both(&byte_level());
    static PREFIXED: (Tokenizer, tokenizers::Tokenizer) = common::both(&byte_fallback(true));
    static PLAIN: (Tokenizer, tokenizers::Tokenizer) = common::both(&byte_fallback(false));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_ids_of_a_byte_level_vocabulary(
        ids in prop::collection::vec(0u32..1510, 0..40),
        bytes in prop::collection::vec(3u32..259, 0..40),
        cuts in prop::collection::vec(0usize..4, 0..30),
        skip: bool,
    ) {
        BYTE_LEVEL.with(|(ours, oracle)| {
            for ids in [&ids, &bytes] {
                let expected = oracle.decode(ids, skip).expect("decodes");
                prop_assert_eq!(ours.decode(ids, skip), &expected[..]);
                prop_assert_eq!(streamed(ours, &[], ids, &cuts, skip), expected);
            }
            Ok(())
        })?;
    }

    #[test]
    fn any_ids_of_a_byte_fallback_vocabulary(
        ids in prop::collection::vec(prop_oneof![0u32..370, 3u32..259, 100u32..270], 0..30),
        cuts in prop::collection::vec(0usize..4, 0..30),
        skip: bool,
    ) {
        for pair in [&PREFIXED, &PLAIN] {
            pair.with(|(ours, oracle)| {
                prop_assert_eq!(ours.decode(&ids, skip), oracle.decode(&ids, skip).expect("decodes"));
                let whole = streamed(ours, &[], &ids, &[], skip);
                prop_assert_eq!(streamed(ours, &[], &ids, &cuts, skip), whole);
                Ok(())
            })?;
        }
    }

    #[test]
    fn encoded_text_comes_back(seed: u64, cuts in prop::collection::vec(0usize..4, 0..60), skip: bool) {
        let text = common::mixed_text(seed, 200);
        for pair in [&BYTE_LEVEL, &PREFIXED, &PLAIN] {
            pair.with(|(ours, oracle)| {
                let ids = ours.encode(&text, true).expect("encodes");
                let expected = oracle.decode(&ids, skip).expect("decodes");
                prop_assert_eq!(ours.decode(&ids, skip), &expected[..]);
                prop_assert_eq!(streamed(ours, &[], &ids, &cuts, skip), expected);
                Ok(())
            })?;
        }
    }

    #[test]
    fn a_prompt_and_what_follows_make_one_text(seed: u64, cut in 0usize..80) {
        for pair in [&BYTE_LEVEL, &PREFIXED] {
            pair.with(|(ours, _)| {
                let ids = ours.encode(&common::mixed_text(seed, 200), false).expect("encodes");
                let (prompt, rest) = ids.split_at(cut.min(ids.len()));
                let mut detokenizer = ours.detokenizer(&[], true);
                let mut text = String::new();
                detokenizer.push(prompt, &mut text);
                let after = text.len();
                detokenizer.push(rest, &mut text);
                detokenizer.finish(&mut text);
                prop_assert_eq!(streamed(ours, prompt, rest, &[], true), &text[after..]);
                Ok(())
            })?;
        }
    }
}

#[test]
fn half_a_character_at_the_end_of_a_prompt_is_no_text_unless_it_is_completed() {
    let bytes =
        |text: &[u8]| -> Vec<u32> { text.iter().map(|byte| u32::from(*byte) + 3).collect() };
    let (ours, _) = common::both(&byte_fallback(true));
    let prompt = bytes(b"a\xf0\x9f");
    for (rest, text) in [
        (&b"\x99\x82!"[..], "🙂!"),
        (b"!", "!"),
        (b"\x99!", "\u{FFFD}!"),
        (b"\xc3\xa9", "é"),
        (b"", ""),
        (b"\x99", "\u{FFFD}"),
    ] {
        let got = streamed(&ours, &prompt, &bytes(rest), &[1], true);
        assert_eq!(got, text, "{rest:?}");
    }
}

#[test]
fn a_character_waits_for_its_last_byte_and_no_longer() {
    let (ours, _) = common::both(&byte_fallback(true));
    let ids: Vec<u32> = "🙂".bytes().map(|byte| u32::from(byte) + 3).collect();
    let mut detokenizer = ours.detokenizer(&[], true);
    let mut text = String::new();
    detokenizer.push(&ids[..3], &mut text);
    assert_eq!(text, "");
    detokenizer.push(&ids[3..], &mut text);
    assert_eq!(text, "🙂");
    detokenizer.push(&ids[..2], &mut text);
    detokenizer.finish(&mut text);
    assert_eq!(text, "🙂\u{FFFD}\u{FFFD}");
}

#[test]
fn the_space_prefix_belongs_to_the_start_only() {
    let (ours, _) = common::both(&byte_fallback(true));
    let the = ours.token_to_id("\u{2581}the").expect("a token");
    let bos = ours.token_to_id("<s>").expect("a token");
    assert_eq!(streamed(&ours, &[], &[the, the], &[1], true), "the the");
    assert_eq!(streamed(&ours, &[bos], &[the], &[], true), "the");
    assert_eq!(streamed(&ours, &[bos, the], &[the], &[], true), " the");
    assert_eq!(ours.token_text(the), " the");
    assert_eq!(ours.token_bytes(3 + 0xE4), Some(&[0xE4u8][..]));
    assert_eq!(
        (ours.token_text(3 + 0xE4), ours.token_text(99_999)),
        ("\u{FFFD}".into(), "".into())
    );
    assert!(ours.is_special(bos) && !ours.is_special(the));
}

#[test]
fn broken_descriptions_are_refused() {
    for (json, part) in [
        (json!({}), "no model.vocab"),
        (
            json!({"model": {"vocab": {"a": -1}}}),
            "the id of \"a\" is -1",
        ),
        (
            json!({"model": {"vocab": {"a": 4_000_000_000u32}}}),
            "the id of \"a\" is 4000000000",
        ),
        (
            json!({"model": {"vocab": {"a": 0}}, "added_tokens": [{}]}),
            "has no content",
        ),
        (
            json!({"model": {"type": "Strange", "vocab": {"a": 0}}}),
            "tokenizer.json",
        ),
    ] {
        let message = Tokenizer::from_json(json.to_string().into())
            .err()
            .expect("refused")
            .to_string();
        assert!(message.contains(part), "{message}");
    }
    assert!(Tokenizer::from_json("{".into()).is_err());
}

#[test]
fn the_default_model_decodes_as_the_oracle() {
    let Some(path) = common::model() else {
        eprintln!(
            "skipped: the default model is not on this machine (VLLM_TEST_MODEL, or fetched by `nox -s serve`)"
        );
        return;
    };
    let files = ModelFiles::open(path).expect("opens");
    let ours = Tokenizer::load(&files).expect("loads");
    let oracle: tokenizers::Tokenizer = files.tokenizer_json.parse().expect("tokenizers loads it");
    let mut random = fastrand::Rng::with_seed(8);
    for _ in 0..50 {
        let ids: Vec<u32> = (0..400).map(|_| random.u32(0..49_200)).collect();
        for skip in [false, true] {
            let expected = oracle.decode(&ids, skip).expect("decodes");
            assert_eq!(ours.decode(&ids, skip), expected);
            assert_eq!(streamed(&ours, &[], &ids, &[1; 400], skip), expected);
        }
    }
}

/// Figures for the log: `cargo test --release -p vllm-tokenizer --test detokenize -- --ignored --nocapture`.
#[test]
#[ignore = "prints timings, asserts nothing"]
fn timings() {
    let path = common::model().expect("the default model");
    let start = std::time::Instant::now();
    let files = ModelFiles::open(path).expect("opens");
    println!("ModelFiles::open {:?}", start.elapsed());
    let start = std::time::Instant::now();
    let ours = Tokenizer::load(&files).expect("loads");
    println!("Tokenizer::load {:?}", start.elapsed());
    let oracle: tokenizers::Tokenizer = files.tokenizer_json.parse().expect("tokenizers loads it");
    for seed in 0..3 {
        let text = common::mixed_text(seed + 50, 1 << 20);
        let start = std::time::Instant::now();
        let ids = ours.encode(&text, false).expect("encodes");
        let cold = start.elapsed();
        let start = std::time::Instant::now();
        ours.encode(&text, false).expect("encodes");
        println!(
            "encode 1 MiB, {} ids: new text {cold:?}, the same again {:?}",
            ids.len(),
            start.elapsed()
        );
        let start = std::time::Instant::now();
        oracle
            .encode_fast(&text[..1 << 18], false)
            .map(drop)
            .unwrap_or_default();
        println!("tokenizers, 1/4 MiB: {:?}", start.elapsed());
        let mut detokenizer = ours.detokenizer(&[], true);
        let mut out = String::with_capacity(text.len() * 2);
        let start = std::time::Instant::now();
        ids.iter()
            .for_each(|id| detokenizer.push(std::slice::from_ref(id), &mut out));
        println!(
            "detokenize {:.1} ns/token",
            start.elapsed().as_nanos() as f64 / ids.len() as f64
        );
    }
}
