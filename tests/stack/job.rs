//! A tenant of a test: its own topics, files and folders, and the real program run as processes on them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use testudo::avro::SchemaId;
use testudo::avro::registry::Registry;
use testudo::emulator::{Emulation, Extent, FleetSettings, Report, Wrong};
use testudo::stack::Stack;

/// Longest wait for something that must come.
pub const PATIENCE: Duration = Duration::from_secs(60);

static NUMBER: AtomicUsize = AtomicUsize::new(0);

/// The zoo's reading, version 1.
pub const READING: &str = include_str!("../../avro/stream-topic-1-value.avsc");

/// Environment that cuts epochs small, so that there are many commits to be hit.
pub const SMALL_EPOCHS: [(&str, &str); 2] = [("TESTUDO__ENGINE__EPOCH_RECORDS_MAX", "500"), ("TESTUDO__ENGINE__SLICE_RECORDS_MAX", "250")];

/// One tenant on the stack.
pub struct Job<'s> {
    /// The stack.
    pub stack: &'s Stack,
    /// The tenant's name, unique in the run.
    pub name: String,
    /// Folder of its files and state.
    pub dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

/// A record read from a topic.
#[derive(Clone, Debug)]
pub struct Seen {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: BTreeMap<String, String>,
    pub timestamp_ms: i64,
}

impl<'s> Job<'s> {
    /// A tenant with files but without topics. `file` is the tenant file; `NAME` in it becomes the tenant's unique name.
    pub fn new(stack: &'s Stack, file: &str, schemas: &[(&str, &str)]) -> Result<Self, Failed> {
        let name = format!("t{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let dir = tempfile::tempdir()?;
        std::fs::create_dir(dir.path().join("tenants"))?;
        std::fs::create_dir(dir.path().join("avro"))?;
        let named = |text: &str| text.replace("NAME", &name);
        std::fs::write(dir.path().join("tenants/tenant.toml"), named(file))?;
        for (topic, schema) in schemas {
            std::fs::write(dir.path().join(format!("avro/{}-value.avsc", named(topic))), schema)?;
        }
        let config = format!(
            "instance = \"one\"\ntenants = [\"{}\"]\n[kafka]\nbootstrap = \"{}\"\n[kafka.consumer]\n\"session.timeout.ms\" = \"6000\"\n\
             [registry]\nurl = \"{}\"\n[mongo]\nuri = \"{}\"\n[store]\ndir = \"{}\"\n[http]\nbind = \"127.0.0.1:0\"\n",
            dir.path().join("tenants/tenant.toml").display(),
            stack.bootstrap(),
            stack.registry_url(),
            stack.mongo_uri(),
            dir.path().join("state").display(),
        );
        std::fs::write(dir.path().join("testudo.toml"), config)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { stack, name, dir, runtime })
    }

    /// The zoo's tenant under another name, on one input topic of `partitions` partitions, registered and ready.
    pub fn zoo(stack: &'s Stack, partitions: i32) -> Result<Self, Failed> {
        let job = Self::new(stack, ZOO, &[("NAME-in", READING)])?;
        job.create_topic(&job.topic("in"), partitions)?;
        job.register(&job.topic("in"), READING)?;
        Ok(job)
    }

    /// Has all later processes of this tenant take part in their group by this protocol.
    pub fn use_protocol(&self, protocol: &str) -> Result<(), Failed> {
        let path = self.path("testudo.toml");
        let text = std::fs::read_to_string(&path)?;
        let others: String = text.lines().filter(|line| !line.starts_with("group_protocol")).map(|line| format!("{line}\n")).collect();
        Ok(std::fs::write(path, others.replacen("[kafka]\n", &format!("[kafka]\ngroup_protocol = \"{protocol}\"\n"), 1))?)
    }

    /// A topic of this tenant.
    pub fn topic(&self, short: &str) -> String {
        format!("{}-{short}", self.name)
    }

    pub fn database(&self) -> String {
        format!("stream_{}", self.name)
    }

    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.stack.bootstrap());
        config
    }

    pub fn create_topic(&self, topic: &str, partitions: i32) -> Result<(), Failed> {
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        // As many copies as the stack has brokers: its default.
        let wanted = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
        for answer in self.runtime.block_on(admin.create_topics(&[wanted], &AdminOptions::new()))? {
            answer.map_err(|(topic, code)| format!("topic {topic} not created: {code}"))?;
        }
        Ok(())
    }

    pub fn registry(&self) -> Result<Registry, Failed> {
        let settings = testudo::avro::settings::Settings { url: self.stack.registry_url().to_owned(), ..Default::default() };
        Ok(Registry::new(&settings)?)
    }

    /// Registers a schema under `<topic>-value`.
    pub fn register(&self, topic: &str, schema: &str) -> Result<SchemaId, Failed> {
        let registry = self.registry()?;
        Ok(self.runtime.block_on(registry.register(&format!("{topic}-value"), schema))?)
    }

    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// A fleet's readings into `in`, written under `schema`, of which these shares are wrong.
    pub fn emulate(&self, schema: SchemaId, seed: u64, records: u64, rate: Option<u32>, wrong: &[(Wrong, f64)]) -> Result<Report, Failed> {
        let emulation = Emulation {
            topic: self.topic("in"),
            schema: READING.to_owned(),
            seed,
            // With a rate, event time keeps pace with the clock: brokers refuse records from the future.
            fleet: match rate {
                Some(rate) => FleetSettings { interval_us: 10_000_000 / i64::from(rate), ..FleetSettings::default() },
                None => FleetSettings::default(),
            },
            extent: Extent::Records(records),
            rate: rate.and_then(std::num::NonZeroU32::new),
            wrong: wrong.iter().copied().collect(),
            ..Emulation::default()
        };
        let kafka = testudo::kafka::Settings { bootstrap: self.stack.bootstrap().to_owned(), ..Default::default() };
        Ok(emulation.run(&kafka, schema)?)
    }

    /// Produces one record as it is.
    pub fn produce(&self, topic: &str, partition: i32, key: Option<&[u8]>, value: Option<&[u8]>, timestamp_ms: i64) -> Result<(), Failed> {
        self.produce_with(topic, partition, key, value, timestamp_ms, &[])
    }

    /// The same with headers.
    pub fn produce_with(
        &self,
        topic: &str,
        partition: i32,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp_ms: i64,
        headers: &[(&str, Option<&[u8]>)],
    ) -> Result<(), Failed> {
        let mut config = self.client();
        // What the broker takes, not what the client thinks it takes.
        config.set("message.max.bytes", "1048588");
        let producer: BaseProducer = config.create()?;
        let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(partition).timestamp(timestamp_ms);
        if let Some(key) = key {
            record = record.key(key);
        }
        if let Some(value) = value {
            record = record.payload(value);
        }
        if !headers.is_empty() {
            let all = OwnedHeaders::new();
            record = record.headers(headers.iter().fold(all, |all, (key, value)| all.insert(Header { key, value: *value })));
        }
        producer.send(record).map_err(|(error, _)| error)?;
        producer.flush(PATIENCE)?;
        Ok(())
    }

    /// The program with this tenant's configuration.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(["--config", &self.dir.path().join("testudo.toml").display().to_string()]).args(arguments);
        command.current_dir(self.dir.path()).env_remove("FAILPOINTS").stdin(Stdio::null());
        command
    }

    /// Starts `testudo run`; its log goes to a file in the tenant's folder.
    pub fn start(&self, instance: &str, environment: &[(&str, &str)]) -> Result<Instance, Failed> {
        self.start_with(instance, &[], environment)
    }

    /// Starts `testudo run` with these arguments.
    pub fn start_with(&self, instance: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Instance, Failed> {
        let log = self.dir.path().join(format!("{instance}-{}.log", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let mut command = self.command(&["--set", &format!("instance={instance}"), "run"]);
        command.args(arguments).envs(environment.iter().copied()).stdout(Stdio::null()).stderr(std::fs::File::create(&log)?);
        if instance != "one" {
            command.env("TESTUDO__STORE__DIR", self.dir.path().join(format!("state-{instance}")));
        }
        Ok(Instance { child: command.spawn()?, log })
    }

    /// Runs until everything there is done; the numbers of its RESULT line.
    pub fn drain(&self) -> Result<BTreeMap<String, f64>, Failed> {
        let output = self.command(&["run", "--drain"]).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let result = text.lines().find_map(|line| line.strip_prefix("RESULT "));
        match (output.status.success(), result) {
            (true, Some(result)) => {
                let pairs = result.split_whitespace().filter_map(|pair| pair.split_once('='));
                Ok(pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
            }
            _ => Err(format!("drain ended with {}: {text}\n{}", output.status, tail(&String::from_utf8_lossy(&output.stderr))).into()),
        }
    }

    /// Neither audit may find anything wrong.
    pub fn audit(&self) -> Result<(), Failed> {
        for arguments in [&["audit"][..], &["audit", "--ledger"]] {
            let output = self.command(arguments).output()?;
            let (found, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            let has_no_ledger = output.status.code() == Some(5) && log.contains("has not run with engine.ledger");
            if !output.status.success() && !has_no_ledger {
                return Err(format!("{arguments:?} ended with {}:\n{found}\n{}", output.status, tail(&log)).into());
            }
        }
        Ok(())
    }

    /// All committed records of a topic.
    pub fn read(&self, topic: &str) -> Result<Vec<Seen>, Failed> {
        let mut config = self.client();
        config.set("group.id", "test").set("isolation.level", "read_committed").set("enable.partition.eof", "true");
        config.set("enable.auto.commit", "false");
        let consumer: BaseConsumer = config.create()?;
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
        let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition as i32, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        let (mut seen, mut ended) = (Vec::new(), 0);
        let deadline = Instant::now() + PATIENCE;
        while ended < partitions && Instant::now() < deadline {
            match consumer.poll(Duration::from_millis(200)) {
                None => {}
                Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
                Some(Err(error)) => return Err(error.into()),
                Some(Ok(message)) => seen.push(Seen {
                    key: message.key().map(<[u8]>::to_vec),
                    value: message.payload().map(<[u8]>::to_vec),
                    headers: message.headers().map(texts).unwrap_or_default(),
                    timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
                }),
            }
        }
        match ended == partitions {
            true => Ok(seen),
            false => Err(format!("{topic} did not come to its end").into()),
        }
    }

    /// Dead letters by reason.
    pub fn dead_letters(&self) -> Result<BTreeMap<String, usize>, Failed> {
        let mut reasons = BTreeMap::new();
        for letter in self.read(&self.topic("dead-letters"))? {
            *reasons.entry(letter.headers.get("testudo-reason").cloned().unwrap_or_default()).or_default() += 1;
        }
        Ok(reasons)
    }

    /// The end of a partition of `in`.
    pub fn end(&self, partition: i32) -> Result<i64, Failed> {
        let consumer: BaseConsumer = self.client().create()?;
        Ok(consumer.fetch_watermarks(&self.topic("in"), partition, PATIENCE)?.1)
    }

    /// The group's committed positions, summed over the partitions of `in`.
    pub fn committed(&self) -> Result<i64, Failed> {
        self.committed_of(&self.name)
    }

    /// The same of another group.
    pub fn committed_of(&self, group: &str) -> Result<i64, Failed> {
        let mut config = self.client();
        config.set("group.id", group);
        let consumer: BaseConsumer = config.create()?;
        let topic = self.topic("in");
        let metadata = retried(|| consumer.fetch_metadata(Some(&topic), PATIENCE))?;
        let mut list = TopicPartitionList::new();
        for partition in 0..metadata.topics().first().map_or(0, |topic| topic.partitions().len()) {
            list.add_partition(&topic, partition as i32);
        }
        let answer = retried(|| consumer.committed_offsets(list.clone(), PATIENCE))?;
        Ok(answer.elements().iter().filter_map(|element| element.offset().to_raw()).filter(|offset| *offset > 0).sum())
    }

    /// Waits until so many input records are committed.
    pub fn wait_committed(&self, records: i64) -> Result<(), Failed> {
        wait_for(&format!("{records} committed records"), || Ok(self.committed()? >= records))
    }

    /// A collection of the tenant's database.
    pub fn collection(&self, name: &str) -> Result<mongodb::Collection<mongodb::bson::Document>, Failed> {
        let client = self.block_on(mongodb::Client::with_uri_str(self.stack.mongo_uri()))?;
        Ok(client.database(&self.database()).collection(name))
    }

    /// Number of documents in a collection.
    pub fn documents(&self, name: &str) -> Result<u64, Failed> {
        let collection = self.collection(name)?;
        Ok(self.block_on(async { collection.count_documents(mongodb::bson::doc! {}).await })?)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// A running `testudo run`.
pub struct Instance {
    child: Child,
    log: PathBuf,
}

impl Instance {
    /// `kill -9`.
    pub fn kill(mut self) -> Result<(), Failed> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, then the exit code must be 0. A process that is just being started has to have got so far that it listens.
    pub fn terminate(mut self) -> Result<(), Failed> {
        wait_for("the process to watch for SIGTERM", || Ok(self.ended()?.is_some() || self.watches_sigterm()))?;
        self.signal("-TERM")?;
        let status = self.wait()?;
        match status.success() {
            true => Ok(()),
            false => Err(format!("ended with {status} after SIGTERM:\n{}", self.log_tail()).into()),
        }
    }

    /// Whether SIGTERM has a handler: the 15th bit of `SigCgt` in proc(5)'s status. Where there is no such file, nobody can tell.
    fn watches_sigterm(&self) -> bool {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", self.pid())) else { return true };
        let caught = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigCgt:")?.trim(), 16).ok());
        caught.is_none_or(|caught| caught >> 14 & 1 == 1)
    }

    /// Sends a signal, such as `-STOP`.
    pub fn signal(&mut self, name: &str) -> Result<(), Failed> {
        match Command::new("kill").args([name, &self.child.id().to_string()]).status()?.success() {
            true => Ok(()),
            false => Err(format!("no process to send {name} to").into()),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Result<Option<std::process::ExitStatus>, Failed> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> Result<std::process::ExitStatus, Failed> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(format!("did not end:\n{}", self.log_tail()).into())
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn log_tail(&self) -> String {
        tail(&self.log())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().expect("our child");
            self.child.wait().expect("our child");
        }
    }
}

/// The program under test: `TESTUDO_PROGRAM`, or the one that was built with these tests.
fn program() -> std::ffi::OsString {
    std::env::var_os("TESTUDO_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_testudo").into())
}

/// Waits until a condition holds.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> Result<bool, Failed>) -> Result<(), Failed> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if condition()? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(format!("waited {} s in vain for {what}", PATIENCE.as_secs()).into())
}

/// Asks again while a broker that comes back is not itself yet.
fn retried<T>(mut ask: impl FnMut() -> Result<T, KafkaError>) -> Result<T, KafkaError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(200)),
            answer => return answer,
        }
    }
}

fn texts(headers: &rdkafka::message::BorrowedHeaders) -> BTreeMap<String, String> {
    headers.iter().map(|header| (header.key.to_owned(), String::from_utf8_lossy(header.value.unwrap_or_default()).into_owned())).collect()
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// The zoo's tenant file with the tenant's name for its topics.
pub const ZOO: &str = r#"
tenant = "NAME"
[source.readings]
topics = ["NAME-in"]
columns = { "dev-id" = "dev_id" }
key = '"dev-id"'
event_time = "readable_time"
[alert.battery_low]
from = "readings"
where = "battery < 2000"
topic = "NAME-alert"
[window.zoo_analytics]
from = "readings"
where = "temperature > 20 AND humidity BETWEEN 30 AND 40"
by = ['"dev-id"']
over = { tumbling = "1 minute" }
grace = "1 minute"
emit = "updates"
topic = "NAME-analytics"
[window.zoo_analytics.select]
avg_temperature = "avg(temperature)"
avg_acceleration = "avg(acceleration)"
total_records = "count(*)"
throughput = "count(*) / 60.0"
[mongo.zoo_analytics]
from = "zoo_analytics"
[mongo.tortoise]
from = "readings"
"#;
