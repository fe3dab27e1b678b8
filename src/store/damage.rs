//! What a RocksDB error means: damage that is proven, a disk that refuses, a folder that is not ours or not free.
//!
//! Only damage moves state aside (EOS-10), so each class has to be right:
//! - *damage*: a checksum that fails, or a file that the database names and that is not there. The state comes back from the changelogs;
//! - *disk*: full, failing, not writable. It passes, or an operator helps; the files are left alone;
//! - *foreign*: another database, or one of a newer RocksDB. It is refused: somebody may want it.
//!
//! A crash is none of them. A newest write-ahead log whose last record is torn is what `kill -9` or a full disk leaves; RocksDB drops
//! that record (`TolerateCorruptedTailRecords`). Data and positions are one batch, so the state is then only *behind* (EOS-9). A record
//! that is wrong further up is damage, whether RocksDB says so or [`log_files`] has to.

use std::path::Path;

use rocksdb::ErrorKind;

use super::lock;
use super::log_files;
use super::port::StoreFault;

/// Sorts an error of a database that is, or is being, opened.
pub(super) fn fault(path: &Path, attempted: &str, error: &rocksdb::Error) -> StoreFault {
    let detail = error.to_string();
    let at = path.display().to_string();
    match error.kind() {
        ErrorKind::Corruption => StoreFault::Damaged { path: at, detail },
        ErrorKind::IOError if lock::is_refusal(&detail) => locked(path, detail),
        // RocksDB asks only for files that its own records name.
        ErrorKind::IOError if detail.contains("No such file or directory") => StoreFault::Damaged { path: at, detail },
        ErrorKind::NotSupported => StoreFault::Foreign { path: at, what: format!("was written by another version of RocksDB ({detail})") },
        ErrorKind::InvalidArgument if detail.contains("olumn famil") || detail.contains("omparator") => {
            StoreFault::Foreign { path: at, what: format!("holds a database that is not Testudo's ({detail})") }
        }
        _ => StoreFault::Disk { attempted: attempted.into(), path: at, detail },
    }
}

fn locked(path: &Path, words: String) -> StoreFault {
    let detail = match lock::holder(path) {
        Ok(Some(process)) => format!("process {process}"),
        _ => words,
    };
    StoreFault::Locked { path: path.display().to_string(), detail }
}

/// Sorts an error of the file system.
pub(super) fn disk(path: &Path, attempted: &str, error: &std::io::Error) -> StoreFault {
    StoreFault::Disk { attempted: attempted.into(), path: path.display().to_string(), detail: error.to_string() }
}

/// Damage that RocksDB itself would not report: it would begin empty, leave records out, or never come back from reading.
pub(super) fn unreported(path: &Path) -> Result<Option<StoreFault>, StoreFault> {
    if let Some(damage) = headless(path)? {
        return Ok(Some(damage));
    }
    let found = log_files::damage(path).map_err(|error| disk(path, "look through the state folder", &error))?;
    Ok(found.map(|detail| StoreFault::Damaged { path: path.display().to_string(), detail }))
}

/// Data without the file `CURRENT`, which names the manifest: RocksDB would take the folder for a new one.
///
/// The first thing that it writes into a new folder is a manifest, then `CURRENT`, then anything else; so a crash cannot leave this.
fn headless(path: &Path) -> Result<Option<StoreFault>, StoreFault> {
    if path.join("CURRENT").exists() {
        return Ok(None);
    }
    for entry in std::fs::read_dir(path).map_err(|error| disk(path, "list the state folder", &error))? {
        let name = entry.map_err(|error| disk(path, "list the state folder", &error))?.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(".sst") || name.ends_with(".log") {
            let detail = format!("the file CURRENT is missing beside {name}");
            return Ok(Some(StoreFault::Damaged { path: path.display().to_string(), detail }));
        }
    }
    Ok(None)
}

#[cfg(test)]
#[path = "damage_tests.rs"]
mod tests;
