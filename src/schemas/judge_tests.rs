//! Claims about judgements, on a small zoo.

use super::*;
use crate::avro::SchemaId;
use crate::schemas::testing;

fn judged(fields: &str) -> Judgement {
    let zoo = testing::zoo("compatible");
    let json = format!(r#"{{"type":"record","name":"Reading","fields":[{fields}]}}"#);
    let fetched = FetchedSchema::avro(SchemaId(7), json);
    judge_fetched(&fetched, &SchemaLimits::default(), &zoo, 0)
}

const SAME: &str = r#"{"name":"dev_id","type":"string"},{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},{"name":"battery","type":["null","int"]},{"name":"site","type":"string"}"#;

#[test]
fn a_schema_that_says_the_same_changes_nothing() {
    let judgement = judged(SAME);

    assert_eq!(judgement, Judgement { verdict: Readability::Readable, reasons: Vec::new(), changes: Vec::new() });
}

#[test]
fn a_field_that_is_gone_names_its_default_and_the_expressions_that_would_see_it() {
    let judgement = judged(&SAME.replace(r#"{"name":"battery","type":["null","int"]}"#, r#"{"name":"volt","type":"int"}"#));

    assert!(judgement.is_readable(), "{judgement:?}");
    let of_battery = judgement.changes.iter().find(|change| change.field == "battery").expect("a change");
    assert!(of_battery.text.contains("default, null"), "{of_battery}");
    assert_eq!(of_battery.used_by, ["alert.battery_low.where: battery < 2000", "window.stats.select: avg(battery)"]);
    assert!(judgement.changes.iter().any(|change| change.field == "volt" && change.text.contains("not read")), "{judgement:?}");
}

#[test]
fn every_field_that_cannot_be_read_is_named_with_what_it_breaks() {
    let judgement = judged(r#"{"name":"dev_id","type":"long"},{"name":"battery","type":"string"},{"name":"site","type":"string"}"#);

    let fields: Vec<&str> = judgement.reasons.iter().map(|reason| reason.field.as_str()).collect();
    assert_eq!(fields, ["dev_id", "at", "battery"]);
    assert_eq!(judgement.reasons[0].column.as_deref(), Some("dev-id"));
    assert_eq!(judgement.reasons[0].used_by[0], "source.readings.key: \"dev-id\"");
    assert!(judgement.why_not().contains("field `battery` cannot be read: it is written as string"), "{}", judgement.why_not());
}

#[test]
fn a_bound_is_a_reason_of_the_whole_schema() {
    let deep = format!(r#"{{"name":"dev_id","type":{}"string"{}}}"#, r#"{"type":"array","items":"#.repeat(200), "}".repeat(200));

    let judgement = judged(&deep);

    assert!(!judgement.is_readable());
    assert!(judgement.reasons[0].field.is_empty() && judgement.reasons[0].text.contains("levels"), "{judgement:?}");
}

#[test]
fn fingerprints_follow_policy_and_expressions_and_nothing_else() {
    let fingerprint = |tenant: &Tenant| crate::schemas::policy_fingerprint(tenant, 0);
    let zoo = testing::zoo("compatible");

    assert_eq!(fingerprint(&zoo), fingerprint(&testing::zoo("compatible")));
    assert_ne!(fingerprint(&zoo), fingerprint(&testing::zoo("hold")));
    let other = testing::tenant(&testing::FILE.replace("POLICY", "compatible").replace("battery < 2000", "battery < 2001"));
    assert_ne!(fingerprint(&zoo), fingerprint(&other));
}

/// What this thread has worked, by proc(5): what else the machine does says nothing about us. Nothing where there is no such file.
fn processor_time() -> std::time::Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    std::time::Duration::from_nanos(text.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

/// What strangers can register, each within the registry's own bounds: judged within a second of work, whatever it is.
#[test]
fn hostile_schemas_are_judged_within_a_second() {
    let zoo = testing::zoo("compatible");
    let record = |name: &str, fields: &str| format!(r#"{{"type":"record","name":"{name}","fields":[{fields}]}}"#);
    let many = |count: usize, one: &dyn Fn(usize) -> String| (0..count).map(one).collect::<Vec<_>>().join(",");
    let namespace = "n.".repeat(200_000);
    let doubled = (1..40).fold(record("D0", r#"{"name":"x","type":"int"}"#), |inner, level| {
        record(&format!("D{level}"), &format!(r#"{{"name":"a","type":{inner}}},{{"name":"b","type":"D{}"}}"#, level - 1))
    });
    let nested = (0..43).fold(r#""int""#.to_owned(), |below, _| format!(r#"[{{"type":"array","items":{below}}},"null"]"#));
    let default = format!("{}1{}", "[".repeat(43), "]".repeat(43));
    let odd = r#"{"type":"array","items":"double","precision":0.01}"#;
    let site = |branches: &str| {
        let many_types = format!(r#"{{"name":"site","type":["string",{branches}]}}"#);
        SAME.replace(r#"{"name":"site","type":"string"}"#, &many_types)
    };
    let chain = |by_alias: bool| {
        let name = if by_alias { "A" } else { "C" };
        many(4_900, &|at| {
            let fields = if at == 0 { String::new() } else { format!(r#"{{"name":"x","type":"{name}{}"}}"#, at - 1) };
            format!(r#"{{"type":"record","name":"C{at}","aliases":["A{at}"],"fields":[{fields}]}}"#)
        })
    };
    // Small types that call themselves as links of the chain do.
    let decoy = |at: usize| format!(r#"{{"type":"record","name":"D{at}","aliases":["C{at}"],"fields":[]}}"#);
    let decoys = many(4_900, &|at| {
        let fields = if at == 0 { String::new() } else { format!(r#"{{"name":"x","type":"C{}"}}"#, at - 1) };
        let link = record(&format!("C{at}"), &fields);
        if at % 150 == 149 { format!("{link},{}", decoy(at)) } else { link }
    });
    let hostile = [
        ("default of unions", record("Reading", &format!(r#"{{"name":"d","type":{nested},"default":{default}}}"#))),
        ("default of nothing", record("Reading", &format!(r#"{{"name":"d","type":{odd},"default":null}}"#))),
        ("no record", odd.into()),
        ("size", r#"{"type":"fixed","name":"F","size":9223372036854775808}"#.into()),
        // The field that is read is not looked into: the chain is met from its far end.
        ("chain", record("Reading", &format!(r#"{},{{"name":"z","type":"C4899"}}"#, site(&chain(false))))),
        ("chain with decoys", record("Reading", &format!(r#"{},{{"name":"z","type":"C4899"}}"#, site(&decoys)))),
        ("chain by aliases", record("Reading", &format!(r#"{},{{"name":"z","type":"A4899"}}"#, site(&chain(true))))),
        (
            "symbols",
            record(
                "Reading",
                &format!(r#"{{"name":"e","type":{{"type":"enum","name":"E","symbols":[{}]}}}}"#, many(90_000, &|at| format!(r#""S{at}""#))),
            ),
        ),
        (
            "aliases",
            record("Reading", &format!(r#"{{"name":"e","type":"int","aliases":[{}]}}"#, many(90_000, &|at| format!(r#""a{at}""#)))),
        ),
        ("fields", record("Reading", &many(9_990, &|at| format!(r#"{{"name":"f{at}","type":"int"}}"#)))),
        ("branches", record("Reading", &format!(r#"{{"name":"u","type":[{}]}}"#, many(3_000, &|at| record(&format!("B{at}"), ""))))),
        (
            "namespace",
            format!(
                r#"{{"type":"record","name":"Reading","namespace":"{namespace}a","fields":[{}]}}"#,
                many(3_000, &|at| format!(r#"{{"name":"f{at}","type":{}}}"#, record(&format!("R{at}"), "")))
            ),
        ),
        ("doubled", record("Reading", &format!(r#"{{"name":"d","type":{doubled}}}"#))),
        ("brackets", "[".repeat(1_000_000)),
        ("quotes", "\"".repeat(1_000_000)),
        ("default", record("Reading", &format!(r#"{{"name":"d","type":"string","default":"{}"}}"#, "x".repeat(900_000)))),
    ];

    for (name, json) in hostile {
        let fetched = FetchedSchema::avro(SchemaId(7), json);
        let started = processor_time();
        let judgement = judge_fetched(&fetched, &SchemaLimits::default(), &zoo, 0);
        let took = processor_time() - started;

        assert!(took < std::time::Duration::from_secs(1), "{name} took {took:?}");
        assert!(!judgement.is_readable(), "{name}: it lacks what the reader has no default for");
    }
}
