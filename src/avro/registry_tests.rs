//! Claims about the client, against stub registries on the loopback interface.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response as Answer};

use super::*;

/// A registry that gives scripted answers in turn, and what it was asked.
struct Stub {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Stub {
    async fn answering(answers: impl IntoIterator<Item = (u16, String)>) -> Self {
        Self::with_location(answers, None).await
    }

    async fn with_location(answers: impl IntoIterator<Item = (u16, String)>, location: Option<String>) -> Self {
        let left: Arc<Mutex<VecDeque<_>>> = Arc::new(Mutex::new(answers.into_iter().collect()));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        let router = Router::new().fallback(move |uri: Uri| {
            log.lock().expect("no test panics with the log").push(uri.to_string());
            let (status, body) = left.lock().expect("no test panics with the script").pop_front().unwrap_or((599, String::new()));
            let location = location.clone();
            async move { answer(status, body, location) }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, asked }
    }

    fn registry(&self) -> Registry {
        Registry::new(&Settings { url: self.url.clone(), ..Settings::default() }).expect("a client")
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no test panics with the log").clone()
    }
}

fn answer(status: u16, body: String, location: Option<String>) -> Answer {
    let status = StatusCode::from_u16(status).expect("a status");
    match location {
        Some(location) => (status, [(header::LOCATION, location)], body).into_response(),
        None => (status, body).into_response(),
    }
}

fn told(code: u32) -> String {
    json!({ "error_code": code, "message": "told" }).to_string()
}

const READING: &str = r#"{"type":"record","name":"Reading","fields":[{"name":"battery","type":"int"}]}"#;

#[tokio::test]
async fn a_passing_error_is_forgotten_with_the_next_answer_c25() {
    let stub = Stub::answering([(500, told(50_001)), (429, String::new()), (200, json!({ "schema": READING }).to_string())]).await;
    let registry = stub.registry();

    let first = registry.schema(SchemaId(7)).await.map(|fetched| fetched.json);
    let second = registry.schema(SchemaId(7)).await.map(|fetched| fetched.json);
    let third = registry.schema(SchemaId(7)).await.map(|fetched| fetched.json);

    assert!(matches!(first, Err(RegistryFault::Unavailable(_))), "{first:?}");
    assert!(matches!(second, Err(RegistryFault::Unavailable(_))), "{second:?}");
    assert_eq!(third.as_deref(), Ok(READING));
}

#[tokio::test]
async fn only_the_registrys_own_code_means_not_found() {
    let stub = Stub::answering([(404, told(40_403)), (404, told(404)), (404, "<html>no such page</html>".into())]).await;
    let registry = stub.registry();

    let known = registry.schema(SchemaId(7)).await;
    let wrong_path = registry.schema(SchemaId(7)).await;
    let gateway = registry.schema(SchemaId(7)).await;

    assert!(matches!(known, Err(RegistryFault::NotFound(_))), "{known:?}");
    assert!(matches!(wrong_path, Err(RegistryFault::Unavailable(_))), "{wrong_path:?}");
    assert!(matches!(gateway, Err(RegistryFault::Unavailable(_))), "{gateway:?}");
}

#[tokio::test]
async fn soft_deleted_versions_are_asked_for_c27_and_referenced_types_come_along_c17() {
    let order = r#"{"type":"record","name":"Order","namespace":"test","fields":[{"name":"meta","type":"test.message.Metadata"},{"name":"more","type":["null","test.message.Metadata"]}]}"#;
    let metadata = r#"{"type":"record","name":"Metadata","namespace":"test.message","fields":[{"name":"source","type":"string"}]}"#;
    let reference = json!([{ "name": "test.message.Metadata", "subject": "meta/data", "version": 3 }]);
    let stub = Stub::answering([
        (200, json!({ "schema": order, "references": reference }).to_string()),
        (200, json!({ "subject": "meta/data", "version": 3, "id": 1, "schema": metadata }).to_string()),
    ])
    .await;

    let fetched = stub.registry().schema(SchemaId(7)).await.expect("both are there");
    let schema = fetched.parse(&SchemaLimits::default()).expect("the types fit together");

    assert_eq!(stub.asked(), ["/schemas/ids/7?deleted=true", "/subjects/meta%2Fdata/versions/3?deleted=true"]);
    assert_eq!(fetched.chain, ["test.message.Metadata (subject meta/data, version 3)"]);
    let text = serde_json::to_string(&schema).expect("a schema is JSON");
    let alone = apache_avro::Schema::parse_str(&text).expect("the schema needs no other");
    assert!(alone.canonical_form().contains("source"), "{text}");
}

#[tokio::test]
async fn half_a_body_says_nothing_about_the_schema() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a request");
        let read = stream.read(&mut [0; 4096]).expect("its head");
        assert!(read > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"schema\":").expect("half an answer");
    });
    let registry = Registry::new(&Settings { url, ..Settings::default() }).expect("a client");

    let outcome = registry.schema(SchemaId(7)).await;

    assert!(matches!(outcome, Err(RegistryFault::Unavailable(_))), "{outcome:?}");
    server.join().expect("the stub ended");
}

#[tokio::test]
async fn a_redirect_to_another_host_is_not_followed() {
    let elsewhere = Stub::answering([(200, json!({ "schema": READING }).to_string())]).await;
    let stub = Stub::with_location([(302, String::new())], Some(elsewhere.url.clone())).await;

    let outcome = stub.registry().schema(SchemaId(7)).await;

    assert!(matches!(outcome, Err(RegistryFault::Unavailable(_))), "{outcome:?}");
    assert_eq!(elsewhere.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn an_endless_answer_is_cut() {
    let stub = Stub::answering([(200, " ".repeat(ANSWER_BYTES_MAX + 1)), (200, " ".repeat(ANSWER_BYTES_MAX + 1))]).await;

    let latest = stub.registry().latest("s").await;
    let schema = stub.registry().schema(SchemaId(7)).await.map(|fetched| fetched.json.len());

    assert!(matches!(&latest, Err(RegistryFault::Bad(why)) if why.contains("longer than")), "{latest:?}");
    assert!(matches!(&schema, Err(RegistryFault::Bad(why)) if why.contains("longer than")), "{schema:?}");
}

/// A registry that answers one request with blanks and then a schema, without telling how long that is. Gives its URL and how many
/// bytes of the body it could send.
fn chunked(body_bytes: usize) -> (String, tokio::task::JoinHandle<usize>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let server = tokio::task::spawn_blocking(move || {
        let (mut stream, _) = listener.accept().expect("a request");
        stream.set_write_timeout(Some(Duration::from_secs(20))).expect("a timeout above zero");
        assert!(stream.read(&mut [0; 4096]).expect("its head") > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").expect("the head of an answer");
        let schema = json!({ "schema": READING }).to_string();
        let mut left = body_bytes - schema.len();
        while left > 0 {
            let chunk = left.min(64 << 10);
            if stream.write_all(format!("{chunk:x}\r\n{}\r\n", " ".repeat(chunk)).as_bytes()).is_err() {
                return body_bytes - left;
            }
            left -= chunk;
        }
        let end = format!("{:x}\r\n{schema}\r\n0\r\n\r\n", schema.len());
        if stream.write_all(end.as_bytes()).is_ok() { body_bytes } else { body_bytes - schema.len() }
    });
    (url, server)
}

#[tokio::test]
async fn a_schema_of_unknown_length_is_read_up_to_the_bound_and_no_further() {
    let lengths = [ANSWER_BYTES_MAX, ANSWER_BYTES_MAX + 1, 16 * ANSWER_BYTES_MAX];
    let (mut outcomes, mut sent) = (Vec::new(), Vec::new());
    for length in lengths {
        let (url, server) = chunked(length);
        let registry = Registry::new(&Settings { url, ..Settings::default() }).expect("a client");
        outcomes.push(registry.schema(SchemaId(7)).await.map(|fetched| fetched.json));
        sent.push(server.await.expect("the stub ended"));
    }

    assert_eq!(outcomes[0].as_deref(), Ok(READING), "the bound itself is not too long");
    for outcome in &outcomes[1..] {
        assert!(matches!(outcome, Err(RegistryFault::Bad(why)) if why.contains("longer than 4194304 bytes")), "{outcome:?}");
    }
    assert!(sent[2] < lengths[2], "the rest is not taken from the wire");
}

#[tokio::test]
async fn the_next_registry_is_asked_for_a_schema_only_when_one_does_not_answer() {
    let sick = Stub::answering([(504, String::new())]).await;
    let unknowing = Stub::answering([(404, told(40_403))]).await;
    let knowing = Stub::answering([(200, json!({ "schema": READING }).to_string())]).await;
    let url = format!("{},{},{}", sick.url, unknowing.url, knowing.url);
    let registry = Registry::new(&Settings { url, ..Settings::default() }).expect("a client");

    let outcome = registry.schema(SchemaId(7)).await;

    assert!(matches!(outcome, Err(RegistryFault::NotFound(_))), "{outcome:?}");
    assert_eq!(unknowing.asked(), ["/schemas/ids/7?deleted=true"]);
    assert_eq!(knowing.asked(), Vec::<String>::new(), "an answer is an answer");
}

#[tokio::test]
async fn the_next_registry_is_asked_when_one_does_not_answer() {
    let sick = Stub::answering([(503, String::new())]).await;
    let well = Stub::answering([(200, json!({ "id": 12 }).to_string())]).await;
    let registry = Registry::new(&Settings { url: format!("{}, {}", sick.url, well.url), ..Settings::default() }).expect("a client");

    assert_eq!(registry.register("s-value", READING).await, Ok(SchemaId(12)));
}

#[tokio::test]
async fn an_incompatible_schema_is_refused_in_the_registrys_words() {
    let stub = Stub::answering([(409, told(409)), (404, told(40_401))]).await;
    let registry = stub.registry();

    let refused = registry.register("s-value", READING).await;

    assert!(matches!(&refused, Err(RegistryFault::Refused { status: 409, message }) if message.contains("told")), "{refused:?}");
    assert_eq!(registry.latest("s-value").await, Ok(None));
}

#[test]
fn settings_that_cannot_work_are_named() {
    let fault = |settings: Settings| Registry::new(&settings).err().map(|fault| fault.to_string()).unwrap_or_default();

    assert!(fault(Settings { url: " , ".into(), ..Settings::default() }).contains("registry.url is empty"));
    assert!(fault(Settings { url: "http://me:marker@host".into(), ..Settings::default() }).contains("registry.username"));
    assert!(!fault(Settings { url: "http://me:marker@host".into(), ..Settings::default() }).contains("marker"));
    assert!(fault(Settings { password: Some("x".into()), ..Settings::default() }).contains("without registry.username"));
}

#[tokio::test]
async fn a_guid_leads_to_the_id_of_the_default_context_c23() {
    let ids = json!([{ "context": ".team", "id": 9 }, { "context": ".", "id": 7 }]);
    let stub = Stub::answering([(200, ids.to_string()), (200, "[]".into())]).await;
    let registry = stub.registry();

    assert_eq!(registry.id_of_guid(SchemaGuid([7; 16])).await, Ok(SchemaId(7)));
    assert!(matches!(registry.id_of_guid(SchemaGuid([7; 16])).await, Err(RegistryFault::NotFound(_))));
    assert_eq!(stub.asked()[0], "/schemas/guids/07070707-0707-0707-0707-070707070707/ids");
}

#[tokio::test]
async fn a_registry_without_guids_is_told_from_one_that_is_away_c23() {
    let stub = Stub::answering([(404, String::new()), (200, "[\"AVRO\"]".into()), (404, String::new()), (503, String::new())]).await;
    let registry = stub.registry();

    let without = registry.id_of_guid(SchemaGuid([7; 16])).await;
    let away = registry.id_of_guid(SchemaGuid([7; 16])).await;

    assert!(matches!(without, Err(RegistryFault::Bad(_))), "{without:?}");
    assert!(matches!(away, Err(RegistryFault::Unavailable(_))), "{away:?}");
}

#[tokio::test]
async fn a_reference_that_is_not_there_is_named() {
    let reference = json!([{ "name": "test.Deep", "subject": "deep", "version": 2 }]);
    let not_there = (404, json!({ "error_code": 40402, "message": "Version 2 not found." }).to_string());
    let stub = Stub::answering([(200, json!({ "schema": "{}", "references": reference }).to_string()), not_there]).await;

    let outcome = stub.registry().schema(SchemaId(7)).await;

    let named = "schema 7 rests on test.Deep (subject deep, version 2), which is not there";
    assert!(matches!(&outcome, Err(RegistryFault::NotFound(told)) if told.contains(named)), "{outcome:?}");
}

#[tokio::test]
async fn references_are_bounded_together_and_the_last_one_is_named() {
    let reference = |number: usize| json!([{ "name": format!("R{number}"), "subject": "s", "version": number }]);
    let large = |number: usize| (200, json!({ "schema": "x".repeat(600_000), "references": reference(number) }).to_string());
    let many = |number: usize| (200, json!({ "schema": "{}", "references": reference(number) }).to_string());
    let heavy = Stub::answering((1..9).map(large)).await;
    let long = Stub::answering((1..90).map(many)).await;

    let too_heavy = heavy.registry().schema(SchemaId(7)).await.map(drop);
    let too_many = long.registry().schema(SchemaId(7)).await.map(drop);

    assert!(matches!(&too_heavy, Err(RegistryFault::Bad(why)) if why.contains("bytes") && why.contains("version 1")), "{too_heavy:?}");
    assert_eq!(heavy.asked().len(), 2, "what is too much is not fetched to its end");
    assert!(
        matches!(&too_many, Err(RegistryFault::Bad(why)) if why.contains("more than 64") && why.contains("version 65")),
        "{too_many:?}"
    );
}
