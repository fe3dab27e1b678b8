//! One client's job, and several clients at once: each on its own thread with its own seed.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::csv::{CsvReplay, CsvSettings};
use super::error::Error;
use super::fleet::FleetSettings;
use super::pace::Pace;
use super::protobuf::INDEXES;
use super::report::{ClientReport, Report};
use super::send::Sender;
use super::shape::Shape;
use super::stream::Messages;
use super::wrong::Wrong;
use crate::avro::{SchemaGuid, SchemaId, SchemaName, frame};
use crate::clock::{SharedClock, SystemClock};
use crate::kafka::Settings;
use crate::tenant::Format;

/// Where a flat-out run of unknown length begins, before now: brokers keep seven days by default.
const FLAT_OUT_BACK_MS: i64 = 6 * 86_400_000;

/// When to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// After so many records.
    Records(u64),
    /// After this time.
    For(Duration),
    /// At the end of a CSV file that is not repeated, or when told to stop.
    Endless,
}

/// Where records name their schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// By id, in front of the value.
    #[default]
    Value,
    /// By id, in a header; the value is the datum alone.
    HeaderId,
    /// By GUID, in a header; the value is the datum alone.
    HeaderGuid(SchemaGuid),
}

/// What one client sends where.
#[derive(Clone, Debug)]
pub struct Emulation {
    /// The client's name; also the Kafka client id.
    pub client: String,
    /// The topic.
    pub topic: String,
    /// Avro schema of the values, as JSON.
    pub schema: String,
    /// The schema's field that becomes the Kafka key.
    pub key: String,
    /// Fixes every byte together with the rest of this; a client of its own needs a seed of its own.
    pub seed: u64,
    /// The fleet's size and manners.
    pub fleet: FleetSettings,
    /// A file to replay instead of a fleet.
    pub csv: Option<CsvSettings>,
    /// When to end.
    pub extent: Extent,
    /// Records per second; `None` for as fast as it goes.
    pub rate: Option<NonZeroU32>,
    /// Event time of the first record, in milliseconds since 1970. `None`: now, or such that a flat-out run ends now.
    pub base_time_ms: Option<i64>,
    /// Shares of wrong records, 0 to 1, by kind.
    pub wrong: BTreeMap<Wrong, f64>,
    /// Headers of every record.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Where records name their schema.
    pub framing: Framing,
    /// What format they are in; `schema` is Avro all the same.
    pub format: Format,
}

impl Default for Emulation {
    /// Ten thousand records of ten devices as fast as it goes, none wrong; topic and schema must be filled in.
    fn default() -> Self {
        Self {
            client: "client-1".into(),
            topic: String::new(),
            schema: String::new(),
            key: "dev_id".into(),
            seed: 1,
            fleet: FleetSettings::default(),
            csv: None,
            extent: Extent::Records(10_000),
            rate: None,
            base_time_ms: None,
            wrong: BTreeMap::new(),
            headers: Vec::new(),
            framing: Framing::Value,
            format: Format::Avro,
        }
    }
}

/// What surrounds a run.
pub struct Surroundings {
    /// Time for pacing and reports; never enters a record unless [`Emulation::base_time_ms`] is `None`.
    pub clock: SharedClock,
    /// Set to end all clients early, with everything sent acknowledged and reported.
    pub stop: Arc<AtomicBool>,
    /// Where progress is shown.
    pub progress: MultiProgress,
}

impl Surroundings {
    /// The machine's clock, never stopped, nothing shown.
    pub fn quiet() -> Self {
        Self {
            clock: SystemClock::shared(),
            stop: Arc::new(AtomicBool::new(false)),
            progress: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
        }
    }

    /// The same with progress bars on standard error, if that is a terminal.
    pub fn visible() -> Self {
        Self { progress: MultiProgress::new(), ..Self::quiet() }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Emulation {
    /// The compiled schema.
    ///
    /// # Errors
    /// [`Error::Schema`] when nothing can be made up for it.
    pub fn shape(&self) -> Result<Shape, Error> {
        Shape::of(&self.topic, &self.schema, &self.key)
    }

    /// The records as they go to the broker, from the first; a pure function of `self` and `schema_id` where the base time is given.
    ///
    /// # Errors
    /// [`Error`] for settings out of range and an unreadable file.
    pub fn messages<'s>(&'s self, shape: &'s Shape, schema_id: SchemaId) -> Result<Messages<'s>, Error> {
        Messages::new(self, shape, schema_id)
    }

    /// Sends everything, quietly, and waits for all acknowledgements.
    ///
    /// # Errors
    /// [`Error`]; records sent until then stay.
    pub fn run(&self, kafka: &Settings, schema_id: SchemaId) -> Result<Report, Error> {
        Ok(Report { clients: vec![self.run_in(&Surroundings::quiet(), kafka, schema_id)?] })
    }

    fn run_in(&self, surroundings: &Surroundings, kafka: &Settings, schema_id: SchemaId) -> Result<ClientReport, Error> {
        let clock = &surroundings.clock;
        let shape = self.shape()?;
        let dated = Self { base_time_ms: Some(self.base_time_at(clock.wall_ms(), &shape)?), ..self.clone() };
        let mut messages = dated.messages(&shape, schema_id)?;
        let headers = self.headers_with(schema_id);
        let mut sender = Sender::new(kafka, &self.client, &self.topic, &headers, clock.clone())?;
        let mut report = ClientReport::begin(&self.client, &self.topic, self.rate.map(NonZeroU32::get), clock.wall_ms());
        let bar = surroundings.progress.add(self.bar());
        let pace = Pace::new(self.rate);
        let started = clock.monotonic();
        while self.is_wanted(report.records, clock.monotonic() - started) && !surroundings.is_stopped() {
            if let Some(pause) = pace.pause(report.records, clock.monotonic() - started) {
                clock.sleep(pause);
                continue;
            }
            let Some(message) = messages.next().transpose()? else { break };
            sender.send(&message)?;
            report.count(&message);
            bar.set_position(report.records);
        }
        sender.finish()?;
        report.end(clock.monotonic() - started);
        bar.finish();
        Ok(report)
    }

    /// The headers of every record, the schema's among them where it stands there.
    pub fn headers_with(&self, schema_id: SchemaId) -> Vec<(String, Vec<u8>)> {
        let name = match self.framing {
            Framing::Value => None,
            Framing::HeaderId => Some(SchemaName::Id(schema_id)),
            Framing::HeaderGuid(guid) => Some(SchemaName::Guid(guid)),
        };
        let indexes: &[u8] = if self.format == Format::Protobuf { &INDEXES } else { &[] };
        let schema = name.map(|name| (frame::VALUE_HEADER.to_owned(), [&frame::header_value(name), indexes].concat()));
        self.headers.iter().cloned().chain(schema).collect()
    }

    /// Whether another record is to be sent.
    fn is_wanted(&self, records: u64, elapsed: Duration) -> bool {
        match self.extent {
            Extent::Records(wanted) => records < wanted,
            Extent::For(wanted) => elapsed < wanted,
            Extent::Endless => true,
        }
    }

    /// The base time of a run that begins at `now_ms`: no record may lie ahead of the clock, where brokers refuse it.
    fn base_time_at(&self, now_ms: i64, shape: &Shape) -> Result<i64, Error> {
        if let Some(base_time_ms) = self.base_time_ms {
            return Ok(base_time_ms);
        }
        if self.rate.is_some() {
            return Ok(now_ms);
        }
        let back_ms = match (&self.csv, self.extent) {
            (Some(csv), _) if !csv.is_repeated => CsvReplay::span_us(csv, shape)? / 1_000,
            (None, Extent::Records(records)) => self.fleet.span_us(records) / 1_000,
            (Some(_) | None, _) => FLAT_OUT_BACK_MS,
        };
        Ok(now_ms.saturating_sub(back_ms))
    }

    fn bar(&self) -> ProgressBar {
        let (bar, template) = match self.extent {
            Extent::Records(records) => (ProgressBar::new(records), "{prefix} {bar:40} {pos}/{len} {per_sec} {eta}"),
            Extent::For(_) | Extent::Endless => (ProgressBar::no_length(), "{prefix} {spinner} {pos} {per_sec} {elapsed}"),
        };
        bar.with_style(ProgressStyle::with_template(template).expect("a constant template")).with_prefix(self.client.clone())
    }
}

/// Runs clients at once, each on its own thread; each comes with the id of its schema.
///
/// # Errors
/// The first client's failure, after all have ended; a failure stops the others.
pub fn run_all(clients: &[(Emulation, SchemaId)], surroundings: &Surroundings, kafka: &Settings) -> Result<Report, Error> {
    let run = |emulation: &Emulation, schema_id: SchemaId| {
        let result = emulation.run_in(surroundings, kafka, schema_id);
        if result.is_err() {
            surroundings.stop.store(true, Ordering::Relaxed);
        }
        result
    };
    let panicked = |emulation: &Emulation| Err(Error::Panicked { client: emulation.client.clone() });
    let results: Vec<Result<ClientReport, Error>> = thread::scope(|scope| {
        let threads: Vec<_> = clients.iter().map(|(emulation, id)| (emulation, scope.spawn(move || run(emulation, *id)))).collect();
        threads.into_iter().map(|(emulation, thread)| thread.join().unwrap_or_else(|_| panicked(emulation))).collect()
    });
    Ok(Report { clients: results.into_iter().collect::<Result<_, _>>()? })
}

#[cfg(test)]
#[path = "emulation_tests.rs"]
mod tests;
