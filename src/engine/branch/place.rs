//! An input partition of a window branch: where its windows are kept, and which of them are gone.

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::kafka::{Headers, TopicPartition};
use crate::store::{Swept, WindowStoreId};

/// An input partition whose windows this worker keeps.
#[derive(Debug)]
pub struct Place {
    /// The partition.
    pub partition: TopicPartition,
    /// Number of the window in the store.
    pub store: WindowStoreId,
    /// The changelog topic.
    pub changelog: Arc<str>,
    /// Of all results.
    pub headers: Headers,
    /// Windows that are closed and gone from the store.
    pub swept: Swept,
    /// The same after the epoch that is being committed.
    pub sweeping: Option<Swept>,
    /// Whether it was not given up meanwhile.
    pub is_open: bool,
}

impl Place {
    /// What is swept once the sealed epoch is committed.
    pub fn swept(&self) -> &Swept {
        self.sweeping.as_ref().unwrap_or(&self.swept)
    }

    /// Starts of windows that are closed where starts up to `bound` are, and not swept yet.
    pub fn unswept(&self, bound: i64) -> Option<RangeInclusive<i64>> {
        let from = self.swept.until_us.map_or(Some(i64::MIN), |until| until.checked_add(1))?;
        (from <= bound).then_some(from..=bound)
    }
}
