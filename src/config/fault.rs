//! What is wrong with the configuration: all of it at once, each with the place it comes from.

use std::fmt;

use super::tree::{Origin, Path, dotted};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The setting, if it is one setting's fault.
    pub path: Path,
    /// Who gave it.
    pub origin: Option<Origin>,
    /// What is wrong and what to do; never the value of a secret.
    pub text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            f.write_str(&dotted(&self.path))?;
            if let Some(origin) = &self.origin {
                write!(f, " ({origin})")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.text)
    }
}

/// Everything that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration is not usable")?;
        for fault in &self.0 {
            write!(f, "\n  {fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// The known name that `name` was probably meant to be.
pub fn suggestion<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.into_iter().map(|other| (strsim::damerau_levenshtein(name, other), other));
    near.filter(|(distance, other)| *distance <= 1 + other.len() / 4).min().map(|(_, other)| other)
}
