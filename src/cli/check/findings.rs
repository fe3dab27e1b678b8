//! What was found, told line by line as it is found.

use crate::cli::exit::Exit;

/// Collects findings; each is printed at once, so that a check that hangs shows where.
#[derive(Debug, Default)]
pub(super) struct Findings {
    failures: Vec<Exit>,
    total: usize,
}

impl Findings {
    /// It fits.
    pub(super) fn fine(&mut self, text: impl AsRef<str>) {
        self.total += 1;
        println!("✓ {}", text.as_ref());
    }

    /// It does not: why, and what to do.
    pub(super) fn wrong(&mut self, exit: Exit, cause: impl AsRef<str>, remedy: impl AsRef<str>) {
        self.total += 1;
        self.failures.push(exit);
        println!("✗ {}\n    {}", cause.as_ref(), remedy.as_ref());
    }

    /// It could not be looked at.
    pub(super) fn skipped(&mut self, text: impl AsRef<str>) {
        println!("– {}", text.as_ref());
    }

    /// Number of things that do not fit.
    pub(super) fn failed(&self) -> usize {
        self.failures.len()
    }

    /// Number of things that were looked at.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// The exit code of the failure that is to be mended first: what cannot be reached comes before what does not fit.
    pub(super) fn worst(&self) -> Option<Exit> {
        self.failures.iter().copied().min_by_key(|exit| *exit as u8)
    }
}

/// The exit code for a client's words: refused, or not reached.
pub(super) fn exit_for(words: &str) -> Exit {
    // librdkafka's words begin with the broker's name, which has the protocol in it.
    let words = words.to_lowercase().replace("sasl_ssl://", "").replace("sasl_plaintext://", "");
    let is_refusal = ["authoriz", "authentic", "sasl", "unauthorized", "not allowed"].iter().any(|sign| words.contains(sign));
    if is_refusal { Exit::Forbidden } else { Exit::Unreachable }
}

/// What to do about it.
pub(super) fn remedy_for(exit: Exit, reach: &'static str, permit: &'static str) -> &'static str {
    if exit == Exit::Forbidden { permit } else { reach }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_reached_is_mended_before_what_does_not_fit() {
        let mut findings = Findings::default();
        findings.wrong(Exit::Incompatible, "topic missing", "create it");
        findings.wrong(Exit::Unreachable, "no broker", "start it");

        assert_eq!(findings.worst(), Some(Exit::Unreachable));
    }

    #[test]
    fn a_refusal_is_told_from_silence() {
        assert_eq!(exit_for("Broker: Topic authorization failed"), Exit::Forbidden);
        assert_eq!(exit_for("SASL authentication error"), Exit::Forbidden);
        assert_eq!(exit_for("Local: Broker transport failure"), Exit::Unreachable);
        let silent = "sasl_ssl://kafka-1:9093/bootstrap: Connect to ipv4#10.0.0.1:9093 failed: Connection refused";
        assert_eq!(exit_for(silent), Exit::Unreachable);
        assert_eq!(exit_for("sasl_ssl://kafka-1:9093/bootstrap: SASL authentication error: invalid credentials"), Exit::Forbidden);
    }
}
