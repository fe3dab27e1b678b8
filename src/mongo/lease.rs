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
    /// One question at a time: who waited for another's end finds its answer.
    asking: Mutex<()>,
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
        Self { forbidden, clock, held: Mutex::default(), asking: Mutex::default() }
    }

    /// Why the right is gone for good; none when it is not.
    pub fn lost(&self) -> Option<String> {
        self.held().lost.clone()
    }

    /// Ends when the right is there, however long the broker is away, of which `tell` hears. Once it is lost this never ends: drop the
    /// future.
    pub async fn hold(self: &Arc<Self>, tell: impl Fn(&str)) {
        loop {
            if self.is_held() {
                return;
            }
            if self.lost().is_some() {
                std::future::pending::<()>().await;
            }
            let lease = self.clone();
            let why = match tokio::task::spawn_blocking(move || lease.ask_unless_held()).await {
                Ok(Ok(())) => continue,
                Ok(Err(failure)) => failure.to_string(),
                Err(error) => error.to_string(),
            };
            tell(&why);
            tokio::time::sleep(ASK_PAUSE).await;
        }
    }

    /// Asks.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn ask(&self) -> Result<(), Failure> {
        let _alone = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        self.ask_alone()
    }

    fn ask_unless_held(&self) -> Result<(), Failure> {
        let _alone = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_held() || self.lost().is_some() { Ok(()) } else { self.ask_alone() }
    }

    fn ask_alone(&self) -> Result<(), Failure> {
        // The right begins when it is asked for, not when the answer is there.
        let until = Deadline::after(&*self.clock, LASTS);
        let lost = (self.forbidden)()?;
        let mut held = self.held();
        held.until = Some(until);
        held.lost = held.lost.take().or(lost);
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
    use crate::kafka::Reaction;

    fn told(why: &str) {
        panic!("{why}");
    }

    #[tokio::test]
    async fn a_right_is_asked_for_once_in_a_while_and_lost_for_good() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counting = asked.clone();
        let free: Arc<Forbidden> = Arc::new(move || {
            counting.fetch_add(1, Ordering::Relaxed);
            Ok(None)
        });
        let lease = Arc::new(Lease::new(free, SystemClock::shared()));
        tokio::join!(lease.hold(told), lease.hold(told));
        lease.hold(told).await;
        assert_eq!((asked.load(Ordering::Relaxed), lease.lost()), (1, None));
        lease.ask().expect("an answer");
        assert_eq!(asked.load(Ordering::Relaxed), 2, "who is given partitions asks anew");

        let lease = Arc::new(Lease::new(Arc::new(|| Ok(Some("gone".into()))), SystemClock::shared()));
        let held = tokio::time::timeout(Duration::from_millis(200), lease.hold(told)).await;
        assert!(held.is_err(), "it never ends");
        assert_eq!(lease.lost().as_deref(), Some("gone"));
    }

    #[tokio::test]
    async fn a_broker_that_does_not_answer_is_told_of_and_asked_again() {
        let asked = AtomicUsize::new(0);
        let away: Arc<Forbidden> = Arc::new(move || match asked.fetch_add(1, Ordering::Relaxed) {
            0 => Err(Failure::new(Reaction::Retry, "ask", "away")),
            _ => Ok(None),
        });
        let told = Mutex::new(Vec::new());
        let lease = Arc::new(Lease::new(away, SystemClock::shared()));

        lease.hold(|why| told.lock().expect("no panic").push(why.to_owned())).await;

        assert_eq!(*told.lock().expect("no panic"), ["failed to ask: away"]);
    }
}
