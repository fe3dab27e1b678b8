//! Whether a writer schema is small enough to be looked at: the bounds of docs/semantics.md, counted on the parsed JSON.

use serde_json::Value;

const BYTES_MAX: usize = 1 << 20;
const LEVELS_MAX: usize = 96;
const OBJECTS_MAX: usize = 10_000;
const TEXTS_MAX: usize = 100_000;
const NAME_BYTES_MAX: usize = 512;

#[derive(Default)]
struct Count {
    objects: usize,
    texts: usize,
    longest_name: usize,
}

/// Whether a schema and those that it rests on are within all bounds together. What is no JSON, or nested too deep for JSON's parser, is not.
pub fn is_within(json: &str, references: &[&str]) -> bool {
    let texts = || references.iter().copied().chain([json]);
    if texts().map(str::len).sum::<usize>() > BYTES_MAX {
        return false;
    }
    let mut count = Count::default();
    let mut levels = 0;
    for text in texts() {
        match serde_json::from_str(text) {
            Ok(value) => levels += count.add(&value),
            Err(_) => return false,
        }
    }
    levels <= LEVELS_MAX && count.objects <= OBJECTS_MAX && count.texts <= TEXTS_MAX && count.longest_name <= NAME_BYTES_MAX
}

impl Count {
    /// Counts a value and gives its levels. JSON's parser has bounded the nesting.
    fn add(&mut self, value: &Value) -> usize {
        match value {
            Value::String(_) => self.texts += 1,
            Value::Array(items) => return 1 + items.iter().map(|item| self.add(item)).max().unwrap_or(0),
            Value::Object(members) => {
                self.objects += 1;
                self.texts += members.len();
                for name in ["name", "namespace"].iter().filter_map(|key| members.get(*key)?.as_str()) {
                    self.longest_name = self.longest_name.max(name.len());
                }
                return 1 + members.values().map(|member| self.add(member)).max().unwrap_or(0);
            }
            _ => {}
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::avro::{SchemaLimits, parse_writer};

    /// Counted twice, by the gate on the text and here on the values: one bound below and one above each.
    #[test]
    fn the_gate_and_the_audit_draw_the_same_lines() {
        let record = |fields: &str| format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#);
        let nested = |levels: usize| {
            let (open, close) = (r#"{"type":"array","items":"#.repeat(levels), "}".repeat(levels));
            record(&format!(r#"{{"name":"a","type":{open}"int"{close}}}"#))
        };
        let wide =
            |fields: usize| record(&(0..fields).map(|at| format!(r#"{{"name":"f{at}","type":"int"}}"#)).collect::<Vec<_>>().join(","));
        let named = |bytes: usize| record(&format!(r#"{{"name":"{}","type":"int"}}"#, "n".repeat(bytes)));
        let long = |bytes: usize| {
            let empty = record(r#"{"name":"a","type":"int","doc":""}"#).len();
            record(&format!(r#"{{"name":"a","type":"int","doc":"{}"}}"#, "d".repeat(bytes - empty)))
        };
        let schemas = [nested(93), nested(94), wide(9_999), wide(10_000), named(512), named(513), long(BYTES_MAX), long(BYTES_MAX + 1)];

        for (at, schema) in schemas.iter().enumerate() {
            let gate = parse_writer(schema, &SchemaLimits::default()).is_ok();
            assert_eq!((gate, is_within(schema, &[])), (at % 2 == 0, at % 2 == 0), "{}", schema.chars().take(200).collect::<String>());
        }
    }
}
