//! What is true of every request and every answer: bounded, bodiless, not guessed at by browsers, not cached.

use axum::body::HttpBody;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Bytes of a request's header names and values.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// Refuses what is too large and marks every answer.
pub(super) async fn guard(request: Request, next: Next) -> Response {
    let mut response = match refusal(&request) {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
    response
}

fn refusal(request: &Request) -> Option<(StatusCode, &'static str)> {
    let header_bytes: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if header_bytes > HEADER_BYTES_MAX {
        return Some((StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too large\n"));
    }
    // A body of unknown length counts as one too: no request here needs any.
    (!request.body().is_end_stream()).then_some((StatusCode::PAYLOAD_TOO_LARGE, "no request body is accepted\n"))
}
