// SPDX-License-Identifier: Apache-2.0

//! Images, audio and video of a request, already preprocessed into tensors.

use super::array::Tensor;
use super::error::DecodeError;
use super::frames::Frames;
use super::limits::MAX_DEPTH;
use super::read::Reader;
use super::write::Writer;

type Result<T> = std::result::Result<T, DecodeError>;

/// One media item.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MmFeature {
    /// Tensors by key; `None` when the engine has the item cached.
    pub data: Option<Vec<(String, FeatureField)>>,
    /// `image`, `video` or `audio`.
    pub modality: String,
    /// Cache key, with the adapter's prefix.
    pub identifier: String,
    /// Where its placeholder tokens are.
    pub position: MmPosition,
    /// Cache key without prefix.
    pub mm_hash: Option<String>,
}

/// Placeholder tokens of an item.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MmPosition {
    /// First token.
    pub offset: u64,
    /// Number of tokens.
    pub length: u64,
    /// Which of them take an embedding (boolean tensor); `None` for all.
    pub is_embed: Option<Tensor>,
}

/// One named value of an item.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureField {
    /// The value.
    pub data: FeatureData,
    /// How items are put into a batch.
    pub field: FieldKind,
}

/// A tensor, a number, or a nested list of these.
#[derive(Debug, Clone, PartialEq)]
pub enum FeatureData {
    /// Absent.
    Nil,
    /// A whole number.
    Int(i64),
    /// A float.
    Float(f64),
    /// A tensor.
    Tensor(Tensor),
    /// Several.
    List(Vec<FeatureData>),
}

/// A slice of one dimension: `[start, stop, step]`.
pub type FieldSlice = [Option<i64>; 3];

/// How items are put into a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldKind {
    /// Stacked along a new first dimension.
    Batched {
        /// The tensor stays in host memory.
        keep_on_cpu: bool,
    },
    /// Concatenated along `dim`; each item is its slices.
    Flat {
        /// The tensor stays in host memory.
        keep_on_cpu: bool,
        /// One list of slices per item; a list of one is written bare when `dim` is 0.
        slices: Vec<Vec<FieldSlice>>,
        /// Dimension of concatenation.
        dim: i64,
    },
    /// The same for all items.
    Shared {
        /// The tensor stays in host memory.
        keep_on_cpu: bool,
        /// Items.
        batch_size: u64,
    },
}

impl MmFeature {
    pub(crate) fn encode(&self, w: &mut Writer) {
        w.map(5);
        w.str("data");
        w.option(self.data.as_ref(), |w, fields| {
            w.map(fields.len());
            for (key, field) in fields {
                w.str(key);
                field.encode(w);
            }
        });
        w.str("modality");
        w.str(&self.modality);
        w.str("identifier");
        w.str(&self.identifier);
        w.str("mm_position");
        self.position.encode(w);
        w.str("mm_hash");
        w.option(self.mm_hash.as_deref(), Writer::str);
    }

    pub(crate) fn decode<'a>(r: &mut Reader<'a>, frames: &'a Frames) -> Result<Self> {
        const FIELD: &str = "mm_features";
        let mut out = Self::default();
        r.entries(FIELD, |r, key| {
            match key {
                b"data" => out.data = r.nullable(|r| feature_fields(r, frames))?,
                b"modality" => out.modality = r.string(FIELD)?,
                b"identifier" => out.identifier = r.string(FIELD)?,
                b"mm_position" => out.position = MmPosition::decode(r, frames)?,
                b"mm_hash" => out.mm_hash = r.nullable(|r| r.string(FIELD))?,
                _ => r.skip(FIELD)?,
            }
            Ok(())
        })?;
        Ok(out)
    }
}

fn feature_fields<'a>(
    r: &mut Reader<'a>,
    frames: &'a Frames,
) -> Result<Vec<(String, FeatureField)>> {
    let count = r.map_len("mm_features")?;
    (0..count)
        .map(|_| Ok((r.string("mm_features")?, FeatureField::decode(r, frames)?)))
        .collect()
}

impl MmPosition {
    fn encode(&self, w: &mut Writer) {
        w.map(3);
        w.str("offset");
        w.u64(self.offset);
        w.str("length");
        w.u64(self.length);
        w.str("is_embed");
        w.option(self.is_embed.as_ref(), |w, tensor| tensor.encode(w));
    }

    fn decode<'a>(r: &mut Reader<'a>, frames: &'a Frames) -> Result<Self> {
        const FIELD: &str = "mm_position";
        let mut out = Self::default();
        r.entries(FIELD, |r, key| {
            match key {
                b"offset" => out.offset = r.u64(FIELD)?,
                b"length" => out.length = r.u64(FIELD)?,
                b"is_embed" => {
                    out.is_embed = r.nullable(|r| Tensor::decode(r, frames, FIELD))?;
                }
                _ => r.skip(FIELD)?,
            }
            Ok(())
        })?;
        Ok(out)
    }
}

impl FeatureField {
    fn encode(&self, w: &mut Writer) {
        w.map(2);
        w.str("data");
        self.data.encode(w);
        w.str("field");
        self.field.encode(w);
    }

    fn decode<'a>(r: &mut Reader<'a>, frames: &'a Frames) -> Result<Self> {
        const FIELD: &str = "mm_features";
        let (mut data, mut kind) = (FeatureData::Nil, None);
        r.entries(FIELD, |r, key| {
            match key {
                b"data" => data = FeatureData::decode(r, frames, MAX_DEPTH)?,
                b"field" => kind = Some(FieldKind::decode(r)?),
                _ => r.skip(FIELD)?,
            }
            Ok(())
        })?;
        let field = kind.ok_or(DecodeError::Missing { field: FIELD })?;
        Ok(Self { data, field })
    }
}

impl FeatureData {
    fn encode(&self, w: &mut Writer) {
        match self {
            FeatureData::Nil => w.nil(),
            FeatureData::Int(value) => w.i64(*value),
            FeatureData::Float(value) => w.f64(*value),
            FeatureData::Tensor(tensor) => tensor.encode(w),
            FeatureData::List(items) => w.seq(items, |w, item| item.encode(w)),
        }
    }

    fn decode<'a>(r: &mut Reader<'a>, frames: &'a Frames, depth: usize) -> Result<Self> {
        use rmp::Marker::{Array16, Array32, F32, F64, FixArray};
        const FIELD: &str = "mm_features";
        let Some(depth) = depth.checked_sub(1) else {
            return Err(DecodeError::Depth {
                field: FIELD,
                limit: MAX_DEPTH,
            });
        };
        match r.peek() {
            Some(FixArray(_) | Array16 | Array32) if is_tensor(r) => {
                Tensor::decode(r, frames, FIELD).map(FeatureData::Tensor)
            }
            Some(FixArray(_) | Array16 | Array32) => r
                .vec(FIELD, |r| FeatureData::decode(r, frames, depth))
                .map(FeatureData::List),
            Some(F32 | F64) => r.f64(FIELD).map(FeatureData::Float),
            _ => Ok(r
                .nullable(|r| r.i64(FIELD))?
                .map_or(FeatureData::Nil, FeatureData::Int)),
        }
    }
}

/// A tensor is an array of three that begins with its dtype; a list never holds strings.
fn is_tensor(r: &Reader<'_>) -> bool {
    let mut ahead = r.clone();
    ahead.array_len("mm_features").is_ok_and(|count| count == 3)
        && ahead.str_bytes("mm_features").is_ok()
}

impl FieldKind {
    fn encode(&self, w: &mut Writer) {
        w.array(2);
        match self {
            FieldKind::Batched { keep_on_cpu } => {
                w.str("batched");
                w.map(1);
                encode_keep(w, *keep_on_cpu);
            }
            FieldKind::Flat {
                keep_on_cpu,
                slices,
                dim,
            } => {
                w.str("flat");
                w.map(3);
                encode_keep(w, *keep_on_cpu);
                w.str("slices");
                w.seq(slices, |w, item| encode_slices(w, item, *dim));
                w.str("dim");
                w.i64(*dim);
            }
            FieldKind::Shared {
                keep_on_cpu,
                batch_size,
            } => {
                w.str("shared");
                w.map(2);
                encode_keep(w, *keep_on_cpu);
                w.str("batch_size");
                w.u64(*batch_size);
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self> {
        const FIELD: &str = "mm_features field";
        let mut slots = r.slots(FIELD)?;
        slots.require(FIELD)?;
        let kind = r.str_bytes(FIELD)?;
        let (mut keep_on_cpu, mut slices, mut dim, mut batch_size) = (false, Vec::new(), 0, 0);
        if slots.take() {
            r.entries(FIELD, |r, key| {
                match key {
                    b"keep_on_cpu" => keep_on_cpu = r.bool(FIELD)?,
                    b"slices" => slices = r.vec(FIELD, decode_slices)?,
                    b"dim" => dim = r.i64(FIELD)?,
                    b"batch_size" => batch_size = r.u64(FIELD)?,
                    _ => r.skip(FIELD)?,
                }
                Ok(())
            })?;
        }
        slots.finish(r, FIELD)?;
        match kind {
            b"batched" => Ok(FieldKind::Batched { keep_on_cpu }),
            b"flat" => Ok(FieldKind::Flat {
                keep_on_cpu,
                slices,
                dim,
            }),
            b"shared" => Ok(FieldKind::Shared {
                keep_on_cpu,
                batch_size,
            }),
            _ => Err(DecodeError::Array {
                field: FIELD,
                what: "not batched, flat or shared",
            }),
        }
    }
}

fn encode_keep(w: &mut Writer, keep_on_cpu: bool) {
    w.str("keep_on_cpu");
    w.bool(keep_on_cpu);
}

fn encode_slices(w: &mut Writer, item: &[FieldSlice], dim: i64) {
    let encode = |w: &mut Writer, slice: &FieldSlice| {
        w.seq(slice, |w, bound| w.option(*bound, Writer::i64));
    };
    match item {
        [slice] if dim == 0 => encode(w, slice),
        slices => w.seq(slices, |w, slice| encode(w, slice)),
    }
}

/// A bare slice, or a list of slices.
fn decode_slices(r: &mut Reader<'_>) -> Result<Vec<FieldSlice>> {
    use rmp::Marker::{Array16, Array32, FixArray};
    const FIELD: &str = "mm_features slices";
    let mut ahead = r.clone();
    ahead.array_len(FIELD)?;
    if matches!(ahead.peek(), Some(FixArray(_) | Array16 | Array32)) {
        r.vec(FIELD, decode_slice)
    } else {
        decode_slice(r).map(|slice| vec![slice])
    }
}

fn decode_slice(r: &mut Reader<'_>) -> Result<FieldSlice> {
    const FIELD: &str = "mm_features slices";
    let mut slots = r.slots(FIELD)?;
    let mut out = [None; 3];
    for bound in &mut out {
        if slots.take() {
            *bound = r.nullable(|r| r.i64(FIELD))?;
        }
    }
    slots.finish(r, FIELD)?;
    Ok(out)
}
