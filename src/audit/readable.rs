//! Whether records of one schema can be read as another: the gate's question, answered from the same three rules.
//!
//! Names match without namespaces; a logical type that changes a value's meaning (millis read as micros) is refused; a writer's
//! union is readable when one of its branches other than null is, and values of its other branches are refused one by one.

use apache_avro::Schema;
use apache_avro::schema::RecordSchema;

use super::datum::Shape;
use super::resolve::{feeds, has_other_meaning, is_promotable, is_same, is_usable_default};

/// Whether records of `writer` can be read as `reader`.
pub fn is_readable(writer: &Shape, reader: &Shape) -> bool {
    match (&writer.root, &reader.root) {
        (Schema::Record(written), Schema::Record(wanted)) => {
            is_same(&writer.root, &reader.root) && Pair { writer, reader }.record(written, wanted)
        }
        _ => false,
    }
}

/// Whether values of one of the writer's types can be read as one of the reader's.
pub fn is_value_readable<'s>(writer: (&'s Shape, &'s Schema), reader: (&'s Shape, &'s Schema)) -> bool {
    Pair { writer: writer.0, reader: reader.0 }.value(writer.1, reader.1)
}

#[derive(Clone, Copy)]
struct Pair<'s> {
    writer: &'s Shape,
    reader: &'s Shape,
}

impl<'s> Pair<'s> {
    fn record(self, writer: &'s RecordSchema, reader: &'s RecordSchema) -> bool {
        reader.fields.iter().zip(feeds(writer, reader)).all(|(field, fed_by)| match fed_by {
            Some(at) => self.value(&writer.fields[at].schema, &field.schema),
            None => is_usable_default(self.reader, field),
        })
    }

    fn value(self, writer: &'s Schema, reader: &'s Schema) -> bool {
        let (writer, reader) = (self.writer.resolve(writer), self.reader.resolve(reader));
        if let Schema::Union(union) = writer {
            let is_single = union.variants().len() == 1;
            return union.variants().iter().any(|branch| (is_single || !matches!(branch, Schema::Null)) && self.value(branch, reader));
        }
        let (inner, is_nullable) = match reader {
            Schema::Union(union) => match union.variants() {
                [Schema::Null, inner] | [inner, Schema::Null] => (inner, true),
                [inner] => (inner, false),
                _ => return false,
            },
            other => (other, false),
        };
        match writer {
            Schema::Null => is_nullable || matches!(inner, Schema::Null),
            _ => self.single(writer, self.reader.resolve(inner)),
        }
    }

    fn single(self, writer: &'s Schema, reader: &'s Schema) -> bool {
        if has_other_meaning(writer, reader) {
            return false;
        }
        match (writer, reader) {
            // Its scale changes from value to value, which no column's does.
            (_, Schema::BigDecimal) => false,
            (Schema::Array(items), Schema::Array(wanted)) => self.value(&items.items, &wanted.items),
            (Schema::Map(values), Schema::Map(wanted)) => self.value(&values.types, &wanted.types),
            (Schema::Record(record), Schema::Record(wanted)) => is_same(writer, reader) && self.record(record, wanted),
            (Schema::Enum(symbols), Schema::Enum(wanted)) => {
                let known = |symbol: &String| wanted.default.is_some() || wanted.symbols.contains(symbol);
                is_same(writer, reader) && symbols.symbols.iter().any(known)
            }
            _ => is_same(writer, reader) || is_promotable(writer, reader),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::avro::{ReaderSchema, SchemaLimits, check_readable, parse_writer};

    fn json(name: &str, field: &str) -> String {
        format!(r#"{{"type": "record", "name": "{name}", "fields": [{{"name": "id", "type": "int"}}{field}]}}"#)
    }

    fn shape(name: &str, field: &str) -> Shape {
        Shape::parse(&json(name, field)).expect("a schema")
    }

    fn field(kind: &str) -> String {
        if kind.is_empty() { String::new() } else { format!(r#", {{"name": "v", {kind}}}"#) }
    }

    fn reads(writer: &str, reader: &str) -> bool {
        is_readable(&shape("v1.R", &field(writer)), &shape("v2.R", &field(reader)))
    }

    fn engine_reads(writer: &str, reader: &str) -> bool {
        let writer = parse_writer(&json("v1.R", &field(writer)), &SchemaLimits::default()).expect("a writer schema");
        let reader = ReaderSchema::parse(&json("v2.R", &field(reader))).expect("a reader schema");
        check_readable(&writer, &reader).is_ok()
    }

    /// A type by a short name, and the types that it can be read as.
    const RUNS_OF_BYTES: [(&str, &str, &[&str]); 12] = [
        ("string", r#""string""#, &["string", "bytes", "uuid", "uuid-bytes", "uuid-fixed"]),
        ("bytes", r#""bytes""#, &["string", "bytes", "uuid", "uuid-bytes", "uuid-fixed", "decimal"]),
        ("fixed", r#"{"type": "fixed", "name": "F", "size": 16}"#, &["fixed", "uuid-fixed", "decimal-fixed"]),
        ("uuid", r#"{"type": "string", "logicalType": "uuid"}"#, &["string", "bytes", "uuid", "uuid-bytes", "uuid-fixed"]),
        ("uuid-bytes", r#"{"type": "bytes", "logicalType": "uuid"}"#, &["string", "bytes", "uuid", "uuid-bytes", "uuid-fixed"]),
        (
            "uuid-fixed",
            r#"{"type": "fixed", "name": "F", "size": 16, "logicalType": "uuid"}"#,
            &["fixed", "uuid", "uuid-bytes", "uuid-fixed"],
        ),
        ("decimal", r#"{"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}"#, &["bytes", "decimal"]),
        (
            "decimal-fixed",
            r#"{"type": "fixed", "name": "F", "size": 16, "logicalType": "decimal", "precision": 9, "scale": 2}"#,
            &["fixed", "decimal-fixed"],
        ),
        (
            "decimal-short",
            r#"{"type": "fixed", "name": "F", "size": 8, "logicalType": "decimal", "precision": 9, "scale": 2}"#,
            &["decimal-short"],
        ),
        ("big-decimal", r#"{"type": "bytes", "logicalType": "big-decimal"}"#, &["bytes"]),
        ("duration", r#"{"type": "fixed", "name": "F", "size": 12, "logicalType": "duration"}"#, &[]),
        ("uuid-other", r#"{"type": "fixed", "name": "G", "size": 16, "logicalType": "uuid"}"#, &["uuid", "uuid-bytes", "uuid-fixed"]),
    ];

    /// Siblings of C07 and C19; of the last three kinds there are no columns, or only the name is another.
    #[test]
    fn text_bytes_and_fixed_values_are_read_as_what_they_can_stand_for() {
        let of = |kind: &str| format!(r#""type": {kind}"#);
        for (written, writer, readers) in RUNS_OF_BYTES {
            for (wanted, reader, _) in &RUNS_OF_BYTES[..9] {
                let expected = readers.contains(wanted);
                assert_eq!(reads(&of(writer), &of(reader)), expected, "the audit: {written} as {wanted}");
                assert_eq!(engine_reads(&of(writer), &of(reader)), expected, "the engine: {written} as {wanted}");
                let nullable = format!(r#""type": ["null", {reader}]"#);
                assert_eq!(reads(&of(writer), &nullable), expected, "{written} as {wanted} or null");
            }
        }
    }

    #[test]
    fn a_field_feeds_one_and_defaults_are_those_of_their_types() {
        let with_alias = r#""type": "int"}, {"name": "w", "aliases": ["v"], "type": "int""#;
        assert!(!reads(r#""type": "int""#, with_alias), "v is taken by name");
        assert!(!engine_reads(r#""type": "int""#, with_alias));

        let symbols = r#""type": {"type": "enum", "name": "E", "symbols": ["A"], "default": "A"}, "default""#;
        for (default, expected) in [
            (r#""type": "double", "default": "NaN""#.to_owned(), true),
            (r#""type": "float", "default": "-INF""#.to_owned(), true),
            (format!(r#"{symbols}: "A""#), true),
            (format!(r#"{symbols}: "B""#), false),
        ] {
            assert_eq!(reads("", &default), expected, "{default}");
            assert_eq!(engine_reads("", &default), expected, "{default}");
        }
    }

    #[test]
    fn namespaces_do_not_matter_and_names_do() {
        assert!(reads("", ""), "C19");
        assert!(!is_readable(&shape("v1.R", ""), &shape("v1.S", "")));
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_the_schema_alone() {
        assert!(reads(r#""type": "int""#, r#""type": ["null", "double"]"#));
        assert!(!reads(r#""type": "string""#, r#""type": "int""#));
        assert!(!reads("", r#""type": "int""#), "no default");
        assert!(reads("", r#""type": "int", "default": 3"#));
        assert!(reads(r#""type": ["null", "string", "int"]"#, r#""type": "int""#), "one branch is enough");
        assert!(!reads(
            r#""type": {"type": "long", "logicalType": "timestamp-millis"}"#,
            r#""type": {"type": "long", "logicalType": "timestamp-micros"}"#
        ));
    }
}
