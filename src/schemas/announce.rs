//! What the owner is told about a schema: an event as JSON, on the tenant's topic and by webhook.
//!
//! At least once: an event has an id made of what it says, so whoever gets it twice can tell.

use std::time::Duration;

use reqwest::Client;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::judge::Finding;
use super::record::{By, Decision, Rule, Verdict, VerdictKey};
use super::settings::Settings;

/// Header of a webhook's request: the event's id.
pub const EVENT_ID_HEADER: &str = "testudo-event-id";
/// So often a webhook is tried.
const TRIES: u32 = 5;
/// Pause after the first try; doubles with each.
const PAUSE_FIRST: Duration = Duration::from_secs(1);

/// An event, as it is written.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// Says the same as another event exactly when that one has the same id.
    pub id: String,
    /// `schema-version`
    pub kind: &'static str,
    /// The tenant.
    pub tenant: String,
    /// Its source.
    pub source: String,
    /// A subject that has the schema, where one is known.
    pub subject: Option<String>,
    /// The schema's version in it.
    pub version: Option<i32>,
    /// The schema's id.
    pub schema_id: u32,
    /// Fingerprint of the reader schema that it was held against.
    pub reader_schema: String,
    /// What was decided.
    pub verdict: Decision,
    /// Who decided.
    pub by: By,
    /// Why its records cannot be read.
    pub reasons: Vec<Finding>,
    /// What would be read instead of what is written.
    pub changes: Vec<Finding>,
    /// What the registry's own rule says.
    pub rule: Option<Rule>,
    /// When it was decided, in milliseconds since 1970.
    pub when_ms: i64,
}

impl Event {
    /// The event of a verdict.
    pub fn of(tenant: &str, key: &VerdictKey, verdict: &Verdict) -> Self {
        let place = verdict.place.as_ref();
        let by = if verdict.by == By::Owner { "/owner" } else { "" };
        let version = place.map_or_else(|| format!("id-{}", key.id), |place| format!("{}/{}/id-{}", place.subject, place.version, key.id));
        Self {
            id: format!("{tenant}/{}/{version}/{}/{}/{}{by}", key.source, key.reader, key.policy, verdict.verdict.word()),
            kind: "schema-version",
            tenant: tenant.to_owned(),
            source: key.source.clone(),
            subject: place.map(|place| place.subject.clone()),
            version: place.map(|place| place.version),
            schema_id: key.id,
            reader_schema: key.reader.clone(),
            verdict: verdict.verdict,
            by: verdict.by,
            reasons: verdict.reasons.clone(),
            changes: verdict.changes.clone(),
            rule: verdict.rule.clone(),
            when_ms: verdict.when_ms,
        }
    }

    /// Key of its record: the subject, or the source where no subject is known.
    pub fn record_key(&self) -> &str {
        self.subject.as_deref().unwrap_or(&self.source)
    }
}

/// Posts events.
#[derive(Clone)]
pub struct Webhook {
    http: Client,
    url: SecretString,
}

impl Webhook {
    /// The webhook of the settings; none where none is set.
    ///
    /// # Errors
    /// The reason why the setting cannot be used, without the address.
    pub fn of(settings: &Settings) -> Result<Option<Self>, String> {
        let Some(url) = &settings.webhook_url else { return Ok(None) };
        let parsed = reqwest::Url::parse(url.expose_secret()).map_err(|error| format!("events.webhook_url is not a URL: {error}"))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err("events.webhook_url is not an http or https URL".into());
        }
        let agent = concat!("testudo/", env!("CARGO_PKG_VERSION"));
        let made =
            Client::builder().user_agent(agent).timeout(settings.webhook_timeout()).redirect(reqwest::redirect::Policy::none()).build();
        let http = made.map_err(|error| format!("failed to set up the webhook's client: {}", error.without_url()))?;
        Ok(Some(Self { http, url: url.clone() }))
    }

    /// Posts an event, a few times if need be. What cannot be posted is logged: the event's topic has it anyway.
    pub async fn post(&self, event: &Event) {
        let body = super::record::json(event);
        let mut pause = PAUSE_FIRST;
        for attempt in 1..=TRIES {
            match self.post_once(&event.id, body.clone()).await {
                Ok(()) => return,
                Err(cause) if attempt == TRIES => {
                    tracing::warn!(event = event.id, cause, tries = TRIES, "webhook given up; the event is on the tenant's topic");
                }
                Err(cause) => {
                    tracing::debug!(event = event.id, cause, attempt, "webhook not taken");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
        }
    }

    async fn post_once(&self, id: &str, body: Vec<u8>) -> Result<(), String> {
        let request =
            self.http.post(self.url.expose_secret()).header(EVENT_ID_HEADER, id).header("content-type", "application/json").body(body);
        let response = request.send().await.map_err(|error| error.without_url().to_string())?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("it answered with status {status}")),
        }
    }
}
