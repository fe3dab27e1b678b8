//! One tenant's schemas while the service runs: its gates, its desk on a thread of its own, the watcher beside it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use super::announce::{Event, Webhook};
use super::board::{Board, Message, Met};
use super::decide::{name, waits};
use super::desk::{Desk, Tools};
use super::record::{Place, VerdictKey};
use super::settings::Settings;
use super::topics::KafkaTopics;
use super::watch::Watch;
use crate::avro::gate::{Policy, SchemaLookup};
use crate::avro::registry::{FetchedSchema, Registry};
use crate::avro::{Arbiter, Gate, SchemaId};
use crate::clock::SharedClock;
use crate::engine::supervisor::panic_text;
use crate::kafka::{Cluster, Failure, Reaction, Settings as KafkaSettings};
use crate::telemetry::TenantMetrics;
use crate::telemetry::health::HealthHandle;
use crate::tenant::Tenant;

/// Wait for records of the verdict topic in one turn.
const TURN_WAIT: Duration = Duration::from_millis(20);
/// First pause after a failed turn; doubles up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// Longest pause after a failed turn.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often readiness and metrics are told.
const TELL_EVERY: Duration = Duration::from_millis(500);
/// So many announced versions are shown under `/readyz?verbose`.
const NEWS_MAX: usize = 5;

/// What an office is made of.
pub struct Parts {
    /// The tenant.
    pub tenant: Arc<Tenant>,
    /// Name of this instance.
    pub instance: String,
    /// The cluster, and how its clients are set up.
    pub cluster: Arc<Cluster>,
    /// Settings of the verdicts' producer.
    pub kafka: KafkaSettings,
    /// The registry.
    pub registry: Registry,
    /// How the gates look schemas up.
    pub lookup: Arc<dyn SchemaLookup>,
    /// How often subjects are looked at.
    pub watch_every: Duration,
    /// How the owner is told.
    pub events: Settings,
    /// Time.
    pub clock: SharedClock,
    /// The tenant's metrics.
    pub metrics: TenantMetrics,
    /// Where the office says how it is.
    pub health: HealthHandle,
    /// Serves the registry's client and webhooks.
    pub runtime: tokio::runtime::Handle,
}

/// A running office.
pub struct Office {
    /// One gate for each source, shared by all that read it.
    pub gates: Vec<Arc<Gate>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    watch: tokio::task::JoinHandle<()>,
}

/// Why an office cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OfficeFault {
    /// A setting cannot be used.
    #[error("{0}")]
    Setting(String),
    /// The system gives no thread.
    #[error("no thread for the verdicts on schemas of tenant {tenant}: {source}")]
    Thread {
        /// The tenant.
        tenant: String,
        /// The system's words.
        source: std::io::Error,
    },
}

impl Office {
    /// Opens the office of a tenant. Broker and registry may be away: gates let records wait until they are there.
    ///
    /// # Errors
    /// [`OfficeFault`].
    pub fn open(parts: Parts) -> Result<Self, OfficeFault> {
        let webhook = Webhook::of(&parts.events).map_err(OfficeFault::Setting)?;
        let (outbox, inbox) = mpsc::channel();
        let gates: Vec<Arc<Gate>> = (0..parts.tenant.sources.len()).map(|source| gate(&parts, source, &outbox)).collect();
        let board = Arc::new(Board::default());
        let news = Arc::new(Mutex::new(Vec::new()));
        let tools = Tools {
            tenant: parts.tenant.clone(),
            who: parts.instance.clone(),
            topics: KafkaTopics::new(&parts.tenant, parts.cluster.clone(), parts.kafka.clone(), parts.clock.clone()).creating(),
            clock: parts.clock.clone(),
            gates: gates.clone(),
            inbox,
            board: board.clone(),
            announcer: announcer(&parts, webhook, news.clone(), outbox.clone()),
        };
        let watch = Watch {
            registry: parts.registry.clone(),
            tenant: parts.tenant.clone(),
            board,
            outbox,
            every: parts.watch_every,
            seen: Default::default(),
            incomplete: Default::default(),
            is_in_trouble: false,
        };
        let watch = parts.runtime.spawn(watch.run());
        let stop = Arc::new(AtomicBool::new(false));
        let tenant = parts.tenant.name.clone();
        let running = Running { desk: Desk::new(tools), parts, news, stop: stop.clone(), told: None };
        let thread = std::thread::Builder::new().name(format!("{tenant}-schemas")).spawn(move || running.run());
        match thread {
            Ok(thread) => Ok(Self { gates, stop, thread, watch }),
            Err(source) => {
                watch.abort();
                Err(OfficeFault::Thread { tenant, source })
            }
        }
    }

    /// Closes; what is not written is decided again at the next start.
    pub fn close(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.watch.abort();
        if self.thread.join().is_err() {
            tracing::error!("the thread of verdicts on schemas panicked");
        }
    }
}

/// A source's gate, which asks the desk.
fn gate(parts: &Parts, source: usize, outbox: &mpsc::Sender<Message>) -> Arc<Gate> {
    let declared = &parts.tenant.sources[source];
    let counter = Counter {
        source,
        subjects: declared.subjects(),
        registry: parts.registry.clone(),
        runtime: parts.runtime.clone(),
        outbox: outbox.clone(),
    };
    let (reader, lookup) = (declared.reader.clone(), parts.lookup.clone());
    let policy = Policy { kind: declared.format.schemas().unwrap_or_default(), ..Policy::default() };
    Gate::with_arbiter(reader, lookup, parts.clock.clone(), parts.metrics.clone(), policy, Some(Arc::new(counter)))
}

/// Where a gate hands schemas in.
struct Counter {
    source: usize,
    subjects: Vec<String>,
    registry: Registry,
    runtime: tokio::runtime::Handle,
    outbox: mpsc::Sender<Message>,
}

impl Arbiter for Counter {
    fn unruled(&self, id: SchemaId, found: Result<FetchedSchema, String>) {
        let (source, registry, outbox, subjects) = (self.source, self.registry.clone(), self.outbox.clone(), self.subjects.clone());
        self.runtime.spawn(async move {
            // For people only: a registry that does not say it keeps nothing back.
            let places = registry.versions_of(id).await.unwrap_or_default();
            let own = places.iter().find(|(subject, _)| subjects.contains(subject));
            let place = own.or_else(|| places.first()).map(|(subject, version)| Place { subject: subject.clone(), version: *version });
            let met = Met { source, id: id.0, found, place, rule: None };
            if outbox.send(Message::Met(Box::new(met))).is_err() {
                tracing::debug!(schema_id = id.0, "a schema came after the desk was closed");
            }
        });
    }
}

type News = Arc<Mutex<Vec<String>>>;

/// Counts and shows an event, and posts it where a webhook is set.
fn announcer(parts: &Parts, webhook: Option<Webhook>, news: News, outbox: mpsc::Sender<Message>) -> Box<dyn Fn(Event, VerdictKey) + Send> {
    let (metrics, runtime) = (parts.metrics.clone(), parts.runtime.clone());
    Box::new(move |event, key| {
        metrics.schema_announced(event.verdict.word());
        let mut news = news.lock().unwrap_or_else(PoisonError::into_inner);
        let version = event.version.map_or_else(String::new, |version| format!(", version {version}"));
        news.insert(0, format!("{} schema {} of {}{version}", event.verdict.word(), key.id, event.record_key()));
        news.truncate(NEWS_MAX);
        let (webhook, outbox) = (webhook.clone(), outbox.clone());
        runtime.spawn(async move {
            if let Some(webhook) = webhook {
                webhook.post(&event).await;
            }
            if outbox.send(Message::Announced(key)).is_err() {
                tracing::debug!(event = event.id, "an event was announced after the desk was closed; it is announced again");
            }
        });
    })
}

/// The desk's thread.
struct Running {
    desk: Desk<KafkaTopics>,
    parts: Parts,
    news: News,
    stop: Arc<AtomicBool>,
    told: Option<Duration>,
}

impl Running {
    fn run(mut self) {
        let mut pause = PAUSE_FIRST;
        let mut is_failing = false;
        while !self.stop.load(Ordering::Relaxed) {
            // A panic is told and tried again; the thread's end would go unseen.
            let turned = catch_unwind(AssertUnwindSafe(|| self.desk.turn(TURN_WAIT)));
            let panicked = |panic: Box<dyn Any + Send>| Failure::new(Reaction::Retry, "judge schemas", panic_text(&*panic));
            match turned.unwrap_or_else(|panic| Err(panicked(panic))) {
                Ok(()) => {
                    (pause, is_failing) = (PAUSE_FIRST, false);
                    self.tell();
                }
                Err(failure) => {
                    // At the first start the topics come a moment after the desk.
                    match std::mem::replace(&mut is_failing, true) {
                        false => tracing::info!(tenant = self.parts.tenant.name, %failure, "verdicts on schemas cannot be followed yet"),
                        true => tracing::debug!(tenant = self.parts.tenant.name, %failure, "verdicts on schemas still cannot be followed"),
                    }
                    self.parts.health.not_ready(format!("verdicts on schemas cannot be followed: {failure}"));
                    self.told = None;
                    self.rest(pause);
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
        self.parts.health.retire();
    }

    fn rest(&self, pause: Duration) {
        let mut left = pause;
        while !left.is_zero() && !self.stop.load(Ordering::Relaxed) {
            let step = left.min(TURN_WAIT);
            self.parts.clock.sleep(step);
            left -= step;
        }
    }

    /// Readiness and metrics, now and then.
    fn tell(&mut self) {
        let now = self.parts.clock.monotonic();
        if !self.desk.is_current() || self.told.is_some_and(|told| now < told + TELL_EVERY) {
            return;
        }
        self.told = Some(now);
        self.parts.metrics.schemas_held(self.desk.held().count());
        let waited: Vec<String> = self.desk.waited_for().into_iter().map(|(key, verdict)| waits(key, verdict)).collect();
        if !waited.is_empty() {
            return self.parts.health.not_ready(waited.join("; "));
        }
        let unused: Vec<String> = self.desk.held().map(|(key, verdict)| format!("held, not used yet: {}", name(key, verdict))).collect();
        let news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        let notes: Vec<String> = unused.into_iter().chain(news.iter().cloned()).take(2 * NEWS_MAX).collect();
        match notes.is_empty() {
            true => self.parts.health.ready(),
            false => self.parts.health.ready_with(notes.join("; ")),
        }
    }
}
