//! Looks up every name of a parsed expression before it is planned.
//!
//! Columns are found exactly as they are written, quoted or not, whatever their case; functions in any case. A name that is not found, or
//! that may not stand where it stands, becomes a fault with its place: after planning, places are lost.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, Query, Spanned,
    UnaryOperator, Value, ValueWithSpan, Visit, Visitor, visit_expressions,
};

use super::fault::{ExpressionFault, as_identifier, closest};
use super::functions::Functions;

/// Most columns that a message lists.
const LISTED_MAX: usize = 12;

/// Longest text that padding may make, in characters.
const PADDED_MAX: u64 = 65_536;

/// Most times as long as its text that what calls make of it may be.
const LONGER_MAX: u64 = 100;

/// Longest texts that are compared letter by letter with all of another, in characters.
const COMPARED_MAX: u64 = 1_024;

/// Which columns an expression sees.
pub struct Scope<'a> {
    /// Outside of aggregates.
    pub columns: Vec<&'a str>,
    /// Inside of aggregates; none where no aggregate may stand.
    pub aggregated: Option<Vec<&'a str>>,
}

/// The name that a function call is looked up by.
pub fn function_name(call: &Function) -> String {
    match call.name.0.as_slice() {
        [part] => part.as_ident().map_or_else(
            || part.to_string(),
            |ident| match ident.quote_style {
                None => ident.value.to_lowercase(),
                Some(_) => ident.value.clone(),
            },
        ),
        _ => call.name.to_string(),
    }
}

/// Checks all names of `expression`, parsed from `sql`.
pub fn check(sql: &str, expression: &Expr, functions: &Functions, scope: &Scope<'_>) -> Result<(), ExpressionFault> {
    let mut lookup = Lookup { sql, functions, scope, inside: 0 };
    match expression.visit(&mut lookup) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(fault) => Err(*fault),
    }
}

struct Lookup<'a> {
    sql: &'a str,
    functions: &'a Functions,
    scope: &'a Scope<'a>,
    /// How many aggregate calls are open.
    inside: usize,
}

type Step = ControlFlow<Box<ExpressionFault>>;

impl Visitor for Lookup<'_> {
    type Break = Box<ExpressionFault>;

    fn pre_visit_query(&mut self, query: &Query) -> Step {
        self.stop(query, "a subquery has no place here: there is nothing to query but the record")
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> Step {
        match &value.value {
            Value::Placeholder(name) => self.stop(value, format!("there are no parameters, `{name}` has no value")),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> Step {
        match expression {
            Expr::BinaryOp { op: BinaryOperator::Minus, .. } => self.hyphenated(expression),
            Expr::Identifier(name) => self.column(name),
            // The parts after the first are fields of the record that the column holds.
            Expr::CompoundIdentifier(parts) => parts.first().map_or(ControlFlow::Continue(()), |column| self.column(column)),
            Expr::Function(call) => self.enter(call),
            Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => self.stop(expression, "`*` can only stand in count(*)"),
            _ => ControlFlow::Continue(()),
        }
    }

    fn post_visit_expr(&mut self, expression: &Expr) -> Step {
        if let Expr::Function(call) = expression
            && self.functions.is_aggregate(&function_name(call))
        {
            self.inside -= 1;
        }
        ControlFlow::Continue(())
    }
}

impl Lookup<'_> {
    fn columns(&self) -> &[&str] {
        match (&self.scope.aggregated, self.inside) {
            (Some(aggregated), 1..) => aggregated,
            _ => &self.scope.columns,
        }
    }

    fn stop(&self, at: &impl Spanned, message: impl Into<String>) -> Step {
        ControlFlow::Break(Box::new(ExpressionFault::new(message).placed(self.sql, at.span().start)))
    }

    fn column(&self, name: &Ident) -> Step {
        let columns = self.columns();
        if columns.contains(&name.value.as_str()) {
            return ControlFlow::Continue(());
        }
        if self.inside == 0
            && let Some(aggregated) = &self.scope.aggregated
            && aggregated.contains(&name.value.as_str())
        {
            let message = format!("column `{}` differs from record to record, a window has one value: aggregate it", name.value);
            let suggestion = format!("max({})", as_identifier(&name.value));
            let fault = ExpressionFault::new(message).placed(self.sql, name.span.start).suggesting(Some(suggestion));
            return ControlFlow::Break(Box::new(fault));
        }
        let other_case = columns.iter().find(|column| column.eq_ignore_ascii_case(&name.value));
        let suggestion = other_case.map(|column| Ident::with_quote('"', *column).to_string()).or_else(|| {
            let alike = closest(&name.value, columns.iter().copied()).map(as_identifier);
            alike.or_else(|| name.quote_style.map(|_| format!("'{}' (text stands in single quotes)", name.value)))
        });
        let mut message = format!("unknown column `{}`", name.value);
        if suggestion.is_none() && !columns.is_empty() {
            let listed: Vec<String> = columns.iter().take(LISTED_MAX).map(|column| as_identifier(column)).collect();
            let more = if columns.len() > LISTED_MAX { ", …" } else { "" };
            message = format!("{message}, there are {}{more}", listed.join(", "));
        }
        ControlFlow::Break(Box::new(ExpressionFault::new(message).placed(self.sql, name.span.start).suggesting(suggestion)))
    }

    /// `dev-id` is a difference; when its parts are unknown and a column has the whole as its name, that was meant.
    fn hyphenated(&self, difference: &Expr) -> Step {
        let mut parts = Vec::new();
        if !names_of_difference(difference, &mut parts) {
            return ControlFlow::Continue(());
        }
        let columns = self.columns();
        let whole = parts.iter().map(|part| part.value.as_str()).collect::<Vec<_>>().join("-");
        let is_unknown = parts.iter().any(|part| !columns.contains(&part.value.as_str()));
        match columns.iter().find(|column| is_unknown && column.eq_ignore_ascii_case(&whole)) {
            None => ControlFlow::Continue(()),
            Some(column) => {
                let fault = ExpressionFault::new(format!("`{whole}` is the difference of unknown columns; a name with a hyphen is quoted"))
                    .placed(self.sql, parts[0].span.start)
                    .suggesting(Some(Ident::with_quote('"', *column).to_string()));
                ControlFlow::Break(Box::new(fault))
            }
        }
    }

    fn enter(&mut self, call: &Function) -> Step {
        let name = function_name(call);
        if call.over.is_some() {
            return self.stop(&call.name, format!("`{name}(…) OVER` needs neighbouring rows, there are none"));
        }
        if self.functions.is_aggregate(&name) {
            return self.enter_aggregate(call, &name);
        }
        if self.functions.is_unsteady(&name) {
            return self.stop(&call.name, format!("`{name}` is non-deterministic: a replay would give something else"));
        }
        if self.functions.is_scalar(&name) {
            if has_wildcard(call) {
                return self.stop(&call.name, format!("`*` can only stand in count(*), not in {name}"));
            }
            return match unbounded(call, &name) {
                Some(why) => self.stop(&call.name, why),
                None => ControlFlow::Continue(()),
            };
        }
        // Words such as `user` are parsed as calls without parentheses and may be columns.
        if let (FunctionArguments::None, [part]) = (&call.args, call.name.0.as_slice())
            && let Some(ident) = part.as_ident()
        {
            return self.column(ident);
        }
        let suggestion = closest(&name, self.functions.names()).map(str::to_owned);
        let fault = ExpressionFault::new(format!("unknown function `{name}`")).placed(self.sql, call.name.span().start);
        ControlFlow::Break(Box::new(fault.suggesting(suggestion)))
    }

    fn enter_aggregate(&mut self, call: &Function, name: &str) -> Step {
        if self.scope.aggregated.is_none() {
            return self.stop(&call.name, format!("the aggregate `{name}` has no place here, only in a window's select"));
        }
        if self.inside > 0 {
            return self.stop(&call.name, format!("the aggregate `{name}` stands inside of another"));
        }
        if let Some(why) = self.functions.refusal(name) {
            return self.stop(&call.name, why);
        }
        if name != "count" && has_wildcard(call) {
            return self.stop(&call.name, format!("`*` can only stand in count(*), not in {name}"));
        }
        self.inside += 1;
        ControlFlow::Continue(())
    }
}

/// Collects `a`, `b`, `c` of `a - b - c`; false if it is made of anything else.
fn names_of_difference<'e>(expression: &'e Expr, names: &mut Vec<&'e Ident>) -> bool {
    match expression {
        Expr::Identifier(name) if name.quote_style.is_none() => {
            names.push(name);
            true
        }
        Expr::BinaryOp { left, op: BinaryOperator::Minus, right } => names_of_difference(left, names) && names_of_difference(right, names),
        _ => false,
    }
}

/// Why a call could make a text of any length out of a small record; none if its length is bounded by constants.
fn unbounded(call: &Function, name: &str) -> Option<String> {
    let FunctionArguments::List(list) = &call.args else { return None };
    let needs = |what: String| Some(format!("`{name}` needs {what}: a record could make a text of any length"));
    // An argument that is lacking is told by the planner.
    match name {
        "lpad" | "rpad" => match whole_number(list.args.get(1)?) {
            Some(length) if length <= PADDED_MAX => None,
            _ => needs(format!("a number from 0 to {PADDED_MAX} as its second argument")),
        },
        "repeat" => match whole_number(list.args.get(1)?) {
            Some(times) if times <= LONGER_MAX => is_too_long(list, times).then(|| too_long(name)),
            _ => needs(format!("a number from 0 to {LONGER_MAX} as its second argument")),
        },
        "replace" | "regexp_replace" => match quoted(list.args.get(2)?) {
            Some(_) => is_too_long(list, longer(name, list)).then(|| too_long(name)),
            None => needs("a text in quotes as its third argument".into()),
        },
        "levenshtein" if !list.args.iter().all(is_short) => Some(format!(
            "`levenshtein` takes as long as its texts' lengths multiplied: cut both, as in left(name, 100), to {COMPARED_MAX} characters at most"
        )),
        _ => None,
    }
}

fn too_long(name: &str) -> String {
    format!(
        "`{name}`, with what it is applied to, could make a text more than {LONGER_MAX} times as long: a record could make a text of any length"
    )
}

/// Whether a call that makes a text so many times as long, and those in its arguments, make it too long together.
fn is_too_long(list: &FunctionArgumentList, times: u64) -> bool {
    let mut times = times;
    let _end: ControlFlow<()> = visit_expressions(&list.args, |expression| {
        if let Expr::Function(call) = expression
            && let FunctionArguments::List(list) = &call.args
        {
            times = times.saturating_mul(longer(&function_name(call), list).max(1));
        }
        ControlFlow::Continue(())
    });
    times > LONGER_MAX
}

/// How many times as long as its text a call's result can be.
fn longer(name: &str, list: &FunctionArgumentList) -> u64 {
    let length = |at: usize| list.args.get(at).and_then(quoted).map(|text| text.len() as u64);
    match name {
        "repeat" => list.args.get(1).and_then(whole_number).unwrap_or(u64::MAX),
        "replace" => match (length(1), length(2)) {
            (Some(from), Some(to)) if from > 0 => to.div_ceil(from),
            // Nothing at all stands before and behind each character.
            (_, to) => to.map_or(u64::MAX, |to| to + 1),
        },
        "regexp_replace" => length(2).map_or(u64::MAX, |to| to + 1),
        _ => 1,
    }
}

/// Whether a text is short whatever the record is: one in quotes, or one that is cut. `left(name, -1)` cuts off one character only.
fn is_short(argument: &FunctionArg) -> bool {
    let is_within = |length: Option<u64>| length.is_some_and(|length| (1..=COMPARED_MAX).contains(&length));
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Function(call))) => match (function_name(call).as_str(), &call.args) {
            ("left" | "right", FunctionArguments::List(list)) => is_within(list.args.get(1).and_then(whole_number)),
            ("substr", FunctionArguments::List(list)) => is_within(list.args.get(2).and_then(whole_number)),
            _ => false,
        },
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Substring { substring_for: Some(length), .. })) => {
            is_within(whole_number(&FunctionArg::Unnamed(FunctionArgExpr::Expr((**length).clone()))))
        }
        other => quoted(other).is_some_and(|text| text.chars().count() as u64 <= COMPARED_MAX),
    }
}

fn whole_number(argument: &FunctionArg) -> Option<u64> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::UnaryOp { op: UnaryOperator::Minus, .. })) => Some(0),
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value))) => match &value.value {
            Value::Number(digits, _) => digits.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

fn quoted(argument: &FunctionArg) -> Option<String> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value))) => value.value.clone().into_string(),
        _ => None,
    }
}

fn has_wildcard(call: &Function) -> bool {
    let FunctionArguments::List(list) = &call.args else { return false };
    list.args.iter().any(|argument| {
        let (FunctionArg::Named { arg, .. } | FunctionArg::ExprNamed { arg, .. } | FunctionArg::Unnamed(arg)) = argument;
        !matches!(arg, FunctionArgExpr::Expr(_))
    })
}
