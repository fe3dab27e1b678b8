//! When an epoch is sealed: soon for what has just come in, late for what has been waiting anyway, and sooner after transactions that
//! did not come to their end.

use std::time::Duration;

use super::epoch::SealedEpoch;
use super::processor::ProcessFault;
use super::settings::Settings;
use super::sweeping::SWEEP_MAX;
use super::worker::{Stage, Worker};
use crate::kafka::{Broker, GroupConsumer, Position};
use crate::store::ScanMax;

/// With fewer records than these left in the log a worker is not behind.
const BEHIND_MIN: u64 = 20_000;

/// Records of a poll, at least, however careful a worker is.
const SLICE_MIN: usize = 256;

/// How often in a row, as it were, transactions did not come to their end. Each time halves what the next may hold, down to what gets
/// through; each that does allows it twice as much. A backlog that makes epochs larger must not keep a slow broker from taking any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Caution(u32);

impl Caution {
    const MAX: u32 = 12;

    pub(super) fn failed(&mut self) {
        self.0 = (self.0 + 1).min(Self::MAX);
    }

    pub(super) fn succeeded(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }

    fn of(self, most: usize) -> usize {
        (most >> self.0).max(1)
    }

    /// What a small epoch may sweep.
    fn sweep(self, entries_max: usize) -> ScanMax {
        ScanMax { entries: self.of(entries_max), bytes: self.of(SWEEP_MAX.bytes) }
    }

    /// How many records one poll may bring.
    pub(super) fn slice(self, records_max: usize) -> usize {
        self.of(records_max).max(SLICE_MIN.min(records_max))
    }
}

/// How an open epoch stands.
#[derive(Clone, Copy, Debug)]
struct Standing {
    /// Nothing more came, and the coordinator is ready for another transaction.
    has_run_dry: bool,
    /// It may take no more records, or no more bytes.
    is_full: bool,
    /// Since its first record.
    age: Duration,
}

/// Whether it has to be committed now. Only one that is old enough asks whether the worker `is_behind`.
fn is_due(epoch: Standing, settings: &Settings, is_behind: impl FnOnce() -> bool) -> bool {
    epoch.has_run_dry
        || epoch.is_full
        || epoch.age >= settings.commit_interval() && (epoch.age >= settings.catch_up_interval() || !is_behind())
}

/// Whether as many records as the open epoch has taken wait in the log. The last of them waits for as long as this epoch has lasted anyway: a
/// larger one at most doubles what its readers wait, and saves commits, and the results of windows that come again.
fn is_behind(taken: u64, left: u64) -> bool {
    left >= taken.max(BEHIND_MIN)
}

/// Records between positions and the ends of their partitions, where those are known.
fn left_before(ends: impl Iterator<Item = (Position, Option<Position>)>) -> u64 {
    ends.map(|(position, end)| end.map_or(0, |end| u64::try_from(end.0 - position.0).unwrap_or(0))).sum()
}

impl<B: Broker> Worker<B> {
    /// Whether the open epoch has to be committed now. One of closed windows alone is opened where there is nothing else to do.
    pub(super) fn is_sealing_due(&mut self, took_records: bool) -> bool {
        if !took_records && self.pause_left().is_zero() {
            self.processor.sweep(self.clock.monotonic());
        }
        let (settings, epoch) = (&self.job.settings, self.processor.epoch());
        let taken = epoch.counts.records;
        let standing = Standing {
            has_run_dry: !took_records && self.pause_left().is_zero(),
            is_full: taken >= self.caution.of(settings.epoch_records_max) as u64
                || self.processor.held_bytes() >= self.caution.of(settings.epoch_bytes_max),
            age: epoch.age(self.clock.monotonic()).unwrap_or(Duration::ZERO),
        };
        let (stages, consumer, is_careful) = (&self.stages, &mut self.consumer, self.caution != Caution::default());
        let lags = || {
            let running = stages.iter().filter_map(|(partition, stage)| match stage {
                Stage::Running(position) => Some((partition, *position)),
                _ => None,
            });
            // What lies before the end of a partition that gives nothing cannot be read yet: an open transaction holds it back.
            let moving = running.filter(|(partition, _)| epoch.advances.contains_key(*partition));
            !is_careful && is_behind(taken, left_before(moving.map(|(partition, position)| (position, consumer.known_end(partition)))))
        };
        is_due(standing, settings, lags)
    }

    /// Seals the open epoch. After transactions that failed it sweeps less, too.
    pub(super) fn seal(&mut self) -> Result<Option<SealedEpoch>, ProcessFault> {
        self.processor.bound_sweeps(self.caution.sweep(self.job.settings.sweep_max));
        let sealed = self.processor.seal()?;
        if sealed.is_none() {
            // It may have been found that nothing is owed.
            self.tell_owing();
        }
        Ok(sealed)
    }

    /// Tells which partitions have results of closed windows still to come.
    pub(super) fn tell_owing(&self) {
        self.status.owing(self.number, self.processor.owing());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: fn() -> Settings = || Settings { commit_interval_ms: 100, catch_up_interval_ms: 500, ..Settings::default() };

    fn at(age_ms: u64) -> Standing {
        Standing { has_run_dry: false, is_full: false, age: Duration::from_millis(age_ms) }
    }

    fn unasked() -> bool {
        panic!("whether it is behind does not matter")
    }

    #[test]
    fn after_transactions_that_failed_a_sweep_is_smaller_too_but_never_nothing() {
        let mut caution = Caution::default();
        assert_eq!(caution.sweep(20_000), SWEEP_MAX);

        caution.failed();
        assert_eq!(caution.sweep(20_000), ScanMax { entries: 10_000, bytes: SWEEP_MAX.bytes / 2 });

        (0..100).for_each(|_| caution.failed());
        assert!(!caution.sweep(2).is_used_up());
    }

    #[test]
    fn an_epoch_that_is_full_or_gets_no_more_is_due_at_once() {
        assert!(is_due(Standing { has_run_dry: true, ..at(0) }, &SETTINGS(), unasked));
        assert!(is_due(Standing { is_full: true, ..at(0) }, &SETTINGS(), unasked));
        assert!(!is_due(at(0), &SETTINGS(), unasked) && !is_due(at(99), &SETTINGS(), unasked), "it is young");
    }

    #[test]
    fn a_worker_that_is_behind_takes_more_into_an_epoch_but_not_for_ever() {
        for age_ms in [100, 101, 499] {
            assert!(is_due(at(age_ms), &SETTINGS(), || false), "{age_ms} ms: readers wait for nothing else");
            assert!(!is_due(at(age_ms), &SETTINGS(), || true), "{age_ms} ms: readers wait for the rest anyway");
        }
        assert!(is_due(at(500), &SETTINGS(), unasked) && is_due(at(9_000), &SETTINGS(), unasked));
    }

    #[test]
    fn epochs_get_smaller_as_a_worker_catches_up() {
        assert!(is_behind(20_000, 20_000) && is_behind(500_000, 500_000) && is_behind(0, 1_000_000));
        assert!(!is_behind(500_000, 499_999), "what waits is less than what is open");
        assert!(!is_behind(100, 19_999), "under steady load a few always wait");
    }

    #[test]
    fn without_a_longer_interval_being_behind_changes_nothing() {
        for catch_up_interval_ms in [0, 50, 100] {
            let settings = Settings { catch_up_interval_ms, ..SETTINGS() };
            assert!(!is_due(at(99), &settings, unasked), "{catch_up_interval_ms} ms");
            assert!(is_due(at(100), &settings, unasked), "{catch_up_interval_ms} ms");
        }
    }

    #[test]
    fn what_does_not_get_through_is_tried_in_halves_and_trusted_again_step_by_step() {
        let mut caution = Caution::default();
        assert_eq!((caution.of(1_000_000), caution.slice(8_192)), (1_000_000, 8_192));

        (0..3).for_each(|_| caution.failed());

        assert_eq!((caution.of(1_000_000), caution.slice(8_192)), (125_000, 1_024));
        (0..99).for_each(|_| caution.failed());
        assert_eq!((caution.of(1_000_000), caution.of(5), caution.slice(8_192), caution.slice(100)), (244, 1, 256, 100));
        (0..Caution::MAX).for_each(|_| caution.succeeded());
        assert_eq!(caution, Caution::default());
        caution.succeeded();
        assert_eq!(caution, Caution::default());
    }

    #[test]
    fn what_is_left_is_added_up_over_partitions_with_a_known_end() {
        let ends = [(10, Some(25)), (0, Some(7)), (3, None), (9, Some(9))];

        let left = left_before(ends.into_iter().map(|(position, end)| (Position(position), end.map(Position))));

        assert_eq!(left, 22);
        // A position past control records is beyond the end that the last fetch told.
        assert_eq!(left_before([(Position(8), Some(Position(5)))].into_iter()), 0);
    }
}
