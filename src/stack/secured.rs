//! TLS and passwords, for tests of clients that use them: an authority of the stack's own, certificates, one user, and an authorizer
//! that lets strangers on the plain listeners do everything and the user only what it was granted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// The one user of broker and database.
pub const USER: &str = "testudo";
/// Its password.
pub const PASSWORD: &str = "tortoise-7fd1";

/// What a controller and each broker are told about rights.
pub const AUTHORIZER: &str = "\
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
";

/// The certificates of a stack, in a folder of its own.
#[derive(Clone, Debug)]
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// The certificates in this folder; made where they are missing, valid for a month, for `localhost` and 127.0.0.1.
    ///
    /// # Errors
    /// When the folder cannot be written or `openssl` is missing or fails.
    pub fn ready(folder: &Path) -> anyhow::Result<Self> {
        let made = Self { folder: folder.to_owned() };
        if made.server().is_file() {
            return Ok(made);
        }
        fs::create_dir_all(folder).with_context(|| format!("failed to make the folder {}", folder.display()))?;
        made.sign("ca", &["-x509", "-days", "30", "-subj", "/CN=testudo local authority", "-addext", "basicConstraints=critical,CA:TRUE"])?;
        let names = "subjectAltName=DNS:localhost,IP:127.0.0.1";
        let by = ["-x509", "-days", "30", "-CA", "ca.pem", "-CAkey", "ca.key", "-subj", "/CN=localhost", "-addext", names];
        made.sign("single", &by)?;
        let read = |name: &str| fs::read_to_string(folder.join(name)).with_context(|| format!("failed to read {name}"));
        let both = read("single.key")? + &read("single.pem")?;
        fs::write(made.server(), both).context("failed to write the servers' certificate")?;
        Ok(made)
    }

    /// The authority's certificate, for clients.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// The servers' key and certificate in one file.
    pub fn server(&self) -> PathBuf {
        self.folder.join("server.pem")
    }

    /// The servers' certificate.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("single.pem")
    }

    /// The servers' key.
    pub fn key(&self) -> PathBuf {
        self.folder.join("single.key")
    }

    /// Makes a key and a certificate of this name.
    fn sign(&self, name: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new("openssl");
        command.current_dir(&self.folder).args(["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        command.args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")]).args(arguments);
        let outcome = command.output().context("failed to start openssl, which makes certificates")?;
        ensure!(outcome.status.success(), "openssl made no certificate: {}", String::from_utf8_lossy(&outcome.stderr));
        Ok(())
    }
}

/// What a broker with such a listener is told about it.
pub fn of_broker(certificates: &Certificates) -> String {
    format!(
        "\
listener.name.secured.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.secured.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secured.ssl.keystore.type=PEM
listener.name.secured.ssl.keystore.location={}
",
        certificates.server().display()
    )
}

/// What formatting the controller's data folder is told, so that the broker knows the user from the start.
pub fn scram_user() -> String {
    format!("SCRAM-SHA-512=[name={USER},password={PASSWORD}]")
}
