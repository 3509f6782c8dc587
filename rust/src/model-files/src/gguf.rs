// SPDX-License-Identifier: Apache-2.0

//! The metadata section of a GGUF file (versions 2 and 3, little endian), read from a memory map.
//!
//! Layout: magic `GGUF`, version u32, tensor count u64, key count u64, then per key its name, a type number and the
//! value. Strings are a u64 length and UTF-8 bytes; arrays an element type, a u64 count and the elements.
//! Source: `docs/gguf.md` of the ggml project.
//!
//! Values stay in the map until asked for. No announced length is believed: every read is checked against the end of
//! the file first, and nothing is allocated by a length that the file merely claims.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

use memmap2::Mmap;

const MAGIC: &[u8; 4] = b"GGUF";
/// A key costs at least a length, a type number and one byte of value.
const LEAST_BYTES_PER_KEY: u64 = 8 + 4 + 1;
/// The format gives no bound on nested arrays; nobody writes more than two levels.
const MAX_ARRAY_DEPTH: usize = 4;
/// ggml's own bound on the length of a key.
const MAX_KEY_BYTES: u64 = 65_535;

/// Why a GGUF file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The first four bytes are not `GGUF`.
    #[error("not a GGUF file: it begins with {found:?} in place of \"GGUF\"")]
    Foreign {
        /// The first bytes as text.
        found: String,
    },
    /// A version that is not read here.
    #[error(
        "GGUF version {version} is not supported (supported: 2 and 3): convert the model again with a current converter"
    )]
    Version {
        /// The announced version.
        version: u32,
    },
    /// The file was written for big-endian machines.
    #[error("big-endian GGUF is not supported: convert the model for little-endian machines")]
    BigEndian,
    /// The file ends before the metadata does.
    #[error(
        "the file is truncated: {what} needs {needed} bytes at offset {offset}, the file has {len} bytes; download it again"
    )]
    Truncated {
        /// What was being read.
        what: String,
        /// Where.
        offset: u64,
        /// How much was announced.
        needed: u64,
        /// Size of the file.
        len: u64,
    },
    /// The bytes break the format.
    #[error("the file is damaged: {what} at offset {offset}")]
    Damaged {
        /// What is wrong.
        what: String,
        /// Where.
        offset: u64,
    },
    /// A key that is needed is absent.
    #[error("the metadata lacks {key}")]
    MissingKey {
        /// The key.
        key: String,
    },
    /// A key holds another type than it must.
    #[error("the metadata key {key} is {found}, expected {expected}")]
    WrongType {
        /// The key.
        key: String,
        /// What it holds.
        found: &'static str,
        /// What it should hold.
        expected: &'static str,
    },
}

/// Types of metadata values, by their number in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Kind {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl Kind {
    const ALL: [Kind; 13] = {
        use Kind::*;
        [
            U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64,
        ]
    };

    fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(number as usize).copied()
    }

    /// Bytes of a value of fixed size.
    fn width(self) -> Option<u64> {
        match self {
            Kind::U8 | Kind::I8 | Kind::Bool => Some(1),
            Kind::U16 | Kind::I16 => Some(2),
            Kind::U32 | Kind::I32 | Kind::F32 => Some(4),
            Kind::U64 | Kind::I64 | Kind::F64 => Some(8),
            Kind::String | Kind::Array => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::U8 | Kind::U16 | Kind::U32 | Kind::U64 => "an unsigned integer",
            Kind::I8 | Kind::I16 | Kind::I32 | Kind::I64 => "a signed integer",
            Kind::F32 | Kind::F64 => "a float",
            Kind::Bool => "a boolean",
            Kind::String => "a string",
            Kind::Array => "an array",
        }
    }
}

/// Where a value lies: its type and its bytes (for a string without the length in front).
#[derive(Clone, Debug)]
struct Entry {
    kind: Kind,
    bytes: Range<usize>,
    /// Element type and count of an array; `bytes` are then the elements.
    elements: Option<(Kind, usize)>,
}

/// The bytes of an array's elements.
struct Array<'a> {
    bytes: &'a [u8],
    kind: Kind,
    count: usize,
}

/// The metadata of an open GGUF file.
pub(crate) struct Gguf {
    map: Mmap,
    entries: HashMap<String, Entry>,
}

impl Gguf {
    /// Maps the file and finds every key.
    pub(crate) fn open(path: &Path) -> Result<Self, crate::Error> {
        let io = |cause| crate::Error::Io {
            path: path.to_owned(),
            cause,
        };
        let file = File::open(path).map_err(io)?;
        // SAFETY: the map is read-only and private to this value. A file that another process cuts short meanwhile
        // raises SIGBUS, as it would for the weights that the engine maps from the same file.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let entries = index(&map).map_err(|cause| crate::Error::Gguf {
            path: path.to_owned(),
            cause,
        })?;
        Ok(Self { map, entries })
    }

    pub(crate) fn string(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.scalar(key, "a string", |kind, bytes| {
            (kind == Kind::String)
                .then(|| std::str::from_utf8(bytes).ok())
                .flatten()
        })
    }

    pub(crate) fn boolean(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.scalar(key, "a boolean", |kind, bytes| {
            (kind == Kind::Bool).then(|| bytes[0] != 0)
        })
    }

    /// Any integer type, if the value fits.
    pub(crate) fn unsigned(&self, key: &str) -> Result<Option<u32>, GgufError> {
        self.scalar(key, "an integer from 0 to 4294967295", |kind, bytes| {
            u32::try_from(integer(kind, bytes)?).ok()
        })
    }

    /// The strings of an array, each checked for UTF-8 as it is read.
    pub(crate) fn strings(&self, key: &str) -> Result<Option<Strings<'_>>, GgufError> {
        let array = self.array(key, "an array of strings", |kind| kind == Kind::String)?;
        Ok(array.map(|Array { bytes, count, .. }| Strings {
            key: key.to_owned(),
            bytes,
            left: count,
            base: bytes.as_ptr() as usize - self.map.as_ptr() as usize,
            offset: 0,
        }))
    }

    /// The integers of an array.
    pub(crate) fn integers(&self, key: &str) -> Result<Option<Vec<i64>>, GgufError> {
        let is_integer = |kind| integer(kind, &[0; 8]).is_some();
        let array = self.array(key, "an array of integers", is_integer)?;
        Ok(array.map(|Array { bytes, kind, .. }| {
            let width = kind.width().unwrap_or(1) as usize;
            bytes
                .chunks_exact(width)
                .filter_map(|bytes| integer(kind, bytes))
                .collect()
        }))
    }

    /// The 32-bit floats of an array.
    pub(crate) fn floats(&self, key: &str) -> Result<Option<Vec<f32>>, GgufError> {
        let array = self.array(key, "an array of floats", |kind| kind == Kind::F32)?;
        Ok(array.map(|Array { bytes, .. }| {
            bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect()
        }))
    }

    /// Keys that begin with `prefix`.
    pub(crate) fn keys_below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.entries
            .keys()
            .map(String::as_str)
            .filter(move |key| key.starts_with(prefix))
    }

    fn scalar<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        read: impl FnOnce(Kind, &'a [u8]) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(entry) = self.entries.get(key) else {
            return Ok(None);
        };
        match read(entry.kind, &self.map[entry.bytes.clone()]) {
            Some(value) => Ok(Some(value)),
            None => Err(wrong_type(key, entry.kind, expected)),
        }
    }

    fn array(
        &self,
        key: &str,
        expected: &'static str,
        accepts: impl FnOnce(Kind) -> bool,
    ) -> Result<Option<Array<'_>>, GgufError> {
        let Some(entry) = self.entries.get(key) else {
            return Ok(None);
        };
        match entry.elements {
            Some((kind, count)) if accepts(kind) => {
                let bytes = &self.map[entry.bytes.clone()];
                Ok(Some(Array { bytes, kind, count }))
            }
            _ => Err(wrong_type(key, entry.kind, expected)),
        }
    }
}

fn wrong_type(key: &str, found: Kind, expected: &'static str) -> GgufError {
    GgufError::WrongType {
        key: key.to_owned(),
        found: found.name(),
        expected,
    }
}

/// Iterator over the strings of an array.
pub(crate) struct Strings<'a> {
    key: String,
    bytes: &'a [u8],
    left: usize,
    base: usize,
    offset: usize,
}

impl<'a> Iterator for Strings<'a> {
    type Item = Result<&'a str, GgufError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        // The walk that built the index has checked every length.
        let (len, rest) = self.bytes.split_first_chunk::<8>()?;
        let (text, rest) = rest.split_at_checked(u64::from_le_bytes(*len) as usize)?;
        let offset = self.base + self.offset;
        self.offset += 8 + text.len();
        self.bytes = rest;
        Some(std::str::from_utf8(text).map_err(|_| GgufError::Damaged {
            what: format!("a string of {} is not UTF-8", self.key),
            offset: offset as u64,
        }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left))
    }
}

fn integer(kind: Kind, bytes: &[u8]) -> Option<i64> {
    let raw = |width: usize| {
        let mut value = [0u8; 8];
        value[..width].copy_from_slice(&bytes[..width]);
        u64::from_le_bytes(value)
    };
    match kind {
        Kind::U8 => Some(raw(1) as i64),
        Kind::I8 => Some(i64::from(raw(1) as i8)),
        Kind::U16 => Some(raw(2) as i64),
        Kind::I16 => Some(i64::from(raw(2) as i16)),
        Kind::U32 => Some(raw(4) as i64),
        Kind::I32 => Some(i64::from(raw(4) as i32)),
        Kind::U64 => i64::try_from(raw(8)).ok(),
        Kind::I64 => Some(raw(8) as i64),
        _ => None,
    }
}

/// Walks the metadata once.
fn index(bytes: &[u8]) -> Result<HashMap<String, Entry>, GgufError> {
    let mut reader = Reader { bytes, at: 0 };
    reader.header()?;
    reader.u64("the tensor count")?;
    let count = reader.key_count()?;
    let mut entries = HashMap::new();
    for _ in 0..count {
        let offset = reader.at as u64;
        let key = reader.key()?.to_owned();
        let entry = reader.entry(&key)?;
        if entries.insert(key.clone(), entry).is_some() {
            return Err(GgufError::Damaged {
                what: format!("the key {key} a second time"),
                offset,
            });
        }
    }
    Ok(entries)
}

/// A position in the file. Every read names what it is after.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: u64, what: &str) -> Result<&'a [u8], GgufError> {
        let left = (self.bytes.len() - self.at) as u64;
        if count > left {
            return Err(GgufError::Truncated {
                what: what.to_owned(),
                offset: self.at as u64,
                needed: count,
                len: self.bytes.len() as u64,
            });
        }
        let taken = &self.bytes[self.at..self.at + count as usize];
        self.at += count as usize;
        Ok(taken)
    }

    fn u32(&mut self, what: &str) -> Result<u32, GgufError> {
        let bytes = self.take(4, what)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn u64(&mut self, what: &str) -> Result<u64, GgufError> {
        let low = u64::from(self.u32(what)?);
        Ok(low | u64::from(self.u32(what)?) << 32)
    }

    fn header(&mut self) -> Result<(), GgufError> {
        let start = &self.bytes[..self.bytes.len().min(4)];
        if start != MAGIC {
            return Err(GgufError::Foreign {
                found: String::from_utf8_lossy(start).into_owned(),
            });
        }
        self.at = 4;
        match self.u32("the version")? {
            2 | 3 => Ok(()),
            version if version.swap_bytes() <= 3 => Err(GgufError::BigEndian),
            version => Err(GgufError::Version { version }),
        }
    }

    fn key_count(&mut self) -> Result<u64, GgufError> {
        let count = self.u64("the key count")?;
        let needed = count.saturating_mul(LEAST_BYTES_PER_KEY);
        let left = (self.bytes.len() - self.at) as u64;
        if needed > left {
            let what = format!("a table of {count} keys");
            let (offset, len) = (self.at as u64, self.bytes.len() as u64);
            return Err(GgufError::Truncated {
                what,
                offset,
                needed,
                len,
            });
        }
        Ok(count)
    }

    fn damaged<T>(&self, what: String) -> Result<T, GgufError> {
        Err(GgufError::Damaged {
            what,
            offset: self.at as u64,
        })
    }

    fn key(&mut self) -> Result<&'a str, GgufError> {
        let length = self.u64("the length of a key")?;
        if length > MAX_KEY_BYTES {
            return self.damaged(format!("a key of {length} bytes (at most {MAX_KEY_BYTES})"));
        }
        let bytes = self.take(length, "a key")?;
        std::str::from_utf8(bytes).or_else(|_| self.damaged("a key that is not UTF-8".into()))
    }

    fn kind(&mut self, key: &str) -> Result<Kind, GgufError> {
        let number = self.u32(key)?;
        match Kind::from_number(number) {
            Some(kind) => Ok(kind),
            None => self.damaged(format!("{key} has the unknown value type {number}")),
        }
    }

    fn entry(&mut self, key: &str) -> Result<Entry, GgufError> {
        let kind = self.kind(key)?;
        match kind {
            Kind::String => {
                let length = self.u64(key)?;
                let end = self.at + self.take(length, key)?.len();
                Ok(Entry {
                    kind,
                    bytes: end - length as usize..end,
                    elements: None,
                })
            }
            Kind::Array => {
                let (element, count) = self.array_head(key)?;
                let start = self.at;
                self.skip(element, count, key, 1)?;
                let elements = Some((element, count as usize));
                Ok(Entry {
                    kind,
                    bytes: start..self.at,
                    elements,
                })
            }
            _ => {
                let start = self.at;
                self.skip(kind, 1, key, 0)?;
                Ok(Entry {
                    kind,
                    bytes: start..self.at,
                    elements: None,
                })
            }
        }
    }

    fn array_head(&mut self, key: &str) -> Result<(Kind, u64), GgufError> {
        let element = self.kind(key)?;
        Ok((element, self.u64(key)?))
    }

    /// Steps over `count` values.
    fn skip(&mut self, kind: Kind, count: u64, key: &str, depth: usize) -> Result<(), GgufError> {
        if let Some(width) = kind.width() {
            return self.take(count.saturating_mul(width), key).map(drop);
        }
        if depth >= MAX_ARRAY_DEPTH {
            return self.damaged(format!(
                "{key} nests arrays more than {MAX_ARRAY_DEPTH} deep"
            ));
        }
        // Each round consumes at least eight bytes or fails, so the file's size bounds the loop.
        for _ in 0..count {
            if kind == Kind::String {
                let length = self.u64(key)?;
                self.take(length, key)?;
            } else {
                let (element, count) = self.array_head(key)?;
                self.skip(element, count, key, depth + 1)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf_writer::GgufWriter;
    use proptest::prelude::*;

    fn sample() -> Vec<u8> {
        GgufWriter::new(3)
            .string("general.architecture", "llama")
            .boolean("flag", true)
            .u32("llama.context_length", 2048)
            .strings("words", &["alpha", "", "béta"])
            .i32s("numbers", &[-1, 0, 7])
            .f32s("scores", &[0.5, -2.0])
            .finish()
    }

    fn open(bytes: &[u8]) -> Result<Gguf, crate::Error> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), bytes).expect("write");
        Gguf::open(file.path())
    }

    fn fault(bytes: &[u8]) -> GgufError {
        index(bytes).expect_err("must fail")
    }

    #[test]
    fn reads_every_kind_it_offers() {
        let gguf = open(&sample()).expect("opens");
        assert_eq!(gguf.string("general.architecture"), Ok(Some("llama")));
        assert_eq!(gguf.boolean("flag"), Ok(Some(true)));
        assert_eq!(gguf.unsigned("llama.context_length"), Ok(Some(2048)));
        assert_eq!(gguf.integers("numbers"), Ok(Some(vec![-1, 0, 7])));
        assert_eq!(gguf.floats("scores"), Ok(Some(vec![0.5, -2.0])));
        let words = gguf.strings("words").expect("strings").expect("present");
        let words: Result<Vec<_>, _> = words.collect();
        assert_eq!(words, Ok(vec!["alpha", "", "béta"]));
        assert_eq!(gguf.string("absent"), Ok(None));
    }

    #[test]
    fn a_key_of_another_type_is_named() {
        let gguf = open(&sample()).expect("opens");
        let error = gguf.unsigned("general.architecture").expect_err("a string");
        assert_eq!(
            error.to_string(),
            "the metadata key general.architecture is a string, expected an integer from 0 to 4294967295"
        );
    }

    #[test]
    fn foreign_and_unsupported_files_are_named() {
        assert!(matches!(
            fault(b"PK\x03\x04 a zip"),
            GgufError::Foreign { .. }
        ));
        assert!(matches!(fault(b""), GgufError::Foreign { .. }));
        assert_eq!(
            fault(&GgufWriter::new(1).finish()),
            GgufError::Version { version: 1 }
        );
        assert_eq!(
            fault(&GgufWriter::new(4).finish()),
            GgufError::Version { version: 4 }
        );
        assert_eq!(fault(b"GGUF\0\0\0\x03"), GgufError::BigEndian);
    }

    #[test]
    fn every_truncation_is_an_error() {
        let whole = sample();
        for len in 0..whole.len() {
            assert!(
                index(&whole[..len]).is_err(),
                "{len} of {} bytes were accepted",
                whole.len()
            );
        }
        assert!(index(&whole).is_ok());
    }

    #[test]
    fn an_announced_length_is_not_believed() {
        let mut bytes = GgufWriter::new(3).strings("words", &["x"]).finish();
        let len = bytes.len();
        bytes[len - 9..len - 1].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(fault(&bytes), GgufError::Truncated { .. }));
        let mut bytes = GgufWriter::new(3).finish();
        bytes[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(fault(&bytes), GgufError::Truncated { .. }));
    }

    #[test]
    fn a_second_key_of_the_same_name_is_refused() {
        let bytes = GgufWriter::new(3).u32("a", 1).u32("a", 2).finish();
        assert!(matches!(fault(&bytes), GgufError::Damaged { .. }));
    }

    proptest! {
        #[test]
        fn no_input_panics(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
            let mut bytes = sample();
            for (at, value) in flips {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Ok(entries) = index(&bytes) {
                for entry in entries.values() {
                    prop_assert!(entry.bytes.end <= bytes.len());
                }
            }
        }
    }
}
