//! A loss of state that the operator accepts: on record before the partition goes on without.
//!
//! The event on `<tenant>-events` and the changelogs' new progress are one transaction, with the position at which the group stands already:
//! a member that was replaced can write none of it (EOS-2). Whoever takes the partition up next finds nothing to accept; so a flag that
//! stays in a service file accepts, and records, only what is lost anew.

use std::collections::BTreeMap;

use serde_json::json;

use super::commit::Committed;
use super::deeds::event;
use super::epoch::{Counts, SealedEpoch};
use super::restore::Loss;
use super::standstill::progress_record;
use super::worker::{Worker, WorkerFault};
use crate::kafka::{Broker, Outgoing};
use crate::store::Changes;

impl<B: Broker> Worker<B> {
    /// Records a loss that the restore in line has met, and lets that go on.
    pub(super) fn record(&mut self, loss: Loss) -> Result<(), WorkerFault> {
        let began = self.clock.monotonic();
        let mut sealed = SealedEpoch {
            outgoing: vec![self.records_of(&loss)],
            marks: vec![(loss.partition.clone(), loss.mark)],
            changes: Changes::default(),
            logged: BTreeMap::new(),
            advances: BTreeMap::new(),
            counts: Counts::default(),
            began,
        };
        match self.committer.commit(&mut sealed, &mut self.consumer, &self.status)? {
            Committed::Yes => {
                self.next_commit = self.clock.monotonic() + self.job.settings.commit_pause();
                if let Some(restore) = self.restores.front_mut() {
                    restore.recorded(loss);
                }
                Ok(())
            }
            Committed::No(failure) => self.react(failure),
        }
    }

    fn records_of(&self, loss: &Loss) -> Vec<Outgoing> {
        let now_ms = self.clock.wall_ms();
        let windows: Vec<&str> = loss.windows.iter().map(|lost| lost.window.as_str()).collect();
        let positions = BTreeMap::from([(loss.partition.to_string(), loss.mark.position.0)]);
        let generation = self.job.tenant.generation().number;
        let detail = json!({ "windows": windows, "old_positions": positions, "generation": generation });
        let told = event(&self.job.tenant, "accept-state-loss", now_ms, &self.job.settings.operator, detail);
        let progress = loss.windows.iter().map(|lost| progress_record(&lost.changelog, &lost.logged, now_ms));
        progress.chain([told]).collect()
    }
}
