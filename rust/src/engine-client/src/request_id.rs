// SPDX-License-Identifier: Apache-2.0

//! Internal request ids: 17 bytes that say where an output belongs, so that no table is searched.
//!
//! `NNNNN-KKKKKKKKKKK`: five characters that differ between frontend processes (several may share
//! an engine, and an engine may outlive a frontend), then 64 bits in base 64: shard, slot of its
//! table, generation of the slot.

/// Length of an id in bytes.
pub(crate) const ID_LEN: usize = NONCE_LEN + 11;
const NONCE_LEN: usize = 6;
const ALPHABET: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_.";
/// Slots that a shard can address.
pub(crate) const MAX_SLOTS: usize = 1 << 24;

const fn decode_table() -> [u8; 256] {
    let mut table = [0xff; 256];
    let mut at = 0;
    while at < 64 {
        table[ALPHABET[at] as usize] = at as u8;
        at += 1;
    }
    table
}
static DECODE: [u8; 256] = decode_table();

/// Where an output belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RequestKey {
    pub(crate) shard: u8,
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl RequestKey {
    fn pack(self) -> u64 {
        let slot = u64::from(self.slot) & (MAX_SLOTS as u64 - 1);
        u64::from(self.shard) << 56 | slot << 32 | u64::from(self.generation)
    }

    fn unpack(bits: u64) -> Self {
        Self {
            shard: (bits >> 56) as u8,
            slot: (bits >> 32) as u32 & (MAX_SLOTS as u32 - 1),
            generation: bits as u32,
        }
    }
}

/// The part of the ids that is this process's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Nonce([u8; NONCE_LEN]);

impl Nonce {
    pub(crate) fn random() -> Self {
        let mut bits = uuid::Uuid::new_v4().as_u128();
        let mut out = [b'-'; NONCE_LEN];
        for byte in &mut out[..NONCE_LEN - 1] {
            *byte = ALPHABET[(bits & 63) as usize];
            bits >>= 6;
        }
        Self(out)
    }

    pub(crate) fn id(&self, key: RequestKey) -> String {
        let bits = key.pack();
        let mut id = String::with_capacity(ID_LEN);
        id.extend(self.0.iter().map(|byte| char::from(*byte)));
        id.extend(
            (0..11)
                .rev()
                .map(|at| char::from(ALPHABET[(bits >> (6 * at)) as usize & 63])),
        );
        id
    }

    /// The key of an id of this process; `None` for another's.
    #[inline]
    pub(crate) fn key(&self, id: &[u8]) -> Option<RequestKey> {
        let digits = id
            .strip_prefix(&self.0)
            .filter(|digits| digits.len() == 11)?;
        let (mut bits, mut seen) = (0u64, 0);
        for digit in digits {
            let value = DECODE[usize::from(*digit)];
            seen |= value;
            bits = bits << 6 | u64::from(value);
        }
        // No digit's value has this bit; what is none has all.
        (seen & 0x80 == 0).then(|| RequestKey::unpack(bits))
    }

    /// Ids of this process anywhere in a message that can't be decoded.
    pub(crate) fn find_keys<'a>(
        &'a self,
        bytes: &'a [u8],
    ) -> impl Iterator<Item = RequestKey> + 'a {
        bytes.windows(ID_LEN).filter_map(|window| self.key(window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_id_says_where_it_belongs(shard: u8, slot in 0..MAX_SLOTS as u32, generation: u32) {
            let key = RequestKey { shard, slot, generation };
            let nonce = Nonce::random();
            let id = nonce.id(key);
            prop_assert_eq!(id.len(), ID_LEN);
            prop_assert_eq!(nonce.key(id.as_bytes()), Some(key));
            let other = Nonce(*b"!!!!!-");
            prop_assert_eq!(other.key(id.as_bytes()), None);
        }

        #[test]
        fn any_bytes_are_no_id_or_a_key(bytes: Vec<u8>) {
            Nonce::random().key(&bytes);
        }
    }

    #[test]
    fn ids_are_found_in_a_broken_message() {
        let nonce = Nonce::random();
        let keys = [7, 9].map(|slot| RequestKey {
            shard: 1,
            slot,
            generation: 3,
        });
        let message = format!("\u{1}x{}yy{}", nonce.id(keys[0]), nonce.id(keys[1]));
        assert_eq!(
            nonce.find_keys(message.as_bytes()).collect::<Vec<_>>(),
            keys
        );
    }
}
