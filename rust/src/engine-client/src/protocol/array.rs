// SPDX-License-Identifier: Apache-2.0

//! Arrays and tensors: `[dtype, shape, data]`, with the data inline or in a frame of its own.

use bytes::Bytes;
use smallvec::SmallVec;

use super::error::DecodeError;
use super::frames::Frames;
use super::limits::MAX_DIMS;
use super::read::Reader;
use super::write::Writer;

/// An owned array in C order, as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Type name: a numpy descriptor (`<i4`) or a torch name without prefix (`bfloat16`).
    pub dtype: Box<str>,
    /// Length of each dimension.
    pub shape: SmallVec<[u64; 4]>,
    /// The elements' bytes.
    pub data: Bytes,
}

/// Element types whose values this side reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// 8-bit signed.
    I8,
    /// 8-bit unsigned.
    U8,
    /// 32-bit signed.
    I32,
    /// 32-bit unsigned.
    U32,
    /// 64-bit signed.
    I64,
    /// 64-bit unsigned.
    U64,
    /// IEEE single.
    F32,
    /// IEEE double.
    F64,
}

impl Dtype {
    /// Plain numbers only; what else there is travels on as bytes.
    fn parse(name: &str) -> Option<Self> {
        Some(match name.trim_start_matches(['<', '=', '|']) {
            "i1" | "int8" => Dtype::I8,
            "u1" | "uint8" => Dtype::U8,
            "i4" | "int32" => Dtype::I32,
            "u4" | "uint32" => Dtype::U32,
            "i8" | "int64" => Dtype::I64,
            "u8" | "uint64" => Dtype::U64,
            "f4" | "float32" => Dtype::F32,
            "f8" | "float64" => Dtype::F64,
            _ => return None,
        })
    }
}

/// Bytes per element, by numpy's descriptor or torch's name.
fn item_size(name: &str) -> Option<u64> {
    Some(match name.trim_start_matches(['<', '=', '|']) {
        "i1" | "u1" | "b1" | "int8" | "uint8" | "bool" => 1,
        "float8_e4m3fn" | "float8_e5m2" | "float8_e4m3fnuz" | "float8_e5m2fnuz" => 1,
        "i2" | "u2" | "f2" | "int16" | "uint16" | "float16" | "bfloat16" => 2,
        "i4" | "u4" | "f4" | "int32" | "uint32" | "float32" => 4,
        "i8" | "u8" | "f8" | "c8" | "int64" | "uint64" | "float64" | "complex64" => 8,
        "c16" | "complex128" => 16,
        _ => return None,
    })
}

/// A borrowed array, not yet interpreted.
pub(crate) struct RawArray<'a> {
    field: &'static str,
    dtype: &'a str,
    shape: SmallVec<[u64; 4]>,
    data: Data<'a>,
}

enum Data<'a> {
    Inline(&'a [u8]),
    Frame(&'a Bytes),
}

impl<'a> RawArray<'a> {
    pub(crate) fn decode(
        r: &mut Reader<'a>,
        frames: &'a Frames,
        field: &'static str,
    ) -> Result<Self, DecodeError> {
        let mut slots = r.slots(field)?;
        slots.require(field)?;
        let dtype = r.str(field)?;
        slots.require(field)?;
        let shape = shape(r, field)?;
        slots.require(field)?;
        let data = data(r, frames, field)?;
        slots.finish(r, field)?;
        let array = Self {
            field,
            dtype,
            shape,
            data,
        };
        array.check_size()?;
        Ok(array)
    }

    pub(crate) fn bytes(&self) -> &'a [u8] {
        match self.data {
            Data::Inline(bytes) => bytes,
            Data::Frame(bytes) => bytes,
        }
    }

    pub(crate) fn shape(&self) -> &[u64] {
        &self.shape
    }

    fn error<T>(&self, what: &'static str) -> Result<T, DecodeError> {
        Err(DecodeError::Array {
            field: self.field,
            what,
        })
    }

    /// Shape, dtype and byte count must agree, whatever becomes of the elements.
    fn check_size(&self) -> Result<(), DecodeError> {
        let Some(size) = item_size(self.dtype) else {
            return self.error("unknown dtype");
        };
        let elements = self.shape.iter();
        let bytes = elements.copied().try_fold(size, u64::checked_mul);
        if bytes != Some(self.bytes().len() as u64) {
            return self.error("shape, dtype and byte count disagree");
        }
        Ok(())
    }

    fn numbers(&self) -> Result<Dtype, DecodeError> {
        match Dtype::parse(self.dtype) {
            Some(dtype) => Ok(dtype),
            None => self.error("a dtype that is not read here"),
        }
    }

    /// Calls `each` with every element as an unsigned 32-bit integer (token ids, ranks).
    pub(crate) fn each_u32(&self, mut each: impl FnMut(u32)) -> Result<(), DecodeError> {
        let bytes = self.bytes();
        let range = DecodeError::Range {
            field: self.field,
            range: "0..2^32",
        };
        match self.numbers()? {
            Dtype::I32 => chunks::<4>(bytes)
                .try_for_each(|b| u32::try_from(i32::from_le_bytes(b)).map(&mut each)),
            Dtype::U32 => chunks::<4>(bytes).try_for_each(|b| {
                each(u32::from_le_bytes(b));
                Ok(())
            }),
            Dtype::I64 => chunks::<8>(bytes)
                .try_for_each(|b| u32::try_from(i64::from_le_bytes(b)).map(&mut each)),
            Dtype::U64 => chunks::<8>(bytes)
                .try_for_each(|b| u32::try_from(u64::from_le_bytes(b)).map(&mut each)),
            Dtype::U8 => bytes.iter().try_for_each(|b| {
                each(u32::from(*b));
                Ok(())
            }),
            _ => return self.error("an integer dtype is needed"),
        }
        .map_err(|_| range)
    }

    /// Calls `each` with every element as a single-precision float.
    pub(crate) fn each_f32(&self, mut each: impl FnMut(f32)) -> Result<(), DecodeError> {
        let bytes = self.bytes();
        match self.numbers()? {
            Dtype::F32 => chunks::<4>(bytes).for_each(|b| each(f32::from_le_bytes(b))),
            Dtype::F64 => chunks::<8>(bytes).for_each(|b| each(f64::from_le_bytes(b) as f32)),
            _ => return self.error("a float dtype is needed"),
        }
        Ok(())
    }

    /// Copies out what must outlive the message; an out-of-band frame is shared, not copied.
    pub(crate) fn into_tensor(self) -> Tensor {
        let data = match self.data {
            Data::Inline(bytes) => Bytes::copy_from_slice(bytes),
            Data::Frame(bytes) => bytes.clone(),
        };
        Tensor {
            dtype: self.dtype.into(),
            shape: self.shape,
            data,
        }
    }
}

fn shape(r: &mut Reader<'_>, field: &'static str) -> Result<SmallVec<[u64; 4]>, DecodeError> {
    let dims = r.array_len(field)?;
    if dims > MAX_DIMS {
        return Err(DecodeError::Array {
            field,
            what: "more dimensions than any array here has",
        });
    }
    (0..dims).map(|_| r.u64(field)).collect()
}

fn data<'a>(
    r: &mut Reader<'a>,
    frames: &'a Frames,
    field: &'static str,
) -> Result<Data<'a>, DecodeError> {
    match r.peek() {
        Some(marker) if is_integer(marker) => {
            let index = r.u64(field)?;
            frames.aux(index, field).map(Data::Frame)
        }
        _ => r.raw(field).map(Data::Inline),
    }
}

fn is_integer(marker: rmp::Marker) -> bool {
    use rmp::Marker::{FixPos, U8, U16, U32, U64};
    matches!(marker, FixPos(_) | U8 | U16 | U32 | U64)
}

fn chunks<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.as_chunks::<N>().0.iter().copied()
}

impl Tensor {
    /// A one- or two-dimensional array of 32-bit integers.
    pub fn from_i32(values: &[i32], shape: &[u64]) -> Self {
        let data = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect::<Vec<u8>>();
        Self {
            dtype: "<i4".into(),
            shape: shape.into(),
            data: data.into(),
        }
    }

    /// A one- or two-dimensional array of single-precision floats.
    pub fn from_f32(values: &[f32], shape: &[u64]) -> Self {
        let data = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect::<Vec<u8>>();
        Self {
            dtype: "<f4".into(),
            shape: shape.into(),
            data: data.into(),
        }
    }

    pub(crate) fn decode<'a>(
        r: &mut Reader<'a>,
        frames: &'a Frames,
        field: &'static str,
    ) -> Result<Self, DecodeError> {
        RawArray::decode(r, frames, field).map(RawArray::into_tensor)
    }

    pub(crate) fn encode(&self, w: &mut Writer) {
        w.array(3);
        w.str(&self.dtype);
        w.seq(&self.shape, |w, dim| w.u64(*dim));
        w.raw(&self.data);
    }
}
