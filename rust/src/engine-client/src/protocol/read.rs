// SPDX-License-Identifier: Apache-2.0

//! A cursor over one MessagePack frame. Every reader names the field it reads, for the error.

use rmp::Marker;
use rmpv::Value;

use super::error::DecodeError;
use super::limits::MAX_DEPTH;

type Result<T> = std::result::Result<T, DecodeError>;

/// Reads MessagePack from a byte slice without copying and without intermediate values.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    buf: &'a [u8],
    pos: usize,
}

/// Elements left in an array-like struct, so that short and long arrays are accepted.
#[derive(Debug)]
pub(crate) struct Slots {
    left: usize,
}

impl Slots {
    /// Elements that were not asked for yet.
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    /// True when another element is there to be read; a missing one takes its default.
    pub(crate) fn take(&mut self) -> bool {
        let present = self.left > 0;
        self.left = self.left.saturating_sub(1);
        present
    }

    /// As [`Slots::take`] for an element that has no default.
    pub(crate) fn require(&mut self, field: &'static str) -> Result<()> {
        if self.take() {
            Ok(())
        } else {
            Err(DecodeError::Missing { field })
        }
    }

    /// Skips the elements that a newer peer may have appended.
    pub(crate) fn finish(self, reader: &mut Reader<'_>, field: &'static str) -> Result<()> {
        (0..self.left).try_for_each(|_| reader.skip(field))
    }
}

impl<'a> Reader<'a> {
    /// A reader at the start of a frame.
    pub fn new(buf: &'a [u8]) -> Self {
        Self { buf, pos: 0 }
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.pos
    }

    /// Moves back to a position that [`Reader::position`] returned.
    pub(crate) fn rewind(&mut self, position: usize) {
        self.pos = position.min(self.buf.len());
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.buf.len() - self.pos
    }

    #[inline]
    fn bytes(&mut self, count: usize, field: &'static str) -> Result<&'a [u8]> {
        let left = self.remaining();
        if count > left {
            return Err(DecodeError::Truncated {
                field,
                left,
                needed: count,
            });
        }
        let start = self.pos;
        self.pos += count;
        Ok(&self.buf[start..self.pos])
    }

    fn fixed<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N]> {
        let bytes = self.bytes(N, field)?;
        let mut out = [0; N];
        out.copy_from_slice(bytes);
        Ok(out)
    }

    fn u8(&mut self, field: &'static str) -> Result<usize> {
        Ok(usize::from(self.fixed::<1>(field)?[0]))
    }

    fn u16(&mut self, field: &'static str) -> Result<usize> {
        Ok(usize::from(u16::from_be_bytes(self.fixed(field)?)))
    }

    fn u32(&mut self, field: &'static str) -> Result<usize> {
        Ok(u32::from_be_bytes(self.fixed(field)?) as usize)
    }

    fn marker(&mut self, field: &'static str) -> Result<Marker> {
        Ok(Marker::from_u8(self.fixed::<1>(field)?[0]))
    }

    fn wrong<T>(field: &'static str, expected: &'static str, found: Marker) -> Result<T> {
        Err(DecodeError::Type {
            field,
            expected,
            found: marker_name(found),
        })
    }

    /// Consumes `bytes` when they are next.
    pub(crate) fn take_exactly(&mut self, bytes: &[u8]) -> bool {
        let found = self.buf[self.pos..].starts_with(bytes);
        self.pos += if found { bytes.len() } else { 0 };
        found
    }

    /// What is left to read.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.buf[self.pos..]
    }

    /// Goes on where `rest`, an end of [`Reader::rest`], begins.
    #[inline]
    pub(crate) fn resume_at(&mut self, rest: &'a [u8]) {
        self.pos = self.buf.len() - rest.len();
    }

    /// Consumes a nil, an empty map or an empty array when one is next.
    pub(crate) fn empty(&mut self) -> bool {
        let is_empty = matches!(self.rest(), [0xc0 | 0x80 | 0x90, ..]);
        self.pos += usize::from(is_empty);
        is_empty
    }

    /// Consumes a nil when one is next.
    pub fn nil(&mut self) -> bool {
        let is_nil = self.buf.get(self.pos) == Some(&Marker::Null.to_u8());
        self.pos += usize::from(is_nil);
        is_nil
    }

    /// Reads a value that may be nil.
    pub fn nullable<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        if self.nil() {
            Ok(None)
        } else {
            read(self).map(Some)
        }
    }

    /// A header's count, checked against the bytes left: each element takes at least one.
    fn counted(&self, count: usize, field: &'static str) -> Result<usize> {
        let left = self.remaining();
        if count > left {
            return Err(DecodeError::Truncated {
                field,
                left,
                needed: count,
            });
        }
        Ok(count)
    }

    /// Element count of an array.
    #[inline]
    pub fn array_len(&mut self, field: &'static str) -> Result<usize> {
        // The short form, before the general way.
        if let Some(marker @ 0x90..=0x9f) = self.buf.get(self.pos) {
            self.pos += 1;
            return self.counted(usize::from(marker & 0x0f), field);
        }
        self.long_array_len(field)
    }

    fn long_array_len(&mut self, field: &'static str) -> Result<usize> {
        let count = match self.marker(field)? {
            Marker::FixArray(count) => usize::from(count),
            Marker::Array16 => self.u16(field)?,
            Marker::Array32 => self.u32(field)?,
            other => return Self::wrong(field, "array", other),
        };
        self.counted(count, field)
    }

    /// Entry count of a map.
    pub fn map_len(&mut self, field: &'static str) -> Result<usize> {
        let count = match self.marker(field)? {
            Marker::FixMap(count) => usize::from(count),
            Marker::Map16 => self.u16(field)?,
            Marker::Map32 => self.u32(field)?,
            other => return Self::wrong(field, "map", other),
        };
        self.counted(count, field)
    }

    /// Header of an array-like struct.
    pub(crate) fn slots(&mut self, field: &'static str) -> Result<Slots> {
        Ok(Slots {
            left: self.array_len(field)?,
        })
    }

    /// Any integer, whatever its width on the wire.
    fn integer(&mut self, field: &'static str) -> Result<i128> {
        let marker = self.marker(field)?;
        match self.number(marker, field)? {
            Some(Number::Int(value)) => Ok(value),
            _ => Self::wrong(field, "integer", marker),
        }
    }

    fn number(&mut self, marker: Marker, field: &'static str) -> Result<Option<Number>> {
        Ok(Some(match marker {
            Marker::FixPos(value) => Number::Int(i128::from(value)),
            Marker::FixNeg(value) => Number::Int(i128::from(value)),
            Marker::U8 => Number::Int(self.u8(field)? as i128),
            Marker::U16 => Number::Int(self.u16(field)? as i128),
            Marker::U32 => Number::Int(self.u32(field)? as i128),
            Marker::U64 => Number::Int(i128::from(u64::from_be_bytes(self.fixed(field)?))),
            Marker::I8 => Number::Int(i128::from(i8::from_be_bytes(self.fixed(field)?))),
            Marker::I16 => Number::Int(i128::from(i16::from_be_bytes(self.fixed(field)?))),
            Marker::I32 => Number::Int(i128::from(i32::from_be_bytes(self.fixed(field)?))),
            Marker::I64 => Number::Int(i128::from(i64::from_be_bytes(self.fixed(field)?))),
            Marker::F32 => Number::Float(f64::from(f32::from_be_bytes(self.fixed(field)?))),
            Marker::F64 => Number::Float(f64::from_be_bytes(self.fixed(field)?)),
            _ => return Ok(None),
        }))
    }

    /// An integer that fits int64 or uint64, as MessagePack's all do.
    pub fn i128(&mut self, field: &'static str) -> Result<i128> {
        self.integer(field)
    }

    /// An error when anything follows the last value.
    pub(crate) fn end(&self, field: &'static str) -> Result<()> {
        if self.remaining() == 0 {
            Ok(())
        } else {
            Err(DecodeError::Trailing { field })
        }
    }

    /// A signed 64-bit integer.
    pub fn i64(&mut self, field: &'static str) -> Result<i64> {
        let value = self.integer(field)?;
        i64::try_from(value).map_err(|_| DecodeError::Range {
            field,
            range: "int64",
        })
    }

    /// An unsigned 64-bit integer.
    #[inline]
    pub fn u64(&mut self, field: &'static str) -> Result<u64> {
        // One byte, as most counts are, before the general way.
        if let Some(value @ 0..=0x7f) = self.buf.get(self.pos) {
            self.pos += 1;
            return Ok(u64::from(*value));
        }
        self.long_u64(field)
    }

    fn long_u64(&mut self, field: &'static str) -> Result<u64> {
        let value = self.integer(field)?;
        u64::try_from(value).map_err(|_| DecodeError::Range {
            field,
            range: "uint64",
        })
    }

    /// A token id or another unsigned 32-bit integer.
    #[inline]
    pub fn uint32(&mut self, field: &'static str) -> Result<u32> {
        // Token ids: the two widths that real vocabularies use, before the general way.
        match self.buf[self.pos..] {
            [value @ 0..=0x7f, ..] => {
                self.pos += 1;
                Ok(u32::from(value))
            }
            [0xcd, high, low, ..] => {
                self.pos += 3;
                Ok(u32::from(u16::from_be_bytes([high, low])))
            }
            _ => {
                let value = self.integer(field)?;
                u32::try_from(value).map_err(|_| DecodeError::Range {
                    field,
                    range: "uint32",
                })
            }
        }
    }

    /// A float; integers are accepted where the protocol says float.
    pub fn f64(&mut self, field: &'static str) -> Result<f64> {
        let marker = self.marker(field)?;
        match self.number(marker, field)? {
            Some(Number::Float(value)) => Ok(value),
            Some(Number::Int(value)) => Ok(value as f64),
            None => Self::wrong(field, "number", marker),
        }
    }

    /// A boolean.
    pub fn bool(&mut self, field: &'static str) -> Result<bool> {
        match self.marker(field)? {
            Marker::True => Ok(true),
            Marker::False => Ok(false),
            other => Self::wrong(field, "boolean", other),
        }
    }

    fn str_len(&mut self, marker: Marker, field: &'static str) -> Result<Option<usize>> {
        Ok(Some(match marker {
            Marker::FixStr(count) => usize::from(count),
            Marker::Str8 => self.u8(field)?,
            Marker::Str16 => self.u16(field)?,
            Marker::Str32 => self.u32(field)?,
            _ => return Ok(None),
        }))
    }

    /// The bytes of a string, not checked for UTF-8: request ids are compared as bytes.
    #[inline]
    pub fn str_bytes(&mut self, field: &'static str) -> Result<&'a [u8]> {
        // The short form, before the general way.
        if let Some(marker @ 0xa0..=0xbf) = self.buf.get(self.pos) {
            self.pos += 1;
            return self.bytes(usize::from(marker & 0x1f), field);
        }
        self.long_str_bytes(field)
    }

    fn long_str_bytes(&mut self, field: &'static str) -> Result<&'a [u8]> {
        let marker = self.marker(field)?;
        match self.str_len(marker, field)? {
            Some(count) => self.bytes(count, field),
            None => Self::wrong(field, "string", marker),
        }
    }

    /// A string.
    pub fn str(&mut self, field: &'static str) -> Result<&'a str> {
        std::str::from_utf8(self.str_bytes(field)?).map_err(|_| DecodeError::Utf8 { field })
    }

    /// An owned string.
    pub fn string(&mut self, field: &'static str) -> Result<String> {
        self.str(field).map(str::to_owned)
    }

    /// An array of anything, sized by the bytes that are there.
    pub fn vec<T>(
        &mut self,
        field: &'static str,
        mut read: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let count = self.array_len(field)?;
        // A one-byte element may be a large struct's nil: grow as they come beyond this.
        let mut out = Vec::with_capacity(count.min(1024));
        for _ in 0..count {
            out.push(read(self)?);
        }
        Ok(out)
    }

    /// A map, one call per entry with its key; the callback must consume the value. Entries whose
    /// key is no string are skipped.
    pub(crate) fn entries(
        &mut self,
        field: &'static str,
        mut entry: impl FnMut(&mut Self, &'a [u8]) -> Result<()>,
    ) -> Result<()> {
        for _ in 0..self.map_len(field)? {
            if self.next_is_str() {
                let key = self.str_bytes(field)?;
                entry(self, key)?;
            } else {
                self.skip(field)?;
                self.skip(field)?;
            }
        }
        Ok(())
    }

    fn next_is_str(&self) -> bool {
        self.peek().is_some_and(|marker| {
            matches!(
                marker,
                Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32
            )
        })
    }

    /// True before an extension of any type.
    pub(crate) fn next_is_extension(&self) -> bool {
        use Marker::{Ext8, Ext16, Ext32, FixExt1, FixExt2, FixExt4, FixExt8, FixExt16};
        self.peek().is_some_and(|marker| {
            matches!(
                marker,
                FixExt1 | FixExt2 | FixExt4 | FixExt8 | FixExt16 | Ext8 | Ext16 | Ext32
            )
        })
    }

    pub(crate) fn peek(&self) -> Option<Marker> {
        self.buf.get(self.pos).map(|byte| Marker::from_u8(*byte))
    }

    /// Length of an extension or binary value after its marker, with its code (`None` for binary).
    fn blob_len(
        &mut self,
        marker: Marker,
        field: &'static str,
    ) -> Result<Option<(Option<i8>, usize)>> {
        let count = match marker {
            Marker::Bin8 => return Ok(Some((None, self.u8(field)?))),
            Marker::Bin16 => return Ok(Some((None, self.u16(field)?))),
            Marker::Bin32 => return Ok(Some((None, self.u32(field)?))),
            Marker::FixExt1 => 1,
            Marker::FixExt2 => 2,
            Marker::FixExt4 => 4,
            Marker::FixExt8 => 8,
            Marker::FixExt16 => 16,
            Marker::Ext8 => self.u8(field)?,
            Marker::Ext16 => self.u16(field)?,
            Marker::Ext32 => self.u32(field)?,
            _ => return Ok(None),
        };
        let code = i8::from_be_bytes(self.fixed(field)?);
        Ok(Some((Some(code), count)))
    }

    /// Raw bytes carried inline: extension type 3.
    pub(crate) fn raw(&mut self, field: &'static str) -> Result<&'a [u8]> {
        let marker = self.marker(field)?;
        match self.blob_len(marker, field)? {
            Some((Some(3), count)) => self.bytes(count, field),
            Some((Some(code), _)) => Err(DecodeError::Extension { field, code }),
            _ => Self::wrong(field, "raw bytes", marker),
        }
    }

    /// Skips one value of any kind, without recursion.
    pub fn skip(&mut self, field: &'static str) -> Result<()> {
        let mut values: u64 = 1;
        while values > 0 {
            values = values - 1 + self.skip_one(field)?;
        }
        Ok(())
    }

    /// Skips one scalar or one container's header; returns the values that belong to it.
    fn skip_one(&mut self, field: &'static str) -> Result<u64> {
        let marker = self.marker(field)?;
        let inner = match marker {
            Marker::FixArray(count) => usize::from(count),
            Marker::Array16 => self.u16(field)?,
            Marker::Array32 => self.u32(field)?,
            Marker::FixMap(count) => 2 * usize::from(count),
            Marker::Map16 => 2 * self.u16(field)?,
            Marker::Map32 => 2 * self.u32(field)?,
            Marker::Null | Marker::True | Marker::False => 0,
            Marker::Reserved => return Self::wrong(field, "a value", marker),
            _ => {
                self.skip_scalar(marker, field)?;
                0
            }
        };
        Ok(self.counted(inner, field)? as u64)
    }

    fn skip_scalar(&mut self, marker: Marker, field: &'static str) -> Result<()> {
        if self.number(marker, field)?.is_some() {
            return Ok(());
        }
        let count = match self.str_len(marker, field)? {
            Some(count) => count,
            None => match self.blob_len(marker, field)? {
                Some((_, count)) => count,
                None => return Self::wrong(field, "a value", marker),
            },
        };
        self.bytes(count, field).map(|_| ())
    }

    /// A value of any kind, for the rare slots whose content only a plug-in understands.
    pub fn value(&mut self, field: &'static str) -> Result<Value> {
        self.value_at(field, MAX_DEPTH)
    }

    fn value_at(&mut self, field: &'static str, depth: usize) -> Result<Value> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(DecodeError::Depth {
                field,
                limit: MAX_DEPTH,
            });
        };
        let start = self.pos;
        let marker = self.marker(field)?;
        match marker {
            Marker::Null => return Ok(Value::Nil),
            Marker::True | Marker::False => return Ok(Value::Boolean(marker == Marker::True)),
            Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => {
                self.pos = start;
                return self
                    .vec(field, |r| r.value_at(field, depth))
                    .map(Value::Array);
            }
            Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => {
                self.pos = start;
                return self.value_map(field, depth);
            }
            _ => {}
        }
        if let Some(number) = self.number(marker, field)? {
            return Ok(number.into_value());
        }
        if let Some(count) = self.str_len(marker, field)? {
            let text = std::str::from_utf8(self.bytes(count, field)?);
            return text
                .map(Value::from)
                .map_err(|_| DecodeError::Utf8 { field });
        }
        match self.blob_len(marker, field)? {
            Some((None, count)) => Ok(Value::Binary(self.bytes(count, field)?.to_vec())),
            Some((Some(3), count)) => Ok(Value::Ext(3, self.bytes(count, field)?.to_vec())),
            Some((Some(code), _)) => Err(DecodeError::Extension { field, code }),
            None => Self::wrong(field, "a value", marker),
        }
    }

    fn value_map(&mut self, field: &'static str, depth: usize) -> Result<Value> {
        let count = self.map_len(field)?;
        let mut out = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            let key = self.value_at(field, depth)?;
            out.push((key, self.value_at(field, depth)?));
        }
        Ok(Value::Map(out))
    }
}

/// A MessagePack number of any width.
enum Number {
    Int(i128),
    Float(f64),
}

impl Number {
    fn into_value(self) -> Value {
        match self {
            Number::Float(value) => Value::F64(value),
            Number::Int(value) => match u64::try_from(value) {
                Ok(value) => Value::from(value),
                // Within int64: the wire has no wider negative.
                Err(_) => Value::from(value as i64),
            },
        }
    }
}

fn marker_name(marker: Marker) -> &'static str {
    match marker {
        Marker::Null => "nil",
        Marker::True | Marker::False => "boolean",
        Marker::FixPos(_) | Marker::FixNeg(_) => "integer",
        Marker::U8 | Marker::U16 | Marker::U32 | Marker::U64 => "integer",
        Marker::I8 | Marker::I16 | Marker::I32 | Marker::I64 => "integer",
        Marker::F32 | Marker::F64 => "float",
        Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => "string",
        Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => "array",
        Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => "map",
        Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => "binary",
        Marker::Reserved => "a reserved byte",
        _ => "extension",
    }
}
