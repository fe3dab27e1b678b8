//! Old state is moved aside, never deleted (EOS-10): `zoo` becomes `zoo.damaged-20260418T093000Z` beside it.

use std::fs;
use std::path::{Path, PathBuf};

use chrono::DateTime;

use super::damage::disk;
use super::lock;
use super::port::StoreFault;

/// So many folders of one second are told apart.
const SAME_SECOND_MAX: u32 = 100;

/// Renames a state folder to `<folder>.<why>-<UTC time>`; `None` when there is none.
///
/// # Errors
/// When a process has the folder open, or the disk refuses.
pub fn set_aside(folder: &Path, why: &str, wall_ms: i64) -> Result<Option<PathBuf>, StoreFault> {
    if !folder.exists() {
        return Ok(None);
    }
    // Where the system does not tell, RocksDB's own lock was met before.
    if let Some(process) = lock::holder(folder).unwrap_or(None) {
        return Err(StoreFault::Locked { path: folder.display().to_string(), detail: format!("process {process}") });
    }
    let aside = free_name(folder, why, wall_ms);
    fs::rename(folder, &aside).map_err(|error| disk(folder, "set the state folder aside", &error))?;
    Ok(Some(aside))
}

fn free_name(folder: &Path, why: &str, wall_ms: i64) -> PathBuf {
    let time = DateTime::from_timestamp_millis(wall_ms).unwrap_or_default().format("%Y%m%dT%H%M%SZ");
    // Not `with_extension`: a tenant's name may hold a dot.
    let named = |suffix: String| PathBuf::from(format!("{}.{why}-{time}{suffix}", folder.display()));
    let names = std::iter::once(String::new()).chain((2..=SAME_SECOND_MAX).map(|number| format!("-{number}")));
    // The rename refuses a folder that is there and not empty.
    names.map(named).find(|name| !name.exists()).unwrap_or_else(|| named(String::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-04-18T09:30:00Z.
    const TIME_MS: i64 = 1_776_504_600_000;

    #[test]
    fn folders_of_one_second_and_names_with_dots_stay_apart() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut names = Vec::new();
        for _ in 0..2 {
            let folder = dir.path().join("zoo.eu");
            fs::create_dir(&folder).expect("made");
            let aside = set_aside(&folder, "damaged", TIME_MS).expect("moved").expect("it was there");
            names.push(aside.file_name().expect("a name").to_string_lossy().into_owned());
        }

        assert_eq!(names, ["zoo.eu.damaged-20260418T093000Z", "zoo.eu.damaged-20260418T093000Z-2"]);
        assert_eq!(set_aside(&dir.path().join("zoo.eu"), "damaged", TIME_MS).expect("nothing to do"), None);
    }
}
