//! Binds the address, answers until told to stop, and lets answers that have begun come to their end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::routing::{get, post};
use axum::{Router, middleware};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

use super::answers::{self, Info, Sources};
use super::guard;
use super::schemas::{self, Desk, Owner};
use super::settings::Settings;
use crate::telemetry::{Health, Metrics};

/// Why the service does not answer over HTTP.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not this machine's.
    #[error("failed to listen on http.bind {bind}: {cause}; a second process on this machine needs another address, or `--no-http`")]
    Bind {
        /// The configured address.
        bind: SocketAddr,
        /// The system's words.
        cause: io::Error,
    },
}

/// A server that answers as long as this is kept; dropped, it takes no more requests and ends those that have begun.
#[derive(Debug)]
pub struct ServerHandle {
    /// The address it listens on; of interest where port 0 was asked for.
    pub addr: SocketAddr,
    /// Dropping it is the signal.
    running: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

impl ServerHandle {
    /// Stops and waits until it has; connections still open after `wait` are cut.
    pub async fn stop(self, wait: Duration) {
        let Self { addr, running, mut task } = self;
        drop(running);
        if tokio::time::timeout(wait, &mut task).await.is_err() {
            tracing::warn!(%addr, "http connections cut at shutdown");
            task.abort();
        }
    }
}

/// Listens on `settings.bind` and answers until the handle is dropped.
///
/// # Errors
/// [`Error::Bind`].
pub async fn serve(settings: &Settings, metrics: Metrics, health: Arc<Health>, info: Info) -> Result<ServerHandle, Error> {
    serve_for(settings, metrics, health, info, None).await
}

/// The same, with what an owner may ask and decide about schemas.
///
/// # Errors
/// [`Error::Bind`].
pub async fn serve_for(
    settings: &Settings,
    metrics: Metrics,
    health: Arc<Health>,
    info: Info,
    owner: Option<Arc<dyn Owner>>,
) -> Result<ServerHandle, Error> {
    let refused = |cause| Error::Bind { bind: settings.bind, cause };
    let listener = TcpListener::bind(settings.bind).await.map_err(refused)?;
    let addr = listener.local_addr().map_err(refused)?;
    let desk = owner.map(|owner| Desk {
        owner,
        may_decide: settings.may_decide(),
        by_address: settings.allow_decisions.is_none(),
        one_at_a_time: Arc::new(Semaphore::new(1)),
    });
    let router = router(Sources { metrics, health, info }, desk);
    let (running, stopped) = oneshot::channel::<()>();
    // Ends with an error, the only way it does: the sender was dropped.
    let shutdown = async move { stopped.await.unwrap_or_default() };
    let task = tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(shutdown).await });
    tracing::info!(%addr, "http listening");
    Ok(ServerHandle { addr, running, task })
}

fn router(sources: Sources, desk: Option<Desk>) -> Router {
    let about_schemas = desk.map_or_else(Router::new, |desk| {
        Router::new()
            .route("/api/tenants/{tenant}/schemas", get(schemas::list))
            .route("/api/tenants/{tenant}/schemas/{id}/{decision}", post(schemas::decide))
            .with_state(desk)
    });
    Router::new()
        .route("/livez", get(answers::livez))
        .route("/readyz", get(answers::readyz))
        .route("/metrics", get(answers::metrics))
        .route("/info", get(answers::info))
        .with_state(sources)
        .merge(about_schemas)
        .layer(middleware::from_fn(guard::guard))
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
