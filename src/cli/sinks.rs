//! The MongoDB sinks of all tenants: one for each declared collection.
//!
//! A sink needs the topics' identities and a gate of its own; both come from a broker and a registry that may be away at the
//! start, as may DNS that is to name the database's servers, so starting is repeated in the background until it works. Tenants' engines do
//! not wait for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow};
use arrow::datatypes::SchemaRef;

use super::drain::ends_of;
use super::service::{Gates, Surroundings, gate};
use crate::avro::ReaderSchema;
use crate::avro::registry::Registry;
use crate::clock::{Deadline, SharedClock, SystemClock};
use crate::config::Config;
use crate::engine::admit::Admission;
use crate::engine::branch::alert::alert_schema;
use crate::engine::generation::{self, Follower, Step};
use crate::engine::job::output_avro;
use crate::kafka::{Broker, Cluster, Failure, Position, TopicDescription, TopicPartition};
use crate::mongo::lease::Forbidden;
use crate::mongo::settings::ClientFault;
use crate::mongo::sink::{self, Sink, Target};
use crate::mongo::{Health, ReadingRows, ResultRows, Rows, Settings, SinkHandle, begin_at};
use crate::telemetry::handle::TenantMetrics;
use crate::tenant::{Collection, CollectionOf, Tenant};

/// Pause between tries to start a sink.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// How long one look at topics may take.
const LOOK_WAIT: Duration = Duration::from_secs(10);

/// All sinks of a process.
pub struct Sinks {
    shared: Arc<Shared>,
    starter: Option<JoinHandle<()>>,
    wanted: usize,
}

/// What the starting thread and the owner share.
struct Shared {
    broker: Arc<Cluster>,
    clock: SharedClock,
    is_stopping: AtomicBool,
    running: Mutex<Vec<SinkHandle>>,
    /// One for all sinks of a tenant.
    followers: Mutex<HashMap<String, Arc<Mutex<Follower<Cluster>>>>>,
}

impl Shared {
    fn follower(&self, tenant: &Tenant) -> Arc<Mutex<Follower<Cluster>>> {
        let make = || Arc::new(Mutex::new(Follower::new(self.broker.clone(), self.clock.clone(), tenant.generation_topic())));
        self.followers.lock().unwrap_or_else(PoisonError::into_inner).entry(tenant.name.clone()).or_insert_with(make).clone()
    }

    fn running(&self) -> MutexGuard<'_, Vec<SinkHandle>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sink that has to be started.
struct Wanted {
    tenant: Arc<Tenant>,
    collection: usize,
    health: Arc<Health>,
    metrics: TenantMetrics,
}

/// What starting a sink needs.
struct Starter {
    config: Config,
    around: Surroundings,
    registry: Registry,
    /// Not there as long as DNS does not know the servers.
    client: OnceLock<mongodb::Client>,
    gates: Gates,
    /// Windows alone, into collections aside.
    is_aside: bool,
}

impl Starter {
    fn client(&self, settings: &Settings) -> anyhow::Result<mongodb::Client> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let made = self.around.runtime.block_on(settings.client())?;
        Ok(self.client.get_or_init(|| made).clone())
    }
}

impl Sinks {
    /// Starts the sinks of all tenants, behind the gates that their engines have; none where no MongoDB is configured.
    pub fn start(config: &Config, tenants: &[Arc<Tenant>], around: &Surroundings, gates: Gates) -> anyhow::Result<Self> {
        Self::start_all(config, tenants, around, gates, false)
    }

    /// Starts the sinks of a tenant's windows alone, into collections aside; nothing of theirs has been written before.
    pub fn start_aside(config: &Config, tenant: &Arc<Tenant>, around: &Surroundings) -> anyhow::Result<Self> {
        Self::start_all(config, std::slice::from_ref(tenant), around, Gates::new(), true)
    }

    fn start_all(config: &Config, tenants: &[Arc<Tenant>], around: &Surroundings, gates: Gates, is_aside: bool) -> anyhow::Result<Self> {
        let clock = SystemClock::shared();
        let client_id = format!("testudo-{}-sinks", config.instance);
        let timeout = config.engine.transaction_timeout();
        let broker = Cluster::new(config.kafka.clone(), client_id, timeout, clock.clone(), around.runtime.clone());
        let shared = Arc::new(Shared {
            broker: Arc::new(broker),
            clock,
            is_stopping: AtomicBool::new(false),
            running: Mutex::default(),
            followers: Mutex::default(),
        });
        let Some(settings) = &config.mongo else { return Ok(Self { shared, starter: None, wanted: 0 }) };
        let client = match around.runtime.block_on(settings.client()) {
            Ok(client) => OnceLock::from(client),
            // DNS comes back as a broker does: asked again.
            Err(ClientFault::LookUp(_)) => OnceLock::new(),
            Err(fault) => return Err(anyhow::Error::from(fault).context("failed to set up the MongoDB client")),
        };
        let registry = Registry::new(&config.registry)?;
        let wanted: Vec<Wanted> = tenants.iter().flat_map(|tenant| wanted_of(tenant, around, is_aside)).collect();
        let count = wanted.len();
        let starter = Starter { config: config.clone(), around: around.clone(), registry, client, gates, is_aside };
        let for_thread = shared.clone();
        let thread = std::thread::Builder::new().name("sinks".into()).spawn(move || start_all(wanted, &starter, &for_thread))?;
        Ok(Self { shared, starter: Some(thread), wanted: count })
    }

    /// The ends, as of now, of all topics that sinks read.
    ///
    /// # Errors
    /// When the broker does not tell them.
    pub fn ends(&self) -> Result<HashMap<TopicPartition, Position>, Failure> {
        let mut topics: Vec<Arc<str>> = self.shared.running().iter().flat_map(|sink| sink.topics().to_vec()).collect();
        topics.sort();
        topics.dedup();
        Ok(ends_of(&self.shared.broker, &topics)?.into_iter().collect())
    }

    /// Whether all sinks run and MongoDB holds everything before `ends`.
    pub fn have_reached(&self, ends: &HashMap<TopicPartition, Position>) -> bool {
        self.are_running() && self.shared.running().iter().all(|sink| sink.has_reached(ends))
    }

    /// Whether all sinks have been started.
    pub fn are_running(&self) -> bool {
        self.shared.running().len() == self.wanted
    }

    /// Lets all sinks finish their batch and waits for them within `wait`.
    pub fn stop(self, wait: Duration) {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        if let Some(starter) = self.starter
            && starter.join().is_err()
        {
            tracing::error!("the thread that starts sinks panicked");
        }
        let sinks: Vec<SinkHandle> = self.shared.running().drain(..).collect();
        for sink in &sinks {
            sink.stop();
        }
        let deadline = Deadline::after(&*self.shared.clock, wait);
        for sink in sinks {
            while !sink.is_finished() && !deadline.is_over(&*self.shared.clock) {
                self.shared.clock.sleep(Duration::from_millis(10));
            }
            if !sink.is_finished() || !sink.join() {
                tracing::error!("a sink did not end well; its batch is written again at the next start");
            }
        }
    }
}

fn wanted_of(tenant: &Arc<Tenant>, around: &Surroundings, is_aside: bool) -> Vec<Wanted> {
    let metrics = TenantMetrics::new(&around.metrics, &tenant.name);
    let wanted = |(index, collection): (usize, &Collection)| {
        let health = around.health.component(format!("mongo {}.{}", tenant.name, collection.name));
        let health = Arc::new(Health::new(health));
        Wanted { tenant: tenant.clone(), collection: index, health, metrics: metrics.clone() }
    };
    let is_wanted = |(_, collection): &(usize, &Collection)| !is_aside || matches!(collection.of, CollectionOf::Window(_));
    tenant.collections.iter().enumerate().filter(is_wanted).map(wanted).collect()
}

fn start_all(mut wanted: Vec<Wanted>, starter: &Starter, shared: &Shared) {
    while !wanted.is_empty() && !shared.is_stopping.load(Ordering::Relaxed) {
        let mut waiting = Vec::new();
        for one in wanted {
            // Each may take as long as a broker that is away does not answer.
            if shared.is_stopping.load(Ordering::Relaxed) {
                return;
            }
            match prepare(&one, starter, shared) {
                Ok((target, around, rows)) => match Sink::spawn(target, around, rows, one.health, &one.metrics) {
                    Ok(handle) => shared.running().push(handle),
                    Err(fault) => tracing::error!(%fault, "no thread for a sink"),
                },
                Err(fault) => {
                    one.health.reads_nothing(&format!("{fault:#}"));
                    waiting.push(one);
                }
            }
        }
        wanted = waiting;
        let deadline = Deadline::after(&*shared.clock, RETRY_WAIT);
        while !wanted.is_empty() && !deadline.is_over(&*shared.clock) && !shared.is_stopping.load(Ordering::Relaxed) {
            shared.clock.sleep(RETRY_WAIT / 20);
        }
    }
}

fn prepare(wanted: &Wanted, starter: &Starter, shared: &Shared) -> anyhow::Result<(Target, sink::Surroundings, Box<dyn Rows>)> {
    let (tenant, collection) = (&wanted.tenant, &wanted.tenant.collections[wanted.collection]);
    let topics: Vec<Arc<str>> = match collection.of {
        CollectionOf::Window(index) => vec![tenant.windows[index].topic.clone()],
        CollectionOf::Alert(index) => vec![tenant.alerts[index].topic.clone()],
        CollectionOf::Source(index) => tenant.sources[index].topics.clone(),
    };
    let known = shared.broker.describe(&topics, LOOK_WAIT)?;
    if let Some(missing) = topics.iter().find(|topic| !known.iter().any(|known| known.name == **topic)) {
        return Err(anyhow!("topic {missing} does not exist yet"));
    }
    let rows = rows(wanted, starter, &shared.clock, &known)?;
    let group = tenant.sink_group(collection);
    if let (CollectionOf::Window(_), 2..) = (collection.of, tenant.generation().number) {
        begin_at(&starter.config.kafka, &group, &begins(tenant, &known))?;
    }
    let name = if starter.is_aside { tenant.collection_aside(collection) } else { collection.name.clone() };
    let target = Target { group, database: tenant.database.clone(), collection: name, topics };
    let settings = starter.config.mongo.clone().context("no MongoDB is configured")?;
    let client = starter.client(&settings)?;
    let around = sink::Surroundings {
        kafka: starter.config.kafka.clone(),
        broker: shared.broker.clone(),
        client_id: format!("testudo-{}-mongo", starter.config.instance),
        client,
        settings,
        runtime: starter.around.runtime.clone(),
        clock: shared.clock.clone(),
        forbidden: forbidden(tenant.clone(), starter, shared),
    };
    Ok((target, around, rows))
}

/// Asks whether a tenant's generation still counts, and, for sinks aside, whether it is still being published.
fn forbidden(tenant: Arc<Tenant>, starter: &Starter, shared: &Shared) -> Arc<Forbidden> {
    let (follower, is_aside) = (shared.follower(&tenant), starter.is_aside);
    Arc::new(move || {
        let standing = follower.lock().unwrap_or_else(PoisonError::into_inner).read()?;
        let number = tenant.generation().number;
        Ok(match is_aside {
            false => generation::permits(&standing, number, false),
            true if standing.step == Step::Publishing && standing.current == number => None,
            true => Some(format!("generation {number} is published already")),
        })
    })
}

/// Where a generation begins in topics.
pub(super) fn begins(tenant: &Tenant, topics: &[TopicDescription]) -> Vec<(TopicPartition, Position)> {
    let of = |topic: &TopicDescription| {
        let name = topic.name.clone();
        (0..topic.partitions).map(move |partition| {
            let begin = tenant.generation().begins_at(&name, partition);
            (TopicPartition::new(name.clone(), partition), Position(begin))
        })
    };
    topics.iter().flat_map(of).collect()
}

fn rows(wanted: &Wanted, starter: &Starter, clock: &SharedClock, known: &[TopicDescription]) -> anyhow::Result<Box<dyn Rows>> {
    let (tenant, collection) = (&wanted.tenant, &wanted.tenant.collections[wanted.collection]);
    let topic_id: Arc<str> = known.first().map(|topic| topic.id.0.clone()).context("no topic")?;
    let gate_for = |reader: Arc<ReaderSchema>| gate(reader, &starter.registry, clock, &wanted.metrics, &starter.around);
    let output_reader = |branch: &str, columns: &SchemaRef| -> anyhow::Result<Arc<ReaderSchema>> {
        Ok(Arc::new(ReaderSchema::parse(&output_avro(tenant, branch, columns)?)?))
    };
    Ok(match collection.of {
        CollectionOf::Window(index) => {
            let window = &tenant.windows[index];
            let reader = output_reader(&window.name, &window.output)?;
            Box::new(ResultRows::of_window(window, reader.clone(), gate_for(reader), topic_id)?)
        }
        CollectionOf::Alert(index) => {
            let alert = &tenant.alerts[index];
            let columns = alert_schema(&tenant.sources[alert.source]);
            let reader = output_reader(&alert.name, &columns)?;
            Box::new(ResultRows::of_alert(columns.fields(), reader.clone(), gate_for(reader), topic_id)?)
        }
        CollectionOf::Source(index) => {
            let source = &tenant.sources[index];
            let gate = starter.gates.get(&tenant.name).and_then(|gates| gates.get(index)).context("the source has no gate")?;
            let admission = Admission::new(tenant.clone(), index, gate.clone());
            Box::new(ReadingRows::new(admission, &source.columns.fields()[..source.tenant_columns])?)
        }
    })
}
