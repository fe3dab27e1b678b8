//! Reads Avro datums byte by byte from the specification: strict, bounded, and knowing nothing of columns.
//!
//! apache-avro parses schemas; its own datum reader takes the end of the input for a null, so it cannot tell a cut record
//! from a whole one. Here every byte must be there, and none may be left.
//!
//! # Source
//! Avro 1.12 specification, "Binary Encoding".

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, Name, UuidSchema};

use crate::avro::lenient::Leniency;
use crate::avro::{SchemaFault, linked};

/// Deepest nesting of records, arrays and maps.
const DEPTH_MAX: usize = 64;
/// Longest text or bytes value, a map's keys among them.
const BLOB_BYTES_MAX: usize = 1 << 20;
/// Entries of arrays and maps and fields of nested records that any datum may have, and how many more for each of its bytes.
const ITEMS_FREE: usize = 64;
const ITEMS_PER_BYTE: usize = 4;
const ITEMS_MAX: usize = 1 << 20;

/// A datum in its writer's shape; logical types are not looked at yet.
#[derive(Clone, Debug, PartialEq)]
pub enum Datum {
    /// `null`
    Null,
    /// `boolean`
    Bool(bool),
    /// `int`
    Int(i32),
    /// `long`
    Long(i64),
    /// `float`
    Float(f32),
    /// `double`
    Double(f64),
    /// `bytes` and `fixed`
    Bytes(Vec<u8>),
    /// `string`
    Text(String),
    /// `enum`: the symbol's index.
    Enum(usize),
    /// `union`: the branch's index and its value.
    Union(usize, Box<Datum>),
    /// `array`
    Array(Vec<Datum>),
    /// `map`
    Map(Vec<(String, Datum)>),
    /// `record`, in field order.
    Record(Vec<Datum>),
}

/// Why bytes are not one datum of their schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not one datum of its schema: {0}")]
pub struct Malformed(pub &'static str);

/// A schema with its named types.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The schema.
    pub root: Schema,
    names: HashMap<Name, Schema>,
}

impl Shape {
    /// Parses a reader's schema and collects its named types.
    ///
    /// # Errors
    /// [`SchemaFault`] when the text is not a schema.
    pub fn parse(json: &str) -> Result<Self, SchemaFault> {
        let in_other_words = || linked::parse_reworded(json, &[], Leniency::Names).and_then(Result::ok);
        linked::parse(json, &[]).or_else(|strict| in_other_words().ok_or(strict)).map(Self::of)
    }

    /// The same of a writer's schema, whose defaults do not matter; `others` are schemas that it refers to.
    ///
    /// # Errors
    /// As [`Shape::parse`].
    pub fn parse_writer(json: &str, others: &[&str]) -> Result<Self, SchemaFault> {
        linked::parse_reworded(json, others, Leniency::NamesAndDefaults).unwrap_or_else(|| linked::parse(json, others)).map(Self::of)
    }

    fn of(root: Schema) -> Self {
        let mut names = HashMap::new();
        collect(&root, &mut names);
        Self { root, names }
    }

    /// The schema itself, or what it refers to.
    pub fn resolve<'s>(&'s self, schema: &'s Schema) -> &'s Schema {
        match schema {
            Schema::Ref { name } => self.names.get(name).unwrap_or(schema),
            other => other,
        }
    }

    /// Reads a whole datum.
    ///
    /// # Errors
    /// [`Malformed`] when bytes lack, are left, or mean nothing.
    pub fn read(&self, bytes: &[u8]) -> Result<Datum, Malformed> {
        let items = (bytes.len() * ITEMS_PER_BYTE + ITEMS_FREE).min(ITEMS_MAX);
        let mut reader = Reader { shape: self, rest: bytes, items };
        let datum = reader.read(&self.root, 0)?;
        if reader.rest.is_empty() { Ok(datum) } else { Err(Malformed("bytes are left")) }
    }
}

fn collect(schema: &Schema, names: &mut HashMap<Name, Schema>) {
    match schema {
        Schema::Array(array) => collect(&array.items, names),
        Schema::Map(map) => collect(&map.types, names),
        Schema::Union(union) => union.variants().iter().for_each(|branch| collect(branch, names)),
        Schema::Ref { .. } => {}
        named => {
            if let Some(name) = named.name() {
                for alias in named.aliases().into_iter().flatten() {
                    names.entry(alias.fully_qualified_name(None).into_owned()).or_insert_with(|| named.clone());
                }
                names.insert(name.clone(), named.clone());
            }
            if let Schema::Record(record) = named {
                record.fields.iter().for_each(|field| collect(&field.schema, names));
            }
        }
    }
}

struct Reader<'a> {
    shape: &'a Shape,
    rest: &'a [u8],
    items: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed("the datum is cut"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed("the datum is cut"))?;
        self.rest = rest;
        Ok(*taken)
    }

    /// A zigzag number of at most `bits` bits.
    fn number(&mut self, bits: u32) -> Result<i64, Malformed> {
        let mut raw: u128 = 0;
        let mut shift = 0;
        loop {
            let [byte] = self.array()?;
            raw |= u128::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
            if shift >= bits.next_multiple_of(7) {
                return Err(Malformed("a number has too many bytes"));
            }
        }
        if raw >> bits != 0 {
            return Err(Malformed("a number has too many bits"));
        }
        let raw = raw as u64;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    fn length(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.number(64)?).map_err(|_| Malformed("a length is negative"))
    }

    /// What a text or bytes value holds.
    fn blob(&mut self) -> Result<&'a [u8], Malformed> {
        match self.length()? {
            length if length > BLOB_BYTES_MAX => Err(Malformed("a text or bytes value is too long")),
            length => self.take(length),
        }
    }

    fn text(&mut self) -> Result<String, Malformed> {
        String::from_utf8(self.blob()?.to_vec()).map_err(|_| Malformed("text is not UTF-8"))
    }

    fn bytes(&mut self) -> Result<Datum, Malformed> {
        Ok(Datum::Bytes(self.blob()?.to_vec()))
    }

    /// Takes `count` items from the allowance.
    fn spend(&mut self, count: usize) -> Result<(), Malformed> {
        self.items = self.items.checked_sub(count).ok_or(Malformed("too many items"))?;
        Ok(())
    }

    fn read(&mut self, schema: &Schema, depth: usize) -> Result<Datum, Malformed> {
        match schema {
            Schema::Null => Ok(Datum::Null),
            Schema::Boolean => match self.array()? {
                [0] => Ok(Datum::Bool(false)),
                [1] => Ok(Datum::Bool(true)),
                _ => Err(Malformed("a boolean is neither 0 nor 1")),
            },
            Schema::Int | Schema::Date | Schema::TimeMillis => Ok(Datum::Int(self.number(32)? as i32)),
            Schema::Long
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos => Ok(Datum::Long(self.number(64)?)),
            Schema::Float => Ok(Datum::Float(f32::from_le_bytes(self.array()?))),
            Schema::Double => Ok(Datum::Double(f64::from_le_bytes(self.array()?))),
            Schema::Bytes | Schema::BigDecimal | Schema::Uuid(UuidSchema::Bytes) => self.bytes(),
            Schema::String | Schema::Uuid(UuidSchema::String) => self.text().map(Datum::Text),
            Schema::Fixed(fixed) | Schema::Duration(fixed) | Schema::Uuid(UuidSchema::Fixed(fixed)) => {
                Ok(Datum::Bytes(self.take(fixed.size)?.to_vec()))
            }
            Schema::Decimal(decimal) => match &decimal.inner {
                InnerDecimalSchema::Bytes => self.bytes(),
                InnerDecimalSchema::Fixed(fixed) => Ok(Datum::Bytes(self.take(fixed.size)?.to_vec())),
            },
            Schema::Enum(symbols) => match usize::try_from(self.number(32)?) {
                Ok(index) if index < symbols.symbols.len() => Ok(Datum::Enum(index)),
                _ => Err(Malformed("an enum has no such symbol")),
            },
            Schema::Union(union) => {
                let index = usize::try_from(self.number(64)?).map_err(|_| Malformed("a union has no such branch"))?;
                let branch = union.variants().get(index).ok_or(Malformed("a union has no such branch"))?;
                Ok(Datum::Union(index, Box::new(self.read(branch, depth)?)))
            }
            Schema::Ref { .. } => match self.shape.resolve(schema) {
                Schema::Ref { .. } => Err(Malformed("a type is not defined")),
                named => self.read(named, depth),
            },
            _ => self.read_nested(schema, depth + 1),
        }
    }

    fn read_nested(&mut self, schema: &Schema, depth: usize) -> Result<Datum, Malformed> {
        if depth > DEPTH_MAX {
            return Err(Malformed("nested too deep"));
        }
        match schema {
            Schema::Array(array) => {
                let mut items = Vec::new();
                self.blocks(|reader| {
                    items.push(reader.read(&array.items, depth)?);
                    Ok(())
                })?;
                Ok(Datum::Array(items))
            }
            Schema::Map(map) => {
                let mut entries = Vec::new();
                self.blocks(|reader| {
                    entries.push((reader.text()?, reader.read(&map.types, depth)?));
                    Ok(())
                })?;
                Ok(Datum::Map(entries))
            }
            Schema::Record(record) => {
                if depth > 1 {
                    self.spend(record.fields.len())?;
                }
                let fields = record.fields.iter().map(|field| self.read(&field.schema, depth));
                Ok(Datum::Record(fields.collect::<Result<_, _>>()?))
            }
            _ => Err(Malformed("of a type that is not known")),
        }
    }

    /// The blocks of an array or map: a count, for a negative one its bytes too, then so many items; the last block is empty.
    fn blocks(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), Malformed>) -> Result<(), Malformed> {
        loop {
            let count = self.number(64)?;
            if count == 0 {
                return Ok(());
            }
            let announced = if count < 0 { Some(self.length()?) } else { None };
            let count = usize::try_from(count.unsigned_abs()).map_err(|_| Malformed("too many items"))?;
            self.spend(count)?;
            let before = self.rest.len();
            for _ in 0..count {
                item(self)?;
            }
            if announced.is_some_and(|bytes| bytes != before - self.rest.len()) {
                return Err(Malformed("a block is not as long as it says"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READING: &str = r#"{"type": "record", "name": "R", "fields": [
        {"name": "dev_id", "type": "string"}, {"name": "note", "type": ["null", "string"]},
        {"name": "tags", "type": {"type": "array", "items": "int"}}]}"#;

    fn read(json: &str, bytes: &[u8]) -> Result<Datum, Malformed> {
        Shape::parse(json).expect("a schema").read(bytes)
    }

    #[test]
    fn every_cut_of_a_datum_is_noticed() {
        let bytes = [4, b'd', b'1', 2, 2, b'x', 4, 14, 16, 0];

        let whole = read(READING, &bytes);

        let expected = vec![
            Datum::Text("d1".into()),
            Datum::Union(1, Box::new(Datum::Text("x".into()))),
            Datum::Array(vec![Datum::Int(7), Datum::Int(8)]),
        ];
        assert_eq!(whole, Ok(Datum::Record(expected)));
        for end in 0..bytes.len() {
            assert!(read(READING, &bytes[..end]).is_err(), "cut at {end}");
        }
        assert_eq!(read(READING, &[bytes.as_slice(), &[0, 0, 0]].concat()), Err(Malformed("bytes are left")), "C29");
    }

    #[test]
    fn huge_counts_are_refused_at_once() {
        let max = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];

        assert!(read(r#"{"type": "array", "items": "null"}"#, &max).is_err(), "C31");
        assert!(read(r#""string""#, &max).is_err(), "C31");
        assert!(read(r#""int""#, &max).is_err());
        assert_eq!(read(r#""long""#, &max), Ok(Datum::Long(i64::MAX)));
    }

    /// Sibling of C31: as the engine's inspector, which has the same bound.
    #[test]
    fn texts_bytes_and_keys_are_bounded_and_fixed_values_are_not() {
        // 2^20 and one more, zigzag.
        let (most, more) = ([0x80, 0x80, 0x80, 0x01], [0x82, 0x80, 0x80, 0x01]);
        let filled = |length: &[u8], bytes: usize| [length, &vec![b'x'; bytes]].concat();
        let entry = |length: &[u8], bytes: usize| [[2_u8].as_slice(), &filled(length, bytes), &[0]].concat();
        let too_long = Some(Malformed("a text or bytes value is too long"));

        for json in [r#""string""#, r#""bytes""#, r#"{"type": "bytes", "logicalType": "decimal", "precision": 9}"#] {
            assert!(read(json, &filled(&most, BLOB_BYTES_MAX)).is_ok(), "{json}");
            assert_eq!(read(json, &filled(&more, BLOB_BYTES_MAX + 1)).err(), too_long, "{json}");
        }
        let map = r#"{"type": "map", "values": "null"}"#;
        assert!(read(map, &entry(&most, BLOB_BYTES_MAX)).is_ok());
        assert_eq!(read(map, &entry(&more, BLOB_BYTES_MAX + 1)).err(), too_long);
        let fixed = r#"{"type": "fixed", "name": "F", "size": 1048577}"#;
        assert!(read(fixed, &filled(&[], BLOB_BYTES_MAX + 1)).is_ok());
    }

    #[test]
    fn text_must_be_utf8() {
        assert_eq!(read(r#""string""#, &[6, 0x74, 0xc3, 0x28]), Err(Malformed("text is not UTF-8")), "C37");
    }
}
