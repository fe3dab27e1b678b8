//! Claims about admission, one record at a time.

use super::*;
use crate::audit::job::Declaration;
use crate::audit::zoo::{declaration, reading, record, schemas};

const AT_MS: i64 = 10_000;

/// What becomes of a datum under these headers when the registry says `guid` of every GUID.
fn screened(declaration: &Declaration, headers: &[(&str, Vec<u8>)], framed: bool, guid: GuidSchema) -> Screened {
    let job = Job::compile(declaration).expect("a job");
    let partitions = HashMap::from([("in".into(), 1)]);
    let mut admission = Admission::new(&job, &partitions);
    let value = reading(Some(2_900), 21.0, AT_MS).expect("a value");
    let mut input = record("in", 0, AT_MS, Some(if framed { value } else { value[5..].to_vec() }), &[]);
    input.headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    if let Some(unknown) = admission.unknown_guid(&input) {
        admission.learn_guid(unknown, &guid);
    }
    if let Some(id) = admission.unknown_schema(&input) {
        admission.learn(id, &schemas(id));
    }
    admission.screen(&input)
}

fn header(value: &[&[u8]]) -> Vec<(&'static str, Vec<u8>)> {
    vec![("__value_schema_id", value.concat())]
}

#[test]
fn a_header_names_the_schema_c23() {
    let zoo = declaration();
    let by_id = header(&[&[0], &1_u32.to_be_bytes()]);
    let by_guid = header(&[&[1], &[7; 16]]);

    assert!(matches!(screened(&zoo, &[], true, GuidSchema::NoGuids), Screened::Admitted(_)));
    assert!(matches!(screened(&zoo, &by_id, false, GuidSchema::NoGuids), Screened::Admitted(row) if row.schema_id == 1));
    assert!(matches!(screened(&zoo, &by_guid, false, GuidSchema::Id(1)), Screened::Admitted(row) if row.schema_id == 1));
    assert!(matches!(screened(&zoo, &by_guid, false, GuidSchema::Missing), Screened::Refused("gate", "unknown-schema-id")));
    assert!(matches!(screened(&zoo, &by_guid, false, GuidSchema::NoGuids), Screened::Refused("frame", "header-framed")));
    assert!(matches!(screened(&zoo, &header(&[&[0, 1]]), false, GuidSchema::NoGuids), Screened::Refused("frame", "header-framed")));
    assert!(
        matches!(screened(&zoo, &by_id, true, GuidSchema::NoGuids), Screened::Refused("inspect", _)),
        "the frame is no part of the datum"
    );
}

#[test]
fn a_record_of_a_type_that_the_source_does_not_read_is_another() {
    let mut zoo = declaration();
    zoo.sources[0].records = Some(vec!["other.Reading".into()]);

    assert!(matches!(screened(&zoo, &[], true, GuidSchema::NoGuids), Screened::OtherRecord));
    zoo.sources[0].records = Some(vec!["Reading".into()]);
    assert!(matches!(screened(&zoo, &[], true, GuidSchema::NoGuids), Screened::Admitted(_)));
}
