//! `testudo run`: works until it is told to stop, or, with `--drain`, until what was there at the start is done.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};

use super::changed::places_of;
use super::drain::{Drain, Drained};
use super::exit::{Exit, WithExit};
use super::memory;
use super::operator;
use super::rebuild::{Ended, Rebuild};
use super::schema::over_http::OverHttp;
use super::service::{Service, Surroundings};
use super::settle::{self, Settled, Settling};
use super::sinks::Sinks;
use super::state_loss;
use crate::avro::registry::Registry;
use crate::clock::{Clock, Deadline, SystemClock};
use crate::config::Config;
use crate::engine::branch::BranchFault;
use crate::engine::commit::NoProducer;
use crate::engine::job::JobFault;
use crate::engine::processor::ProcessFault;
use crate::engine::restore::RestoreFault;
use crate::engine::status::Totals;
use crate::engine::supervisor::TenantFault;
use crate::engine::worker::WorkerFault;
use crate::http;
use crate::kafka::Failure;
use crate::kafka::{Position, TopicPartition};
use crate::schemas::announce::Webhook;
use crate::store::StoreFault;
use crate::telemetry::health::Health;
use crate::telemetry::metric::Metrics;
use crate::tenant::{Tenant, check};

/// Step of the loop that waits for signals and ends.
const STEP: Duration = Duration::from_millis(50);
/// After this time a start counts as over, ready or not.
const START_WITHIN: Duration = Duration::from_secs(60);
/// A drain asks for the ends of topics until this has passed.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// Runs the tenants' jobs.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Tenant files; those of the configuration when none is given.
    pub tenants: Vec<PathBuf>,
    /// Worker threads per tenant (0: the number of cores).
    #[arg(long)]
    pub workers: Option<usize>,
    /// Stop when the ends that the input topics had at the start are committed, and print one line `RESULT …`. Ends with code 9 when only
    /// a person can help on: a schema is held, or a batch cannot be read.
    #[arg(long)]
    pub drain: bool,
    /// Compute a tenant whose windows were changed anew from what its inputs hold, beside the generation that counts, and put it in that
    /// one's place when it is complete and all other instances are stopped; then go on as always.
    #[arg(long)]
    pub rebuild: bool,
    /// Go on although state of this window is lost, or of `all`; can be repeated. Where several tenants have one of this name, say whose.
    /// A loss is recorded on the tenant's events topic, once, where it is met; what is not lost is left as it is.
    #[arg(long, value_name = "[TENANT/]WINDOW")]
    pub accept_state_loss: Vec<String>,
    /// Do not write to MongoDB.
    #[arg(long)]
    pub no_mongo: bool,
    /// Do not serve health and metrics.
    #[arg(long)]
    pub no_http: bool,
}

/// Runs until stopped, drained, or every tenant has ended.
pub fn run(args: Args, mut config: Config) -> anyhow::Result<()> {
    memory::bound_heaps();
    let runtime = super::runtime(2)?;
    // From the first moment: a start may take a while.
    let signals = watch_signals(&runtime)?;
    if !args.tenants.is_empty() {
        config.tenants.clone_from(&args.tenants);
    }
    if let Some(workers) = args.workers {
        config.engine.workers = workers;
    }
    if args.no_mongo {
        config.mongo = None;
    }
    let tenants = load(&config)?;
    must_be_usable(&config).exit(Exit::Usage)?;
    if args.rebuild && tenants.len() != 1 {
        return Err(anyhow!("--rebuild takes one tenant file: the others would wait for it")).exit(Exit::Usage);
    }
    config.engine.start_empty.extend_from_slice(&args.accept_state_loss);
    config.engine.start_empty = state_loss::accepted(&config.engine.start_empty, &tenants)?;
    config.engine.operator = operator::who();
    let around = Surroundings { metrics: Metrics::new(), health: Arc::new(Health::default()), runtime: runtime.handle().clone() };
    let server = match args.no_http {
        true => None,
        false => Some(serve(&config, &tenants, &around)?),
    };
    if args.rebuild && (Rebuild { config: &config, around: &around, signals: &signals }).run()? == Ended::Stopped {
        return stopped(&args);
    }
    let Some(settled) = settled(&args, &config, &tenants, &around, &signals) else { return stopped(&args) };
    if settled.ready.is_empty() {
        return settled.end();
    }
    let service = Service::start(&config, settled.ready.clone(), &around)?;
    let sinks = Sinks::start(&config, &settled.ready, &around, service.gates())?;
    let end = wait_for_end(&args, &service, &sinks, &around.health, &signals);
    let totals = service.totals();
    let wait = config.engine.shutdown_timeout();
    let (faults, all_ended) = service.stop(wait);
    sinks.stop(wait);
    drop(server);
    runtime.shutdown_timeout(Duration::from_secs(1));
    if args.drain {
        println!("{}", result_line(&totals));
    }
    end?;
    if let Some((tenant, fault)) = faults.into_iter().next() {
        return match tenants.iter().find(|known| known.name == tenant) {
            Some(declared) => Err(ended(declared, fault, &config)),
            None => Err(fault.into()),
        };
    }
    settled.end()?;
    match all_ended {
        true => Ok(()),
        false => Err(anyhow!("not everything ended within {} s", wait.as_secs())),
    }
}

/// What is told of a tenant that ended with a fault; what can be pointed at in its file is.
pub(super) fn ended(tenant: &Tenant, fault: TenantFault, config: &Config) -> anyhow::Error {
    let code = exit_of(&fault);
    if let Some(places) = places_of(&fault, tenant, &config.tenant) {
        eprintln!("{places}");
    }
    let error = anyhow::Error::from(fault).context(format!("tenant {} ended", tenant.name));
    Err::<(), _>(error).exit(code).expect_err("an error")
}

/// Finds out which generation of each tenant counts; nothing when told to stop before.
fn settled(args: &Args, config: &Config, tenants: &[Arc<Tenant>], around: &Surroundings, signals: &AtomicUsize) -> Option<Settled> {
    let clock = SystemClock::shared();
    let settling = Settling {
        health: &around.health,
        clock: &*clock,
        is_drain: args.drain,
        is_stopped: &|| signals.load(Ordering::Relaxed) > 0,
        find: &|tenant: &Tenant| settle::find(config, tenant, &around.runtime),
    };
    settling.run(tenants)
}

/// Reads and checks the configured tenant files.
pub fn load(config: &Config) -> anyhow::Result<Vec<Arc<Tenant>>> {
    if config.tenants.is_empty() {
        return Err(anyhow!(
            "no tenant file is named; give one, such as `testudo run tenants/zoo.toml`, or set `tenants` in the configuration"
        ))
        .exit(Exit::Usage);
    }
    let checked = check::tenants(&config.tenants, &config.tenant).exit(Exit::Usage)?;
    for warning in &checked.warnings {
        tracing::warn!("{warning}");
    }
    Ok(checked.tenants.into_iter().map(Arc::new).collect())
}

/// What is found only where clients are made is found before anything starts.
fn must_be_usable(config: &Config) -> anyhow::Result<()> {
    Registry::must_be_usable(&config.registry).context("failed to set up the registry client")?;
    Webhook::of(&config.events).map_err(anyhow::Error::msg)?;
    Ok(())
}

fn serve(config: &Config, tenants: &[Arc<Tenant>], around: &Surroundings) -> anyhow::Result<http::ServerHandle> {
    let info = http::Info { instance: config.instance.clone(), tenants: tenants.iter().map(|tenant| tenant.name.clone()).collect() };
    let owner = OverHttp { config: config.clone(), tenants: tenants.to_vec(), runtime: around.runtime.clone() };
    around
        .runtime
        .block_on(http::serve_for(&config.http, around.metrics.clone(), around.health.clone(), info, Some(Arc::new(owner))))
        .with_context(|| format!("failed to serve health and metrics on {}", config.http.bind))
        .exit(Exit::Usage)
}

/// Counts SIGTERM and SIGINT. The second ends the process at once: nothing uncommitted is visible, so that is safe too.
fn watch_signals(runtime: &tokio::runtime::Runtime) -> anyhow::Result<Arc<AtomicUsize>> {
    use tokio::signal::unix::{SignalKind, signal};
    let _inside = runtime.enter();
    let mut terminate = signal(SignalKind::terminate()).context("failed to watch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to watch SIGINT")?;
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = seen.clone();
    runtime.spawn(async move {
        loop {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            if counter.fetch_add(1, Ordering::Relaxed) > 0 {
                tracing::warn!("second signal, ending at once; uncommitted work is done again at the next start");
                std::process::exit(Exit::Failure as i32);
            }
            tracing::info!("stopping: committing what is open");
        }
    });
    Ok(seen)
}

fn wait_for_end(args: &Args, service: &Service, sinks: &Sinks, health: &Health, signals: &AtomicUsize) -> anyhow::Result<()> {
    let clock = SystemClock::shared();
    let mut start = Some(Deadline::after(&*clock, START_WITHIN));
    let mut drain = match args.drain {
        true => Some(Drain::to(input_ends(service, &*clock)?)),
        false => None,
    };
    while signals.load(Ordering::Relaxed) == 0 && !service.is_finished() {
        if let Some(drain) = &mut drain {
            match drain.look(service, sinks, &*clock)? {
                Drained::NotYet => {}
                Drained::Yes => return Ok(()),
                Drained::Stuck(lines) => return Err(stuck(&lines)).exit(Exit::Waiting),
            }
        }
        if start.as_ref().is_some_and(|until| health.is_ready() || until.is_over(&*clock)) {
            memory::let_go_of_start();
            start = None;
        }
        clock.sleep(STEP);
    }
    match service.is_finished() {
        true => Ok(()),
        false => stopped(args),
    }
}

/// What a signal comes to: a drain that somebody waits for is not done.
fn stopped(args: &Args) -> anyhow::Result<()> {
    match args.drain {
        true => Err(anyhow!("stopped before everything was drained; what was committed stays, the next run goes on from there")),
        false => Ok(()),
    }
}

fn input_ends(service: &Service, clock: &dyn Clock) -> anyhow::Result<HashMap<String, Vec<(TopicPartition, Position)>>> {
    let deadline = Deadline::after(clock, ENDS_WITHIN);
    loop {
        match service.input_ends() {
            Err(error) if !deadline.is_over(clock) => {
                tracing::warn!(%error, "ends of the input topics are not known yet");
                clock.sleep(Duration::from_millis(500));
            }
            known => return known.context("failed to read the ends of the input topics").exit(Exit::Unreachable),
        }
    }
}

/// Why a drain ended before its end.
fn stuck(lines: &[String]) -> anyhow::Error {
    anyhow!(
        "the drain ended before the end of the input: what is left in {} waits for somebody's decision; everything before it is committed\n  {}\n\
         decide, then drain again",
        match lines.len() {
            1 => "1 partition".to_owned(),
            partitions => format!("{partitions} partitions"),
        },
        lines.join("\n  ")
    )
}

/// Which exit code tells a supervisor what to do about a fault.
fn exit_of(fault: &TenantFault) -> Exit {
    match fault {
        TenantFault::Store(fault) => of_store(fault),
        TenantFault::Job(fault) => of_job(fault),
        TenantFault::Worker(fault) => match fault {
            WorkerFault::Store(fault) | WorkerFault::Restore(RestoreFault::Store(fault)) => of_store(fault),
            WorkerFault::Job(fault) => of_job(fault),
            WorkerFault::Restore(RestoreFault::Refused { .. } | RestoreFault::Ahead { .. }) => Exit::Incompatible,
            WorkerFault::Producer(NoProducer::Fenced { .. }) => Exit::Fenced,
            WorkerFault::Kafka(failure)
            | WorkerFault::Producer(NoProducer::Failed(failure))
            | WorkerFault::Restore(RestoreFault::Kafka(failure)) => of_broker(failure),
            WorkerFault::Process(ProcessFault::Branch(BranchFault::Store(fault))) => of_store(fault),
            WorkerFault::Process(_) => Exit::Failure,
        },
        TenantFault::Panicked(_) | TenantFault::Stuck => Exit::Failure,
    }
}

fn of_job(fault: &JobFault) -> Exit {
    match fault {
        JobFault::Kafka(failure) => of_broker(failure),
        JobFault::Store(fault) => of_store(fault),
        JobFault::MissingTopics(_)
        | JobFault::Topology(_)
        | JobFault::Superseded(_)
        | JobFault::Registry { .. }
        | JobFault::Output { .. } => Exit::Incompatible,
        JobFault::Branch(_) => Exit::Failure,
    }
}

fn of_broker(failure: &Failure) -> Exit {
    if failure.is_forbidden { Exit::Forbidden } else { Exit::Failure }
}

fn of_store(fault: &StoreFault) -> Exit {
    match fault {
        StoreFault::Foreign { .. } | StoreFault::Changed { .. } => Exit::Incompatible,
        StoreFault::Locked { .. } | StoreFault::Damaged { .. } | StoreFault::Disk { .. } => Exit::Damaged,
    }
}

/// `RESULT records= seconds= records_per_s= vmhwm_mib= cpu_s=`; seconds from the first record to the last commit.
pub fn result_line(totals: &Totals) -> String {
    let seconds = match (totals.first_record, totals.last_commit) {
        (Some(first), Some(last)) => last.saturating_sub(first).as_secs_f64(),
        _ => 0.0,
    };
    let rate = if seconds > 0.0 { totals.records as f64 / seconds } else { 0.0 };
    let (vmhwm_mib, cpu_s) = (vmhwm_mib().unwrap_or(0), cpu_seconds().unwrap_or(0.0));
    format!("RESULT records={} seconds={seconds:.2} records_per_s={rate:.0} vmhwm_mib={vmhwm_mib} cpu_s={cpu_s:.1}", totals.records)
}

/// Peak resident memory of this process.
fn vmhwm_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? / 1024)
}

/// User and system time of this process.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
    // The 14th and 15th field of stat(5); the first two went with the name. Ticks are 1/100 s on Linux.
    Some((fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?) / 100.0)
}
