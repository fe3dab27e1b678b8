//! Which Java runs the broker and the registry: one of the machine's that is new enough, else one from a wheel.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::versions::JAVA_MIN;

/// The `java` of this machine that is new enough: `$JAVA21`, then `$JAVA_HOME`, `/usr/lib/jvm`, and the search path.
pub(super) fn installed() -> Option<PathBuf> {
    candidates().into_iter().find(|java| version_of(java).is_some_and(|version| version >= JAVA_MIN))
}

fn candidates() -> Vec<PathBuf> {
    let in_home = |home: OsString| PathBuf::from(home).join("bin/java");
    let mut found: Vec<PathBuf> = Vec::new();
    found.extend(env::var_os("JAVA21").map(PathBuf::from));
    found.extend(env::var_os("JAVA_HOME").map(in_home));
    let mut machine: Vec<PathBuf> = match fs::read_dir("/usr/lib/jvm") {
        Ok(entries) => entries.flatten().map(|entry| entry.path().join("bin/java")).filter(|java| java.is_file()).collect(),
        Err(_) => Vec::new(),
    };
    machine.sort();
    found.extend(machine);
    found.push(PathBuf::from("java"));
    found
}

fn version_of(java: &Path) -> Option<u32> {
    let outcome = Command::new(java).arg("-version").output().ok()?;
    major(&String::from_utf8_lossy(&outcome.stderr))
}

/// The major version in what `java -version` prints: `openjdk version "25.0.3" …`; before Java 9 it was the second number.
fn major(text: &str) -> Option<u32> {
    let (_, quoted) = text.split_once("version \"")?;
    let mut numbers = quoted.split(|letter: char| !letter.is_ascii_digit());
    match numbers.next()?.parse().ok()? {
        1 => numbers.next()?.parse().ok(),
        version => Some(version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn major_version_is_read_in_all_its_forms() {
        assert_eq!(major("openjdk version \"25.0.3\" 2026-04-21 LTS"), Some(25));
        assert_eq!(major("openjdk version \"21\" 2023-09-19"), Some(21));
        assert_eq!(major("openjdk version \"27-ea\" 2027-03-16"), Some(27));
        assert_eq!(major("java version \"1.8.0_392\""), Some(8));
        assert_eq!(major("java: command not found"), None);
    }
}
