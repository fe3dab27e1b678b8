//! What is registered: every version of the subjects that a source may meet, each with its schema and what that rests on.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, anyhow};

use crate::avro::registry::{FetchedSchema, Registry, RegistryFault};
use crate::avro::{SchemaId, SchemaKind, SchemaLimits};
use crate::cli::exit::{Exit, WithExit};
use crate::schemas::judge::Finding;
use crate::schemas::{Judgement, Readability, judge_fetched};
use crate::tenant::Tenant;

/// A version of a subject, or a schema that may become one.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) subject: String,
    /// Number of the version; a candidate has none yet.
    pub(super) number: Option<i32>,
    pub(super) id: Option<SchemaId>,
    /// Soft-deleted: records that name it are still read.
    pub(super) is_deleted: bool,
    /// The schema, or why what is registered can never be used.
    pub(super) schema: Result<FetchedSchema, String>,
}

impl Version {
    /// How people call it: `version 3 (id 9)`.
    pub(super) fn name(&self) -> String {
        let deleted = if self.is_deleted { ", deleted" } else { "" };
        match (self.number, self.id) {
            (Some(number), Some(id)) => format!("version {number} (id {id}{deleted})"),
            (None, Some(id)) => format!("schema id {id}"),
            _ => "candidate".into(),
        }
    }

    /// What it means for a source.
    pub(super) fn judge(&self, tenant: &Tenant, source: usize) -> Judgement {
        match &self.schema {
            Ok(schema) => judge_fetched(schema, &SchemaLimits::default(), tenant, source),
            Err(why) => {
                let reason = Finding { field: String::new(), column: None, text: why.clone(), used_by: Vec::new() };
                Judgement { verdict: Readability::Unreadable, reasons: vec![reason], changes: Vec::new() }
            }
        }
    }
}

/// A registry that is asked for each schema once.
pub(super) struct Registered {
    registry: Registry,
    schemas: HashMap<SchemaId, Result<FetchedSchema, String>>,
}

impl Registered {
    pub(super) fn new(registry: Registry) -> Self {
        Self { registry, schemas: HashMap::new() }
    }

    /// All versions of a subject, oldest first; soft-deleted ones if asked.
    pub(super) async fn versions(&mut self, subject: &str, with_deleted: bool) -> Result<Vec<Version>, RegistryFault> {
        let alive = self.registry.versions(subject, false).await?;
        let numbers = if with_deleted { self.registry.versions(subject, true).await? } else { alive.clone() };
        let mut versions = Vec::with_capacity(numbers.len());
        for number in numbers {
            let id = self.registry.version(subject, number).await?.id;
            versions.push(Version {
                subject: subject.to_owned(),
                number: Some(number),
                id: Some(id),
                is_deleted: !alive.contains(&number),
                schema: self.schema(id).await?,
            });
        }
        Ok(versions)
    }

    /// The schema of an id, or why it can never be used.
    pub(super) async fn schema(&mut self, id: SchemaId) -> Result<Result<FetchedSchema, String>, RegistryFault> {
        if let Some(known) = self.schemas.get(&id) {
            return Ok(known.clone());
        }
        let found = match self.registry.schema(id).await {
            Ok(fetched) => Ok(fetched),
            Err(RegistryFault::Bad(why)) => Err(why),
            Err(fault) => return Err(fault),
        };
        self.schemas.insert(id, found.clone());
        Ok(found)
    }

    /// What the subject's own rule says about a candidate.
    pub(super) async fn rule_on(&self, candidate: &Version) -> Result<Vec<String>, RegistryFault> {
        let Ok(schema) = &candidate.schema else { return Ok(Vec::new()) };
        let answer = self.registry.is_compatible(&candidate.subject, schema).await?;
        Ok(match (answer.ok, answer.messages.is_empty()) {
            (true, _) => Vec::new(),
            (false, true) => vec!["the registry gives no reason".into()],
            (false, false) => answer.messages,
        })
    }
}

/// The schema in `file`, of the source's kind, as the next version of `subject`.
pub(super) fn candidate(file: &Path, subject: &str, kind: SchemaKind) -> anyhow::Result<Version> {
    let json =
        std::fs::read_to_string(file).with_context(|| format!("failed to read the candidate {}", file.display())).exit(Exit::Usage)?;
    let json = json.strip_prefix('\u{feff}').unwrap_or(&json).to_owned();
    let schema = FetchedSchema { kind, ..FetchedSchema::avro(SchemaId(0), json) };
    Ok(Version { subject: subject.to_owned(), number: None, id: None, is_deleted: false, schema: Ok(schema) })
}

/// A client of the configured registry.
pub(super) fn registry(config: &crate::config::Config) -> anyhow::Result<Registry> {
    Registry::new(&config.registry).exit(Exit::Usage)
}

/// The registry's fault as the command's end.
pub(super) fn failed<T>(about: &str, answer: Result<T, RegistryFault>) -> anyhow::Result<T> {
    let code = |fault: &RegistryFault| match fault {
        RegistryFault::Unavailable(_) => Exit::Unreachable,
        RegistryFault::Unauthorized(_) => Exit::Forbidden,
        RegistryFault::NotFound(_) | RegistryFault::Refused { .. } => Exit::Incompatible,
        RegistryFault::Bad(_) => Exit::Usage,
    };
    match answer {
        Ok(value) => Ok(value),
        Err(fault) => {
            let code = code(&fault);
            Err(anyhow!(fault).context(format!("failed to ask the registry for {about}"))).exit(code)
        }
    }
}
