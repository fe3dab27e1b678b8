//! Whether records of one schema can be read as another: the gate's question, answered from the same three rules.
//!
//! Names match without namespaces; a logical type that changes a value's meaning (millis read as micros) is refused; a writer's
//! union is readable when one of its branches other than null is, and values of its other branches are refused one by one.

use apache_avro::Schema;
use apache_avro::schema::RecordSchema;

use super::datum::Shape;
use super::resolve::{has_other_meaning, is_promotable, is_same, is_usable_default};

/// Whether records of `writer` can be read as `reader`.
pub fn is_readable(writer: &Shape, reader: &Shape) -> bool {
    match (&writer.root, &reader.root) {
        (Schema::Record(written), Schema::Record(wanted)) => {
            is_same(&writer.root, &reader.root) && Pair { writer, reader }.record(written, wanted)
        }
        _ => false,
    }
}

#[derive(Clone, Copy)]
struct Pair<'s> {
    writer: &'s Shape,
    reader: &'s Shape,
}

impl<'s> Pair<'s> {
    fn record(self, writer: &'s RecordSchema, reader: &'s RecordSchema) -> bool {
        reader.fields.iter().all(|field| {
            let by_name = writer.fields.iter().find(|written| written.name == field.name);
            match by_name.or_else(|| writer.fields.iter().find(|written| field.aliases.contains(&written.name))) {
                Some(written) => self.value(&written.schema, &field.schema),
                None => is_usable_default(self.reader, field),
            }
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
            (Schema::Array(items), Schema::Array(wanted)) => self.value(&items.items, &wanted.items),
            (Schema::Map(values), Schema::Map(wanted)) => self.value(&values.types, &wanted.types),
            (Schema::Record(record), Schema::Record(wanted)) => is_same(writer, reader) && self.record(record, wanted),
            (Schema::Enum(symbols), Schema::Enum(wanted)) => {
                is_same(writer, reader)
                    && (wanted.default.is_some() || symbols.symbols.iter().any(|symbol| wanted.symbols.contains(symbol)))
            }
            (Schema::Fixed(fixed), Schema::Fixed(wanted)) => is_same(writer, reader) && fixed.size == wanted.size,
            _ => is_same(writer, reader) || is_promotable(writer, reader),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(name: &str, field: &str) -> Shape {
        Shape::parse(&format!(r#"{{"type": "record", "name": "{name}", "fields": [{{"name": "id", "type": "int"}}{field}]}}"#), &[])
            .expect("a schema")
    }

    fn reads(writer: &str, reader: &str) -> bool {
        let field = |kind: &str| {
            if kind.is_empty() { String::new() } else { format!(r#", {{"name": "v", {kind}}}"#) }
        };
        is_readable(&shape("v1.R", &field(writer)), &shape("v2.R", &field(reader)))
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
