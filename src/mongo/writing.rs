//! A batch on its way into MongoDB.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::rows::Batch;
use super::status::Shared;
use super::write::{Tally, Writer};
use crate::clock::SharedClock;
use crate::kafka::{Position, TopicPartition};

/// A batch that is being written. Dropped, it is given up.
pub(super) struct Writing {
    pub(super) task: JoinHandle<()>,
    /// What became of it, and how long that took.
    pub(super) answer: Receiver<(Tally, Duration)>,
    /// Where reading stands behind it.
    pub(super) ends: Vec<(TopicPartition, Position)>,
}

impl Writing {
    /// Begins to write, on `runtime`.
    pub(super) fn start(
        writer: Writer,
        batch: Batch,
        ends: Vec<(TopicPartition, Position)>,
        shared: Arc<Shared>,
        clock: SharedClock,
        runtime: &Handle,
    ) -> Self {
        let (done, answer) = sync_channel(1);
        let task = runtime.spawn(async move {
            let began = clock.monotonic();
            let tally = writer.apply(batch, &shared.health).await;
            if done.send((tally, clock.monotonic().saturating_sub(began))).is_err() {
                tracing::debug!("a batch was written after it had been given up");
            }
        });
        Self { task, answer, ends }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        // One that has ended is not touched by this.
        self.task.abort();
    }
}
