//! The way from a process to the cluster: every call goes through here, and here it meets its fault.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use testudo::clock::{Clock, Deadline};
use testudo::kafka::{Failure, Reaction};

use super::client::Process;
use super::clock::VirtualClock;
use super::cluster::Cluster;
use super::faults::Fault;
use super::scheduler;

/// Wait between looks at something that others must change.
pub const LOOK: Duration = Duration::from_millis(100);

/// What all share.
pub struct Shared {
    /// Time.
    pub clock: Arc<VirtualClock>,
    cluster: Mutex<Cluster>,
}

impl Shared {
    /// A cluster and its clock.
    pub fn new(cluster: Cluster) -> Arc<Self> {
        Arc::new(Self { clock: Arc::default(), cluster: Mutex::new(cluster) })
    }

    /// The cluster. Never held while time passes.
    pub fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time.
    pub fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Lets happen what happens by itself.
    pub fn work(&self) {
        let now = self.now();
        self.cluster().pass(now);
    }

    /// Notes an event for the trace.
    pub fn note(&self, event: impl FnOnce() -> String) {
        let now = self.now();
        self.cluster().note(now, event);
    }
}

/// One process's way to the cluster.
#[derive(Clone)]
pub struct Link {
    /// What all share.
    pub shared: Arc<Shared>,
    /// The process.
    pub process: Process,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It arrives and is answered.
    None,
    /// It never arrives.
    Request,
    /// It arrives, nobody hears the answer.
    Answer,
    /// It arrives so much later, its client having given it up.
    Late(Duration),
    /// It arrives and is answered, and arrives again so much later.
    Doubled(Duration),
}

impl Link {
    /// Begins a call that may take `wait`: the process may end or stand still here, the brokers may be away. Whether the connection
    /// was lost on the way.
    pub fn enter(&self, attempted: &str, wait: Duration) -> Result<bool, Failure> {
        let deadline = Deadline::after(&*self.shared.clock, wait);
        self.takes_a_moment();
        self.shared.work();
        self.meet_faults(attempted)?;
        let mut was_cut_off = false;
        while !self.reaches() {
            was_cut_off = true;
            if deadline.is_over(&*self.shared.clock) {
                return Err(Failure::timed_out(Reaction::Retry, attempted, wait));
            }
            scheduler::pass(LOOK.min(deadline.left(&*self.shared.clock)));
            self.alive(attempted)?;
        }
        Ok(was_cut_off)
    }

    /// Every request takes some time, or nothing could happen between two of them.
    fn takes_a_moment(&self) {
        let moment = self.shared.cluster().random.up_to(Duration::from_millis(2));
        let until = self.shared.now() + moment;
        self.shared.clock.advance_to(until);
    }

    fn meet_faults(&self, attempted: &str) -> Result<(), Failure> {
        self.alive(attempted)?;
        self.may_crash(attempted)?;
        let (freeze, slow, yields) = {
            let mut cluster = self.shared.cluster();
            let freeze =
                cluster.chances.strikes(Fault::Freeze, 25).then(|| cluster.chances.of(Fault::Freeze).up_to(Duration::from_secs(40)));
            let slow = cluster.chances.strikes(Fault::Slow, 150).then(|| {
                let random = cluster.chances.of(Fault::Slow);
                let most = [50, 900, 2_000, 15_000][random.below(4)];
                random.up_to(Duration::from_millis(most))
            });
            (freeze, slow, cluster.random.permille(60))
        };
        if let Some(duration) = freeze {
            scheduler::freeze(self.process.machine, duration, attempted);
        }
        if let Some(duration) = slow {
            self.shared.note(|| format!("{}: {attempted} takes {:.3} s", self.process, duration.as_secs_f64()));
            // In parts: the others get to work before it is over.
            (0..3).for_each(|_| scheduler::pass(duration / 3));
        } else if yields {
            scheduler::pass(Duration::from_millis(1));
        }
        self.alive(attempted)
    }

    /// An error if the process has ended.
    pub fn alive(&self, attempted: &str) -> Result<(), Failure> {
        match self.shared.cluster().is_dead(self.process) {
            true => Err(Failure::new(Reaction::Rejoin, attempted, "this process has ended")),
            false => Ok(()),
        }
    }

    /// The process may end here.
    pub fn may_crash(&self, attempted: &str) -> Result<(), Failure> {
        let now = self.shared.now();
        let mut cluster = self.shared.cluster();
        if cluster.chances.strikes(Fault::Crash, 20) {
            cluster.note(now, || format!("{} ends in: {attempted}", self.process));
            cluster.crash(self.process.machine, now);
            return Err(Failure::new(Reaction::Rejoin, attempted, "this process has ended"));
        }
        Ok(())
    }

    fn reaches(&self) -> bool {
        let now = self.shared.now();
        self.shared.cluster().reaches(self.process, now)
    }

    /// What becomes of the request that is sent now; `late` and `doubled` are its own kinds of fault.
    pub fn loss(&self, late: Option<Fault>, doubled: Option<Fault>) -> Loss {
        let mut cluster = self.shared.cluster();
        let chances = &mut cluster.chances;
        if let Some(fault) = late
            && chances.strikes(fault, 250)
        {
            return Loss::Late(delay(chances.of(fault)));
        }
        if let Some(fault) = doubled
            && chances.strikes(fault, 250)
        {
            return Loss::Doubled(delay(chances.of(fault)));
        }
        match () {
            () if chances.strikes(Fault::RequestLost, 120) => Loss::Request,
            () if chances.strikes(Fault::AnswerLost, 120) => Loss::Answer,
            () => Loss::None,
        }
    }

    /// Waits for an answer that does not come: the client tries again by itself, or gives up when `deadline` is over. Whether it
    /// tries again.
    pub fn waits_in_vain(&self, attempted: &str, deadline: Deadline) -> Result<bool, Failure> {
        let (patience, tries_again) = {
            let mut cluster = self.shared.cluster();
            let most = [20, 400, 3_000][cluster.random.below(3)];
            (cluster.random.up_to(Duration::from_millis(most)), cluster.random.permille(600))
        };
        let left = deadline.left(&*self.shared.clock);
        scheduler::pass(if tries_again { patience.min(left) } else { left });
        self.alive(attempted)?;
        Ok(tries_again && !deadline.is_over(&*self.shared.clock))
    }

    /// Waits until it is worth asking again; `false` when `deadline` is over.
    pub fn waits(&self, attempted: &str, pause: Duration, deadline: Deadline) -> Result<bool, Failure> {
        if deadline.is_over(&*self.shared.clock) {
            return Ok(false);
        }
        scheduler::pass(pause.min(deadline.left(&*self.shared.clock)));
        self.alive(attempted)?;
        Ok(true)
    }

    /// A deadline after `wait`.
    pub fn deadline(&self, wait: Duration) -> Deadline {
        Deadline::after(&*self.shared.clock, wait)
    }
}

/// Mostly short: into the next transaction of the same client.
fn delay(random: &mut super::random::Random) -> Duration {
    let most = [10, 60, 150, 300, 3_000, 20_000][random.below(6)];
    random.up_to(Duration::from_millis(most))
}
