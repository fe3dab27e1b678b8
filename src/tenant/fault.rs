//! What is wrong with tenants' files: every mistake at once, each with its place, the line it stands in and what to do.

use std::fmt;
use std::path::PathBuf;

/// Longest part of a line that is shown, in characters.
const EXCERPT_CHARS_MAX: usize = 120;

/// How much of a long line is shown before the place, in characters.
const EXCERPT_CHARS_BEFORE: usize = 40;

/// One mistake, or one thing that is worth a warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The tenant file, as it was named to the checker.
    pub file: PathBuf,
    /// Where in the file.
    pub position: Position,
    /// The dotted key, such as `alert.battery_low.where`; empty when it is the file as a whole.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// The text that is at fault.
    pub excerpt: Option<Excerpt>,
}

/// Where a fault lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Position {
    /// The file as a whole.
    File,
    /// A place in the file; both count from 1, columns in characters.
    At {
        /// Line.
        line: usize,
        /// Column.
        column: usize,
    },
    /// Not in the file: the value was given from outside, over the file's.
    Override,
}

/// A line with a part that is underlined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    line: String,
    start: usize,
    length: usize,
}

impl Excerpt {
    /// `length` characters of `line`, from its character `start` (counted from 0).
    pub fn new(line: &str, start: usize, length: usize) -> Self {
        let length = length.min(line.chars().count().saturating_sub(start)).max(1);
        if line.chars().count() <= EXCERPT_CHARS_MAX {
            return Self { line: printable(line), start, length };
        }
        let from = start.saturating_sub(EXCERPT_CHARS_BEFORE);
        let shown: String = line.chars().skip(from).take(EXCERPT_CHARS_MAX).collect();
        Self {
            line: format!("…{}…", printable(&shown)), start: start - from + 1, length: length.min(EXCERPT_CHARS_MAX - (start - from))
        }
    }
}

impl Fault {
    /// A fault of a file as a whole.
    pub fn of_file(file: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            position: Position::File,
            key: String::new(),
            message: printable(&message.into()),
            help: None,
            excerpt: None,
        }
    }

    /// Says what to do.
    pub fn help(&mut self, text: impl Into<String>) {
        self.help = Some(printable(&text.into()));
    }

    /// Suggests the one of `known` that was probably meant, if one is near; true when it does.
    pub fn suggest<'a>(&mut self, written: &str, known: impl IntoIterator<Item = &'a str>) -> bool {
        let Some(near) = nearest(written, known) else { return false };
        self.help(format!("did you mean `{near}`?"));
        true
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Position::At { line, column } = self.position {
            write!(f, ":{line}:{column}")?;
        }
        f.write_str(": ")?;
        if !self.key.is_empty() {
            let origin = if self.position == Position::Override { " (given from outside the file)" } else { "" };
            write!(f, "{}{origin}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        if let Some(excerpt) = &self.excerpt {
            let indent: String = excerpt.line.chars().take(excerpt.start).map(|letter| if letter == '\t' { '\t' } else { ' ' }).collect();
            write!(f, "\n  {}\n  {indent}{}", excerpt.line, "^".repeat(excerpt.length))?;
        }
        match (&self.help, &self.excerpt) {
            (Some(help), Some(_)) => write!(f, " {help}"),
            (Some(help), None) => write!(f, "\n  {help}"),
            (None, _) => Ok(()),
        }
    }
}

/// Everything that is wrong, file by file in the order of places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            write!(f, "{}{fault}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// The known name that `written` was probably meant to be.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |name: &str| name.replace('-', "_").to_lowercase();
    let distances = known.into_iter().map(|name| (strsim::damerau_levenshtein(&plain(written), &plain(name)), name));
    distances.filter(|(distance, name)| *distance <= 1 + name.chars().count() / 4).min().map(|(_, name)| name)
}

/// Text from a file, safe for a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() && letter != '\t' { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_reads_as_a_compilers() {
        let mut fault = Fault::of_file("tenants/zoo.toml", "unknown column `batery`");
        fault.position = Position::At { line: 14, column: 10 };
        fault.key = "alert.battery_low.where".into();
        fault.excerpt = Some(Excerpt::new("where = \"batery < 2000\"", 9, 6));
        assert!(fault.suggest("batery", ["humidity", "battery"]));

        insta::assert_snapshot!(fault, @r#"
        tenants/zoo.toml:14:10: alert.battery_low.where: unknown column `batery`
          where = "batery < 2000"
                   ^^^^^^ did you mean `battery`?
        "#);
    }

    #[test]
    fn a_long_line_is_shown_around_the_place() {
        let excerpt = Excerpt::new(&format!("{}WRONG{}", "a".repeat(500), "b".repeat(500)), 500, 5);

        let underlined: String = excerpt.line.chars().skip(excerpt.start).take(excerpt.length).collect();
        assert_eq!(underlined, "WRONG");
        assert!(excerpt.line.chars().count() <= EXCERPT_CHARS_MAX + 2);
    }

    #[test]
    fn text_of_a_file_cannot_steer_a_terminal() {
        assert_eq!(Fault::of_file("a.toml", "bad\u{1b}[2Jname").to_string(), "a.toml: bad\u{fffd}[2Jname");
    }

    #[test]
    fn nearest_takes_hyphens_for_underscores_and_refuses_strangers() {
        assert_eq!(nearest("wher", ["from", "where", "topic"]), Some("where"));
        assert_eq!(nearest("Dev-Id", ["time", "dev_id"]), Some("dev_id"));
        assert_eq!(nearest("colour", ["from", "where", "topic"]), None);
    }
}
