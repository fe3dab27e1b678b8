//! What a window's stored bytes mean: a changed declaration must not read the old ones as its own.
//!
//! The store keeps the whole identity; each changelog's progress records carry it as text ([`WindowIdentity::recorded`]), so that either can say
//! *what* was changed, and so can whoever finds one without the other.

use serde::{Deserialize, Serialize};

/// Longest declaration that goes into progress records, in bytes: one is written for each partition and epoch.
const RECORDED_BYTES_MAX: usize = 2_048;

/// What an owner can do about a changed window (docs/adr/0015).
pub const CHANGED_REMEDY: &str = "three ways on: take the change back, and it continues; give the changed window a new name and topic, and it starts \
     beside the old one; or `testudo run --rebuild`: everything is computed anew from what the input topics still hold, and takes the old \
     results' place when it is complete";

/// Everything that decides how a window's state is keyed and encoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowIdentity {
    /// The window's name.
    pub window: String,
    /// The input topic.
    pub topic: String,
    /// Window length in microseconds.
    pub size_us: i64,
    /// Grace in microseconds: which windows are closed already depends on it.
    pub grace_us: i64,
    /// When results are let out, `updates` or `final`.
    pub emit: String,
    /// Names and types of the key columns.
    pub by: Vec<String>,
    /// The aggregates as SQL.
    pub aggregates: Vec<String>,
    /// Names and types of the state columns.
    pub state: Vec<String>,
}

impl WindowIdentity {
    /// What differs from `stored`, in words; `None` when nothing does.
    pub fn difference(&self, stored: &Self) -> Option<String> {
        let mut differences = Vec::new();
        if self.size_us != stored.size_us {
            differences.push(format!("its size was {} s and is {} s", seconds(stored.size_us), seconds(self.size_us)));
        }
        if self.grace_us != stored.grace_us {
            differences.push(format!("its grace was {} s and is {} s", seconds(stored.grace_us), seconds(self.grace_us)));
        }
        if self.emit != stored.emit {
            differences.push(format!("it emitted {} and emits {}", stored.emit, self.emit));
        }
        for (what, now, then) in [
            ("key columns", &self.by, &stored.by),
            ("aggregates", &self.aggregates, &stored.aggregates),
            ("state columns", &self.state, &stored.state),
        ] {
            if now != then {
                differences.push(format!("its {what} were [{}] and are [{}]", then.join(", "), now.join(", ")));
            }
        }
        (!differences.is_empty()).then(|| differences.join("; "))
    }

    /// The identity as progress records carry it: its fingerprint, then the declaration as JSON unless that is long.
    pub fn recorded(&self) -> String {
        let fingerprint = self.fingerprint();
        match serde_json::to_string(self) {
            Ok(json) if json.len() <= RECORDED_BYTES_MAX => format!("{fingerprint} {json}"),
            _ => fingerprint,
        }
    }

    /// A short text that changes when the identity does.
    pub fn fingerprint(&self) -> String {
        let text = format!("{self:?}");
        format!("{:08x}{:08x}", crc32fast::hash(text.as_bytes()), crc32fast::hash(text.chars().rev().collect::<String>().as_bytes()))
    }
}

/// What was changed since `then` was [recorded](WindowIdentity::recorded), in words; `None` when nothing was. Records of older versions hold a
/// fingerprint alone: then it is known that something was, but not what.
pub fn changed(now: &str, then: &str) -> Option<String> {
    let parts = |recorded: &str| {
        let (fingerprint, json) = recorded.split_once(' ').unwrap_or((recorded, ""));
        (fingerprint.to_owned(), serde_json::from_str::<WindowIdentity>(json).ok())
    };
    let ((now, declared), (then, known)) = (parts(now), parts(then));
    if now == then {
        return None;
    }
    let difference = declared.zip(known).and_then(|(declared, known)| declared.difference(&known));
    Some(difference.unwrap_or_else(|| "its declaration is another one".into()))
}

/// The parts of a [difference](WindowIdentity::difference), each with the key below `window.<name>` that it is declared under.
pub fn parts(difference: &str) -> Vec<(&'static str, &str)> {
    const KEYS: [(&str, &str); 6] = [
        ("its size", "over.tumbling"),
        ("its grace", "grace"),
        ("it emitted", "emit"),
        ("its key columns", "by"),
        ("its aggregates", "select"),
        ("its state columns", "select"),
    ];
    let key_of = |part: &str| KEYS.iter().find(|(beginning, _)| part.starts_with(beginning)).map(|(_, key)| *key);
    difference.split("; ").filter_map(|part| Some((key_of(part)?, part))).collect()
}

fn seconds(us: i64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_window_says_what_changed() {
        let stored = WindowIdentity {
            window: "w".into(),
            topic: "t".into(),
            size_us: 60_000_000,
            grace_us: 0,
            emit: "updates".into(),
            by: vec!["dev-id Utf8".into()],
            aggregates: vec!["avg(temperature)".into()],
            state: vec!["a0 UInt64".into()],
        };
        let now = WindowIdentity { size_us: 300_000_000, aggregates: vec!["max(temperature)".into()], ..stored.clone() };

        assert_eq!(stored.difference(&stored), None);
        assert_eq!(
            now.difference(&stored).as_deref(),
            Some("its size was 60 s and is 300 s; its aggregates were [avg(temperature)] and are [max(temperature)]")
        );
        let keys: Vec<&str> = parts(&now.difference(&stored).expect("two differences")).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["over.tumbling", "select"]);
        assert_ne!(now.fingerprint(), stored.fingerprint());
        assert_eq!(changed(&now.recorded(), &now.recorded()), None);
        assert_eq!(changed(&now.recorded(), &stored.recorded()), now.difference(&stored));
    }

    #[test]
    fn a_record_of_an_older_version_still_tells_whether_something_was_changed() {
        let stored = WindowIdentity {
            window: "w".into(),
            topic: "t".into(),
            size_us: 60_000_000,
            grace_us: 0,
            emit: "updates".into(),
            by: Vec::new(),
            aggregates: vec!["x".repeat(3_000)],
            state: Vec::new(),
        };
        let now = WindowIdentity { size_us: 1, ..stored.clone() };

        assert_eq!(stored.recorded(), stored.fingerprint(), "too long to be carried whole");
        assert_eq!(changed(&stored.recorded(), &stored.fingerprint()), None);
        assert_eq!(changed(&now.recorded(), &stored.fingerprint()).as_deref(), Some("its declaration is another one"));
    }
}
