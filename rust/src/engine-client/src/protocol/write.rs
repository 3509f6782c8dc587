// SPDX-License-Identifier: Apache-2.0

//! Writing MessagePack into a growing buffer. Writing to memory cannot fail, so nothing here does.

use bytes::Bytes;
use rmp::encode;
use rmpv::Value;

use super::limits::ZERO_COPY_THRESHOLD;

/// One message under construction: the MessagePack frame and its out-of-band frames.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    buf: Vec<u8>,
    aux: Vec<Bytes>,
}

impl Writer {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self {
            buf: Vec::with_capacity(capacity),
            aux: Vec::new(),
        }
    }

    pub(crate) fn into_parts(self) -> (Vec<u8>, Vec<Bytes>) {
        (self.buf, self.aux)
    }

    pub(crate) fn array(&mut self, count: usize) {
        let count = u32::try_from(count).expect("an array of over 2^32 elements was never built");
        infallible(encode::write_array_len(&mut self.buf, count));
    }

    pub(crate) fn map(&mut self, count: usize) {
        let count = u32::try_from(count).expect("a map of over 2^32 entries was never built");
        infallible(encode::write_map_len(&mut self.buf, count));
    }

    /// A map whose entries were written apart, because their count was not known.
    pub(crate) fn append_map(&mut self, count: usize, entries: Writer) {
        self.map(count);
        self.buf.extend_from_slice(&entries.buf);
        self.aux.extend(entries.aux);
    }

    pub(crate) fn nil(&mut self) {
        infallible(encode::write_nil(&mut self.buf));
    }

    pub(crate) fn bool(&mut self, value: bool) {
        infallible(encode::write_bool(&mut self.buf, value));
    }

    pub(crate) fn u64(&mut self, value: u64) {
        infallible(encode::write_uint(&mut self.buf, value));
    }

    pub(crate) fn i64(&mut self, value: i64) {
        infallible(encode::write_sint(&mut self.buf, value));
    }

    pub(crate) fn f64(&mut self, value: f64) {
        infallible(encode::write_f64(&mut self.buf, value));
    }

    pub(crate) fn str(&mut self, value: &str) {
        infallible(encode::write_str(&mut self.buf, value));
    }

    /// Raw bytes: inline as extension 3 below the threshold, else as a further frame.
    pub(crate) fn raw(&mut self, bytes: &Bytes) {
        if bytes.len() < ZERO_COPY_THRESHOLD {
            self.raw_inline(bytes);
        } else {
            self.aux.push(bytes.clone());
            self.u64(self.aux.len() as u64);
        }
    }

    pub(crate) fn raw_inline(&mut self, bytes: &[u8]) {
        let count = u32::try_from(bytes.len()).expect("inline arrays are below the threshold");
        infallible(encode::write_ext_meta(&mut self.buf, count, 3));
        self.buf.extend_from_slice(bytes);
    }

    pub(crate) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            Some(value) => write(self, value),
            None => self.nil(),
        }
    }

    pub(crate) fn seq<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.array(items.len());
        items.iter().for_each(|item| write(self, item));
    }

    /// Token ids: a prompt has thousands, so each is written in its shortest form without a call.
    pub(crate) fn u32s(&mut self, items: &[u32]) {
        self.array(items.len());
        self.buf.reserve(3 * items.len());
        for &id in items {
            match id.to_be_bytes() {
                [0, 0, 0, low @ 0..=0x7f] => self.buf.push(low),
                [0, 0, 0, low] => self.buf.extend_from_slice(&[0xcc, low]),
                [0, 0, high, low] => self.buf.extend_from_slice(&[0xcd, high, low]),
                [a, b, c, d] => self.buf.extend_from_slice(&[0xce, a, b, c, d]),
            }
        }
    }

    pub(crate) fn value(&mut self, value: &Value) {
        rmpv::encode::write_value(&mut self.buf, value).expect("writing to memory cannot fail");
    }
}

/// Writing to a `Vec` has no error to report.
fn infallible<T, E: std::fmt::Debug>(result: Result<T, E>) {
    result.expect("writing to memory cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_ids_take_the_shortest_form() {
        let edges = [0, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000, u32::MAX];
        let (mut fast, mut plain) = (Writer::with_capacity(0), Writer::with_capacity(0));
        fast.u32s(&edges);
        plain.seq(&edges, |w, id| w.u64(u64::from(*id)));
        assert_eq!(fast.into_parts().0, plain.into_parts().0);
    }
}
