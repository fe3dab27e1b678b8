//! Places: where a value of a declaration was given, down to one character inside a quoted text.

use std::ops::Range;
use std::path::PathBuf;

use super::fault::{Excerpt, Fault, Position};

/// Where something was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// Bytes of the tenant file.
    File(Range<usize>),
    /// From outside, over the file: shown as the assignment that was made.
    Override(String),
}

/// A value, its dotted key and its place.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) key: String,
    pub(super) at: At,
}

impl<T> Located<T> {
    /// Another value of the same place.
    pub(super) fn with<U>(&self, value: U) -> Located<U> {
        Located { value, key: self.key.clone(), at: self.at.clone() }
    }
}

/// A tenant file's text, and what was found wrong with it.
#[derive(Debug)]
pub(super) struct Findings {
    file: PathBuf,
    text: String,
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<Fault>,
}

impl Findings {
    /// None so far. `text` has no byte order mark.
    pub(super) fn new(file: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self { file: file.into(), text: text.into(), faults: Vec::new(), warnings: Vec::new() }
    }

    /// The file.
    pub(super) fn file(&self) -> &std::path::Path {
        &self.file
    }

    /// The file's text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Notes a fault of a place.
    pub(super) fn fault_at(&mut self, at: &At, key: &str, message: impl Into<String>) -> &mut Fault {
        let fault = self.at(at, key, message.into());
        push(&mut self.faults, fault)
    }

    /// Notes a fault of a value.
    pub(super) fn fault<T>(&mut self, value: &Located<T>, message: impl Into<String>) -> &mut Fault {
        self.fault_at(&value.at, &value.key, message)
    }

    /// Notes a fault at a character of a text, counted from 1; without it, of the text as a whole.
    pub(super) fn fault_inside(&mut self, value: &Located<String>, character: Option<usize>, message: impl Into<String>) -> &mut Fault {
        let fault = match (character.and_then(|character| character.checked_sub(1)), &value.at) {
            (Some(index), At::File(span)) if index < value.value.chars().count() => {
                let raw = self.text.get(span.clone()).unwrap_or_default();
                let length = word_length(&value.value, index);
                let (from, to) = (raw_offset(raw, index), raw_offset(raw, index + length));
                self.at(&At::File(span.start + from..span.start + to), &value.key, message.into())
            }
            _ => self.at(&value.at, &value.key, message.into()),
        };
        push(&mut self.faults, fault)
    }

    /// Notes a warning about a value.
    pub(super) fn warn<T>(&mut self, value: &Located<T>, message: impl Into<String>) -> &mut Fault {
        let warning = self.at(&value.at, &value.key, message.into());
        push(&mut self.warnings, warning)
    }

    fn at(&self, at: &At, key: &str, message: String) -> Fault {
        let mut fault = Fault::of_file(&self.file, message);
        fault.key = key.to_owned();
        match at {
            At::Override(assignment) => {
                fault.position = Position::Override;
                let start = assignment.find(" = ").map_or(0, |equals| assignment[..equals].chars().count() + 3);
                fault.excerpt = Some(Excerpt::new(assignment, start, assignment.chars().count() - start));
            }
            At::File(span) => {
                let (line, column, line_text) = place(&self.text, span.start);
                fault.position = Position::At { line, column };
                let end = span.end.clamp(span.start, self.text.len());
                let length = self.text.get(span.start..end).map_or(1, |part| part.lines().next().unwrap_or_default().chars().count());
                fault.excerpt = Some(Excerpt::new(line_text, column - 1, length));
            }
        }
        fault
    }
}

fn push(faults: &mut Vec<Fault>, fault: Fault) -> &mut Fault {
    faults.push(fault);
    faults.last_mut().expect("one was pushed just now")
}

/// Line and column (from 1, in characters) of a byte, and the line's text.
fn place(text: &str, offset: usize) -> (usize, usize, &str) {
    let offset = (0..=offset.min(text.len())).rev().find(|offset| text.is_char_boundary(*offset)).unwrap_or(0);
    let before = &text[..offset];
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line_text = text[start..].lines().next().unwrap_or_default();
    (before.matches('\n').count() + 1, before[start..].chars().count() + 1, line_text)
}

/// Length in characters of the word or quoted name that starts at character `index`.
fn word_length(text: &str, index: usize) -> usize {
    let mut letters = text.chars().skip(index);
    let is_word = |letter: &char| letter.is_alphanumeric() || *letter == '_';
    match letters.next() {
        Some(quote @ ('"' | '\'')) => letters.position(|letter| letter == quote).map_or(1, |closing| closing + 2),
        Some(letter) if is_word(&letter) => 1 + letters.take_while(is_word).count(),
        _ => 1,
    }
}

/// Byte offset, within a TOML string as written, of character `index` of the text that it means.
fn raw_offset(raw: &str, index: usize) -> usize {
    let (opening, has_escapes) = match raw.as_bytes() {
        [b'"', b'"', b'"', ..] => (3, true),
        [b'\'', b'\'', b'\'', ..] => (3, false),
        [b'"', ..] => (1, true),
        [b'\'', ..] => (1, false),
        _ => (0, false),
    };
    let mut offset = opening;
    if opening == 3 {
        // A line break right after the opening quotes is not part of the text.
        offset += ["\r\n", "\n"].iter().find(|newline| raw[opening..].starts_with(**newline)).map_or(0, |newline| newline.len());
    }
    let mut left = index;
    while let Some(letter) = raw[offset..].chars().next() {
        let rest = &raw[offset..];
        let is_escape = has_escapes && letter == '\\';
        if is_escape && rest[1..].starts_with(char::is_whitespace) {
            offset += 1 + (rest.len() - 1 - rest[1..].trim_start().len());
            continue;
        }
        if left == 0 {
            break;
        }
        left -= 1;
        offset += if is_escape { escape_length(rest) } else { letter.len_utf8() };
    }
    offset
}

/// Bytes of the escape that `rest` starts with.
fn escape_length(rest: &str) -> usize {
    let length = match rest.as_bytes().get(1) {
        Some(b'x') => 4,
        Some(b'u') => 6,
        Some(b'U') => 10,
        _ => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
    };
    length.min(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_is_found_in_every_way_to_quote() {
        let cases = [
            (r#""ab = c""#, 5, "c"),
            (r"'ab = c'", 5, "c"),
            (r#""\"dev-id\" = c""#, 11, "c"),
            (r#""\u00e4\tc""#, 2, "c"),
            ("\"\"\"\nab\nc\"\"\"", 3, "c"),
            ("\"\"\"ab \\\n   c\"\"\"", 3, "c"),
            ("'''\r\nabc'''", 2, "c"),
            (r#""äöc""#, 2, "c"),
        ];

        for (raw, index, found) in cases {
            assert!(raw[raw_offset(raw, index)..].starts_with(found), "{raw}: {}", &raw[raw_offset(raw, index)..]);
        }
    }

    #[test]
    fn columns_count_characters_and_the_word_is_underlined() {
        let text = "a = 1\n\"wärme\" = \"\\\"dev-id\\\" > batery\"\n";
        let start = text.find("\"\\\"").expect("the value");
        let value = Located { value: "\"dev-id\" > batery".to_owned(), key: "k".into(), at: At::File(start..text.len() - 1) };
        let mut findings = Findings::new("t.toml", text);

        let fault = findings.fault_inside(&value, Some(12), "unknown column").to_string();

        assert_eq!(fault, "t.toml:2:25: k: unknown column\n  \"wärme\" = \"\\\"dev-id\\\" > batery\"\n                          ^^^^^^");
    }
}
