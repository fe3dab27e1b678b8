//! What DataFusion's simplifier may not touch, because it would then mean something else.
//!
//! - A cast that is compared with a constant is moved to the constant: `CAST(amount AS INT) = 8` becomes `amount = 8.00`, which 8.20 is not,
//!   `local AT TIME ZONE 'Europe/Helsinki' >= '…'` forgets the zone, and a cast that fails on a row no longer does.
//! - A regular expression that begins with plain letters becomes a `LIKE`, where a backslash is no letter.
//!
//! These are wrapped in a function that no rule knows, before types are coerced, and taken out of it afterwards.

use std::sync::LazyLock;

use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion_common::{Result, ScalarValue, exec_err};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::{BinaryExpr, ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

static KEPT: LazyLock<ScalarUDF> = LazyLock::new(|| ScalarUDF::new_from_impl(Kept { signature: Signature::any(1, Volatility::Volatile) }));

/// Its argument. Volatile, so that constants stay inside.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Kept {
    signature: Signature,
}

impl ScalarUDFImpl for Kept {
    fn name(&self) -> &str {
        "kept"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments[0].clone())
    }

    fn invoke_with_args(&self, mut arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match arguments.args.pop() {
            Some(argument) => Ok(argument),
            None => exec_err!("kept takes an argument"),
        }
    }
}

/// The expression with these parts hidden.
pub fn hide(expression: Expr) -> Result<Expr> {
    expression.transform_up(|node| Ok(hide_node(node))).data()
}

/// The expression as it was before [`hide`].
pub fn reveal(expression: Expr) -> Result<Expr> {
    let revealed = expression.transform_up(|node| {
        Ok(match node {
            Expr::ScalarFunction(ScalarFunction { func, mut args }) if func.name() == KEPT.name() && args.len() == 1 => {
                Transformed::yes(args.remove(0))
            }
            other => Transformed::no(other),
        })
    });
    revealed.data()
}

fn hide_node(node: Expr) -> Transformed<Expr> {
    match node {
        cast if is_cast(&cast) && cast.any_column_refs() => Transformed::yes(KEPT.call(vec![cast])),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_match(op) && may_have_backslash(&right) => {
            Transformed::yes(Expr::BinaryExpr(BinaryExpr::new(left, op, Box::new(KEPT.call(vec![*right])))))
        }
        Expr::ScalarFunction(ScalarFunction { func, mut args })
            if func.name() == "regexp_like" && args.get(1).is_some_and(may_have_backslash) =>
        {
            args[1] = KEPT.call(vec![args[1].clone()]);
            Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(func, args)))
        }
        other => Transformed::no(other),
    }
}

fn is_match(op: Operator) -> bool {
    matches!(op, Operator::RegexMatch | Operator::RegexIMatch | Operator::RegexNotMatch | Operator::RegexNotIMatch)
}

/// Casts, and functions that become one.
fn is_cast(node: &Expr) -> bool {
    const BECOME_ONE: [&str; 4] = ["arrow_cast", "arrow_try_cast", "cast_to_type", "try_cast_to_type"];
    match node {
        Expr::Cast(_) | Expr::TryCast(_) => true,
        Expr::ScalarFunction(call) => BECOME_ONE.contains(&call.name()),
        _ => false,
    }
}

/// Whether a pattern has one, or is computed and may: what names a column may still come to a constant.
fn may_have_backslash(pattern: &Expr) -> bool {
    match pattern {
        Expr::Literal(ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)), _) => {
            text.contains('\\')
        }
        other => !matches!(other, Expr::Column(_)),
    }
}
