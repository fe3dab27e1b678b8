//! A resolution told to people: what each of the reader's columns is made of when records of a writer schema are read.
//!
//! The resolution itself stops at the first field that cannot be read; an owner wants to see all of them, and what changes quietly.

use apache_avro::Schema;

use super::{Pair, Plan, RecordPlan, Step, feeding, name_mismatch};
use crate::avro::column_form::kind;
use crate::avro::inspect::Flattening;
use crate::avro::names::{Names, is_same_type};
use crate::avro::schema::{ReaderSchema, SchemaFault, record_of};

/// Most values without counterpart that are named for one column.
const NAMED_MAX: usize = 8;

/// What reading a writer schema's records comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// One for each of the reader's fields, in their order.
    pub columns: Vec<ColumnAccount>,
    /// The writer's fields that are not read: name and type.
    pub unread: Vec<(String, String)>,
}

/// What one column is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnAccount {
    /// The reader's field.
    pub field: String,
    /// Its type, for people.
    pub read_as: String,
    /// What feeds it.
    pub origin: Origin,
    /// Values that are refused one by one, because they have no counterpart: path and reason. Eight at most.
    pub refused_values: Vec<String>,
}

/// What feeds a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A field of the writer's.
    Written {
        /// Its name.
        field: String,
        /// Its type, for people.
        written_as: String,
    },
    /// The reader's default.
    Default {
        /// As JSON.
        value: String,
    },
    /// Nothing: records cannot be read.
    Nothing {
        /// Path of the field that is at fault.
        path: String,
        /// Why, and what to do.
        why: String,
    },
}

impl ColumnAccount {
    /// Whether the column is what its field says, neither converted nor made up nor partly refused.
    pub fn is_as_written(&self) -> bool {
        let is_plain = matches!(&self.origin, Origin::Written { field, written_as } if *field == self.field && *written_as == self.read_as);
        is_plain && self.refused_values.is_empty()
    }
}

/// Accounts for every column of `reader`, field by field.
///
/// # Errors
/// [`SchemaFault`] when the schemas have no fields to compare: no records, or records of other names.
pub fn account(writer: &Schema, reader: &ReaderSchema) -> Result<Account, SchemaFault> {
    let (of_writer, of_reader) = (record_of(writer)?, record_of(reader.avro())?);
    if !is_same_type(writer, reader.avro()) {
        let why = name_mismatch(writer, reader.avro()).why;
        return Err(SchemaFault::Unreadable { field: of_reader.name.name().to_owned(), why });
    }
    let (writer_names, reader_names) = (Names::of(writer)?, Names::of(reader.avro())?);
    let mut pair =
        Pair { writer: &writer_names, reader: &reader_names, skips: Flattening::new(&writer_names), nodes_left: super::NODES_MAX };
    let sources = feeding(&of_writer.fields, &of_reader.fields);
    let mut columns = Vec::with_capacity(of_reader.fields.len());
    for (source, field) in sources.iter().zip(&of_reader.fields) {
        let mut refused_values = Vec::new();
        let origin = match source.and_then(|at| of_writer.fields.get(at)) {
            None => pair.default(field).map(|_| Origin::Default { value: field.default.as_ref().map_or_else(String::new, short) }),
            Some(written) => pair.plan(&written.schema, &field.schema).map(|plan| {
                refused_by(&plan, &field.name, &mut refused_values);
                Origin::Written { field: written.name.clone(), written_as: words(&written.schema) }
            }),
        };
        let origin = origin.unwrap_or_else(|mismatch| {
            let mismatch = mismatch.in_field(&field.name);
            Origin::Nothing { path: mismatch.path, why: mismatch.why }
        });
        columns.push(ColumnAccount { field: field.name.clone(), read_as: words(&field.schema), origin, refused_values });
    }
    let is_read = |at: &usize| sources.contains(&Some(*at));
    let unread = of_writer.fields.iter().enumerate().filter(|(at, _)| !is_read(at));
    let unread = unread.map(|(_, field)| (field.name.clone(), words(&field.schema))).collect();
    Ok(Account { columns, unread })
}

/// Values that a plan refuses.
fn refused_by(plan: &Plan, path: &str, found: &mut Vec<String>) {
    if found.len() >= NAMED_MAX {
        return;
    }
    match plan {
        Plan::Union(branches) => {
            for (at, branch) in branches.iter().enumerate() {
                match branch {
                    Ok(plan) => refused_by(plan, path, found),
                    Err(why) => note(found, format!("`{path}`, branch {at} of the writer's union: {why}")),
                }
            }
        }
        Plan::Enum(symbols) => {
            let unknown: Vec<&str> =
                symbols.iter().filter(|one| one.reader.is_none()).map(|one| one.writer.as_str()).take(NAMED_MAX).collect();
            if !unknown.is_empty() {
                note(found, format!("`{path}`, symbols {}: the reader's enum has neither them nor a default", unknown.join(", ")));
            }
        }
        Plan::List(item) => refused_by(item, &format!("{path}[]"), found),
        Plan::Map(of) => refused_by(of, &format!("{path}{{}}"), found),
        Plan::Struct(record) => refused_by_record(record, path, found),
        _ => {}
    }
}

fn refused_by_record(record: &RecordPlan, path: &str, found: &mut Vec<String>) {
    for step in &record.steps {
        if let Step::Read { name, plan, .. } = step {
            refused_by(plan, &format!("{path}.{name}"), found);
        }
    }
}

fn note(found: &mut Vec<String>, text: String) {
    if found.len() < NAMED_MAX {
        found.push(text);
    }
}

/// A type for people, with the branches of a union.
fn words(schema: &Schema) -> String {
    match schema {
        Schema::Union(union) => union.variants().iter().take(NAMED_MAX).map(words).collect::<Vec<_>>().join(" or "),
        Schema::Array(array) => format!("array of {}", words_inside(&array.items)),
        Schema::Map(map) => format!("map of {}", words_inside(&map.types)),
        other => kind(other),
    }
}

/// One level deeper, no further: types nest.
fn words_inside(schema: &Schema) -> String {
    match schema {
        Schema::Union(union) => union.variants().iter().take(NAMED_MAX).map(kind).collect::<Vec<_>>().join(" or "),
        other => kind(other),
    }
}

fn short(value: &serde_json::Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::avro::{check_readable, parse_writer};

    fn record(fields: &str) -> String {
        format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#)
    }

    fn account_of(writer: &str, reader: &str) -> Account {
        let writer = parse_writer(&record(writer), &Default::default()).expect("a writer schema");
        account(&writer, &ReaderSchema::parse(&record(reader)).expect("a reader schema")).expect("two records")
    }

    #[test]
    fn a_renamed_a_widened_a_defaulted_and_an_unread_field_are_told_apart() {
        let writer =
            r#"{"name":"batt","type":"int"},{"name":"at","type":"int"},{"name":"site","type":"string"},{"name":"same","type":"int"}"#;
        let reader = r#"{"name":"battery","aliases":["batt"],"type":"int"},{"name":"at","type":"long"},{"name":"note","type":["null","string"],"default":null},{"name":"same","type":"int"}"#;

        let account = account_of(writer, reader);

        let origins: Vec<&Origin> = account.columns.iter().map(|column| &column.origin).collect();
        let written = |field: &str| Origin::Written { field: field.into(), written_as: "int".into() };
        assert_eq!(origins, [&written("batt"), &written("at"), &Origin::Default { value: "null".into() }, &written("same")]);
        let plain: Vec<bool> = account.columns.iter().map(ColumnAccount::is_as_written).collect();
        assert_eq!(plain, [false, false, false, true]);
        assert_eq!(account.unread, [("site".to_owned(), "string".to_owned())]);
    }

    #[test]
    fn all_unreadable_fields_are_named_not_only_the_first() {
        let account = account_of(
            r#"{"name":"a","type":"string"},{"name":"c","type":"int"}"#,
            r#"{"name":"a","type":"int"},{"name":"b","type":"int"},{"name":"c","type":"int"}"#,
        );

        let paths: Vec<&str> = account
            .columns
            .iter()
            .filter_map(|column| if let Origin::Nothing { path, .. } = &column.origin { Some(path.as_str()) } else { None })
            .collect();
        assert_eq!(paths, ["a", "b"]);
    }

    #[test]
    fn values_without_counterpart_are_named_although_the_schema_can_be_read() {
        let writer = r#"{"name":"s","type":{"type":"enum","name":"S","symbols":["A","B"]}},{"name":"v","type":["null","int","string"]}"#;
        let reader = r#"{"name":"s","type":{"type":"enum","name":"S","symbols":["A"]}},{"name":"v","type":["null","int"]}"#;

        let account = account_of(writer, reader);

        assert!(account.columns[0].refused_values[0].contains('B'), "{account:?}");
        assert!(account.columns[1].refused_values[0].contains("branch 2"), "{account:?}");
        let writer = parse_writer(&record(writer), &Default::default()).expect("a writer schema");
        assert!(check_readable(&writer, &ReaderSchema::parse(&record(reader)).expect("a reader schema")).is_ok());
    }
}
