//! A frame of Kafka's protocol, as far as the proxy looks into it: the first bytes of a request and of an answer.
//!
//! # Source
//! Kafka's protocol guide: a frame is a length (4 bytes, big endian) and so many bytes. A request begins with API key (2), API version
//! (2) and correlation id (4), then names in plain text; its answer begins with the same correlation id.

use std::io::{self, Read, Write};

/// Brokers refuse longer ones (`socket.request.max.bytes`).
const BYTES_MAX: usize = 100 << 20;
/// Client id, transactional id and group stand within the first bytes of a request.
const NAMES_WITHIN: usize = 1_024;

/// A request or an answer, without its length.
#[derive(Clone, Debug)]
pub struct Frame(Vec<u8>);

impl Frame {
    /// The next request; `None` when the client has ended, or says what no client says.
    pub fn request(from: impl Read) -> Option<Self> {
        Self::read(from, 8)
    }

    /// The next answer; `None` when the broker has ended.
    pub fn answer(from: impl Read) -> Option<Self> {
        Self::read(from, 4)
    }

    fn read(mut from: impl Read, least: usize) -> Option<Self> {
        let mut length = [0; 4];
        from.read_exact(&mut length).ok()?;
        let length = usize::try_from(i32::from_be_bytes(length)).ok()?;
        if !(least..=BYTES_MAX).contains(&length) {
            return None;
        }
        let mut bytes = vec![0; length];
        from.read_exact(&mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// Sends it, length first, in one write.
    pub fn write(&self, mut to: impl Write) -> io::Result<()> {
        let mut whole = Vec::with_capacity(self.0.len() + 4);
        whole.extend((self.0.len() as u32).to_be_bytes());
        whole.extend(&self.0);
        to.write_all(&whole)
    }

    /// A request's API key.
    pub fn api_key(&self) -> i16 {
        i16::from_be_bytes([self.0[0], self.0[1]])
    }

    /// A request's correlation id.
    pub fn correlation(&self) -> i32 {
        self.number_at(4)
    }

    /// The correlation id that an answer answers.
    pub fn answers(&self) -> i32 {
        self.number_at(0)
    }

    /// The same request under another correlation id.
    pub fn renumbered(&self, correlation: i32) -> Self {
        let mut other = self.clone();
        other.0[4..8].copy_from_slice(&correlation.to_be_bytes());
        other
    }

    /// Whether a request carries a name: a client id, a transactional id, a group.
    pub fn names(&self, name: &str) -> bool {
        let beginning = &self.0[..self.0.len().min(NAMES_WITHIN)];
        name.is_empty() || beginning.windows(name.len()).any(|window| window == name.as_bytes())
    }

    /// The error code in the answer to `request`, where that is an EndTxn of version 0 to 2, or a TxnOffsetCommit of version 3 or
    /// more, of whose partitions the first one's counts.
    pub fn error_code(&self, request: &Self) -> Option<i16> {
        let place = match request.api_key() {
            // EndTxn: behind correlation id and throttle time.
            26 => 8,
            // TxnOffsetCommit: behind correlation id, tags, throttle time, number of topics; a name; number of partitions, a partition.
            28 => 16 + usize::from(self.0.get(10)?.checked_sub(1)?),
            _ => return None,
        };
        Some(i16::from_be_bytes([*self.0.get(place)?, *self.0.get(place + 1)?]))
    }

    fn number_at(&self, place: usize) -> i32 {
        i32::from_be_bytes([self.0[place], self.0[place + 1], self.0[place + 2], self.0[place + 3]])
    }
}
