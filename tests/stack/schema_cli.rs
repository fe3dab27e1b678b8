//! The owner's commands on real servers: the page docs/schemas.md done word by word, decisions, schema ids in headers, several record types.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

use apache_avro::Schema;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use libtest_mimic::Failed;
use serde_json::json;
use testudo::avro::SchemaId;
use testudo::emulator::{Emulation, Extent, Framing};
use testudo::stack::Stack;

use crate::Test;
use crate::job::{Job, PATIENCE, READING, ZOO, wait_for};

pub const TESTS: &[Test] = &[
    ("the_page_on_schemas_says_what_happens", the_page),
    ("a_candidate_brings_what_it_refers_to", candidate_with_references),
    ("an_owner_lets_held_records_go_on_and_refuses_others", decisions),
    ("a_drain_before_a_decision_ends_with_code_9", drain_before_a_decision),
    ("c23_ids_in_headers_are_followed", ids_in_headers),
    ("records_of_other_types_are_skipped_and_counted", other_types),
];

const PAGE: &str = include_str!("../../docs/schemas.md");

/// 2025-04-08T08:15:00.123Z.
const TIME_MS: i64 = 1_744_100_100_123;

/// A fenced block of the page's worked example: its info line and its text.
fn blocks() -> Vec<(&'static str, &'static str)> {
    let example = PAGE.split("## A worked example").nth(1).and_then(|rest| rest.split("## The owner decides").next()).expect("the example");
    example.split("\n```").skip(1).step_by(2).filter_map(|block| block.split_once('\n')).collect()
}

/// Ids are the registry's to give.
fn without_ids(text: &str) -> String {
    let mut parts = text.split("(id ");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        write!(plain, "(id N{}", part.trim_start_matches(|letter: char| letter.is_ascii_digit())).expect("a String");
    }
    plain
}

fn the_page(stack: &Stack) -> Result<(), Failed> {
    let blocks = blocks();
    let file =
        |name: &str| blocks.iter().find(|(info, _)| info.split(' ').nth(1) == Some(name)).map(|(_, text)| *text).ok_or(name.to_owned());
    let job = Job::new(stack, file("tenants/farm.toml")?, &[("farm-readings", file("avro/farm-readings-value.avsc")?)])?;
    job.create_topic("farm-readings", 1)?;
    let url = format!("{}/config/farm-readings-value", stack.registry_url());
    let rule = json!({ "compatibility": "NONE" });

    let mut commands = 0;
    for (info, text) in &blocks {
        let mut words = info.split(' ').skip(1);
        match (words.next(), words.next()) {
            (Some(path), registers) => {
                std::fs::write(job.path(path), text)?;
                if registers.is_some() {
                    job.register("farm-readings", text)?;
                    job.block_on(async { reqwest::Client::new().put(&url).json(&rule).send().await })?.error_for_status()?;
                }
            }
            (None, _) => commands += console(&job, text)?,
        }
    }
    assert_eq!(commands, 4, "the page's commands were run");

    the_farm_at_work(&job, &blocks)
}

/// Runs the commands of a console block and compares what they print, and their exit code.
fn console(job: &Job<'_>, text: &str) -> Result<usize, Failed> {
    let mut commands = 0;
    let mut code = None;
    for part in text.split("$ ").skip(1) {
        let (command, told) = part.split_once('\n').unwrap_or((part, ""));
        if command == "echo $?" {
            assert_eq!(code.map(|code: i32| code.to_string()).as_deref(), Some(told.trim()), "exit code");
            continue;
        }
        let arguments: Vec<&str> = command.split(' ').skip(1).collect();
        let output = job.command(&arguments).output()?;
        let (shown, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let faults: String = errors.lines().filter(|line| line.starts_with("testudo: ")).map(|line| format!("{line}\n")).collect();
        let found = without_ids(&format!("{shown}{faults}"));
        if found != without_ids(told) {
            return Err(format!("$ {command}\n{found}\nthe page says:\n{told}\nstandard error:\n{errors}").into());
        }
        code = output.status.code();
        commands += 1;
    }
    Ok(commands)
}

/// Producers of all four versions, the last one broken: three documents, an alert of the third, one dead letter.
fn the_farm_at_work(job: &Job<'_>, blocks: &[(&str, &str)]) -> Result<(), Failed> {
    let schema =
        |name: &str| blocks.iter().find(|(info, _)| info.split(' ').nth(1) == Some(name)).map(|(_, text)| *text).ok_or(name.to_owned());
    let head = |minute: i64| {
        vec![("cow".to_owned(), Value::String("berta".into())), ("at".to_owned(), Value::TimestampMillis(TIME_MS + minute * 60_000))]
    };
    let note = || ("note".to_owned(), Value::Union(0, Box::new(Value::Null)));
    let versions = [
        (schema("avro/farm-readings-value.avsc")?, vec![("temperature".to_owned(), Value::Double(38.6))]),
        (schema("v2.avsc")?, vec![("temperature".to_owned(), Value::Double(38.7)), note()]),
        (schema("v3.avsc")?, vec![("body_temperature".to_owned(), Value::Double(39.8)), note()]),
        (schema("v4.avsc")?, vec![("body_temperature".to_owned(), Value::String("39.9 C".into())), note()]),
    ];
    for ((json, fields), minute) in versions.into_iter().zip(0..) {
        let id = job.register("farm-readings", json)?;
        let value = framed(id, json, [head(minute), fields].concat())?;
        job.produce("farm-readings", 0, Some(b"berta"), Some(&value), TIME_MS)?;
    }

    job.drain()?;

    let letters = job.read("farm-dead-letters")?;
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(letters[0].headers["testudo-reason"], "schema-refused");
    assert!(letters[0].headers["testudo-detail"].contains("temperature"), "{:?}", letters[0].headers);
    assert_eq!(job.read("farm-fever")?.len(), 1, "the renamed field is read");
    job.audit()
}

fn framed(id: SchemaId, schema: &str, fields: Vec<(String, Value)>) -> Result<Vec<u8>, Failed> {
    let schema = Schema::parse_str(schema)?;
    let datum = GenericDatumWriter::builder(&schema).build()?.write_value_to_vec(Value::Record(fields))?;
    Ok([&testudo::avro::frame::prefix(id)[..], &datum].concat())
}

/// References of a candidate: as a file, as a registered version, and not at all.
fn candidate_with_references(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 1)?;
    let place = r#"{"type":"record","name":"Place","namespace":"other","fields":[{"name":"x","type":"double"}]}"#;
    let subject = format!("{}-place-value", job.name);
    job.register(&format!("{}-place", job.name), place)?;
    std::fs::write(job.path("place.avsc"), place)?;
    let candidate = READING.replacen(
        "\"fields\": [",
        "\"fields\": [{\"name\": \"place\", \"type\": [\"null\", \"other.Place\"], \"default\": null},",
        1,
    );
    std::fs::write(job.path("new.avsc"), candidate)?;
    let meant = format!("{}-value", job.topic("in"));
    let checked = |more: &[&str]| -> Result<(Option<i32>, String), Failed> {
        let arguments = ["schema", "check", "tenants/tenant.toml", "--candidate", "new.avsc", "--subject", &meant];
        let output = job.command(&[&arguments, more].concat()).output()?;
        let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&text).into_owned()))
    };
    let (file, latest, missing) = ("other.Place=place.avsc", format!("other.Place={subject}@latest"), format!("other.Place={subject}@9"));
    let cases: [(&[&str], i32, &str); 7] = [
        (&["--offline"], 5, "other.Place"),
        (&["--offline", "--reference", file], 0, "rests on other.Place (file place.avsc)"),
        (&["--reference", file], 0, "the subject's own rule was not asked: place.avsc is not registered"),
        (&["--reference", &latest], 0, "rests on other.Place (subject"),
        (&["--reference", &missing], 5, "version 9), which is not there"),
        (&["--offline", "--reference", &latest], 2, "name a file"),
        (&["--reference", file, "--reference", file], 2, "is given twice"),
    ];
    for (more, wanted, words) in cases {
        let (code, text) = checked(more)?;
        assert!(code == Some(wanted) && text.contains(words), "{more:?} ended with {code:?}, wanted {wanted} and `{words}`:\n{text}");
    }
    Ok(())
}

/// A reading with another field, so that its schema is another one.
fn version(field: &str) -> String {
    READING.replacen("\"fields\": [", &format!("\"fields\": [{{\"name\": \"{field}\", \"type\": \"int\", \"default\": 0}},"), 1)
}

fn decisions(stack: &Stack) -> Result<(), Failed> {
    let file = ZOO.replace("event_time = \"readable_time\"", "event_time = \"readable_time\"\non_new_schema = \"hold\"");
    let job = Job::new(stack, &file, &[("NAME-in", READING)])?;
    job.create_topic(&job.topic("in"), 1)?;
    let first = job.register(&job.topic("in"), READING)?;
    let instance = job.start("one", &[("RUST_LOG", "info")])?;
    job.emulate(first, 1, 100, None, &[])?;
    job.wait_committed(100)?;

    let second = job.register(&job.topic("in"), &version("extra"))?;
    emulate(&job, second, &version("extra"), 50)?;
    wait_for("the second version to be held", || Ok(listed(&job)?.get(&second.0).map(String::as_str) == Some("held")))?;
    assert_eq!(job.committed()?, 100, "its records wait");
    tenant_command(&job, &["schema", "accept", &second.0.to_string(), "--who", "ada", "--reason", "seen"])?;
    job.wait_committed(150)?;
    assert_eq!(listed(&job)?.get(&second.0).map(String::as_str), Some("accepted"));

    let third = job.register(&job.topic("in"), &version("more"))?;
    emulate(&job, third, &version("more"), 50)?;
    wait_for("the third version to be held", || Ok(listed(&job)?.get(&third.0).map(String::as_str) == Some("held")))?;
    let rows = tenant_command(&job, &["schema", "ls"])?;
    let place = format!("waiting for a decision: {}/0 at 150", job.topic("in"));
    assert!(rows.contains(&place), "{rows}");
    over_http(&job, &address(&instance.log()).ok_or("no address in the log")?, third)?;
    job.wait_committed(200)?;
    assert_eq!(job.dead_letters()?, BTreeMap::from([("schema-refused".to_owned(), 50)]));

    // The owner's mind changes: what was used before stays used.
    tenant_command(&job, &["schema", "refuse", &second.0.to_string(), "--who", "ada"])?;
    wait_for("the refusal to hold", || {
        emulate(&job, second, &version("extra"), 1)?;
        Ok(job.dead_letters()?.get("schema-refused") > Some(&50))
    })?;
    instance.terminate()?;
    job.drain()?;
    job.audit()
}

/// A drain that only the owner can let go on ends within a bound, says where it stands, and goes on after the decision.
fn drain_before_a_decision(stack: &Stack) -> Result<(), Failed> {
    let file = ZOO.replace("event_time = \"readable_time\"", "event_time = \"readable_time\"\non_new_schema = \"hold\"");
    let job = Job::new(stack, &file, &[("NAME-in", READING)])?;
    job.create_topic(&job.topic("in"), 1)?;
    let first = job.register(&job.topic("in"), READING)?;
    job.emulate(first, 1, 100, None, &[])?;
    job.drain()?;
    let second = job.register(&job.topic("in"), &version("extra"))?;
    emulate(&job, second, &version("extra"), 50)?;

    let began = Instant::now();
    let output = job.command(&["run", "--drain"]).output()?;

    let (shown, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(9), "{shown}\n{errors}");
    assert!(shown.contains("RESULT records=0 "), "{shown}");
    let waits = format!("{}/0 at 100: schema {}", job.topic("in"), second.0);
    assert!(errors.contains(&waits) && errors.contains("testudo schema accept"), "{errors}");
    assert!(began.elapsed() < PATIENCE, "it ends within a bound, not after {:?}", began.elapsed());
    tenant_command(&job, &["schema", "accept", &second.0.to_string(), "--who", "ada"])?;
    job.drain()?;
    assert_eq!(job.committed()?, 150);
    job.audit()
}

/// Refuses a schema as an owner's own program would.
fn over_http(job: &Job<'_>, address: &str, id: SchemaId) -> Result<(), Failed> {
    let url = format!("http://{address}/api/tenants/{}/schemas", job.name);
    let post = format!("{url}/{}/refuse?reason=not%20now", id.0);
    let (nameless, decided, listed) = job.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let nameless = client.post(&post).send().await?.status();
        let decided = client.post(&post).header("testudo-owner", "ada").send().await?;
        let status = decided.status();
        let decided = (status, decided.text().await?);
        let listed = client.get(&url).send().await?.json::<serde_json::Value>().await?;
        Ok::<_, reqwest::Error>((nameless, decided, listed))
    })?;
    assert_eq!(nameless, 400, "a decision needs a name");
    assert_eq!(decided.0, 200, "{}", decided.1);
    let row = listed.as_array().into_iter().flatten().find(|row| row["id"] == id.0);
    assert_eq!(row.map(|row| (row["verdict"].clone(), row["who"].clone())), Some((json!("refused"), json!("ada"))), "{listed}");
    Ok(())
}

fn address(log: &str) -> Option<String> {
    let line = log.lines().find(|line| line.contains("http listening"))?;
    let start = line.find("127.0.0.1:")?;
    Some(line[start..].chars().take_while(|letter| letter.is_ascii_digit() || matches!(letter, '.' | ':')).collect())
}

/// Runs a command on the tenant's file; its standard output.
fn tenant_command(job: &Job<'_>, arguments: &[&str]) -> Result<String, Failed> {
    let output = job.command(arguments).output()?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{arguments:?} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// What `schema ls` says of each id.
fn listed(job: &Job<'_>) -> Result<BTreeMap<u32, String>, Failed> {
    let rows: serde_json::Value = serde_json::from_str(&tenant_command(job, &["schema", "ls", "--format", "json"])?)?;
    let of = |row: &serde_json::Value| {
        Some((u32::try_from(row["id"].as_u64()?).ok()?, row["verdict"].as_str().unwrap_or("undecided").to_owned()))
    };
    Ok(rows.as_array().into_iter().flatten().filter_map(of).collect())
}

fn emulate(job: &Job<'_>, id: SchemaId, schema: &str, records: u64) -> Result<(), Failed> {
    let emulation =
        Emulation { topic: job.topic("in"), schema: schema.to_owned(), extent: Extent::Records(records), ..Emulation::default() };
    let kafka = testudo::kafka::Settings { bootstrap: job.stack.bootstrap().to_owned(), ..Default::default() };
    emulation.run(&kafka, id)?;
    Ok(())
}

fn ids_in_headers(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 1)?;
    let id = job.register(&job.topic("in"), READING)?;
    let kafka = testudo::kafka::Settings { bootstrap: stack.bootstrap().to_owned(), ..Default::default() };
    for framing in [Framing::HeaderId, Framing::Value, Framing::HeaderId] {
        let emulation =
            Emulation { topic: job.topic("in"), schema: READING.to_owned(), extent: Extent::Records(100), framing, ..Emulation::default() };
        emulation.run(&kafka, id)?;
    }

    job.drain()?;

    assert_eq!(job.dead_letters()?, BTreeMap::new());
    assert_eq!(job.documents("tortoise")?, 300);
    job.audit()
}

fn other_types(stack: &Stack) -> Result<(), Failed> {
    let file = ZOO.replace("event_time = \"readable_time\"", "event_time = \"readable_time\"\nsubject = \"topic-record\"");
    let job = Job::new(stack, &file, &[("NAME-in", READING)])?;
    job.create_topic(&job.topic("in"), 1)?;
    let full_name = Schema::parse_str(READING)?.name().map(ToString::to_string).ok_or("a named record")?;
    let registry = job.registry()?;
    let id = job.block_on(registry.register(&format!("{}-{full_name}", job.topic("in")), READING))?;
    let feeding = r#"{"type":"record","name":"Feeding","namespace":"other","fields":[{"name":"what","type":"string"}]}"#;
    let other = job.block_on(registry.register(&format!("{}-other.Feeding", job.topic("in")), feeding))?;
    job.emulate(id, 1, 100, None, &[])?;
    for _ in 0..7 {
        let value = framed(other, feeding, vec![("what".into(), Value::String("hay".into()))])?;
        job.produce(&job.topic("in"), 0, Some(b"x"), Some(&value), TIME_MS)?;
    }

    job.drain()?;

    assert_eq!(job.dead_letters()?, BTreeMap::new());
    assert_eq!(job.documents("tortoise")?, 100);
    assert_eq!(job.committed()?, 107, "the position moves over them");
    let audit = tenant_command(&job, &["audit"])?;
    assert!(audit.contains("7 of other record types"), "{audit}");
    let checked = tenant_command(&job, &["schema", "check", &job.path("tenants/tenant.toml").display().to_string()])?;
    assert!(checked.contains(&full_name) && !checked.contains("Feeding"), "{checked}");
    Ok(())
}
