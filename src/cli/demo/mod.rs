//! `testudo demo`: the zoo's job on a real local stack, a fleet for a minute, what came out, and an audit of all of it.

mod alerts;
mod feed;
mod folder;
mod show;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use indicatif::{ProgressBar, ProgressStyle};

use super::drain::{Drain, Drained};
use super::exit::{Exit, WithExit};
use super::run::{load, result_line};
use super::service::{Service, Surroundings};
use super::sinks::Sinks;
use crate::clock::{Deadline, SystemClock};
use crate::config::Config;
use crate::http;
use crate::stack::{Options, Stack};
use crate::telemetry::health::Health;
use crate::telemetry::metric::Metrics;
use crate::tenant::Tenant;

/// How long the job may take to finish what was sent.
const DRAIN_WITHIN: Duration = Duration::from_secs(120);

/// Shows the zoo's job at work on a local stack.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Tenant file of the job.
    #[arg(long, default_value = "tenants/zoo.toml")]
    tenant: PathBuf,
    /// Folder with one `<topic>-value.avsc` for each input topic.
    #[arg(long, default_value = "avro")]
    schemas: PathBuf,
    /// Sample readings that are replayed before the fleet.
    #[arg(long, default_value = "tenants/zoo-sample.csv")]
    sample: PathBuf,
    /// Folder for its data: a new one, an empty one, or that of an earlier demonstration. What it puts there is removed at the end unless
    /// kept.
    #[arg(long, default_value = ".testudo/demo")]
    dir: PathBuf,
    /// Seconds that the fleet sends.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Readings per second of each client.
    #[arg(long, default_value_t = 1_000)]
    rate: u32,
    /// Share of wrong records.
    #[arg(long, default_value_t = 0.02)]
    wrong: f64,
    /// Leave the stack running, and Testudo with it until Ctrl-C.
    #[arg(long, env = "KEEP", value_parser = clap::builder::BoolishValueParser::new())]
    keep: bool,
}

/// Runs the demonstration.
pub fn run(args: Args, config: Config) -> anyhow::Result<()> {
    folder::take(&args.dir)?;
    show::step("starting Kafka, the schema registry and MongoDB");
    let options = Options { dir: args.dir.clone(), ..Options::default() };
    let mut stack = Stack::up(options).context("failed to start the local stack").exit(Exit::Unreachable)?;
    show::endpoints(&stack);
    let ended = demonstrate(&args, config, &stack);
    if args.keep {
        stack.keep();
        println!("\nthe stack is still running; `make down` ends it");
    } else {
        show::step("cleaning up");
        stack.down()?;
        folder::clean(&args.dir)?;
    }
    ended
}

fn demonstrate(args: &Args, mut config: Config, stack: &Stack) -> anyhow::Result<()> {
    configure(args, &mut config, stack);
    let runtime = crate::cli::runtime(2)?;
    let tenants = load(&config)?;
    let tenant = tenants.first().cloned().ok_or_else(|| anyhow!("no tenant"))?;
    show::step("registering schemas, creating topics");
    let clients = feed::prepare(args, &config, &tenant, &runtime)?;
    show::step("starting testudo");
    let around = Surroundings { metrics: Metrics::new(), health: Arc::new(Health::default()), runtime: runtime.handle().clone() };
    let info = http::Info { instance: config.instance.clone(), tenants: vec![tenant.name.clone()] };
    let server =
        runtime.block_on(http::serve(&config.http, around.metrics.clone(), around.health.clone(), info)).context("failed to serve HTTP")?;
    println!("  health and metrics   http://{}/readyz  http://{}/metrics", server.addr, server.addr);
    let service = Service::start(&config, tenants.clone(), &around)?;
    let sinks = Sinks::start(&config, &tenants, &around, service.gates())?;
    let worked = work(args, &config, &tenant, clients, &service, &sinks);
    let waited = if args.keep && worked.is_ok() { wait_for_interrupt(&runtime) } else { Ok(()) };
    let totals = service.totals();
    let (faults, _) = service.stop(config.engine.shutdown_timeout());
    sinks.stop(config.engine.shutdown_timeout());
    drop(server);
    for (tenant, fault) in faults {
        println!("  tenant {tenant} ended: {fault}");
    }
    let outcome = worked?;
    waited?;
    show::results(&config, &tenant, &outcome, &runtime)?;
    println!("\n  {}", result_line(&totals));
    show::step("auditing: everything recomputed from the input and compared");
    let report = runtime.block_on(super::audit::audit_one(&config, tenant.clone(), super::audit::FIRST, true))?;
    print!("{report}");
    match report.is_clean() {
        true => Ok(()),
        false => Err(anyhow!("the audit found discrepancies")).exit(Exit::Violation),
    }
}

/// The demonstration's own settings: local endpoints, a free port, and state inside its folder.
fn configure(args: &Args, config: &mut Config, stack: &Stack) {
    config.tenants = vec![args.tenant.clone()];
    config.instance = "demo".into();
    config.kafka.bootstrap = stack.bootstrap();
    config.registry.url = stack.registry_url();
    config.mongo = Some(crate::mongo::settings::Settings { uri: stack.mongo_uri().into(), ..Default::default() });
    config.store.dir = args.dir.join(folder::STATE);
    config.http.bind = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
}

/// What the demonstration saw.
pub struct Outcome {
    report: crate::emulator::Report,
    latencies_ms: Vec<i64>,
    alerts: Vec<String>,
}

/// Sends, shows progress, waits until everything sent is done and in MongoDB.
fn work(
    args: &Args,
    config: &Config,
    tenant: &Arc<Tenant>,
    clients: feed::Clients,
    service: &Service,
    sinks: &Sinks,
) -> anyhow::Result<Outcome> {
    let clock = SystemClock::shared();
    show::step(&format!("{} s of readings, {} % of them wrong", args.seconds, args.wrong * 100.0));
    let stop_watching = Arc::new(AtomicBool::new(false));
    let watcher = alerts::watch(config, tenant, stop_watching.clone())?;
    let kafka = config.kafka.clone();
    let feeding = thread::Builder::new().name("emulator".into()).spawn(move || clients.send(&kafka))?;
    let bar = ProgressBar::new_spinner().with_style(ProgressStyle::with_template("  {spinner} {elapsed} {msg}")?);
    let mut told = Duration::ZERO;
    while !feeding.is_finished() {
        show::progress(&bar, service, &mut told, clock.monotonic());
        clock.sleep(Duration::from_millis(200));
    }
    let report = feeding.join().map_err(|_| anyhow!("the emulator panicked"))??;
    let mut drain = Drain::to(service.input_ends()?);
    let deadline = Deadline::after(&*clock, DRAIN_WITHIN);
    while drain.look(service, sinks, &*clock)? != Drained::Yes {
        show::progress(&bar, service, &mut told, clock.monotonic());
        if deadline.is_over(&*clock) || service.is_finished() {
            return Err(anyhow!("the job did not finish what was sent; see the log above"));
        }
        clock.sleep(Duration::from_millis(100));
    }
    bar.finish_and_clear();
    stop_watching.store(true, Ordering::Relaxed);
    let seen = watcher.join().map_err(|_| anyhow!("the reader of alerts panicked"))??;
    Ok(Outcome { report, latencies_ms: seen.latencies_ms, alerts: seen.samples })
}

fn wait_for_interrupt(runtime: &tokio::runtime::Runtime) -> anyhow::Result<()> {
    println!("\nkept running; Ctrl-C ends testudo");
    Ok(runtime.block_on(tokio::signal::ctrl_c())?)
}
