//! A model of the schema registry: it knows every schema; sometimes it takes its time, fails, or one of its replicas lags.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use testudo::avro::frame::{SchemaGuid, SchemaId};
use testudo::avro::gate::{OnAnswer, Policy, SchemaLookup};
use testudo::avro::guid::OnId;
use testudo::avro::registry::{FetchedSchema, RegistryFault};
use testudo::avro::{Gate, Verdict};
use testudo::telemetry::handle::TenantMetrics;
use testudo::tenant::Tenant;

use super::faults::Fault;
use super::input::writer_schema;
use super::link::Shared;

/// So often one gate is told that there is no such schema: it believes what it hears more often, and dead letters would follow.
const LAGS_MAX: u32 = 3;

/// A registry.
pub struct Registry {
    shared: Arc<Shared>,
    under_way: Mutex<Vec<UnderWay>>,
}

/// An answer, and when it arrives.
struct UnderWay {
    at: Duration,
    outcome: Result<FetchedSchema, RegistryFault>,
    answer: OnAnswer,
}

impl Registry {
    /// A registry that knows the input's schemas.
    pub fn new(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self { shared, under_way: Mutex::default() })
    }

    /// Gives the answers that are due.
    pub fn answer(&self) {
        let now = self.shared.now();
        let due = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut *under_way).into_iter().partition(|answer| answer.at <= now);
            *under_way = later;
            due
        };
        for UnderWay { outcome, answer, .. } in due {
            answer(outcome);
        }
    }
}

/// What one gate asks.
struct Asker {
    registry: Arc<Registry>,
    lags: Mutex<BTreeMap<u32, u32>>,
}

impl Asker {
    fn outcome(&self, id: SchemaId) -> Result<FetchedSchema, RegistryFault> {
        let mut lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        let lags = lags.entry(id.0).or_default();
        let chances = &mut self.registry.shared.cluster().chances;
        if chances.strikes(Fault::FailingRegistry, 3_000) {
            return Err(RegistryFault::Unavailable("status 500".into()));
        }
        if *lags < LAGS_MAX && chances.strikes(Fault::LaggingRegistry, 3_000) {
            *lags += 1;
            return Err(RegistryFault::NotFound("this replica lags".into()));
        }
        Ok(FetchedSchema::avro(id, writer_schema(id.0)))
    }
}

impl SchemaLookup for Asker {
    fn look_up(&self, id: SchemaId, answer: OnAnswer) {
        let (shared, outcome) = (&self.registry.shared, self.outcome(id));
        let now = shared.now();
        let at = {
            let mut cluster = shared.cluster();
            let is_slow = cluster.chances.strikes(Fault::SlowRegistry, 7_000);
            let most = [200, 5_000, 30_000][cluster.random.below(3)];
            if is_slow { now + cluster.chances.of(Fault::SlowRegistry).up_to(Duration::from_millis(most)) } else { now }
        };
        self.registry.under_way.lock().unwrap_or_else(PoisonError::into_inner).push(UnderWay { at, outcome, answer });
    }

    fn look_up_guid(&self, _: SchemaGuid, answer: OnId) {
        answer(Err(RegistryFault::Bad("the model knows no GUIDs".into())));
    }
}

/// A process's gate: it has judged nothing yet.
pub fn gate(tenant: &Tenant, registry: &Arc<Registry>, metrics: TenantMetrics) -> Arc<Gate> {
    let asker = Arc::new(Asker { registry: registry.clone(), lags: Mutex::default() });
    Gate::new(tenant.sources[0].reader.clone(), asker, registry.shared.clock.clone(), metrics, Policy { jitter: 0, ..Policy::default() })
}

/// Lets a gate judge the input's schemas.
pub fn judge_all(gate: &Gate, registry: &Registry) {
    for id in [1, 2] {
        while matches!(gate.verdict(SchemaId(id)), Verdict::Pending) {
            registry.answer();
        }
    }
}
