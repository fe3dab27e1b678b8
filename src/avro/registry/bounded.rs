//! An answer's body is read chunk by chunk up to a bound, whoever asked: what is longer is never in memory, told length or not.

use http::Extensions;
use reqwest::{Request, Response, ResponseBuilderExt};
use reqwest_middleware::{Error, Middleware, Next};

use super::transport::chain_of;
use super::{ANSWER_BYTES_MAX, RegistryFault};

/// Bounds the answers that a client reads which knows no bound. A fault goes through that client as the cause of its own error:
/// [`fault_in`] finds it there.
pub(super) struct Bounded;

#[async_trait::async_trait]
impl Middleware for Bounded {
    async fn handle(&self, request: Request, extensions: &mut Extensions, next: Next<'_>) -> Result<Response, Error> {
        let asked = format!("{} {}", request.method(), request.url());
        let mut response = next.run(request, extensions).await.map_err(Error::without_url)?;
        let body = read(&mut response, &asked).await.map_err(Error::middleware)?;
        let mut answer = http::Response::builder().status(response.status()).version(response.version()).url(response.url().clone());
        if let Some(headers) = answer.headers_mut() {
            headers.clone_from(response.headers());
        }
        answer.body(body).map(Response::from).map_err(Error::middleware)
    }
}

/// The fault that [`Bounded`] met, if `cause` is one.
pub(super) fn fault_in<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a RegistryFault> {
    match cause.downcast_ref::<Error>()? {
        Error::Middleware(met) => met.downcast_ref(),
        Error::Reqwest(_) => None,
    }
}

/// The body. One that is too long is no reason to ask again: a schema of that size would be refused anyway.
pub(super) async fn read(response: &mut Response, asked: &str) -> Result<Vec<u8>, RegistryFault> {
    let too_long = || RegistryFault::Bad(format!("{asked}: the answer is longer than {ANSWER_BYTES_MAX} bytes"));
    if response.content_length().is_some_and(|length| length > ANSWER_BYTES_MAX as u64) {
        return Err(too_long());
    }
    let broken = |error: reqwest::Error| RegistryFault::Unavailable(format!("{asked}: {}", chain_of(&error.without_url())));
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(too_long());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
