//! Which names are legal: for tenants and branches, Kafka topics, MongoDB databases and collections, columns of results.

/// Longest topic name.
///
/// # Source
/// `org.apache.kafka.common.internals.Topic`.
const TOPIC_CHARS_MAX: usize = 249;

/// Longest database name, in bytes.
const DATABASE_BYTES_MAX: usize = 63;

/// Longest `database.collection`, in bytes.
const NAMESPACE_BYTES_MAX: usize = 255;

/// Longest column name: names are repeated in every document.
const COLUMN_BYTES_MAX: usize = 255;

/// Names of tenants, sources, alerts and windows: they become parts of topic names, ids and folders.
pub(super) fn check_own(name: &str) -> Result<(), String> {
    let is_legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    if name.is_empty() || !name.bytes().all(is_legal) {
        return Err(format!("`{name}` is not a legal name: names here are of a to z, 0 to 9, `_` and `-`"));
    }
    if !name.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return Err(format!("`{name}` must begin with a letter or digit"));
    }
    Ok(())
}

/// Names of Kafka topics.
pub(super) fn check_topic(name: &str) -> Result<(), String> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.len() > TOPIC_CHARS_MAX {
        return Err(format!("topic name of {} characters: Kafka allows {TOPIC_CHARS_MAX} (`{name}`)", name.len()));
    }
    if name.is_empty() || name == "." || name == ".." || !name.bytes().all(is_legal) {
        return Err(format!("`{name}` is not a legal topic name: Kafka allows letters, digits, `.`, `_` and `-`"));
    }
    if name == "__consumer_offsets" || name == "__transaction_state" {
        return Err(format!("`{name}` is Kafka's own"));
    }
    Ok(())
}

/// Names of MongoDB databases.
///
/// # Source
/// MongoDB manual, limits: naming restrictions; the stricter rules of Windows servers.
pub(super) fn check_database(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > DATABASE_BYTES_MAX {
        return Err(format!("database name of {} bytes: MongoDB allows 1 to {DATABASE_BYTES_MAX} (`{name}`)", name.len()));
    }
    if let Some(letter) = name.chars().find(|letter| r#"/\. "$*<>:|?"#.contains(*letter) || letter.is_control()) {
        return Err(format!("`{name}` is not a legal database name: MongoDB does not allow `{letter}`"));
    }
    if ["admin", "local", "config"].contains(&name.to_lowercase().as_str()) {
        return Err(format!("database `{name}` is MongoDB's own"));
    }
    Ok(())
}

/// Names of MongoDB collections.
///
/// # Source
/// MongoDB manual, limits: restriction on collection names.
pub(super) fn check_collection(database: &str, name: &str) -> Result<(), String> {
    if name.is_empty() || name.contains('$') || name.chars().any(char::is_control) {
        return Err(format!("`{name}` is not a legal collection name: MongoDB does not allow `$`, control characters, or nothing at all"));
    }
    if name.starts_with("system.") || name.starts_with('.') || name.ends_with('.') || name.contains("..") {
        return Err(format!("`{name}` is not a legal collection name: no `system.` in front, no dot first, last or twice"));
    }
    if is_of_generation(name) {
        return Err(format!("collection `{name}` ends as those do that a rebuild fills: `.g` and a number"));
    }
    let bytes = database.len() + 1 + name.len();
    if bytes > NAMESPACE_BYTES_MAX {
        return Err(format!("`{database}.{name}` has {bytes} bytes: MongoDB allows {NAMESPACE_BYTES_MAX}"));
    }
    Ok(())
}

/// Whether a topic or collection is named as those are that a rebuild fills: `.g` and a number at its end.
pub(super) fn is_of_generation(name: &str) -> bool {
    name.rsplit_once(".g").is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Names of columns in results, which become field names in Avro and MongoDB.
pub(super) fn check_column(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > COLUMN_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(format!("a column name has 1 to {COLUMN_BYTES_MAX} bytes and no control characters (`{name}`)"));
    }
    if name.contains('.') {
        return Err(format!("`{name}` holds a dot, which MongoDB takes for a path into a document"));
    }
    if name.starts_with('$') {
        return Err(format!("`{name}` begins with a dollar, which MongoDB takes for an operator"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_names_are_safe_everywhere() {
        assert!(["zoo", "zoo_2", "7-up"].iter().all(|name| check_own(name).is_ok()));
        assert!(["", "Zoo", "zoo.a", "z o", "ä", "_zoo", "-", "a/b"].iter().all(|name| check_own(name).is_err()));
    }

    #[test]
    fn topics_follow_kafkas_rules() {
        assert!(check_topic(&"a".repeat(249)).is_ok());
        assert!(
            ["a".repeat(250).as_str(), "", ".", "..", "a b", "a/b", "ä", "__consumer_offsets"]
                .iter()
                .all(|name| check_topic(name).is_err())
        );
    }

    #[test]
    fn databases_and_collections_follow_mongodbs_rules() {
        assert!(check_database("stream_zoo").is_ok());
        assert!(["a".repeat(64).as_str(), "", "a.b", "a b", "Admin", "a$"].iter().all(|name| check_database(name).is_err()));
        assert!(check_collection("db", "a.b").is_ok());
        assert!(
            ["", "a$b", "system.x", "a..b", ".a", "a.g2", "c".repeat(253).as_str()]
                .iter()
                .all(|name| check_collection("db", name).is_err())
        );
    }

    #[test]
    fn columns_hold_no_dot_and_no_leading_dollar() {
        // C91
        assert!(check_column("dev-id").is_ok() && check_column("price$").is_ok());
        assert!(["avg.temp", "$avg", "", "a\0b"].iter().all(|name| check_column(name).is_err()));
    }
}
