//! The tenant of the simulation, and what its producers write: readings in disorder, late ones, wrong ones, tombstones, in
//! transactions and without, under two schemas.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use testudo::kafka::{Headers, NewTopic, Outgoing, TopicPartition};
use testudo::tenant::Tenant;

use super::cluster::Cluster;
use super::faults::Fault;
use super::random::Random;
use crate::harness::{framed, tenant};
use crate::rig::{NOW_MS, READING, alert, reading_datum, zoo};

/// Partitions of the input.
pub const PARTITIONS: i32 = 3;
/// Where the input's logs begin: their first records are long gone.
const LOW: i64 = 17;

const WINDOWS: &str = r#"
[window.updated]
from = "readings"
where = "temperature > 0"
by = ["dev_id"]
over = { tumbling = "10 seconds" }
grace = "5 seconds"
topic = "updated"
[window.updated.select]
readings = "count(*)"
total = "sum(temperature)"
[window.closed]
from = "readings"
by = ["dev_id"]
over = { tumbling = "7 seconds" }
grace = "2 seconds"
emit = "final"
topic = "closed"
[window.closed.select]
readings = "count(*)"
latest = "last_value(temperature ORDER BY at)"
"#;

/// The tenant.
pub fn zoo_tenant() -> Arc<Tenant> {
    static TENANT: OnceLock<Arc<Tenant>> = OnceLock::new();
    let read = || {
        let folder = tempfile::tempdir().expect("a temporary folder");
        tenant(folder.path(), &zoo(&[alert("low", "battery < 2000"), WINDOWS.to_owned()].concat()), READING)
    };
    TENANT.get_or_init(read).clone()
}

/// The schema under an id; they differ in their text.
pub fn writer_schema(id: u32) -> String {
    READING.replacen("\"Reading\",", &format!("\"Reading\",\"doc\":\"version {id}\","), 1)
}

/// The input's topic.
pub fn topic() -> NewTopic {
    NewTopic { name: "in".into(), partitions: PARTITIONS, config: Vec::new() }
}

/// A producer's transaction in one partition of the input.
#[derive(Clone, Copy, Debug, Default)]
struct Upstream {
    epoch: i16,
    sequence: usize,
    is_open: bool,
}

/// Writes the input, record by record.
pub struct Feed {
    random: Random,
    devices: Vec<Vec<String>>,
    upstream: BTreeMap<i32, Upstream>,
    written: usize,
    total: usize,
}

impl Feed {
    /// The input of a seed: so many records.
    pub fn new(seed: u64, total: usize) -> Self {
        let partitioner = zoo_tenant().sources[0].partitioner;
        let mut devices = vec![Vec::new(); PARTITIONS as usize];
        for number in 0..12 {
            let device = format!("d{number}");
            let place = partitioner.place(device.as_bytes(), PARTITIONS).expect("a known partitioner");
            devices[place as usize].push(device);
        }
        Self { random: Random::new(seed, 2), devices, upstream: BTreeMap::new(), written: 0, total }
    }

    /// Creates the input's topic.
    pub fn create(cluster: &mut Cluster) {
        cluster.create(&topic(), LOW);
    }

    /// Whether all is written.
    pub fn is_over(&self) -> bool {
        self.written == self.total
    }

    /// Writes up to `records` more.
    pub fn write(&mut self, cluster: &mut Cluster, records: usize) {
        for _ in 0..records.min(self.total - self.written) {
            let partition = self.random.below(self.devices.len());
            let record = self.record(partition);
            self.append(cluster, partition as i32, &record);
            self.written += 1;
        }
    }

    /// Ends what is open.
    pub fn close(&mut self, cluster: &mut Cluster) {
        for partition in 0..PARTITIONS {
            self.end(cluster, partition, true);
        }
    }

    fn append(&mut self, cluster: &mut Cluster, partition: i32, record: &Outgoing) {
        let upstream = self.upstream.entry(partition).or_default();
        if upstream.is_open || cluster.chances.strikes(Fault::Upstream, 2_500) {
            upstream.is_open = true;
            let log = cluster.log(&TopicPartition::new("in", partition));
            let appended = log.append_open(producer(partition), upstream.epoch, upstream.sequence, std::slice::from_ref(record));
            appended.expect("the only producer of its id");
            upstream.sequence += 1;
            if self.random.permille(400) {
                let is_commit = self.random.permille(650);
                self.end(cluster, partition, is_commit);
            }
        } else {
            cluster.log(&TopicPartition::new("in", partition)).append(record);
        }
    }

    fn end(&mut self, cluster: &mut Cluster, partition: i32, is_commit: bool) {
        let upstream = self.upstream.entry(partition).or_default();
        if std::mem::take(&mut upstream.is_open) {
            cluster.log(&TopicPartition::new("in", partition)).mark(producer(partition), upstream.epoch, is_commit);
        }
    }

    fn record(&mut self, partition: usize) -> Outgoing {
        let number = self.written as i64;
        let of = if self.random.permille(30) { self.random.below(self.devices.len()) } else { partition };
        let device = self.devices[of][self.random.below(self.devices[of].len())].clone();
        let at_ms = NOW_MS + number * 300 + self.random.below(60) as i64 * 150;
        let battery = self.random.permille(900).then(|| 1_500 + self.random.below(1_500) as i64);
        // Sums of such numbers depend on their order unless they are kept exactly.
        let temperature = [1e15, -1e15, 0.1, 20.0][self.random.below(4)] + self.random.below(1_000) as f64 / 7.0;
        let datum = reading_datum(&device, at_ms, battery, temperature);
        let id = if self.random.permille(150) { 2 } else { 1 };
        let value = match self.random.below(100) {
            0..3 => None,
            3..6 => Some(Bytes::from(vec![0xff, number as u8])),
            6..8 => Some(Bytes::from(framed(id, &datum[..datum.len() - 1]))),
            _ => Some(Bytes::from(framed(id, &datum))),
        };
        let key = Some(Bytes::from(device.into_bytes()));
        Outgoing { topic: "in".into(), partition: partition as i32, key, value, timestamp_ms: NOW_MS + number, headers: Headers::default() }
    }
}

/// The id of a partition's producer; the tenant's own begin with 1.
fn producer(partition: i32) -> i64 {
    -1 - i64::from(partition)
}
