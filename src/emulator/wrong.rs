//! Wrong records, each kind in the way it happens outside: what a pipeline must refuse, with known numbers of each.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use apache_avro::Schema;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::error::Error;
use super::shape::Shape;
use super::stream::Reading;
use crate::avro::frame::PREFIX_BYTES;
use crate::avro::{DatumLimits, Inspector};

/// A schema id that no registry has given out.
const UNKNOWN_ID: u32 = 2_000_000_000;
/// How far in the future a record of a broken clock lies.
const FAR_FUTURE_US: i64 = 86_400_000_000;

/// A way to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wrong {
    /// The value ends inside the datum.
    Truncated,
    /// One field is written as another type.
    WrongType,
    /// The record as JSON text.
    Json,
    /// The first byte is not 0.
    NoMagic,
    /// The schema id was never given out.
    UnknownId,
    /// The record has no Kafka key.
    NullKey,
    /// The datum lacks one field.
    MissingField,
    /// A float field is NaN.
    NonFinite,
    /// The event lies a day ahead of the Kafka timestamp.
    FarFuture,
}

impl Wrong {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::Truncated,
        Self::WrongType,
        Self::Json,
        Self::NoMagic,
        Self::UnknownId,
        Self::NullKey,
        Self::MissingField,
        Self::NonFinite,
        Self::FarFuture,
    ];

    /// The kind's name, as in flags and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::WrongType => "wrong-type",
            Self::Json => "json",
            Self::NoMagic => "no-magic",
            Self::UnknownId => "unknown-id",
            Self::NullKey => "null-key",
            Self::MissingField => "missing-field",
            Self::NonFinite => "non-finite",
            Self::FarFuture => "far-future",
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Wrong {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("\"{name}\" is no kind of wrong record; there are {names}")
        })
    }
}

/// Decides which records become wrong, and makes them so.
#[derive(Debug)]
pub struct Spoiler {
    /// Kinds with the upper end of their stretch of [0, 1).
    stretches: Vec<(f64, Wrong)>,
    /// Tells whether bytes are a datum of the right schema.
    inspector: Inspector,
    without: Vec<Altered>,
    retyped: Vec<Altered>,
    not_a_number: Vec<usize>,
    rng: Pcg64,
}

/// The schema with one field gone or of another type.
#[derive(Debug)]
struct Altered {
    field: usize,
    schema: Schema,
    /// What the field holds in its other type; nothing where it is gone.
    value: Option<Value>,
}

impl Spoiler {
    /// Prepares for the kinds whose share is above zero; `schema` is the JSON that `shape` was made from.
    ///
    /// # Errors
    /// [`Error::Setting`] when the shares exceed 1 or a kind is impossible with this schema.
    pub fn new(shares: &BTreeMap<Wrong, f64>, topic: &str, schema: &str, shape: &Shape, seed: u64) -> Result<Self, Error> {
        let refuse = |why: String| Error::Setting { setting: "wrong", why };
        let mut stretches = Vec::new();
        let mut end = 0.0;
        for (kind, share) in shares.iter().filter(|(_, share)| **share != 0.0) {
            if !(0.0..=1.0).contains(share) {
                return Err(refuse(format!("the share of {kind} must lie between 0 and 1")));
            }
            end += share;
            stretches.push((end, *kind));
        }
        if end > 1.0 {
            return Err(refuse(format!("the shares add up to {end}, more than 1")));
        }
        let unusable = |why: String| Error::Schema { topic: topic.into(), why };
        let json = serde_json::from_str(schema).map_err(|error| unusable(error.to_string()))?;
        let inspector = Inspector::new(&shape.schema, DatumLimits::default()).map_err(|fault| unusable(fault.to_string()))?;
        let not_a_number = (0..shape.fields.len()).filter(|at| shape.fields[*at].maker.not_a_number().is_some()).collect();
        let spoiler = Self {
            stretches,
            inspector,
            without: altered(&json, shape, |_| None),
            retyped: altered(&json, shape, |is_text| Some(other_type(is_text))),
            not_a_number,
            rng: Pcg64::seed_from_u64(!seed),
        };
        if shares.get(&Wrong::NonFinite).is_some_and(|share| *share > 0.0) && spoiler.not_a_number.is_empty() {
            return Err(refuse("non-finite needs a float or double field".into()));
        }
        if shares.get(&Wrong::FarFuture).is_some_and(|share| *share > 0.0) && !shape.has_event_time() {
            return Err(refuse("far-future needs a field that holds the event time".into()));
        }
        Ok(spoiler)
    }

    /// Whether the next record becomes wrong, and how.
    pub fn draw(&mut self) -> Option<Wrong> {
        if self.stretches.is_empty() {
            return None;
        }
        let draw: f64 = self.rng.random();
        self.stretches.iter().find(|(end, _)| draw < *end).map(|(_, kind)| *kind)
    }

    /// The source of chance for kinds that are made elsewhere.
    pub fn rng(&mut self) -> &mut Pcg64 {
        &mut self.rng
    }

    /// The kinds that are wrong before they are encoded.
    pub fn spoil_reading(&mut self, kind: Wrong, shape: &Shape, reading: &mut Reading) {
        match kind {
            Wrong::FarFuture => shape.set_event_time(&mut reading.record, reading.time_us.saturating_add(FAR_FUTURE_US)),
            Wrong::NonFinite => {
                let at = self.not_a_number[self.rng.random_range(0..self.not_a_number.len())];
                if let Some(nan) = shape.fields[at].maker.not_a_number() {
                    reading.record[at].1 = nan;
                }
            }
            _ => {}
        }
    }

    /// The kinds that are wrong in their bytes; `value` is the framed datum of `record`.
    pub fn spoil_bytes(&mut self, kind: Wrong, record: &[(String, Value)], value: &mut Vec<u8>) {
        match kind {
            Wrong::Truncated => value.truncate(self.rng.random_range(PREFIX_BYTES..value.len().max(PREFIX_BYTES + 1))),
            Wrong::Json => *value = json_text(record),
            Wrong::NoMagic => value[0] = 1,
            Wrong::UnknownId => value[1..PREFIX_BYTES].copy_from_slice(&UNKNOWN_ID.to_be_bytes()),
            Wrong::MissingField => replace_datum(&self.without, &self.inspector, record, value, &mut self.rng),
            Wrong::WrongType => replace_datum(&self.retyped, &self.inspector, record, value, &mut self.rng),
            Wrong::NullKey | Wrong::NonFinite | Wrong::FarFuture => {}
        }
    }
}

/// All ways of altering one field that give a valid schema.
fn altered(json: &serde_json::Value, shape: &Shape, other: impl Fn(bool) -> Option<(&'static str, Value)>) -> Vec<Altered> {
    let mut ways = Vec::new();
    for field in 0..shape.fields.len() {
        let mut json = json.clone();
        let Some(fields) = json.get_mut("fields").and_then(serde_json::Value::as_array_mut) else {
            continue;
        };
        let is_text = fields[field]["type"] == json!("string");
        let value = match other(is_text) {
            None => {
                fields.remove(field);
                None
            }
            Some((name, value)) => {
                fields[field] = json!({ "name": shape.fields[field].name, "type": name });
                Some(value)
            }
        };
        // A type defined in this field and used in a later one makes the altered schema invalid: another field will do.
        if let Ok(schema) = Schema::parse(&json) {
            ways.push(Altered { field, schema, value });
        }
    }
    ways
}

fn other_type(is_text: bool) -> (&'static str, Value) {
    if is_text { ("int", Value::Int(-1)) } else { ("string", Value::String("not a number".into())) }
}

/// Puts another datum behind the frame: the record written with one of the altered schemas, such that no reader takes it
/// for a datum of the right one (Avro carries no types, so some alterations go unseen); failing that, a cut one.
fn replace_datum(ways: &[Altered], inspector: &Inspector, record: &[(String, Value)], value: &mut Vec<u8>, rng: &mut Pcg64) {
    let first = if ways.is_empty() { 0 } else { rng.random_range(0..ways.len()) };
    for way in ways[first..].iter().chain(&ways[..first]) {
        let mut fields = record.to_vec();
        match &way.value {
            Some(other) => fields[way.field].1 = other.clone(),
            None => drop(fields.remove(way.field)),
        }
        let written = GenericDatumWriter::builder(&way.schema).build().and_then(|writer| writer.write_value_to_vec(Value::Record(fields)));
        if let Ok(datum) = written
            && inspector.inspect(&datum).is_err()
        {
            value.truncate(PREFIX_BYTES);
            value.extend_from_slice(&datum);
            return;
        }
    }
    value.pop();
}

fn json_text(record: &[(String, Value)]) -> Vec<u8> {
    serde_json::Value::try_from(Value::Record(record.to_vec())).map_or_else(|_| b"{}".to_vec(), |json| json.to_string().into_bytes())
}
