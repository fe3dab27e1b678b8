//! Window results, readable: which window one is of, and how many readings it counts.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use bytes::Bytes;
use testudo::avro::encode::avro_schema_of;

use super::expected::Produced;
use super::input::zoo_tenant;

fn schema() -> &'static Schema {
    static SCHEMA: OnceLock<Schema> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let json = avro_schema_of("updated", "zoo", &zoo_tenant().windows[0].output).expect("an Avro form").to_string();
        Schema::parse_str(&json).expect("a schema")
    })
}

/// Window start, microseconds since 1970, and count of an update.
pub fn start_and_count(update: &Produced) -> (i64, i64) {
    let value = update.value.as_ref().expect("results have values");
    let reader = GenericDatumReader::builder(schema()).build().expect("a reader");
    let Value::Record(fields) = reader.read_value(&mut &value[5..]).expect("a datum") else { panic!("{value:?} is no record") };
    let number = |name: &str| match fields.iter().find(|(field, _)| field == name).map(|(_, value)| value) {
        Some(Value::TimestampMicros(number) | Value::Long(number)) => *number,
        Some(Value::Union(_, value)) => match **value {
            Value::TimestampMicros(number) | Value::Long(number) => number,
            ref other => panic!("{name} is {other:?}"),
        },
        other => panic!("{name} is {other:?}"),
    };
    (number("window_start"), number("readings"))
}

/// Updates by key and window start, in their order.
pub fn by_window(records: &[Produced]) -> BTreeMap<(Bytes, i64), Vec<Produced>> {
    let mut windows: BTreeMap<(Bytes, i64), Vec<Produced>> = BTreeMap::new();
    for record in records {
        let key = record.key.clone().unwrap_or_default();
        windows.entry((key, start_and_count(record).0)).or_default().push(record.clone());
    }
    windows
}
