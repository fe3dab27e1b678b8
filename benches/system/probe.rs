//! Observers from outside: when a consumer sees an alert, when the database shows a window's document.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use mongodb::bson::{Document, doc};
use mongodb::change_stream::event::ChangeStreamEvent;
use mongodb::options::FullDocumentType;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::machine::wall_us;
use crate::rig::{ANSWER_WITHIN, Rig};

/// Digits of a stamp: microseconds since 1970, until the year 2286.
const STAMP_DIGITS: usize = 16;
const POLL: Duration = Duration::from_millis(20);

/// Reads alerts as they become visible, read-committed, and takes their age.
pub struct AlertProbe {
    consumer: BaseConsumer,
}

impl AlertProbe {
    /// A consumer at the end of `topic`.
    ///
    /// # Errors
    /// When the client cannot be made or the topic is not known.
    pub fn at_the_end_of(rig: &Rig, topic: &str) -> anyhow::Result<Self> {
        let mut config = rig.client();
        config.set("group.id", "alert-probe").set("enable.auto.commit", "false").set("isolation.level", "read_committed");
        config.set("fetch.queue.backoff.ms", "2");
        let consumer: BaseConsumer = config.create()?;
        let mut list = TopicPartitionList::new();
        for (partition, (_, high)) in (0..).zip(rig.extent(topic)?) {
            list.add_partition_offset(topic, partition, Offset::Offset(high))?;
        }
        ensure!(list.count() > 0, "{topic} has no partitions");
        consumer.assign(&list)?;
        // The assignment is at work once an answer came over the same connection.
        consumer.fetch_metadata(Some(topic), ANSWER_WITHIN)?;
        Ok(Self { consumer })
    }

    /// Ages in milliseconds of the alerts whose stamp is `from_us` or later, until told to stop.
    ///
    /// # Errors
    /// When the client fails or an alert has no stamp.
    pub fn ages(&self, from_us: i64, stop: &AtomicBool) -> anyhow::Result<Vec<f64>> {
        let mut ages = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let Some(message) = self.consumer.poll(POLL) else { continue };
            let message = message?;
            let now_us = wall_us();
            let sent_us = message.payload().and_then(stamp).context("an alert without a stamp")?;
            if sent_us >= from_us {
                ages.push((now_us - sent_us) as f64 / 1e3);
            }
        }
        Ok(ages)
    }
}

/// The first run of digits that is a stamp.
fn stamp(value: &[u8]) -> Option<i64> {
    let digits = value.windows(STAMP_DIGITS).find(|window| window.iter().all(u8::is_ascii_digit))?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// When the readings of each window were sent, in order: by device and window's start in milliseconds since 1970.
#[derive(Clone, Default)]
pub struct Sends(Arc<Mutex<HashMap<(String, i64), Window>>>);

#[derive(Default)]
struct Window {
    sent_us: Vec<i64>,
    shown: usize,
}

impl Sends {
    /// A reading of this window is about to be sent.
    pub fn note(&self, device: &str, start_ms: i64, sent_us: i64) {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        windows.entry((device.to_owned(), start_ms)).or_default().sent_us.push(sent_us);
    }

    /// The window's document shows so many readings now: when those were sent that it did not show before.
    fn shown(&self, device: &str, start_ms: i64, readings: usize) -> Vec<i64> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(window) = windows.get_mut(&(device.to_owned(), start_ms)) else { return Vec::new() };
        let until = readings.clamp(window.shown, window.sent_us.len());
        let new = window.sent_us[window.shown..until].to_vec();
        window.shown = until;
        new
    }

    /// Readings that no document has shown yet.
    pub fn hidden(&self) -> usize {
        let windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        windows.values().map(|window| window.sent_us.len() - window.shown).sum()
    }
}

/// Watches a collection of windows; ages in milliseconds of readings sent at `from_us` or later, when the database first shows a document
/// that counts them, until told to stop.
///
/// # Errors
/// When the change stream fails, or a document is of another form.
pub async fn document_ages(
    windows: mongodb::Collection<Document>,
    sends: Sends,
    from_us: i64,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<Vec<f64>> {
    let mut changes = windows.watch().full_document(FullDocumentType::UpdateLookup).max_await_time(POLL).await?;
    let mut ages = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let Some(ChangeStreamEvent { full_document: Some(document), .. }) = changes.next_if_any().await? else { continue };
        let now_us = wall_us();
        let id = document.get_document("_id")?;
        let readings = usize::try_from(document.get_i64("total_records")?)?;
        let new = sends.shown(id.get_str("dev_id")?, id.get_datetime("window")?.timestamp_millis(), readings);
        ages.extend(new.into_iter().filter(|sent_us| *sent_us >= from_us).map(|sent_us| (now_us - sent_us) as f64 / 1e3));
    }
    Ok(ages)
}

/// Waits until a collection exists on the server, so that it can be watched from the start; makes it where nobody has.
///
/// # Errors
/// When the server refuses.
pub async fn prepare(database: &mongodb::Database, collection: &str) -> anyhow::Result<()> {
    let known = database.list_collection_names().filter(doc! { "name": collection }).await?;
    if known.is_empty() {
        database.create_collection(collection).await?;
    }
    Ok(())
}
