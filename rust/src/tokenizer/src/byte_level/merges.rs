// SPDX-License-Identifier: Apache-2.0

//! Byte-pair encoding of one word: the bytes' tokens are joined, the pair with the lowest rank first, the leftmost of
//! equals first (Sennrich et al. 2016), until no pair of neighbours is a merge.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use crate::description::Model;
use crate::table::byte_alphabet;

/// Words up to this many bytes are joined in place by looking at all pairs each time; a heap pays beyond.
const SHORT: usize = 48;

/// No pair: also the rank of two neighbours that are not joined.
const NONE: u32 = u32::MAX;

/// Vocabulary and merges of a byte-level BPE model.
pub(super) struct Merges {
    /// Token of each byte; NONE for a byte that is left out of the text.
    bytes: [u32; 256],
    pairs: Pairs,
    /// Words that are taken whole, whatever the merges say; empty unless the model ignores merges.
    whole: HashMap<Box<[u8]>, u32, ahash::RandomState>,
}

impl Merges {
    /// Takes over a model; the error says what is not as a byte-level BPE model has it.
    pub(super) fn read(model: &Model<'_>) -> Result<Self, String> {
        let (Some(vocabulary), Some(merges)) = (&model.vocab.0, &model.merges.0) else {
            return Err("the model has no vocabulary or no list of merges".into());
        };
        let tokens: HashMap<&str, u32, ahash::RandomState> = vocabulary
            .iter()
            .map(|(token, id)| (&**token, *id))
            .collect();
        let ignored = model.ignore_merges == Some(true);
        Ok(Self {
            bytes: byte_tokens(model, &tokens)?,
            pairs: Pairs::read(&tokens, merges)?,
            whole: if ignored {
                whole(vocabulary)
            } else {
                HashMap::default()
            },
        })
    }

    /// Appends the tokens of a word.
    pub(super) fn encode(&self, word: &[u8], out: &mut Vec<u32>) {
        if let Some(id) = self.whole.get(word) {
            return out.push(*id);
        }
        let start = out.len();
        let tokens = word.iter().map(|byte| self.bytes[*byte as usize]);
        out.extend(tokens.filter(|token| *token != NONE));
        let kept = match out.len() - start {
            0..=SHORT => self.join_short(&mut out[start..]),
            _ => self.join_long(&mut out[start..]),
        };
        out.truncate(start + kept);
    }

    /// Joins in place; returns how many tokens are left.
    fn join_short(&self, tokens: &mut [u32]) -> usize {
        let mut count = tokens.len();
        // Rank of the pair that begins at each token, and the token that it becomes.
        let mut pairs = [(NONE, 0); SHORT];
        for at in 1..count {
            pairs[at - 1] = self.pairs.get(tokens[at - 1], tokens[at]);
        }
        while let Some(at) = lowest(&pairs[..count.saturating_sub(1)]) {
            tokens[at] = pairs[at].1;
            tokens.copy_within(at + 2..count, at + 1);
            pairs.copy_within(at + 2..count, at + 1);
            count -= 1;
            pairs[count - 1] = (NONE, 0);
            if at + 1 < count {
                pairs[at] = self.pairs.get(tokens[at], tokens[at + 1]);
            }
            if at > 0 {
                pairs[at - 1] = self.pairs.get(tokens[at - 1], tokens[at]);
            }
        }
        count
    }

    /// The same over a linked list, in n log n steps.
    fn join_long(&self, tokens: &mut [u32]) -> usize {
        let count = tokens.len();
        let mut next: Vec<u32> = (1..=count as u32).collect();
        let mut previous: Vec<u32> = (0..count as u32).map(|at| at.wrapping_sub(1)).collect();
        let mut queue: BinaryHeap<Reverse<(u32, u32)>> = (1..count)
            .map(|at| (self.pairs.get(tokens[at - 1], tokens[at]).0, at as u32 - 1))
            .filter(|(rank, _)| *rank != NONE)
            .map(Reverse)
            .collect();
        while let Some(Reverse((rank, at))) = queue.pop() {
            let (left, right) = (at as usize, next[at as usize] as usize);
            // A token that was joined to the one before it has become NONE, which is in no pair.
            if right >= count {
                continue;
            }
            let (current, joined) = self.pairs.get(tokens[left], tokens[right]);
            if current != rank {
                continue;
            }
            tokens[left] = joined;
            tokens[right] = NONE;
            next[left] = next[right];
            let after = next[left] as usize;
            if after < count {
                previous[after] = at;
                self.queue_pair(&mut queue, tokens, left, after);
            }
            let before = previous[left] as usize;
            if before < count {
                self.queue_pair(&mut queue, tokens, before, left);
            }
        }
        let mut kept = 0;
        for at in 0..count {
            if tokens[at] != NONE {
                tokens[kept] = tokens[at];
                kept += 1;
            }
        }
        kept
    }

    fn queue_pair(
        &self,
        queue: &mut BinaryHeap<Reverse<(u32, u32)>>,
        tokens: &[u32],
        left: usize,
        right: usize,
    ) {
        let (rank, _) = self.pairs.get(tokens[left], tokens[right]);
        if rank != NONE {
            queue.push(Reverse((rank, left as u32)));
        }
    }
}

/// Index of the leftmost of the lowest ranks.
fn lowest(pairs: &[(u32, u32)]) -> Option<usize> {
    let (mut best, mut found) = (NONE, None);
    for (at, (rank, _)) in pairs.iter().enumerate() {
        if *rank < best {
            (best, found) = (*rank, Some(at));
        }
    }
    found
}

/// Bytes that are in no UTF-8 text: many vocabularies have no tokens for them.
fn is_in_text(byte: u8) -> bool {
    !matches!(byte, 0xc0 | 0xc1 | 0xf5..)
}

fn byte_tokens(
    model: &Model<'_>,
    tokens: &HashMap<&str, u32, ahash::RandomState>,
) -> Result<[u32; 256], String> {
    let replaces = model.unk_token.is_some() || model.byte_fallback == Some(true);
    let mut bytes = [NONE; 256];
    for (code, byte) in (0u32..).zip(byte_alphabet()) {
        let (Some(byte), Some(char)) = (byte, char::from_u32(code)) else {
            continue;
        };
        match tokens.get(&*char.encode_utf8(&mut [0; 4])) {
            Some(id) => bytes[byte as usize] = *id,
            // Without a token for what is unknown, `tokenizers` leaves it out.
            None if !replaces || !is_in_text(byte) => {}
            None => return Err(format!("another token stands for the byte {byte}")),
        }
    }
    Ok(bytes)
}

/// All tokens that stand for bytes, by those bytes.
fn whole(vocabulary: &[(Cow<'_, str>, u32)]) -> HashMap<Box<[u8]>, u32, ahash::RandomState> {
    let alphabet = byte_alphabet();
    let bytes = |token: &str| -> Option<Box<[u8]>> {
        token
            .chars()
            .map(|char| *alphabet.get(char as usize)?)
            .collect()
    };
    let entry = |(token, id): &(Cow<'_, str>, u32)| Some((bytes(token)?, *id));
    vocabulary.iter().filter_map(entry).collect()
}

/// A hash table from two tokens to the rank of their merge and the token that they become.
struct Pairs {
    /// Twice as many slots as pairs or more, a power of two; `left` is NONE in an empty one.
    slots: Vec<Slot>,
    shift: u32,
}

#[derive(Clone, Copy)]
struct Slot {
    left: u32,
    right: u32,
    rank: u32,
    joined: u32,
}

const EMPTY: Slot = Slot {
    left: NONE,
    right: NONE,
    rank: NONE,
    joined: NONE,
};

impl Pairs {
    fn read(
        tokens: &HashMap<&str, u32, ahash::RandomState>,
        merges: &[(Cow<'_, str>, Cow<'_, str>)],
    ) -> Result<Self, String> {
        let capacity = (2 * merges.len()).next_power_of_two().max(2);
        let mut pairs = Self {
            slots: vec![EMPTY; capacity],
            shift: u64::BITS - capacity.ilog2(),
        };
        let id = |token: &str| {
            let id = tokens.get(token).copied();
            id.ok_or_else(|| format!("a merge names {token:?}, which is no token"))
        };
        let mut whole = String::new();
        for ((left, right), rank) in merges.iter().zip(0..) {
            whole.clear();
            whole.push_str(left);
            whole.push_str(right);
            pairs.insert(Slot {
                left: id(left)?,
                right: id(right)?,
                rank,
                joined: id(&whole)?,
            });
        }
        Ok(pairs)
    }

    fn first(&self, left: u32, right: u32) -> usize {
        // Fibonacci hashing: the upper bits of a product with 2^64 / golden ratio.
        let key = u64::from(left) << 32 | u64::from(right);
        let mixed = (key ^ key >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> self.shift) as usize
    }

    /// A pair that is listed twice counts where it is listed last.
    fn insert(&mut self, slot: Slot) {
        let mut at = self.first(slot.left, slot.right);
        let differs = |other: &Slot| (other.left, other.right) != (slot.left, slot.right);
        while self.slots[at].left != NONE && differs(&self.slots[at]) {
            at = (at + 1) % self.slots.len();
        }
        self.slots[at] = slot;
    }

    /// Rank and joined token; a rank of NONE for a pair that is no merge.
    #[inline]
    fn get(&self, left: u32, right: u32) -> (u32, u32) {
        let mut at = self.first(left, right);
        loop {
            let slot = &self.slots[at];
            if slot.left == left && slot.right == right || slot.left == NONE {
                return (slot.rank, slot.joined);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A model whose merges join any of the first tokens, in an order given by `seed`.
    fn merges(seed: u64) -> Merges {
        let alphabet = byte_alphabet();
        let chars = (0u32..).zip(&alphabet).filter(|(_, byte)| byte.is_some());
        let mut tokens: Vec<String> = chars
            .filter_map(|(code, _)| char::from_u32(code))
            .map(String::from)
            .collect();
        let (mut random, mut list) = (fastrand::Rng::with_seed(seed), Vec::new());
        let small = ["a", "b", "c"];
        let mut parts: Vec<String> = small.iter().map(|text| text.to_string()).collect();
        while list.len() < 24 {
            let left = parts[random.usize(..parts.len())].clone();
            let right = parts[random.usize(..parts.len())].clone();
            let whole = format!("{left}{right}");
            if whole.len() > 9 || list.contains(&(left.clone(), right.clone())) {
                continue;
            }
            if !tokens.contains(&whole) {
                tokens.push(whole.clone());
                parts.push(whole);
            }
            list.push((left, right));
        }
        let numbered = tokens.into_iter().zip(0..);
        let model = Model {
            vocab: crate::description::Vocabulary(Some(
                numbered.map(|(token, id)| (token.into(), id)).collect(),
            )),
            merges: crate::description::Merges(Some(
                list.into_iter()
                    .map(|(left, right)| (left.into(), right.into()))
                    .collect(),
            )),
            ..Model::default()
        };
        Merges::read(&model).expect("sound")
    }

    proptest! {
        /// Both ways of joining give what the definition gives: the lowest rank, the leftmost of equals, one at a time.
        #[test]
        fn joins_as_defined(seed in 0u64..64, word in "[abc]{1,48}") {
            let merges = merges(seed);
            let mut expected: Vec<u32> = word.bytes().map(|byte| merges.bytes[byte as usize]).collect();
            let (mut short, mut long) = (expected.clone(), expected.clone());
            loop {
                let ranks = expected.windows(2).map(|pair| merges.pairs.get(pair[0], pair[1]));
                let best = ranks.enumerate().filter(|(_, pair)| pair.0 != NONE).min_by_key(|(at, pair)| (pair.0, *at));
                let Some((at, (_, joined))) = best else { break };
                expected.splice(at..at + 2, [joined]);
            }
            let kept = merges.join_short(&mut short);
            prop_assert_eq!(&short[..kept], &expected[..]);
            let kept = merges.join_long(&mut long);
            prop_assert_eq!(&long[..kept], &expected[..]);
        }
    }
}
