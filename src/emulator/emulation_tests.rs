//! Claims about what an emulation sends.

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;

use super::*;
use crate::avro::SchemaGuid;
use crate::avro::frame::PREFIX_BYTES;
use crate::emulator::stream::Message;

const ZOO: &str = r#"{"type":"record","name":"Reading","fields":[
    {"name":"time","type":"long"},
    {"name":"readable_time","type":"string"},
    {"name":"acceleration","type":"double"},
    {"name":"battery","type":"int"},
    {"name":"humidity","type":"double"},
    {"name":"temperature","type":"double"},
    {"name":"dev_id","type":"string"}]}"#;

fn zoo() -> Emulation {
    Emulation { topic: "stream-topic-1".into(), schema: ZOO.into(), base_time_ms: Some(1_540_080_000_000), ..Emulation::default() }
}

fn messages(emulation: &Emulation, count: usize) -> Vec<Message> {
    let shape = emulation.shape().expect("a good schema");
    let messages = emulation.messages(&shape, SchemaId(7)).expect("good settings");
    messages.take(count).collect::<Result<_, _>>().expect("a fleet does not fail")
}

fn decoded(schema: &str, message: &Message) -> Option<Value> {
    let schema = Schema::parse_str(schema).expect("parses");
    let mut datum = message.value.get(PREFIX_BYTES..)?;
    let value = GenericDatumReader::builder(&schema).build().expect("a reader").read_value(&mut datum).ok()?;
    // apache-avro takes some fields that are cut off for null: what it read must be as long as what was written.
    let read = GenericDatumWriter::builder(&schema).build().and_then(|writer| writer.write_value_to_vec(value.clone())).ok()?;
    (datum.is_empty() && read.len() == message.value.len() - PREFIX_BYTES).then_some(value)
}

fn field(value: &Value, name: &str) -> f64 {
    let Value::Record(fields) = value else { panic!("a record") };
    match fields.iter().find(|(field, _)| field == name).map(|(_, value)| value) {
        Some(Value::Int(number)) => f64::from(*number),
        Some(Value::Long(number)) => *number as f64,
        Some(Value::Double(number)) => *number,
        other => panic!("{name} is {other:?}"),
    }
}

fn all_wrong(share: f64) -> BTreeMap<Wrong, f64> {
    Wrong::ALL.into_iter().map(|kind| (kind, share)).collect()
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let wild = Emulation { wrong: all_wrong(0.02), fleet: FleetSettings { late: 0.05, ..FleetSettings::default() }, ..zoo() };

    let first = messages(&wild, 2_000);

    assert_eq!(first, messages(&wild, 2_000));
    assert_ne!(first, messages(&Emulation { seed: 2, ..wild }, 2_000));
}

#[test]
fn every_right_record_is_one_framed_datum_in_plausible_ranges_under_its_key() {
    for message in messages(&zoo(), 1_000) {
        assert_eq!(message.value[..PREFIX_BYTES], [0, 0, 0, 0, 7]);
        let value = decoded(ZOO, &message).expect("decodes");
        assert!((1_000.0..=3_000.0).contains(&field(&value, "battery")));
        assert!((20.0..=45.0).contains(&field(&value, "humidity")));
        let Value::Record(fields) = &value else { panic!("a record") };
        let Value::String(device) = &fields[6].1 else { panic!("dev_id is text") };
        assert_eq!(Some(device.as_bytes()), message.key.as_deref());
    }
}

#[test]
fn shares_of_wrong_records_do_not_change_the_right_ones() {
    let clean = messages(&zoo(), 1_000);
    let spoilt = messages(&Emulation { wrong: all_wrong(0.02), ..zoo() }, 1_000);

    for (clean, spoilt) in clean.iter().zip(&spoilt) {
        assert!(spoilt.wrong.is_some() || clean == spoilt);
    }
}

#[test]
fn every_kind_of_wrong_record_is_wrong_in_its_way() {
    let spoilt = messages(&Emulation { wrong: all_wrong(0.1), ..zoo() }, 2_000);

    for kind in Wrong::ALL {
        let of_kind: Vec<&Message> = spoilt.iter().filter(|message| message.wrong == Some(kind)).collect();
        assert!((100..300).contains(&of_kind.len()), "{} of {kind}", of_kind.len());
        for message in of_kind {
            let value = decoded(ZOO, message);
            match kind {
                Wrong::Truncated | Wrong::WrongType | Wrong::MissingField => assert_eq!(value, None, "{kind}"),
                Wrong::Json => assert!(serde_json::from_slice::<serde_json::Value>(&message.value).is_ok()),
                Wrong::NoMagic => assert_ne!(message.value[0], 0),
                Wrong::UnknownId => assert_ne!(message.value[1..PREFIX_BYTES], [0, 0, 0, 7]),
                Wrong::NullKey => assert_eq!(message.key, None),
                Wrong::NonFinite => {
                    let value = value.expect("decodes");
                    assert!(["acceleration", "humidity", "temperature"].iter().any(|name| field(&value, name).is_nan()));
                }
                Wrong::FarFuture => {
                    assert_eq!(field(&value.expect("decodes"), "time") as i64, message.timestamp_ms + 86_400_000);
                }
            }
        }
    }
}

#[test]
fn disorder_is_measured_against_the_kafka_timestamp() {
    let fleet = FleetSettings { out_of_order: 0.2, late: 0.1, low_battery: 0.3, ..FleetSettings::default() };

    let messages = messages(&Emulation { fleet, ..zoo() }, 5_000);

    let values: Vec<(f64, f64)> = messages
        .iter()
        .map(|message| {
            let value = decoded(ZOO, message).expect("decodes");
            (message.timestamp_ms as f64 - field(&value, "time"), field(&value, "battery"))
        })
        .collect();
    let share = |is: &dyn Fn(&(f64, f64)) -> bool| values.iter().filter(|value| is(value)).count() as f64 / 5_000.0;
    assert!((share(&|(behind, _)| *behind > 0.0 && *behind <= 10_000.0) - 0.2).abs() < 0.03);
    assert!((share(&|(behind, _)| *behind >= 300_000.0) - 0.1).abs() < 0.03);
    assert!((share(&|(_, battery)| *battery < 2_000.0) - 0.3).abs() < 0.03);
}

#[test]
fn any_schema_with_a_text_key_is_fed() {
    let schema = r#"{"type":"record","name":"Everything","namespace":"n","fields":[
        {"name":"machine_id","type":"string"},
        {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
        {"name":"day","type":{"type":"int","logicalType":"date"}},
        {"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":8,"scale":2}},
        {"name":"exact","type":{"type":"fixed","name":"F","size":6,"logicalType":"decimal","precision":10,"scale":2}},
        {"name":"id","type":{"type":"string","logicalType":"uuid"}},
        {"name":"state","type":{"type":"enum","name":"State","symbols":["RUN","STOP"]}},
        {"name":"tags","type":{"type":"array","items":"int"}},
        {"name":"limits","type":{"type":"map","values":["null","float"]}},
        {"name":"place","type":["null",{"type":"record","name":"Place","fields":[{"name":"hall","type":"string"}]}]},
        {"name":"blob","type":"bytes"},
        {"name":"on","type":"boolean"}]}"#;
    let emulation = Emulation { schema: schema.into(), key: "machine_id".into(), ..zoo() };

    for message in messages(&emulation, 200) {
        assert!(decoded(schema, &message).is_some());
    }
}

#[test]
fn the_shipped_schemas_are_fed_and_spoilt() {
    let shipped = [
        (include_str!("../../avro/stream-topic-1-value.avsc"), "dev_id"),
        (include_str!("../../avro/machine-vibration-value.avsc"), "plant"),
    ];

    for (schema, key) in shipped {
        let emulation = Emulation { schema: schema.into(), key: key.into(), wrong: all_wrong(0.05), ..zoo() };
        for message in messages(&emulation, 500) {
            let is_datum = decoded(schema, &message).is_some();
            match message.wrong {
                None | Some(Wrong::NonFinite | Wrong::FarFuture | Wrong::NullKey) => assert!(is_datum, "{:?}", message.wrong),
                Some(Wrong::Truncated | Wrong::MissingField | Wrong::WrongType) => assert!(!is_datum, "{:?}", message.wrong),
                Some(Wrong::Json | Wrong::NoMagic | Wrong::UnknownId) => {}
            }
        }
    }
}

#[test]
fn an_impossible_kind_is_refused_before_anything_is_sent() {
    let schema = r#"{"type":"record","name":"R","fields":[{"name":"dev_id","type":"string"}]}"#;
    let emulation = Emulation { schema: schema.into(), wrong: BTreeMap::from([(Wrong::NonFinite, 0.1)]), ..zoo() };
    let shape = emulation.shape().expect("a good schema");

    let error = emulation.messages(&shape, SchemaId(7)).err().map(|error| error.to_string());

    assert_eq!(error.as_deref(), Some("emulation setting wrong: non-finite needs a float or double field"));
}

#[test]
fn a_flat_out_fleet_never_runs_ahead_of_the_clock() {
    let emulation = Emulation { base_time_ms: None, extent: Extent::Records(10_000), ..zoo() };

    let shape = emulation.shape().expect("a good schema");
    // Ten devices every five seconds: 10,000 records take 5,000 s of event time.
    assert_eq!(emulation.base_time_at(1_700_000_000_000, &shape).ok(), Some(1_700_000_000_000 - 5_000_000));
}

/// C23's other side: what a producer with Confluent Platform 8's header serializer sends.
#[test]
fn a_schema_named_in_a_header_leaves_the_datum_alone_in_the_value() {
    let framed = messages(&zoo(), 20);

    for (framing, header) in [
        (Framing::HeaderId, [&[0][..], &7_u32.to_be_bytes()].concat()),
        (Framing::HeaderGuid(SchemaGuid([7; 16])), [&[1][..], &[7; 16]].concat()),
    ] {
        let emulation = Emulation { framing, ..zoo() };

        assert_eq!(emulation.headers_with(SchemaId(7)), [("__value_schema_id".to_owned(), header)]);
        for (bare, framed) in messages(&emulation, 20).iter().zip(&framed) {
            assert_eq!(bare.value, framed.value[5..]);
        }
    }
    assert!(zoo().headers_with(SchemaId(7)).is_empty());

    let protobuf = Emulation { format: Format::Protobuf, ..zoo() };
    let headed = Emulation { framing: Framing::HeaderId, ..protobuf.clone() };
    assert_eq!(headed.headers_with(SchemaId(7)), [("__value_schema_id".to_owned(), vec![0, 0, 0, 0, 7, 0])], "message indexes too");
    for (bare, framed) in messages(&headed, 20).iter().zip(messages(&protobuf, 20)) {
        assert_eq!(bare.value, framed.value[6..]);
    }
}

#[test]
fn a_frame_that_is_not_there_cannot_be_spoilt() {
    let emulation = Emulation { framing: Framing::HeaderId, wrong: BTreeMap::from([(Wrong::NoMagic, 0.1)]), ..zoo() };
    let shape = emulation.shape().expect("a shape");

    assert!(matches!(emulation.messages(&shape, SchemaId(7)), Err(Error::Setting { setting: "wrong", .. })));
}
