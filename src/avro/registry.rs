//! The schema registry's client: what is asked, and how each answer is to be reacted to.
//!
//! Writer schemas by id come through `schema_registry_converter` (`converter.rs`); what it cannot ask (deleted referenced versions, GUIDs'
//! ids, compatibility, registration without a cache) is asked here (`transport.rs`).
//! Every answer to either is bounded while it is read (`bounded.rs`): what a stranger registers, and whoever answers in the registry's
//! place, cannot fill the memory. Nothing is remembered, so no passing error is (C25).
//! Nothing is retried here: who asks decides when to ask again ([`super::gate`]).

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use reqwest::Method;
use schema_registry_converter::schema_registry_common::{RegisteredReference, SchemaType};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::foreign::{self, Reference, SchemaKind, Transcode};
use super::frame::{SchemaGuid, SchemaId};
use super::lenient::{Leniency, with_plain_defaults};
use super::limits::{DatumLimits, SchemaLimits};
use super::linked;
use super::schema::{ReaderSchema, SchemaFault, parse_writer_with_references};
use super::settings::Settings;

mod bounded;
mod converter;
mod transport;

use converter::Converter;
use transport::Transport;

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
    /// What it is a schema of.
    pub kind: SchemaKind,
    /// Its text; may name types that `references` define.
    pub json: String,
    /// The schemas that it refers to, directly or not; each once for every name that it goes by.
    pub references: Vec<Reference>,
    /// Those that it refers to itself, as the registry knows them.
    pub direct: Vec<Named>,
    /// Where these came from, for people: `test.message.Metadata (subject metadata, version 1)`.
    pub chain: Vec<String>,
}

/// A schema of another subject under the name that a schema uses for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Named {
    /// The name.
    pub name: String,
    /// Its subject.
    pub subject: String,
    /// Its version there.
    pub version: u32,
}

fn named(references: &[RegisteredReference]) -> Vec<Named> {
    let named = |reference: &RegisteredReference| Named {
        name: reference.name.clone(),
        subject: reference.subject.clone(),
        version: reference.version,
    };
    references.iter().map(named).collect()
}

impl FetchedSchema {
    /// An Avro schema that rests on no other.
    pub fn avro(id: SchemaId, json: impl Into<String>) -> Self {
        Self { id, kind: SchemaKind::Avro, json: json.into(), references: Vec::new(), direct: Vec::new(), chain: Vec::new() }
    }

    /// Parses it within `limits` to an Avro schema that needs no other: the types of other subjects stand where they are used first.
    /// Of other kinds it is the derived one.
    ///
    /// # Errors
    /// [`SchemaFault`] when a bound is exceeded, or the text is no record schema of its kind.
    pub fn parse(&self, limits: &SchemaLimits) -> Result<apache_avro::Schema, SchemaFault> {
        self.parse_with_transcoder(limits, DatumLimits::default(), None).map(|(schema, _)| schema)
    }

    /// The same for people: of an Avro schema with its defaults and names, as far as they are legal.
    ///
    /// # Errors
    /// As [`FetchedSchema::parse`].
    pub fn parse_as_written(&self, limits: &SchemaLimits) -> Result<apache_avro::Schema, SchemaFault> {
        let whole = self.parse(limits)?;
        let with_defaults = || {
            let own = with_plain_defaults(&self.json)?;
            let others: Vec<String> = self.references.iter().map(|other| with_plain_defaults(&other.text)).collect::<Option<_>>()?;
            let others: Vec<&str> = others.iter().map(String::as_str).collect();
            let with_legal_names = || linked::parse_reworded(&own, &others, Leniency::Names).and_then(Result::ok);
            linked::parse(&own, &others).ok().or_else(with_legal_names)
        };
        let written = (self.kind == SchemaKind::Avro).then(|| catch_unwind(with_defaults).ok().flatten()).flatten();
        Ok(written.unwrap_or(whole))
    }

    /// The same, as `reader` wants it: of the message that it reads, where a schema holds several.
    ///
    /// # Errors
    /// As [`FetchedSchema::parse`].
    pub fn parse_for(&self, reader: &ReaderSchema, limits: &SchemaLimits) -> Result<apache_avro::Schema, SchemaFault> {
        self.parse_with_transcoder(limits, DatumLimits::default(), Some(reader)).map(|(schema, _)| schema)
    }

    /// The same, with what makes datums of its records where they are of another kind; these are held to the bounds of `datum`.
    ///
    /// # Errors
    /// As [`FetchedSchema::parse`].
    pub fn parse_with_transcoder(
        &self,
        limits: &SchemaLimits,
        datum: DatumLimits,
        reader: Option<&ReaderSchema>,
    ) -> Result<(apache_avro::Schema, Option<Box<dyn Transcode>>), SchemaFault> {
        // A stranger's text: where a parser gives up, the others' records go on.
        let parsed = catch_unwind(AssertUnwindSafe(|| self.parsed(limits, datum, reader)));
        parsed.unwrap_or_else(|_| Err(SchemaFault::Invalid("the parser of its kind fails on it".into())))
    }

    fn parsed(
        &self,
        limits: &SchemaLimits,
        datum: DatumLimits,
        reader: Option<&ReaderSchema>,
    ) -> Result<(apache_avro::Schema, Option<Box<dyn Transcode>>), SchemaFault> {
        if self.kind == SchemaKind::Avro {
            // A text that is there under two names defines its types once.
            let mut seen = HashSet::new();
            let texts = self.references.iter().map(|reference| reference.text.as_str());
            let references: Vec<&str> = texts.filter(|text| seen.insert(*text)).collect();
            return parse_writer_with_references(&self.json, &references, limits).map(|schema| (schema, None));
        }
        let wanted = |name: &str| reader.is_some_and(|reader| reader.wants(name));
        let reads = |name: &str| reader.is_none_or(|reader| reader.reads_field(name));
        let derived = foreign::derive(self.kind, &self.json, &self.references, limits, datum, &wanted, &reads)?;
        Ok((derived.schema, Some(derived.transcoder)))
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
    converter: Converter,
}

impl Registry {
    /// A client for `settings`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`RegistryFault::Bad`] naming the setting that cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, RegistryFault> {
        Ok(Self { transport: Transport::new(settings)?, converter: Converter::new(settings)? })
    }

    /// Whether a client can be made, as far as its settings tell; making one costs the reading of certificates.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn must_be_usable(settings: &Settings) -> Result<(), RegistryFault> {
        transport::parts(settings).map(drop)
    }

    /// The schema with `id`, soft-deleted or not (C27), with all schemas that it refers to (C17).
    ///
    /// # Errors
    /// [`RegistryFault`]; `Bad` when the id belongs to a kind of schema that nothing here reads.
    pub async fn schema(&self, id: SchemaId) -> Result<FetchedSchema, RegistryFault> {
        let found = self.converter.schema(id).await?;
        let kind = match &found.schema_type {
            SchemaType::Avro => Some(SchemaKind::Avro),
            SchemaType::Json => Some(SchemaKind::Json),
            SchemaType::Protobuf => Some(SchemaKind::Protobuf),
            SchemaType::Other(word) => SchemaKind::of(word),
            _ => None,
        };
        let Some(kind) = kind else {
            let why = format!("schema {id} is of type {:?}; schemas of Avro, JSON Schema and Protobuf can be read", found.schema_type);
            return Err(RegistryFault::Bad(why));
        };
        let fetched = FetchedSchema { kind, direct: named(&found.references), ..FetchedSchema::avro(id, found.schema) };
        self.with_references(fetched).await
    }

    /// A schema with all schemas that its direct references lead to, soft-deleted or not; those that it has already stay.
    ///
    /// # Errors
    /// [`RegistryFault`]; `NotFound` names the reference that is not there, `Bad` the one that is too much.
    pub async fn with_references(&self, mut schema: FetchedSchema) -> Result<FetchedSchema, RegistryFault> {
        self.add_references(&mut schema).await?;
        Ok(schema)
    }

    /// The subjects under which `id` is registered, with its version in each; deleted ones too.
    ///
    /// # Errors
    /// [`RegistryFault`].
    pub async fn versions_of(&self, id: SchemaId) -> Result<Vec<(String, i32)>, RegistryFault> {
        let path = ["schemas", "ids", &id.to_string(), "versions"];
        let answer = self.transport.call(Method::GET, &path, Some(("deleted", "true")), None).await?;
        let places = answer.as_array().ok_or_else(|| odd(&"no list of versions"))?;
        let place = |place: &Value| {
            let version = place.get("version").and_then(Value::as_i64).and_then(|version| i32::try_from(version).ok());
            Ok((text_of(place, "subject")?, version.ok_or_else(|| odd(&"no version"))?))
        };
        places.iter().map(place).collect()
    }

    /// The compatibility rule that holds for `subject`, its own or the registry's, such as `BACKWARD`.
    ///
    /// # Errors
    /// [`RegistryFault`].
    pub async fn rule(&self, subject: &str) -> Result<String, RegistryFault> {
        let of_subject = self.transport.call(Method::GET, &["config", subject], Some(("defaultToGlobal", "true")), None).await;
        let answer = match of_subject {
            Err(RegistryFault::NotFound(_)) => self.transport.call(Method::GET, &["config"], None, None).await?,
            answer => answer?,
        };
        text_of(&answer, "compatibilityLevel")
    }

    /// The id that the schema with `guid` has here: in the default context, or else in the first that has one.
    ///
    /// # Errors
    /// [`RegistryFault`]; `Bad` when the registry knows no GUIDs.
    ///
    /// # Source
    /// Confluent Schema Registry 8, `GET /schemas/guids/{guid}/ids`.
    pub async fn id_of_guid(&self, guid: SchemaGuid) -> Result<SchemaId, RegistryFault> {
        let path = ["schemas", "guids", &guid.to_string(), "ids"];
        let answer = match self.transport.call(Method::GET, &path, None, None).await {
            // A path that is not there: of a registry that answers otherwise, it is one without GUIDs.
            Err(RegistryFault::Unavailable(detail)) if detail.contains(": status 404, ") && self.ping().await.is_ok() => {
                return Err(RegistryFault::Bad(format!(
                    "the schema registry knows no GUIDs ({detail}); produce with the id in the header, or in front of the value"
                )));
            }
            answer => answer?,
        };
        let ids = answer.as_array().ok_or_else(|| odd(&"no list of ids"))?;
        let is_default = |entry: &&Value| entry.get("context").and_then(Value::as_str) == Some(".");
        let chosen = ids.iter().find(is_default).or_else(|| ids.first());
        chosen.map_or_else(|| Err(RegistryFault::NotFound(format!("no schema has GUID {guid}"))), id_of)
    }

    /// Registers `schema_json` under `subject`; an equal one that is there already gives its id.
    ///
    /// # Errors
    /// [`RegistryFault::Refused`] when the subject's rule forbids it or the schema is invalid.
    pub async fn register(&self, subject: &str, schema_json: &str) -> Result<SchemaId, RegistryFault> {
        self.register_as(subject, SchemaKind::Avro, schema_json, &[]).await
    }

    /// The same for a schema of any kind, which refers to these.
    ///
    /// # Errors
    /// As [`Registry::register`].
    pub async fn register_as(&self, subject: &str, kind: SchemaKind, text: &str, references: &[Named]) -> Result<SchemaId, RegistryFault> {
        let body = body_of(kind, text, references);
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

    /// The versions of `subject`, ascending, with soft-deleted ones if asked; none when there is no such subject.
    ///
    /// # Errors
    /// [`RegistryFault`].
    pub async fn versions(&self, subject: &str, with_deleted: bool) -> Result<Vec<i32>, RegistryFault> {
        let query = with_deleted.then_some(("deleted", "true"));
        let answer = match self.transport.call(Method::GET, &["subjects", subject, "versions"], query, None).await {
            Err(RegistryFault::NotFound(_)) => return Ok(Vec::new()),
            answer => answer?,
        };
        let mut versions: Vec<i32> = serde_json::from_value(answer).map_err(|error| odd(&error))?;
        versions.sort_unstable();
        Ok(versions)
    }

    /// One version of `subject`, soft-deleted or not.
    ///
    /// # Errors
    /// [`RegistryFault`].
    pub async fn version(&self, subject: &str, version: i32) -> Result<SubjectVersion, RegistryFault> {
        let path = ["subjects", subject, "versions", &version.to_string()];
        version_of(&self.transport.call(Method::GET, &path, Some(("deleted", "true")), None).await?)
    }

    /// Whether the rule of `subject` allows a schema as its next version. A subject without versions allows everything.
    ///
    /// # Errors
    /// [`RegistryFault`].
    pub async fn is_compatible(&self, subject: &str, schema: &FetchedSchema) -> Result<Compatibility, RegistryFault> {
        self.is_compatible_with(subject, "latest", schema).await
    }

    /// Whether the rule of `subject` allows a schema after one of its versions. A version that is not there allows everything.
    ///
    /// # Errors
    /// [`RegistryFault`].
    pub async fn is_compatible_with(&self, subject: &str, version: &str, schema: &FetchedSchema) -> Result<Compatibility, RegistryFault> {
        let body = body_of(schema.kind, &schema.json, &schema.direct);
        let path = ["compatibility", "subjects", subject, "versions", version];
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

    /// Fetches what a schema names directly and what that rests on, each version once for each name. Together they are bounded like one
    /// schema.
    async fn add_references(&self, fetched: &mut FetchedSchema) -> Result<(), RegistryFault> {
        let bytes_max = SchemaLimits::default().bytes_max;
        let mut bytes = fetched.json.len() + fetched.references.iter().map(|reference| reference.text.len()).sum::<usize>();
        let mut seen = HashSet::new();
        let mut left = fetched.direct.clone();
        let whose = if fetched.id == SchemaId::NONE { "it".to_owned() } else { format!("schema {}", fetched.id) };
        while let Some(reference) = left.pop() {
            if !seen.insert(reference.clone()) {
                continue;
            }
            let Named { name, subject, version } = reference;
            let too_much = |what: String| {
                let last = format!("the last of them is {name} (subject {subject}, version {version})");
                Err(RegistryFault::Bad(format!("{whose} rests on {what}; {last}")))
            };
            if seen.len() > REFERENCES_MAX {
                return too_much(format!("more than {REFERENCES_MAX} others"));
            }
            let path = ["subjects", &subject, "versions", &version.to_string()];
            let answer = self.transport.call(Method::GET, &path, Some(("deleted", "true")), None).await.map_err(|fault| match fault {
                RegistryFault::NotFound(told) => RegistryFault::NotFound(format!(
                    "{whose} rests on {name} (subject {subject}, version {version}), which is not there: {told}"
                )),
                other => other,
            })?;
            let text = text_of(&answer, "schema")?;
            bytes += text.len();
            if bytes > bytes_max {
                return too_much(format!("others of more than {bytes_max} bytes"));
            }
            fetched.chain.push(format!("{name} (subject {subject}, version {version})"));
            fetched.references.push(Reference { name, text });
            left.extend(references_of(&answer)?);
        }
        Ok(())
    }
}

/// What is posted for a schema. Avro goes unnamed, as registries of old have it.
fn body_of(kind: SchemaKind, text: &str, references: &[Named]) -> Value {
    let mut body = match kind {
        SchemaKind::Avro => json!({ "schema": text }),
        other => json!({ "schema": text, "schemaType": other.word() }),
    };
    if !references.is_empty() {
        body["references"] = json!(references);
    }
    body
}

fn references_of(answer: &Value) -> Result<Vec<Named>, RegistryFault> {
    match answer.get("references").filter(|references| !references.is_null()) {
        Some(references) => Vec::deserialize(references).map_err(|error| odd(&error)),
        None => Ok(Vec::new()),
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
