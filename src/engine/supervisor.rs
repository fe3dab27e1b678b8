//! Keeps one tenant working: prepares its job, runs its workers, starts them again after faults that pass, and ends, visibly, after
//! those that do not. Tenants know nothing of each other: one that fails leaves the others running.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use super::branch::BranchFault;
use super::commit::NoProducer;
use super::job::{Job, JobFault, RegisterSchema};
use super::processor::ProcessFault;
use super::restore::RestoreFault;
use super::settings::Settings;
use super::status::{Status, WorkerState};
use super::worker::{Worker, WorkerFault};
use crate::avro::Gate;
use crate::avro::registry::RegistryFault;
use crate::clock::{Deadline, SharedClock};
use crate::kafka::{Broker, Reaction};
use crate::store::{StateStore, StoreFault};
use crate::tenant::Tenant;

/// First pause before a new start; doubled each time up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// Longest pause between starts.
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// A start that lived this long was a good one: pauses and counts begin again.
const LONG_LIFE: Duration = Duration::from_secs(60);
/// So many short-lived starts in a row, after faults of our own, and the tenant is given up.
const FRUITLESS_STARTS_MAX: usize = 8;
/// When one worker has ended, the others have so long: longer than all that they may wait for on the way.
const END_WITHIN: Duration = Duration::from_secs(120);
/// Step in which a stop is noticed.
const STOP_STEP: Duration = Duration::from_millis(50);

/// Opens a tenant's store; asked again after a fault, with what was wrong with the old one.
pub type OpenStore = dyn Fn(Option<&StoreFault>) -> Result<Arc<dyn StateStore>, StoreFault> + Send + Sync;

/// Tells the supervisor that a worker's thread ends, by a panic too.
struct Ending(mpsc::Sender<()>);

impl Drop for Ending {
    fn drop(&mut self) {
        // A supervisor that has given the worker up does not listen.
        let _unheard = self.0.send(());
    }
}

/// What a tenant's supervisor needs.
pub struct Parts<B: Broker> {
    /// The tenant.
    pub tenant: Arc<Tenant>,
    /// The broker.
    pub broker: Arc<B>,
    /// Time.
    pub clock: SharedClock,
    /// How epochs are cut.
    pub settings: Settings,
    /// Name of this instance: part of transactional ids.
    pub instance: String,
    /// One gate for each source.
    pub gates: Vec<Arc<Gate>>,
    /// Registers output schemas.
    pub register: Box<RegisterSchema<'static>>,
    /// Opens the store.
    pub open_store: Box<OpenStore>,
    /// Where the workers report.
    pub status: Arc<Status>,
}

/// Why a tenant ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum TenantFault {
    /// The job cannot be prepared.
    #[error(transparent)]
    Job(#[from] JobFault),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// A worker met something that does not pass.
    #[error(transparent)]
    Worker(#[from] WorkerFault),
    /// A worker panicked.
    #[error("a worker panicked: {0}; this is a defect of testudo, the committed state is not affected")]
    Panicked(String),
    /// A worker does not end, so nothing can start in its place.
    #[error(
        "a worker has not ended within {} s after another one: restart the process, the committed state is not affected",
        END_WITHIN.as_secs()
    )]
    Stuck,
}

/// A running tenant.
pub struct TenantHandle {
    /// The tenant's name.
    pub name: String,
    /// How far it has come.
    pub status: Arc<Status>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), TenantFault>>,
}

impl TenantHandle {
    /// Tells the workers to commit what is open and end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end.
    pub fn join(self) -> Result<(), TenantFault> {
        self.thread.join().unwrap_or_else(|panic| Err(TenantFault::Panicked(panic_text(&*panic))))
    }
}

/// Starts a tenant on a thread of its own.
pub fn start<B: Broker>(parts: Parts<B>) -> std::io::Result<TenantHandle> {
    let stop = Arc::new(AtomicBool::new(false));
    let (name, status) = (parts.tenant.name.clone(), parts.status.clone());
    let supervisor = Supervisor { parts, stop: stop.clone(), pause: PAUSE_FIRST, fruitless: 0 };
    let thread = std::thread::Builder::new().name(format!("tenant {name}")).spawn(move || supervisor.run())?;
    Ok(TenantHandle { name, status, stop, thread })
}

struct Supervisor<B: Broker> {
    parts: Parts<B>,
    stop: Arc<AtomicBool>,
    pause: Duration,
    fruitless: usize,
}

impl<B: Broker> Supervisor<B> {
    fn run(mut self) -> Result<(), TenantFault> {
        let mut was_wrong = None;
        while !self.is_stopped() {
            let began = self.parts.clock.monotonic();
            let fault = match self.run_once(was_wrong.take()) {
                Ok(()) => return Ok(()),
                Err(fault) => fault,
            };
            self.parts.status.forget();
            if self.parts.clock.monotonic().saturating_sub(began) > LONG_LIFE {
                (self.pause, self.fruitless) = (PAUSE_FIRST, 0);
            }
            if !self.passes(&fault) {
                tracing::error!(tenant = self.parts.tenant.name, %fault, "tenant ended");
                self.parts.status.not_ready(&format!("ended: {fault}"));
                return Err(fault);
            }
            tracing::warn!(tenant = self.parts.tenant.name, %fault, pause_ms = self.pause.as_millis() as u64, "tenant starts again after a pause");
            self.parts.status.not_ready(&fault.to_string());
            was_wrong = damage(fault);
            self.rest();
        }
        Ok(())
    }

    /// Whether trying again can help.
    fn passes(&mut self, fault: &TenantFault) -> bool {
        match kind(fault) {
            Kind::Outside => true,
            Kind::Ours => {
                self.fruitless += 1;
                self.fruitless < FRUITLESS_STARTS_MAX
            }
            Kind::Operators => false,
        }
    }

    fn run_once(&self, was_wrong: Option<StoreFault>) -> Result<(), TenantFault> {
        let store = (self.parts.open_store)(was_wrong.as_ref())?;
        let parts = &self.parts;
        let job = Job::prepare(
            parts.tenant.clone(),
            parts.settings.clone(),
            &*parts.broker,
            &*parts.clock,
            store,
            parts.gates.clone(),
            &*parts.register,
        )?;
        let job = Arc::new(job);
        // One worker's end ends the others of this start; the tenant's own stop is asked beside it.
        let stop = Arc::new(AtomicBool::new(false));
        let (ending, ends) = mpsc::channel();
        let (mut threads, mut unmade) = (Vec::new(), None);
        for number in 0..parts.settings.worker_count() {
            match self.spawn(&job, &stop, number, Ending(ending.clone())) {
                Ok(thread) => threads.push(thread),
                Err(fault) => {
                    // Those that work already are waited for: none may outlive its start.
                    stop.store(true, Ordering::Relaxed);
                    unmade = Some(fault);
                    break;
                }
            }
        }
        let mut until = None;
        while threads.iter().any(|thread| !thread.is_finished()) {
            if self.is_stopped() || threads.iter().any(JoinHandle::is_finished) {
                stop.store(true, Ordering::Relaxed);
                if until.get_or_insert_with(|| Deadline::after(&*parts.clock, END_WITHIN)).is_over(&*parts.clock) {
                    return Err(TenantFault::Stuck);
                }
            }
            // A worker's end ends the wait; so does time, to look at the stop.
            let _woken = ends.recv_timeout(STOP_STEP);
        }
        let ends = threads.into_iter().map(|thread| match thread.join() {
            Ok(end) => end.map_err(TenantFault::from),
            Err(panic) => Err(TenantFault::Panicked(panic_text(&*panic))),
        });
        let first = ends.collect::<Vec<_>>().into_iter().find(Result::is_err);
        unmade.map(Err).or(first).unwrap_or(Ok(()))
    }

    fn spawn(
        &self,
        job: &Arc<Job>,
        stop: &Arc<AtomicBool>,
        number: usize,
        ending: Ending,
    ) -> Result<JoinHandle<Result<(), WorkerFault>>, TenantFault> {
        let (job, stop, parts) = (job.clone(), stop.clone(), &self.parts);
        let (broker, clock, status, instance) = (parts.broker.clone(), parts.clock.clone(), parts.status.clone(), parts.instance.clone());
        status.worker(number, WorkerState::Starting);
        std::thread::Builder::new()
            .name(format!("{}-{number}", job.tenant.name))
            .spawn(move || {
                let _told = ending;
                Worker::start(job, broker, clock, status, stop, &instance, number)?.run()
            })
            .map_err(|error| TenantFault::Panicked(format!("no thread for worker {number}: {error}")))
    }

    fn rest(&mut self) {
        let mut left = self.pause;
        while !left.is_zero() && !self.is_stopped() {
            let step = left.min(STOP_STEP);
            self.parts.clock.sleep(step);
            left -= step;
        }
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Who can help against a fault.
enum Kind {
    /// It passes when a broker, a registry, a disk comes back.
    Outside,
    /// A defect, perhaps: a few tries.
    Ours,
    /// An operator.
    Operators,
}

fn kind(fault: &TenantFault) -> Kind {
    match fault {
        TenantFault::Job(fault) | TenantFault::Worker(WorkerFault::Job(fault)) => of_job(fault),
        TenantFault::Store(fault) | TenantFault::Worker(WorkerFault::Store(fault) | WorkerFault::Restore(RestoreFault::Store(fault))) => {
            of_store(fault)
        }
        TenantFault::Worker(
            WorkerFault::Kafka(failure)
            | WorkerFault::Producer(NoProducer::Failed(failure))
            | WorkerFault::Restore(RestoreFault::Kafka(failure)),
        ) => match failure.reaction {
            Reaction::Stop => Kind::Operators,
            _ => Kind::Outside,
        },
        TenantFault::Worker(
            WorkerFault::Restore(RestoreFault::Refused { .. } | RestoreFault::Ahead { .. })
            | WorkerFault::Producer(NoProducer::Fenced { .. }),
        )
        | TenantFault::Stuck => Kind::Operators,
        TenantFault::Worker(WorkerFault::Process(ProcessFault::Branch(BranchFault::Store(fault)))) => of_store(fault),
        TenantFault::Worker(WorkerFault::Process(_)) | TenantFault::Panicked(_) => Kind::Ours,
    }
}

fn of_job(fault: &JobFault) -> Kind {
    match fault {
        JobFault::MissingTopics(_) => Kind::Outside,
        JobFault::Kafka(failure) if failure.reaction != Reaction::Stop => Kind::Outside,
        JobFault::Registry { source: RegistryFault::Unavailable(_), .. } => Kind::Outside,
        JobFault::Store(fault) => of_store(fault),
        JobFault::Branch(_) => Kind::Ours,
        JobFault::Kafka(_) | JobFault::Registry { .. } | JobFault::Output { .. } => Kind::Operators,
        JobFault::Topology(_) | JobFault::Superseded(_) => Kind::Operators,
    }
}

fn of_store(fault: &StoreFault) -> Kind {
    match fault {
        StoreFault::Disk { .. } => Kind::Outside,
        // Set aside at the next opening; damage again and again is the disk's.
        StoreFault::Damaged { .. } => Kind::Ours,
        StoreFault::Locked { .. } | StoreFault::Foreign { .. } | StoreFault::Changed { .. } => Kind::Operators,
    }
}

/// The damage that the next opening of the store has to know about.
fn damage(fault: TenantFault) -> Option<StoreFault> {
    let fault = match fault {
        TenantFault::Store(fault) | TenantFault::Job(JobFault::Store(fault)) => fault,
        TenantFault::Worker(
            WorkerFault::Store(fault)
            | WorkerFault::Restore(RestoreFault::Store(fault))
            | WorkerFault::Process(ProcessFault::Branch(BranchFault::Store(fault))),
        ) => fault,
        _ => return None,
    };
    matches!(fault, StoreFault::Damaged { .. }).then_some(fault)
}

/// What a panic said.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("no message").to_owned()
}
