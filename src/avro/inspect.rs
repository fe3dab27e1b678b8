//! Walks a datum against its writer schema, within bounds, before anything else looks at it.
//!
//! arrow-avro takes a cut record for one whose rest is still to come and shifts its neighbours; every Avro library believes a
//! count. So each datum is walked first: when [`Inspector::inspect`] says yes, the bytes are exactly one datum of the schema,
//! every text is UTF-8, and unfolding it costs no more than its size warrants. The walk allocates nothing unless it fails.

use std::collections::HashMap;
use std::fmt;

use apache_avro::Schema;
use apache_avro::schema::{DecimalSchema, InnerDecimalSchema, Name, UuidSchema};

use super::limits::DatumLimits;
use super::names::Names;
use super::schema::SchemaFault;
use super::wire::{Flaw, Wire};

/// A writer schema, flattened for walking.
#[derive(Debug)]
pub struct Inspector {
    nodes: Vec<Node>,
    /// Field names, beside `nodes`; empty for nodes that are no fields.
    names: Vec<Box<str>>,
    root: Node,
    limits: DatumLimits,
}

/// One type. Children stand in `nodes`, those of a record or union side by side; a type that contains itself points back.
#[derive(Clone, Copy, Debug)]
pub(super) enum Node {
    Null,
    Boolean,
    Int,
    Long,
    Fixed(usize),
    Bytes,
    Text,
    Enum(u32),
    Array(u32),
    Map(u32),
    Union { start: u32, branches: u32 },
    Record { start: u32, fields: u32 },
}

/// Why a datum is not exactly one datum of its writer schema within the bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatumFault {
    flaw: Flaw,
    path: String,
    byte: usize,
}

impl DatumFault {
    /// The dead letter's reason code, as docs/semantics.md lists them.
    pub fn reason(&self) -> &'static str {
        self.flaw.code()
    }

    /// The field, such as `position.readings[3]`; empty when no field is at fault.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Byte offset within the field's bytes; for text that is not UTF-8 within the text.
    pub fn byte(&self) -> usize {
        self.byte
    }
}

impl fmt::Display for DatumFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.flaw {
            Flaw::TrailingBytes => return write!(f, "{} bytes left after the datum", self.byte),
            Flaw::Truncated => "the datum ends too early",
            Flaw::InvalidUtf8 => "the text is not UTF-8",
            Flaw::BadUnionBranch => "the union has no such branch",
            Flaw::BadEnumSymbol => "the enum has no such symbol",
            Flaw::BadBoolean => "a boolean is neither 0 nor 1",
            Flaw::VarintOverflow => "a number does not fit its type",
            Flaw::BadLength => "a length or block size is impossible, or a value is longer than 1 MiB",
            Flaw::TooDeep => "the value is nested too deep",
            Flaw::TooManyItems => "the value holds more items than its size warrants",
        };
        write!(f, "{what} (field `{}`, byte {})", self.path, self.byte)
    }
}

impl std::error::Error for DatumFault {}

impl Inspector {
    /// Flattens `writer`.
    ///
    /// # Errors
    /// [`SchemaFault`] when the schema refers to a type that it does not define.
    pub fn new(writer: &Schema, limits: DatumLimits) -> Result<Self, SchemaFault> {
        let names = Names::of(writer)?;
        let mut flat = Flattening::new(&names);
        let root = flat.node(writer)?;
        Ok(flat.finish(root, limits))
    }

    /// Checks that `datum` is exactly one datum of the writer schema, within the bounds.
    ///
    /// # Errors
    /// [`DatumFault`] with reason, field and byte.
    pub fn inspect(&self, datum: &[u8]) -> Result<(), DatumFault> {
        let mut walk = Walk { inspector: self, wire: Wire::new(datum), items_left: self.limits.items_of(datum.len()) };
        if let Err(trail) = walk.node(self.root, self.limits.depth_max) {
            return Err(trail.into_fault());
        }
        match walk.wire.left() {
            0 => Ok(()),
            left => Err(DatumFault { flaw: Flaw::TrailingBytes, path: String::new(), byte: left }),
        }
    }

    /// Moves `wire` past one value of type `node`.
    pub(super) fn skip(&self, node: Node, wire: &mut Wire<'_>) -> Result<(), Flaw> {
        let mut walk = Walk { inspector: self, wire: wire.clone(), items_left: self.limits.items_of(wire.left()) };
        let walked = walk.node(node, self.limits.depth_max).map_err(|trail| trail.flaw);
        *wire = walk.wire;
        walked
    }
}

/// Flattens types of one schema; each record once, however often it is referred to.
pub(super) struct Flattening<'n, 's> {
    names: &'n Names<'s>,
    records: HashMap<&'s Name, Node>,
    nodes: Vec<Node>,
    fields: Vec<Box<str>>,
}

impl<'n, 's> Flattening<'n, 's> {
    pub(super) fn new(names: &'n Names<'s>) -> Self {
        Self { names, records: HashMap::new(), nodes: Vec::new(), fields: Vec::new() }
    }

    pub(super) fn finish(self, root: Node, limits: DatumLimits) -> Inspector {
        Inspector { nodes: self.nodes, names: self.fields, root, limits }
    }

    pub(super) fn node(&mut self, schema: &'s Schema) -> Result<Node, SchemaFault> {
        Ok(match self.names.resolve(schema)? {
            Schema::Null => Node::Null,
            Schema::Boolean => Node::Boolean,
            Schema::Int | Schema::Date | Schema::TimeMillis => Node::Int,
            Schema::Long
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos => Node::Long,
            Schema::Float => Node::Fixed(4),
            Schema::Double => Node::Fixed(8),
            Schema::Bytes
            | Schema::BigDecimal
            | Schema::Uuid(UuidSchema::Bytes)
            | Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Bytes, .. }) => Node::Bytes,
            Schema::String | Schema::Uuid(UuidSchema::String) => Node::Text,
            Schema::Fixed(fixed)
            | Schema::Duration(fixed)
            | Schema::Uuid(UuidSchema::Fixed(fixed))
            | Schema::Decimal(DecimalSchema { inner: InnerDecimalSchema::Fixed(fixed), .. }) => Node::Fixed(fixed.size),
            Schema::Enum(symbols) => Node::Enum(index(symbols.symbols.len())),
            Schema::Array(array) => Node::Array(self.children(&[&array.items], &[])?),
            Schema::Map(map) => Node::Map(self.children(&[&map.types], &[])?),
            Schema::Union(union) => {
                let branches: Vec<&Schema> = union.variants().iter().collect();
                Node::Union { start: self.children(&branches, &[])?, branches: index(branches.len()) }
            }
            Schema::Record(record) => {
                if let Some(node) = self.records.get(&record.name) {
                    return Ok(*node);
                }
                let node = Node::Record { start: index(self.nodes.len()), fields: index(record.fields.len()) };
                self.records.insert(&record.name, node);
                let (schemas, names): (Vec<&Schema>, Vec<&str>) =
                    record.fields.iter().map(|field| (&field.schema, field.name.as_str())).unzip();
                self.children(&schemas, &names)?;
                node
            }
            Schema::Ref { name } => return Err(SchemaFault::Invalid(format!("type `{name}` refers to a reference"))),
        })
    }

    /// Places types side by side and returns where the first one stands.
    fn children(&mut self, schemas: &[&'s Schema], names: &[&str]) -> Result<u32, SchemaFault> {
        let start = self.nodes.len();
        self.nodes.resize(start + schemas.len(), Node::Null);
        self.fields.extend((0..schemas.len()).map(|at| names.get(at).copied().unwrap_or_default().into()));
        for (at, schema) in schemas.iter().enumerate() {
            self.nodes[start + at] = self.node(schema)?;
        }
        Ok(index(start))
    }
}

/// Schemas are bounded far below this in [`super::limits::SchemaLimits`].
fn index(at: usize) -> u32 {
    u32::try_from(at).expect("a schema has fewer than 2^32 types, symbols and fields")
}

/// A flaw on its way up, collecting where it was; only made when a datum fails.
struct Trail {
    flaw: Flaw,
    /// Position in the datum, until the innermost field makes it a position in the field.
    at: usize,
    byte: Option<usize>,
    /// Innermost first.
    path: Vec<String>,
}

impl Trail {
    #[cold]
    fn new(flaw: Flaw, at: usize, byte: Option<usize>) -> Box<Self> {
        Box::new(Self { flaw, at, byte, path: Vec::new() })
    }

    #[cold]
    fn in_field(mut self: Box<Self>, name: &str, start: usize) -> Box<Self> {
        let at = self.at;
        self.byte.get_or_insert(at - start);
        self.path.push(format!(".{name}"));
        self
    }

    #[cold]
    fn in_item(mut self: Box<Self>, item: u64) -> Box<Self> {
        self.path.push(format!("[{item}]"));
        self
    }

    fn into_fault(self) -> DatumFault {
        let path: String = self.path.iter().rev().map(String::as_str).collect();
        DatumFault { flaw: self.flaw, path: path.trim_start_matches('.').to_owned(), byte: self.byte.unwrap_or(self.at) }
    }
}

struct Walk<'i, 'd> {
    inspector: &'i Inspector,
    wire: Wire<'d>,
    items_left: usize,
}

impl<'d> Walk<'_, 'd> {
    fn node(&mut self, node: Node, depth_left: usize) -> Result<(), Box<Trail>> {
        let simple = match node {
            Node::Null => return Ok(()),
            Node::Boolean => self.wire.boolean().map(drop),
            Node::Int => self.wire.int().map(drop),
            Node::Long => self.wire.long().map(drop),
            Node::Fixed(bytes) => self.wire.take(bytes).map(drop),
            Node::Bytes => self.bytes().map(drop),
            Node::Text => return self.text(),
            Node::Enum(symbols) => self.symbol(symbols),
            Node::Array(item) => return self.blocks(depth_left, |walk, depth_left| walk.child(item, depth_left)),
            Node::Map(value) => {
                return self.blocks(depth_left, |walk, depth_left| {
                    walk.text()?;
                    walk.child(value, depth_left)
                });
            }
            Node::Union { start, branches } => match self.branch(branches) {
                Ok(branch) => return self.child(start + branch, depth_left),
                Err(flaw) => Err(flaw),
            },
            Node::Record { start, fields } => return self.record(start, fields, depth_left),
        };
        simple.map_err(|flaw| Trail::new(flaw, self.wire.at(), None))
    }

    #[inline]
    fn child(&mut self, at: u32, depth_left: usize) -> Result<(), Box<Trail>> {
        self.node(self.inspector.nodes[at as usize], depth_left)
    }

    fn record(&mut self, start: u32, fields: u32, depth_left: usize) -> Result<(), Box<Trail>> {
        let depth_left = self.enter(depth_left)?;
        // The outermost record's fields are its schema's, which is bounded; inner ones may repeat without taking bytes.
        if depth_left + 1 < self.inspector.limits.depth_max {
            self.spend(u64::from(fields))?;
        }
        for at in start..start + fields {
            let begin = self.wire.at();
            if let Err(trail) = self.child(at, depth_left) {
                return Err(trail.in_field(&self.inspector.names[at as usize], begin));
            }
        }
        Ok(())
    }

    /// Blocks of items: a count, for negative ones a size in bytes, the items; closed by a count of zero.
    fn blocks(&mut self, depth_left: usize, item: impl Fn(&mut Self, usize) -> Result<(), Box<Trail>>) -> Result<(), Box<Trail>> {
        let depth_left = self.enter(depth_left)?;
        let mut index = 0u64;
        loop {
            let (count, size) = self.block().map_err(|flaw| Trail::new(flaw, self.wire.at(), None))?;
            if count == 0 {
                return Ok(());
            }
            self.spend(count)?;
            let begin = self.wire.at();
            for _ in 0..count {
                item(self, depth_left).map_err(|trail| trail.in_item(index))?;
                index += 1;
            }
            if size.is_some_and(|size| size != self.wire.at() - begin) {
                return Err(Trail::new(Flaw::BadLength, self.wire.at(), None));
            }
        }
    }

    fn block(&mut self) -> Result<(u64, Option<usize>), Flaw> {
        let count = self.wire.long()?;
        if count >= 0 {
            return Ok((count.unsigned_abs(), None));
        }
        let size = self.wire.length()?;
        if size > self.wire.left() {
            return Err(Flaw::Truncated);
        }
        Ok((count.unsigned_abs(), Some(size)))
    }

    #[inline]
    fn enter(&self, depth_left: usize) -> Result<usize, Box<Trail>> {
        depth_left.checked_sub(1).ok_or_else(|| Trail::new(Flaw::TooDeep, self.wire.at(), None))
    }

    fn spend(&mut self, items: u64) -> Result<(), Box<Trail>> {
        match usize::try_from(items).ok().and_then(|items| self.items_left.checked_sub(items)) {
            Some(left) => {
                self.items_left = left;
                Ok(())
            }
            None => Err(Trail::new(Flaw::TooManyItems, self.wire.at(), None)),
        }
    }

    #[inline]
    fn bytes(&mut self) -> Result<&'d [u8], Flaw> {
        let length = self.wire.length()?;
        if length > self.inspector.limits.string_bytes_max {
            return Err(Flaw::BadLength);
        }
        self.wire.take(length)
    }

    fn text(&mut self) -> Result<(), Box<Trail>> {
        let flaw = match self.bytes().map(std::str::from_utf8) {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => (Flaw::InvalidUtf8, Some(error.valid_up_to())),
            Err(flaw) => (flaw, None),
        };
        Err(Trail::new(flaw.0, self.wire.at(), flaw.1))
    }

    #[inline]
    fn symbol(&mut self, symbols: u32) -> Result<(), Flaw> {
        match u32::try_from(self.wire.int()?) {
            Ok(symbol) if symbol < symbols => Ok(()),
            _ => Err(Flaw::BadEnumSymbol),
        }
    }

    #[inline]
    fn branch(&mut self, branches: u32) -> Result<u32, Flaw> {
        match u32::try_from(self.wire.long()?) {
            Ok(branch) if branch < branches => Ok(branch),
            _ => Err(Flaw::BadUnionBranch),
        }
    }
}

#[cfg(test)]
#[path = "inspect_tests.rs"]
mod tests;
