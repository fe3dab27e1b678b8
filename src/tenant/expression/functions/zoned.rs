//! `to_timestamp` and its kin over a column of texts: DataFusion declares instants and gives wall-clock times, so that whatever stands around
//! the call is planned for something else. `to_timestamp_micros(note) AT TIME ZONE 'Europe/Helsinki'` would be hours off.

use std::sync::Arc;

use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef};
use datafusion_common::Result;
use datafusion_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};

/// The function, whose values are of the type that it declares.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Zoned {
    inner: Arc<ScalarUDF>,
}

impl Zoned {
    /// `inner` under its own name.
    pub fn wrap(inner: &Arc<ScalarUDF>) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::new_from_impl(Self { inner: inner.clone() }))
    }
}

impl ScalarUDFImpl for Zoned {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arguments)
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(arguments)
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arguments)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let declared = arguments.return_type().clone();
        match self.inner.invoke_with_args(arguments)? {
            ColumnarValue::Array(values) if *values.data_type() != declared => Ok(ColumnarValue::Array(cast(&values, &declared)?)),
            values => Ok(values),
        }
    }
}
