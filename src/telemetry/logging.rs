//! Log lines to stderr: one event is one line, whatever is in its values.
//!
//! A value can come from a record (a device id, a broken schema's text), so it may hold line feeds that forge a line or
//! escape sequences that act on a terminal. They are escaped where the finished line is written, so that no way of logging a
//! value gets around it. Records of the `log` crate (client libraries) take the same path.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::settings::{Format, Settings};

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingFault {
    /// `log.level` is not understood.
    #[error("failed to read log.level `{level}`: {cause}; use a level such as `info`, or `info,testudo::engine=debug`")]
    Level {
        /// What was configured.
        level: String,
        /// Why it is refused.
        cause: String,
    },
    /// Somebody else has set a global subscriber.
    #[error("failed to set up logging: {0}")]
    Taken(String),
}

/// Sends log lines of this process to stderr from now on.
///
/// # Errors
/// [`LoggingFault`]: the level is not understood, or logging was set up before.
pub fn setup(settings: &Settings) -> Result<(), LoggingFault> {
    let level = |cause: String| LoggingFault::Level { level: settings.level.clone(), cause };
    let filter = EnvFilter::try_new(&settings.level).map_err(|error| level(error.to_string()))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(Stderr);
    let is_json = match settings.format {
        Format::Json => true,
        Format::Text => false,
        Format::Auto => !io::stderr().is_terminal(),
    };
    let outcome = if is_json { lines.json().flatten_event(true).try_init() } else { lines.compact().try_init() };
    outcome.map_err(|error| LoggingFault::Taken(error.to_string()))
}

/// Stderr, a line at a time.
struct Stderr;

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Escaping<io::StderrLock<'static>>;

    fn make_writer(&'a self) -> Self::Writer {
        Escaping(io::stderr().lock())
    }
}

/// Writes a line with its control characters escaped, except the line feed at its end.
struct Escaping<W>(W);

impl<W: Write> Write for Escaping<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // tracing-subscriber hands over a whole line, which is UTF-8.
        let text = String::from_utf8_lossy(line);
        let (body, end) = text.strip_suffix('\n').map_or((text.as_ref(), ""), |body| (body, "\n"));
        if body.contains(is_harmful) {
            self.0.write_all(escaped(body).as_bytes())?;
        } else {
            self.0.write_all(body.as_bytes())?;
        }
        self.0.write_all(end.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Control characters, line separators, and marks that turn the direction of writing.
fn is_harmful(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_harmful(character) {
            // The four-digit form is also valid inside a JSON text.
            out.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(line: &str) -> String {
        let mut out = Vec::new();
        Escaping(&mut out).write_all(line.as_bytes()).expect("memory takes all");
        String::from_utf8(out).expect("escaping keeps UTF-8")
    }

    #[test]
    fn a_line_feed_in_a_value_does_not_start_a_line() {
        assert_eq!(written("late device=d1\nERROR forged\n"), "late device=d1\\u000aERROR forged\n");
    }

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(written("device=\u{1b}[2J\u{9b}31m\u{202e}\n"), "device=\\u001b[2J\\u009b31m\\u202e\n");
    }

    #[test]
    fn ordinary_text_is_untouched() {
        assert_eq!(written("température=20 °C 亀\n"), "température=20 °C 亀\n");
    }

    #[test]
    fn a_level_that_is_none_is_refused_with_its_text() {
        let settings = Settings { level: "testudo=loud".into(), format: Format::Text };

        let fault = setup(&settings).expect_err("loud is no level");

        assert!(fault.to_string().contains("`testudo=loud`"), "{fault}");
    }
}
