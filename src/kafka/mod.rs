//! The broker as we see it: words (position, slice), ports (what the engine asks of any broker), and rdkafka behind them.

pub mod partitioner;
pub mod poison;
pub mod position;
pub mod reaction;
pub mod settings;
pub mod slice;

pub mod holding;
pub mod ownership;

pub mod port;
pub mod roster;
pub mod transaction;

mod bounded;
pub mod client;
pub mod cluster;
pub mod consumer;
pub mod ffi;
pub mod producer;
pub mod reader;

pub use cluster::Cluster;
pub use holding::Holding;
pub use ownership::Roster;
pub use poison::Poison;
pub use port::{
    Broker, GroupConsumer, NewTopic, Outgoing, Polled, Read, Rebalance, TopicDescription, TopicId, TopicReader, TransactionalProducer,
    Watermarks,
};
pub use position::{Mark, Offset, Position, TopicPartition};
pub use reaction::{Failure, Reaction};
pub use settings::Settings;
pub use slice::{Header, Headers, RecordRef, Run, RunBuilder, Slice};
