//! What the server's answer to a command means for each of its statements. Pure.
//!
//! The driver returns `Ok` for a command that was executed, even when every statement failed or no majority has the writes: so each
//! answer is read to the end, and what it does not explain counts as not done.

use mongodb::bson::{Bson, Document};

use super::statement::Form;

/// What became of a command.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Documents inserted or replaced.
    pub written: u64,
    /// Documents that stayed as they were, because they are not older, or belong to another origin.
    pub unchanged: u64,
    /// Statements that met a document inserted meanwhile: to be sent again at once, as guarded updates (C115).
    pub raced: Vec<usize>,
    /// Statements to be sent again after a pause; repeating those that were done changes nothing.
    pub again: Vec<usize>,
    /// Statements whose document the server will never take.
    pub refused: Vec<Refusal>,
    /// Statements refused for a reason of which it is not known whether it passes: to be sent again as well, but not for ever.
    pub doubted: Vec<Refusal>,
    /// Why something has to be sent again.
    pub trouble: Option<String>,
}

/// The server does not take a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The statement.
    pub statement: usize,
    /// The server's code.
    pub code: i64,
    /// The server's code and words.
    pub detail: String,
}

/// What a write error asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reaction {
    Race,
    Refuse,
    Doubt,
    Again,
}

/// Reads the answer to a command of `statements` statements.
pub fn read(reply: &Document, form: Form, statements: usize) -> Answer {
    let mut answer = Answer::default();
    for error in documents(reply, "writeErrors") {
        sort(error, statements, &mut answer);
    }
    let failed = answer.raced.len() + answer.again.len() + answer.refused.len() + answer.doubted.len();
    let executed = count(reply, "n");
    answer.written = match form {
        Form::Insert => executed,
        Form::Update => count(reply, "nModified") + documents(reply, "upserted").count() as u64,
    };
    answer.unchanged = executed.saturating_sub(answer.written);
    let whole_command = match reply.get("writeConcernError") {
        Some(Bson::Document(error)) => Some(format!("no majority has the writes: {}", words(error))),
        _ if executed + failed as u64 != statements as u64 => {
            Some(format!("the answer accounts for {executed} done and {failed} failed of {statements} statements"))
        }
        _ => None,
    };
    if let Some(trouble) = whole_command {
        let is_refused = |statement: &usize| answer.refused.iter().any(|refusal| refusal.statement == *statement);
        let raced = std::mem::take(&mut answer.raced);
        answer.again = (0..statements).filter(|statement| !is_refused(statement) && !raced.contains(statement)).collect();
        answer.raced = raced;
        answer.doubted.clear();
        answer.trouble = Some(trouble);
    }
    answer
}

fn sort(error: &Document, statements: usize, answer: &mut Answer) {
    let statement = usize::try_from(count(error, "index")).unwrap_or(usize::MAX);
    if statement >= statements {
        answer.trouble = Some(format!("an error names statement {statement} of {statements}: {}", words(error)));
        return;
    }
    let refusal = Refusal { statement, code: code(error), detail: words(error) };
    match reaction(refusal.code) {
        Reaction::Race => answer.raced.push(statement),
        Reaction::Refuse => answer.refused.push(refusal),
        Reaction::Doubt => {
            answer.trouble = Some(refusal.detail.clone());
            answer.doubted.push(refusal);
        }
        Reaction::Again => {
            answer.again.push(statement);
            answer.trouble = Some(refusal.detail);
        }
    }
}

/// Refused for good at once are only documents that are known to have a fault of their own; what is not known is doubted.
///
/// # Source
/// The server's `error_codes.yml`, and the codes without a name that its storage layer gives.
fn reaction(code: i64) -> Reaction {
    match code {
        // DuplicateKey, with its names in older servers.
        11_000 | 11_001 | 12_582 => Reaction::Race,
        // BadValue, InvalidBSON, DollarPrefixedFieldName, InvalidIdField, InvalidDBRef, EmptyFieldName, DottedFieldName,
        // Overflow, ImmutableField, DocumentValidationFailure.
        2 | 22 | 52 | 53 | 55 | 56 | 57 | 15 | 66 | 121 => Reaction::Refuse,
        // BSONObjectTooLarge, a resulting document over 16 MiB, index keys that cannot be built of the document.
        10_334 | 17_419 | 17_420 | 16_755 | 16_756 | 17_280 | 171 | 201 => Reaction::Refuse,
        // A hashed index over an array; a text index, whose language a field of the document overrides by none.
        16_766 | 17_261 | 17_262 => Reaction::Refuse,
        _ if passes(code) || is_of_the_place(code) => Reaction::Again,
        _ => Reaction::Doubt,
    }
}

/// Whether a refusal is about the server, not about an index and the documents: the same may be taken later.
///
/// # Source
/// The server's `error_codes.yml`.
pub(super) fn passes(code: i64) -> bool {
    // The network; time limits; no primary (any more), or a server that ends; LockTimeout, LockBusy, WriteConflict,
    // ReadConcernMajorityNotAvailableYet, IndexBuildAborted, OutOfDiskSpace.
    matches!(code, 6 | 7 | 89 | 9_001)
        || matches!(code, 50 | 202 | 262)
        || matches!(code, 91 | 189 | 10_058 | 10_107 | 11_600 | 11_601 | 11_602 | 13_435 | 13_436)
        || matches!(code, 24 | 46 | 112 | 134 | 276 | 14_031)
}

/// Whether a write is refused for what database, collection or user are, whatever the document.
///
/// # Source
/// The server's `error_codes.yml`; 8000 is Atlas' own.
fn is_of_the_place(code: i64) -> bool {
    // Unauthorized, AuthenticationFailed, ReauthenticationRequired; NamespaceNotFound, CommandNotSupportedOnView, DatabaseDropPending,
    // CannotImplicitlyCreateCollection, UserWritesBlocked, AtlasError.
    matches!(code, 13 | 18 | 391)
        || matches!(code, 26 | 166 | 215 | 227 | 371 | 8_000)
        // StaleShardVersion, ShardNotFound, FailedToSatisfyReadPreference, StaleEpoch, StaleDbVersion, StaleConfig; NoProgressMade,
        // LockFailed, ConflictingOperationInProgress, ExceededMemoryLimit, TemporarilyUnavailable.
        || matches!(code, 63 | 70 | 133 | 150 | 249 | 13_388)
        || matches!(code, 82 | 107 | 117 | 146 | 365)
}

fn documents<'d>(reply: &'d Document, key: &str) -> impl Iterator<Item = &'d Document> {
    let list = match reply.get(key) {
        Some(Bson::Array(list)) => list.as_slice(),
        _ => &[],
    };
    list.iter().filter_map(Bson::as_document)
}

fn count(document: &Document, key: &str) -> u64 {
    u64::try_from(number(document, key)).unwrap_or(0)
}

fn code(error: &Document) -> i64 {
    number(error, "code")
}

/// Servers and proxies differ in the type of small numbers.
fn number(document: &Document, key: &str) -> i64 {
    match document.get(key) {
        Some(Bson::Int32(value)) => i64::from(*value),
        Some(Bson::Int64(value)) => *value,
        Some(Bson::Double(value)) => *value as i64,
        _ => 0,
    }
}

fn words(error: &Document) -> String {
    let text = error.get_str("errmsg").unwrap_or("no reason given");
    format!("code {}: {}", code(error), shortened(text))
}

/// Error texts quote documents.
fn shortened(text: &str) -> &str {
    const BYTES_MAX: usize = 500;
    let mut end = text.len().min(BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
