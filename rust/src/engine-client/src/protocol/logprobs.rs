// SPDX-License-Identifier: Apache-2.0

//! Log probabilities of sampled and prompt tokens, and sampling masks.

use smallvec::SmallVec;

use super::array::{RawArray, Tensor};
use super::error::DecodeError;
use super::frames::Frames;
use super::read::Reader;
use super::write::Writer;

/// One candidate of a position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenLogprob {
    /// Token id.
    pub token_id: u32,
    /// Natural logarithm of its probability; NaN and -inf occur.
    pub logprob: f32,
}

/// Candidates of one or more positions, `width` per position.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Logprobs {
    /// Candidates per position: the sampled (or actual) token, then the top k in order.
    pub width: usize,
    /// `rows * width` candidates, row by row.
    pub entries: Vec<TokenLogprob>,
    /// 1-based rank of each row's first candidate; 0 when its log probability is NaN.
    pub ranks: SmallVec<[u32; 4]>,
}

impl Logprobs {
    /// Number of positions.
    pub fn rows(&self) -> usize {
        self.ranks.len()
    }

    /// Candidates of a position: the sampled token first.
    pub fn row(&self, index: usize) -> &[TokenLogprob] {
        &self.entries[index * self.width..(index + 1) * self.width]
    }

    /// Decodes `LogprobsLists` or `LogprobsTensors`. The first three slots are the same; then come
    /// one or two (`batch_slots`) that only a whole batch fills.
    pub(crate) fn decode<'a>(
        r: &mut Reader<'a>,
        frames: &'a Frames,
        field: &'static str,
        batch_slots: usize,
    ) -> Result<Box<Self>, DecodeError> {
        let mut slots = r.slots(field)?;
        slots.require(field)?;
        let ids = RawArray::decode(r, frames, field)?;
        slots.require(field)?;
        let logprobs = RawArray::decode(r, frames, field)?;
        slots.require(field)?;
        let ranks = RawArray::decode(r, frames, field)?;
        for _ in 0..batch_slots {
            if slots.take() && !r.nil() {
                return Err(DecodeError::Array {
                    field,
                    what: "batch offsets in one request",
                });
            }
        }
        slots.finish(r, field)?;
        Self::combine(&ids, &logprobs, &ranks, field).map(Box::new)
    }

    fn combine(
        ids: &RawArray<'_>,
        logprobs: &RawArray<'_>,
        ranks: &RawArray<'_>,
        field: &'static str,
    ) -> Result<Self, DecodeError> {
        let mismatch = DecodeError::Array {
            field,
            what: "shapes of ids, logprobs, ranks differ",
        };
        let (&[rows, width], &[rank_rows]) = (ids.shape(), ranks.shape()) else {
            return Err(mismatch);
        };
        if logprobs.shape() != ids.shape() || rank_rows != rows {
            return Err(mismatch);
        }
        let mut out = Self::default();
        ids.each_u32(|token_id| {
            out.entries.push(TokenLogprob {
                token_id,
                logprob: 0.0,
            })
        })?;
        let mut entries = out.entries.iter_mut();
        logprobs.each_f32(|value| {
            if let Some(entry) = entries.next() {
                entry.logprob = value;
            }
        })?;
        ranks.each_u32(|rank| out.ranks.push(rank))?;
        // A zero-length dimension leaves the other unbounded: only real entries count.
        let real = u64::try_from(out.entries.len()).ok() == rows.checked_mul(width);
        if !real || out.ranks.len() as u64 != rows || (out.entries.is_empty() && rows > 0) {
            return Err(mismatch);
        }
        out.width = usize::try_from(width).unwrap_or(0);
        Ok(out)
    }

    fn tensors(&self) -> [Tensor; 3] {
        let shape = [self.rows() as u64, self.width as u64];
        let ids: Vec<i32> = self.entries.iter().map(|e| e.token_id as i32).collect();
        let logprobs: Vec<f32> = self.entries.iter().map(|e| e.logprob).collect();
        let ranks: Vec<i32> = self.ranks.iter().map(|rank| *rank as i32).collect();
        [
            Tensor::from_i32(&ids, &shape),
            Tensor::from_f32(&logprobs, &shape),
            Tensor::from_i32(&ranks, &shape[..1]),
        ]
    }

    /// Encodes as `LogprobsLists` (sampled tokens).
    pub(crate) fn encode_lists(&self, w: &mut Writer) {
        w.array(4);
        self.tensors().iter().for_each(|tensor| tensor.encode(w));
        w.nil();
    }

    /// The bytes of `LogprobsLists`, for a caller that writes a message by hand. Large arrays
    /// would need a frame of their own: at most 20 candidates per row and one row.
    pub fn to_wire(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(96 + 12 * self.entries.len());
        self.encode_lists(&mut w);
        w.into_parts().0
    }

    /// Encodes as `LogprobsTensors` (prompt tokens).
    pub(crate) fn encode_tensors(&self, w: &mut Writer) {
        w.array(5);
        for mut tensor in self.tensors() {
            tensor.dtype = if &*tensor.dtype == "<f4" {
                "float32".into()
            } else {
                "int32".into()
            };
            tensor.encode(w);
        }
        w.nil();
        w.nil();
    }
}

/// Tokens that sampling could have chosen, per position.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SamplingMask {
    /// Allowed token ids, position after position.
    pub token_ids: Vec<u32>,
    /// Start of each position and the end of the last; `None` for a single position.
    pub offsets: Option<Vec<u32>>,
}

impl SamplingMask {
    pub(crate) fn decode<'a>(
        r: &mut Reader<'a>,
        frames: &'a Frames,
        field: &'static str,
    ) -> Result<Self, DecodeError> {
        let mut out = Self::default();
        let mut slots = r.slots(field)?;
        slots.require(field)?;
        RawArray::decode(r, frames, field)?.each_u32(|id| out.token_ids.push(id))?;
        if slots.take() {
            out.offsets = r.nullable(|r| offsets(r, frames, field))?;
        }
        slots.finish(r, field)?;
        out.check(field)?;
        Ok(out)
    }

    fn check(&self, field: &'static str) -> Result<(), DecodeError> {
        let Some(offsets) = &self.offsets else {
            return Ok(());
        };
        let bounded = offsets.first() == Some(&0)
            && offsets
                .last()
                .is_some_and(|last| *last as usize == self.token_ids.len());
        if bounded && offsets.is_sorted() {
            return Ok(());
        }
        Err(DecodeError::Array {
            field,
            what: "offsets don't partition the token ids",
        })
    }

    pub(crate) fn encode(&self, w: &mut Writer) {
        w.array(3);
        encode_u32s(&self.token_ids, w);
        w.option(self.offsets.as_ref(), |w, offsets| encode_u32s(offsets, w));
        w.nil();
    }
}

fn offsets<'a>(
    r: &mut Reader<'a>,
    frames: &'a Frames,
    field: &'static str,
) -> Result<Vec<u32>, DecodeError> {
    let mut out = Vec::new();
    RawArray::decode(r, frames, field)?.each_u32(|offset| out.push(offset))?;
    Ok(out)
}

fn encode_u32s(values: &[u32], w: &mut Writer) {
    let values: Vec<i32> = values.iter().map(|value| *value as i32).collect();
    Tensor::from_i32(&values, &[values.len() as u64]).encode(w);
}
