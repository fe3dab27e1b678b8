//! What the tenant declared, as plain data: names, sizes and SQL texts, compiled by the audit's own compiler.

use std::collections::HashMap;
use std::sync::Arc;

use apache_avro::Schema;

use super::aggregate::{Aggregate, Contribution};
use super::datum::Shape;
use super::resolve::column_type;
use super::sql::{Column, Typed, Unaudited, compile, compile_select, takes_plain_columns};
use super::time::Unit;
use super::types::Type;
use super::value::{Value, avro_name};
use crate::kafka::partitioner::Partitioner;
use crate::tenant;

/// System columns that stand behind the tenant's, in this order.
const SYSTEM_COLUMNS: [(&str, Type); 5] = [
    ("_topic", Type::Text),
    ("_partition", Type::Int),
    ("_offset", Type::Long),
    ("_timestamp", Type::Timestamp(Unit::Milli, true)),
    ("_time", Type::Timestamp(Unit::Micro, true)),
];

/// Most bytes of texts and bytes values that a window keeps for one key and start, in equal shares.
const KEPT_BYTES_MAX: usize = 393_216;

/// A tenant file as text, before anything in it is compiled: what [`Job::compile`] starts from.
#[derive(Clone, Debug, Default)]
pub struct Declaration {
    /// Name of the tenant.
    pub tenant: String,
    /// Its generation: names group, changelogs and ledger, and says where its records begin.
    pub generation: tenant::Generation,
    /// Its sources.
    pub sources: Vec<SourceDeclaration>,
    /// Its alerts.
    pub alerts: Vec<AlertDeclaration>,
    /// Its windows.
    pub windows: Vec<WindowDeclaration>,
    /// Its MongoDB collections.
    pub collections: Vec<Collection>,
}

/// A source.
#[derive(Clone, Debug)]
pub struct SourceDeclaration {
    /// Input topics.
    pub topics: Vec<Arc<str>>,
    /// The reader schema, without fields that make no column.
    pub reader: String,
    /// Names of its fields as columns, in schema order.
    pub columns: Vec<String>,
    /// SQL of the key.
    pub key: String,
    /// SQL of the event time, if declared.
    pub event_time: Option<String>,
    /// How far ahead of its Kafka timestamp an event may be, in microseconds.
    pub max_future_us: i64,
    /// How producers place keys.
    pub partitioner: Partitioner,
    /// Whether NaN and infinities are refused.
    pub refuses_non_finite: bool,
    /// Longest value that is looked at, in bytes.
    pub record_bytes_max: usize,
    /// Full names of the record types that are read, where topics are shared by several.
    pub records: Option<Vec<String>>,
    /// What format the records are in.
    pub format: tenant::Format,
}

/// An alert.
#[derive(Clone, Debug)]
pub struct AlertDeclaration {
    /// Its name.
    pub name: String,
    /// Index of its source.
    pub source: usize,
    /// SQL of the condition.
    pub filter: String,
    /// Output topic.
    pub topic: Arc<str>,
}

/// A window.
#[derive(Clone, Debug)]
pub struct WindowDeclaration {
    /// Its name.
    pub name: String,
    /// Index of its source.
    pub source: usize,
    /// SQL of the condition, if declared.
    pub filter: Option<String>,
    /// Names and SQL of the key columns.
    pub by: Vec<(String, String)>,
    /// Length in microseconds.
    pub size_us: i64,
    /// Grace in microseconds.
    pub grace_us: i64,
    /// Whether results come only when a window closes.
    pub is_final: bool,
    /// Output topic.
    pub topic: Arc<str>,
    /// Names and SQL of the select columns.
    pub select: Vec<(String, String)>,
}

/// A MongoDB collection and what feeds it.
#[derive(Clone, Debug)]
pub struct Collection {
    /// Its name.
    pub name: String,
    /// What feeds it.
    pub of: tenant::CollectionOf,
}

impl Declaration {
    /// The consumer group of a collection's sink.
    pub fn sink_group(&self, collection: &Collection) -> String {
        let owner = match collection.of {
            tenant::CollectionOf::Window(_) => self.own_name(),
            tenant::CollectionOf::Source(_) | tenant::CollectionOf::Alert(_) => self.tenant.clone(),
        };
        format!("{owner}-mongo-{}", collection.name)
    }

    /// What names the possessions of the tenant's generation.
    pub fn own_name(&self) -> String {
        self.generation.own_name(&self.tenant)
    }

    /// Takes names and texts from a compiled tenant, nothing compiled.
    pub fn of(tenant: &tenant::Tenant) -> Self {
        let sources = tenant.sources.iter().map(|source| SourceDeclaration {
            topics: source.topics.clone(),
            reader: source.reader.json().to_owned(),
            columns: source.columns.fields().iter().take(source.tenant_columns).map(|field| field.name().clone()).collect(),
            key: source.key.sql().to_owned(),
            event_time: source.event_time.as_ref().map(|expression| expression.sql().to_owned()),
            max_future_us: i64::try_from(source.max_future.as_micros()).unwrap_or(i64::MAX),
            partitioner: source.partitioner,
            refuses_non_finite: source.non_finite == tenant::NonFinite::Refuse,
            record_bytes_max: source.record_bytes_max,
            records: source.subject.is_shared().then(|| source.records.clone()),
            format: source.format,
        });
        let alerts = tenant.alerts.iter().map(|alert| AlertDeclaration {
            name: alert.name.clone(),
            source: alert.source,
            filter: alert.filter.sql().to_owned(),
            topic: alert.topic.clone(),
        });
        let windows = tenant.windows.iter().map(|window| WindowDeclaration {
            name: window.name.clone(),
            source: window.source,
            filter: window.filter.as_ref().map(|filter| filter.sql().to_owned()),
            by: window.by.iter().map(|column| (column.name.clone(), column.expression.sql().to_owned())).collect(),
            size_us: window.size_us,
            grace_us: window.grace_us,
            is_final: window.emit == tenant::Emit::Final,
            topic: window.topic.clone(),
            select: window.select.iter().map(|column| (column.name.clone(), column.expression.sql().to_owned())).collect(),
        });
        Self {
            tenant: tenant.name.clone(),
            generation: tenant.generation().clone(),
            sources: sources.collect(),
            alerts: alerts.collect(),
            windows: windows.collect(),
            collections: tenant
                .collections
                .iter()
                .map(|collection| Collection { name: collection.name.clone(), of: collection.of })
                .collect(),
        }
    }
}

/// The declaration, compiled.
#[derive(Debug)]
pub struct Job {
    /// The sources.
    pub sources: Vec<Source>,
    /// The alerts; `None` where one is not audited.
    pub alerts: Vec<Option<Alert>>,
    /// The windows; `None` where one is not audited.
    pub windows: Vec<Option<Window>>,
    /// What is not audited, for people.
    pub unaudited: Vec<String>,
    /// The source of each input topic.
    pub source_of: HashMap<Arc<str>, usize>,
}

/// A source, compiled.
#[derive(Debug)]
pub struct Source {
    /// The declaration.
    pub declared: SourceDeclaration,
    /// What records are resolved to.
    pub reader: Shape,
    /// The tenant's columns, then the system columns.
    pub columns: Vec<Column>,
    /// How many of them are the tenant's.
    pub tenant_columns: usize,
    /// The key.
    pub key: Typed,
    /// The event time, if declared.
    pub event_time: Option<Typed>,
}

/// An alert, compiled.
#[derive(Debug)]
pub struct Alert {
    /// The declaration.
    pub declared: AlertDeclaration,
    /// Its stage in dead letters.
    pub stage: Arc<str>,
    /// The condition.
    pub filter: Typed,
}

/// A window, compiled.
#[derive(Debug)]
pub struct Window {
    /// The declaration.
    pub declared: WindowDeclaration,
    /// Its stage in dead letters.
    pub stage: Arc<str>,
    /// The condition.
    pub filter: Option<Typed>,
    /// The key columns.
    pub by: Vec<Typed>,
    /// The aggregates that the select columns need.
    pub aggregates: Vec<Aggregate>,
    /// Most bytes of a text or bytes value that it keeps.
    pub kept_value_bytes_max: usize,
    /// The select columns with their names, over key columns, start, end and aggregates.
    pub select: Vec<(String, Typed)>,
    /// Select columns that are not audited, by the names that Avro gives them.
    pub left_out: Vec<String>,
}

/// A tenant that the audit cannot even begin with.
#[derive(Debug, thiserror::Error)]
pub enum JobFault {
    /// The reader schema.
    #[error("failed to read the reader schema of {topic}: {cause}")]
    Reader {
        /// The source's first topic.
        topic: String,
        /// Why.
        cause: String,
    },
    /// A source's key or event time: without them no record can be followed.
    #[error("failed to audit the source of {topic}: {cause}")]
    Source {
        /// The source's first topic.
        topic: String,
        /// What is not known.
        cause: Unaudited,
    },
}

impl Job {
    /// Compiles a declaration. Branches that hold something unknown are left out and named in [`Job::unaudited`].
    ///
    /// # Errors
    /// [`JobFault`] when a source's schema, key or event time cannot be used.
    pub fn compile(declaration: &Declaration) -> Result<Self, JobFault> {
        let sources: Vec<Source> = declaration.sources.iter().map(Source::compile).collect::<Result<_, _>>()?;
        let mut unaudited = Vec::new();
        let mut note = |stage: &str, error: Unaudited| unaudited.push(format!("{stage}: {error}"));
        let alerts = declaration.alerts.iter().map(|alert| {
            let stage = format!("alert.{}", alert.name);
            let compiled = Alert::compile(alert, &stage, &sources);
            compiled.map_err(|error| note(&stage, error)).ok()
        });
        let alerts = alerts.collect();
        let windows = declaration.windows.iter().map(|window| {
            let stage = format!("window.{}", window.name);
            let compiled = Window::compile(window, &stage, &sources, &mut note);
            compiled.map_err(|error| note(&stage, error)).ok()
        });
        let windows = windows.collect();
        let source_of =
            declaration.sources.iter().zip(0..).flat_map(|(source, index)| source.topics.iter().map(move |topic| (topic.clone(), index)));
        Ok(Self { alerts, windows, unaudited, source_of: source_of.collect(), sources })
    }
}

impl Source {
    /// Whether its records are JSON that no registered schema describes.
    pub fn is_plain(&self) -> bool {
        self.declared.format.schemas().is_none()
    }

    fn compile(declared: &SourceDeclaration) -> Result<Self, JobFault> {
        let topic = || declared.topics.first().map_or_else(String::new, ToString::to_string);
        let reader_fault = |cause: String| JobFault::Reader { topic: topic(), cause };
        let reader = Shape::parse(&declared.reader).map_err(|error| reader_fault(error.to_string()))?;
        let Schema::Record(record) = &reader.root else {
            return Err(reader_fault("it is not a record".into()));
        };
        if record.fields.len() != declared.columns.len() {
            return Err(reader_fault(format!("it has {} fields, the source {} columns", record.fields.len(), declared.columns.len())));
        }
        let tenants = record
            .fields
            .iter()
            .zip(&declared.columns)
            .map(|(field, name)| Column { name: name.clone(), kind: column_type(&reader, &field.schema) });
        let columns: Vec<Column> = tenants.chain(SYSTEM_COLUMNS.map(|(name, kind)| Column { name: name.into(), kind })).collect();
        let tenant_columns = record.fields.len();
        let source_fault = |cause| JobFault::Source { topic: topic(), cause };
        let key = compile(&declared.key, &columns).map_err(source_fault)?;
        let event_time = declared.event_time.as_deref().map(|sql| compile(sql, &columns)).transpose().map_err(source_fault)?;
        Ok(Self { declared: declared.clone(), columns, tenant_columns, key, event_time, reader })
    }
}

impl Alert {
    fn compile(declared: &AlertDeclaration, stage: &str, sources: &[Source]) -> Result<Self, Unaudited> {
        let filter = compile(&declared.filter, &sources[declared.source].columns)?;
        Ok(Self { declared: declared.clone(), stage: stage.into(), filter })
    }
}

impl Window {
    fn compile(
        declared: &WindowDeclaration,
        stage: &str,
        sources: &[Source],
        note: &mut impl FnMut(&str, Unaudited),
    ) -> Result<Self, Unaudited> {
        let source = &sources[declared.source].columns;
        let filter = declared.filter.as_deref().map(|sql| compile(sql, source)).transpose()?;
        let by: Vec<Typed> = declared.by.iter().map(|(_, sql)| compile(sql, source)).collect::<Result<_, _>>()?;
        let mut finished: Vec<Column> =
            declared.by.iter().zip(&by).map(|((name, _), typed)| Column { name: name.clone(), kind: typed.kind }).collect();
        let bounds = ["window_start", "window_end"];
        finished.extend(bounds.map(|name| Column { name: name.into(), kind: Type::Timestamp(Unit::Micro, true) }));
        let (mut aggregates, mut select, mut left_out) = (Vec::new(), Vec::new(), Vec::new());
        for (name, sql) in &declared.select {
            match compile_select(sql, source, &finished, &mut aggregates) {
                Ok(typed) => select.push((name.clone(), typed)),
                // A record on which it fails is none of the window's.
                Err(error) if !takes_plain_columns(sql) => return Err(Unaudited(format!("column {name}: {error}"))),
                Err(error) => {
                    note(&format!("column {stage}.{name}"), error);
                    left_out.push(avro_name(name));
                }
            }
        }
        let of_key = by.iter().filter(|typed| typed.kind.is_text_or_bytes()).count();
        let kept = of_key + aggregates.iter().map(Aggregate::kept).sum::<usize>();
        let kept_value_bytes_max = KEPT_BYTES_MAX / kept.max(1);
        Ok(Self { declared: declared.clone(), stage: stage.into(), filter, by, aggregates, kept_value_bytes_max, select, left_out })
    }

    /// Whether a record has a text or bytes value that is too long to be kept.
    pub fn is_too_large(&self, by: &[Value], contributions: &[Contribution]) -> bool {
        let of_key = by.iter().map(Value::text_or_bytes_length);
        let of_aggregates = self.aggregates.iter().zip(contributions).map(|(aggregate, contribution)| aggregate.kept_bytes(contribution));
        of_key.chain(of_aggregates).any(|bytes| bytes > self.kept_value_bytes_max)
    }

    /// Start of the window that an event time falls in.
    pub fn start_of(&self, time_us: i64) -> i64 {
        time_us.div_euclid(self.declared.size_us).saturating_mul(self.declared.size_us)
    }

    /// Whether the window that starts at `start_us` is closed at `stream_time_us`.
    pub fn is_closed(&self, start_us: i64, stream_time_us: i64) -> bool {
        i128::from(start_us) + i128::from(self.declared.size_us) + i128::from(self.declared.grace_us) <= i128::from(stream_time_us)
    }
}
