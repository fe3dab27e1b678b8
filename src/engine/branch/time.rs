//! Event time: which window an instant falls in, when a window is closed, and stream time. All in microseconds since 1970.

/// Start of the tumbling window of length `size_us` that holds `time_us`; windows are half open, `[start, start + size)`.
pub fn window_start(time_us: i64, size_us: i64) -> i64 {
    // Before the first representable start there is no whole window; saturating keeps the instant in the earliest one.
    time_us.checked_sub(time_us.rem_euclid(size_us)).unwrap_or(i64::MIN)
}

/// The stream time at which a window closes: its end plus grace.
pub fn closes_at(start_us: i64, size_us: i64, grace_us: i64) -> i64 {
    start_us.saturating_add(size_us).saturating_add(grace_us)
}

/// The largest start of a window that is closed at `stream_time_us`; `None` when none can be.
pub fn last_closed_start(stream_time_us: i64, size_us: i64, grace_us: i64) -> Option<i64> {
    stream_time_us.checked_sub(grace_us)?.checked_sub(size_us)
}

/// Stream time at each row: the largest event time up to and with it (TIME-1).
pub fn stream_times(before: Option<i64>, times_us: &[i64]) -> Vec<i64> {
    let mut stream_time = before.unwrap_or(i64::MIN);
    times_us
        .iter()
        .map(|time| {
            stream_time = stream_time.max(*time);
            stream_time
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000;

    /// C57: a window's end is not in it.
    #[test]
    fn the_end_belongs_to_the_next_window() {
        assert_eq!(window_start(60 * SECOND, 60 * SECOND), 60 * SECOND);
        assert_eq!(window_start(60 * SECOND - 1, 60 * SECOND), 0);
        assert_eq!(window_start(0, 60 * SECOND), 0);
    }

    /// C41: an instant on a boundary before 1970 starts its own window.
    #[test]
    fn boundaries_before_1970_are_starts() {
        let five_hours_before = -5 * 3_600 * SECOND;
        assert_eq!(window_start(five_hours_before, 30 * SECOND), five_hours_before);
        assert_eq!(window_start(-1, 30 * SECOND), -30 * SECOND);
    }

    #[test]
    fn the_year_9999_has_windows() {
        let last_second = 253_402_300_799 * SECOND;
        assert_eq!(window_start(last_second, 60 * SECOND), 253_402_300_740 * SECOND);
        assert!(closes_at(last_second, 60 * SECOND, i64::MAX) == i64::MAX);
    }

    /// C61: size 60, grace 60: at 119.999 the first window is open, at 120 it is closed.
    #[test]
    fn grace_ends_exactly() {
        let is_closed = |stream_time_us: i64| closes_at(0, 60 * SECOND, 60 * SECOND) <= stream_time_us;
        assert!(!is_closed(119_999_000));
        assert!(is_closed(120 * SECOND));
        assert_eq!(last_closed_start(120 * SECOND, 60 * SECOND, 60 * SECOND), Some(0));
        assert_eq!(last_closed_start(119_999_000, 60 * SECOND, 60 * SECOND), Some(-1_000));
    }

    proptest! {
        #[test]
        fn every_instant_lies_in_its_window(time in -4_000_000_000_000_000_000i64..4_000_000_000_000_000_000, size in 1i64..1_000_000_000_000) {
            let start = window_start(time, size);
            prop_assert!(start <= time && time < start + size);
            prop_assert_eq!(start.rem_euclid(size), 0);
        }

        #[test]
        fn closed_is_the_same_by_both_rules(start in -1_000_000i64..1_000_000, size in 1i64..1_000, grace in 0i64..1_000, stream_time in -1_000_000i64..1_000_000) {
            let by_window = closes_at(start, size, grace) <= stream_time;
            let by_bound = last_closed_start(stream_time, size, grace).is_some_and(|bound| start <= bound);
            prop_assert_eq!(by_window, by_bound);
        }

        #[test]
        fn stream_time_does_not_see_cuts(times in proptest::collection::vec(-1_000i64..1_000, 1..50), cut in 0usize..50) {
            let cut = cut.min(times.len());
            let whole = stream_times(None, &times);
            let mut parts = stream_times(None, &times[..cut]);
            let carried = parts.last().copied();
            parts.extend(stream_times(carried, &times[cut..]));
            prop_assert_eq!(whole, parts);
        }
    }
}
