// SPDX-License-Identifier: Apache-2.0

//! Token ids to text, a few ids at a time.

use std::sync::Arc;

use crate::reference::ReferenceStream;
use crate::table::{Joining, Strip, Token, TokenTable};

const REPLACEMENT: &str = "\u{FFFD}";

/// A UTF-8 sequence has at most four bytes, so this many tokens hold every byte that may still be incomplete.
const TOKENS_OF_ONE_CHARACTER: usize = 4;

/// Turns a stream of token ids into text. Any division of the ids into pushes gives the same text.
///
/// The text equals `tokenizers`' decoding of the whole sequence, with one exception that streaming makes unavoidable:
/// where a run of byte-fallback tokens is not UTF-8, `tokenizers` replaces every byte of the run, also of characters
/// before the fault that have already been sent here.
pub struct Detokenizer {
    machine: Machine,
}

enum Machine {
    Table(TableMachine),
    Reference(Box<ReferenceStream>),
}

impl Detokenizer {
    pub(crate) fn table(table: Arc<TokenTable>, prompt: &[u32], skip_special: bool) -> Self {
        let mut machine = TableMachine {
            strip: table.strip,
            table,
            pending: Pending::default(),
            from_prompt: 0,
            skip_special,
        };
        machine.follow(prompt);
        Self {
            machine: Machine::Table(machine),
        }
    }

    pub(crate) fn reference(stream: ReferenceStream) -> Self {
        Self {
            machine: Machine::Reference(Box::new(stream)),
        }
    }

    /// Appends the text of `ids` to `out`, holding back only an incomplete UTF-8 sequence.
    pub fn push(&mut self, ids: &[u32], out: &mut String) {
        match &mut self.machine {
            Machine::Table(machine) => ids.iter().for_each(|id| machine.push(*id, out)),
            Machine::Reference(stream) => ids.iter().for_each(|id| stream.push(*id, out)),
        }
    }

    /// Appends what is still held back (as U+FFFD). The sequence is over.
    pub fn finish(&mut self, out: &mut String) {
        match &mut self.machine {
            Machine::Table(machine) => machine.finish(out),
            Machine::Reference(stream) => stream.finish(out),
        }
    }
}

/// The decoding of a whole sequence, exactly as `tokenizers` gives it.
pub(crate) fn decode(table: &Arc<TokenTable>, ids: &[u32], skip_special: bool) -> String {
    let mut out = String::with_capacity(ids.len() * 4);
    let mut machine = TableMachine {
        strip: table.strip,
        table: table.clone(),
        pending: Pending::default(),
        from_prompt: 0,
        skip_special,
    };
    let mut rest = ids;
    while let Some((id, after)) = rest.split_first() {
        let run = if table.joining == Joining::TextWithByteRuns {
            machine.byte_run(rest)
        } else {
            None
        };
        if let Some((bytes, after)) = run {
            machine.emit(&mut out, |_, out| push_run(&bytes, out));
            rest = after;
        } else {
            machine.push(*id, &mut out);
            rest = after;
        }
    }
    machine.finish(&mut out);
    out
}

/// A run of byte tokens is text or, as a whole, one U+FFFD per byte.
fn push_run(bytes: &[u8], out: &mut String) {
    match std::str::from_utf8(bytes) {
        Ok(text) => out.push_str(text),
        Err(_) => out.extend(bytes.iter().map(|_| REPLACEMENT)),
    }
}

/// The beginning of a UTF-8 sequence whose end has not come yet.
#[derive(Clone, Copy, Default)]
struct Pending {
    bytes: [u8; 4],
    length: u8,
}

impl Pending {
    fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    fn set(&mut self, bytes: &[u8]) {
        self.bytes[..bytes.len()].copy_from_slice(bytes);
        self.length = bytes.len() as u8;
    }

    fn push(&mut self, byte: u8) {
        self.bytes[usize::from(self.length)] = byte;
        self.length += 1;
    }
}

struct TableMachine {
    table: Arc<TokenTable>,
    pending: Pending,
    /// How many of the pending bytes are the prompt's: what does not become a character is not this text's fault.
    from_prompt: u8,
    /// What is still to be taken off the start of the sequence.
    strip: Strip,
    skip_special: bool,
}

impl TableMachine {
    /// Takes up the state in which `prompt` leaves a sequence, without its text.
    fn follow(&mut self, prompt: &[u32]) {
        if prompt
            .iter()
            .any(|id| self.token(*id).is_some_and(|token| !token.bytes.is_empty()))
        {
            self.strip.count = 0;
        }
        let shown = prompt.iter().rev().filter(|id| self.token(**id).is_some());
        let mut last: smallvec::SmallVec<[u32; TOKENS_OF_ONE_CHARACTER]> =
            shown.take(TOKENS_OF_ONE_CHARACTER).copied().collect();
        last.reverse();
        let mut text = String::new();
        last.iter().for_each(|id| self.push(*id, &mut text));
        self.from_prompt = self.pending.length;
    }

    /// The token, unless it is unknown or left out.
    fn token(&self, id: u32) -> Option<Token<'_>> {
        self.table
            .get(id)
            .filter(|token| !(self.skip_special && token.is_special()))
    }

    #[inline]
    fn push(&mut self, id: u32, out: &mut String) {
        let Some(token) = self.token(id) else {
            return;
        };
        match token.text() {
            Some(text) if self.pending.length == 0 && self.strip.count == 0 => out.push_str(text),
            _ => self.push_slowly(id, out),
        }
    }

    #[cold]
    fn push_slowly(&mut self, id: u32, out: &mut String) {
        let table = self.table.clone();
        if let Some(token) = table.get(id) {
            self.emit(out, |machine, out| machine.push_token(token, out));
        }
    }

    /// Runs `write` and takes off the start of the sequence what is to be taken off.
    fn emit(&mut self, out: &mut String, write: impl FnOnce(&mut Self, &mut String)) {
        let start = out.len();
        write(self, out);
        while self.strip.count > 0 && out.len() > start {
            if out[start..].starts_with(self.strip.content) {
                out.drain(start..start + self.strip.content.len_utf8());
                self.strip.count -= 1;
            } else {
                self.strip.count = 0;
            }
        }
    }

    fn push_token(&mut self, token: Token<'_>, out: &mut String) {
        match self.table.joining {
            Joining::TextWithByteRuns if !token.is_byte() => {
                self.flush(out);
                out.push_str(&String::from_utf8_lossy(token.bytes));
            }
            _ => self.push_bytes(token.bytes, out),
        }
    }

    fn push_bytes(&mut self, mut bytes: &[u8], out: &mut String) {
        while self.pending.length > 0 {
            let Some((byte, rest)) = bytes.split_first() else {
                return;
            };
            if self.complete(*byte, out) {
                bytes = rest;
            }
        }
        loop {
            match std::str::from_utf8(bytes) {
                Ok(text) => return out.push_str(text),
                Err(error) => {
                    let (valid, rest) = bytes.split_at(error.valid_up_to());
                    out.push_str(&String::from_utf8_lossy(valid));
                    let Some(invalid) = error.error_len() else {
                        return self.pending.set(rest);
                    };
                    self.replace(invalid, out);
                    bytes = &rest[invalid..];
                }
            }
        }
    }

    /// Adds a byte to the pending sequence; `false` if it does not continue it (the sequence is then replaced).
    fn complete(&mut self, byte: u8, out: &mut String) -> bool {
        let before = self.pending;
        self.pending.push(byte);
        match std::str::from_utf8(self.pending.as_slice()) {
            Ok(text) => out.push_str(text),
            Err(error) if error.error_len().is_none() => return true,
            Err(_) => {
                self.pending = before;
                self.flush(out);
                return false;
            }
        }
        self.pending.length = 0;
        self.from_prompt = 0;
        true
    }

    /// Stands in for `count` bytes that form one maximal invalid piece.
    fn replace(&self, count: usize, out: &mut String) {
        let times = if self.table.joining == Joining::Bytes {
            1
        } else {
            count
        };
        out.extend(std::iter::repeat_n(REPLACEMENT, times));
    }

    fn flush(&mut self, out: &mut String) {
        let pending = std::mem::take(&mut self.pending.length);
        let count = usize::from(pending - std::mem::take(&mut self.from_prompt));
        if count > 0 {
            self.replace(count, out);
        }
    }

    fn finish(&mut self, out: &mut String) {
        self.emit(out, Self::flush);
    }

    /// The bytes of the run of byte tokens that `ids` begins with, and what follows it.
    fn byte_run<'a>(&self, ids: &'a [u32]) -> Option<(Vec<u8>, &'a [u32])> {
        self.token(ids[0]).filter(|token| token.is_byte())?;
        let mut bytes = Vec::new();
        let mut rest = ids;
        while let Some((id, after)) = rest.split_first() {
            match self.token(*id) {
                Some(token) if token.is_byte() => bytes.extend_from_slice(token.bytes),
                Some(_) => break,
                None => {}
            }
            rest = after;
        }
        Some((bytes, rest))
    }
}
