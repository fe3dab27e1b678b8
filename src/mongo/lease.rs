//! A sink's right to write, asked for again every few seconds, before a command is sent. A process that stood still for longer does not go
//! on where it was: its group has moved on, and so may the tenant have (docs/adr/0015-rebuild.md).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{Deadline, SharedClock};
use crate::kafka::Failure;

/// Below the shortest session of a group, 6 s: whoever is still a member when it is asked for has the right for so long.
const LASTS: Duration = Duration::from_secs(4);
/// Pause before a broker that does not answer is asked again.
const ASK_PAUSE: Duration = Duration::from_millis(500);

/// Why a sink may not write; none when it may.
pub type Forbidden = dyn Fn() -> Result<Option<String>, Failure> + Send + Sync;

/// The right of one sink.
pub struct Lease {
    forbidden: Arc<Forbidden>,
    clock: SharedClock,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    until: Option<Deadline>,
    /// Why it is gone for good.
    lost: Option<String>,
}

impl Lease {
    /// Nothing is asked for yet.
    pub fn new(forbidden: Arc<Forbidden>, clock: SharedClock) -> Self {
        Self { forbidden, clock, held: Mutex::default() }
    }

    /// Why the right is gone for good; none when it is not.
    pub fn lost(&self) -> Option<String> {
        self.held().lost.clone()
    }

    /// Ends when the right is there, however long the broker is away. Once it is lost this never ends: drop the future.
    pub async fn hold(self: &Arc<Self>) {
        loop {
            if self.is_held() {
                return;
            }
            if self.lost().is_some() {
                std::future::pending::<()>().await;
            }
            let lease = self.clone();
            // The right begins when it is asked for, not when the answer is there.
            match tokio::task::spawn_blocking(move || lease.ask()).await {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => {
                    tracing::debug!(%failure, "whether the sink may write is not known");
                    tokio::time::sleep(ASK_PAUSE).await;
                }
                Err(error) => {
                    tracing::error!(%error, "asking whether the sink may write panicked");
                    tokio::time::sleep(ASK_PAUSE).await;
                }
            }
        }
    }

    /// Asks.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn ask(&self) -> Result<(), Failure> {
        let until = Deadline::after(&*self.clock, LASTS);
        let lost = (self.forbidden)()?;
        *self.held() = Held { until: Some(until), lost };
        Ok(())
    }

    fn is_held(&self) -> bool {
        let held = self.held();
        held.lost.is_none() && held.until.as_ref().is_some_and(|until| !until.is_over(&*self.clock))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::clock::SystemClock;

    #[tokio::test]
    async fn a_right_is_asked_for_once_in_a_while_and_lost_for_good() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counting = asked.clone();
        let free: Arc<Forbidden> = Arc::new(move || {
            counting.fetch_add(1, Ordering::Relaxed);
            Ok(None)
        });
        let lease = Arc::new(Lease::new(free, SystemClock::shared()));
        lease.hold().await;
        lease.hold().await;
        assert_eq!((asked.load(Ordering::Relaxed), lease.lost()), (1, None));

        let lease = Arc::new(Lease::new(Arc::new(|| Ok(Some("gone".into()))), SystemClock::shared()));
        let held = tokio::time::timeout(Duration::from_millis(200), lease.hold()).await;
        assert!(held.is_err(), "it never ends");
        assert_eq!(lease.lost().as_deref(), Some("gone"));
    }
}
