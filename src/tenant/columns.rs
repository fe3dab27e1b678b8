//! A source's columns: the fields of its reader schema under the tenant's names, then the system columns.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// Text: the record's topic.
pub const TOPIC: &str = "_topic";
/// Int: the record's partition.
pub const PARTITION: &str = "_partition";
/// Bigint: the record's offset.
pub const OFFSET: &str = "_offset";
/// Timestamp in milliseconds, UTC: the record's Kafka timestamp.
pub const TIMESTAMP: &str = "_timestamp";
/// Timestamp in microseconds, UTC: the event time.
pub const TIME: &str = "_time";

/// Columns that stand beside the tenant's, in this order, after them.
pub const SYSTEM: [&str; 5] = [TOPIC, PARTITION, OFFSET, TIMESTAMP, TIME];

/// The system columns' fields, in the order of [`SYSTEM`].
fn system_fields() -> [Field; 5] {
    let timestamp = |unit| DataType::Timestamp(unit, Some("+00:00".into()));
    [
        Field::new(TOPIC, DataType::Utf8, false),
        Field::new(PARTITION, DataType::Int32, false),
        Field::new(OFFSET, DataType::Int64, false),
        Field::new(TIMESTAMP, timestamp(TimeUnit::Millisecond), false),
        Field::new(TIME, timestamp(TimeUnit::Microsecond), false),
    ]
}

/// The tenant's fields followed by the system columns.
pub fn with_system(tenant_fields: impl IntoIterator<Item = Field>) -> SchemaRef {
    Arc::new(Schema::new(tenant_fields.into_iter().chain(system_fields()).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_columns_stand_after_the_tenants() {
        let columns = with_system([Field::new("battery", DataType::Int32, false)]);

        let names: Vec<&str> = columns.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["battery", "_topic", "_partition", "_offset", "_timestamp", "_time"]);
    }
}
