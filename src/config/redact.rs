//! What may not be shown: settings that are secret by their name, passwords inside addresses, and every text that repeats one.
//!
//! Secrets are known by key and by value, so that a password also vanishes from a message that quotes it (C133).

use super::tree::{Given, Node};

/// What stands in a secret's place.
pub const HIDDEN: &str = "********";
/// Shorter secrets are not looked for in texts: everything would match.
const SEARCHED_BYTES_MIN: usize = 4;

/// Of `sasl.*`, where anything else may be a secret: names, and how it is proved who one is.
const PUBLIC_OF_SASL: [&str; 8] = [
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.username",
    "sasl.kerberos.service.name",
    "sasl.kerberos.principal",
    "sasl.oauthbearer.method",
    "sasl.oauthbearer.scope",
    "sasl.oauthbearer.client.id",
];

/// Whether a setting of that key holds a secret. A user's name and a file's path are none: blotted out of every text they would take whole
/// words of it along.
pub fn is_secret_key(key: &str) -> bool {
    let key = key.to_lowercase();
    let names =
        ["password", "passwd", "passphrase", "secret", "token", "credential", "api_key", "api.key", "apikey", "private_key", "webhook_url"];
    let is_named = names.iter().any(|name| key.contains(name));
    let is_sasl = key.starts_with("sasl.") && !PUBLIC_OF_SASL.contains(&key.as_str());
    is_named || is_sasl || key.starts_with("ssl.key") && !key.ends_with(".location")
}

/// Whether `<key>_file` may name a file that holds the setting: secrets, and addresses that may contain one.
pub fn may_come_from_file(key: &str) -> bool {
    is_secret_key(key) || key.starts_with("sasl.") || matches!(key, "uri" | "url" | "user" | "username")
}

/// Replaces the password of every address `scheme://user:password@host` in `text`; user names stay.
fn without_passwords(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        // The last @ before a blank ends the password, which may hold any sign: rather hide too much.
        let word = after.split(char::is_whitespace).next().unwrap_or_default();
        let user = word.rfind('@').map_or("", |at| &word[..at]);
        match user.split_once(':') {
            Some((name, _)) => shown.extend([name, ":", HIDDEN]),
            None => shown.push_str(user),
        }
        rest = &after[user.len()..];
    }
    shown.push_str(rest);
    shown
}

/// The secrets of one configuration.
#[derive(Clone, Default)]
pub struct Secrets {
    values: Vec<String>,
}

impl Secrets {
    /// Collects the secrets of a tree.
    pub fn of(tree: &Node) -> Self {
        let mut values = Vec::new();
        for (path, leaf) in tree.leaves() {
            let text = text_of(&leaf.given);
            values.extend(password_of(&text).map(str::to_owned));
            if path.iter().any(|key| is_secret_key(key)) {
                values.push(text);
            }
        }
        values.retain(|value| value.len() >= SEARCHED_BYTES_MIN);
        // A secret that contains another goes first.
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self { values }
    }

    /// `text` without any secret.
    pub fn scrub(&self, text: &str) -> String {
        let scrubbed = self.values.iter().fold(text.to_owned(), |text, value| text.replace(value.as_str(), HIDDEN));
        without_passwords(&scrubbed)
    }
}

/// A value as plain text.
pub fn text_of(given: &Given) -> String {
    match given {
        Given::Text(text) | Given::Typed(toml::Value::String(text)) => text.clone(),
        Given::Typed(value) => value.to_string(),
    }
}

fn password_of(text: &str) -> Option<&str> {
    let (_, after) = text.split_once("://")?;
    let (user, _) = after.rsplit_once('@')?;
    user.split_once(':').map(|(_, password)| password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_vanish_from_addresses_and_users_stay() {
        let shown = without_passwords("failed to reach mongodb://zoo:p@ss/word@db:27017/x?a=1 and http://registry:8081/a@b");

        assert!(shown.starts_with("failed to reach mongodb://zoo:********@db:27017/x?a=1 and http://"), "{shown}");
        assert!(!shown.contains("p@ss") && !shown.contains("word@"), "{shown}");
    }

    #[test]
    fn an_address_without_a_password_is_shown_as_it_is() {
        let text = "http://registry:8081/apis/ccompat/v7";

        assert_eq!(without_passwords(text), text);
    }

    #[test]
    fn keys_are_secret_by_their_name() {
        for key in
            ["password", "sasl.password", "sasl.jaas.config", "ssl.key.pem", "bearer_token", "client_secret", "ssl.keystore.password"]
        {
            assert!(is_secret_key(key), "{key}");
        }
        let public = ["sasl.mechanism", "sasl.username", "sasl.kerberos.service.name", "ssl.key.location", "ssl.ca.location"];
        for key in ["bootstrap", "security.protocol", "partitioner"].into_iter().chain(public) {
            assert!(!is_secret_key(key), "{key}");
        }
    }
}
