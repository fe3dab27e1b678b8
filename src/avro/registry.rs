//! The schema registry's client: what is asked, and how each answer is to be reacted to.
//!
//! Schemas by id come through `schema_registry_converter`; its cache is left aside, because it remembers passing errors for
//! ever (C25), and so is its idea of what can be tried again, because it takes 429, 500 and 504 for permanent. What it cannot
//! ask (deleted referenced versions, compatibility, registration without a cache) is asked here.
//! Nothing is retried here: who asks decides when to ask again ([`super::gate`]).

use std::collections::HashSet;
use std::error::Error as _;

use reqwest::Method;
use schema_registry_converter::async_impl::schema_registry::{SrSettings, get_schema_by_id};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{RawError, RegisteredReference, SchemaType};
use serde_json::{Value, json};

use super::frame::SchemaId;
use super::limits::SchemaLimits;
use super::schema::{SchemaFault, parse_writer_with_references};
use super::settings::Settings;

mod transport;

use transport::{Transport, chain_of, classify};

/// Longest answer that is read, bytes. Registries bound schemas far below.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// A schema may rest on at most this many others.
const REFERENCES_MAX: usize = 64;

/// Why the registry did not give what was asked, sorted by reaction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryFault {
    /// It cannot be reached or cannot answer now: try again, for ever. Says nothing about what was asked.
    #[error("the schema registry did not answer: {0}")]
    Unavailable(String),
    /// It says that there is no such id, subject or version. A replica that lags says so too: try again a few times.
    #[error("the schema registry has no such schema: {0}")]
    NotFound(String),
    /// It does not take the request: an incompatible or invalid schema. Repeating is of no use until somebody acts.
    #[error("the schema registry refused with status {status}: {message}")]
    Refused {
        /// HTTP status: 409 incompatible, 422 invalid.
        status: u16,
        /// The registry's own words.
        message: String,
    },
    /// The credentials are missing, wrong or not enough. Try again: somebody may mend them.
    #[error("the schema registry refused the credentials: {0}; check registry.username, registry.password or registry.token")]
    Unauthorized(String),
    /// What it gave, or what was configured, can never be used.
    #[error("{0}")]
    Bad(String),
}

impl RegistryFault {
    /// Label of the requests' metric.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::NotFound(_) => "not-found",
            Self::Refused { .. } => "refused",
            Self::Unauthorized(_) => "unauthorized",
            Self::Bad(_) => "bad",
        }
    }
}

/// A schema as registered, with all that it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedSchema {
    /// Its id.
    pub id: SchemaId,
    /// Its text; may name types that `references` define.
    pub json: String,
    /// Texts of the schemas that it refers to, directly or not; each once.
    pub references: Vec<String>,
    /// Where these came from, for people: `test.message.Metadata (subject metadata, version 1)`.
    pub chain: Vec<String>,
}

impl FetchedSchema {
    /// Parses it within `limits` to a schema that needs no other: the types of other subjects stand where they are used first.
    ///
    /// # Errors
    /// [`SchemaFault`] when a bound is exceeded or the text is not an Avro record schema.
    pub fn parse(&self, limits: &SchemaLimits) -> Result<apache_avro::Schema, SchemaFault> {
        let references: Vec<&str> = self.references.iter().map(String::as_str).collect();
        parse_writer_with_references(&self.json, &references, limits)
    }
}

/// A version of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectVersion {
    /// Number of the version, from 1.
    pub version: i32,
    /// Id of its schema.
    pub id: SchemaId,
    /// The schema's text.
    pub json: String,
}

/// What the registry says about a schema and a subject's compatibility rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compatibility {
    /// Whether the rule allows it.
    pub ok: bool,
    /// Why not, in the registry's words.
    pub messages: Vec<String>,
}

/// A client. Cheap to clone; needs a tokio runtime with I/O and time.
#[derive(Clone)]
pub struct Registry {
    transport: Transport,
    converter: SrSettings,
}

impl Registry {
    /// A client for `settings`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`RegistryFault::Bad`] naming the setting that cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, RegistryFault> {
        Ok(Self { transport: Transport::new(settings)?, converter: transport::converter(settings)? })
    }

    /// The schema with `id`, soft-deleted or not (C27), with all schemas that it refers to (C17).
    ///
    /// # Errors
    /// [`RegistryFault`]; `Bad` when the id belongs to something other than an Avro schema.
    pub async fn schema(&self, id: SchemaId) -> Result<FetchedSchema, RegistryFault> {
        let found = get_schema_by_id(id.0, &self.converter).await.map_err(|error| classify_converter(id, &error))?;
        if found.schema_type != SchemaType::Avro {
            return Err(RegistryFault::Bad(format!("schema {id} is of type {:?}, not Avro", found.schema_type)));
        }
        if found.schema.len() > ANSWER_BYTES_MAX {
            return Err(RegistryFault::Bad(format!("schema {id} has {} bytes, the bound is {ANSWER_BYTES_MAX}", found.schema.len())));
        }
        let mut fetched = FetchedSchema { id, json: found.schema, references: Vec::new(), chain: Vec::new() };
        self.add_references(&mut fetched, found.references).await?;
        Ok(fetched)
    }

    /// Registers `schema_json` under `subject`; an equal one that is there already gives its id.
    ///
    /// # Errors
    /// [`RegistryFault::Refused`] when the subject's rule forbids it or the schema is invalid.
    pub async fn register(&self, subject: &str, schema_json: &str) -> Result<SchemaId, RegistryFault> {
        let body = json!({ "schema": schema_json });
        let answer = self.transport.call(Method::POST, &["subjects", subject, "versions"], None, Some(&body)).await?;
        id_of(&answer)
    }

    /// The latest version of `subject`, or none when there is no such subject.
    ///
    /// # Errors
    /// [`RegistryFault`].
    pub async fn latest(&self, subject: &str) -> Result<Option<SubjectVersion>, RegistryFault> {
        match self.transport.call(Method::GET, &["subjects", subject, "versions", "latest"], None, None).await {
            Ok(answer) => version_of(&answer).map(Some),
            Err(RegistryFault::NotFound(_)) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Whether the rule of `subject` allows `schema_json` as its next version. A subject without versions allows everything.
    ///
    /// # Errors
    /// [`RegistryFault`].
    pub async fn is_compatible(&self, subject: &str, schema_json: &str) -> Result<Compatibility, RegistryFault> {
        let body = json!({ "schema": schema_json });
        let path = ["compatibility", "subjects", subject, "versions", "latest"];
        match self.transport.call(Method::POST, &path, Some(("verbose", "true")), Some(&body)).await {
            Ok(answer) => {
                let ok = answer.get("is_compatible").and_then(Value::as_bool).ok_or_else(|| odd(&"no is_compatible"))?;
                let messages = answer.get("messages").and_then(Value::as_array).into_iter().flatten();
                Ok(Compatibility { ok, messages: messages.filter_map(Value::as_str).map(str::to_owned).collect() })
            }
            Err(RegistryFault::NotFound(_)) => Ok(Compatibility { ok: true, messages: Vec::new() }),
            Err(fault) => Err(fault),
        }
    }

    /// Whether the registry answers and lets us in.
    ///
    /// # Errors
    /// [`RegistryFault`].
    pub async fn ping(&self) -> Result<(), RegistryFault> {
        self.transport.call(Method::GET, &["schemas", "types"], None, None).await.map(drop)
    }

    /// Fetches what `direct` names and what that rests on, each version once.
    async fn add_references(&self, fetched: &mut FetchedSchema, direct: Vec<RegisteredReference>) -> Result<(), RegistryFault> {
        let mut seen = HashSet::new();
        let mut left = direct;
        while let Some(reference) = left.pop() {
            if !seen.insert((reference.subject.clone(), reference.version)) {
                continue;
            }
            if seen.len() > REFERENCES_MAX {
                return Err(RegistryFault::Bad(format!("schema {} rests on more than {REFERENCES_MAX} others", fetched.id)));
            }
            let path = ["subjects", &reference.subject, "versions", &reference.version.to_string()];
            let answer = self.transport.call(Method::GET, &path, Some(("deleted", "true")), None).await?;
            fetched.references.push(text_of(&answer, "schema")?);
            fetched.chain.push(format!("{} (subject {}, version {})", reference.name, reference.subject, reference.version));
            if let Some(more) = answer.get("references").filter(|more| !more.is_null()) {
                let more: Vec<RegisteredReference> = serde_json::from_value(more.clone()).map_err(|error| odd(&error))?;
                left.extend(more);
            }
        }
        Ok(())
    }
}

/// The reaction to an error of the converter, which keeps the status in its text only.
fn classify_converter(id: SchemaId, error: &SRCError) -> RegistryFault {
    let asked = format!("schema {id}");
    let status =
        error.error.rsplit_once("with status ").and_then(|(_, rest)| rest.split(' ').next()).and_then(|status| status.parse().ok());
    let told = error.source().and_then(|source| source.downcast_ref::<RawError>());
    match status {
        Some(status) => classify(&asked, status, told.map_or(0, |told| told.error_code), told.map_or("", |told| &told.message)),
        None => RegistryFault::Unavailable(format!("{asked}: {}", chain_of(error))),
    }
}

fn id_of(answer: &Value) -> Result<SchemaId, RegistryFault> {
    let id = answer.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
    id.map(SchemaId).ok_or_else(|| odd(&"no id"))
}

fn version_of(answer: &Value) -> Result<SubjectVersion, RegistryFault> {
    let version = answer.get("version").and_then(Value::as_i64).and_then(|version| i32::try_from(version).ok());
    Ok(SubjectVersion { version: version.ok_or_else(|| odd(&"no version"))?, id: id_of(answer)?, json: text_of(answer, "schema")? })
}

fn text_of(answer: &Value, key: &str) -> Result<String, RegistryFault> {
    answer.get(key).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| odd(&format!("no {key}")))
}

/// A success whose body is not what a registry sends: something else answered in its place.
fn odd(cause: &dyn std::fmt::Display) -> RegistryFault {
    RegistryFault::Unavailable(format!("the answer is not a registry's: {cause}"))
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
