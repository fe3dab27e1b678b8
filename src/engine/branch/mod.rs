//! Branches: what a source's admitted rows lead to. Each takes rows and gives data (records to produce, changes of state,
//! refusals); nothing here talks to a broker.

pub mod alert;
pub mod groups;
mod kept;
mod key_text;
mod place;
pub mod results;
pub mod sealed;
pub mod time;
pub mod window;

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray};
use arrow::error::ArrowError;

use super::admit::Admitted;
use super::rejection::Rejection;
use crate::avro::SchemaId;
use crate::avro::encode::EncodeFault;
use crate::store::StoreFault;
use crate::tenant::Expression;

pub use alert::AlertBranch;
pub use sealed::{SealedPartition, SealedWindows};
pub use window::WindowBranch;

/// A topic that a branch writes, as far as it has to know it.
#[derive(Clone, Debug)]
pub struct OutputTopic {
    /// Its name.
    pub name: Arc<str>,
    /// Its partitions.
    pub partitions: i32,
    /// Most bytes of a record's key and value.
    pub record_bytes_max: usize,
}

impl OutputTopic {
    /// The same topic under a name of its own: workers that counted references of one would wait for each other's caches.
    fn own(self) -> Self {
        Self { name: Arc::from(&*self.name), ..self }
    }

    /// Where `key`'s records belong.
    pub fn place(&self, key: &[u8]) -> i32 {
        crate::kafka::partitioner::Partitioner::Murmur2.place(key, self.partitions.max(1)).unwrap_or(0)
    }
}

/// A fault of Testudo or its surroundings, never of a record.
#[derive(Debug, thiserror::Error)]
pub enum BranchFault {
    /// Columns that do not fit together.
    #[error("failed to compute `{branch}`: {source}")]
    Compute {
        /// The branch.
        branch: String,
        /// Arrow's words.
        source: ArrowError,
    },
    /// An aggregate refuses.
    #[error("failed to aggregate `{branch}`: {cause}")]
    Aggregate {
        /// The branch.
        branch: String,
        /// DataFusion's words.
        cause: String,
    },
    /// A result cannot be encoded.
    #[error("failed to encode results of `{branch}`: {source}")]
    Encode {
        /// The branch.
        branch: String,
        /// The encoder's words.
        source: EncodeFault,
    },
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// Stored state cannot be read.
    #[error("failed to read the stored state of `{branch}`: {cause}")]
    State {
        /// The branch.
        branch: String,
        /// What is wrong with it.
        cause: String,
    },
}

/// The rows that pass a condition; null does not pass, a row on which it fails is refused.
fn passing(
    condition: Option<&Expression>,
    admitted: &Admitted,
    stage: &str,
    refused: &mut Vec<Rejection>,
) -> Result<BooleanArray, ArrowError> {
    let Some(condition) = condition else {
        return Ok(BooleanArray::from(vec![true; admitted.rows.num_rows()]));
    };
    let evaluated = condition.evaluate_rows(&admitted.rows);
    refused.extend(evaluated.failed.into_iter().map(|(row, why)| expression_failed(admitted, row, stage, why)));
    let passed = evaluated.values.as_boolean_opt().ok_or_else(|| ArrowError::SchemaError("a condition is not boolean".into()))?;
    Ok(match passed.null_count() {
        0 => passed.clone(),
        _ => arrow::compute::prep_null_mask_filter(passed),
    })
}

fn expression_failed(admitted: &Admitted, row: usize, stage: &str, why: String) -> Rejection {
    refusal(admitted, row, stage, "expression-failed", why)
}

fn refusal(admitted: &Admitted, row: usize, stage: &str, reason: &'static str, detail: String) -> Rejection {
    Rejection {
        row: admitted.records[row] as usize,
        stage: stage.to_owned().into(),
        reason,
        detail,
        schema_id: Some(admitted.schema_ids.value(row)).filter(|id| *id != SchemaId::NONE.0),
        reader_schema: None,
    }
}
