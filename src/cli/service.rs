//! The running service: every tenant's supervisor and sinks, with what they share. `run`, `demo` and tests start it here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::drain::ends_of;
use crate::avro::gate::{Policy, RegistryLookup};
use crate::avro::registry::Registry;
use crate::avro::{Gate, ReaderSchema};
use crate::clock::{Deadline, SharedClock, SystemClock};
use crate::config::Config;
use crate::engine::status::{Status, Totals};
use crate::engine::supervisor::{self, Parts, TenantFault, TenantHandle};
use crate::kafka::{Cluster, Failure, Position, TopicPartition};
use crate::schemas::office::{self, Office};
use crate::store::{Memory, StateStore, Store};
use crate::telemetry::handle::TenantMetrics;
use crate::telemetry::health::Health;
use crate::telemetry::metric::Metrics;
use crate::tenant::Tenant;

/// Everything that runs.
pub struct Service {
    clock: SharedClock,
    broker: Arc<Cluster>,
    tenants: Vec<(Arc<Tenant>, TenantHandle)>,
    offices: HashMap<String, Office>,
}

/// The gates of every tenant, by its name: one for each source, shared by engine and sinks.
pub type Gates = HashMap<String, Vec<Arc<Gate>>>;

/// What a service shares with its surroundings.
#[derive(Clone)]
pub struct Surroundings {
    /// Metrics of the process.
    pub metrics: Metrics,
    /// Readiness of its parts.
    pub health: Arc<Health>,
    /// Serves admin clients and registry look-ups.
    pub runtime: tokio::runtime::Handle,
}

impl Service {
    /// Starts all tenants; none is waited for.
    pub fn start(config: &Config, tenants: Vec<Arc<Tenant>>, around: &Surroundings) -> anyhow::Result<Self> {
        let clock = SystemClock::shared();
        let client_id = format!("testudo-{}", config.instance);
        let broker = Arc::new(Cluster::new(
            config.kafka.clone(),
            client_id,
            config.engine.transaction_timeout(),
            clock.clone(),
            around.runtime.clone(),
        ));
        let registry = Registry::new(&config.registry)?;
        let memory = Memory::new(&config.store);
        let mut running = Vec::with_capacity(tenants.len());
        let mut offices = HashMap::new();
        for tenant in tenants {
            let office = office(config, &tenant, &broker, &registry, &clock, around)?;
            let parts = parts(config, tenant.clone(), &broker, &registry, &memory, &clock, around, office.gates.clone());
            offices.insert(tenant.name.clone(), office);
            let handle = supervisor::start(parts).with_context(|| format!("failed to start tenant {}", tenant.name))?;
            running.push((tenant, handle));
        }
        Ok(Self { clock, broker, tenants: running, offices })
    }

    /// The gates that the tenants' sources share.
    pub fn gates(&self) -> Gates {
        self.offices.iter().map(|(tenant, office)| (tenant.clone(), office.gates.clone())).collect()
    }

    /// The ends of all input topics as of now, by tenant.
    ///
    /// # Errors
    /// When the broker does not tell them.
    pub fn input_ends(&self) -> Result<HashMap<String, Vec<(TopicPartition, Position)>>, Failure> {
        let ends = |tenant: &Tenant| ends_of(&self.broker, &tenant.input_topics().cloned().collect::<Vec<_>>());
        self.tenants.iter().map(|(tenant, _)| Ok((tenant.name.clone(), ends(tenant)?))).collect()
    }

    /// Whether every tenant has committed all input up to `ends`, or has ended.
    pub fn has_reached(&self, ends: &HashMap<String, Vec<(TopicPartition, Position)>>) -> bool {
        self.tenants
            .iter()
            .all(|(tenant, handle)| handle.is_finished() || ends.get(&tenant.name).is_none_or(|ends| handle.status.has_reached(ends)))
    }

    /// What keeps the tenants that have not reached `ends`, when all of that waits for people; a line for each partition.
    pub fn stuck_before(&self, ends: &HashMap<String, Vec<(TopicPartition, Position)>>) -> Option<Vec<String>> {
        let mut lines = Vec::new();
        for (tenant, handle) in self.tenants.iter().filter(|(_, handle)| !handle.is_finished()) {
            let Some(ends) = ends.get(&tenant.name).filter(|ends| !handle.status.has_reached(ends)) else { continue };
            lines.extend(handle.status.stuck_before(ends)?);
        }
        (!lines.is_empty()).then_some(lines)
    }

    /// Whether all tenants have ended by themselves.
    pub fn is_finished(&self) -> bool {
        self.tenants.iter().all(|(_, handle)| handle.is_finished())
    }

    /// Sums over all tenants; first record and last commit of any.
    pub fn totals(&self) -> Totals {
        self.tenants.iter().map(|(_, handle)| handle.status.totals()).fold(Totals::default(), add)
    }

    /// Tells all tenants to commit what is open and end, and waits for them within `wait`. The first fault of each that had one.
    pub fn stop(self, wait: Duration) -> (Vec<(String, TenantFault)>, bool) {
        for (_, handle) in &self.tenants {
            handle.stop();
        }
        let deadline = Deadline::after(&*self.clock, wait);
        let mut faults = Vec::new();
        let mut all_ended = true;
        for (tenant, handle) in self.tenants {
            while !handle.is_finished() && !deadline.is_over(&*self.clock) {
                self.clock.sleep(Duration::from_millis(10));
            }
            if !handle.is_finished() {
                tracing::error!(tenant = tenant.name, "did not end in time; what is uncommitted will be done again");
                all_ended = false;
            } else if let Err(fault) = handle.join() {
                faults.push((tenant.name.clone(), fault));
            }
        }
        self.offices.into_values().for_each(Office::close);
        (faults, all_ended)
    }
}

fn add(sum: Totals, more: Totals) -> Totals {
    Totals {
        records: sum.records + more.records,
        alerts: sum.alerts + more.alerts,
        results: sum.results + more.results,
        dead_letters: sum.dead_letters + more.dead_letters,
        first_record: [sum.first_record, more.first_record].into_iter().flatten().min(),
        last_commit: sum.last_commit.max(more.last_commit),
    }
}

/// Opens a tenant's office for schemas.
fn office(
    config: &Config,
    tenant: &Arc<Tenant>,
    broker: &Arc<Cluster>,
    registry: &Registry,
    clock: &SharedClock,
    around: &Surroundings,
) -> anyhow::Result<Office> {
    let parts = office::Parts {
        tenant: tenant.clone(),
        instance: config.instance.clone(),
        cluster: broker.clone(),
        kafka: config.kafka.clone(),
        registry: registry.clone(),
        lookup: Arc::new(RegistryLookup::new(registry.clone(), around.runtime.clone())),
        watch_every: config.registry.watch_every(),
        events: config.events.clone(),
        clock: clock.clone(),
        metrics: TenantMetrics::new(&around.metrics, &tenant.name),
        health: around.health.component(format!("schemas {}", tenant.name)),
        runtime: around.runtime.clone(),
    };
    Office::open(parts).with_context(|| format!("failed to start tenant {}", tenant.name))
}

#[allow(clippy::too_many_arguments, reason = "what a tenant shares with others, once")]
fn parts(
    config: &Config,
    tenant: Arc<Tenant>,
    broker: &Arc<Cluster>,
    registry: &Registry,
    memory: &Memory,
    clock: &SharedClock,
    around: &Surroundings,
    gates: Vec<Arc<Gate>>,
) -> Parts<Cluster> {
    let metrics = TenantMetrics::new(&around.metrics, &tenant.name);
    let (registering, runtime) = (registry.clone(), around.runtime.clone());
    let (memory, dir, name) = (memory.clone(), config.store.dir.clone(), tenant.own_name());
    Parts {
        broker: broker.clone(),
        clock: clock.clone(),
        settings: config.engine.clone(),
        instance: config.instance.clone(),
        gates,
        register: Box::new(move |subject, json| runtime.block_on(registering.register(subject, json))),
        open_store: Box::new(move |damage| {
            let store = match damage {
                None => Store::open(&dir, &name, &memory),
                Some(damage) => Store::open_after_damage(&dir, &name, &memory, damage),
            };
            store.map(|store| Arc::new(store) as Arc<dyn StateStore>)
        }),
        status: Arc::new(Status::new(metrics, around.health.component(format!("tenant {}", tenant.name)))),
        tenant,
    }
}

/// A gate in front of what Testudo itself has written as `reader`: no policy, no owner.
pub fn gate(
    reader: Arc<ReaderSchema>,
    registry: &Registry,
    clock: &SharedClock,
    metrics: &TenantMetrics,
    around: &Surroundings,
) -> Arc<Gate> {
    let lookup = Arc::new(RegistryLookup::new(registry.clone(), around.runtime.clone()));
    Gate::new(reader, lookup, clock.clone(), metrics.clone(), Policy::default())
}
