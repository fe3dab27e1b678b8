//! What a window's stored bytes mean: a changed declaration must not read the old ones as its own.

use serde::{Deserialize, Serialize};

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

    /// A short text that changes when the identity does.
    pub fn fingerprint(&self) -> String {
        let text = format!("{self:?}");
        format!("{:08x}{:08x}", crc32fast::hash(text.as_bytes()), crc32fast::hash(text.chars().rev().collect::<String>().as_bytes()))
    }
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
        assert_ne!(now.fingerprint(), stored.fingerprint());
    }
}
