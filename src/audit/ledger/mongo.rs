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
    /// Hands over the documents of a collection that meet `filter`, one by one: a document may be large, and the server sends 16 MiB of
    /// them at once.
    ///
    /// # Errors
    /// [`AuditError::Mongo`].
    pub fn find(&self, collection: &str, filter: Document, mut take: impl FnMut(&Document)) -> Result<(), AuditError> {
        let failed = |cause| AuditError::Mongo { collection: collection.to_owned(), cause: Box::new(cause) };
        let ask = async {
            let mut cursor = self.database.collection::<Document>(collection).find(filter).await?;
            while cursor.advance().await? {
                take(&cursor.deserialize_current()?);
            }
            Ok(())
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
        let mut is_set_aside = false;
        let take = |marker: &Document| is_set_aside |= documents::set_aside(marker).is_some();
        self.find(&format!("{collection}_set_aside"), doc! { "_id": id }, take)?;
        Ok(is_set_aside)
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
