//! Order-free sums over records: whoever adds up the same records, in whatever order and however cut, has the same sum.
//!
//! A record's hash is the xxh3-128 of its identity, key and value, each part with its length in front. The sum is the wrapping sum of
//! the hashes, beside their number: a record more, less, doubled or changed shows in it. It guards against faults, not against forgers.

use std::ops::AddAssign;

use twox_hash::XxHash3_128;

/// Stands in place of a length where a key or value is null.
const NULL: u32 = u32::MAX;

/// Records added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub records: u64,
    /// The wrapping sum of their hashes.
    pub hash: u128,
}

impl Sum {
    /// Adds one record by its hash.
    pub fn add(&mut self, hash: u128) {
        self.records += 1;
        self.hash = self.hash.wrapping_add(hash);
    }

    /// Takes a record out again that was added before.
    pub fn take_out(&mut self, hash: u128) {
        self.records -= 1;
        self.hash = self.hash.wrapping_sub(hash);
    }
}

impl AddAssign for Sum {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.hash = self.hash.wrapping_add(other.hash);
    }
}

/// Hashes records, one after the other, in a buffer that it keeps.
#[derive(Debug, Default)]
pub struct Hasher {
    bytes: Vec<u8>,
}

impl Hasher {
    /// The hash of an input record. Its partition has a sum of its own, so its identity is offset and Kafka timestamp.
    pub fn input(&mut self, offset: i64, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> u128 {
        self.bytes.clear();
        self.bytes.extend_from_slice(&offset.to_le_bytes());
        self.body(timestamp_ms, key, value);
        XxHash3_128::oneshot(&self.bytes)
    }

    /// The hash of an output record. Nobody knows its offset before it is produced, so its identity is its Kafka timestamp.
    pub fn output<'h>(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'h str, &'h [u8])>,
    ) -> u128 {
        self.bytes.clear();
        self.body(timestamp_ms, key, value);
        for (name, value) in headers {
            self.part(Some(name.as_bytes()));
            self.part(Some(value));
        }
        XxHash3_128::oneshot(&self.bytes)
    }

    fn body(&mut self, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.bytes.extend_from_slice(&timestamp_ms.to_le_bytes());
        self.part(key);
        self.part(value);
    }

    fn part(&mut self, part: Option<&[u8]>) {
        // Kafka's own lengths are 32 bits, signed.
        let length = part.map_or(NULL, |part| part.len() as u32);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(part.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(offset: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> u128 {
        Hasher::default().input(offset, 7, key, value)
    }

    /// The ledger is kept for years: another program, another machine must come to the same.
    #[test]
    fn a_hash_is_the_same_for_ever() {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&[5, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&[1, 0, 0, 0, b'k', 0xff, 0xff, 0xff, 0xff]);

        assert_eq!(hash(5, Some(b"k"), None), XxHash3_128::oneshot(&bytes));
        assert_eq!(XxHash3_128::oneshot(b""), 0x99aa_06d3_0147_98d8_6001_c324_468d_497f, "xxh3-128 of nothing, as published");
    }

    #[test]
    fn whatever_differs_shows() {
        let all = [
            hash(1, Some(b"k"), Some(b"v")),
            hash(2, Some(b"k"), Some(b"v")),
            hash(1, Some(b"kv"), Some(b"")),
            hash(1, Some(b""), Some(b"kv")),
            hash(1, None, Some(b"kv")),
            hash(1, Some(b"kv"), None),
        ];

        let distinct: std::collections::BTreeSet<u128> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn values_that_change_places_show() {
        let sum = |values: [&[u8]; 2]| {
            let mut sum = Sum::default();
            values.iter().zip(0..).for_each(|(value, offset)| sum.add(hash(offset, None, Some(value))));
            sum
        };

        assert_ne!(sum([b"a", b"b"]), sum([b"b", b"a"]));
    }

    #[test]
    fn headers_count_in_an_output() {
        let of = |headers: &[(&str, &[u8])]| Hasher::default().output(1, None, Some(b"v"), headers.iter().copied());

        assert_ne!(of(&[("reason", b"late")]), of(&[("reason", b"tombstone")]));
        assert_ne!(of(&[]), of(&[("", b"")]));
    }
}
