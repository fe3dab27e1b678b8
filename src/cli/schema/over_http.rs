//! The owner's decisions over HTTP, made as the command makes them.

use std::sync::Arc;

use anyhow::anyhow;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::book::{Book, Word};
use super::decide::decide;
use super::ls;
use crate::avro::registry::RegistryFault;
use crate::cli::exit::{Exit, code_of};
use crate::config::Config;
use crate::http::{Decision, Owner, Refusal};
use crate::schemas::record;
use crate::tenant::Tenant;

/// Decides for the tenants of this process.
pub struct OverHttp {
    /// How broker and registry are reached.
    pub config: Config,
    /// The tenants.
    pub tenants: Vec<Arc<Tenant>>,
    /// Serves their clients.
    pub runtime: Handle,
}

impl OverHttp {
    fn tenant(&self, name: &str) -> Result<&Arc<Tenant>, Refusal> {
        let found = self.tenants.iter().find(|tenant| tenant.name == name);
        found.ok_or_else(|| Refusal { status: 404, why: format!("there is no tenant {name} here") })
    }

    fn told(&self, error: &anyhow::Error) -> Refusal {
        let is_unknown = |cause: &(dyn std::error::Error + 'static)| matches!(cause.downcast_ref(), Some(RegistryFault::NotFound(_)));
        let status = match code_of(error) {
            _ if error.chain().any(is_unknown) => 404,
            Exit::Usage => 400,
            Exit::Incompatible => 409,
            Exit::Unreachable | Exit::Forbidden => 503,
            _ => 500,
        };
        // A client's words may hold secrets of the configuration (C133).
        tracing::warn!(error = format!("{error:#}"), "schema request over http failed");
        let why = if status < 500 { format!("{error:#}") } else { "broker or registry cannot be used; the log says why".to_owned() };
        Refusal { status, why }
    }
}

impl Owner for OverHttp {
    fn schemas(&self, tenant: &str) -> Result<Value, Refusal> {
        let tenant = self.tenant(tenant)?;
        let book = Book::open(tenant, &self.config, &self.runtime).map_err(|error| self.told(&error))?;
        let rows: Vec<ls::Row> = ls::of_book(tenant, &book).into_values().collect();
        serde_json::to_value(rows).map_err(|error| self.told(&anyhow!(error)))
    }

    fn decide(&self, decision: &Decision) -> Result<Value, Refusal> {
        let tenant = self.tenant(&decision.tenant)?;
        let verdict = if decision.is_accepted { record::Decision::Accepted } else { record::Decision::Refused };
        let word = Word { decision: verdict, who: decision.who.clone(), note: decision.reason.clone() };
        let decided = decide(tenant, decision.id, decision.source.as_deref(), &word, &self.config, &self.runtime);
        let sources: Vec<String> = decided.map_err(|error| self.told(&error))?.into_iter().map(|key| key.source).collect();
        if sources.is_empty() {
            return Err(Refusal {
                status: 404,
                why: format!("no source of {} may meet schema {}; name one by ?source=", tenant.name, decision.id),
            });
        }
        tracing::info!(
            tenant = tenant.name,
            schema_id = decision.id,
            verdict = verdict.word(),
            who = decision.who,
            "owner decided over http"
        );
        Ok(json!({ "tenant": tenant.name, "id": decision.id, "verdict": verdict.word(), "sources": sources, "who": decision.who }))
    }
}
