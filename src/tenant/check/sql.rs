//! Compiling a tenant's expressions, and carrying the compiler's faults to their place in the file.

use crate::tenant::expression::{Compiler, Expression, ExpressionFault};
use crate::tenant::located::{Findings, Located};

use super::source::SourceColumns;

/// Compiles a condition over a source's columns.
pub(super) fn condition(
    sql: &Located<String>,
    columns: &SourceColumns,
    compiler: &Compiler,
    findings: &mut Findings,
) -> Option<Expression> {
    match compiler.condition(&sql.value, &columns.schema) {
        Ok(expression) => {
            for warning in compiler.warnings(&sql.value, &columns.schema) {
                findings.warn(sql, warning);
            }
            Some(expression)
        }
        Err(fault) => {
            report(fault, sql, columns, findings);
            None
        }
    }
}

/// Compiles an expression of any type over a source's columns.
pub(super) fn scalar(sql: &Located<String>, columns: &SourceColumns, compiler: &Compiler, findings: &mut Findings) -> Option<Expression> {
    match compiler.scalar(&sql.value, &columns.schema) {
        Ok(expression) => Some(expression),
        Err(fault) => {
            report(fault, sql, columns, findings);
            None
        }
    }
}

/// Notes what the compiler said, at its place; a column that cannot be used is named with the reason.
pub(super) fn report(fault: ExpressionFault, sql: &Located<String>, columns: &SourceColumns, findings: &mut Findings) {
    let named = fault.column.map(|column| name_at(&sql.value, column)).unwrap_or_default();
    if let Some((name, why)) = columns.unusable.iter().find(|(name, _)| *name == named) {
        findings.fault_inside(sql, fault.column, format!("column `{name}` cannot be used: {why}"));
        return;
    }
    let noted = findings.fault_inside(sql, fault.column, fault.message);
    if let Some(suggestion) = fault.suggestion {
        // A remark in parentheses may follow what is to be written.
        let (written, remark) = suggestion.find(" (").map_or((suggestion.as_str(), ""), |at| suggestion.split_at(at));
        noted.help(format!("did you mean `{written}`{remark}?"));
    }
}

/// The name, without quotes, that starts at a character (from 1).
fn name_at(sql: &str, column: usize) -> String {
    let mut letters = sql.chars().skip(column.saturating_sub(1)).peekable();
    if letters.next_if_eq(&'"').is_some() {
        return letters.take_while(|letter| *letter != '"').collect();
    }
    letters.take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}
