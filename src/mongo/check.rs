//! Whether a tenant's database can be used, for `testudo check`: reached, signed in, a replica set, and writable with a majority.

use std::time::Duration;

use mongodb::Database;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::{Error, ErrorKind};

use super::settings::Settings;

/// The collection that the probe is written to and deleted from.
const PROBE_COLLECTION: &str = "_testudo_check";

/// One question may take so long.
const WAIT: Duration = Duration::from_secs(10);

/// How long the probe waits for a majority, milliseconds.
const MAJORITY_TIMEOUT_MS: i32 = 5_000;

/// The server's codes for "who are you" and "you may not".
const AUTHENTICATION_FAILED: i32 = 18;
const UNAUTHORIZED: i32 = 13;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether it fits.
    pub ok: bool,
    /// What was found, and the remedy where it does not fit. Holds no password.
    pub text: String,
}

impl Finding {
    fn fine(text: impl Into<String>) -> Self {
        Self { ok: true, text: text.into() }
    }

    fn wrong(text: impl Into<String>) -> Self {
        Self { ok: false, text: text.into() }
    }
}

/// Looks at `database`. Stops at the first thing that makes the next one pointless.
pub async fn check(settings: &Settings, database: &str) -> Vec<Finding> {
    let client = match settings.client().await {
        Ok(client) => client,
        Err(fault) => return vec![Finding::wrong(fault.to_string())],
    };
    let database = client.database(database);
    let mut findings = Vec::new();
    if let Err(why) = look(&database, &mut findings).await {
        findings.push(Finding::wrong(settings.scrub(&why)));
    }
    client.shutdown().await;
    findings
}

async fn look(database: &Database, findings: &mut Vec<Finding>) -> Result<(), String> {
    let hello = ask(database, "reach MongoDB", doc! { "hello": 1 }).await?;
    let build = ask(database, "ask for the version", doc! { "buildInfo": 1 }).await?;
    let version = build.get_str("version").unwrap_or("of an unknown version");
    findings.push(topology(&hello, version));
    let id = Bson::ObjectId(mongodb::bson::oid::ObjectId::new());
    let concern = doc! { "w": "majority", "j": true, "wtimeout": MAJORITY_TIMEOUT_MS };
    let insert = doc! { "insert": PROBE_COLLECTION, "documents": [{ "_id": id.clone() }], "writeConcern": concern.clone() };
    let delete = doc! { "delete": PROBE_COLLECTION, "deletes": [{ "q": { "_id": id }, "limit": 1 }], "writeConcern": concern };
    for (attempted, command) in [("write to", insert), ("delete from", delete)] {
        let attempted = format!("{attempted} {}.{PROBE_COLLECTION}", database.name());
        let reply = ask(database, &attempted, command).await?;
        accepted(&attempted, &reply)?;
    }
    findings.push(Finding::fine(format!("{} takes writes that a majority acknowledges", database.name())));
    Ok(())
}

/// A standalone server has no majority to lose and no step-down to survive: it works, and is not for production (F17).
fn topology(hello: &Document, version: &str) -> Finding {
    if let Ok(set) = hello.get_str("setName") {
        return Finding::fine(format!("MongoDB {version}, replica set {set}"));
    }
    match hello.get_str("msg") {
        Ok("isdbgrid") => Finding::fine(format!("MongoDB {version}, sharded cluster")),
        _ => Finding::fine(format!(
            "MongoDB {version}, warning: a standalone server, whose writes are lost with its disk: make it a replica set"
        )),
    }
}

async fn ask(database: &Database, attempted: &str, command: Document) -> Result<Document, String> {
    match tokio::time::timeout(WAIT, database.run_command(command)).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(error)) => Err(explained(attempted, &error)),
        Err(_) => Err(format!("failed to {attempted}: no answer within {} s", WAIT.as_secs())),
    }
}

/// Refused, or not reached: people look for the cause in different places.
fn explained(attempted: &str, error: &Error) -> String {
    let words = error.kind.to_string();
    let is_refused_sign_in = matches!(&*error.kind, ErrorKind::Authentication { .. }) || words.contains("uthentication failed");
    match &*error.kind {
        ErrorKind::Command(command) if command.code == UNAUTHORIZED => {
            format!("failed to {attempted}: unauthorized, grant the user readWrite on the database ({words})")
        }
        ErrorKind::Command(command) if command.code == AUTHENTICATION_FAILED => {
            format!("failed to {attempted}: authentication failed, check user, password and authSource in mongo.uri ({words})")
        }
        _ if is_refused_sign_in => {
            format!("failed to {attempted}: authentication failed, check user, password and authSource in mongo.uri ({words})")
        }
        ErrorKind::ServerSelection { .. } | ErrorKind::Io(_) | ErrorKind::DnsResolve { .. } | ErrorKind::ConnectionPoolCleared { .. } => {
            format!("failed to {attempted}: no server is reached, is MongoDB running, and does mongo.uri name it? ({words})")
        }
        _ => format!("failed to {attempted}: {words}"),
    }
}

/// The driver returns `Ok` for a reply that holds errors.
fn accepted(attempted: &str, reply: &Document) -> Result<(), String> {
    let failed = |what: &str, error: &Document| {
        let words = error.get_str("errmsg").unwrap_or("no reason given");
        Err(format!("failed to {attempted}: {what}: {words}"))
    };
    if let Some(Bson::Document(error)) = reply.get_array("writeErrors").ok().and_then(|errors| errors.first()) {
        return failed("the server refuses", error);
    }
    match reply.get_document("writeConcernError") {
        Ok(error) => failed("no majority acknowledges", error),
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standalone_server_is_warned_of() {
        assert!(topology(&doc! { "ok": 1 }, "7.0.1").text.contains("warning"));
        assert_eq!(topology(&doc! { "setName": "rs0" }, "7.0.1").text, "MongoDB 7.0.1, replica set rs0");
        assert!(!topology(&doc! { "msg": "isdbgrid" }, "7.0.1").text.contains("warning"));
    }

    #[test]
    fn a_reply_that_holds_errors_is_not_taken_for_success() {
        let refused = doc! { "ok": 1, "n": 0, "writeErrors": [{ "index": 0, "code": 121, "errmsg": "Document failed validation" }] };
        let not_replicated = doc! { "ok": 1, "n": 1, "writeConcernError": { "code": 64, "errmsg": "waiting for replication timed out" } };

        assert!(accepted("write", &refused).expect_err("refused").contains("validation"));
        assert!(accepted("write", &not_replicated).expect_err("no majority").contains("majority"));
        assert_eq!(accepted("write", &doc! { "ok": 1, "n": 1 }), Ok(()));
    }
}
