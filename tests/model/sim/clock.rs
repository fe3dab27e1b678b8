//! Virtual time: it passes when somebody waits, and while one waits the others work.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use testudo::clock::Clock;

use super::scheduler;

/// 2026-01-01T00:00:00Z, in milliseconds: when every run begins.
const BEGINS_MS: i64 = 1_767_225_600_000;

/// The one clock of a run.
#[derive(Debug, Default)]
pub struct VirtualClock {
    micros: AtomicU64,
}

impl VirtualClock {
    /// Moves on to `until`, if that is not past.
    pub fn advance_to(&self, until: Duration) {
        self.micros.fetch_max(until.as_micros() as u64, Ordering::Relaxed);
    }
}

impl Clock for VirtualClock {
    fn monotonic(&self) -> Duration {
        // Looking at the clock takes time, too: no loop waits for ever for it to move.
        Duration::from_micros(self.micros.fetch_add(1, Ordering::Relaxed))
    }

    fn wall_ms(&self) -> i64 {
        BEGINS_MS + self.monotonic().as_millis() as i64
    }

    fn sleep(&self, pause: Duration) {
        scheduler::pass(pause);
    }
}
