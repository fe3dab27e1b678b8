//! What a window is keyed by: expressions that name a column each, and contain the source's key (KEY-1).

use arrow::datatypes::DataType;

use super::source::{SourceColumns, SourceDraft, is_text};
use super::sql;
use crate::avro::encode::avro_name;
use crate::tenant::aggregate::{WINDOW_END, WINDOW_START};
use crate::tenant::expression::types::sql_type;
use crate::tenant::expression::{Compiler, Expression};
use crate::tenant::file::{RawSource, RawWindow};
use crate::tenant::located::{Findings, Located};
use crate::tenant::names;

/// Names in results that are not the tenant's to give.
pub(super) const RESERVED: [&str; 4] = [WINDOW_START, WINDOW_END, "window", "_id"];

/// Fields of a window's document, which its key columns stand beside.
const OF_DOCUMENTS: [&str; 4] = ["origin", "source", "schema_id", "tenant_version"];

/// Checks a window's `by`; names and expressions of those that are right.
pub(super) fn check(
    raw: &RawWindow,
    raw_source: &RawSource,
    source: &SourceDraft,
    columns: &SourceColumns,
    compiler: &Compiler,
    findings: &mut Findings,
) -> Vec<(String, Expression)> {
    let mut by: Vec<(String, Expression)> = Vec::with_capacity(raw.by.len());
    let mut are_all_known = true;
    for item in &raw.by {
        let Some(expression) = sql::scalar(item, columns, compiler, findings) else {
            are_all_known = false;
            continue;
        };
        match name_of(item, &expression, &by) {
            Ok(name) => by.push((name, expression)),
            Err(why) => {
                are_all_known = false;
                findings.fault(item, why);
            }
        }
    }
    if let (Some(key), Some(first), true) = (&source.key, raw.by.first(), are_all_known)
        && !by.iter().any(|(_, expression)| is_same(expression, key))
    {
        findings
            .fault(
                first,
                format!(
                    "`by` does not contain the source's key {}, so one window's records could lie in several partitions (KEY-1)",
                    key.sql()
                ),
            )
            .help(format!(
                "add {} to it, or re-key the topics by {} and declare that as {}.key",
                key.sql(),
                first.value,
                raw_source.name.key
            ));
    }
    by
}

/// The column name of a part of the key, which must be of a type that has one form only.
fn name_of(item: &Located<String>, expression: &Expression, earlier: &[(String, Expression)]) -> Result<String, String> {
    let data_type = expression.data_type();
    let is_keyable = is_text(data_type)
        || data_type.is_integer()
        || matches!(data_type, DataType::Boolean | DataType::Date32 | DataType::Date64 | DataType::Timestamp(..));
    if !is_keyable {
        return Err(format!("a window's key is of texts, integers, booleans, dates and timestamps, this is {}", sql_type(data_type)));
    }
    let [name] = expression.columns() else {
        let count = expression.columns().len();
        return Err(format!("a part of a window's key is named by its column, and `{}` is of {count} columns", item.value));
    };
    names::check_column(name)?;
    if RESERVED.contains(&name.as_str()) || OF_DOCUMENTS.contains(&name.as_str()) {
        return Err(format!("`{name}` is a name of the results' own: rename the column in the source's `columns`"));
    }
    if let Some((other, _)) = earlier.iter().find(|(other, _)| avro_name(other) == avro_name(name)) {
        return Err(format!("`{name}` and `{other}` would have one name in results"));
    }
    Ok(name.clone())
}

/// Whether two expressions are the same but for spacing, quoting of plain columns, and upper or lower case.
fn is_same(one: &Expression, other: &Expression) -> bool {
    one.columns() == other.columns() && normalised(one.sql()) == normalised(other.sql())
}

/// The text without spaces and double quotes, in lower case outside of quotes.
fn normalised(sql: &str) -> String {
    let mut quote = None;
    let mut text = String::with_capacity(sql.len());
    for letter in sql.chars() {
        match quote {
            Some(open) if open == letter => quote = None,
            None if matches!(letter, '"' | '\'') => quote = Some(letter),
            None if letter.is_whitespace() => continue,
            _ => {}
        }
        match letter {
            '"' => {}
            letter if quote == Some('\'') => text.push(letter),
            letter => text.extend(letter.to_lowercase()),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_does_not_make_a_key_another() {
        assert_eq!(normalised(" \"devId\" "), normalised("devId"));
        assert_eq!(normalised("CAST( id AS varchar)"), normalised("cast(id as VARCHAR)"));
        assert_ne!(normalised("id || 'A b'"), normalised("id || 'ab'"));
    }
}
