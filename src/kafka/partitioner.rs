//! Where a key's records belong: the partitioners of Kafka's clients, needed to check inputs (KEY-1) and to place outputs.

use serde::{Deserialize, Serialize};

/// How a topic's producers place keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Partitioner {
    /// Java clients, and librdkafka's `murmur2`/`murmur2_random`.
    #[default]
    Murmur2,
    /// librdkafka's default, `consistent`/`consistent_random`.
    Crc32,
    /// Something else: the tenant promises that a key stays in one partition, and nothing is checked.
    None,
}

impl Partitioner {
    /// The partition of `key` among `partitions`; `None` when the partitioner is not known.
    pub fn place(self, key: &[u8], partitions: i32) -> Option<i32> {
        match self {
            Self::Murmur2 => Some(((murmur2(key) & 0x7fff_ffff) as i32) % partitions),
            Self::Crc32 => Some((crc32fast::hash(key) % partitions as u32) as i32),
            Self::None => None,
        }
    }
}

/// The 32-bit hash of `org.apache.kafka.common.utils.Utils.murmur2`.
pub fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    let mut hash = SEED ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        k = k.wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_agrees_with_javas_published_vectors() {
        // org.apache.kafka.common.utils.UtilsTest#testMurmur2
        let vectors: [(&str, i32); 6] = [
            ("21", -973932308),
            ("foobar", -790332482),
            ("a-little-bit-long-string", -985981536),
            ("a-little-bit-longer-string", -1486304829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
            ("abc", 479470107),
        ];

        for (key, hash) in vectors {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    #[test]
    fn places_stay_within_the_partitions() {
        for key in ["", "a", "tortoise_1", "C2:9A:9F:E5:58:27"] {
            for partitions in [1, 2, 7, 64] {
                for partitioner in [Partitioner::Murmur2, Partitioner::Crc32] {
                    let place = partitioner.place(key.as_bytes(), partitions).expect("known partitioner");
                    assert!((0..partitions).contains(&place));
                }
            }
        }
    }
}
