//! Requests to the registry: over which connection, with which credentials, within which bounds, and what a status means.

use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Certificate, Client, ClientBuilder, Method, Url, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::{RegistryFault, bounded};
use crate::avro::settings::Settings;

/// Confluent's media type.
pub(super) const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// What a registry says with an error status.
#[derive(Deserialize)]
struct Told {
    error_code: u32,
    #[serde(default)]
    message: String,
}

/// Sends requests to the first registry that answers.
#[derive(Clone)]
pub(super) struct Transport {
    urls: Vec<Url>,
    http: Client,
    credentials: Credentials,
}

#[derive(Clone)]
pub(super) enum Credentials {
    None,
    Basic(String, Option<SecretString>),
    Token(SecretString),
}

/// What the settings say, if it can be used: where registries are, and who asks.
pub(super) fn parts(settings: &Settings) -> Result<(Vec<Url>, Credentials), RegistryFault> {
    Ok((parse_urls(&settings.url)?, Credentials::of(settings)?))
}

impl Transport {
    pub(super) fn new(settings: &Settings) -> Result<Self, RegistryFault> {
        let (urls, credentials) = parts(settings)?;
        let http = client(settings)?.build().map_err(|error| unusable(&error))?;
        Ok(Self { urls, http, credentials })
    }

    /// Asks one registry after the other until one gives an answer.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &[&str],
        query: Option<(&str, &str)>,
        body: Option<&Value>,
    ) -> Result<Value, RegistryFault> {
        let mut outcome = Err(RegistryFault::Bad("registry.url is empty".into()));
        for base in &self.urls {
            outcome = self.call_one(base, method.clone(), path, query, body).await;
            if !matches!(outcome, Err(RegistryFault::Unavailable(_))) {
                break;
            }
        }
        outcome
    }

    async fn call_one(
        &self,
        base: &Url,
        method: Method,
        path: &[&str],
        query: Option<(&str, &str)>,
        body: Option<&Value>,
    ) -> Result<Value, RegistryFault> {
        let mut url = base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if let Some((name, value)) = query {
            url.query_pairs_mut().append_pair(name, value);
        }
        let asked = format!("{method} {url}");
        let unreachable = |error: reqwest::Error| RegistryFault::Unavailable(format!("{asked}: {}", chain_of(&error.without_url())));
        let mut request = self.http.request(method, url).header(ACCEPT, MEDIA_TYPE);
        request = match &self.credentials {
            Credentials::None => request,
            Credentials::Basic(username, password) => request.basic_auth(username, password.as_ref().map(ExposeSecret::expose_secret)),
            Credentials::Token(token) => request.bearer_auth(token.expose_secret()),
        };
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, MEDIA_TYPE).body(body.to_string());
        }
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let bytes = bounded::read(&mut response, &asked).await?;
        if status.is_success() {
            return serde_json::from_slice(&bytes)
                .map_err(|error| RegistryFault::Unavailable(format!("{asked}: the answer is not JSON: {error}")));
        }
        let told: Option<Told> = serde_json::from_slice(&bytes).ok();
        let (code, message) = told.map_or((0, String::new()), |told| (told.error_code, told.message));
        Err(classify(&asked, status.as_u16(), code, &message))
    }
}

impl Credentials {
    pub(super) fn of(settings: &Settings) -> Result<Self, RegistryFault> {
        match (&settings.username, &settings.password, &settings.token) {
            (None, None, None) => Ok(Self::None),
            (Some(username), password, None) => Ok(Self::Basic(username.clone(), password.clone())),
            (None, None, Some(token)) => Ok(Self::Token(token.clone())),
            (None, Some(_), None) => Err(RegistryFault::Bad("registry.password is set without registry.username".into())),
            (_, _, Some(_)) => {
                Err(RegistryFault::Bad("registry.token and registry.username or registry.password are both set: choose one".into()))
            }
        }
    }
}

pub(super) fn parse_urls(text: &str) -> Result<Vec<Url>, RegistryFault> {
    let urls = text.split(',').map(str::trim).filter(|url| !url.is_empty()).map(parse_url).collect::<Result<Vec<_>, _>>()?;
    if urls.is_empty() {
        return Err(RegistryFault::Bad("registry.url is empty: give the registry's base URL, such as `http://localhost:8081`".into()));
    }
    Ok(urls)
}

fn parse_url(text: &str) -> Result<Url, RegistryFault> {
    // The text is not repeated before it is known to hold no password.
    let url = Url::parse(text).map_err(|error| RegistryFault::Bad(format!("registry.url is not a URL: {error}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(RegistryFault::Bad("registry.url holds credentials: put them into registry.username and registry.password".into()));
    }
    if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || url.fragment().is_some() {
        return Err(RegistryFault::Bad(format!("registry.url `{text}` is not a plain http or https URL")));
    }
    Ok(url)
}

pub(super) fn client(settings: &Settings) -> Result<ClientBuilder, RegistryFault> {
    let mut builder = ClientBuilder::new()
        .user_agent(concat!("testudo/", env!("CARGO_PKG_VERSION")))
        .timeout(settings.request_timeout)
        .connect_timeout(settings.request_timeout.min(Duration::from_secs(5)))
        .redirect(redirect::Policy::custom(same_host_only));
    if let Some(file) = &settings.ca_file {
        let unusable = |cause: String| RegistryFault::Bad(format!("failed to read registry.ca_file {}: {cause}", file.display()));
        let pem = std::fs::read(file).map_err(|error| unusable(error.to_string()))?;
        let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| unusable(error.to_string()))?;
        builder = builder.tls_certs_merge(certificates);
    }
    Ok(builder)
}

/// Follows a registry that moved within its host; credentials and schemas never go to another.
fn same_host_only(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let origin = attempt.previous().first().map(Url::origin);
    if attempt.previous().len() <= 3 && origin == Some(attempt.url().origin()) { attempt.follow() } else { attempt.stop() }
}

/// The reaction to an answer that is not a success.
pub(super) fn classify(asked: &str, status: u16, code: u32, message: &str) -> RegistryFault {
    let detail = format!("{asked}: status {status}, code {code}: {message}");
    match status {
        401 | 403 => RegistryFault::Unauthorized(detail),
        // Only with the registry's own code: a gateway's or a wrong path's 404 says nothing about schemas.
        404 if (40_400..40_500).contains(&code) => RegistryFault::NotFound(detail),
        404 | 408 | 429 | 300..=399 | 500..=599 => RegistryFault::Unavailable(detail),
        _ => RegistryFault::Refused { status, message: detail },
    }
}

pub(super) fn unusable(error: &dyn std::error::Error) -> RegistryFault {
    RegistryFault::Bad(format!("failed to set up the registry client: {}", chain_of(error)))
}

/// An error's text and those of its causes.
pub(super) fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
