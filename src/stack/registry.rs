//! The schema registry: Apicurio, which speaks Confluent's HTTP interface; its data is in a file, so that it survives a restart.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;

use super::download::Parts;
use super::process::Service;
use super::record::Settings;
use super::secured::Certificates;

const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// The address under which the registry on `port` speaks Confluent's interface.
pub fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}/apis/ccompat/v7")
}

/// Starts the registry.
///
/// # Errors
/// When its folder cannot be made or Java cannot be started.
pub fn launch(service: &Service, settings: &Settings, parts: &Parts, certificates: Option<&Certificates>) -> anyhow::Result<()> {
    let data = service.folder.join("data");
    fs::create_dir_all(&data).with_context(|| format!("failed to make the folder {}", data.display()))?;
    let mut command = Command::new(&parts.java);
    command
        // A light compiler and collector: it starts in 3 s instead of 5, and nobody measures it.
        .args(["-Xmx384m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-jar", "quarkus-run.jar"])
        .current_dir(&parts.registry)
        .env("QUARKUS_HTTP_HOST", "127.0.0.1")
        .env("QUARKUS_HTTP_PORT", settings.ports.registry.to_string())
        .env("QUARKUS_HTTP_ACCESS_LOG_ENABLED", "false")
        // A second listener, otherwise on port 9000 of every address; any port, since nobody asks it.
        .env("QUARKUS_MANAGEMENT_HOST", "127.0.0.1")
        .env("QUARKUS_MANAGEMENT_PORT", "0")
        .env("APICURIO_DATASOURCE_URL", format!("jdbc:h2:file:{}", data.join("registry").display()));
    if let Some((secured, certificates)) = settings.ports.secured.zip(certificates) {
        command
            .env("QUARKUS_HTTP_INSECURE_REQUESTS", "enabled")
            .env("QUARKUS_HTTP_SSL_PORT", secured.registry.to_string())
            .env("QUARKUS_HTTP_SSL_CERTIFICATE_FILES", certificates.certificate())
            .env("QUARKUS_HTTP_SSL_CERTIFICATE_KEY_FILES", certificates.key());
    }
    service.launch(command)
}

/// Waits until the registry answers, then has it refuse incompatible schemas, as Confluent's does from the start: Apicurio enforces
/// nothing until a rule is set.
///
/// # Errors
/// When it does not answer in time or refuses the rule.
pub async fn until_ready(service: &Service, port: u16) -> anyhow::Result<()> {
    let client = client()?;
    service.until_ready(async || answers(&client, port).await).await?;
    let request = client.put(format!("{}/config", url(port))).json(&json!({ "compatibility": "BACKWARD" }));
    let answer = request.send().await.context("failed to set the registry's compatibility rule")?;
    ensure!(answer.status().is_success(), "the registry refused its compatibility rule with {}", answer.status());
    Ok(())
}

/// Whether the registry on `port` lists its subjects.
pub async fn is_answering(port: u16) -> bool {
    match client() {
        Ok(client) => answers(&client, port).await,
        Err(_) => false,
    }
}

async fn answers(client: &reqwest::Client, port: u16) -> bool {
    client.get(format!("{}/subjects", url(port))).send().await.is_ok_and(|answer| answer.status().is_success())
}

/// Without proxies: a machine's proxy does not reach the loopback address.
fn client() -> anyhow::Result<reqwest::Client> {
    reqwest::Client::builder().no_proxy().timeout(ANSWER_WITHIN).build().context("failed to make an HTTP client")
}
