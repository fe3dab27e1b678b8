//! A schema, made ready for JSON values: which member feeds which field, what stands in for one that is not there.

use std::collections::HashMap;
use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::schema::{DecimalSchema, EnumSchema, FixedSchema, InnerDecimalSchema, Name, RecordField, RecordSchema, UuidSchema};
use serde_json::Value;

use super::scan::Kind;
use super::time::Unit;
use super::{Datum, Scan, write};
use crate::avro::limits::DatumLimits;
use crate::avro::names::Names;
use crate::avro::schema::SchemaFault;

/// The attribute of a field that names its member in JSON.
pub(in crate::avro::foreign) const PROPERTY: &str = "property";

/// Longest default as a datum: few letters may stand for one that unfolds.
const DEFAULT_BYTES_MAX: usize = 1 << 20;

/// How one value is written.
#[derive(Clone, Debug)]
pub(super) enum Plan {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Text,
    /// With the size of a fixed type.
    Bytes(Option<usize>),
    Uuid(Uuid),
    Decimal(Decimal),
    Date,
    Time(Unit),
    Instant(Unit),
    Local(Unit),
    Enum {
        symbols: HashMap<Box<str>, i64>,
        default: Option<i64>,
    },
    Array(Box<Plan>),
    Map(Box<Plan>),
    Record(Arc<RecordPlan>),
    Union(Vec<Plan>),
    /// No JSON value says it; why.
    Never(String),
}

/// How a UUID is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Uuid {
    Text,
    Bytes,
    Fixed,
}

/// A decimal's digits, how many of them stand behind the point, and the size of a fixed one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decimal {
    pub(super) precision: usize,
    pub(super) scale: usize,
    pub(super) size: Option<usize>,
}

/// How an object is written as a record.
#[derive(Debug)]
pub(super) struct RecordPlan {
    pub(super) fields: Vec<Field>,
    /// Field and rank of each member that is read; the lowest rank goes first.
    pub(super) members: HashMap<Box<str>, (usize, usize)>,
}

/// A field of a record.
#[derive(Debug)]
pub(super) struct Field {
    /// The member that feeds it.
    pub(super) name: Box<str>,
    pub(super) plan: Plan,
    pub(super) missing: Missing,
}

/// What becomes of a field whose member is not there.
#[derive(Debug)]
pub(super) enum Missing {
    /// Its default's bytes.
    Default(Vec<u8>),
    /// The record is refused; why.
    Fault(String),
}

impl Plan {
    /// Whether a value that begins so may be written by this.
    pub(super) fn takes(&self, kind: Kind) -> bool {
        match self {
            Self::Null => kind == Kind::Null,
            Self::Boolean => kind == Kind::Boolean,
            Self::Int | Self::Long | Self::Float | Self::Double => kind == Kind::Number,
            Self::Text | Self::Bytes(_) | Self::Uuid(_) | Self::Enum { .. } => kind == Kind::Text,
            Self::Decimal(_) | Self::Date | Self::Time(_) | Self::Instant(_) | Self::Local(_) => matches!(kind, Kind::Number | Kind::Text),
            Self::Array(_) => kind == Kind::Array,
            Self::Map(_) | Self::Record(_) => kind == Kind::Object,
            Self::Union(branches) => branches.iter().any(|branch| branch.takes(kind)),
            Self::Never(_) => false,
        }
    }

    /// What must stand there, for people.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Int | Self::Long => "a whole number",
            Self::Float | Self::Double => "a number",
            Self::Text => "a text",
            Self::Bytes(_) => "a text of bytes",
            Self::Uuid(_) => "a UUID",
            Self::Decimal(_) => "a number, or a text of one",
            Self::Date => "a date, or its days since 1970",
            Self::Time(_) => "a time of day, or its count since midnight",
            Self::Instant(_) | Self::Local(_) => "an instant, or its count since 1970",
            Self::Enum { .. } => "a symbol of the enum",
            Self::Array(_) => "an array",
            Self::Map(_) | Self::Record(_) => "an object",
            Self::Union(_) => "one of several types",
            Self::Never(_) => "nothing",
        }
    }
}

/// Makes plans of one schema's types, each record once.
pub(super) struct Planner<'n, 's> {
    names: &'n Names<'s>,
    limits: DatumLimits,
    records: HashMap<&'s Name, Option<Arc<RecordPlan>>>,
    /// Plans for defaults; the same one for all, or nested types would be planned anew for each level that they are below.
    plain: Option<Box<Self>>,
    /// Logical types are left aside: a default is spelt in the type beneath.
    is_plain: bool,
}

impl<'n, 's> Planner<'n, 's> {
    pub(super) fn new(names: &'n Names<'s>, limits: DatumLimits) -> Self {
        Self { names, limits, records: HashMap::new(), plain: None, is_plain: false }
    }

    pub(super) fn plan(&mut self, schema: &'s Schema) -> Result<Plan, SchemaFault> {
        let schema = self.names.resolve(schema)?;
        Ok(match schema {
            Schema::Array(array) => Plan::Array(Box::new(self.plan(&array.items)?)),
            Schema::Map(map) => Plan::Map(Box::new(self.plan(&map.types)?)),
            Schema::Union(union) => Plan::Union(union.variants().iter().map(|branch| self.plan(branch)).collect::<Result<_, _>>()?),
            Schema::Record(record) => self.record(record)?,
            Schema::Enum(symbols) => symbols_of(symbols),
            simple if self.is_plain => base(simple),
            simple => logical(simple),
        })
    }

    fn record(&mut self, record: &'s RecordSchema) -> Result<Plan, SchemaFault> {
        match self.records.get(&record.name) {
            Some(Some(known)) => return Ok(Plan::Record(known.clone())),
            Some(None) => return Ok(Plan::Never(format!("type `{}` contains itself", record.name))),
            None => drop(self.records.insert(&record.name, None)),
        }
        let mut members: HashMap<Box<str>, (usize, usize)> = HashMap::new();
        let mut fields = Vec::with_capacity(record.fields.len());
        for (at, field) in record.fields.iter().enumerate() {
            let property = field.custom_attributes.get(PROPERTY).and_then(Value::as_str).filter(|_| !self.is_plain);
            let name = property.unwrap_or(&field.name);
            members.insert(name.into(), (at, 0));
            fields.push(Field { name: name.into(), plan: self.plan(&field.schema)?, missing: self.missing(field)? });
        }
        for (at, field) in record.fields.iter().enumerate() {
            for (alias, rank) in field.aliases.iter().zip(1..) {
                members.entry(alias.as_str().into()).or_insert((at, rank));
            }
        }
        let plan = Arc::new(RecordPlan { fields, members });
        self.records.insert(&record.name, Some(plan.clone()));
        Ok(Plan::Record(plan))
    }

    fn plain(&mut self, schema: &'s Schema) -> Result<Plan, SchemaFault> {
        if self.is_plain {
            return self.plan(schema);
        }
        let (names, limits) = (self.names, self.limits);
        let fresh = || Box::new(Self { names, limits, records: HashMap::new(), plain: None, is_plain: true });
        self.plain.get_or_insert_with(fresh).plan(schema)
    }

    fn missing(&mut self, field: &'s RecordField) -> Result<Missing, SchemaFault> {
        let Some(default) = &field.default else {
            return Ok(Missing::Fault("it is not there, and the schema has no default for it".into()));
        };
        let plan = self.plain(&field.schema)?;
        let (text, mut bytes) = (default.to_string(), Vec::new());
        let bytes_max = DEFAULT_BYTES_MAX.min(self.limits.transcoded_bytes_max);
        let mut datum = Datum::new(&mut bytes, bytes_max, self.limits.string_bytes_max);
        let written = Scan::new(text.as_bytes(), self.limits.depth_max).and_then(|mut scan| write(&plan, &mut scan, &mut datum));
        Ok(match written {
            Ok(()) => Missing::Default(bytes),
            Err(fault) => Missing::Fault(format!("it is not there, and its default {default} cannot be used: {fault}")),
        })
    }
}

fn symbols_of(symbols: &EnumSchema) -> Plan {
    let known: HashMap<Box<str>, i64> = symbols.symbols.iter().map(|symbol| symbol.as_str().into()).zip(0..).collect();
    let default = symbols.default.as_ref().and_then(|default| known.get(default.as_str()).copied());
    Plan::Enum { symbols: known, default }
}

/// The type beneath a logical type.
fn base(schema: &Schema) -> Plan {
    match schema {
        Schema::Date | Schema::TimeMillis => Plan::Int,
        Schema::TimeMicros
        | Schema::TimestampMillis
        | Schema::TimestampMicros
        | Schema::TimestampNanos
        | Schema::LocalTimestampMillis
        | Schema::LocalTimestampMicros
        | Schema::LocalTimestampNanos => Plan::Long,
        Schema::Uuid(UuidSchema::String) => Plan::Text,
        Schema::Uuid(UuidSchema::Bytes) | Schema::BigDecimal => Plan::Bytes(None),
        Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Bytes, .. }) => Plan::Bytes(None),
        Schema::Uuid(UuidSchema::Fixed(fixed)) | Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Fixed(fixed), .. }) => {
            Plan::Bytes(Some(fixed.size))
        }
        other => logical(other),
    }
}

fn logical(schema: &Schema) -> Plan {
    match schema {
        Schema::Null => Plan::Null,
        Schema::Boolean => Plan::Boolean,
        Schema::Int => Plan::Int,
        Schema::Long => Plan::Long,
        Schema::Float => Plan::Float,
        Schema::Double => Plan::Double,
        Schema::String => Plan::Text,
        Schema::Bytes => Plan::Bytes(None),
        Schema::Fixed(FixedSchema { size, .. }) | Schema::Duration(FixedSchema { size, .. }) => Plan::Bytes(Some(*size)),
        Schema::Uuid(UuidSchema::String) => Plan::Uuid(Uuid::Text),
        Schema::Uuid(UuidSchema::Bytes) => Plan::Uuid(Uuid::Bytes),
        Schema::Uuid(UuidSchema::Fixed(_)) => Plan::Uuid(Uuid::Fixed),
        Schema::Decimal(DecimalSchema { precision, scale, inner }) => {
            let size = if let InnerDecimalSchema::Fixed(fixed) = inner { Some(fixed.size) } else { None };
            Plan::Decimal(Decimal { precision: *precision, scale: *scale, size })
        }
        Schema::Date => Plan::Date,
        Schema::TimeMillis => Plan::Time(Unit::Millis),
        Schema::TimeMicros => Plan::Time(Unit::Micros),
        Schema::TimestampMillis => Plan::Instant(Unit::Millis),
        Schema::TimestampMicros => Plan::Instant(Unit::Micros),
        Schema::TimestampNanos => Plan::Instant(Unit::Nanos),
        Schema::LocalTimestampMillis => Plan::Local(Unit::Millis),
        Schema::LocalTimestampMicros => Plan::Local(Unit::Micros),
        Schema::LocalTimestampNanos => Plan::Local(Unit::Nanos),
        Schema::BigDecimal => Plan::Never("a big-decimal has no form in JSON".into()),
        _ => Plan::Never("this type has no form in JSON".into()),
    }
}
