//! The readings: the same schema, sizes and distributions as those of the peers' kit, made here without a JVM.
//!
//! Reading `i` belongs to device `i % devices`; 10 % are up to 10 s out of order, 1 % have a low battery, 35 % pass the windows' filter.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use testudo::avro::{SchemaId, frame};
use testudo::kafka::partitioner::Partitioner;

use crate::machine::say;
use crate::rig::{ANSWER_WITHIN, Rig};

/// The schema, letter for letter the peers': the registry gives both the same id.
pub const SCHEMA: &str = concat!(
    r#"{"type":"record","name":"TortoiseReading","namespace":"zoo","fields":["#,
    r#"{"name":"time","type":"long"},{"name":"readable_time","type":"string"},"#,
    r#"{"name":"acceleration","type":"double"},{"name":"acceleration_x","type":"int"},"#,
    r#"{"name":"acceleration_y","type":"int"},{"name":"acceleration_z","type":"int"},"#,
    r#"{"name":"battery","type":"int"},{"name":"humidity","type":"double"},"#,
    r#"{"name":"pressure","type":"double"},{"name":"temperature","type":"double"},"#,
    r#"{"name":"dev_id","type":"string"}]}"#
);

/// Event time of the first reading: 2023-11-14T22:14:00Z.
pub const BASE_MS: i64 = 1_700_000_040_000;
/// Event time between two readings of a device.
const INTERVAL_MS: i64 = 5_000;
const OUT_OF_ORDER_MS: i64 = 10_000;

/// What one reading says.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// Event time, milliseconds since 1970.
    pub time_ms: i64,
    /// The same for people, or a stamp.
    pub readable: &'a str,
    /// Millivolts.
    pub battery: i64,
    /// Percent.
    pub humidity: f64,
    /// Degrees Celsius.
    pub temperature: f64,
    /// Thousandths of standard gravity.
    pub acceleration: f64,
}

impl Reading<'_> {
    /// Whether the windows' filter lets it through.
    pub fn is_warm_and_dry(&self) -> bool {
        self.temperature > 20.0 && (30.0..=40.0).contains(&self.humidity)
    }

    /// As Avro in Confluent's frame, into an emptied buffer.
    pub fn encode(&self, id: SchemaId, device: &str, random: &mut Pcg64, into: &mut Vec<u8>) {
        into.clear();
        into.extend_from_slice(&frame::prefix(id));
        long(into, self.time_ms);
        text(into, self.readable);
        into.extend_from_slice(&self.acceleration.to_le_bytes());
        for low in [210, -420, 934] {
            long(into, low + random.random_range(0..21));
        }
        long(into, self.battery);
        into.extend_from_slice(&self.humidity.to_le_bytes());
        into.extend_from_slice(&(1_016.0 + hundredths(random, 1_000)).to_le_bytes());
        into.extend_from_slice(&self.temperature.to_le_bytes());
        text(into, device);
    }
}

/// A reading's values without its time.
pub fn values(random: &mut Pcg64, low_battery: f64) -> Reading<'static> {
    let battery = if random.random_bool(low_battery) { random.random_range(1_500..2_000) } else { random.random_range(2_900..=3_000) };
    Reading {
        time_ms: 0,
        readable: "",
        battery,
        humidity: 25.0 + hundredths(random, 2_001),
        temperature: 15.0 + hundredths(random, 1_701),
        acceleration: 1_040.0 + hundredths(random, 2_000),
    }
}

fn hundredths(random: &mut Pcg64, below: i32) -> f64 {
    f64::from(random.random_range(0..below)) / 100.0
}

fn long(into: &mut Vec<u8>, value: i64) {
    let mut left = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while left >= 0x80 {
        into.push(left as u8 | 0x80);
        left >>= 7;
    }
    into.push(left as u8);
}

fn text(into: &mut Vec<u8>, text: &str) {
    long(into, text.len() as i64);
    into.extend_from_slice(text.as_bytes());
}

/// Names of devices; they look random and never collide.
pub fn devices(count: u32, seed: u64) -> Vec<String> {
    let name = |device: u32| {
        let mixed = (u64::from(device) + 1).wrapping_mul(0x9E_3779_B97F).wrapping_add(seed.wrapping_mul(0x0100_0193)) & 0xFF_FFFF_FFFF;
        let bytes = mixed.to_be_bytes();
        format!("C2:{:02X}:{:02X}:{:02X}:{:02X}:{:02X}", bytes[3], bytes[4], bytes[5], bytes[6], bytes[7])
    };
    (0..count).map(name).collect()
}

/// A producer that keeps the order of what it is given, acknowledged by all replicas.
///
/// # Errors
/// When the client cannot be made.
pub fn producer(rig: &Rig, linger_ms: u32) -> anyhow::Result<ThreadedProducer<DefaultProducerContext>> {
    let mut config = rig.client();
    config
        .set("compression.type", "lz4")
        .set("linger.ms", linger_ms.to_string())
        .set("batch.size", "262144")
        .set("batch.num.messages", "100000")
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("delivery.report.only.error", "true");
    config.create().context("failed to make a producer")
}

/// Hands a record over; waits while the queue is full.
///
/// # Errors
/// When the client refuses it.
pub fn send(
    producer: &ThreadedProducer<DefaultProducerContext>,
    topic: &str,
    partition: i32,
    key: &str,
    value: &[u8],
) -> anyhow::Result<()> {
    let deadline = Instant::now() + ANSWER_WITHIN;
    let mut record = BaseRecord::<str, [u8]>::to(topic).partition(partition).key(key).payload(value);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) if Instant::now() < deadline => record = back,
            Err((error, _)) => return Err(error).context("failed to send"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A topic full of readings.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its name.
    pub topic: String,
    /// Its readings.
    pub readings: u64,
}

/// What to fill a topic with.
#[derive(Clone, Copy, Debug)]
pub struct Fleet {
    /// Readings.
    pub readings: u64,
    /// Devices that take turns.
    pub devices: u32,
    /// Partitions of the topic.
    pub partitions: i32,
    /// Seed.
    pub seed: u64,
}

impl Fleet {
    /// Makes a topic and fills it, flat out.
    ///
    /// # Errors
    /// When the broker refuses, or does not hold every reading in the end.
    pub fn fill(&self, rig: &Rig, label: &str) -> anyhow::Result<Input> {
        let Self { readings, devices: count, partitions, seed } = *self;
        let topic = rig.unique(label);
        rig.create_topic(&topic, partitions)?;
        let id = rig.register(&topic, SCHEMA)?;
        let devices = devices(count, seed);
        let place = |device: &String| Partitioner::Murmur2.place(device.as_bytes(), partitions).unwrap_or_default();
        let places: Vec<i32> = devices.iter().map(place).collect();
        let producer = producer(rig, 20)?;
        let mut random = Pcg64::seed_from_u64(seed);
        let (mut value, mut readable, mut readable_s) = (Vec::new(), String::new(), i64::MIN);
        let count = i64::from(count);
        let begun = Instant::now();
        for number in 0..i64::try_from(readings)? {
            let device = number % count;
            let mut time_ms = BASE_MS + number / count * INTERVAL_MS + device * INTERVAL_MS / count;
            if random.random_bool(0.1) {
                time_ms -= random.random_range(0..OUT_OF_ORDER_MS);
            }
            if time_ms.div_euclid(1_000) != readable_s {
                readable_s = time_ms.div_euclid(1_000);
                let time = chrono::DateTime::from_timestamp(readable_s, 0).unwrap_or_default();
                readable = time.format("%Y-%m-%d %H:%M:%S").to_string();
            }
            let reading = Reading { time_ms, readable: &readable, ..values(&mut random, 0.01) };
            let device = usize::try_from(device)?;
            reading.encode(id, &devices[device], &mut random, &mut value);
            send(&producer, &topic, places[device], &devices[device], &value)?;
        }
        producer.flush(ANSWER_WITHIN * 2)?;
        let there: i64 = rig.extent(&topic)?.iter().map(|(low, high)| high - low).sum();
        ensure!(u64::try_from(there) == Ok(readings), "{there} of {readings} readings are in {topic}");
        say(&format!("  {topic}: {readings} readings of {count} devices, {partitions} partitions, {:.1} s", begun.elapsed().as_secs_f64()));
        Ok(Input { topic, readings })
    }
}
