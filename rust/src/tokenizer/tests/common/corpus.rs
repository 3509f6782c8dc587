// SPDX-License-Identifier: Apache-2.0

//! Text of every kind that a prompt may hold, hostile kinds among them; the same for the same seed.

use super::{mixed_text, pick};

/// Characters that break naive cutting: invisible, combining, bidirectional, unassigned, private, last of their plane.
const HOSTILE: [char; 24] = [
    '\u{0}',
    '\u{7f}',
    '\u{85}',
    '\u{a0}',
    '\u{ad}',
    '\u{300}',
    '\u{34f}',
    '\u{600}',
    '\u{61c}',
    '\u{1160}',
    '\u{180e}',
    '\u{200b}',
    '\u{200d}',
    '\u{2028}',
    '\u{202e}',
    '\u{2060}',
    '\u{2066}',
    '\u{3000}',
    '\u{3164}',
    '\u{e000}',
    '\u{feff}',
    '\u{fffd}',
    '\u{e0001}',
    '\u{10ffff}',
];
const BLANKS: [&str; 8] = [
    " ", "  ", "\t", "\n", "\r\n", "\u{a0}", "\u{2003}", "\u{3000}",
];
const ACCENTS: &str = "àéîõüçñřžåøæœßđłığőűșțảẽọụỷÀÉÎÕÜÇÑŘŽÅØÆŒẞĐŁİĞŐŰȘȚ";
const CJK: &str = "的一是不了人我在有他这中大来上国個到説時要就出会可也你對生能而子那得于着下自之年過發後作里日本語文字列東京都機械学習한국어번역기말";
const EMOJI: [&str; 10] = ["🙂", "👩‍👩‍👧‍👦", "🇪🇺", "👍🏽", "❤️", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "1️⃣", "🧑‍💻", "🫨", "☃"];
const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// About `size` bytes; `special` are texts of special tokens, which appear whole, broken and nearly.
pub fn text(seed: u64, size: usize, special: &[String]) -> String {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut text = String::with_capacity(size + 4096);
    while text.len() < size {
        match random.u32(0..12) {
            0..4 => text.push_str(&mixed_text(random.u64(..), random.usize(1..2000))),
            4 => json(&mut random, &mut text, 3),
            5 => chars(
                &mut random,
                &mut text,
                BASE64.iter().map(|byte| char::from(*byte)).collect(),
            ),
            6 => chars(&mut random, &mut text, CJK.chars().collect()),
            7 => chars(&mut random, &mut text, ACCENTS.chars().collect()),
            8 => runs(&mut random, &mut text, &BLANKS),
            9 => runs(&mut random, &mut text, &EMOJI),
            10 => hostile(&mut random, &mut text),
            _ => special
                .first()
                .into_iter()
                .for_each(|_| near_special(&mut random, &mut text, special)),
        }
    }
    text
}

/// Up to 400 of these characters, in words now and then.
fn chars(random: &mut fastrand::Rng, text: &mut String, from: Vec<char>) {
    let blanks = random.bool();
    for _ in 0..random.usize(1..400) {
        text.push(from[random.usize(0..from.len())]);
        if blanks && random.u32(0..7) == 0 {
            text.push(' ');
        }
    }
}

/// One of these repeated, then another: runs are where merges go deep.
fn runs(random: &mut fastrand::Rng, text: &mut String, from: &[&str]) {
    for _ in 0..random.usize(1..6) {
        let unit = pick(random, from);
        let times = if random.u32(0..8) == 0 {
            random.usize(1..300)
        } else {
            random.usize(1..9)
        };
        text.push_str(&unit.repeat(times));
        if random.bool() {
            text.push(random.char('a'..='z'));
        }
    }
}

fn hostile(random: &mut fastrand::Rng, text: &mut String) {
    for _ in 0..random.usize(1..60) {
        match random.u32(0..4) {
            0 => text.push(random.char('\0'..=char::MAX)),
            1 => text.push(random.char(' '..='~')),
            _ => text.push(HOSTILE[random.usize(0..HOSTILE.len())]),
        }
    }
}

/// A special token: whole, cut short, with a character changed or in it, or against a word.
fn near_special(random: &mut fastrand::Rng, text: &mut String, special: &[String]) {
    for _ in 0..random.usize(1..8) {
        let token: Vec<char> = special[random.usize(0..special.len())].chars().collect();
        let at = random.usize(0..token.len().max(1));
        let mut near = token.clone();
        match random.u32(0..6) {
            0 => near.truncate(at),
            1 => near.insert(at, ' '),
            2 if !near.is_empty() => near[at] = random.char('!'..='~'),
            3 => near.extend_from_slice(&token[..at]),
            _ => {}
        }
        text.extend(near);
        text.push_str(["", " ", "\n", "word", "é", "  "][random.usize(0..6)]);
    }
}

/// A JSON value, nested up to `depth`.
fn json(random: &mut fastrand::Rng, text: &mut String, depth: u32) {
    match random.u32(0..if depth == 0 { 4 } else { 6 }) {
        0 => text.push_str(&random.i64(..).to_string()),
        1 => text.push_str(&random.f64().to_string()),
        2 => text.push_str(["true", "false", "null"][random.usize(0..3)]),
        3 => {
            let said = mixed_text(random.u64(..), random.usize(1..60));
            text.push_str(&serde_json::Value::from(said).to_string());
        }
        kind => {
            let (open, close) = if kind == 4 { ('[', ']') } else { ('{', '}') };
            text.push(open);
            for at in 0..random.usize(0..8) {
                text.push_str(if at > 0 { ",\n    " } else { "" });
                if kind != 4 {
                    text.push_str(&format!("\"key_{at}\": "));
                }
                json(random, text, depth - 1);
            }
            text.push(close);
        }
    }
}
