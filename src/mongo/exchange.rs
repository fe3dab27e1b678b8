//! Puts a collection that was filled aside in the place of the old one. Each rename is one step of the server's; what was renamed already
//! is not there any more, so all of it can be repeated.

use std::io;
use std::time::Duration;

use mongodb::Database;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::{Error, ErrorKind};

use super::answer::passes;
use crate::failpoint;

/// Server's codes for "there is no such collection" and "there is one already".
const NAMESPACE_NOT_FOUND: i32 = 26;
const NAMESPACE_EXISTS: i32 = 48;
/// A command may take so long; what was not answered is repeated with all the rest.
const COMMAND_WITHIN: Duration = Duration::from_secs(60);
/// An index of a large collection takes longer. Asked for again while it is being built, it is waited for.
const INDEX_WITHIN: Duration = Duration::from_secs(600);
/// A collection and what has no document in it.
const PARTS: [&str; 2] = ["", "_set_aside"];

/// Makes the collection aside, and the one of what has no document in it, where they are not there: an empty one takes the old one's place
/// too.
///
/// # Errors
/// When the server refuses or is away.
pub async fn prepare(database: &Database, aside: &str) -> Result<(), Error> {
    for part in PARTS {
        let created = run(database, COMMAND_WITHIN, doc! { "create": format!("{aside}{part}"), "writeConcern": majority() }).await;
        if let Err(error) = created
            && code_of(&error) != Some(NAMESPACE_EXISTS)
        {
            return Err(error);
        }
    }
    Ok(())
}

/// Puts `aside` in the place of `collection`, with the indexes that the old one had.
///
/// # Errors
/// When the server refuses or is away.
pub async fn exchange(database: &Database, aside: &str, collection: &str) -> Result<(), Error> {
    for part in PARTS {
        let (from, to) = (format!("{aside}{part}"), format!("{collection}{part}"));
        let there = within(COMMAND_WITHIN, database.list_collection_names().filter(doc! { "name": &from }).into_future()).await?;
        if there.is_empty() {
            continue;
        }
        carry_indexes_over(database, &to, &from).await?;
        failpoint::at("rebuild.renaming");
        let named = |collection: &str| format!("{}.{collection}", database.name());
        let rename = doc! { "renameCollection": named(&from), "to": named(&to), "dropTarget": true, "writeConcern": majority() };
        run(&database.client().database("admin"), COMMAND_WITHIN, rename).await?;
        failpoint::at("rebuild.renamed");
    }
    Ok(())
}

/// Drops what a rebuild that was given up has left.
///
/// # Errors
/// When the server refuses or is away.
pub async fn forget(database: &Database, aside: &str) -> Result<(), Error> {
    for part in PARTS {
        within(COMMAND_WITHIN, database.collection::<Document>(&format!("{aside}{part}")).drop().into_future()).await?;
    }
    Ok(())
}

/// Indexes are the owner's; one that the new documents do not allow is left out, and told.
async fn carry_indexes_over(database: &Database, old: &str, new: &str) -> Result<(), Error> {
    let listed = match run(database, COMMAND_WITHIN, doc! { "listIndexes": old }).await {
        Ok(listed) => listed,
        Err(error) if code_of(&error) == Some(NAMESPACE_NOT_FOUND) => return Ok(()),
        Err(error) => return Err(error),
    };
    // A collection has at most 64 indexes: one batch.
    let batch = listed.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch")).cloned().unwrap_or_default();
    for index in batch {
        let Bson::Document(index) = index else { continue };
        let name = index.get_str("name").unwrap_or_default().to_owned();
        if name == "_id_" {
            continue;
        }
        let created = run(database, INDEX_WITHIN, doc! { "createIndexes": new, "indexes": [index] }).await;
        if let Err(error) = created {
            match *error.kind {
                ErrorKind::Command(ref refusal) if !passes(refusal.code.into()) => {
                    tracing::warn!(
                        collection = old,
                        index = name,
                        cause = refusal.message,
                        "index not carried over to the rebuilt collection"
                    );
                }
                _ => return Err(error),
            }
        }
    }
    Ok(())
}

async fn run(database: &Database, wait: Duration, command: Document) -> Result<Document, Error> {
    within(wait, database.run_command(command).into_future()).await
}

async fn within<T>(wait: Duration, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let late = |_| Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", wait.as_secs())).into());
    tokio::time::timeout(wait, answer).await.unwrap_or_else(late)
}

fn majority() -> Document {
    doc! { "w": "majority", "j": true }
}

fn code_of(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(refusal) => Some(refusal.code),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_left_out_for_what_it_is_and_never_for_the_moment() {
        // PrimarySteppedDown, NotWritablePrimary, InterruptedAtShutdown, MaxTimeMSExpired.
        assert!([189, 10_107, 11_600, 50].into_iter().all(passes));
        // DuplicateKey, CannotCreateIndex, IndexOptionsConflict, CannotIndexParallelArrays.
        assert!(![11_000, 67, 85, 171].into_iter().any(passes));
    }

    #[tokio::test]
    async fn what_is_not_answered_in_time_is_an_error_that_says_so() {
        let error = within::<()>(Duration::ZERO, std::future::pending()).await.expect_err("no answer");

        assert!(error.to_string().contains("no answer within 0 s"), "{error}");
    }
}
