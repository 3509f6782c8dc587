// SPDX-License-Identifier: Apache-2.0

//! Why a message was not understood.

/// A message or one of its fields breaks the wire format.
///
/// The text names fields, types and sizes only, never a value that a user sent or received: it may
/// appear in another user's error body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside the field, or a header announces more than is left.
    #[error("{field}: the message ends early ({left} bytes left, {needed} needed)")]
    Truncated {
        /// Field being read.
        field: &'static str,
        /// Bytes left in the frame.
        left: usize,
        /// Bytes the field needs at least.
        needed: usize,
    },
    /// The field has another MessagePack type.
    #[error("{field}: expected {expected}, found {found}")]
    Type {
        /// Field being read.
        field: &'static str,
        /// Type the protocol wants.
        expected: &'static str,
        /// Type found.
        found: &'static str,
    },
    /// A number outside the field's range.
    #[error("{field}: the number is outside {range}")]
    Range {
        /// Field being read.
        field: &'static str,
        /// Accepted range.
        range: &'static str,
    },
    /// An enum value this version doesn't know.
    #[error("{field}: unknown value {value}")]
    UnknownValue {
        /// Field being read.
        field: &'static str,
        /// The number on the wire.
        value: i64,
    },
    /// An array without its required element, a map without its required key.
    #[error("{field}: missing")]
    Missing {
        /// Field that is missing.
        field: &'static str,
    },
    /// Text that is not UTF-8.
    #[error("{field}: not UTF-8")]
    Utf8 {
        /// Field being read.
        field: &'static str,
    },
    /// A MessagePack extension other than 3 (raw bytes). 1 and 2 are pickles: never loaded.
    #[error("{field}: extension type {code} is refused (only 3, raw bytes, is accepted)")]
    Extension {
        /// Field being read.
        field: &'static str,
        /// Extension code.
        code: i8,
    },
    /// A reference to an out-of-band frame that the message doesn't have.
    #[error("{field}: refers to frame {index}, the message has {count}")]
    Frame {
        /// Field being read.
        field: &'static str,
        /// Frame number, counted from the MessagePack frame as 0.
        index: u64,
        /// Frames of the message.
        count: usize,
    },
    /// Shape, dtype and byte count of an array disagree, or its dtype is unknown here.
    #[error("{field}: {what}")]
    Array {
        /// Field being read.
        field: &'static str,
        /// What disagrees.
        what: &'static str,
    },
    /// Bytes after the end of the message.
    #[error("{field}: bytes follow the end of the message")]
    Trailing {
        /// Message being read.
        field: &'static str,
    },
    /// Values nested deeper than [`super::limits::MAX_DEPTH`].
    #[error("{field}: nested deeper than {limit} levels")]
    Depth {
        /// Field being read.
        field: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The message as a whole has no meaning here.
    #[error("{0}")]
    Message(&'static str),
}
