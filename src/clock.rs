//! The only caller of `Instant`, `SystemTime` and `sleep`.
//!
//! Everything above asks a [`Clock`], so that a model run can put one virtual clock under the whole engine (DET-1: no
//! wall clock ever enters a verdict about data; clocks serve waiting, deadlines and metrics only).

#![allow(clippy::disallowed_methods, reason = "this file is where the banned calls are wrapped")]

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A source of time, shared by reference count.
pub type SharedClock = Arc<dyn Clock>;

/// Monotonic and wall time, and waiting.
pub trait Clock: Send + Sync {
    /// Time since an arbitrary fixed start; never goes back.
    fn monotonic(&self) -> Duration;

    /// Milliseconds since 1970-01-01T00:00:00Z.
    fn wall_ms(&self) -> i64;

    /// Blocks the calling thread for `pause`.
    fn sleep(&self, pause: Duration);
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// The machine's clock, shared.
    pub fn shared() -> SharedClock {
        Arc::new(Self::default())
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn wall_ms(&self) -> i64 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
    }

    fn sleep(&self, pause: Duration) {
        std::thread::sleep(pause);
    }
}

/// A moment after which waiting ends: every wait in Testudo has one.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Duration,
}

impl Deadline {
    /// The moment `within` from now.
    pub fn after(clock: &dyn Clock, within: Duration) -> Self {
        Self { at: clock.monotonic().saturating_add(within) }
    }

    /// Time left, zero when it has passed.
    pub fn left(&self, clock: &dyn Clock) -> Duration {
        self.at.saturating_sub(clock.monotonic())
    }

    /// Whether it has passed.
    pub fn is_over(&self, clock: &dyn Clock) -> bool {
        self.left(clock).is_zero()
    }
}
