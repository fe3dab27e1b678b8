//! A model of the schema registry: it knows every schema, and sometimes takes its time.

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

/// A registry.
pub struct Registry {
    shared: Arc<Shared>,
    asked: Mutex<Vec<(Duration, SchemaId, OnAnswer)>>,
}

impl Registry {
    /// A registry that knows the input's schemas.
    pub fn new(shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self { shared, asked: Mutex::default() })
    }

    /// Gives the answers that are due.
    pub fn answer(&self) {
        let now = self.shared.now();
        let due = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut *asked).into_iter().partition(|(at, _, _)| *at <= now);
            *asked = later;
            due
        };
        for (_, id, answer) in due {
            answer(Ok(fetched(id)));
        }
    }
}

fn fetched(id: SchemaId) -> FetchedSchema {
    FetchedSchema { id, json: writer_schema(id.0), references: Vec::new(), chain: Vec::new() }
}

impl SchemaLookup for Registry {
    fn look_up(&self, id: SchemaId, answer: OnAnswer) {
        let now = self.shared.now();
        let at = {
            let mut cluster = self.shared.cluster();
            let is_slow = cluster.chances.strikes(Fault::SlowRegistry, 7_000);
            let most = [200, 5_000, 30_000][cluster.random.below(3)];
            if is_slow { now + cluster.chances.of(Fault::SlowRegistry).up_to(Duration::from_millis(most)) } else { now }
        };
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push((at, id, answer));
    }

    fn look_up_guid(&self, _: SchemaGuid, answer: OnId) {
        answer(Err(RegistryFault::Bad("the model knows no GUIDs".into())));
    }
}

/// A process's gate: it has judged nothing yet.
pub fn gate(tenant: &Tenant, registry: &Arc<Registry>, metrics: TenantMetrics) -> Arc<Gate> {
    Gate::new(tenant.sources[0].reader.clone(), registry.clone(), registry.shared.clock.clone(), metrics, Policy::default())
}

/// Lets a gate judge the input's schemas.
pub fn judge_all(gate: &Gate, registry: &Registry) {
    for id in [1, 2] {
        while matches!(gate.verdict(SchemaId(id)), Verdict::Pending) {
            registry.answer();
        }
    }
}
