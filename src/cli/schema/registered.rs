//! What is registered: every version of the subjects that a source may meet, each with its schema and what that rests on.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, anyhow};

use crate::avro::registry::{FetchedSchema, Named, Registry, RegistryFault};
use crate::avro::{Reference, SchemaId, SchemaKind, SchemaLimits};
use crate::cli::exit::{Exit, WithExit};
use crate::cli::read_text;
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
                // What is listed and then not found rests on something that is not there.
                schema: match self.schema(id).await {
                    Err(RegistryFault::NotFound(why)) => Err(why),
                    found => found?,
                },
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

    /// A candidate with those of its references that are registered, and with what they refer to.
    pub(super) async fn with_references(&self, mut candidate: Version, references: &[Rest], is_offline: bool) -> anyhow::Result<Version> {
        let Ok(mut schema) = candidate.schema else { return Ok(candidate) };
        for Rest { name, place } in references {
            let RestPlace::Registered(subject, version) = place else { continue };
            if is_offline {
                return Err(anyhow!("reference {name} is not to be had --offline: name a file, {subject} is not one")).exit(Exit::Usage);
            }
            let about = format!("reference {name}");
            let version = match version {
                Some(version) => *version,
                None => {
                    let latest = failed(&about, self.registry.latest(subject).await)?;
                    let latest = latest.with_context(|| format!("reference {name}: no such subject as {subject}")).exit(Exit::Usage)?;
                    u32::try_from(latest.version).unwrap_or_default()
                }
            };
            schema.direct.push(Named { name: name.clone(), subject: subject.clone(), version });
        }
        candidate.schema = Ok(failed("the candidate's references", self.registry.with_references(schema).await)?);
        Ok(candidate)
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

/// A schema that a candidate refers to, as the command line has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rest {
    name: String,
    place: RestPlace,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum RestPlace {
    File(PathBuf),
    /// Subject and version; none for the latest.
    Registered(String, Option<u32>),
}

impl Rest {
    /// Its file, where it is one.
    pub(super) fn file(&self) -> Option<&Path> {
        match &self.place {
            RestPlace::File(file) => Some(file),
            RestPlace::Registered(..) => None,
        }
    }
}

impl FromStr for Rest {
    type Err = String;

    /// `NAME=FILE` or `NAME=SUBJECT@VERSION`; a file of that name goes first. Names of `$ref`s may hold `=`, so the last one parts them.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, place) = text
            .rsplit_once('=')
            .filter(|(name, place)| !name.is_empty() && !place.is_empty())
            .ok_or("it must be NAME=FILE or NAME=SUBJECT@VERSION")?;
        let registered = place.rsplit_once('@').filter(|(subject, _)| !subject.is_empty()).and_then(|(subject, version)| match version {
            "latest" => Some(RestPlace::Registered(subject.to_owned(), None)),
            number => number.parse().ok().map(|number| RestPlace::Registered(subject.to_owned(), Some(number))),
        });
        let file = PathBuf::from(place);
        let place = registered.filter(|_| !file.exists()).unwrap_or(RestPlace::File(file));
        Ok(Self { name: name.to_owned(), place })
    }
}

/// The schema in `file`, of the source's kind, as the next version of `subject`, with those of `references` that are files too.
pub(super) fn candidate(file: &Path, subject: &str, kind: SchemaKind, references: &[Rest]) -> anyhow::Result<Version> {
    let mut schema = FetchedSchema { kind, ..FetchedSchema::avro(SchemaId::NONE, read_text(file, "the candidate")?) };
    for (at, Rest { name, .. }) in references.iter().enumerate() {
        if references[..at].iter().any(|before| before.name == *name) {
            return Err(anyhow!("reference {name} is given twice")).exit(Exit::Usage);
        }
    }
    for Rest { name, place } in references {
        let RestPlace::File(file) = place else { continue };
        schema.references.push(Reference { name: name.clone(), text: read_text(file, &format!("reference {name},"))? });
        schema.chain.push(format!("{name} (file {})", file.display()));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_a_file_or_a_registered_version() {
        let registered =
            |name: &str, subject: &str, version| Ok(Rest { name: name.into(), place: RestPlace::Registered(subject.into(), version) });
        let file = |name: &str, file: &str| Ok(Rest { name: name.into(), place: RestPlace::File(file.into()) });

        assert_eq!("farm.Place=place.avsc".parse(), file("farm.Place", "place.avsc"));
        assert_eq!("farm.Place=places@2".parse(), registered("farm.Place", "places", Some(2)));
        assert_eq!("https://x/?a=b=places@latest".parse(), registered("https://x/?a=b", "places", None));
        assert_eq!("farm.Place=places@soon".parse(), file("farm.Place", "places@soon"));
        for wrong in ["farm.Place", "=place.avsc", "farm.Place="] {
            assert!(wrong.parse::<Rest>().is_err(), "{wrong}");
        }
    }
}
