// SPDX-License-Identifier: Apache-2.0

//! Published tokenizers: ids and text equal those of the `tokenizers` crate, in whatever pieces tokens arrive.
//!
//! `tests/parity/test_tokenizers.py` fetches them and runs this. `VLLM_TEST_TOKENIZERS` lists `tokenizer.json` files,
//! separated by `:`; `VLLM_TEST_TEXT_BYTES` says how much text each encodes.

mod common;

use std::sync::Arc;

use vllm_model_files::ModelFiles;
use vllm_tokenizer::{StopMatcher, StopStrings, Tokenizer};

const WHY_IGNORED: &str =
    "VLLM_TEST_TOKENIZERS names the files; see tests/parity/test_tokenizers.py";

/// One tokenizer, ours and the oracle's.
struct Pair {
    name: String,
    ours: Tokenizer,
    oracle: tokenizers::Tokenizer,
    special: Vec<String>,
}

impl Pair {
    fn load(name: &str, json: Arc<str>) -> Self {
        let oracle: tokenizers::Tokenizer = json.parse().expect("tokenizers loads it");
        let mut special: Vec<String> = oracle
            .get_added_tokens_decoder()
            .into_values()
            .map(|token| token.content)
            .collect();
        special.sort_unstable();
        special.dedup();
        Self {
            name: name.to_owned(),
            ours: Tokenizer::from_json(json).expect("we load it"),
            oracle,
            special,
        }
    }

    /// Every tokenizer that was asked for, and the default model's where it is on this machine.
    fn each(mut check: impl FnMut(&Self)) {
        let list = std::env::var("VLLM_TEST_TOKENIZERS").expect(WHY_IGNORED);
        for path in list.split(':') {
            check(&Self::load(
                path,
                std::fs::read_to_string(path).expect(path).into(),
            ));
        }
        if let Some(path) = common::model() {
            let files = ModelFiles::open(path).expect("opens");
            check(&Self::load(
                "the default model",
                files.tokenizer_json.clone(),
            ));
        }
    }

    fn encode(&self, text: &str, add_special: bool) -> (Vec<u32>, Vec<u32>) {
        let expected = self
            .oracle
            .encode_fast(text, add_special)
            .expect("the oracle encodes");
        let ours = self.ours.encode(text, add_special).expect("we encode");
        (ours, expected.get_ids().to_vec())
    }

    fn assert_same_ids(&self, text: &str) {
        let (ours, expected) = self.encode(text, true);
        let Some(at) =
            (0..ours.len().max(expected.len())).find(|at| ours.get(*at) != expected.get(*at))
        else {
            return;
        };
        let near = |ids: &[u32]| {
            let window = &ids[at.saturating_sub(3).min(ids.len())..(at + 5).min(ids.len())];
            window
                .iter()
                .map(|id| self.ours.token_text(*id).into_owned())
                .collect::<Vec<_>>()
        };
        panic!(
            "{}: token {at} differs: {:?}, expected {:?}",
            self.name,
            near(&ours),
            near(&expected)
        );
    }

    fn streamed(&self, ids: &[u32], random: &mut fastrand::Rng, skip: bool) -> String {
        let mut detokenizer = self.ours.detokenizer(&[], skip);
        let mut text = String::new();
        let mut rest = ids;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(random.usize(0..=rest.len().min(5)));
            detokenizer.push(piece, &mut text);
            rest = after;
        }
        detokenizer.finish(&mut text);
        text
    }

    /// The text up to a stop string, tokens coming in pieces, as a choice of a request puts it together.
    fn stopped(&self, ids: &[u32], stop: &StopStrings, random: &mut fastrand::Rng) -> String {
        let mut detokenizer = self.ours.detokenizer(&[], true);
        let mut matcher = StopMatcher::new(stop.clone(), false);
        let (mut text, mut raw) = (String::new(), String::new());
        let mut rest = ids;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(random.usize(0..=rest.len().min(5)));
            raw.clear();
            detokenizer.push(piece, &mut raw);
            if matcher.push(&raw, &mut text).is_some() {
                return text;
            }
            rest = after;
        }
        raw.clear();
        detokenizer.finish(&mut raw);
        if matcher.push(&raw, &mut text).is_none() {
            matcher.finish(&mut text);
        }
        text
    }
}

fn text_bytes() -> usize {
    let size = std::env::var("VLLM_TEST_TEXT_BYTES").expect(WHY_IGNORED);
    size.parse().expect("VLLM_TEST_TEXT_BYTES is a number")
}

#[test]
#[ignore = "run by tests/parity/test_tokenizers.py, which fetches the files"]
fn published_tokenizers() {
    let size = text_bytes();
    let cases = (size / 2_000).clamp(50, 2_000);
    Pair::each(|pair| {
        check_vocabulary(pair);
        check_ids(pair, size);
        check_text(pair, cases);
        check_stop_strings(pair, cases);
    });
}

/// Ids equal the oracle's.
fn check_ids(pair: &Pair, size: usize) {
    let mut random = fastrand::Rng::with_seed(1);
    let mut done = 0;
    while done < size {
        // Pieces of a prompt's size, so that a difference is shown with the text around it.
        let longest = if pair.ours.encoder() == "tokenizers" {
            8_000
        } else {
            32_000
        };
        let text = common::corpus::text(random.u64(..), random.usize(1..longest), &pair.special);
        pair.assert_same_ids(&text);
        done += text.len();
    }
    eprintln!(
        "{}: {}, {done} bytes have the same ids",
        pair.name,
        pair.ours.encoder()
    );
}

/// Every token is known by its id and by its text.
fn check_vocabulary(pair: &Pair) {
    for id in 0..pair.ours.vocab_size() as u32 {
        let token = pair.oracle.id_to_token(id);
        let known = pair.ours.token_bytes(id).is_some();
        assert_eq!(known, token.is_some(), "{}: token {id}", pair.name);
        if let Some(token) = token {
            let expected = pair.oracle.token_to_id(&token);
            assert_eq!(
                pair.ours.token_to_id(&token),
                expected,
                "{}: {token:?}",
                pair.name
            );
        }
    }
}

/// Deltas make the text of all ids, whatever the pieces.
fn check_text(pair: &Pair, cases: usize) {
    let mut random = fastrand::Rng::with_seed(2);
    for case in 0..cases {
        let ids: Vec<u32> = if case % 2 == 0 {
            let text = common::corpus::text(random.u64(..), random.usize(1..600), &pair.special);
            pair.encode(&text, true).0
        } else {
            let size = pair.ours.vocab_size() as u32;
            (0..random.usize(0..200))
                .map(|_| random.u32(0..size))
                .collect()
        };
        for skip in [false, true] {
            let expected = pair.oracle.decode(&ids, skip).expect("decodes");
            assert_eq!(
                pair.ours.decode(&ids, skip),
                expected,
                "{}: {ids:?}",
                pair.name
            );
            let streamed = pair.streamed(&ids, &mut random, skip);
            assert_eq!(streamed, expected, "{}: {ids:?}", pair.name);
        }
    }
}

/// A stop string ends the text at its first place, whatever the pieces.
fn check_stop_strings(pair: &Pair, cases: usize) {
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..cases {
        let text = common::corpus::text(random.u64(..), random.usize(1..600), &pair.special);
        let ids = pair.encode(&text, false).0;
        let whole = pair.oracle.decode(&ids, true).expect("decodes");
        let chars: Vec<char> = whole.chars().collect();
        let words: Vec<String> = (0..random.usize(1..4))
            .map(|_| {
                let at = random.usize(0..chars.len() + 1);
                let end = (at + random.usize(1..8)).min(chars.len());
                chars[at.min(end)..end].iter().collect()
            })
            .filter(|word: &String| !word.is_empty())
            .collect();
        // The first to be complete wins; of those that end together, the one listed first.
        let end = |word: &String| whole.find(&word[..]).map(|at| (at + word.len(), at));
        let cut = words
            .iter()
            .filter_map(end)
            .min_by_key(|(end, _)| *end)
            .map_or(whole.len(), |(_, at)| at);
        let stop = StopStrings::new(words.clone());
        let got = pair.stopped(&ids, &stop, &mut random);
        assert_eq!(got, whole[..cut], "{}: {words:?} in {whole:?}", pair.name);
    }
}
