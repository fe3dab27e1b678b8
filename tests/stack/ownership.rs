//! A partition that its group has given to nobody is noticed and taken up again, whoever is there to notice it (ADR 0016).
//!
//! It comes about as in life: a static member dies when it is told to let partitions go, and its successor takes its place before the
//! group knows. The coordinator then goes on with the first of two rounds as if it were the last.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use rdkafka::consumer::{BaseConsumer, Consumer};
use testudo::kafka::{Roster, TopicPartition, roster};
use testudo::stack::Stack;

use crate::Test;
use crate::job::{Instance, wait_for};
use crate::matrix::rig::{PARTITIONS, Rig, TRANSACTION_TIMEOUT, ready_partitions};

pub const TESTS: &[Test] = &[
    ("a_partition_without_an_owner_is_taken_up_beside_another_process", beside_another),
    ("a_partition_without_an_owner_is_taken_up_within_one_process", within_one),
];

/// Sessions outlast a restart: none ends by itself, so nothing but a member that joins again can heal the group.
const SESSION_MS: &str = "20000";
/// Of a process that is not killed; who comes after it waits for that.
const SESSION_OF_TWO_MS: &str = "10000";
/// Two looks, the patience with the former owner (a transaction and 10 s), and the turns of those who act before.
const HEALED_WITHIN: Duration = Duration::from_secs(TRANSACTION_TIMEOUT.as_secs() + 10 + 2 * 5 + 10);
/// What a member does that joins again.
const JOINS_AGAIN: &str = "the group has given a partition to nobody, joining it again";

/// Looks at a group from outside.
struct Outsider {
    group: String,
    client: BaseConsumer,
    all: BTreeSet<TopicPartition>,
}

impl Outsider {
    fn of(rig: &Rig<'_>) -> Result<Self, Failed> {
        let mut config = rig.job.client();
        config.set("group.id", "outsider");
        let client: BaseConsumer = config.create()?;
        let group = rig.job.name.clone();
        let all = (0..PARTITIONS).map(|partition| TopicPartition::new(rig.job.topic("in"), partition)).collect();
        Ok(Self { group, client, all })
    }

    fn roster(&mut self) -> Result<Roster, Failed> {
        let mut found = None;
        wait_for("the coordinator's word", || {
            found = roster::ask(self.client.client(), &self.group, String::new(), Duration::from_secs(5)).ok();
            Ok(found.is_some())
        })?;
        Ok(found.ok_or("an answer")?)
    }

    /// Partitions without an owner in a group that rests.
    fn unowned(&mut self) -> Result<Option<usize>, Failed> {
        let roster = self.roster()?;
        let owned: BTreeSet<&TopicPartition> = roster.members.values().flatten().collect();
        Ok(roster.rests.then(|| self.all.iter().filter(|partition| !owned.contains(partition)).count()))
    }
}

fn with_sessions(rig: &mut Rig<'_>, lasting_ms: &str) {
    rig.environment = vec![("TESTUDO__KAFKA__CONSUMER__SESSION_TIMEOUT_MS", lasting_ms.to_owned())];
}

/// Another process joins; the one that has everything dies when it hears of it, and is back at once.
fn beside_another(stack: &Stack) -> Result<(), Failed> {
    let mut rig = Rig::new(stack)?;
    with_sessions(&mut rig, SESSION_MS);
    let mut dying = rig.start("one", "revoke.before_commit=return", 1)?;
    rig.wait_until_owner(&mut dying)?;
    with_sessions(&mut rig, SESSION_OF_TWO_MS);
    let two = rig.start("two", "", 1)?;
    wait_for("one to die", || Ok(dying.ended()?.is_some()))?;

    with_sessions(&mut rig, SESSION_MS);
    let one = rig.start("one", "", 1)?;

    heals(rig, vec![one, two])
}

/// One of two workers joins late; the one that has everything by then dies when it hears of it, and with it the other.
fn within_one(stack: &Stack) -> Result<(), Failed> {
    let mut rig = Rig::new(stack)?;
    with_sessions(&mut rig, SESSION_MS);
    let mut dying = rig.start("one", "producer.init=1*off->1*sleep(4000)->off;revoke.before_commit=return", 2)?;
    wait_for("one to die", || Ok(dying.ended()?.is_some()))?;

    let one = rig.start("one", "", 2)?;

    heals(rig, vec![one])
}

/// The group rests and has given half of the partitions to nobody. One member joins again, once, and everything goes on.
fn heals(mut rig: Rig<'_>, instances: Vec<Instance>) -> Result<(), Failed> {
    let load = rig.load(u64::from(std::process::id()));
    let half = PARTITIONS as usize / 2;
    let mut outsider = Outsider::of(&rig)?;
    let ready = |instances: &[Instance]| instances.iter().map(|instance| ready_partitions(&instance.log()).len()).sum::<usize>();
    wait_for("the successor to take its predecessor's place", || Ok(ready(&instances) == half))?;
    let since = Instant::now();
    assert_eq!(outsider.unowned()?, Some(half), "the group has given half of the partitions to nobody");

    let outcome = wait_for("every partition to have an owner", || Ok(outsider.unowned()? == Some(0)))
        .and_then(|()| Ok((since.elapsed(), rig.progress.all_moved(Instant::now())?)));
    let told = |what: &str| Failed::from(format!("{what}\n{}", rig.logs()));
    let (healed, moved) = outcome.map_err(|failed| told(failed.message().unwrap_or("failed")))?;

    println!("every partition has an owner after {:.1} s, and has moved {:.1} s later", healed.as_secs_f64(), moved.as_secs_f64());
    let joins: Vec<usize> = instances.iter().map(|instance| instance.log().matches(JOINS_AGAIN).count()).collect();
    if joins.iter().sum::<usize>() != 1 {
        return Err(told(&format!("one member has to join again, once, not {joins:?}")));
    }
    if healed > HEALED_WITHIN {
        return Err(told(&format!("healed after {healed:?} only")));
    }
    let faults = ["tenant starts again", "Lost("];
    if let Some(fault) = faults.iter().find(|fault| instances.iter().any(|instance| instance.log().contains(**fault))) {
        return Err(told(&format!("nobody had to be disturbed for that: {fault}")));
    }
    load.stop()?;
    let verdict = rig.judge(instances).map_err(|failed| Failed::from(format!("{failed:?}\n{}", rig.logs())))?;
    match verdict.is_clean() {
        true => Ok(()),
        false => Err(format!("{verdict:#?}\n{}", rig.logs()).into()),
    }
}
