//! The demonstration's folder: taken only where nothing of anybody else's is in it, and left as it was found.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, anyhow};

use crate::cli::exit::{Exit, WithExit};
use crate::stack;

/// Testudo's state, beside what the stack has there.
pub(super) const STATE: &str = "state";
/// Says whose folder it is.
const MARK: &str = "made-by-testudo-demo";
/// Held by whoever starts or ends the stack's servers; they leave it.
const LOCK: &str = "lock";

/// Takes a folder that is new, empty, or of an earlier demonstration.
///
/// # Errors
/// When it is somebody else's, or cannot be written.
pub(super) fn take(dir: &Path) -> anyhow::Result<()> {
    let failed = || format!("failed to use the folder {}", dir.display());
    fs::create_dir_all(dir).with_context(failed)?;
    let mark = dir.join(MARK);
    if !mark.is_file() && fs::read_dir(dir).with_context(failed)?.next().is_some() {
        return Err(anyhow!("{} is not empty and not of an earlier demonstration; give a new or empty folder by --dir", dir.display()))
            .exit(Exit::Usage);
    }
    fs::write(&mark, "`testudo demo` removes what it has put here, and nothing else\n").with_context(failed)
}

/// Removes what a demonstration whose servers have ended has put into its folder, and the folder if nothing else is in it.
///
/// # Errors
/// When something cannot be removed.
pub(super) fn clean(dir: &Path) -> anyhow::Result<()> {
    stack::down(dir, true)?;
    let gone = |removed: std::io::Result<()>| match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(|| format!("failed to empty {}", dir.display())),
    };
    gone(fs::remove_dir_all(dir.join(STATE)))?;
    gone(fs::remove_file(dir.join(LOCK)))?;
    gone(fs::remove_file(dir.join(MARK)))?;
    match fs::remove_dir(dir) {
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {
            println!("  {} stays: what else is in it was not made here", dir.display());
            Ok(())
        }
        removed => gone(removed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::code_of;

    #[test]
    fn a_folder_of_somebody_else_is_not_taken() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let new = folder.path().join("new");

        take(&new).expect("it is new");
        take(&new).expect("it is of an earlier one");
        let refused = take(folder.path()).expect_err("something else is in it");

        assert_eq!(code_of(&refused), Exit::Usage);
        assert!(!folder.path().join(MARK).exists());
    }

    #[test]
    fn only_what_was_made_here_is_removed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let dir = folder.path().join("demo");
        let fill = || {
            take(&dir).expect("it is new or ours");
            for inside in ["kafka/data", "mongod/data", "state/zoo"] {
                fs::create_dir_all(dir.join(inside)).expect("the folder is ours");
            }
            fs::write(dir.join("stack.json"), "{}").expect("the folder is ours");
        };

        fill();
        fs::write(dir.join("notes.txt"), "mine").expect("the folder is ours");
        clean(&dir).expect("removed");
        let left: Vec<_> = fs::read_dir(&dir).expect("it is there").map(|entry| entry.expect("an entry").file_name()).collect();
        assert_eq!(left, ["notes.txt"]);

        fs::remove_file(dir.join("notes.txt")).expect("it is there");
        fill();
        clean(&dir).expect("removed");
        assert!(!dir.exists());
    }
}
