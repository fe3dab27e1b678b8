//! Files that every registry of Confluent's kind has of its own: a schema imports them without a reference.
//!
//! # Source
//! `ProtobufSchema.KNOWN_DEPENDENCIES` and `KafkaProtobufSerializerConfig`, `skip.known.types`; the messages are those of `google/type`
//! (github.com/googleapis/googleapis) and of `confluent/type`.

/// The text of a file, without what no record depends on.
pub(super) fn text(name: &str) -> Option<String> {
    let (package, body) = match name.strip_suffix(".proto")? {
        "confluent/type/decimal" | "confluent/types/decimal" => {
            ("confluent.type", "message Decimal { bytes value = 1; uint32 precision = 2; int32 scale = 3; }")
        }
        other => ("google.type", of_google(other.strip_prefix("google/type/")?)?),
    };
    let imports = ["duration", "timestamp", "wrappers"].map(|import| format!("import \"google/protobuf/{import}.proto\";")).concat();
    Some(format!("syntax = \"proto3\"; package {package}; {imports} {body}"))
}

fn of_google(name: &str) -> Option<&'static str> {
    Some(match name {
        "calendar_period" => {
            "enum CalendarPeriod { CALENDAR_PERIOD_UNSPECIFIED = 0; DAY = 1; WEEK = 2; FORTNIGHT = 3; MONTH = 4; QUARTER = 5; HALF = 6; YEAR = 7; }"
        }
        "color" => "message Color { float red = 1; float green = 2; float blue = 3; google.protobuf.FloatValue alpha = 4; }",
        "date" => "message Date { int32 year = 1; int32 month = 2; int32 day = 3; }",
        "datetime" => {
            "message DateTime { int32 year = 1; int32 month = 2; int32 day = 3; int32 hours = 4; int32 minutes = 5; int32 seconds = 6;
               int32 nanos = 7; oneof time_offset { google.protobuf.Duration utc_offset = 8; TimeZone time_zone = 9; } }
             message TimeZone { string id = 1; string version = 2; }"
        }
        "dayofweek" => {
            "enum DayOfWeek { DAY_OF_WEEK_UNSPECIFIED = 0; MONDAY = 1; TUESDAY = 2; WEDNESDAY = 3; THURSDAY = 4; FRIDAY = 5; SATURDAY = 6;
               SUNDAY = 7; }"
        }
        "decimal" => "message Decimal { string value = 1; }",
        "expr" => "message Expr { string expression = 1; string title = 2; string description = 3; string location = 4; }",
        "fraction" => "message Fraction { int64 numerator = 1; int64 denominator = 2; }",
        "interval" => "message Interval { google.protobuf.Timestamp start_time = 1; google.protobuf.Timestamp end_time = 2; }",
        "latlng" => "message LatLng { double latitude = 1; double longitude = 2; }",
        "localized_text" => "message LocalizedText { string text = 1; string language_code = 2; }",
        "money" => "message Money { string currency_code = 1; int64 units = 2; int32 nanos = 3; }",
        "month" => {
            "enum Month { MONTH_UNSPECIFIED = 0; JANUARY = 1; FEBRUARY = 2; MARCH = 3; APRIL = 4; MAY = 5; JUNE = 6; JULY = 7; AUGUST = 8;
               SEPTEMBER = 9; OCTOBER = 10; NOVEMBER = 11; DECEMBER = 12; }"
        }
        "phone_number" => {
            "message PhoneNumber { message ShortCode { string region_code = 1; string number = 2; }
               oneof kind { string e164_number = 1; ShortCode short_code = 2; } string extension = 3; }"
        }
        "postal_address" => {
            "message PostalAddress { int32 revision = 1; string region_code = 2; string language_code = 3; string postal_code = 4;
               string sorting_code = 5; string administrative_area = 6; string locality = 7; string sublocality = 8;
               repeated string address_lines = 9; repeated string recipients = 10; string organization = 11; }"
        }
        "quaternion" => "message Quaternion { double x = 1; double y = 2; double z = 3; double w = 4; }",
        "timeofday" => "message TimeOfDay { int32 hours = 1; int32 minutes = 2; int32 seconds = 3; int32 nanos = 4; }",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::derive;
    use crate::avro::{DatumLimits, Reference, SchemaLimits};

    fn derived(text: &str, references: &[Reference]) -> String {
        let derived = derive(text, references, &SchemaLimits::default(), DatumLimits::default(), &|_| false, &|_| true);
        serde_json::to_string(&derived.unwrap_or_else(|fault| panic!("{text}: {fault}")).schema).expect("JSON")
    }

    /// What Connect and ksqlDB write for a decimal, a date or a time of day; their serializers register no reference for these.
    #[test]
    fn files_that_registries_have_of_their_own_need_no_reference() {
        let text = r#"syntax = "proto3"; import "confluent/type/decimal.proto"; import "google/type/date.proto"; import "google/type/datetime.proto";
            import "confluent/meta.proto"; message M { confluent.type.Decimal price = 1; google.type.Date day = 2; google.type.DateTime at = 3; }"#;
        let schema = derived(text, &[]);
        assert!(schema.contains("\"precision\"") && schema.contains("\"utc_offset\""), "{schema}");

        for name in [
            "calendar_period",
            "color",
            "dayofweek",
            "decimal",
            "expr",
            "fraction",
            "interval",
            "latlng",
            "localized_text",
            "money",
            "month",
            "phone_number",
            "postal_address",
            "quaternion",
            "timeofday",
        ] {
            derived(&format!(r#"syntax = "proto3"; import "google/type/{name}.proto"; message M {{ int32 i = 1; }}"#), &[]);
        }
        let text = r#"syntax = "proto3"; package google.type; message Date { int32 only = 1; }"#;
        let own = [Reference { name: "google/type/date.proto".into(), text: text.into() }];
        let main = r#"syntax = "proto3"; import "google/type/date.proto"; message M { google.type.Date day = 1; }"#;
        let schema = derived(main, &own);
        assert!(schema.contains("\"only\"") && !schema.contains("\"year\""), "what was registered goes before: {schema}");
    }
}
