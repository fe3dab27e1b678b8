//! MongoDB, asked from a thread that may block.

use mongodb::bson::{Document, doc};
use tokio::runtime::Handle;

use crate::audit::AuditError;
use crate::audit::documents;
use crate::kafka::TopicPartition;

/// A tenant's database.
#[derive(Clone, Copy)]
pub struct Mongo<'w> {
    /// The database.
    pub database: &'w mongodb::Database,
    /// The runtime that its client needs.
    pub runtime: &'w Handle,
}

impl Mongo<'_> {
    /// The documents of a collection that meet `filter`; the caller bounds how many that can be.
    ///
    /// # Errors
    /// [`AuditError::Mongo`].
    pub fn find(&self, collection: &str, filter: Document) -> Result<Vec<Document>, AuditError> {
        let failed = |cause| AuditError::Mongo { collection: collection.to_owned(), cause: Box::new(cause) };
        let ask = async {
            let mut cursor = self.database.collection::<Document>(collection).find(filter).await?;
            let mut found = Vec::new();
            while cursor.advance().await? {
                found.push(cursor.deserialize_current()?);
            }
            Ok(found)
        };
        self.runtime.block_on(ask).map_err(failed)
    }

    /// How many documents of a collection meet `filter`.
    ///
    /// # Errors
    /// [`AuditError::Mongo`].
    pub fn count(&self, collection: &str, filter: Document) -> Result<u64, AuditError> {
        let failed = |cause| AuditError::Mongo { collection: collection.to_owned(), cause: Box::new(cause) };
        self.runtime.block_on(async { self.database.collection::<Document>(collection).count_documents(filter).await }).map_err(failed)
    }

    /// Whether a collection's sink set a record aside for a good reason.
    ///
    /// # Errors
    /// [`AuditError::Mongo`].
    pub fn is_set_aside(&self, collection: &str, partition: &TopicPartition, offset: i64) -> Result<bool, AuditError> {
        let id = doc! { "topic": &*partition.topic, "partition": partition.partition, "offset": offset };
        let markers = self.find(&format!("{collection}_set_aside"), doc! { "_id": id })?;
        Ok(markers.iter().any(|marker| documents::set_aside(marker).is_some()))
    }

    /// Records of a partition between two positions that have a document, or were set aside for a good reason.
    ///
    /// # Errors
    /// [`AuditError::Mongo`].
    pub fn records_within(&self, collection: &str, partition: &TopicPartition, from: i64, until: i64) -> Result<(u64, u64), AuditError> {
        let place = |offset: i64| doc! { "topic": &*partition.topic, "partition": partition.partition, "offset": offset };
        let within = doc! { "_id": { "$gte": place(from), "$lt": place(until) } };
        let documents = self.count(collection, within.clone())?;
        let reasons = doc! { "_id": within.get("_id").cloned(), "reason": { "$in": documents::EXCUSES.to_vec() } };
        Ok((documents, self.count(&format!("{collection}_set_aside"), reasons)?))
    }
}
