//! Where the walk reads from: partitions side by side, each once and in order, each only as far as it is asked for.

use std::collections::HashMap;
use std::sync::Arc;

use crate::audit::AuditError;
use crate::audit::facts::InputRecord;
use crate::audit::fetch::{Fetcher, Next, Queue, unreadable};
use crate::audit::history::History;
use crate::kafka::{Settings, TopicPartition};

/// What all partitions together may hold back, in bytes as they were sent: one half in queues, one half in answers under way.
const BYTES_MAX: usize = 256 << 20;
/// Of these a partition has no more than this in each half, nor less than that: of very many the sum is above [`BYTES_MAX`].
const SHARE_MAX: usize = 1 << 20;
const SHARE_MIN: usize = 64 << 10;

/// Partitions that are read side by side.
pub trait Source {
    /// The next committed record of a partition before `end`; `None` where there is none. What an operator left out may be jumped over.
    ///
    /// # Errors
    /// [`AuditError`] when it cannot be read.
    fn next(&mut self, partition: &TopicPartition, end: i64) -> Result<Option<InputRecord>, AuditError>;
}

/// Partitions of a cluster, read committed; what an operator left out is not read.
pub struct Streams {
    // Before the client: a queue must not outlive it.
    streams: HashMap<TopicPartition, Stream>,
    client: Fetcher,
    history: Arc<History>,
}

struct Stream {
    queue: Queue,
    /// Fetched, but behind what was asked for.
    held: Option<Next>,
    is_paused: bool,
}

impl Streams {
    /// Opens partitions, each at this offset, or at what is its first record by now.
    ///
    /// # Errors
    /// [`AuditError::Kafka`].
    pub fn open(
        settings: &Settings,
        group: &str,
        partitions: &[(TopicPartition, i64)],
        history: &Arc<History>,
    ) -> Result<Self, AuditError> {
        let share = share(partitions.len());
        let (queued, answer) = ((share >> 10).to_string(), share.to_string());
        let bounds = [
            ("queued.min.messages", "2000"),
            ("queued.max.messages.kbytes", queued.as_str()),
            ("fetch.message.max.bytes", answer.as_str()),
        ];
        let client = Fetcher::new(settings, group, &bounds)?;
        let mut streams = HashMap::with_capacity(partitions.len());
        for (partition, _) in partitions {
            let queue = client.queue(&partition.topic, [partition.partition])?;
            streams.insert(partition.clone(), Stream { queue, held: None, is_paused: false });
        }
        client.assign(partitions.iter().map(|(partition, from)| (partition, *from)))?;
        Ok(Self { streams, client, history: history.clone() })
    }
}

/// Bytes for each of so many partitions, in each half.
fn share(partitions: usize) -> usize {
    (BYTES_MAX / 2 / partitions.max(1)).clamp(SHARE_MIN, SHARE_MAX)
}

impl Source for Streams {
    fn next(&mut self, partition: &TopicPartition, end: i64) -> Result<Option<InputRecord>, AuditError> {
        let Some(stream) = self.streams.get_mut(partition) else { return Ok(None) };
        loop {
            let next = match stream.held.take() {
                Some(held) => held,
                None => stream.queue.next(&self.client, || partition.to_string())?,
            };
            let offset = match &next {
                Next::Record(record) => Some(record.offset),
                Next::Unreadable(poison) => Some(poison.offset.0),
                Next::End(_) => None,
            };
            let Some(offset) = offset.filter(|offset| *offset < end) else {
                if matches!(next, Next::Unreadable(_)) && !stream.is_paused {
                    self.client.pause(partition)?;
                    stream.is_paused = true;
                }
                stream.held = Some(next);
                return Ok(None);
            };
            match (self.history.skip_of(partition, offset), next) {
                (Some(skip), _) => {
                    self.client.seek(partition, skip.to)?;
                    if std::mem::take(&mut stream.is_paused) {
                        self.client.resume(partition)?;
                    }
                }
                (None, Next::Unreadable(poison)) => return Err(unreadable(poison)),
                (None, Next::Record(record)) => return Ok(Some(record)),
                (None, Next::End(_)) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::fetch::tests::cluster;
    use crate::audit::history::{Deed, Skip};

    #[test]
    fn partitions_share_what_may_be_held_back() {
        assert_eq!(share(1), SHARE_MAX);
        assert_eq!(share(128), SHARE_MAX);
        assert!(share(600) * 600 * 2 <= BYTES_MAX && share(2_048) * 2_048 * 2 <= BYTES_MAX);
        assert_eq!(share(100_000), SHARE_MIN);
    }

    /// The walk asks for records before an offset, and is given none that an operator left out.
    #[test]
    fn streams_give_what_is_asked_for_and_jump_over_what_was_skipped() {
        let (_cluster, settings) = cluster();
        let skip =
            |from, to| Skip { partition: TopicPartition::new("in", 0), from, to, generation: 1, is_aside: false, deed: Deed::default() };
        let history = Arc::new(History { skips: vec![skip(10, 30), skip(30, 35), skip(90, 100)], ..History::default() });
        let [cut, whole] = [0, 1].map(|partition| TopicPartition::new("in", partition));
        let mut streams = Streams::open(&settings, "audit", &[(cut.clone(), 5), (whole.clone(), 0)], &history).expect("opened");
        let mut before = |partition: &TopicPartition, end| {
            std::iter::from_fn(|| streams.next(partition, end).expect("read")).map(|record| record.offset).collect::<Vec<i64>>()
        };

        assert_eq!(before(&cut, 8), [5, 6, 7]);
        assert_eq!(before(&whole, 3), [0, 1, 2]);
        assert_eq!(before(&cut, 8), [0_i64; 0]);
        assert_eq!(before(&cut, 37), [8, 9, 35, 36]);
        assert_eq!(before(&cut, i64::MAX), (37..90).collect::<Vec<_>>());
        assert_eq!(before(&whole, i64::MAX), (3..100).collect::<Vec<_>>());
        assert_eq!(before(&TopicPartition::new("other", 0), 9), [0_i64; 0]);
    }
}
