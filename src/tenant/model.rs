//! The compiled job: what is left of a tenant file when everything in it was found right. The engine knows only this.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;

use super::expression::Expression;
use super::expression::types::is_text_or_bytes;
use super::generation::Generation;
use super::subject::SubjectNaming;
use crate::avro::{ReaderSchema, SchemaKind};
use crate::kafka::partitioner::Partitioner;

/// Most bytes of texts and bytes values that a window keeps for one key and start. They stand in one changelog record, of which a broker
/// takes 1 MiB, and the key's encoding doubles zero bytes.
pub const KEPT_BYTES_MAX: usize = 384 * 1024;

/// One tenant's job.
#[derive(Debug)]
pub struct Tenant {
    /// The tenant's name: prefix of group, transactional ids, topics, state folder.
    pub name: String,
    /// Identifies the declaration: a hash of the tenant file and its schemas, as 16 hex digits.
    pub version: String,
    /// The file it was read from.
    pub file: PathBuf,
    /// MongoDB database, by default `stream_<tenant>`.
    pub database: String,
    /// Input topics and how to read them.
    pub sources: Vec<Source>,
    /// Branches that let single records out.
    pub alerts: Vec<Alert>,
    /// Branches that aggregate records into windows.
    pub windows: Vec<Window>,
    /// MongoDB collections to be fed.
    pub collections: Vec<Collection>,
    /// Which generation this is: found on the cluster, not in the file. Unset: the first.
    pub generation: OnceLock<Generation>,
}

impl Tenant {
    /// Which computation of the tenant's results this is.
    pub fn generation(&self) -> &Generation {
        static FIRST: Generation = Generation::first();
        self.generation.get().unwrap_or(&FIRST)
    }

    /// What names all that belongs to one generation alone: group, transactional ids, changelogs, ledger, state folder. The first has the
    /// tenant's bare name.
    pub fn own_name(&self) -> String {
        self.generation().own_name(&self.name)
    }

    /// The consumer group that owns the input positions.
    pub fn group(&self) -> String {
        self.own_name()
    }

    /// The consumer group of a collection's sink. Records and alerts stay what they are in a rebuild; windows' results are other ones.
    pub fn sink_group(&self, collection: &Collection) -> String {
        match collection.of {
            CollectionOf::Window(_) => format!("{}-mongo-{}", self.own_name(), collection.name),
            CollectionOf::Source(_) | CollectionOf::Alert(_) => format!("{}-mongo-{}", self.name, collection.name),
        }
    }

    /// Where this generation fills a window's collection before it takes the old one's place.
    pub fn collection_aside(&self, collection: &Collection) -> String {
        format!("{}.g{}", collection.name, self.generation().number)
    }

    /// The topic that says which generation counts.
    pub fn generation_topic(&self) -> Arc<str> {
        format!("{}-generation", self.name).into()
    }

    /// Where this generation puts the records of an output topic while it is being rebuilt.
    pub fn staging_topic(&self, topic: &str) -> Arc<str> {
        format!("{topic}.g{}", self.generation().number).into()
    }

    /// The topics that a rebuild makes anew.
    pub fn rebuilt_topics(&self) -> Vec<Arc<str>> {
        self.windows.iter().map(|window| window.topic.clone()).chain([self.dead_letters_topic()]).collect()
    }

    /// The topic of the tenant's dead letters.
    pub fn dead_letters_topic(&self) -> Arc<str> {
        format!("{}-dead-letters", self.name).into()
    }

    /// The topic that keeps the verdicts on writer schemas.
    pub fn schemas_topic(&self) -> Arc<str> {
        format!("{}-schemas", self.name).into()
    }

    /// The topic of what the owner should know.
    pub fn events_topic(&self) -> Arc<str> {
        format!("{}-events", self.name).into()
    }

    /// The topic of the tenant's ledger.
    pub fn ledger_topic(&self) -> Arc<str> {
        format!("{}-ledger", self.own_name()).into()
    }

    /// The changelog of one window over one input topic.
    pub fn changelog_topic(&self, window: &Window, input_topic: &str) -> Arc<str> {
        format!("{}-{}-{input_topic}-changelog", self.own_name(), window.name).into()
    }

    /// All input topics, in declared order.
    pub fn input_topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.sources.iter().flat_map(|source| &source.topics)
    }
}

/// Input topics of one reader schema, with key, event time and lateness.
#[derive(Debug)]
pub struct Source {
    /// Name in the tenant file.
    pub name: String,
    /// Input topics; each belongs to one source.
    pub topics: Vec<Arc<str>>,
    /// What every record is resolved to.
    pub reader: Arc<ReaderSchema>,
    /// The tenant's columns (renamed), then the system columns of [`super::columns`].
    pub columns: SchemaRef,
    /// How many of `columns` are the tenant's.
    pub tenant_columns: usize,
    /// The key, of text type.
    pub key: Expression,
    /// Event time, of a timestamp type with zone or an instant; absent: the Kafka timestamp.
    pub event_time: Option<Expression>,
    /// How far ahead of its Kafka timestamp an event may be.
    pub max_future: Duration,
    /// How producers place keys (KEY-1).
    pub partitioner: Partitioner,
    /// What to do with NaN and infinities.
    pub non_finite: NonFinite,
    /// Longest value that is looked at, in bytes.
    pub record_bytes_max: usize,
    /// What format its records are in.
    pub format: Format,
    /// What to do with schemas that are registered, or first seen, after the start.
    pub on_new_schema: OnNewSchema,
    /// How producers name the subjects of their schemas.
    pub subject: SubjectNaming,
    /// Full names of the record types that are read; where a topic is shared, records of others are skipped and counted.
    pub records: Vec<String>,
    /// The file of the reader schema.
    pub schema_file: PathBuf,
}

/// What format a source's records are in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Avro behind a frame (the default).
    #[default]
    Avro,
    /// JSON behind a frame, with a JSON Schema in the registry.
    JsonSchema,
    /// Protobuf behind a frame.
    Protobuf,
    /// JSON alone: the reader schema is the only one.
    Json,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Avro, Self::JsonSchema, Self::Protobuf, Self::Json];

    /// As the tenant file says it.
    pub fn word(self) -> &'static str {
        match self.schemas() {
            Some(kind) => kind.declared_as(),
            None => "json",
        }
    }

    /// The kind of schemas that the producers register; none where they register none.
    pub fn schemas(self) -> Option<SchemaKind> {
        match self {
            Self::Avro => Some(SchemaKind::Avro),
            Self::JsonSchema => Some(SchemaKind::Json),
            Self::Protobuf => Some(SchemaKind::Protobuf),
            Self::Json => None,
        }
    }
}

/// What to do with a writer schema that is not known yet (docs/semantics.md, "New schemas").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnNewSchema {
    /// Use it when its records can be read (the default).
    #[default]
    Compatible,
    /// Let its records wait until the owner decides.
    Hold,
    /// Its records become dead letters.
    Refuse,
}

impl OnNewSchema {
    /// As the tenant file says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Compatible => "compatible",
            Self::Hold => "hold",
            Self::Refuse => "refuse",
        }
    }
}

/// What to do with records that hold NaN or an infinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonFinite {
    /// Dead letter (the default).
    Refuse,
    /// An ordinary value; SQL's rules apply.
    Accept,
}

/// A branch that lets the records out that meet a condition.
#[derive(Debug)]
pub struct Alert {
    /// Name in the tenant file.
    pub name: String,
    /// Index into [`Tenant::sources`].
    pub source: usize,
    /// The condition, of boolean type, over the source's columns.
    pub filter: Expression,
    /// Output topic.
    pub topic: Arc<str>,
}

/// A branch that aggregates records of one key and one stretch of event time.
#[derive(Debug)]
pub struct Window {
    /// Name in the tenant file; names the changelog and the store.
    pub name: String,
    /// Index into [`Tenant::sources`].
    pub source: usize,
    /// Which records take part, of boolean type, over the source's columns.
    pub filter: Option<Expression>,
    /// The window's key; contains the source's key (KEY-1).
    pub by: Vec<GroupColumn>,
    /// Length of a tumbling window in microseconds, above zero.
    pub size_us: i64,
    /// How long after its end a window stays open, in microseconds of stream time.
    pub grace_us: i64,
    /// When results are let out.
    pub emit: Emit,
    /// Output topic.
    pub topic: Arc<str>,
    /// The aggregates that the select expressions need, each once.
    pub aggregates: Vec<Aggregate>,
    /// All aggregates' state fields one after the other, uniquely named; the row that store and changelog keep.
    pub state: SchemaRef,
    /// Schema of the rows `select` is evaluated on: the `by` columns, `window_start`, `window_end`, then one column per aggregate.
    pub finished: SchemaRef,
    /// What the tenant asked for, over `finished`.
    pub select: Vec<SelectColumn>,
    /// Schema of a result: the `by` columns, `window_start`, `window_end` (timestamp µs UTC), then the select columns.
    pub output: SchemaRef,
}

impl Window {
    /// Most bytes of each text or bytes value that the window keeps: an equal share of [`KEPT_BYTES_MAX`]. Changes only with the
    /// window's identity.
    pub fn kept_value_bytes_max(&self) -> usize {
        let of_key = self.by.iter().filter(|column| is_text_or_bytes(column.expression.data_type())).count();
        let of_aggregates: usize = self.aggregates.iter().map(|aggregate| aggregate.kept.len()).sum();
        KEPT_BYTES_MAX / (of_key + of_aggregates).max(1)
    }
}

/// One part of a window's key.
#[derive(Debug)]
pub struct GroupColumn {
    /// Column name in results: the expression's column name.
    pub name: String,
    /// Over the source's columns; of text, integer, boolean, uuid, date or timestamp type.
    pub expression: Expression,
}

/// When a window's results are let out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emit {
    /// At the end of every epoch that touched the window.
    Updates,
    /// Once, when the window closes.
    Final,
}

/// One aggregate function call, such as `avg(temperature)`.
#[derive(Debug)]
pub struct Aggregate {
    /// The call as SQL.
    pub sql: String,
    /// DataFusion's function; has a groups accumulator and resumes exactly from its state (DET-1).
    pub function: Arc<AggregateFunctionExpr>,
    /// Arguments over the source's columns, then its ordering columns: what the accumulator's `update_batch` wants.
    pub arguments: Vec<Arc<dyn PhysicalExpr>>,
    /// Which of `arguments` are texts or bytes that the state keeps.
    pub kept: Vec<usize>,
    /// `FILTER (WHERE …)`, over the source's columns.
    pub filter: Option<Expression>,
    /// Where the aggregate's state stands in [`Window::state`].
    pub state: std::ops::Range<usize>,
}

/// One column of a window's results.
#[derive(Debug)]
pub struct SelectColumn {
    /// The column's name.
    pub name: String,
    /// Over [`Window::finished`].
    pub expression: Expression,
}

/// A MongoDB collection and what feeds it.
#[derive(Debug)]
pub struct Collection {
    /// The collection's name.
    pub name: String,
    /// Where its documents come from.
    pub of: CollectionOf,
}

/// What feeds a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollectionOf {
    /// The results of `Tenant::windows[_]`: one document per window.
    Window(usize),
    /// The admitted records of `Tenant::sources[_]`: one document per record.
    Source(usize),
    /// The alerts of `Tenant::alerts[_]`: one document per alert record.
    Alert(usize),
}
