//! Claims about settings: who wins, who is named, what is never shown.

use std::fs;

use super::*;

const MARKER: &str = "hunter2-marker";

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("writes");
    }
    folder
}

fn sources(folder: &tempfile::TempDir, environment: &[(&str, &str)], sets: &[&str]) -> Sources {
    Sources {
        file: Some(folder.path().join("testudo.toml")),
        environment: environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        sets: sets.iter().map(|set| (*set).to_owned()).collect(),
        properties: Vec::new(),
    }
}

fn loaded(file: &str, environment: &[(&str, &str)], sets: &[&str]) -> Result<Loaded, Faults> {
    Loaded::from(&sources(&folder(&[("testudo.toml", file)]), environment, sets))
}

fn faults(file: &str, environment: &[(&str, &str)], sets: &[&str]) -> Vec<String> {
    loaded(file, environment, sets).err().map(|faults| faults.0.iter().map(Fault::to_string).collect()).unwrap_or_default()
}

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    let file = "[kafka]\nbootstrap = \"file:1\"\n[engine]\ncommit_interval_ms = 1\nworkers = 1";
    let environment = [("TESTUDO__KAFKA__BOOTSTRAP", "environment:1"), ("TESTUDO__ENGINE__COMMIT_INTERVAL_MS", "2")];

    let config = loaded(file, &environment, &["kafka.bootstrap=flag:1"]).expect("loads").config;

    assert_eq!(config.kafka.bootstrap, "flag:1");
    assert_eq!(config.engine.commit_interval_ms, 2);
    assert_eq!(config.engine.workers, 1);
    assert_eq!(config.engine.transaction_timeout_ms, 10_000);
}

#[test]
fn c129_the_environment_reaches_a_tenants_key_with_an_underscore() {
    let environment = [("TESTUDO__TENANT__ZOO__SOURCE__READINGS__MAX_FUTURE", "20 minutes")];

    let loaded = loaded("", &environment, &[]).expect("loads");

    assert_eq!(loaded.config.tenant["zoo"]["source"]["readings"]["max_future"].as_str(), Some("20 minutes"));
    let shown = loaded.show(Notation::Toml, true);
    let line = "tenant.zoo.source.readings.max_future = \"20 minutes\"  # environment TESTUDO__TENANT__ZOO__SOURCE__READINGS__MAX_FUTURE";
    assert!(shown.lines().any(|shown| shown == line), "{shown}");
}

#[test]
fn every_value_is_shown_with_its_origin() {
    let folder = folder(&[("testudo.toml", "[kafka]\nbootstrap = \"b:1\"")]);
    let file = folder.path().join("testudo.toml");

    let shown = Loaded::from(&sources(&folder, &[], &["engine.workers=3"])).expect("loads").show(Notation::Toml, true);

    for line in [
        format!("kafka.bootstrap = \"b:1\"  # file {}", file.display()),
        "engine.workers = 3  # flag --set".to_owned(),
        "engine.commit_interval_ms = 100  # default".to_owned(),
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} in {shown}");
    }
    assert!(shown.parse::<Table>().is_ok(), "the listing is TOML");
}

#[test]
fn text_takes_the_type_that_the_setting_wants() {
    let environment = [
        ("TESTUDO__INSTANCE", "7"),
        ("TESTUDO__ENGINE__WORKERS", "7"),
        ("TESTUDO__TENANTS", "tenants/a.toml, tenants/b.toml"),
        ("TESTUDO__KAFKA__PRODUCER__LINGER_MS", "5"),
    ];

    let config = loaded("[kafka.consumer]\nfetch.wait.max.ms = 10", &environment, &[]).expect("loads").config;

    assert_eq!(config.instance, "7");
    assert_eq!(config.engine.workers, 7);
    assert_eq!(config.tenants, [PathBuf::from("tenants/a.toml"), PathBuf::from("tenants/b.toml")]);
    assert_eq!(config.kafka.producer["linger.ms"], "5");
    assert_eq!(config.kafka.consumer["fetch.wait.max.ms"], "10");
}

#[test]
fn librdkafka_properties_come_from_x_and_from_set() {
    let folder = folder(&[("testudo.toml", "")]);
    let properties = vec!["security.protocol=SSL".to_owned()];

    let config = Loaded::from(&Sources { properties, ..sources(&folder, &[], &["kafka.consumer.\"check.crcs\"=false"]) });

    let kafka = config.expect("loads").config.kafka;
    assert_eq!(kafka.properties["security.protocol"], "SSL");
    assert_eq!(kafka.consumer["check.crcs"], "false");
}

#[test]
fn all_faults_come_at_once_with_place_and_suggestion() {
    let file = "[kafka]\nbotstrap = \"b:1\"\n[engine]\nworkers = \"many\"\n[enjine]\nworkers = 1\n[kafka.properties]\n\"group.id\" = \"x\"";

    let faults = faults(file, &[("TESTUDO__ENGINE__COMMIT_INTERVAL_MS", "soon")], &["nonsense"]);

    let has = |begin: &str, end: &str| faults.iter().any(|fault| fault.starts_with(begin) && fault.ends_with(end));
    assert!(has("kafka.botstrap (file ", "there is no such setting; did you mean bootstrap?"), "{faults:#?}");
    assert!(has("enjine (file ", "did you mean engine?"), "{faults:#?}");
    assert!(has("engine.workers (file ", ""), "{faults:#?}");
    assert!(has("engine.commit_interval_ms (environment TESTUDO__ENGINE__COMMIT_INTERVAL_MS): ", ""), "{faults:#?}");
    assert!(has("kafka.properties.\"group.id\": the exactly-once guarantee", "cannot be set"), "{faults:#?}");
    assert!(has("--set nonsense", ""), "{faults:#?}");
    assert_eq!(faults.len(), 6, "{faults:#?}");
}

#[test]
fn a_secret_comes_from_a_file_and_loses_its_line_end() {
    let folder = folder(&[("testudo.toml", ""), ("secret", &format!("{MARKER}\n"))]);
    let file = folder.path().join("secret").display().to_string();
    let environment = [("TESTUDO__KAFKA__PROPERTIES__SASL_PASSWORD_FILE", file.as_str())];

    let loaded = Loaded::from(&sources(&folder, &environment, &[])).expect("loads");

    assert_eq!(loaded.config.kafka.properties["sasl.password"], MARKER);
    let shown = loaded.show(Notation::Toml, true);
    assert!(shown.contains("kafka.properties.\"sasl.password\" = \"********\"  # secret file "), "{shown}");
}

#[test]
fn a_secret_and_its_file_in_one_layer_are_refused() {
    let faults = faults("[kafka.properties]\n\"sasl.password\" = \"a\"\n\"sasl.password_file\" = \"b\"", &[], &[]);

    assert!(faults[0].ends_with("the secret and its file are both given; give one"), "{faults:?}");
}

#[test]
fn c133_a_planted_marker_is_in_no_output() {
    let file = format!(
        "[kafka.properties]\n\"sasl.password\" = \"{MARKER}\"\n\"ssl.key.pem\" = \"{MARKER}\"\n\"sasl.username\" = \"u\"\n\
         [registry]\nurl = \"http://user:{MARKER}@registry:8081\"\n[mongo]\nuri = \"mongodb://user:{MARKER}@db:27017\"\n\
         [tenant.zoo]\nnote = \"the password is {MARKER}\""
    );

    let loaded = loaded(&file, &[], &[]).expect("loads");

    let mut outputs = vec![format!("{:?}", loaded.config)];
    for notation in [Notation::Toml, Notation::Json] {
        for with_origin in [false, true] {
            outputs.push(loaded.show(notation, with_origin));
        }
    }
    outputs.push(loaded.secrets().scrub(&format!("failed to reach http://user:{MARKER}@registry:8081 with {MARKER}")));
    for output in outputs {
        assert!(!output.contains(MARKER), "{output}");
    }
}

#[test]
fn c133_faults_do_not_repeat_secrets() {
    let broken_line = format!("[kafka.properties]\n\"sasl.password\" = {MARKER}");
    let bad_type = format!("[engine]\nworkers = \"{MARKER}\"\n[kafka.properties]\n\"sasl.password\" = \"{MARKER}\"");

    for faults in [faults(&broken_line, &[], &[]), faults(&bad_type, &[], &[])] {
        assert!(!faults.is_empty());
        assert!(!faults.concat().contains(MARKER), "{faults:?}");
    }
}

#[test]
fn c125_a_byte_order_mark_does_no_harm() {
    assert_eq!(loaded("\u{feff}instance = \"a\"", &[], &[]).expect("loads").config.instance, "a");
}

#[test]
fn an_empty_section_turns_its_defaults_on() {
    assert!(loaded("", &[], &[]).expect("loads").config.mongo.is_none());
    assert!(loaded("[mongo]", &[], &[]).expect("loads").config.mongo.is_some());
}

#[test]
fn an_instance_name_must_fit_a_transactional_id() {
    assert_eq!(
        faults("instance = \"a b\"", &[], &[]).first().map(|fault| fault.ends_with("must be 1 to 100 letters, digits, dots, - or _")),
        Some(true)
    );
}

#[test]
fn numbers_that_cannot_work_are_refused_with_their_bounds() {
    let file = "[engine]\nslice_records_max = 0\nworkers = 1000000000\ncommit_interval_ms = -1\n[store]\nblock_cache_mib = 99999999999999\n\
                [registry]\nrequest_timeout = \"0s\"";

    let faults = faults(file, &[("TESTUDO__ENGINE__TRANSACTION_TIMEOUT_MS", "10"), ("TESTUDO__ENGINE__EPOCH_RECORDS_MAX", "1e6")], &[]);

    let has = |begin: &str, end: &str| faults.iter().any(|fault| fault.starts_with(begin) && fault.contains(end));
    assert!(has("engine.commit_interval_ms (file ", "-1"), "{faults:#?}");
    assert!(has("engine.epoch_records_max (environment ", ""), "{faults:#?}");
    for (key, bounds) in [
        ("engine.slice_records_max (file ", "must lie between 1 and 1000000, this is 0"),
        ("engine.workers (file ", "must lie between 0 and 1024, this is 1000000000"),
        (
            "engine.transaction_timeout_ms (environment TESTUDO__ENGINE__TRANSACTION_TIMEOUT_MS)",
            "must lie between 1000 and 2147483647, this is 10",
        ),
        ("store.block_cache_mib (file ", "must lie between 0 and 1048576"),
        ("registry.request_timeout (file ", "must lie between 1 ms and 3600000 ms, this is 0 ms"),
    ] {
        assert!(has(key, bounds), "{key}: {faults:#?}");
    }
    assert_eq!(faults.len(), 7, "{faults:#?}");
}
