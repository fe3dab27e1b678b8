//! A fixed rate: record n is due n / rate after the start, whatever happened before, so that a pause is caught up.

use std::num::NonZeroU32;
use std::time::Duration;

/// Shorter pauses are not taken: sleeping is less exact than that, and the next ones add up.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// Longer pauses are taken in parts, so that a request to stop is soon seen.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Says when the next record is due.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    rate: Option<NonZeroU32>,
}

impl Pace {
    /// So many records per second; `None` for as fast as it goes.
    pub fn new(rate: Option<NonZeroU32>) -> Self {
        Self { rate }
    }

    /// How long to sleep before record number `sent` (from 0), `elapsed` after the start; `None` when it is due.
    pub fn pause(self, sent: u64, elapsed: Duration) -> Option<Duration> {
        let rate = u64::from(self.rate?.get());
        let due = Duration::new(sent / rate, ((sent % rate) * 1_000_000_000 / rate) as u32);
        let ahead = due.saturating_sub(elapsed);
        (ahead >= PAUSE_MIN).then(|| ahead.min(PAUSE_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(rate: u32) -> Pace {
        Pace::new(NonZeroU32::new(rate))
    }

    #[test]
    fn the_hundredth_record_at_fifty_a_second_is_due_after_two_seconds() {
        assert_eq!(pace(50).pause(100, Duration::from_millis(1_990)), Some(Duration::from_millis(10)));
        assert_eq!(pace(50).pause(100, Duration::from_secs(2)), None);
    }

    #[test]
    fn a_lag_is_caught_up() {
        assert_eq!(pace(50).pause(100, Duration::from_secs(60)), None);
    }

    #[test]
    fn a_long_pause_is_taken_in_parts() {
        assert_eq!(pace(1).pause(10, Duration::ZERO), Some(PAUSE_MAX));
    }

    #[test]
    fn without_a_rate_everything_is_due() {
        assert_eq!(pace(0).pause(u64::MAX, Duration::ZERO), None);
    }
}
