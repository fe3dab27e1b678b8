//! A steady load: a fleet that sends until it is told to stop, some of it late or wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use libtest_mimic::Failed;
use testudo::avro::SchemaId;
use testudo::emulator::{Emulation, Extent, FleetSettings, Surroundings, Wrong, run_all};

use crate::job::{Job, READING};

/// Records per second.
pub const RATE: u32 = 1_000;
const DEVICES: u32 = 40;

/// Kinds of wrong records that hold nothing up, and the share of each.
const WRONG: [(Wrong, f64); 4] = [(Wrong::Truncated, 0.003), (Wrong::NoMagic, 0.003), (Wrong::NullKey, 0.003), (Wrong::NonFinite, 0.003)];

/// A load that runs; it stops when it is dropped.
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<u64, String>>>,
}

impl Load {
    /// Begins to send to the tenant's input.
    pub fn start(job: &Job<'_>, schema: SchemaId, seed: u64) -> Self {
        let emulation = Emulation {
            topic: job.topic("in"),
            schema: READING.to_owned(),
            seed,
            // Event time keeps pace with the clock: brokers refuse records from the future.
            fleet: FleetSettings {
                devices: DEVICES,
                interval_us: i64::from(DEVICES) * 1_000_000 / i64::from(RATE),
                late: 0.01,
                ..FleetSettings::default()
            },
            extent: Extent::Endless,
            rate: std::num::NonZeroU32::new(RATE),
            wrong: WRONG.into_iter().collect(),
            ..Emulation::default()
        };
        let stop = Arc::new(AtomicBool::new(false));
        let surroundings = Surroundings { stop: stop.clone(), ..Surroundings::quiet() };
        let kafka = testudo::kafka::Settings { bootstrap: job.stack.bootstrap(), ..Default::default() };
        let thread = std::thread::spawn(move || {
            let report = run_all(&[(emulation, schema)], &surroundings, &kafka).map_err(|error| error.to_string())?;
            Ok(report.clients.iter().map(|client| client.records).sum())
        });
        Self { stop, thread: Some(thread) }
    }

    /// Ends it, with everything sent acknowledged; how many records there were.
    pub fn stop(mut self) -> Result<u64, Failed> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().ok_or("the load was stopped before")?;
        Ok(thread.join().map_err(|_| "the load panicked")??)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
