//! A lock between processes: whoever holds the file may change what it stands for.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::clock::{Deadline, SharedClock};

const POLL: Duration = Duration::from_millis(50);

/// Held until dropped; the system also releases it when the process dies.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock on `path`, making the file where it is absent, and says on stderr when somebody else has it.
    ///
    /// # Errors
    /// When it cannot be taken `within` that time.
    pub(super) fn take(path: &Path, within: Duration, clock: &SharedClock) -> anyhow::Result<Self> {
        let file = File::options().create(true).truncate(false).write(true).open(path);
        let file = file.with_context(|| format!("failed to open the lock file {}", path.display()))?;
        let deadline = Deadline::after(&**clock, within);
        let mut is_announced = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("failed to lock {}", path.display()));
                }
                Err(TryLockError::WouldBlock) => {}
            }
            if deadline.is_over(&**clock) {
                bail!("another process has held {} for {} s; wait for it or end it", path.display(), within.as_secs());
            }
            if !is_announced {
                eprintln!("stack: waiting for another process that holds {}", path.display());
                is_announced = true;
            }
            clock.sleep(POLL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn second_holder_waits_until_the_first_lets_go() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("lock");
        let clock = SystemClock::shared();

        let first = Lock::take(&path, Duration::ZERO, &clock).expect("the lock is free");
        assert!(Lock::take(&path, Duration::ZERO, &clock).is_err());
        drop(first);

        assert!(Lock::take(&path, Duration::ZERO, &clock).is_ok());
    }
}
