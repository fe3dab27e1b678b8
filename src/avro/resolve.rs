//! How a writer's records become the reader's rows: decided once for a pair of schemas, field by field.
//!
//! The rules are the Avro specification's schema resolution, with three stricter or kinder readings:
//! - names match without their namespaces, in references too;
//! - a field whose logical type changes its meaning (millis read as micros) is refused, never reinterpreted;
//! - a writer union is readable when one of its branches other than null is; values of the others are rejected one by one.

use apache_avro::Schema;
use apache_avro::schema::{DecimalSchema, EnumSchema, InnerDecimalSchema, RecordField, RecordSchema, UnionSchema, UuidSchema};

use super::blob::Blob;
use super::cell::Cell;
use super::column_form::{kind, nullable};
use super::default_value;
use super::inspect::{Flattening, Inspector, Node};
use super::lenient::legal;
use super::limits::DatumLimits;
use super::names::{Names, find_recursion, is_same_type};
use super::schema::{ReaderSchema, SchemaFault, is_long, record_of};

mod account;

pub use account::{Account, ColumnAccount, Origin, account};

/// Most nodes of one resolution: the reader's fields, times the writer's union branches that could feed them.
const NODES_MAX: usize = 50_000;

/// Whether records of `writer` can be resolved to `reader`.
///
/// # Errors
/// [`SchemaFault::Unreadable`] names the first field that cannot and says what to do.
pub fn check_readable(writer: &Schema, reader: &ReaderSchema) -> Result<(), SchemaFault> {
    resolve(writer, reader).map(drop)
}

/// What becomes of a writer's records.
#[derive(Debug)]
pub(super) struct Resolution {
    pub(super) record: RecordPlan,
    /// Moves past what the reader does not have; knows the nodes of [`Step::Skip`].
    pub(super) skips: Inspector,
}

/// What becomes of one record's fields.
#[derive(Debug)]
pub(super) struct RecordPlan {
    /// For each writer field, in order.
    pub(super) steps: Vec<Step>,
    /// Columns that no writer field feeds.
    pub(super) defaults: Vec<(usize, Cell<'static>)>,
    /// Number of the reader's fields.
    pub(super) width: usize,
}

/// What becomes of one writer field.
#[derive(Debug)]
pub(super) enum Step {
    /// The reader does not have it.
    Skip(Node),
    /// It feeds a column.
    Read { column: usize, name: String, plan: Plan },
}

/// How one value is read.
#[derive(Debug)]
pub(super) enum Plan {
    Null,
    Boolean,
    Int(Number),
    Long(Number),
    Float(Number),
    Double,
    Text(Blob),
    Bytes(Blob),
    Fixed(usize, Blob),
    /// The writer's symbols.
    Enum(Vec<Symbol>),
    List(Box<Plan>),
    Map(Box<Plan>),
    Struct(RecordPlan),
    /// The writer's union; branches that have no counterpart say why.
    Union(Vec<Result<Plan, String>>),
}

/// What a number is promoted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Int,
    Long,
    Float,
    Double,
}

/// A writer's enum symbol and what the reader calls it.
#[derive(Debug)]
pub(super) struct Symbol {
    pub(super) writer: String,
    pub(super) reader: Option<String>,
}

/// Resolves a pair of schemas.
pub(super) fn resolve(writer: &Schema, reader: &ReaderSchema) -> Result<Resolution, SchemaFault> {
    let (of_writer, of_reader) = (record_of(writer)?, record_of(reader.avro())?);
    let (writer_names, reader_names) = (Names::of(writer)?, Names::of(reader.avro())?);
    let mut pair = Pair { writer: &writer_names, reader: &reader_names, skips: Flattening::new(&writer_names), nodes_left: NODES_MAX };
    let resolved = match is_same_type(writer, reader.avro()) {
        true => pair.record(of_writer, of_reader),
        false => Err(name_mismatch(writer, reader.avro())),
    };
    match resolved {
        Ok(record) => Ok(Resolution { record, skips: pair.skips.finish(Node::Null, DatumLimits::NONE) }),
        Err(mismatch) => {
            let field = if mismatch.path.is_empty() { of_reader.name.name().to_owned() } else { mismatch.path };
            let note = find_recursion(writer)
                .map(|found| format!("; type `{}` of the writer contains itself through field `{}`", found.type_name, found.field));
            Err(SchemaFault::Unreadable { field, why: mismatch.why + &note.unwrap_or_default() })
        }
    }
}

/// A reader's field that the writer's schema cannot feed.
struct Mismatch {
    path: String,
    why: String,
}

impl Mismatch {
    fn new(why: impl Into<String>) -> Self {
        Self { path: String::new(), why: why.into() }
    }

    fn in_field(self, name: &str) -> Self {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{name}.{}", self.path) };
        Self { path, ..self }
    }
}

struct Pair<'n, 'w, 'r> {
    writer: &'n Names<'w>,
    reader: &'n Names<'r>,
    skips: Flattening<'n, 'w>,
    nodes_left: usize,
}

impl<'w, 'r> Pair<'_, 'w, 'r> {
    fn record(&mut self, writer: &'w RecordSchema, reader: &'r RecordSchema) -> Result<RecordPlan, Mismatch> {
        let sources: Vec<Option<usize>> = feeding(&writer.fields, &reader.fields);
        let mut defaults = Vec::new();
        for (column, field) in reader.fields.iter().enumerate().filter(|(column, _)| sources[*column].is_none()) {
            defaults.push((column, self.default(field).map_err(|mismatch| mismatch.in_field(&field.name))?));
        }
        let mut steps = Vec::with_capacity(writer.fields.len());
        for (at, field) in writer.fields.iter().enumerate() {
            let step = match sources.iter().position(|source| *source == Some(at)) {
                Some(column) => {
                    let wanted = &reader.fields[column];
                    let plan = self.plan(&field.schema, &wanted.schema).map_err(|mismatch| mismatch.in_field(&wanted.name))?;
                    Step::Read { column, name: wanted.name.clone(), plan }
                }
                None => Step::Skip(self.skips.node(&field.schema).map_err(|fault| Mismatch::new(fault.to_string()))?),
            };
            steps.push(step);
        }
        Ok(RecordPlan { steps, defaults, width: reader.fields.len() })
    }

    fn default(&self, field: &'r RecordField) -> Result<Cell<'static>, Mismatch> {
        let Some(default) = &field.default else {
            return Err(Mismatch::new(
                "the writer schema has no such field and the reader schema gives no default: add a default, or an alias if it was renamed",
            ));
        };
        default_value::of(&field.schema, default, self.reader).map_err(|why| Mismatch::new(format!("its default cannot be used: {why}")))
    }

    fn plan(&mut self, writer: &'w Schema, reader: &'r Schema) -> Result<Plan, Mismatch> {
        self.nodes_left =
            self.nodes_left.checked_sub(1).ok_or_else(|| Mismatch::new(format!("the schemas unfold to more than {NODES_MAX} fields")))?;
        let writer = self.writer.resolve(writer).map_err(|fault| Mismatch::new(fault.to_string()))?;
        let reader = self.reader.resolve(reader).map_err(|fault| Mismatch::new(fault.to_string()))?;
        if let Schema::Union(branches) = writer {
            return self.union(branches, reader);
        }
        let Some((inner, is_nullable)) = nullable(reader) else {
            return Err(Mismatch::new("the reader schema has a union of several types here"));
        };
        match writer {
            Schema::Null if is_nullable => Ok(Plan::Null),
            Schema::Null => Err(Mismatch::new("it is written as null, and the reader schema has no null here: make it a union with null")),
            _ => {
                let inner = self.reader.resolve(inner).map_err(|fault| Mismatch::new(fault.to_string()))?;
                self.single(writer, inner)
            }
        }
    }

    /// The writer's union: each branch by itself. At least one that is not null has to be readable.
    fn union(&mut self, writer: &'w UnionSchema, reader: &'r Schema) -> Result<Plan, Mismatch> {
        let mut branches = Vec::with_capacity(writer.variants().len());
        let mut mismatch: Option<Mismatch> = None;
        let mut is_readable = false;
        for branch in writer.variants() {
            let is_null = matches!(branch, Schema::Null);
            match self.plan(branch, reader) {
                Ok(plan) => {
                    is_readable |= !is_null || writer.variants().len() == 1;
                    branches.push(Ok(plan));
                }
                Err(found) => {
                    branches.push(Err(found.why.clone()));
                    // What is wrong with null says least.
                    if mismatch.is_none() || !is_null {
                        mismatch = Some(found);
                    }
                }
            }
        }
        match mismatch {
            Some(mismatch) if !is_readable => Err(mismatch),
            _ => Ok(Plan::Union(branches)),
        }
    }

    fn single(&mut self, writer: &'w Schema, reader: &'r Schema) -> Result<Plan, Mismatch> {
        if let (Some(written), Some(read)) = (meaning(writer), meaning(reader))
            && written != read
        {
            return Err(Mismatch::new(format!(
                "it is written as {written} and read as {read}: declare it as {written} and convert in SQL"
            )));
        }
        if (is_text(writer) && is_unscaled(reader)) || (is_unscaled(writer) && is_text(reader)) {
            return Err(Mismatch::new(format!(
                "it is written as {} and read as {}, and the bytes of a number are no text: declare it as written and convert in SQL",
                kind(writer),
                kind(reader)
            )));
        }
        let plan = match (writer, reader) {
            (Schema::Boolean, Schema::Boolean) => Some(Plan::Boolean),
            (Schema::Int | Schema::Date | Schema::TimeMillis, _) => number(reader).map(Plan::Int),
            (Schema::Float, Schema::Float | Schema::Double) => number(reader).map(Plan::Float),
            (Schema::Double, Schema::Double) => Some(Plan::Double),
            _ if is_text(writer) => blob(reader).map(Plan::Text),
            (Schema::Enum(symbols), Schema::Enum(wanted)) if is_same_type(writer, reader) => {
                Some(Plan::Enum(enum_symbols(symbols, wanted)?))
            }
            (Schema::Array(items), Schema::Array(wanted)) => Some(Plan::List(Box::new(self.plan(&items.items, &wanted.items)?))),
            (Schema::Map(values), Schema::Map(wanted)) => Some(Plan::Map(Box::new(self.plan(&values.types, &wanted.types)?))),
            (Schema::Record(record), Schema::Record(wanted)) if is_same_type(writer, reader) => {
                Some(Plan::Struct(self.record(record, wanted)?))
            }
            (Schema::Enum(_) | Schema::Record(_), Schema::Enum(_) | Schema::Record(_)) => return Err(name_mismatch(writer, reader)),
            _ if is_long(writer) => number(reader).filter(|number| *number != Number::Int).map(Plan::Long),
            _ if is_bytes(writer) => blob(reader).map(Plan::Bytes),
            _ => fixed(writer, reader)?,
        };
        plan.ok_or_else(|| Mismatch::new(format!("it is written as {} and read as {}", kind(writer), kind(reader))))
    }
}

/// Which writer field feeds each reader field: by name, else by an alias of the reader's, each writer field once.
fn feeding(writer: &[RecordField], reader: &[RecordField]) -> Vec<Option<usize>> {
    let written = |name: &String| writer.iter().position(|field| field.name == *name);
    let mut sources: Vec<Option<usize>> = reader.iter().map(|field| written(&field.name)).collect();
    for (column, field) in reader.iter().enumerate() {
        if sources[column].is_none() {
            // A writer's names are legal ones.
            let aliases = field.aliases.iter().map(|alias| legal(alias));
            sources[column] = aliases.filter_map(|alias| written(&alias)).find(|at| !sources.contains(&Some(*at)));
        }
    }
    sources
}

fn enum_symbols(writer: &EnumSchema, reader: &EnumSchema) -> Result<Vec<Symbol>, Mismatch> {
    let known = |symbol: &String| reader.symbols.contains(symbol).then(|| symbol.clone());
    let symbols: Vec<Symbol> = writer
        .symbols
        .iter()
        .map(|symbol| Symbol { writer: symbol.clone(), reader: known(symbol).or_else(|| reader.default.clone()) })
        .collect();
    if symbols.iter().all(|symbol| symbol.reader.is_none()) {
        return Err(Mismatch::new("writer and reader have no enum symbol in common: give the reader's enum a default"));
    }
    Ok(symbols)
}

/// What a number or a run of bytes stands for beyond its Avro type, as far as it must not change between writer and reader.
fn meaning(schema: &Schema) -> Option<String> {
    match schema {
        Schema::Date
        | Schema::TimeMillis
        | Schema::TimeMicros
        | Schema::TimestampMillis
        | Schema::TimestampMicros
        | Schema::TimestampNanos
        | Schema::LocalTimestampMillis
        | Schema::LocalTimestampMicros
        | Schema::LocalTimestampNanos
        | Schema::Decimal(_)
        | Schema::BigDecimal => Some(match schema {
            Schema::Decimal(decimal) => format!("decimal({}, {})", decimal.precision, decimal.scale),
            other => kind(other),
        }),
        Schema::Uuid(_) => Some("uuid".into()),
        Schema::Duration(_) => Some("duration".into()),
        _ => None,
    }
}

fn number(reader: &Schema) -> Option<Number> {
    match reader {
        Schema::Int | Schema::Date | Schema::TimeMillis => Some(Number::Int),
        Schema::Float => Some(Number::Float),
        Schema::Double => Some(Number::Double),
        other => is_long(other).then_some(Number::Long),
    }
}

fn is_text(schema: &Schema) -> bool {
    matches!(schema, Schema::String | Schema::Uuid(UuidSchema::String))
}

/// Whether bytes stand for a number.
fn is_unscaled(schema: &Schema) -> bool {
    matches!(schema, Schema::Decimal(_) | Schema::BigDecimal)
}

fn is_bytes(schema: &Schema) -> bool {
    matches!(
        schema,
        Schema::Bytes
            | Schema::BigDecimal
            | Schema::Uuid(UuidSchema::Bytes)
            | Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Bytes, .. })
    )
}

/// What the reader makes of text or bytes.
fn blob(reader: &Schema) -> Option<Blob> {
    match reader {
        Schema::String => Some(Blob::Text),
        Schema::Bytes => Some(Blob::Bytes),
        Schema::Uuid(_) => Some(Blob::Uuid),
        Schema::Decimal(DecimalSchema { precision, inner: InnerDecimalSchema::Bytes, .. }) => Some(Blob::decimal(*precision)),
        _ => None,
    }
}

/// A fixed type's size; none for other types.
fn fixed_size(schema: &Schema) -> Option<usize> {
    match schema {
        Schema::Fixed(fixed)
        | Schema::Duration(fixed)
        | Schema::Uuid(UuidSchema::Fixed(fixed))
        | Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Fixed(fixed), .. }) => Some(fixed.size),
        _ => None,
    }
}

fn fixed(writer: &Schema, reader: &Schema) -> Result<Option<Plan>, Mismatch> {
    let Some(size) = fixed_size(writer) else { return Ok(None) };
    if matches!((writer, reader), (Schema::Uuid(_), Schema::Uuid(_))) {
        return Ok(Some(Plan::Fixed(size, Blob::Uuid)));
    }
    let Some(wanted) = fixed_size(reader) else { return Ok(None) };
    if !is_same_type(writer, reader) {
        return Err(name_mismatch(writer, reader));
    }
    if size != wanted {
        return Err(Mismatch::new(format!("it is written as {size} bytes and read as {wanted} bytes")));
    }
    let blob = match reader {
        Schema::Decimal(decimal) => Blob::decimal(decimal.precision),
        Schema::Uuid(_) => Blob::Uuid,
        _ => Blob::Bytes,
    };
    Ok(Some(Plan::Fixed(size, blob)))
}

fn name_mismatch(writer: &Schema, reader: &Schema) -> Mismatch {
    Mismatch::new(format!(
        "it is written as {} and read as {}: give the reader's type the writer's name as an alias",
        kind(writer),
        kind(reader)
    ))
}
