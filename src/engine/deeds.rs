//! Records of what operators did, for `<tenant>-events`: what, when, by whom.

use chrono::DateTime;
use serde_json::{Value, json};

use crate::kafka::{Headers, Outgoing};
use crate::tenant::Tenant;

/// The record of a deed; logged here too.
pub fn event(tenant: &Tenant, kind: &str, at_ms: i64, by: &Value, detail: Value) -> Outgoing {
    let value = json!({
        "event": kind,
        "tenant": tenant.name,
        "at": DateTime::from_timestamp_millis(at_ms).unwrap_or_default().to_rfc3339(),
        "by": by,
        "testudo": env!("CARGO_PKG_VERSION"),
        "detail": detail,
    });
    tracing::warn!(tenant = tenant.name, event = %value, "operator's action");
    Outgoing {
        topic: tenant.events_topic(),
        partition: 0,
        key: Some(kind.as_bytes().to_vec().into()),
        value: Some(value.to_string().into_bytes().into()),
        timestamp_ms: Outgoing::stamp(at_ms),
        headers: Headers::default(),
    }
}
