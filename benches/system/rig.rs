//! A fresh stack, and what every measurement does on it: topics, schemas, sizes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use testudo::avro::SchemaId;
use testudo::avro::registry::Registry;
use testudo::stack::{Options, Ports, Stack};
use tokio::runtime::Runtime;

use crate::Args;
use crate::machine::{cpu_s, machine_and_versions, say};

/// Longest wait for one answer of a server.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The heap of the peers' kit.
const KAFKA_HEAP_MIB: u32 = 1_024;

static NUMBER: AtomicUsize = AtomicUsize::new(1);

/// The stack and the program that is measured on it.
pub struct Rig {
    /// Broker, registry, database.
    pub stack: Stack,
    /// The program.
    pub program: PathBuf,
    /// Worker threads per tenant.
    pub workers: usize,
    /// Serves admin calls, registry and database.
    pub runtime: Runtime,
    folder: PathBuf,
}

impl Rig {
    /// Starts the stack in an empty folder.
    ///
    /// # Errors
    /// When the folder is somebody else's, or the stack does not start.
    pub fn new(args: &Args) -> anyhow::Result<Self> {
        let scratch = &args.scratch;
        if scratch.join("stack").is_dir() {
            // Of a run that was ended before it could clean up.
            testudo::stack::down(&scratch.join("stack"), true)?;
        }
        fs::create_dir_all(scratch).with_context(|| format!("failed to make {}", scratch.display()))?;
        let folder = scratch.canonicalize()?;
        say(&machine_and_versions());
        let options = Options { dir: folder.join("stack"), ports: Ports::Free, kafka_heap_mib: KAFKA_HEAP_MIB, ..Options::default() };
        let stack = Stack::up(options)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        say("stack is up");
        Ok(Self { stack, program: args.testudo.clone(), workers: args.workers, runtime, folder })
    }

    /// Ends the stack and removes its data.
    ///
    /// # Errors
    /// When a server does not end or files cannot be removed.
    pub fn end(self) -> anyhow::Result<()> {
        self.stack.down()?;
        fs::remove_dir_all(&self.folder).with_context(|| format!("failed to remove {}", self.folder.display()))
    }

    /// A name that nothing on this stack has.
    pub fn unique(&self, label: &str) -> String {
        format!("{label}-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
    }

    /// An empty folder for files of `name`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
        Ok(folder)
    }

    /// A client's configuration.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.stack.bootstrap());
        config
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn create_topic(&self, topic: &str, partitions: i32) -> anyhow::Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        let wanted = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for answer in self.runtime.block_on(admin.create_topics(&[wanted], &AdminOptions::new()))? {
            answer.map_err(|(topic, code)| anyhow!("topic {topic} was not created: {code}"))?;
        }
        Ok(())
    }

    /// Registers a schema for a topic's values.
    ///
    /// # Errors
    /// When the registry refuses or does not answer.
    pub fn register(&self, topic: &str, schema: &str) -> anyhow::Result<SchemaId> {
        let registry = Registry::new(&testudo::avro::settings::Settings { url: self.stack.registry_url(), ..Default::default() })?;
        self.runtime.block_on(registry.register(&format!("{topic}-value"), schema)).context("failed to register the schema")
    }

    /// Partitions of a topic, and its records, as the difference of each partition's bounds.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn extent(&self, topic: &str) -> anyhow::Result<Vec<(i64, i64)>> {
        let consumer: BaseConsumer = self.client().create()?;
        let metadata = consumer.fetch_metadata(Some(topic), ANSWER_WITHIN)?;
        let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
        (0..partitions).map(|number| Ok(consumer.fetch_watermarks(topic, i32::try_from(number)?, ANSWER_WITHIN)?)).collect()
    }

    /// A database client.
    ///
    /// # Errors
    /// When the address is not understood.
    pub fn mongo(&self) -> anyhow::Result<mongodb::Client> {
        Ok(self.runtime.block_on(mongodb::Client::with_uri_str(self.stack.mongo_uri()))?)
    }

    /// The pid of one of the stack's servers, from its pid file.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid_of(&self, server: &str) -> anyhow::Result<u32> {
        let file = self.stack.dir().join(server).join("pid");
        let text = fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?;
        text.split_whitespace().next().and_then(|pid| pid.parse().ok()).with_context(|| format!("no pid in {}", file.display()))
    }

    /// Processor seconds that the broker has used so far.
    pub fn broker_cpu_s(&self) -> f64 {
        self.pid_of("kafka").map_or(0.0, cpu_s)
    }

    /// Bytes of a topic's log on the broker's disk.
    pub fn bytes_of_topic(&self, topic: &str) -> u64 {
        let data = self.stack.dir().join("kafka/data");
        let entries = fs::read_dir(data).into_iter().flatten().flatten();
        let is_its = |name: &str| name.rsplit_once('-').is_some_and(|(of, number)| of == topic && number.parse::<u32>().is_ok());
        let folders = entries.filter(|entry| is_its(&entry.file_name().to_string_lossy()));
        folders.map(|folder| bytes_in(&folder.path(), ".log")).sum()
    }
}

/// Bytes of the files in a folder whose names have this ending.
pub fn bytes_in(folder: &Path, ending: &str) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let of = |entry: fs::DirEntry| match entry.path() {
        path if path.is_dir() => bytes_in(&path, ending),
        path if path.to_string_lossy().ends_with(ending) => entry.metadata().map_or(0, |facts| facts.len()),
        _ => 0,
    };
    entries.map(of).sum()
}
