//! The SQL functions that tenants may use: DataFusion's immutable scalar functions, and the aggregates that resume exactly (DET-1).
//!
//! DataFusion folds an aggregate of one query in any order and in any number of partial states. Testudo folds a window's values in offset
//! order, writes the state at every commit and goes on from it, and the result must have the same bits however the input was cut. Where
//! DataFusion's accumulator does not give that (float sums, NaN in min and max, variances) or wraps around (sums of whole numbers), one of
//! the small ones here stands in for it under the same name; [`resumable`] puts all of them behind one face.

mod catalogue;
mod resumable;

mod exact_sum;
mod float_extreme;
mod float_sum;
mod running;
mod variance;
mod zoned;

pub use catalogue::Functions;

#[cfg(test)]
mod fold_tests;
