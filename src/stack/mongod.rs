//! The database: `mongod` as a replica set of one, which is what change streams and majority writes need.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongodb::error::ErrorKind;
use mongodb::options::ClientOptions;

use super::download::Parts;
use super::process::Service;
use super::record::Settings;
use super::secured::{self, Certificates};

const REPLICA_SET: &str = "rs0";
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// The server's word for a replica set that has its configuration already.
const ALREADY_INITIALIZED: i32 = 23;
/// And for a user that is there.
const USER_EXISTS: i32 = 51003;

/// The connection string of the database on `port`.
pub fn uri(port: u16) -> String {
    format!("mongodb://127.0.0.1:{port}/?directConnection=true")
}

/// Starts the database.
///
/// # Errors
/// When its folder cannot be made or the program cannot be started.
pub fn launch(service: &Service, settings: &Settings, parts: &Parts, certificates: Option<&Certificates>) -> anyhow::Result<()> {
    let data = service.folder.join("data");
    fs::create_dir_all(&data).with_context(|| format!("failed to make the folder {}", data.display()))?;
    let mut command = Command::new(&parts.mongod);
    command
        .args(["--bind_ip", "127.0.0.1", "--nounixsocket", "--port", &settings.ports.mongod.to_string()])
        .args(["--replSet", REPLICA_SET, "--oplogSize", "512", "--wiredTigerCacheSizeGB", "0.25"])
        .args(["--setParameter", "diagnosticDataCollectionEnabled=false"])
        // Fail points, for the tests that need a server which fails on demand.
        .args(["--setParameter", "enableTestCommands=1"])
        .arg("--dbpath")
        .arg(&data);
    if let Some(certificates) = certificates {
        command.args(["--tlsMode", "allowTLS", "--tlsAllowConnectionsWithoutCertificates", "--tlsCertificateKeyFile"]);
        command.arg(certificates.server()).arg("--tlsCAFile").arg(certificates.authority());
    }
    service.launch(command)
}

/// Waits until the database answers, makes it a replica set where it is new, and waits until it takes writes.
///
/// # Errors
/// When it does not answer in time or refuses to become a replica set.
pub async fn until_ready(service: &Service, port: u16) -> anyhow::Result<()> {
    let client = client(port).await?;
    service.until_ready(async || hello(&client).await.is_some()).await?;
    initiate(&client, port).await.context("failed to make mongod a replica set")?;
    service.until_ready(async || is_primary(&client).await).await
}

/// Makes the user of [`secured`] known, with rights on every tenant's database.
///
/// # Errors
/// When the database does not answer or refuses.
pub async fn add_user(port: u16) -> anyhow::Result<()> {
    let command = doc! { "createUser": secured::USER, "pwd": secured::PASSWORD, "roles": ["readWriteAnyDatabase"] };
    match client(port).await?.database("admin").run_command(command).await {
        Ok(_) => Ok(()),
        Err(error) if matches!(&*error.kind, ErrorKind::Command(refusal) if refusal.code == USER_EXISTS) => Ok(()),
        Err(error) => Err(error).context("failed to make a user of the database"),
    }
}

/// Whether the database on `port` takes writes.
pub async fn is_answering(port: u16) -> bool {
    match client(port).await {
        Ok(client) => is_primary(&client).await,
        Err(_) => false,
    }
}

/// Has the database on `port` step down as primary for so long, in whole seconds; there is nobody else, so it is elected again after that.
///
/// # Errors
/// When it does not answer or refuses.
pub async fn step_down(port: u16, away: Duration) -> anyhow::Result<()> {
    let seconds = i64::try_from(away.as_secs()).context("the time to step down for is too long")?;
    let command = doc! { "replSetStepDown": seconds, "secondaryCatchUpPeriodSecs": 0, "force": true };
    client(port).await?.database("admin").run_command(command).await.context("failed to have the database step down")?;
    Ok(())
}

async fn client(port: u16) -> anyhow::Result<Client> {
    let mut options = ClientOptions::parse(uri(port)).await.context("failed to read the database's address")?;
    options.server_selection_timeout = Some(ANSWER_WITHIN);
    options.connect_timeout = Some(ANSWER_WITHIN);
    Client::with_options(options).context("failed to make a database client")
}

async fn hello(client: &Client) -> Option<Document> {
    client.database("admin").run_command(doc! { "hello": 1 }).await.ok()
}

async fn is_primary(client: &Client) -> bool {
    hello(client).await.is_some_and(|answer| answer.get_bool("isWritablePrimary").unwrap_or(false))
}

async fn initiate(client: &Client, port: u16) -> Result<(), mongodb::error::Error> {
    let member = doc! { "_id": 0, "host": format!("127.0.0.1:{port}") };
    let command = doc! { "replSetInitiate": { "_id": REPLICA_SET, "members": [member] } };
    match client.database("admin").run_command(command).await {
        Ok(_) => Ok(()),
        Err(error) if matches!(&*error.kind, ErrorKind::Command(refusal) if refusal.code == ALREADY_INITIALIZED) => Ok(()),
        Err(error) => Err(error),
    }
}
