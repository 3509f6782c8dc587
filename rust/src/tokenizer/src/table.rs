// SPDX-License-Identifier: Apache-2.0

//! The table token id -> bytes, computed once from vocabulary and decoder.
//!
//! Two decoders of `tokenizers` fit a table: `ByteLevel` (each character of a token stands for one byte, GPT-2's
//! alphabet) and the SentencePiece chain `Replace`, `ByteFallback`, `Fuse`, `Strip`. For others the table holds the
//! tokens' own text, and a sequence is decoded by the `tokenizers` crate.

use serde_json::Value;

use crate::description::Description;

/// How the bytes of consecutive tokens become text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joining {
    /// All bytes form one UTF-8 text; each maximal invalid piece becomes one U+FFFD.
    Bytes,
    /// Tokens are text, except that runs of byte tokens form UTF-8; each invalid byte becomes one U+FFFD.
    TextWithByteRuns,
    /// Only the `tokenizers` crate knows.
    Opaque,
}

/// What is taken off the start of a sequence: up to `count` times `content`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Strip {
    pub(crate) content: char,
    pub(crate) count: u8,
}

/// The table.
pub(crate) struct TokenTable {
    entries: Vec<Entry>,
    bytes: Vec<u8>,
    pub(crate) joining: Joining,
    pub(crate) strip: Strip,
}

/// Start of the token's bytes, then their count above four flag bits.
#[derive(Clone, Copy, Default)]
struct Entry {
    start: u32,
    length_and_flags: u32,
}

const FLAG_BITS: u32 = 4;
const KNOWN: u32 = 1;
const SPECIAL: u32 = 2;
/// A token of the form `<0xAB>` that stands for one byte.
const BYTE: u32 = 4;
/// The bytes are UTF-8 on their own.
const TEXT: u32 = 8;

/// One token of the table.
#[derive(Clone, Copy)]
pub(crate) struct Token<'a> {
    pub(crate) bytes: &'a [u8],
    flags: u32,
}

impl<'a> Token<'a> {
    pub(crate) fn is_special(self) -> bool {
        self.flags & SPECIAL != 0
    }

    pub(crate) fn is_byte(self) -> bool {
        self.flags & BYTE != 0
    }

    /// The bytes as text, unless they are only part of a UTF-8 sequence.
    pub(crate) fn text(self) -> Option<&'a str> {
        // SAFETY: the flag is set in `TokenTable::push` only after the same bytes passed `str::from_utf8`.
        (self.flags & TEXT != 0).then(|| unsafe { std::str::from_utf8_unchecked(self.bytes) })
    }
}

impl TokenTable {
    pub(crate) fn build(description: &Description<'_>) -> Self {
        let rule = Rule::read(description.decoder);
        let mut table = Self {
            entries: Vec::with_capacity(description.tokens.len()),
            bytes: Vec::with_capacity(description.tokens.len() * 8),
            joining: rule.joining(),
            strip: rule.strip(),
        };
        let alphabet = byte_alphabet();
        for token in &description.tokens {
            match *token {
                Some(token) => {
                    let special = description.special.contains(token);
                    let (bytes, is_byte) = rule.bytes(token, &alphabet);
                    table.push(&bytes, special, is_byte);
                }
                None => table.entries.push(Entry::default()),
            }
        }
        table
    }

    fn push(&mut self, bytes: &[u8], special: bool, is_byte: bool) {
        let flag = |flag: u32, set: bool| if set { flag } else { 0 };
        let is_text = !is_byte && std::str::from_utf8(bytes).is_ok();
        let flags = KNOWN | flag(SPECIAL, special) | flag(BYTE, is_byte) | flag(TEXT, is_text);
        self.entries.push(Entry {
            start: self.bytes.len() as u32,
            length_and_flags: (bytes.len() as u32) << FLAG_BITS | flags,
        });
        self.bytes.extend_from_slice(bytes);
    }

    /// Largest id plus one.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn get(&self, id: u32) -> Option<Token<'_>> {
        let entry = self.entries.get(id as usize)?;
        let flags = entry.length_and_flags;
        if flags & KNOWN == 0 {
            return None;
        }
        let start = entry.start as usize;
        let bytes = &self.bytes[start..start + (flags >> FLAG_BITS) as usize];
        Some(Token { bytes, flags })
    }
}

/// What the `decoder` section says, as far as a table can follow it.
enum Rule {
    ByteLevel,
    Pieces {
        /// Replacements in every token.
        replace: Vec<(String, String)>,
        byte_fallback: bool,
        strip: Option<Strip>,
    },
    Opaque,
}

impl Rule {
    fn read(decoder: &Value) -> Self {
        let steps: Vec<&Value> = match decoder["type"].as_str() {
            Some("Sequence") => decoder["decoders"]
                .as_array()
                .into_iter()
                .flatten()
                .collect(),
            Some(_) => vec![decoder],
            None => return Rule::Opaque,
        };
        match steps.as_slice() {
            [step] if step["type"] == "ByteLevel" => Rule::ByteLevel,
            steps => Self::pieces(steps).unwrap_or(Rule::Opaque),
        }
    }

    /// The SentencePiece chain; `None` where the order or a step has another meaning than the table gives it.
    fn pieces(steps: &[&Value]) -> Option<Self> {
        let (mut replace, mut byte_fallback, mut fused, mut strip) = (vec![], false, false, None);
        for step in steps {
            match step["type"].as_str()? {
                "Replace" if !byte_fallback && !fused => replace.push((
                    step["pattern"]["String"]
                        .as_str()
                        .filter(|pattern| !pattern.is_empty())?
                        .to_owned(),
                    step["content"].as_str()?.to_owned(),
                )),
                "ByteFallback" if !byte_fallback && !fused => byte_fallback = true,
                "Fuse" => fused = true,
                "Strip" if fused && strip.is_none() && step["stop"] == 0 => {
                    strip = Some(Strip {
                        content: step["content"].as_str()?.chars().next()?,
                        count: u8::try_from(step["start"].as_u64()?).ok()?,
                    });
                }
                _ => return None,
            }
        }
        Some(Rule::Pieces {
            replace,
            byte_fallback,
            strip,
        })
    }

    fn joining(&self) -> Joining {
        match self {
            Rule::ByteLevel => Joining::Bytes,
            Rule::Pieces { .. } => Joining::TextWithByteRuns,
            Rule::Opaque => Joining::Opaque,
        }
    }

    fn strip(&self) -> Strip {
        match self {
            Rule::Pieces {
                strip: Some(strip), ..
            } => *strip,
            _ => Strip {
                content: ' ',
                count: 0,
            },
        }
    }

    /// Bytes of a token, and whether it is a byte token.
    fn bytes(&self, token: &str, alphabet: &[Option<u8>]) -> (Vec<u8>, bool) {
        match self {
            Rule::ByteLevel => (byte_level(token, alphabet), false),
            Rule::Pieces {
                replace,
                byte_fallback,
                ..
            } => {
                let mut text = token.to_owned();
                for (pattern, content) in replace {
                    text = text.replace(pattern, content);
                }
                match byte_token(&text).filter(|_| *byte_fallback) {
                    Some(byte) => (vec![byte], true),
                    None => (text.into_bytes(), false),
                }
            }
            Rule::Opaque => (token.replace('\u{2581}', " ").into_bytes(), false),
        }
    }
}

/// The byte that `<0xAB>` stands for.
fn byte_token(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
}

/// A token with a character outside of the alphabet (an added token) stands for its own UTF-8 bytes.
fn byte_level(token: &str, alphabet: &[Option<u8>]) -> Vec<u8> {
    let byte = |char: char| *alphabet.get(char as usize)?;
    let bytes: Option<Vec<u8>> = token.chars().map(byte).collect();
    bytes.unwrap_or_else(|| token.as_bytes().to_vec())
}

/// One past the last character of the byte-level alphabet.
pub(crate) const BYTE_ALPHABET_END: usize = 0x100 + 68;

/// GPT-2's alphabet, character to byte: printable Latin-1 characters stand for themselves, the 68 other bytes for the
/// characters from U+0100 on, in order. Source: the tokenizer published with GPT-2 (Radford et al. 2019).
pub(crate) fn byte_alphabet() -> Vec<Option<u8>> {
    let mut alphabet = vec![None; BYTE_ALPHABET_END];
    let mut next = 0x100;
    for byte in 0..=255u8 {
        if matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF) {
            alphabet[byte as usize] = Some(byte);
        } else {
            alphabet[next] = Some(byte);
            next += 1;
        }
    }
    alphabet
}
