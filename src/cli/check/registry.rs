//! The registry's side: input subjects are there and readable, output schemas may be registered.

use super::findings::Findings;
use crate::avro::gate::check_kind;
use crate::avro::registry::{FetchedSchema, Registry, RegistryFault};
use crate::avro::{SchemaId, SchemaLimits, check_readable};
use crate::cli::exit::Exit;
use crate::config::Config;
use crate::engine::branch::alert::alert_schema;
use crate::engine::job::output_avro;
use crate::ledger;
use crate::tenant::{Source, Tenant};

/// Looks at everything the tenants need from the registry.
pub(super) async fn look(tenants: &[Tenant], config: &Config, findings: &mut Findings) {
    let url = &config.registry.url;
    let registry = match Registry::new(&config.registry) {
        Ok(registry) => registry,
        Err(fault) => return findings.wrong(Exit::Usage, fault.to_string(), "correct the settings under registry"),
    };
    if let Err(fault) = registry.ping().await {
        return refused(&format!("registry {url}"), &fault, findings);
    }
    findings.fine(format!("registry {url} answers"));
    for tenant in tenants {
        for source in &tenant.sources {
            if source.format.schemas().is_none() {
                findings.fine(format!("{}: source {} reads JSON without registered schemas", tenant.name, source.name));
            }
            for subject in source.subjects() {
                input(tenant, source, &subject, &registry, findings).await;
            }
        }
        let ledger = config.engine.ledger.then(|| (tenant.ledger_topic().to_string(), Ok(ledger::record::SCHEMA.to_owned())));
        for (topic, schema) in output_schemas(tenant).into_iter().chain(ledger) {
            output(tenant, &topic, schema, &registry, findings).await;
        }
    }
}

async fn input(tenant: &Tenant, source: &Source, subject: &str, registry: &Registry, findings: &mut Findings) {
    let about = format!("{}: subject {subject}", tenant.name);
    let latest = match registry.latest(subject).await {
        Ok(Some(latest)) => latest,
        Ok(None) => {
            return findings.wrong(
                Exit::Incompatible,
                format!("{about} has no version"),
                "register the producers' schema under it; records without a registered schema are dead letters",
            );
        }
        Err(fault) => return refused(&about, &fault, findings),
    };
    let fetched = match registry.schema(latest.id).await {
        Ok(fetched) => fetched,
        Err(fault) => return refused(&about, &fault, findings),
    };
    let declared = source.format.schemas().unwrap_or_default();
    let readable = check_kind(fetched.kind, declared).and_then(|()| {
        let read = fetched.parse_for(&source.reader, &SchemaLimits::default()).and_then(|writer| check_readable(&writer, &source.reader));
        read.map_err(|fault| fault.to_string())
    });
    match readable {
        Ok(()) => findings.fine(format!("{about} version {} (id {}) can be read", latest.version, latest.id)),
        Err(fault) => findings.wrong(
            Exit::Incompatible,
            format!("{about} version {} (id {}) cannot be read: {fault}", latest.version, latest.id),
            format!("adapt the reader schema of source {} or register a version that it can read", source.name),
        ),
    }
}

/// Topic and schema of each output.
fn output_schemas(tenant: &Tenant) -> Vec<(String, Result<String, String>)> {
    let alerts = tenant.alerts.iter().map(|alert| (&alert.name, &alert.topic, alert_schema(&tenant.sources[alert.source])));
    let windows = tenant.windows.iter().map(|window| (&window.name, &window.topic, window.output.clone()));
    let schema = |(name, topic, columns): (&String, &std::sync::Arc<str>, arrow::datatypes::SchemaRef)| {
        (topic.to_string(), output_avro(tenant, name, &columns).map_err(|fault| fault.to_string()))
    };
    alerts.chain(windows).map(schema).collect()
}

async fn output(tenant: &Tenant, topic: &str, schema: Result<String, String>, registry: &Registry, findings: &mut Findings) {
    let subject = format!("{topic}-value");
    let about = format!("{}: output subject {subject}", tenant.name);
    let json = match schema {
        Ok(json) => json,
        Err(fault) => {
            return findings.wrong(Exit::Incompatible, format!("{about}: {fault}"), "select columns that have an Avro type");
        }
    };
    match registry.is_compatible(&subject, &FetchedSchema::avro(SchemaId(0), json)).await {
        Ok(answer) if answer.ok => findings.fine(format!("{about} takes the schema")),
        Ok(answer) => findings.wrong(
            Exit::Incompatible,
            format!("{about} does not take the schema: {}", answer.messages.join("; ")),
            "change the branch so that its columns stay compatible, or give it another topic",
        ),
        Err(fault) => refused(&about, &fault, findings),
    }
}

fn refused(about: &str, fault: &RegistryFault, findings: &mut Findings) {
    let (exit, remedy) = match fault {
        RegistryFault::Unavailable(_) => (Exit::Unreachable, "is the registry running, and does registry.url name it?"),
        RegistryFault::Unauthorized(_) => (Exit::Forbidden, "check registry.username, registry.password or registry.token"),
        RegistryFault::NotFound(_) | RegistryFault::Refused { .. } => (Exit::Incompatible, "look at the subject in the registry"),
        RegistryFault::Bad(_) => (Exit::Usage, "correct the settings under registry"),
    };
    findings.wrong(exit, format!("{about}: {fault}"), remedy);
}
