//! The four answers.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::telemetry::metric::CONTENT_TYPE;
use crate::telemetry::{ComponentState, Health, Metrics};

/// What the answers are made from; cheap to clone.
#[derive(Clone)]
pub(super) struct Sources {
    pub metrics: Metrics,
    pub health: Arc<Health>,
    pub info: Info,
}

/// What this process is.
#[derive(Clone, Debug, Serialize)]
pub struct Info {
    /// This process among those of a tenant.
    pub instance: String,
    /// The tenants it works for.
    pub tenants: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct VersionedInfo {
    version: &'static str,
    #[serde(flatten)]
    info: Info,
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    /// The parts that are not ready; with `?verbose` all parts.
    components: Vec<ComponentState>,
}

/// `/livez`: the process answers. Whether it can work is `/readyz`'s matter: a restart would not help.
pub(super) async fn livez() -> &'static str {
    "alive\n"
}

/// `/readyz`: 200 when all parts do their work, else 503 with the reasons. A service without parts has not begun.
pub(super) async fn readyz(State(sources): State<Sources>, uri: Uri) -> Response {
    let is_verbose = uri.query().is_some_and(|query| query.split('&').any(|word| word == "verbose" || word.starts_with("verbose=")));
    let mut components = sources.health.snapshot();
    if components.is_empty() {
        components.push(ComponentState { name: "service".into(), ready: false, why: Some("starting".into()) });
    }
    let ready = components.iter().all(|component| component.ready);
    components.retain(|component| is_verbose || !component.ready);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, components })).into_response()
}

/// `/metrics`: the catalogue in the OpenMetrics text format, which Prometheus reads.
pub(super) async fn metrics(State(sources): State<Sources>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], sources.metrics.encode())
}

/// `/info`: version, instance, tenants.
pub(super) async fn info(State(sources): State<Sources>) -> Json<VersionedInfo> {
    Json(VersionedInfo { version: env!("CARGO_PKG_VERSION"), info: sources.info })
}
