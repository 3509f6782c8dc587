// SPDX-License-Identifier: Apache-2.0

//! Token ids to text, a few ids at a time.

/// Turns a stream of token ids into text. Any division of the ids into pushes gives the same text.
pub struct Detokenizer {}

impl Detokenizer {
    /// Appends the text of `ids` to `out`, holding back only an incomplete UTF-8 sequence.
    pub fn push(&mut self, _ids: &[u32], _out: &mut String) {}

    /// Appends what is still held back (as U+FFFD). The detokenizer is as new afterwards, in mid-sequence.
    pub fn finish(&mut self, _out: &mut String) {}
}
