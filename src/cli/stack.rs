//! `testudo stack`: starts, shows and ends the local broker, schema registry and database.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::clock::SystemClock;
use crate::kafka::port::Broker;
use crate::kafka::{self, NewTopic};
use crate::stack::{self, Options, Ports, ServiceStatus, Stack};

const CREATE_WITHIN: Duration = Duration::from_secs(10);

/// Run real servers on this machine, for development and tests.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Start what does not run yet, wait until everything answers, and leave it running.
    Up {
        #[command(flatten)]
        place: Place,
        /// Take any free ports instead of 29092 to 29095, 28081 and 27117.
        #[arg(long)]
        free_ports: bool,
        /// Each broker's heap in MiB.
        #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(256..=16_384))]
        kafka_heap: u32,
        /// Have the cluster notice failures in seconds, as failure tests want it.
        #[arg(long)]
        fast_failures: bool,
        /// One broker, or three with a copy of everything each.
        #[arg(long, default_value_t = 1, value_name = "1|3")]
        brokers: usize,
    },
    /// Create topics on the local broker, which makes none by itself; those that exist are left as they are.
    Topics {
        #[command(flatten)]
        place: Place,
        /// Partitions of each.
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=1_000))]
        partitions: i32,
        /// Their names.
        #[arg(required = true, value_name = "TOPIC")]
        names: Vec<Arc<str>>,
    },
    /// End what runs.
    Down {
        #[command(flatten)]
        place: Place,
        /// Remove the data too, and forget the ports.
        #[arg(long)]
        wipe: bool,
    },
    /// Show each server's pid and whether it answers; fails when one does not.
    Status {
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, clap::Args)]
struct Place {
    /// Folder for data, logs, pids and `stack.json` with the endpoints.
    #[arg(long, default_value = ".testudo/stack")]
    dir: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// When a server cannot be started or ended; `status` when one does not answer.
pub fn run(args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::Up { place, free_ports, kafka_heap, fast_failures, brokers } => {
            let options = Options {
                dir: place.dir,
                ports: if free_ports { Ports::Free } else { Ports::Usual },
                kafka_heap_mib: kafka_heap,
                fast_failure_settings: fast_failures,
                brokers,
                ..Options::default()
            };
            let mut running = Stack::up(options)?;
            running.keep();
            show(&stack::status(running.dir())?);
            Ok(())
        }
        Action::Topics { place, partitions, names } => create_topics(&Stack::attach(&place.dir)?, partitions, names),
        Action::Down { place, wipe } => stack::down(&place.dir, wipe),
        Action::Status { place } => {
            let services = stack::status(&place.dir)?;
            show(&services);
            let silent: Vec<&str> = services.iter().filter(|service| !service.answers).map(|service| service.name).collect();
            ensure!(silent.is_empty(), "not answering: {}", silent.join(", "));
            Ok(())
        }
    }
}

fn create_topics(stack: &Stack, partitions: i32, names: Vec<Arc<str>>) -> anyhow::Result<()> {
    let runtime = super::runtime(1)?;
    let settings = kafka::Settings { bootstrap: stack.bootstrap(), ..kafka::Settings::default() };
    // Nothing here opens a transaction; the wait serves as its timeout too.
    let cluster = kafka::Cluster::new(settings, "testudo-stack", CREATE_WITHIN, SystemClock::shared(), runtime.handle().clone());
    let topics: Vec<NewTopic> = names.into_iter().map(|name| NewTopic { name, partitions, config: Vec::new() }).collect();
    cluster.create(&topics, CREATE_WITHIN).context("failed to create the topics")
}

fn show(services: &[ServiceStatus]) {
    for ServiceStatus { name, pid, endpoint, answers } in services {
        let state = match pid {
            Some(pid) if *answers => format!("pid {pid}"),
            Some(pid) => format!("pid {pid}, silent"),
            None => "down".to_owned(),
        };
        println!("{name:<10} {state:<20} {endpoint}");
    }
}
