//! What is wrong with an expression, where in its text, and what might have been meant.

use std::fmt;

use datafusion_common::{DataFusionError, SchemaError};
use datafusion_sql::sqlparser::ast::Ident;
use datafusion_sql::sqlparser::dialect::GenericDialect;
use datafusion_sql::sqlparser::tokenizer::{Location, Token, Tokenizer};

use super::types::in_sql_words;

/// How alike two names must be for one to be suggested for the other: 1 is equal, 0 has nothing in common.
const ALIKE: f64 = 0.5;

/// What the crates below put before their messages.
const PREAMBLES: [&str; 7] = [
    "sql parser error: ",
    "Error during planning: ",
    "This feature is not implemented: ",
    "Internal error: ",
    "Execution error: ",
    "Arrow error: ",
    "Optimizer rule 'simplify_expressions' failed\ncaused by\n",
];

/// A mistake in an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpressionFault {
    /// What is wrong, lowercase, without the place.
    pub message: String,
    /// The character of the text where it begins, counted from 1 over all lines.
    pub column: Option<usize>,
    /// What to write there instead.
    pub suggestion: Option<String>,
}

impl fmt::Display for ExpressionFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(column) = self.column {
            write!(f, " at character {column}")?;
        }
        if let Some(suggestion) = &self.suggestion {
            write!(f, "; did you mean {suggestion}?")?;
        }
        Ok(())
    }
}

impl std::error::Error for ExpressionFault {}

impl ExpressionFault {
    /// A fault of the whole text.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), column: None, suggestion: None }
    }

    /// The fault, placed where `location` says.
    pub(super) fn placed(mut self, sql: &str, location: Location) -> Self {
        self.column = character(sql, location.line, location.column);
        self
    }

    pub(super) fn suggesting(mut self, suggestion: Option<String>) -> Self {
        self.suggestion = suggestion;
        self
    }

    /// What the SQL parser, the planner or the type checker said about `sql`.
    pub(in crate::tenant) fn of_engine(sql: &str, error: &DataFusionError) -> Self {
        let diagnosed = error.diagnostic().and_then(|diagnostic| diagnostic.span);
        let text = match error.find_root() {
            DataFusionError::SchemaError(error, _) => match error.as_ref() {
                SchemaError::FieldNotFound { field, .. } => format!("unknown column `{}`", field.name),
                other => other.to_string(),
            },
            DataFusionError::SQL(error, _) => error.to_string(),
            other => other.strip_backtrace(),
        };
        let (message, place) = tidy(&text);
        let place = diagnosed.map(|span| (span.start.line, span.start.column)).or(place);
        Self { message, column: place.and_then(|(line, column)| character(sql, line, column)), suggestion: None }
    }
}

/// Cuts a message to what concerns the text: no crate's preamble, SQL's type names, and the place apart.
fn tidy(text: &str) -> (String, Option<(u64, u64)>) {
    let text = text.split("\nThis issue was likely caused by").next().unwrap_or(text);
    let mut text = text.trim();
    while let Some(cut) = PREAMBLES.iter().find_map(|preamble| text.strip_prefix(preamble)) {
        text = cut;
    }
    if text.ends_with("Cannot cast timezone to different timezone") {
        return ("the time zone has no such local time, or has it twice".to_owned(), None);
    }
    if let Some((_, call)) = text.split_once("No function matches the given name and argument types '") {
        let call = call.split('\'').next().unwrap_or(call);
        return (format!("no function fits the types of {}", in_sql_words(call)), None);
    }
    let (text, place) = match text.rfind(" at Line: ") {
        None => (text, None),
        Some(at) => {
            let mut numbers = text[at..].split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse::<u64>().ok());
            (&text[..at], numbers.next().zip(numbers.next()))
        }
    };
    let message = in_sql_words(text.trim_end_matches('.').trim());
    let mut letters = message.chars();
    let message = match letters.next() {
        Some(first) if letters.clone().next().is_none_or(|second| !second.is_uppercase()) => first.to_lowercase().chain(letters).collect(),
        _ => message.clone(),
    };
    (message, place)
}

/// The number of the character at a line and column, all counted from 1; none for the parser's "nowhere".
fn character(sql: &str, line: u64, column: u64) -> Option<usize> {
    let (line, column) = (usize::try_from(line).ok()?.checked_sub(1)?, usize::try_from(column).ok()?);
    if column == 0 {
        return None;
    }
    let before: usize = sql.split('\n').take(line).map(|text| text.chars().count() + 1).sum();
    Some(before + column)
}

/// The name most like `name`, if any is like it.
pub(super) fn closest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    candidates
        .map(|candidate| (strsim::normalized_damerau_levenshtein(&candidate.to_lowercase(), &lower), candidate))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, candidate)| candidate)
}

/// A column's name as it must be written in SQL: in quotes unless it is one plain word.
pub fn as_identifier(name: &str) -> String {
    let is_one_word = match Tokenizer::new(&GenericDialect {}, name).tokenize().as_deref() {
        Ok([Token::Word(word)]) => word.quote_style.is_none() && word.value == name,
        _ => false,
    };
    if is_one_word { name.to_owned() } else { Ident::with_quote('"', name).to_string() }
}
