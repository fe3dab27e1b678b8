//! The ceiling of any consumer: the client's batch interface alone, which takes every record and does nothing with it.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use testudo::kafka::ffi::FetchQueue;

use crate::machine::cpu_s;
use crate::reading::Input;
use crate::rig::Rig;

/// Messages taken in one call, as in Testudo's own consumer.
const BATCH: usize = 1_024;
const STANDSTILL: Duration = Duration::from_secs(20);

/// One pass of a bare consumer.
pub struct Pass {
    /// From the first record to the last.
    pub seconds: f64,
    /// Processor seconds of this process.
    pub cpu_s: f64,
}

/// Reads all of an input once, read-committed and with checksums, as Testudo does.
///
/// # Errors
/// When the topic does not come to its end.
pub fn pass(rig: &Rig, input: &Input) -> anyhow::Result<Pass> {
    let mut config = rig.client();
    config
        .set("group.id", "ceiling")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("check.crcs", "true")
        .set("fetch.queue.backoff.ms", "2");
    let client: BaseConsumer = config.create()?;
    let mut left: BTreeMap<i32, i64> = BTreeMap::new();
    let mut list = TopicPartitionList::new();
    for (partition, (low, high)) in (0..).zip(rig.extent(&input.topic)?) {
        list.add_partition_offset(&input.topic, partition, Offset::Offset(low))?;
        left.insert(partition, high - low);
    }
    let wanted: i64 = left.values().sum();
    let mut queue = FetchQueue::new(client.client()).context("no queue")?;
    let cpu_before = cpu_s(std::process::id());
    client.assign(&list)?;
    for partition in left.keys() {
        queue.forward(client.client(), &input.topic, *partition);
    }
    let (mut seen, mut bytes, mut errors) = (0_i64, 0, 0);
    let (mut first, mut last) = (None, Instant::now());
    while seen < wanted {
        // What was fetched before its partition was forwarded comes here.
        while let Some(message) = client.poll(Duration::ZERO) {
            seen += i64::from(message.is_ok());
        }
        let taken = queue.consume(BATCH, Duration::from_millis(100), |message| match message.error() {
            Some(_) => errors += 1,
            None => {
                seen += 1;
                bytes += message.key().map_or(0, <[u8]>::len) + message.value().map_or(0, <[u8]>::len);
            }
        });
        if taken > 0 {
            last = Instant::now();
            first.get_or_insert(last);
        }
        ensure!(last.elapsed() < STANDSTILL, "stands still at {seen} of {wanted}, with {errors} errors");
    }
    black_box(bytes);
    // The queue must go before its client.
    drop(queue);
    let seconds = first.map_or(0.0, |first| last.duration_since(first).as_secs_f64());
    Ok(Pass { seconds, cpu_s: cpu_s(std::process::id()) - cpu_before })
}
