//! JSON Schemas: the Avro schema that is derived from one, and its records, each of which is held to it before it is read.
//!
//! What shapes a value (types, properties, items) becomes Avro; what only restricts it (ranges, patterns, conditions) is left to validation.
//! Nothing is fetched: a `$ref` leads into the schema itself or to one that it was registered with.
//!
//! # Source
//! JSON Schema drafts 4 to 2020-12, as the crate `jsonschema` has them.

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use super::json::Transcoder;
use super::{Derived, Reference, SchemaKind, Transcode, TranscodeFault};
use crate::avro::limits::{DatumLimits, SchemaLimits};
use crate::avro::linked;
use crate::avro::schema::{SchemaFault, measure};

mod documents;
mod shape;
mod unfold;

use documents::{Documents, Known};

/// Memory of one pattern's automaton, in bytes.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Derives the Avro schema of a JSON Schema.
///
/// # Errors
/// As [`super::derive`].
pub fn derive(text: &str, references: &[Reference], limits: &SchemaLimits, datum: DatumLimits) -> Result<Derived, SchemaFault> {
    measure(references.iter().map(|reference| reference.text.as_str()).chain([text]), limits)?;
    let documents = Documents::parse(text, references)?;
    unfold::check(&documents)?;
    let derived = shape::record_of(&documents)?;
    linked::must_be_within_levels(std::slice::from_ref(&derived))?;
    let schema =
        apache_avro::Schema::parse(&derived).map_err(|error| refused("#", format!("no Avro schema can be made of it: {error}")))?;
    let records = Validated { transcoder: Transcoder::of(&schema, datum)?, validator: validator(documents)? };
    Ok(Derived { schema, transcoder: Box::new(records) })
}

fn refused(place: impl Into<String>, why: impl Into<String>) -> SchemaFault {
    SchemaFault::Foreign { kind: SchemaKind::Json, place: place.into(), why: why.into() }
}

/// Compiles the schema for validation, patterns in linear time.
fn validator(documents: Documents) -> Result<Validator, SchemaFault> {
    let root = documents.root().clone();
    let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX);
    // Formats are rules in some drafts and remarks in others; those that give a type are held to it by the transcoder.
    let options = jsonschema::options().with_retriever(Known(documents)).with_pattern_options(patterns).should_validate_formats(false);
    options.build(&root).map_err(|error| refused(format!("#{}", error.instance_path()), error.masked().to_string()))
}

/// Transcodes records that keep their schema.
#[derive(Debug)]
struct Validated {
    transcoder: Transcoder,
    validator: Validator,
}

impl Transcode for Validated {
    fn transcode(&self, value: &[u8], datum: &mut Vec<u8>) -> Result<(), TranscodeFault> {
        let transcoded = self.transcoder.transcode(value, datum);
        if let Err(fault) = &transcoded
            && matches!(fault.reason, "not-json" | "invalid-utf8" | "duplicate-key" | "too-deep" | "bad-length")
        {
            return transcoded;
        }
        // What the schema says about a value goes before what its type says.
        let json: Value = serde_json::from_slice(value).map_err(|error| TranscodeFault {
            reason: if error.to_string().starts_with("number out of range") { "out-of-range" } else { "not-json" },
            path: String::new(),
            detail: format!("the value is not JSON that can be validated: {error}"),
        })?;
        match self.validator.validate(&json) {
            Ok(()) => transcoded,
            Err(error) => Err(TranscodeFault {
                reason: "not-of-schema",
                path: path_of(error.instance_path().as_str()),
                detail: format!("the value breaks its own schema: {} (#{})", error.masked(), error.schema_path()),
            }),
        }
    }
}

/// A JSON pointer as a path: `/readings/3/at` is `readings[3].at`.
fn path_of(pointer: &str) -> String {
    let mut path = String::new();
    for step in pointer.split('/').skip(1) {
        let step: String = step.replace("~1", "/").replace("~0", "~").chars().take(64).collect();
        match step.bytes().all(|byte| byte.is_ascii_digit()) && !step.is_empty() {
            true => path.push_str(&format!("[{step}]")),
            false if path.is_empty() => path.push_str(&step),
            false => path.push_str(&format!(".{step}")),
        }
    }
    path
}

#[cfg(test)]
mod tests;
