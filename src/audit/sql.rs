//! From SQL text to typed expressions: the audit's own reading of what the tenant wrote.
//!
//! The parser is shared with the engine, nothing after it is. What this file does not know is not guessed: it is reported as
//! [`Unaudited`], and the branch that needs it is left out with a warning.

use datafusion_sql::sqlparser::ast::{
    self, BinaryOperator, CastKind, CeilFloorKind, DataType, DateTimeField, ExactNumberInfo, FunctionArg, FunctionArgExpr, FunctionArguments,
    Ident, TimezoneInfo, UnaryOperator,
};
use datafusion_sql::sqlparser::dialect::GenericDialect;
use datafusion_sql::sqlparser::parser::Parser;

use super::aggregate::Aggregate;
use super::cast;
use super::eval::{Comparison, Expr};
use super::functions;
use super::time::{self, Unit};
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
            Sql::Between { expr: inner, negated, low, high } => {
                let (value, low, high) = (self.expr(inner)?, self.expr(low)?, self.expr(high)?);
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
            Sql::AtTimeZone { timestamp, time_zone } => match &**time_zone {
                Sql::Value(zone) if matches!(&zone.value, ast::Value::SingleQuotedString(zone) if matches!(zone.as_str(), "UTC" | "+00:00" | "Z")) => {
                    let instant = self.expr(timestamp)?;
                    let kind = in_own_unit(&instant, Type::Timestamp(Unit::Nano, true));
                    convert(instant, kind)
                }
                _ => Err(Unaudited(format!("time zone {time_zone}"))),
            },
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
            Sql::Function(function) => self.function(function),
            other => Err(unknown(other)),
        }
    }

    fn condition(&mut self, expr: &ast::Expr) -> Result<Expr, Unaudited> {
        let typed = self.expr(expr)?;
        match typed.kind {
            Type::Bool | Type::Null => Ok(typed.expr),
            other => Err(Unaudited(format!("{expr} is {other:?} where a condition is needed"))),
        }
    }

    fn is_bool(&mut self, expr: &ast::Expr, wanted: bool) -> Result<Expr, Unaudited> {
        Ok(Expr::IsBool(Box::new(self.condition(expr)?), wanted))
    }

    fn same(&mut self, left: &ast::Expr, right: &ast::Expr) -> Result<Expr, Unaudited> {
        let (left, right) = align(self.expr(left)?, self.expr(right)?)?;
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
        Ok(boolean(compare(comparison, self.expr(left)?, self.expr(right)?)?))
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
                Type::Timestamp(..) => Ok(Typed { expr: Expr::Shift(Box::new(instant.expr), sign * interval_ns(interval)?), kind: instant.kind }),
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

    fn case(&mut self, operand: Option<&ast::Expr>, conditions: &[ast::CaseWhen], otherwise: Option<&ast::Expr>) -> Result<Typed, Unaudited> {
        let operand = operand.map(|operand| self.expr(operand)).transpose()?;
        let mut whens = Vec::with_capacity(conditions.len());
        for when in conditions {
            let condition = match &operand {
                Some(operand) => compare(Comparison::Equal, operand.clone(), self.expr(&when.condition)?)?,
                None => self.condition(&when.condition)?,
            };
            whens.push((condition, self.expr(&when.result)?));
        }
        let otherwise = match otherwise {
            Some(otherwise) => self.expr(otherwise)?,
            None => Typed { expr: Expr::Literal(Value::Null), kind: Type::Null },
        };
        let kinds = whens.iter().map(|(_, result)| result.kind);
        let unknown = || Unaudited("a CASE of several types".into());
        let kind = kinds.fold(Some(otherwise.kind), |kind, other| types::common(kind?, other)).ok_or_else(unknown)?;
        let whens = whens.into_iter().map(|(condition, result)| Ok((condition, convert(result, kind)?.expr))).collect::<Result<_, Unaudited>>()?;
        Ok(Typed { expr: Expr::Case(whens, Box::new(convert(otherwise, kind)?.expr)), kind })
    }

    fn function(&mut self, function: &ast::Function) -> Result<Typed, Unaudited> {
        let name = function.name.to_string().to_lowercase();
        if let Some(scope) = self.aggregates.as_mut()
            && super::aggregate::is_aggregate(&name)
        {
            let aggregate = Aggregate::compile(&name, function, scope.source)?;
            let kind = aggregate.kind;
            let known = scope.aggregates.iter().position(|known| known.sql == aggregate.sql);
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
            ("to_timestamp" | "to_timestamp_seconds" | "to_timestamp_millis" | "to_timestamp_micros" | "to_timestamp_nanos", [argument]) => {
                to_timestamp(&name, argument.clone())
            }
            _ => call(&name, arguments),
        }
    }

    fn arguments(&mut self, function: &ast::Function) -> Result<Vec<Typed>, Unaudited> {
        argument_exprs(function)?.into_iter().map(|argument| self.expr(argument)).collect()
    }
}

/// A call's plain arguments.
///
/// # Errors
/// [`Unaudited`] for named arguments, subqueries and `*`.
pub fn argument_exprs(function: &ast::Function) -> Result<Vec<&ast::Expr>, Unaudited> {
    let FunctionArguments::List(list) = &function.args else { return Err(Unaudited(format!("function {function}"))) };
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

fn unknown(expr: &ast::Expr) -> Unaudited {
    Unaudited(format!("expression {expr}"))
}

fn boolean(expr: Expr) -> Typed {
    Typed { expr, kind: Type::Bool }
}

fn not(expr: Expr) -> Typed {
    boolean(Expr::Not(Box::new(expr)))
}

fn text_literal(text: &str) -> Typed {
    Typed { expr: Expr::Literal(Value::text(text)), kind: Type::Text }
}

/// Columns are named exactly, quoted or not.
fn column(name: &Ident, columns: &[Column]) -> Result<Typed, Unaudited> {
    let index = columns.iter().position(|column| column.name == name.value).ok_or_else(|| Unaudited(format!("column {name}")))?;
    Ok(Typed { expr: Expr::Column(index), kind: columns[index].kind })
}

fn literal(value: &ast::Value) -> Result<Typed, Unaudited> {
    match value {
        ast::Value::Number(digits, _) => number(digits),
        ast::Value::SingleQuotedString(text) => Ok(text_literal(text)),
        ast::Value::Boolean(value) => Ok(boolean(Expr::Literal(Value::Bool(*value)))),
        ast::Value::Null => Ok(Typed { expr: Expr::Literal(Value::Null), kind: Type::Null }),
        other => Err(Unaudited(format!("literal {other}"))),
    }
}

/// A whole number is a 64-bit integer, anything else with digits a 64-bit float.
fn number(digits: &str) -> Result<Typed, Unaudited> {
    if let Ok(number) = digits.parse() {
        return Ok(Typed { expr: Expr::Literal(Value::Long(number)), kind: Type::Long });
    }
    match digits.parse() {
        Ok(number) if !digits.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Typed { expr: Expr::Literal(Value::Double(number)), kind: Type::Double }),
        _ => Err(Unaudited(format!("number {digits}"))),
    }
}

/// Casts `typed` to `kind`; constants at once.
fn convert(typed: Typed, kind: Type) -> Result<Typed, Unaudited> {
    if typed.kind == kind {
        return Ok(typed);
    }
    if !cast::is_known(typed.kind, kind) {
        return Err(Unaudited(format!("cast of {:?} to {kind:?}", typed.kind)));
    }
    if let Expr::Literal(value) = &typed.expr
        && let Ok(value) = cast::cast(value.clone(), typed.kind, kind)
    {
        return Ok(Typed { expr: Expr::Literal(value), kind });
    }
    Ok(Typed { expr: Expr::Cast(Box::new(typed.expr), typed.kind, kind), kind })
}

/// A cast of a timestamp to nanoseconds keeps its unit: nanoseconds end in 2262 (C39).
fn in_own_unit(instant: &Typed, to: Type) -> Type {
    match (instant.kind, to) {
        (Type::Timestamp(unit, _), Type::Timestamp(Unit::Nano, zone)) => Type::Timestamp(unit, zone),
        _ => to,
    }
}

/// The type in which two sides are compared.
///
/// A constant gives way: a 32-bit column meets `20.1` in 32 bits (C75), and a timestamp column meets a text or a date in
/// microseconds at the finest, unless it is finer itself (C39).
fn meet(left: &Typed, right: &Typed) -> Result<Type, Unaudited> {
    let is_constant = |typed: &Typed| matches!(typed.expr, Expr::Literal(_));
    let instant = |unit: Unit, zone| Ok(Type::Timestamp(unit.max(Unit::Micro), zone));
    match (left.kind, right.kind) {
        (Type::Float, Type::Double) if is_constant(right) => Ok(Type::Float),
        (Type::Double, Type::Float) if is_constant(left) => Ok(Type::Float),
        (Type::Timestamp(unit, zone), Type::Text | Type::Date | Type::Timestamp(Unit::Nano, _)) if is_constant(right) => instant(unit, zone),
        (Type::Text | Type::Date | Type::Timestamp(Unit::Nano, _), Type::Timestamp(unit, zone)) if is_constant(left) => instant(unit, zone),
        (left, right) => types::comparable(left, right).ok_or_else(|| Unaudited(format!("comparison of {left:?} and {right:?}"))),
    }
}

fn align(left: Typed, right: Typed) -> Result<(Expr, Expr), Unaudited> {
    let kind = meet(&left, &right)?;
    Ok((convert(left, kind)?.expr, convert(right, kind)?.expr))
}

fn compare(comparison: Comparison, left: Typed, right: Typed) -> Result<Expr, Unaudited> {
    let (left, right) = align(left, right)?;
    Ok(Expr::Compare(comparison, Box::new(left), Box::new(right)))
}

fn call(name: &str, arguments: Vec<Typed>) -> Result<Typed, Unaudited> {
    let kinds: Vec<Type> = arguments.iter().map(|argument| argument.kind).collect();
    let literals: Vec<Option<&Value>> = arguments.iter().map(|argument| if let Expr::Literal(value) = &argument.expr { Some(value) } else { None }).collect();
    let found = functions::resolve(name, &kinds, &literals).ok_or_else(|| Unaudited(format!("function {name} of {kinds:?}")))?;
    let converted = arguments.into_iter().zip(found.arguments).map(|(argument, kind)| Ok(convert(argument, kind)?.expr)).collect::<Result<_, Unaudited>>()?;
    Ok(Typed { expr: Expr::Call(found.function, converted), kind: found.result })
}

/// `to_timestamp` takes seconds and gives nanoseconds; the others take and give what their name says.
fn to_timestamp(name: &str, argument: Typed) -> Result<Typed, Unaudited> {
    let (taken, given) = match name {
        "to_timestamp_seconds" => (Unit::Second, Unit::Second),
        "to_timestamp_millis" => (Unit::Milli, Unit::Milli),
        "to_timestamp_micros" => (Unit::Micro, Unit::Micro),
        "to_timestamp_nanos" => (Unit::Nano, Unit::Nano),
        _ => (Unit::Second, Unit::Nano),
    };
    let result = Type::Timestamp(given, true);
    match argument.kind {
        Type::Int | Type::Long => convert(convert(argument, Type::Timestamp(taken, true))?, result),
        Type::Text | Type::Timestamp(..) | Type::Null => convert(argument, result),
        other => Err(Unaudited(format!("{name} of {other:?}"))),
    }
}

fn sql_type(data_type: &DataType) -> Result<Type, Unaudited> {
    Ok(match data_type {
        DataType::Boolean | DataType::Bool => Type::Bool,
        DataType::Int(_) | DataType::Integer(_) | DataType::Int4(_) => Type::Int,
        DataType::BigInt(_) | DataType::Int8(_) => Type::Long,
        DataType::Float(_) | DataType::Real | DataType::Float4 => Type::Float,
        DataType::Double(ExactNumberInfo::None) | DataType::DoublePrecision | DataType::Float8 => Type::Double,
        DataType::Varchar(None) | DataType::Char(None) | DataType::Text | DataType::String(_) => Type::Text,
        DataType::Date => Type::Date,
        DataType::Decimal(ExactNumberInfo::PrecisionAndScale(precision, scale)) | DataType::Numeric(ExactNumberInfo::PrecisionAndScale(precision, scale)) => {
            match (u8::try_from(*precision), i8::try_from(*scale)) {
                (Ok(precision @ 1..=types::PRECISION_MAX), Ok(scale)) => Type::Decimal(precision, scale),
                _ => return Err(Unaudited(format!("type {data_type}"))),
            }
        }
        DataType::Timestamp(precision, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => match precision {
            Some(0) => Type::Timestamp(Unit::Second, false),
            Some(3) => Type::Timestamp(Unit::Milli, false),
            Some(6) => Type::Timestamp(Unit::Micro, false),
            None | Some(9) => Type::Timestamp(Unit::Nano, false),
            _ => return Err(Unaudited(format!("type {data_type}"))),
        },
        other => return Err(Unaudited(format!("type {other}"))),
    })
}

/// An interval of fixed length: weeks down to nanoseconds, not months.
fn interval_ns(interval: &ast::Interval) -> Result<i128, Unaudited> {
    let unknown = || Unaudited(format!("{interval}"));
    let text = match &*interval.value {
        ast::Expr::Value(value) => match &value.value {
            ast::Value::SingleQuotedString(text) | ast::Value::Number(text, _) => text.clone(),
            _ => return Err(unknown()),
        },
        _ => return Err(unknown()),
    };
    let text = match &interval.leading_field {
        Some(field) => format!("{text} {field}"),
        None => text,
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut ns = 0;
    for pair in words.chunks(2) {
        let [amount, unit] = pair else { return Err(unknown()) };
        let amount: i128 = amount.parse().map_err(|_| unknown())?;
        ns += amount
            * match unit.to_lowercase().trim_end_matches('s') {
                "week" => 7 * time::DAY,
                "day" => time::DAY,
                "hour" => 3600 * time::SECOND,
                "minute" => 60 * time::SECOND,
                "second" => time::SECOND,
                "millisecond" => 1_000_000,
                "microsecond" => 1_000,
                _ => return Err(unknown()),
            };
    }
    Ok(ns)
}

#[cfg(test)]
#[path = "sql_tests.rs"]
mod tests;
