//! An alert: the records that meet a condition, with all their columns.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{filter, filter_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;

use super::{BranchFault, OutputTopic, passing, refusal};
use crate::avro::encode::Encoder;
use crate::engine::admit::Admitted;
use crate::engine::rejection::Rejection;
use crate::kafka::{Headers, Outgoing, Run};
use crate::tenant::{Source, Tenant};

/// One alert of a tenant, for one worker.
pub struct AlertBranch {
    tenant: Arc<Tenant>,
    alert: usize,
    topic: OutputTopic,
    encoder: Encoder,
    schema: SchemaRef,
    stage: String,
}

/// The columns that an alert's records carry: the tenant's, not the system's.
pub fn alert_schema(source: &Source) -> SchemaRef {
    Arc::new(Schema::new(source.columns.fields()[..source.tenant_columns].to_vec()))
}

impl AlertBranch {
    /// The branch of `tenant.alerts[alert]`; `encoder` is for [`alert_schema`].
    pub fn new(tenant: Arc<Tenant>, alert: usize, topic: OutputTopic, encoder: Encoder) -> Self {
        let schema = alert_schema(&tenant.sources[tenant.alerts[alert].source]);
        let stage = format!("alert.{}", tenant.alerts[alert].name);
        Self { tenant, alert, topic: topic.own(), encoder, schema, stage }
    }

    /// Index of the source that feeds it.
    pub fn source(&self) -> usize {
        self.tenant.alerts[self.alert].source
    }

    /// Lets the rows out that meet the condition.
    pub fn apply(
        &mut self,
        run: &Run,
        admitted: &Admitted,
        out: &mut Vec<Outgoing>,
        refused: &mut Vec<Rejection>,
    ) -> Result<(), BranchFault> {
        let compute = |source| BranchFault::Compute { branch: self.stage.clone(), source };
        let passed = passing(Some(&self.tenant.alerts[self.alert].filter), admitted, &self.stage, refused).map_err(compute)?;
        if passed.true_count() == 0 {
            return Ok(());
        }
        let rows =
            RecordBatch::try_new(self.schema.clone(), admitted.rows.columns()[..self.schema.fields().len()].to_vec()).map_err(compute)?;
        let rows = filter_record_batch(&rows, &passed).map_err(compute)?;
        let keys = filter(&admitted.keys, &passed).map_err(compute)?;
        let keys = keys.as_string::<i32>();
        let values = self.encoder.encode(&rows).map_err(|source| BranchFault::Encode { branch: self.stage.clone(), source })?;
        let origins = (0..passed.len()).filter(|row| passed.value(*row));
        for ((origin, value), index) in origins.zip(values).zip(0..) {
            let bytes = keys.value(index).len() + value.len();
            if bytes > self.topic.record_bytes_max {
                let detail = format!("the alert has {bytes} bytes, output_bytes_max is {}", self.topic.record_bytes_max);
                refused.push(refusal(admitted, origin, &self.stage, "output-too-large", detail));
                continue;
            }
            let key = keys.value(index).as_bytes();
            out.push(Outgoing {
                topic: self.topic.name.clone(),
                partition: self.topic.place(key),
                key: Some(Bytes::copy_from_slice(key)),
                value: Some(value),
                timestamp_ms: Outgoing::stamp(run.timestamps_ms()[admitted.records[origin] as usize]),
                headers: Headers::default(),
            });
        }
        Ok(())
    }
}
