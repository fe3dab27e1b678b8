//! Divisions of whole numbers, whose authors may have meant the fraction (C73).

use datafusion_common::DFSchema;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_expr::{BinaryExpr, Expr, ExprSchemable, Operator};

/// What such a division does, and the remedy.
pub const DROPS_FRACTION: &str = "divides whole numbers and drops the fraction; to keep it, write the divisor with a point, as in 60.0";

/// A warning for each division of whole numbers in a planned expression.
pub fn divisions(planned: &Expr, schema: &DFSchema) -> Vec<String> {
    let mut found = Vec::new();
    let is_whole = |side: &Expr| side.get_type(schema).is_ok_and(|of| of.is_integer());
    let walk = planned.apply(|node| {
        if let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Divide, right }) = node
            && is_whole(left)
            && is_whole(right)
        {
            found.push(format!("`{}` {DROPS_FRACTION}", node.human_display()));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    walk.map(|_| found).expect("the closure never fails")
}
