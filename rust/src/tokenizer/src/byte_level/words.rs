// SPDX-License-Identifier: Apache-2.0

//! What each thread remembers of the words it has met: words repeat even in text that was never seen before.

use std::cell::RefCell;

/// A power of two; with 64 bytes each, half a megabyte per thread that encodes.
const SLOTS: usize = 8192;

/// Bytes of the longest word that is remembered.
pub(super) const LONGEST: usize = 24;

/// Tokens of the longest word that is remembered.
const TOKENS: usize = 7;

/// A word's bytes, zeros behind them; the length tells words apart that end in zeros.
type Key = [u64; LONGEST / 8];

/// One cache line. A new word takes the place of the one that was there.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Slot {
    key: Key,
    /// Tokenizer that the tokens belong to; 0 in an empty slot.
    owner: u32,
    length: u8,
    count: u8,
    tokens: [u32; TOKENS],
}

/// Words by their hash.
pub(super) struct Words {
    slots: Vec<Slot>,
}

thread_local! {
    static WORDS: RefCell<Words> = const { RefCell::new(Words { slots: Vec::new() }) };
}

/// Calls `with` with the words of this thread.
pub(super) fn on_this_thread<T>(with: impl FnOnce(&mut Words) -> T) -> T {
    WORDS.with(|words| {
        let mut words = words.borrow_mut();
        if words.slots.is_empty() {
            words.slots = vec![Slot::default(); SLOTS];
        }
        with(&mut words)
    })
}

impl Words {
    /// Appends the tokens of `text[from..to]`; what is not known is asked of `encode`, which appends them itself.
    #[inline]
    pub(super) fn append(
        &mut self,
        owner: u32,
        text: &[u8],
        (from, to): (usize, usize),
        out: &mut Vec<u32>,
        encode: impl FnOnce(&[u8], &mut Vec<u32>),
    ) {
        let length = to - from;
        if length > LONGEST {
            return encode(&text[from..to], out);
        }
        let key = key(text, from, length);
        let slot = &mut self.slots[index(&key)];
        if slot.key == key && slot.length == length as u8 && slot.owner == owner {
            match slot.count {
                1 => out.push(slot.tokens[0]),
                count => out.extend_from_slice(&slot.tokens[..usize::from(count)]),
            }
            return;
        }
        let start = out.len();
        encode(&text[from..to], out);
        let tokens = &out[start..];
        if tokens.len() <= TOKENS {
            slot.key = key;
            slot.owner = owner;
            slot.length = length as u8;
            slot.count = tokens.len() as u8;
            slot.tokens[..tokens.len()].copy_from_slice(tokens);
        }
    }
}

/// Ones over the first so many bytes of a key.
static MASKS: [Key; LONGEST + 1] = {
    let mut masks = [[0; LONGEST / 8]; LONGEST + 1];
    let mut length = 0;
    while length <= LONGEST {
        let mut at = 0;
        while at < length {
            masks[length][at / 8] |= 0xff << (8 * (at % 8));
            at += 1;
        }
        length += 1;
    }
    masks
};

/// The first `length` bytes from `from` on: read in one go where the text is long enough.
#[inline]
fn key(text: &[u8], from: usize, length: usize) -> Key {
    let Some(bytes) = text.get(from..).and_then(<[u8]>::first_chunk::<LONGEST>) else {
        return key_at_end(&text[from..from + length]);
    };
    let (parts, _) = bytes.as_chunks::<8>();
    let mask = &MASKS[length];
    std::array::from_fn(|at| u64::from_le_bytes(parts[at]) & mask[at])
}

/// Apart from the above, so that the usual way has no copy of a length that is not known before.
#[cold]
fn key_at_end(word: &[u8]) -> Key {
    let mut bytes = [0; LONGEST];
    bytes[..word.len()].copy_from_slice(word);
    let (parts, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|at| u64::from_le_bytes(parts[at]))
}

/// Odd constants spread the bits of each part; the upper bits of the last product choose.
#[inline]
fn index(key: &Key) -> usize {
    let mixed = key[0].wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ key[1].wrapping_mul(0xc2b2_ae3d_27d4_eb4f)
        ^ key[2].wrapping_mul(0x1656_67b1_9e37_79f9);
    let product = (mixed ^ mixed >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (product >> (u64::BITS - SLOTS.ilog2())) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A word in the middle of a text has the key that it has at the end of one.
        #[test]
        fn a_key_does_not_depend_on_what_follows(word in prop::collection::vec(any::<u8>(), 1..=LONGEST), after in any::<[u8; LONGEST]>()) {
            let mut text = word.clone();
            text.extend(after);
            prop_assert_eq!(key(&text, 0, word.len()), key(&word, 0, word.len()));
        }
    }

    #[test]
    fn tokens_come_from_the_word_and_its_owner_alone() {
        let ask = |owner: u32, word: &str, answer: &[u32]| {
            let mut out = vec![9];
            on_this_thread(|words| {
                words.append(
                    owner,
                    word.as_bytes(),
                    (0, word.len()),
                    &mut out,
                    |_, out| {
                        out.extend_from_slice(answer);
                    },
                );
            });
            out[1..].to_vec()
        };
        assert_eq!(ask(1, "word", &[1]), [1]);
        assert_eq!(ask(1, "word", &[2]), [1], "remembered");
        assert_eq!(ask(2, "word", &[3, 4]), [3, 4]);
        assert_eq!(ask(2, "word", &[5]), [3, 4], "remembered");
        assert_eq!(ask(2, "word\0", &[6]), [6]);
        let (long, many) = ("x".repeat(LONGEST + 1), [7; TOKENS + 1]);
        for answer in [[1], [2]] {
            assert_eq!(ask(1, &long, &answer), answer, "never remembered");
        }
        assert_eq!(ask(1, "many", &many), many);
        assert_eq!(ask(1, "many", &[8]), [8]);
    }
}
