//! From SQL text to typed expressions: the audit's own reading of what the tenant wrote.
//!
//! The parser is shared with the engine, nothing after it is. What this file does not know is not guessed: it is reported as
//! [`Unaudited`], and the branch that needs it is left out with a warning.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    self, BinaryOperator, CastKind, CeilFloorKind, DateTimeField, FunctionArg, FunctionArgExpr, FunctionArguments, UnaryOperator,
};
use datafusion_sql::sqlparser::dialect::GenericDialect;
use datafusion_sql::sqlparser::parser::Parser;

use super::aggregate::Aggregate;
use super::eval::{Comparison, Expr};
use super::sql_steps::{
    align, beside_decimals, boolean, call, column, compare, convert, exact, in_own_unit, interval_ns, is_one_of_its_arguments, literal,
    meet, must_be_condition, not, number, sql_type, text_literal, to_timestamp, unknown,
};
use super::time::Unit;
use super::types::{self, Arithmetic, Type};
use super::value::Value;

/// Something that the audit does not recompute.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not audited: {0}")]
pub struct Unaudited(pub String);

/// An expression and its type.
#[derive(Clone, Debug)]
pub struct Typed {
    /// The expression.
    pub expr: Expr,
    /// Its type.
    pub kind: Type,
}

/// A column that expressions can name.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: Type,
}

/// Compiles `sql` over `columns`.
///
/// # Errors
/// [`Unaudited`] when it holds something that the audit does not know.
pub fn compile(sql: &str, columns: &[Column]) -> Result<Typed, Unaudited> {
    Compiler { columns, aggregates: None }.expr(&parse(sql)?)
}

/// Compiles a select expression: aggregate calls go over `source`, everything else over `finished` with one more column for each call.
///
/// # Errors
/// As [`compile`].
pub fn compile_select(sql: &str, source: &[Column], finished: &[Column], aggregates: &mut Vec<Aggregate>) -> Result<Typed, Unaudited> {
    let mut of_window = AggregateScope { source, aggregates, first: finished.len() };
    Compiler { columns: finished, aggregates: Some(&mut of_window) }.expr(&parse(sql)?)
}

/// Whether the aggregates of a select expression take columns as they stand, all of them: then no record fails on one, whatever it is.
pub fn takes_plain_columns(sql: &str) -> bool {
    let Ok(parsed) = parse(sql) else { return false };
    let is_plain = |argument: &FunctionArg| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(of)) => matches!(of, ast::Expr::Identifier(_) | ast::Expr::Value(_)),
        other => matches!(other, FunctionArg::Unnamed(FunctionArgExpr::Wildcard)),
    };
    let are_plain = |call: &ast::Function| match &call.args {
        FunctionArguments::List(list) => call.filter.is_none() && list.clauses.is_empty() && list.args.iter().all(is_plain),
        _ => true,
    };
    let found = ast::visit_expressions(&parsed, |expr| match expr {
        ast::Expr::Function(call) if super::aggregate::is_aggregate(&call.name.to_string().to_lowercase()) && !are_plain(call) => {
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    });
    found.is_continue()
}

fn parse(sql: &str) -> Result<ast::Expr, Unaudited> {
    let unreadable = |error| Unaudited(format!("`{sql}` does not parse: {error}"));
    Parser::new(&GenericDialect {}).try_with_sql(sql).map_err(unreadable)?.parse_expr().map_err(unreadable)
}

struct AggregateScope<'a> {
    source: &'a [Column],
    aggregates: &'a mut Vec<Aggregate>,
    first: usize,
}

struct Compiler<'a, 'b> {
    columns: &'a [Column],
    aggregates: Option<&'b mut AggregateScope<'a>>,
}

impl Compiler<'_, '_> {
    fn expr(&mut self, expr: &ast::Expr) -> Result<Typed, Unaudited> {
        use ast::Expr as Sql;
        match expr {
            Sql::Nested(inner) => self.expr(inner),
            Sql::Identifier(name) => column(name, self.columns),
            Sql::Value(value) => literal(&value.value),
            Sql::TypedString(typed) => match &typed.value.value {
                ast::Value::SingleQuotedString(text) => convert(text_literal(text), sql_type(&typed.data_type)?),
                _ => Err(unknown(expr)),
            },
            Sql::UnaryOp { op, expr: inner } => self.unary(op, inner),
            Sql::BinaryOp { left, op, right } => self.binary(left, op, right),
            Sql::Between { expr: inner, negated, low, high } => {
                let (value, low, high) = (self.expr(inner)?, self.expr(low)?, self.expr(high)?);
                let value = self.narrow(inner, value, low.expr.is_constant() && high.expr.is_constant())?;
                let from = compare(Comparison::GreaterOrEqual, value.clone(), low)?;
                let to = compare(Comparison::LessOrEqual, value, high)?;
                let within = Expr::And(Box::new(from), Box::new(to));
                Ok(if *negated { not(within) } else { boolean(within) })
            }
            Sql::InList { expr: inner, list, negated } => self.in_list(inner, list, *negated),
            Sql::Like { negated, any: false, expr: inner, pattern, escape_char: None } => self.like(inner, pattern, true, *negated),
            Sql::ILike { negated, any: false, expr: inner, pattern, escape_char: None } => self.like(inner, pattern, false, *negated),
            Sql::Case { operand, conditions, else_result, .. } => self.case(operand.as_deref(), conditions, else_result.as_deref()),
            Sql::Cast { kind: CastKind::Cast | CastKind::DoubleColon, expr: inner, data_type, format: None, .. } => {
                let inner = self.expr(inner)?;
                let kind = in_own_unit(&inner, sql_type(data_type)?);
                convert(inner, kind)
            }
            Sql::AtTimeZone { timestamp, time_zone } => self.at_time_zone(timestamp, time_zone),
            Sql::Function(function) => self.function(function),
            other => self.test(other),
        }
    }

    /// The instant itself; no zone other than UTC, in which it would be another one.
    fn at_time_zone(&mut self, timestamp: &ast::Expr, zone: &ast::Expr) -> Result<Typed, Unaudited> {
        let is_utc = match zone {
            ast::Expr::Value(zone) => matches!(&zone.value, ast::Value::SingleQuotedString(zone) if zone == "UTC" || zone == "+00:00"),
            _ => false,
        };
        if !is_utc {
            return Err(Unaudited(format!("time zone {zone}")));
        }
        let instant = self.expr(timestamp)?;
        let kind = in_own_unit(&instant, Type::Timestamp(Unit::Nano, true));
        convert(instant, kind)
    }

    /// `IS …`.
    fn test(&mut self, expr: &ast::Expr) -> Result<Typed, Unaudited> {
        use ast::Expr as Sql;
        match expr {
            Sql::IsNull(inner) => Ok(boolean(Expr::IsNull(Box::new(self.expr(inner)?.expr)))),
            Sql::IsNotNull(inner) => Ok(not(Expr::IsNull(Box::new(self.expr(inner)?.expr)))),
            Sql::IsTrue(inner) => self.is_bool(inner, true).map(boolean),
            Sql::IsFalse(inner) => self.is_bool(inner, false).map(boolean),
            Sql::IsNotTrue(inner) => self.is_bool(inner, true).map(not),
            Sql::IsNotFalse(inner) => self.is_bool(inner, false).map(not),
            Sql::IsUnknown(inner) => Ok(boolean(Expr::IsNull(Box::new(self.condition(inner)?)))),
            Sql::IsNotUnknown(inner) => Ok(not(Expr::IsNull(Box::new(self.condition(inner)?)))),
            Sql::IsDistinctFrom(left, right) => self.same(left, right).map(not),
            Sql::IsNotDistinctFrom(left, right) => self.same(left, right).map(boolean),
            other => self.special_call(other),
        }
    }

    /// Functions with a syntax of their own.
    fn special_call(&mut self, expr: &ast::Expr) -> Result<Typed, Unaudited> {
        use ast::Expr as Sql;
        match expr {
            Sql::Extract { field, expr: inner, .. } => {
                let part = text_literal(&field.to_string());
                let instant = self.expr(inner)?;
                call("date_part", vec![part, instant])
            }
            Sql::Ceil { expr: inner, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
                let inner = self.expr(inner)?;
                call("ceil", vec![inner])
            }
            Sql::Floor { expr: inner, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
                let inner = self.expr(inner)?;
                call("floor", vec![inner])
            }
            Sql::Substring { expr: inner, substring_from, substring_for, .. } => {
                let mut arguments = vec![self.expr(inner)?];
                for part in [substring_from, substring_for].into_iter().flatten() {
                    arguments.push(self.expr(part)?);
                }
                call("substr", arguments)
            }
            Sql::Trim { trim_where, trim_what: None, expr: inner, trim_characters: None } => {
                let name = match trim_where {
                    Some(ast::TrimWhereField::Leading) => "ltrim",
                    Some(ast::TrimWhereField::Trailing) => "rtrim",
                    _ => "btrim",
                };
                let inner = self.expr(inner)?;
                call(name, vec![inner])
            }
            other => Err(unknown(other)),
        }
    }

    fn condition(&mut self, expr: &ast::Expr) -> Result<Expr, Unaudited> {
        must_be_condition(expr, self.expr(expr)?)
    }

    fn is_bool(&mut self, expr: &ast::Expr, wanted: bool) -> Result<Expr, Unaudited> {
        Ok(Expr::IsBool(Box::new(self.condition(expr)?), wanted))
    }

    fn same(&mut self, left: &ast::Expr, right: &ast::Expr) -> Result<Expr, Unaudited> {
        let (left, right) = self.sides(left, right)?;
        let (left, right) = align(left, right)?;
        Ok(Expr::Same(Box::new(left), Box::new(right)))
    }

    fn unary(&mut self, operator: &UnaryOperator, inner: &ast::Expr) -> Result<Typed, Unaudited> {
        match (operator, inner) {
            (UnaryOperator::Not, _) => Ok(not(self.condition(inner)?)),
            (UnaryOperator::Plus, _) => self.expr(inner),
            (UnaryOperator::Minus, ast::Expr::Value(value)) => match &value.value {
                ast::Value::Number(digits, _) => number(&format!("-{digits}")),
                _ => Err(unknown(inner)),
            },
            (UnaryOperator::Minus, _) => {
                let inner = self.expr(inner)?;
                if !inner.kind.is_numeric() {
                    return Err(Unaudited(format!("minus {:?}", inner.kind)));
                }
                Ok(Typed { expr: Expr::Negate(Box::new(inner.expr)), kind: inner.kind })
            }
            _ => Err(Unaudited(format!("operator {operator}"))),
        }
    }

    fn binary(&mut self, left: &ast::Expr, operator: &BinaryOperator, right: &ast::Expr) -> Result<Typed, Unaudited> {
        let comparison = match operator {
            BinaryOperator::And => {
                let (left, right) = (self.condition(left)?, self.condition(right)?);
                return Ok(boolean(Expr::And(Box::new(left), Box::new(right))));
            }
            BinaryOperator::Or => {
                let (left, right) = (self.condition(left)?, self.condition(right)?);
                return Ok(boolean(Expr::Or(Box::new(left), Box::new(right))));
            }
            BinaryOperator::StringConcat => {
                let arguments = vec![self.expr(left)?, self.expr(right)?];
                return call("||", arguments);
            }
            BinaryOperator::Plus => return self.arithmetic(left, Arithmetic::Add, right),
            BinaryOperator::Minus => return self.arithmetic(left, Arithmetic::Subtract, right),
            BinaryOperator::Multiply => return self.arithmetic(left, Arithmetic::Multiply, right),
            BinaryOperator::Divide => return self.arithmetic(left, Arithmetic::Divide, right),
            BinaryOperator::Modulo => return self.arithmetic(left, Arithmetic::Remainder, right),
            BinaryOperator::Eq => Comparison::Equal,
            BinaryOperator::NotEq => Comparison::NotEqual,
            BinaryOperator::Lt => Comparison::Less,
            BinaryOperator::LtEq => Comparison::LessOrEqual,
            BinaryOperator::Gt => Comparison::Greater,
            BinaryOperator::GtEq => Comparison::GreaterOrEqual,
            other => return Err(Unaudited(format!("operator {other}"))),
        };
        let (left, right) = self.sides(left, right)?;
        Ok(boolean(compare(comparison, left, right)?))
    }

    /// Both sides of a comparison.
    fn sides(&mut self, left: &ast::Expr, right: &ast::Expr) -> Result<(Typed, Typed), Unaudited> {
        let (of_left, of_right) = (self.expr(left)?, self.expr(right)?);
        let of_left = self.narrow(left, of_left, of_right.expr.is_constant())?;
        let of_right = self.narrow(right, of_right, of_left.expr.is_constant())?;
        Ok((of_left, of_right))
    }

    /// What is compared, compiled as `typed`: a call or `CASE` over a 32-bit column and constants is of 32 bits against constants (C75).
    fn narrow(&mut self, expr: &ast::Expr, typed: Typed, is_against_constants: bool) -> Result<Typed, Unaudited> {
        if !is_against_constants || typed.kind != Type::Double {
            return Ok(typed);
        }
        Ok(self.in_32_bits(expr)?.unwrap_or(typed))
    }

    fn in_32_bits(&mut self, expr: &ast::Expr) -> Result<Option<Typed>, Unaudited> {
        let function = match expr {
            ast::Expr::Nested(inner) => return self.in_32_bits(inner),
            ast::Expr::Function(function) => function,
            ast::Expr::Case { operand, conditions, else_result, .. } => {
                let Some(results) = self.all_in_32_bits(results(conditions, else_result.as_deref()))? else { return Ok(None) };
                return self.case_of(operand.as_deref(), conditions, results).map(Some);
            }
            _ => return Ok(None),
        };
        let name = function.name.to_string().to_lowercase();
        if !is_one_of_its_arguments(&name) {
            return Ok(None);
        }
        let arguments = self.all_in_32_bits(argument_exprs(function)?)?;
        arguments.map(|arguments| call(&name, arguments)).transpose()
    }

    /// Values of which one has a column, if all are of 32 bits once their constants are.
    fn all_in_32_bits(&mut self, values: Vec<&ast::Expr>) -> Result<Option<Vec<Typed>>, Unaudited> {
        let mut all = Vec::with_capacity(values.len());
        for value in values {
            let typed = match self.in_32_bits(value)? {
                Some(narrowed) => narrowed,
                None => self.expr(value)?,
            };
            all.push(rounded(typed, Type::Float)?);
        }
        let is_real = all.iter().all(|value| matches!(value.kind, Type::Float | Type::Null));
        let has_column = !all.iter().all(|value| value.expr.is_constant());
        Ok((is_real && has_column).then_some(all))
    }

    fn arithmetic(&mut self, left: &ast::Expr, operator: Arithmetic, right: &ast::Expr) -> Result<Typed, Unaudited> {
        if let ast::Expr::Interval(interval) = right {
            let sign = match operator {
                Arithmetic::Add => 1,
                Arithmetic::Subtract => -1,
                _ => return Err(unknown(right)),
            };
            let instant = self.expr(left)?;
            return match instant.kind {
                Type::Timestamp(..) => {
                    Ok(Typed { expr: Expr::Shift(Box::new(instant.expr), sign * interval_ns(interval)?), kind: instant.kind })
                }
                other => Err(Unaudited(format!("{other:?} and an interval"))),
            };
        }
        let (left, right) = (self.expr(left)?, self.expr(right)?);
        let unknown = || Unaudited(format!("{operator:?} of {:?} and {:?}", left.kind, right.kind));
        let (of_left, of_right, kind) = types::arithmetic(operator, left.kind, right.kind).ok_or_else(unknown)?;
        let (left, right) = (convert(left, of_left)?.expr, convert(right, of_right)?.expr);
        Ok(Typed { expr: Expr::Arithmetic(operator, kind, Box::new(left), Box::new(right)), kind })
    }

    fn in_list(&mut self, inner: &ast::Expr, list: &[ast::Expr], negated: bool) -> Result<Typed, Unaudited> {
        let value = self.expr(inner)?;
        let items: Vec<Typed> = list.iter().map(|item| self.expr(item)).collect::<Result<_, _>>()?;
        let value = self.narrow(inner, value, items.iter().all(|item| item.expr.is_constant()))?;
        let items: Vec<Typed> =
            items.into_iter().map(|item| Ok(exact(rounded(item, value.kind)?, value.kind))).collect::<Result<_, Unaudited>>()?;
        let kind = items.iter().try_fold(value.kind, |kind, item| meet(&Typed { expr: value.expr.clone(), kind }, item))?;
        let items = items.into_iter().map(|item| Ok(convert(item, kind)?.expr)).collect::<Result<_, Unaudited>>()?;
        let found = Expr::In(Box::new(convert(value, kind)?.expr), items);
        Ok(if negated { not(found) } else { boolean(found) })
    }

    fn like(&mut self, inner: &ast::Expr, pattern: &ast::Expr, is_case_sensitive: bool, negated: bool) -> Result<Typed, Unaudited> {
        let (text, pattern) = (self.expr(inner)?, self.expr(pattern)?);
        if text.kind != Type::Text || pattern.kind != Type::Text {
            return Err(Unaudited(format!("{:?} like {:?}", text.kind, pattern.kind)));
        }
        let found = Expr::Like(Box::new(text.expr), Box::new(pattern.expr), is_case_sensitive);
        Ok(if negated { not(found) } else { boolean(found) })
    }

    fn case(
        &mut self,
        operand: Option<&ast::Expr>,
        conditions: &[ast::CaseWhen],
        otherwise: Option<&ast::Expr>,
    ) -> Result<Typed, Unaudited> {
        let results = results(conditions, otherwise).into_iter().map(|result| self.expr(result)).collect::<Result<_, _>>()?;
        self.case_of(operand, conditions, results)
    }

    /// A `CASE` with these results: one for each condition, and what comes otherwise if that is given.
    fn case_of(&mut self, operand: Option<&ast::Expr>, conditions: &[ast::CaseWhen], results: Vec<Typed>) -> Result<Typed, Unaudited> {
        let wanted: Vec<Typed> = conditions.iter().map(|when| self.expr(&when.condition)).collect::<Result<_, _>>()?;
        let operand = match operand {
            Some(operand) => {
                let value = self.expr(operand)?;
                Some(self.narrow(operand, value, wanted.iter().all(|wanted| wanted.expr.is_constant()))?)
            }
            None => None,
        };
        let mut results = beside_decimals(results).into_iter();
        let mut whens = Vec::with_capacity(conditions.len());
        for ((when, wanted), result) in conditions.iter().zip(wanted).zip(results.by_ref()) {
            let condition = match &operand {
                Some(operand) => compare(Comparison::Equal, operand.clone(), wanted)?,
                None => must_be_condition(&when.condition, wanted)?,
            };
            whens.push((condition, result));
        }
        let otherwise = results.next().unwrap_or(Typed { expr: Expr::Literal(Value::Null), kind: Type::Null });
        let unknown = || Unaudited("a CASE of several types".into());
        let kind = whens.iter().try_fold(otherwise.kind, |kind, (_, result)| types::common(kind, result.kind)).ok_or_else(unknown)?;
        let whens =
            whens.into_iter().map(|(condition, result)| Ok((condition, convert(result, kind)?.expr))).collect::<Result<_, Unaudited>>()?;
        Ok(Typed { expr: Expr::Case(whens, Box::new(convert(otherwise, kind)?.expr)), kind })
    }

    fn function(&mut self, function: &ast::Function) -> Result<Typed, Unaudited> {
        let name = function.name.to_string().to_lowercase();
        if let Some(scope) = self.aggregates.as_mut()
            && super::aggregate::is_aggregate(&name)
        {
            let aggregate = Aggregate::compile(&name, function, scope.source)?;
            let kind = aggregate.kind;
            let known = scope.aggregates.iter().position(|known| known.is_same(&aggregate));
            let index = known.unwrap_or_else(|| {
                scope.aggregates.push(aggregate);
                scope.aggregates.len() - 1
            });
            return Ok(Typed { expr: Expr::Column(scope.first + index), kind });
        }
        if function.filter.is_some() || function.over.is_some() || function.null_treatment.is_some() || !function.within_group.is_empty() {
            return Err(Unaudited(format!("function {function}")));
        }
        let arguments = self.arguments(function)?;
        match (name.as_str(), arguments.as_slice()) {
            (
                "to_timestamp" | "to_timestamp_seconds" | "to_timestamp_millis" | "to_timestamp_micros" | "to_timestamp_nanos",
                [argument],
            ) => to_timestamp(&name, argument.clone()),
            ("nullif", [of, unwanted]) if of.kind == Type::Float && unwanted.kind == Type::Double && unwanted.expr.is_constant() => {
                let unwanted = convert(convert(unwanted.clone(), Type::Float)?, Type::Double)?;
                call(&name, vec![of.clone(), unwanted])
            }
            _ => call(&name, arguments),
        }
    }

    fn arguments(&mut self, function: &ast::Function) -> Result<Vec<Typed>, Unaudited> {
        argument_exprs(function)?.into_iter().map(|argument| self.expr(argument)).collect()
    }
}

/// A constant of 64 bits that meets a value of 32 is rounded to that (C75).
fn rounded(constant: Typed, to_meet: Type) -> Result<Typed, Unaudited> {
    let gives_way = to_meet == Type::Float && constant.kind == Type::Double && constant.expr.is_constant();
    if gives_way { convert(constant, Type::Float) } else { Ok(constant) }
}

/// What a `CASE` may come to, in the order of its branches.
fn results<'e>(conditions: &'e [ast::CaseWhen], otherwise: Option<&'e ast::Expr>) -> Vec<&'e ast::Expr> {
    conditions.iter().map(|when| &when.result).chain(otherwise).collect()
}

/// A call's plain arguments.
///
/// # Errors
/// [`Unaudited`] for named arguments, subqueries and `*`.
pub fn argument_exprs(function: &ast::Function) -> Result<Vec<&ast::Expr>, Unaudited> {
    let FunctionArguments::List(list) = &function.args else {
        return Err(Unaudited(format!("function {function}")));
    };
    let plain = |argument| match argument {
        &FunctionArg::Unnamed(FunctionArgExpr::Expr(ref expr)) => Ok(expr),
        _ => Err(Unaudited(format!("arguments of {function}"))),
    };
    list.args.iter().map(plain).collect()
}

/// Compiles a part of an aggregate call over the source's columns.
///
/// # Errors
/// As [`compile`].
pub fn compile_parsed(expr: &ast::Expr, columns: &[Column]) -> Result<Typed, Unaudited> {
    Compiler { columns, aggregates: None }.expr(expr)
}

#[cfg(test)]
#[path = "sql_tests.rs"]
mod tests;
