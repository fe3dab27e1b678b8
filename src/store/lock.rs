//! Who has a state folder open: RocksDB locks the file `LOCK` of a folder as long as it is open, and Linux says who holds a lock.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// RocksDB locks this file of a folder that is open.
const LOCK_FILE: &str = "LOCK";

/// The process that has a state folder open, this one too; `None` when nobody has, or the folder is not there.
///
/// # Errors
/// When the system does not tell.
pub fn holder(folder: &Path) -> io::Result<Option<u32>> {
    let inode = match fs::metadata(folder.join(LOCK_FILE)) {
        Ok(metadata) => metadata.ino(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(holder_in(&fs::read_to_string("/proc/locks")?, inode))
}

/// Locks a folder that holds no database, making it where it is not there, until the file that is given back is dropped; none when another
/// process has it, which [`holder`] names.
///
/// # Errors
/// When the folder cannot be made or locked.
pub fn take(folder: &Path) -> io::Result<Option<fs::File>> {
    fs::create_dir_all(folder)?;
    let file = fs::OpenOptions::new().create(true).append(true).open(folder.join(LOCK_FILE))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// # Source
/// proc_locks(5): `1: POSIX  ADVISORY  WRITE 4242 08:01:131074 0 EOF`.
fn holder_in(locks: &str, inode: u64) -> Option<u32> {
    let ending = format!(":{inode}");
    let holds = |line: &str| {
        let mut words = line.split_whitespace().skip(4);
        let process = words.next()?.parse().ok()?;
        words.next()?.ends_with(&ending).then_some(process)
    };
    locks.lines().find_map(holds)
}

/// Whether RocksDB's words mean that somebody else has the folder open.
///
/// # Source
/// RocksDB's `PosixFileSystem::LockFile`.
pub(super) fn is_refusal(words: &str) -> bool {
    words.contains("lock hold by current process") || words.contains("While lock file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_found_by_inode() {
        let locks = "1: POSIX  ADVISORY  WRITE 4242 08:01:131074 0 EOF\n2: FLOCK  ADVISORY  WRITE 7 00:1a:9 0 EOF\n";

        assert_eq!(holder_in(locks, 131_074), Some(4_242));
        assert_eq!(holder_in(locks, 31_074), None);
    }

    #[test]
    fn a_folder_is_locked_once_and_its_holder_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let folder = folder.path().join("zoo.rebuild");

        let held = take(&folder).expect("locked");

        assert!(held.is_some() && take(&folder).expect("told").is_none());
        assert_eq!(holder(&folder).expect("told"), Some(std::process::id()));
        drop(held);
        assert!(take(&folder).expect("locked").is_some(), "it is free again");
    }

    #[test]
    fn a_folder_that_is_not_there_has_no_holder() {
        let folder = tempfile::tempdir().expect("a temporary folder");

        assert_eq!(holder(&folder.path().join("zoo")).expect("told"), None);
    }

    /// A disk that is full says so, wherever the folder lies.
    #[test]
    fn a_path_that_speaks_of_locks_is_no_lock() {
        assert!(!is_refusal("IO error: No space left on device: While appending to file: /srv/clocks/zoo/000012.log"));
    }
}
