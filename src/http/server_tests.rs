//! Claims about the answers, made to a real port.

use super::*;
use reqwest::Response;

struct Server {
    handle: ServerHandle,
    health: Arc<Health>,
}

fn info() -> Info {
    Info { instance: "a".into(), tenants: vec!["zoo".into()] }
}

async fn server() -> Server {
    let health = Arc::new(Health::default());
    let settings = Settings { bind: ([127, 0, 0, 1], 0).into(), ..Settings::default() };
    let handle = serve(&settings, Metrics::new(), health.clone(), info()).await.expect("a free port");
    Server { handle, health }
}

async fn get(server: &Server, path: &str) -> Response {
    reqwest::get(format!("http://{}{path}", server.handle.addr)).await.expect("answers")
}

async fn json(response: Response) -> serde_json::Value {
    response.json().await.expect("is JSON")
}

#[tokio::test]
async fn it_is_alive_whether_or_not_it_is_ready() {
    let server = server().await;
    let worker = server.health.component("worker 0");
    worker.not_ready("restoring");

    assert_eq!(get(&server, "/livez").await.status(), 200);
}

#[tokio::test]
async fn a_service_without_parts_is_not_ready_yet() {
    assert_eq!(get(&server().await, "/readyz").await.status(), 503);
}

#[tokio::test]
async fn readiness_names_what_is_missing_and_when_asked_all_parts() {
    let server = server().await;
    let worker = server.health.component("worker 0");
    let sink = server.health.component("sink");
    sink.ready();

    worker.not_ready("restoring");
    let response = get(&server, "/readyz").await;
    assert_eq!(response.status(), 503);
    let reasons = serde_json::json!({"ready": false, "components": [{"name": "worker 0", "ready": false, "why": "restoring"}]});
    assert_eq!(json(response).await, reasons);

    worker.ready();
    let response = get(&server, "/readyz?verbose").await;
    assert_eq!(response.status(), 200);
    let all = serde_json::json!({"ready": true, "components": [{"name": "sink", "ready": true}, {"name": "worker 0", "ready": true}]});
    assert_eq!(json(response).await, all);
}

#[tokio::test]
async fn metrics_and_info_are_served_with_their_types() {
    let server = server().await;

    let metrics = get(&server, "/metrics").await;
    assert!(metrics.headers()["content-type"].to_str().is_ok_and(|form| form.starts_with("application/openmetrics-text")));
    assert!(metrics.text().await.is_ok_and(|text| text.ends_with("# EOF\n")));
    let info = json(get(&server, "/info").await).await;
    assert_eq!(info, serde_json::json!({"version": env!("CARGO_PKG_VERSION"), "instance": "a", "tenants": ["zoo"]}));
}

#[tokio::test]
async fn every_answer_is_marked_and_none_invites_other_sites() {
    let server = server().await;

    for path in ["/livez", "/readyz", "/no/such/place"] {
        let response = get(&server, path).await;
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        assert!(!response.headers().contains_key("access-control-allow-origin"));
    }
}

#[tokio::test]
async fn bodies_and_large_headers_are_refused() {
    let server = server().await;
    let client = reqwest::Client::new();
    let url = format!("http://{}/livez", server.handle.addr);

    let with_body = client.get(&url).body("x").send().await.expect("answers");
    let with_header = client.get(&url).header("x-large", "y".repeat(20_000)).send().await.expect("answers");

    assert_eq!(with_body.status(), 413);
    assert_eq!(with_header.status(), 431);
}

#[tokio::test]
async fn it_stops_when_told_and_leaves_the_port() {
    let server = server().await;
    let addr = server.handle.addr;

    server.handle.stop(Duration::from_secs(5)).await;

    assert!(TcpListener::bind(addr).await.is_ok());
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_the_setting() {
    let server = server().await;
    let settings = Settings { bind: server.handle.addr, ..Settings::default() };

    let error = serve(&settings, Metrics::new(), server.health.clone(), info()).await.expect_err("the port is taken");

    assert!(error.to_string().starts_with("failed to listen on http.bind 127.0.0.1:"), "{error}");
}

/// Repeats what it was asked.
struct Echo;

impl Owner for Echo {
    fn schemas(&self, tenant: &str) -> Result<serde_json::Value, schemas::Refusal> {
        match tenant {
            "zoo" => Ok(serde_json::json!([])),
            _ => Err(schemas::Refusal { status: 404, why: "no such tenant".into() }),
        }
    }

    fn decide(&self, decision: &schemas::Decision) -> Result<serde_json::Value, schemas::Refusal> {
        Ok(serde_json::json!(format!("{decision:?}")))
    }
}

async fn asked_to_decide(allow_decisions: Option<bool>, owner: Option<&str>) -> Response {
    asked_by_name(allow_decisions, owner, None).await
}

async fn asked_by_name(allow_decisions: Option<bool>, owner: Option<&str>, host: Option<&str>) -> Response {
    let settings = Settings { bind: ([127, 0, 0, 1], 0).into(), allow_decisions };
    let owner_desk: Option<Arc<dyn Owner>> = Some(Arc::new(Echo));
    let handle = serve_for(&settings, Metrics::new(), Arc::default(), info(), owner_desk).await.expect("a free port");
    let url = format!("http://{}/api/tenants/zoo/schemas/9/refuse?reason=battery%20in%20volts", handle.addr);
    let request = reqwest::Client::new().post(url);
    let request = match owner {
        Some(owner) => request.header(schemas::OWNER_HEADER, owner),
        None => request,
    };
    let request = match host {
        Some(host) => request.header("host", host),
        None => request,
    };
    request.send().await.expect("answers")
}

#[tokio::test]
async fn an_owner_decides_by_name_and_reason() {
    let response = asked_to_decide(None, Some("ada")).await;

    assert_eq!(response.status(), 200);
    let text = response.text().await.expect("text");
    for part in ["id: 9", "is_accepted: false", "ada", "battery in volts"] {
        assert!(text.contains(part), "{text}");
    }
}

/// A page of another site can make a browser post here, but not with a header of its own.
#[tokio::test]
async fn nobody_decides_without_a_name_or_where_it_is_not_allowed() {
    assert_eq!(asked_to_decide(None, None).await.status(), 400);
    assert_eq!(asked_to_decide(Some(false), Some("ada")).await.status(), 403);
    assert!(!Settings { bind: ([0, 0, 0, 0], 80).into(), allow_decisions: None }.may_decide());
}

/// A page of another site can let its own name lead here.
#[tokio::test]
async fn decisions_come_to_an_address_unless_they_were_allowed() {
    for host in ["localhost:8080", "127.0.0.1", "[::1]:8080"] {
        assert_eq!(asked_by_name(None, Some("ada"), Some(host)).await.status(), 200, "{host}");
    }
    assert_eq!(asked_by_name(None, Some("ada"), Some("rebound.example:8080")).await.status(), 403);
    assert_eq!(asked_by_name(Some(true), Some("ada"), Some("testudo.zoo.example")).await.status(), 200);
}

#[tokio::test]
async fn a_tenant_that_is_not_here_is_not_found() {
    let settings = Settings { bind: ([127, 0, 0, 1], 0).into(), allow_decisions: None };
    let handle = serve_for(&settings, Metrics::new(), Arc::default(), info(), Some(Arc::new(Echo))).await.expect("a free port");
    let status = async |path: &str| reqwest::get(format!("http://{}{path}", handle.addr)).await.expect("answers").status();

    assert_eq!(status("/api/tenants/zoo/schemas").await, 200);
    assert_eq!(status("/api/tenants/farm/schemas").await, 404);
}
