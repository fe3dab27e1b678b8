//! Schemas: the reader's, which gives a source its columns, and the writers', which strangers register.
//!
//! A schema is text from outside: its size, nesting and number of fields are bounded before it is parsed, because parsers recurse.

use apache_avro::Schema;
use apache_avro::schema::RecordSchema;
use arrow::datatypes::Fields;

use super::column_form;
use super::foreign::SchemaKind;
use super::lenient::{Leniency, legal};
use super::limits::SchemaLimits;
use super::linked;
use super::names::{Names, find_recursion};

/// Why a schema cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaFault {
    /// A bound of [`SchemaLimits`] is exceeded.
    #[error("the schema has {what}, the bound is {bound}: split it or drop what is not needed")]
    TooLarge {
        /// What there is too much of, with how much.
        what: String,
        /// The bound.
        bound: usize,
    },
    /// The text is not an Avro record schema.
    #[error("not a usable Avro schema: {0}")]
    Invalid(String),
    /// A type that the reader wants contains itself, so it has no column form.
    #[error(
        "type `{type_name}` contains itself through field `{field}`, which no column can hold: \
         remove the field from the reader schema, records that carry it are read without it"
    )]
    Recursive {
        /// The type's full name.
        type_name: String,
        /// The field, as `Type.field`.
        field: String,
    },
    /// A schema of another format that has no equal in Avro.
    #[error("not a usable {kind}, at `{place}`: {why}")]
    Foreign {
        /// The format.
        kind: SchemaKind,
        /// Where in the schema: a JSON pointer, a message's field.
        place: String,
        /// The reason, and what to do.
        why: String,
    },
    /// Records of the writer schema cannot be resolved to the reader schema.
    #[error("field `{field}` cannot be read: {why}")]
    Unreadable {
        /// Path of the reader's field.
        field: String,
        /// The reason, and what to do.
        why: String,
    },
}

/// The record schema that rows are resolved to, and the columns that it gives.
#[derive(Clone, Debug)]
pub struct ReaderSchema {
    avro: Schema,
    json: String,
    fields: Fields,
    unusable: Vec<(String, String)>,
    misplaced: Vec<(String, String)>,
    fingerprint: String,
    /// Full names of the record types that are read, where topics are shared.
    records: Option<Vec<String>>,
}

impl ReaderSchema {
    /// Parses a record schema. Fields with no column form are set aside: see [`ReaderSchema::unusable`].
    ///
    /// # Errors
    /// [`SchemaFault`] when the text is not a record schema within [`SchemaLimits::default`], when a type contains itself, or when
    /// no field has a column form.
    pub fn parse(json: &str) -> Result<Self, SchemaFault> {
        let whole = parse_reader(json)?;
        if let Some(found) = find_recursion(&whole) {
            return Err(SchemaFault::Recursive { type_name: found.type_name, field: found.field });
        }
        let names = Names::of(&whole)?;
        let record = record_of(&whole)?;
        let mut fields = Vec::with_capacity(record.fields.len());
        let (mut unusable, mut misplaced) = (Vec::new(), Vec::new());
        for field in &record.fields {
            if let Some(logical_type) = field.custom_attributes.get("logicalType").and_then(|logical_type| logical_type.as_str()) {
                misplaced.push((field.name.clone(), logical_type.to_owned()));
            }
            match column_form::of(&field.name, &field.schema, &names) {
                Ok(column) => fields.push(column),
                Err(why) => unusable.push((field.name.clone(), why)),
            }
        }
        if fields.is_empty() {
            return Err(SchemaFault::Invalid("no field has a column form".into()));
        }
        let (avro, json) = if unusable.is_empty() { (whole, json.to_owned()) } else { without(record, &unusable, &names)? };
        let fingerprint = format!("{:016x}", rabin(compact(&json)?.as_bytes()));
        Ok(Self { avro, json, fields: fields.into(), unusable, misplaced, fingerprint, records: None })
    }

    /// The columns, in schema order, under their Avro names; only fields that have a column form.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Fields that have no column form, and why. They are skipped when records are decoded.
    pub fn unusable(&self) -> &[(String, String)] {
        &self.unusable
    }

    /// Fields with a logical type beside their type, which Avro's libraries leave out of account, and that logical type. It belongs into the
    /// type (Avro specification, "Logical Types").
    pub fn misplaced(&self) -> &[(String, String)] {
        &self.misplaced
    }

    /// The effective schema: without the unusable fields.
    pub fn avro(&self) -> &Schema {
        &self.avro
    }

    /// The effective schema as JSON.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The record's full name.
    pub fn full_name(&self) -> String {
        self.avro.name().map(ToString::to_string).unwrap_or_default()
    }

    /// The same, for topics that several record types share: only types of these full names are read.
    pub fn for_types(self, records: Vec<String>) -> Self {
        Self { records: Some(records.iter().map(|record| legal(record)).collect()), ..self }
    }

    /// Whether every record type is tried, as where a topic has one.
    pub fn reads_all_types(&self) -> bool {
        self.records.is_none()
    }

    /// Whether records of a type with this full name are read.
    pub fn reads_type(&self, full_name: &str) -> bool {
        self.records.as_ref().is_none_or(|records| records.iter().any(|record| record == full_name))
    }

    /// Whether records of a type with this full name match by name: namespaces do not count, the reader's aliases do.
    pub fn is_named_for(&self, full_name: &str) -> bool {
        let name = full_name.rsplit('.').next().unwrap_or_default();
        let own = self.avro.name().map(|own| own.name().to_owned());
        own.as_deref() == Some(name) || self.avro.aliases().into_iter().flatten().any(|alias| alias.name() == name)
    }

    /// Whether records of a type with this full name are read and match by name.
    pub fn wants(&self, full_name: &str) -> bool {
        self.reads_type(full_name) && self.is_named_for(full_name)
    }

    /// Whether a writer's field of this name is read, under its own name or an alias.
    pub fn reads_field(&self, name: &str) -> bool {
        let Schema::Record(record) = &self.avro else { return true };
        record.fields.iter().any(|field| field.name == name || field.aliases.iter().any(|alias| legal(alias) == name))
    }

    /// Identifies the effective schema with its defaults and logical types, as 16 hex digits.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// Parses a writer's record schema within `limits`.
///
/// # Errors
/// [`SchemaFault`] when a bound is exceeded or the text is not an Avro record schema.
pub fn parse_writer(json: &str, limits: &SchemaLimits) -> Result<Schema, SchemaFault> {
    parse_writer_with_references(json, &[], limits)
}

/// Parses a writer's record schema whose types are partly defined in other subjects, and makes it self-contained.
///
/// # Errors
/// As [`parse_writer`]; the bounds hold for all texts together.
pub fn parse_writer_with_references(json: &str, references: &[&str], limits: &SchemaLimits) -> Result<Schema, SchemaFault> {
    measure(references.iter().chain([&json]).copied(), limits)?;
    // In other words from the start: the parser tries each default, which may take it for ever, and nobody uses one of a writer's.
    checked(linked::parse_reworded(json, references, Leniency::NamesAndDefaults).unwrap_or_else(|| linked::parse(json, references))?)
}

/// Parses a reader's record schema as it is written, or else with legal names.
fn parse_reader(json: &str) -> Result<Schema, SchemaFault> {
    measure([json].into_iter(), &SchemaLimits::default())?;
    let in_other_words = || linked::parse_reworded(json, &[], Leniency::Names).and_then(Result::ok);
    checked(linked::parse(json, &[]).or_else(|strict| in_other_words().ok_or(strict))?)
}

/// A record schema whose types are defined once.
fn checked(schema: Schema) -> Result<Schema, SchemaFault> {
    record_of(&schema)?;
    Names::of(&schema)?;
    Ok(schema)
}

/// Holds JSON texts to the bounds, all together, before anything parses them.
pub(super) fn measure<'t>(texts: impl Iterator<Item = &'t str>, limits: &SchemaLimits) -> Result<(), SchemaFault> {
    let mut measured = Measure::default();
    texts.for_each(|text| measured.add(text, limits));
    measured.check(limits)
}

/// The record that a source's schema must be.
pub(super) fn record_of(schema: &Schema) -> Result<&RecordSchema, SchemaFault> {
    match schema {
        Schema::Record(record) => Ok(record),
        other => Err(SchemaFault::Invalid(format!("a record is needed at the top, this is {}", column_form::kind(other)))),
    }
}

/// Whether values are written as `long`, whatever they mean.
pub(super) fn is_long(schema: &Schema) -> bool {
    matches!(
        schema,
        Schema::Long
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos
    )
}

/// The record without its unusable fields; types that they defined move to where they are used first.
fn without(record: &RecordSchema, unusable: &[(String, String)], names: &Names<'_>) -> Result<(Schema, String), SchemaFault> {
    let invalid = |error: apache_avro::Error| SchemaFault::Invalid(error.to_string());
    let mut record = record.clone();
    record.fields.retain(|field| !unusable.iter().any(|(name, _)| *name == field.name));
    record.lookup = record
        .fields
        .iter()
        .enumerate()
        .flat_map(|(index, field)| field.aliases.iter().chain([&field.name]).map(move |name| (name.clone(), index)))
        .collect();
    let mut schema = Schema::Record(record);
    let definitions: Vec<Schema> = names.definitions().cloned().collect();
    schema.denormalize(&definitions).map_err(invalid)?;
    let json = serde_json::to_string(&schema).map_err(|error| SchemaFault::Invalid(error.to_string()))?;
    Ok((schema, json))
}

fn compact(json: &str) -> Result<String, SchemaFault> {
    let value: serde_json::Value = serde_json::from_str(json).map_err(|error| SchemaFault::Invalid(error.to_string()))?;
    Ok(value.to_string())
}

/// Avro's CRC-64 fingerprint. It is taken of the whole JSON, not of the canonical form, which drops defaults and logical types.
///
/// # Source
/// Avro specification, schema fingerprints.
fn rabin(bytes: &[u8]) -> u64 {
    const EMPTY: u64 = 0xc15d_213a_a4d7_a795;
    bytes.iter().fold(EMPTY, |fingerprint, byte| {
        let mixed = (0..8).fold((fingerprint ^ u64::from(*byte)) & 0xff, |bits, _| (bits >> 1) ^ (EMPTY & 0u64.wrapping_sub(bits & 1)));
        (fingerprint >> 8) ^ mixed
    })
}

/// What JSON texts will cost their parser, found in one pass without recursion.
#[derive(Debug, Default)]
struct Measure {
    bytes: usize,
    depth: usize,
    objects: usize,
    texts: usize,
    /// Length of the longest name.
    name_bytes: usize,
    /// Where the first bound was passed.
    place: Option<String>,
}

impl Measure {
    fn add(&mut self, json: &str, limits: &SchemaLimits) {
        let (mut depth, mut deepest) = (0usize, 0usize);
        let (mut in_text, mut escaped) = (false, false);
        let (mut opened, mut texts) = (0, Texts::default());
        for (at, byte) in json.bytes().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_text => escaped = true,
                b'"' => {
                    in_text = !in_text;
                    match in_text {
                        true => opened = at + 1,
                        false => self.name_bytes = self.name_bytes.max(texts.push(json.get(opened..at).unwrap_or_default())),
                    }
                    self.texts += usize::from(!in_text);
                    let is_over = self.texts > limits.texts_max || self.name_bytes > limits.name_bytes_max;
                    self.note(is_over, || texts.place(at));
                }
                _ if in_text => {}
                b'{' | b'[' => {
                    depth += 1;
                    deepest = deepest.max(depth);
                    self.objects += usize::from(byte == b'{');
                    let is_over = self.depth + depth > limits.depth_max || self.objects > limits.objects_max;
                    self.note(is_over, || texts.place(at));
                }
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        self.bytes += json.len();
        self.depth += deepest;
    }

    fn note(&mut self, is_over: bool, place: impl FnOnce() -> String) {
        if is_over && self.place.is_none() {
            self.place = Some(place());
        }
    }

    fn check(&self, limits: &SchemaLimits) -> Result<(), SchemaFault> {
        let bounds = [
            (self.bytes, limits.bytes_max, "bytes"),
            (self.depth, limits.depth_max, "levels"),
            (self.objects, limits.objects_max, "fields and types"),
            (self.texts, limits.texts_max, "names and other texts"),
            (self.name_bytes, limits.name_bytes_max, "bytes in a name"),
        ];
        match bounds.into_iter().find(|(found, bound, _)| found > bound) {
            Some((found, bound, what)) => {
                let place = self.place.as_ref().map_or_else(String::new, |place| format!(" ({place})"));
                Err(SchemaFault::TooLarge { what: format!("{found} {what}{place}"), bound })
            }
            None => Ok(()),
        }
    }
}

/// The texts met last in a JSON text, and the last of them that was a name.
#[derive(Default)]
struct Texts<'j> {
    last: &'j str,
    name: &'j str,
}

impl<'j> Texts<'j> {
    /// Takes the next text; its length if it is a name.
    fn push(&mut self, text: &'j str) -> usize {
        let is_name = matches!(self.last, "name" | "namespace");
        if self.last == "name" {
            self.name = text;
        }
        self.last = text;
        if is_name { text.len() } else { 0 }
    }

    /// A place for people: the byte, and the field or type that was begun last.
    fn place(&self, at: usize) -> String {
        // Strangers choose names, and their lengths.
        let name: String = self.name.chars().take(64).collect();
        format!("too much from byte {at} on, in `{name}`")
    }
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
