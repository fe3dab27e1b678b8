//! The owner's side of schemas over HTTP: what was decided, and the two decisions.
//!
//! There are no users and passwords here: whoever reaches the address may decide, so by default only an address of this machine lets anybody
//! ([`super::Settings::allow_decisions`]). A decision must name who decides in a header of its own, which a page of another site cannot send;
//! unless they were allowed on purpose, it must come to an address or to `localhost`: a site may let its own name lead here (DNS rebinding).
//! One request at a time is worked on: each reads a topic.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::HOST;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::Semaphore;

/// The header that says who decides.
pub const OWNER_HEADER: &str = "testudo-owner";
/// Longest name of one who decides, and of a source, in bytes.
const NAME_BYTES_MAX: usize = 100;

/// A decision as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The tenant's name.
    pub tenant: String,
    /// The schema's id.
    pub id: u32,
    /// Accept it, or refuse it.
    pub is_accepted: bool,
    /// Only for this source.
    pub source: Option<String>,
    /// Who decides.
    pub who: String,
    /// Why.
    pub reason: Option<String>,
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status: 404 no such tenant, 409 the schema cannot be accepted, 503 broker or registry away.
    pub status: u16,
    /// For people.
    pub why: String,
}

/// Knows and decides; called on a thread that may block.
pub trait Owner: Send + Sync {
    /// What was decided for a tenant.
    ///
    /// # Errors
    /// [`Refusal`].
    fn schemas(&self, tenant: &str) -> Result<Value, Refusal>;

    /// Decides; what holds now.
    ///
    /// # Errors
    /// [`Refusal`].
    fn decide(&self, decision: &Decision) -> Result<Value, Refusal>;
}

/// What the answers are made from.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) owner: Arc<dyn Owner>,
    pub(super) may_decide: bool,
    /// Decisions come to an address or to `localhost`.
    pub(super) by_address: bool,
    pub(super) one_at_a_time: Arc<Semaphore>,
}

#[derive(Serialize)]
struct Told {
    error: String,
}

/// `GET /api/tenants/{tenant}/schemas`
pub(super) async fn list(State(desk): State<Desk>, Path(tenant): Path<String>) -> Response {
    let owner = desk.owner.clone();
    answer(&desk, move || owner.schemas(&tenant)).await
}

/// `POST /api/tenants/{tenant}/schemas/{id}/{accept|refuse}`, with `?source=` and `?reason=`.
pub(super) async fn decide(
    State(desk): State<Desk>,
    Path((tenant, id, word)): Path<(String, u32, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let is_accepted = match word.as_str() {
        "accept" => true,
        "refuse" => false,
        _ => return refused(StatusCode::NOT_FOUND, "the decisions are accept and refuse"),
    };
    if !desk.may_decide {
        return refused(
            StatusCode::FORBIDDEN,
            "decisions are not taken on this address: set http.allow_decisions, or use `testudo schema`",
        );
    }
    if desk.by_address && !is_to_an_address(&headers) {
        return refused(
            StatusCode::FORBIDDEN,
            "decisions are taken on an address or localhost, not on another name: set http.allow_decisions to take them on any",
        );
    }
    let who = headers.get(OWNER_HEADER).and_then(|value| value.to_str().ok()).filter(|who| !who.is_empty() && who.len() <= NAME_BYTES_MAX);
    let Some(who) = who else {
        return refused(
            StatusCode::BAD_REQUEST,
            &format!("the header {OWNER_HEADER} must say who decides, in 1 to {NAME_BYTES_MAX} characters"),
        );
    };
    let (source, reason) = (query(&uri, "source"), query(&uri, "reason"));
    let decision = Decision { tenant, id, is_accepted, source, who: who.to_owned(), reason };
    let owner = desk.owner.clone();
    answer(&desk, move || owner.decide(&decision)).await
}

async fn answer(desk: &Desk, work: impl FnOnce() -> Result<Value, Refusal> + Send + 'static) -> Response {
    let Ok(turn) = desk.one_at_a_time.clone().try_acquire_owned() else {
        return refused(StatusCode::TOO_MANY_REQUESTS, "another request is worked on; ask again in a second");
    };
    let done = tokio::task::spawn_blocking(move || {
        let outcome = work();
        drop(turn);
        outcome
    });
    match done.await {
        Ok(Ok(value)) => Json(value).into_response(),
        Ok(Err(refusal)) => refused(StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &refusal.why),
        Err(_) => refused(StatusCode::INTERNAL_SERVER_ERROR, "the request was given up"),
    }
}

fn is_to_an_address(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_address = host.parse::<SocketAddr>().is_ok() || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    is_address || host.split(':').next().is_some_and(|name| name.eq_ignore_ascii_case("localhost"))
}

fn refused(status: StatusCode, why: &str) -> Response {
    (status, Json(Told { error: why.to_owned() })).into_response()
}

/// A value of the query, decoded.
fn query(uri: &Uri, name: &str) -> Option<String> {
    // The parser wants a whole address.
    let whole = reqwest::Url::parse(&format!("http://localhost/?{}", uri.query()?)).ok()?;
    let found = whole.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned());
    found.filter(|value| !value.is_empty())
}
