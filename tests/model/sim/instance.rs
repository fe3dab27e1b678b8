//! An instance of the tenant on a machine: started, stepped worker by worker, stopped, ended. What a supervisor's threads do, on one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use testudo::avro::Gate;
use testudo::avro::frame::SchemaId;
use testudo::engine::commit::NoProducer;
use testudo::engine::job::{Job, JobFault};
use testudo::engine::restore::RestoreFault;
use testudo::engine::settings::Settings;
use testudo::engine::status::Status;
use testudo::engine::worker::{Worker, WorkerFault};
use testudo::kafka::Reaction;
use testudo::telemetry::Health;
use testudo::telemetry::handle::TenantMetrics;
use testudo::telemetry::metric::Metrics;

use super::broker::ModelBroker;
use super::client::Process;
use super::disk::{Disk, OpenDisk};
use super::input::zoo_tenant;
use super::link::{Link, Shared};
use super::registry::{Registry, gate};

/// A worker of the real engine on the model.
pub type ModelWorker = Worker<ModelBroker>;

/// A worker's place.
pub enum Slot {
    /// Between two turns.
    Idle(Box<ModelWorker>),
    /// In the middle of one, further down the stack.
    Busy,
    /// It has ended.
    Gone,
}

/// What a machine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It runs nothing until then.
    Down(Duration),
    /// Its instance is being made.
    Starting,
    /// Its instance works.
    Up,
    /// Its workers commit what is open and leave.
    Ending,
}

/// A machine with its disk and what runs on it.
pub struct Instance {
    /// What it does.
    pub phase: Phase,
    /// Its disk.
    pub disk: Arc<Disk>,
    /// Its workers.
    pub workers: Vec<Slot>,
    /// Tells them to stop.
    pub stop: Arc<AtomicBool>,
}

impl Instance {
    /// A machine that runs nothing yet.
    pub fn new() -> Self {
        Self { phase: Phase::Down(Duration::ZERO), disk: Arc::default(), workers: Vec::new(), stop: Arc::default() }
    }

    /// Whether no worker is left.
    pub fn is_empty(&self) -> bool {
        self.workers.iter().all(|slot| matches!(slot, Slot::Gone))
    }

    /// Lets the workers end.
    pub fn end(&mut self) {
        self.phase = Phase::Ending;
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What a new process needs.
pub struct Parts {
    link: Link,
    gate: Arc<Gate>,
    job: Arc<Job>,
    broker: Arc<ModelBroker>,
    status: Arc<Status>,
    stop: Arc<AtomicBool>,
}

/// How the engine is set in the simulation: its few windows take several epochs to be swept.
pub fn settings(is_static: bool, has_ledger: bool) -> Settings {
    Settings { workers: 1, commit_pause_ms: 5, static_membership: is_static, ledger: has_ledger, sweep_max: 2, ..Settings::default() }
}

impl Parts {
    /// Prepares the tenant's job in a new process.
    pub fn prepare(
        shared: &Arc<Shared>,
        registry: &Arc<Registry>,
        process: Process,
        disk: &Arc<Disk>,
        stop: &Arc<AtomicBool>,
        settings: Settings,
    ) -> Result<Self, JobFault> {
        let link = Link { shared: shared.clone(), process };
        let tenant = zoo_tenant();
        let broker = ModelBroker::new(link.clone(), settings.transaction_timeout());
        let metrics = TenantMetrics::new(&Metrics::new(), &tenant.name);
        let status = Arc::new(Status::new(metrics.clone(), Health::default().component("tenant")));
        let store = Arc::new(OpenDisk { disk: disk.clone(), link: link.clone() });
        let gate = gate(&tenant, registry, metrics);
        let job = Job::prepare(tenant, settings, &broker, &*shared.clock, store, vec![gate.clone()], &|_, _| Ok(SchemaId(100)))?;
        Ok(Self { link, gate, job: Arc::new(job), broker: Arc::new(broker), status, stop: stop.clone() })
    }

    /// The gate of the input.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The job.
    pub fn job(&self) -> &Arc<Job> {
        &self.job
    }

    /// Starts a worker.
    pub fn start(&self, number: usize) -> Result<ModelWorker, WorkerFault> {
        let (job, broker, clock) = (self.job.clone(), self.broker.clone(), self.link.shared.clock.clone());
        let instance = format!("machine{}", self.link.process.machine);
        Worker::start(job, broker, clock, self.status.clone(), self.stop.clone(), &instance, number)
    }
}

/// What a worker's end means in a process that lives: a supervisor would start again (`Ok`), or nobody can be at fault but us (`Err`).
pub fn judge(fault: &WorkerFault) -> Result<(), String> {
    let passes = match fault {
        WorkerFault::Kafka(failure)
        | WorkerFault::Restore(RestoreFault::Kafka(failure))
        | WorkerFault::Producer(NoProducer::Failed(failure))
        | WorkerFault::Job(JobFault::Kafka(failure)) => failure.reaction != Reaction::Stop,
        WorkerFault::Producer(NoProducer::Fenced { .. }) => true,
        _ => false,
    };
    if passes { Ok(()) } else { Err(format!("a worker ended for good: {fault}")) }
}
