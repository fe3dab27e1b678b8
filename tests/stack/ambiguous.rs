//! Requests and answers that get lost, come late or come twice: nobody can tell what the broker did, and nothing may depend on a guess.
//!
//! Each test lets the zoo's job work off its input through the proxy under one fault and ends in the audit. One worker and small epochs
//! make the faults fall where they are meant to: after [`QUIET`] transactions, in the middle of the work.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Failed;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use testudo::stack::Stack;

use crate::Test;
use crate::job::{Instance, Job, PATIENCE, READING, wait_for};
use crate::proxy::{Api, Fault, Proxy, Rule};

pub const TESTS: &[Test] = &[
    ("proxy_eos8_an_end_whose_answer_is_cut_off_counts_once_and_costs_the_producer", end_applied_connection_cut),
    ("proxy_eos7_an_end_that_is_never_answered_is_not_guessed", end_applied_never_answered),
    ("proxy_eos8_an_end_that_comes_late_does_not_end_the_next_transaction", end_held),
    ("proxy_eos8_an_end_comes_late_and_the_client_is_silent_about_it", end_held_in_silence),
    ("proxy_positions_that_come_late_do_not_get_into_the_next_transaction", positions_held),
    ("proxy_kafka_17754_a_producer_that_is_kept_is_hit_by_a_late_end", a_kept_producer_is_hit),
    ("proxy_an_end_that_comes_twice_counts_once", end_twice),
    ("proxy_records_slower_than_the_transaction_are_produced_again", records_slow),
    ("proxy_a_session_lost_during_a_commit_aborts_it", session_lost),
    ("proxy_connections_cut_at_every_step_of_a_transaction", cut_everywhere),
];

/// The rest, beside the crash matrix: `make crash TESTS=proxy_`.
pub const LONG_TESTS: &[Test] = &[
    ("proxy_eos8_an_end_cut_off_before_the_broker_is_sent_again", end_cut_off),
    ("proxy_eos7_an_end_that_never_arrives_is_not_guessed", end_lost),
    ("proxy_eos8_a_slow_end_costs_the_producer", end_slow),
    ("proxy_positions_lost_on_the_way_abort_or_are_sent_again", positions_lost),
    ("proxy_positions_taken_without_an_answer_count_once", positions_unanswered),
    ("proxy_a_group_added_to_a_transaction_without_an_answer", group_unanswered),
    ("proxy_slow_partitions_of_a_transaction", partitions_slow),
    ("proxy_records_taken_without_an_answer_are_not_doubled", records_unanswered),
    ("proxy_producers_initialised_without_an_answer", init_unanswered),
    ("proxy_committed_positions_that_come_late", committed_late),
    ("proxy_fetches_cut_off_lose_and_double_nothing", fetches_cut),
];

/// Records in the input, cut into epochs of at most [`EPOCH`].
const RECORDS: u64 = 6_000;
const EPOCH: &str = "100";
/// Transactions before the first fault.
const QUIET: u32 = 10;
/// `transaction.timeout.ms` of the job, short so that the tests are.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(4);

/// What the worker logs when it replaces a producer whose commit is known, and its commits' outcomes in `/metrics`.
const IN_DOUBT: &str = "connection was in doubt: replacing the producer (EOS-8)";
const UNKNOWN: &str = "unknown";

/// A job with its input in place, and the proxy that it will run through.
struct Trial<'s> {
    job: Job<'s>,
    proxy: Proxy,
}

impl<'s> Trial<'s> {
    fn new(stack: &'s Stack) -> Result<Self, Failed> {
        let job = Job::zoo(stack, 2)?;
        let schema = job.register(&job.topic("in"), READING)?;
        job.emulate(schema, 1, RECORDS, None, &[])?;
        Ok(Self { job, proxy: Proxy::start(stack.fault_listener())? })
    }

    /// A fault for the worker's producer, after the quiet time.
    fn set(&self, api: Api, fault: Fault, times: u32) -> Arc<Rule> {
        self.proxy.set(Rule::on(api, fault).of(&self.id()).after(QUIET).times(times))
    }

    /// The worker's transactional id.
    fn id(&self) -> String {
        format!("{}-one-0", self.job.name)
    }

    fn start(&self, transaction_timeout: Duration) -> Result<Instance, Failed> {
        self.job.start(
            "one",
            &[
                ("TESTUDO__KAFKA__BOOTSTRAP", &self.proxy.bootstrap()),
                ("TESTUDO__ENGINE__WORKERS", "1"),
                ("TESTUDO__ENGINE__EPOCH_RECORDS_MAX", EPOCH),
                ("TESTUDO__ENGINE__SLICE_RECORDS_MAX", EPOCH),
                ("TESTUDO__ENGINE__TRANSACTION_TIMEOUT_MS", &transaction_timeout.as_millis().to_string()),
            ],
        )
    }

    /// Works everything off through the proxy, looks at the instance, and audits, the proxy gone.
    fn run(self, look: impl FnOnce(&Instance) -> Result<(), Failed>) -> Result<(), Failed> {
        let running = self.start(TRANSACTION_TIMEOUT)?;
        self.job.wait_committed(RECORDS as i64)?;
        look(&running)?;
        running.terminate()?;
        self.audit()
    }

    fn audit(self) -> Result<(), Failed> {
        drop(self.proxy);
        self.job.drain()?;
        self.job.audit()
    }
}

/// EOS-8, F09: the coordinator commits, the connection breaks before it can say so, several times in a row. The client asks again and
/// learns of the commit; the requests cut off may still be under way, so the producer goes.
fn end_applied_connection_cut(stack: &Stack) -> Result<(), Failed> {
    let trial = Trial::new(stack)?;
    let cut = trial.set(Api::EndTxn, Fault::CutAfter, 3);
    let initialised = trial.set(Api::InitProducerId, Fault::Nothing, 0);
    trial.run(|running| {
        assert_eq!(cut.struck(), 3);
        assert!(running.log().contains(IN_DOUBT) && initialised.seen() >= 2, "the producer is replaced");
        Ok(())
    })
}

/// EOS-7: applied, never answered. Waiting does not help, so the group is asked, and it has the positions.
fn end_applied_never_answered(stack: &Stack) -> Result<(), Failed> {
    let trial = Trial::new(stack)?;
    let lost = trial.set(Api::EndTxn, Fault::LoseAnswer, 2);
    trial.run(|running| {
        assert_eq!(lost.struck(), 2);
        at_least(2, commits(running, UNKNOWN)?, "unknown commits")
    })
}

fn end_cut_off(stack: &Stack) -> Result<(), Failed> {
    let trial = Trial::new(stack)?;
    let cut = trial.set(Api::EndTxn, Fault::CutBefore, 3);
    trial.run(|running| {
        assert_eq!(cut.struck(), 3);
        assert!(running.log().contains(IN_DOUBT), "the producer is replaced");
        Ok(())
    })
}

/// EOS-7: the same silence, but the broker knows of nothing: the new producer aborts what is open and the records are processed again.
fn end_lost(stack: &Stack) -> Result<(), Failed> {
    let trial = Trial::new(stack)?;
    let lost = trial.set(Api::EndTxn, Fault::LoseRequest, 2);
    trial.run(|running| {
        assert_eq!(lost.struck(), 2);
        at_least(2, commits(running, UNKNOWN)?, "unknown commits")
    })
}

/// EOS-8, KAFKA-17754: the EndTxn that was cut off arrives when the next transaction is open and has not got its positions yet. It names the producer that was replaced, so the broker refuses it.
fn end_held(stack: &Stack) -> Result<(), Failed> {
    let trial = Trial::new(stack)?;
    let held = trial.set(Api::EndTxn, Fault::Hold, 1);
    let released = trial.proxy.set(Rule::on(Api::TxnOffsetCommit, Fault::Release(held.clone())).of(&trial.id()).times(1));
    trial.run(|_| {
        assert_eq!((held.struck(), released.struck()), (1, 1));
        assert_eq!(held.answers().len(), 1);
        assert_ne!(held.answers(), [0], "the late EndTxn must be refused");
        Ok(())
    })
}

/// EOS-8: the client says a thing twice and then no more for 30 s (librdkafka suppresses identical errors of a connection). When the
/// new producer's initialisation has been cut off twice, nothing is said about the EndTxn that is cut off next.
fn end_held_in_silence(stack: &Stack) -> Result<(), Failed> {
    let trial = Trial::new(stack)?;
    let cut = trial.set(Api::EndTxn, Fault::CutAfter, 1);
    let twice = trial.proxy.set(Rule::on(Api::InitProducerId, Fault::CutAfter).of(&trial.id()).after(1).times(2));
    // The first end of the new producer: the one that was cut off is sent once more before.
    let held = trial.proxy.set(Rule::on(Api::EndTxn, Fault::Hold).of(&trial.id()).after(QUIET + 1).times(1));
    let released = trial.proxy.set(Rule::on(Api::TxnOffsetCommit, Fault::Release(held.clone())).of(&trial.id()).times(1));
    trial.run(|_| {
        assert_eq!((cut.struck(), twice.struck(), held.struck(), released.struck()), (1, 2, 1, 1));
        assert_eq!(held.answers().len(), 1);
        assert_ne!(held.answers(), [0], "the late EndTxn must be refused");
        Ok(())
    })
}

/// The same for positions: those that were cut off arrive in the next transaction after its own, and would take the group back with it.
/// The process ends before a third one can hide that.
fn positions_held(stack: &Stack) -> Result<(), Failed> {
    let trial = Trial::new(stack)?;
    let held = trial.set(Api::TxnOffsetCommit, Fault::Hold, 1);
    // After the end of the transaction that the positions belong to.
    let next_end = |fault| trial.proxy.set(Rule::on(Api::EndTxn, fault).of(&trial.id()).after(QUIET + 1).times(1));
    let released = next_end(Fault::Release(held.clone()));
    let last = next_end(Fault::LoseRequest);
    let running = trial.start(TRANSACTION_TIMEOUT)?;
    wait_for("the end of a third transaction", || Ok(last.struck() == 1))?;
    running.kill()?;

    assert_eq!((held.struck(), released.struck(), held.answers().len()), (1, 1, 1));
    trial.audit()?;
    assert_ne!(held.answers(), [0], "the late positions must be refused");
    Ok(())
}

/// F09, the control for the late EndTxn: the same fault, and a program that keeps its producer. The late EndTxn commits the second
/// transaction, and what the program then aborts stays visible for ever.
fn a_kept_producer_is_hit(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 1)?;
    let topic = job.topic("control");
    job.create_topic(&topic, 1)?;
    let proxy = Proxy::start(stack.fault_listener())?;
    let id = format!("{}-control", job.name);
    let held = proxy.set(Rule::on(Api::EndTxn, Fault::Hold).of(&id).times(1));
    let mut config = job.client();
    config.set("bootstrap.servers", proxy.bootstrap()).set("transactional.id", &id);
    let producer: BaseProducer = config.create()?;
    let send = |value: &str| -> Result<(), Failed> {
        producer.begin_transaction()?;
        producer.send(BaseRecord::<str, str>::to(&topic).partition(0).payload(value)).map_err(|(error, _)| error)?;
        producer.flush(PATIENCE)?;
        Ok(())
    };
    producer.init_transactions(PATIENCE)?;

    send("first")?;
    producer.commit_transaction(PATIENCE)?;
    send("second")?;
    proxy.release(&held)?;

    assert_eq!(held.answers(), [0], "the late EndTxn is taken for the second transaction's");
    assert!(producer.abort_transaction(PATIENCE).is_err(), "there is nothing left to abort");
    wait_for("the second transaction's record", || Ok(job.read(&topic)?.len() == 2))
}

fn end_twice(stack: &Stack) -> Result<(), Failed> {
    let trial = Trial::new(stack)?;
    let doubled = trial.set(Api::EndTxn, Fault::Twice, 20);
    trial.run(|_| {
        assert_eq!(doubled.struck(), 20);
        Ok(())
    })
}

fn end_slow(stack: &Stack) -> Result<(), Failed> {
    let trial = Trial::new(stack)?;
    let slow = trial.set(Api::EndTxn, Fault::DelayAnswer(Duration::from_millis(1_500)), 2);
    trial.run(|running| {
        assert_eq!(slow.struck(), 2);
        at_least(2, running.log().matches(IN_DOUBT).count() as u64, "producers replaced")
    })
}

fn positions_lost(stack: &Stack) -> Result<(), Failed> {
    let trial = Trial::new(stack)?;
    let cut = trial.set(Api::TxnOffsetCommit, Fault::CutBefore, 3);
    let lost = trial.set(Api::TxnOffsetCommit, Fault::LoseRequest, 1);
    trial.run(|_| {
        assert_eq!((cut.struck(), lost.struck()), (3, 1));
        Ok(())
    })
}

fn positions_unanswered(stack: &Stack) -> Result<(), Failed> {
    let trial = Trial::new(stack)?;
    let cut = trial.set(Api::TxnOffsetCommit, Fault::CutAfter, 3);
    let lost = trial.set(Api::TxnOffsetCommit, Fault::LoseAnswer, 1);
    trial.run(|_| {
        assert_eq!((cut.struck(), lost.struck()), (3, 1));
        Ok(())
    })
}

fn group_unanswered(stack: &Stack) -> Result<(), Failed> {
    let trial = Trial::new(stack)?;
    let cut = trial.set(Api::AddOffsetsToTxn, Fault::CutAfter, 3);
    let lost = trial.set(Api::AddOffsetsToTxn, Fault::LoseAnswer, 1);
    trial.run(|_| {
        assert_eq!((cut.struck(), lost.struck()), (3, 1));
        Ok(())
    })
}

/// Slow within the transaction's time, then beyond it.
fn partitions_slow(stack: &Stack) -> Result<(), Failed> {
    let trial = Trial::new(stack)?;
    let slow = trial.set(Api::AddPartitionsToTxn, Fault::DelayRequest(TRANSACTION_TIMEOUT / 4), 2);
    let too_slow = trial.set(Api::AddPartitionsToTxn, Fault::DelayRequest(TRANSACTION_TIMEOUT * 5 / 4), 1);
    trial.run(|_| {
        assert_eq!((slow.struck(), too_slow.struck()), (2, 1));
        Ok(())
    })
}

/// F12: the records arrive when their transaction has been ended and its producer replaced.
fn records_slow(stack: &Stack) -> Result<(), Failed> {
    let trial = Trial::new(stack)?;
    let slow = trial.set(Api::Produce, Fault::DelayRequest(TRANSACTION_TIMEOUT * 3 / 2), 1);
    trial.run(|_| {
        assert_eq!(slow.struck(), 1);
        Ok(())
    })
}

/// The client sends the batch again under the same sequence number; the broker knows it.
fn records_unanswered(stack: &Stack) -> Result<(), Failed> {
    let trial = Trial::new(stack)?;
    let cut = trial.set(Api::Produce, Fault::CutAfter, 5);
    trial.run(|_| {
        assert_eq!(cut.struck(), 5);
        Ok(())
    })
}

fn init_unanswered(stack: &Stack) -> Result<(), Failed> {
    let trial = Trial::new(stack)?;
    let at_start = |fault, times| trial.proxy.set(Rule::on(Api::InitProducerId, fault).of(&trial.id()).times(times));
    let (cut, lost) = (at_start(Fault::CutAfter, 2), at_start(Fault::LoseAnswer, 1));
    trial.run(|_| {
        assert_eq!((cut.struck(), lost.struck()), (2, 1));
        Ok(())
    })
}

/// What the group is asked for comes late: at the start, and again when a lost commit makes the worker ask.
fn committed_late(stack: &Stack) -> Result<(), Failed> {
    let trial = Trial::new(stack)?;
    let late = trial.proxy.set(Rule::on(Api::OffsetFetch, Fault::DelayRequest(Duration::from_secs(1))).of(&trial.job.name).times(8));
    let lost = trial.set(Api::EndTxn, Fault::LoseAnswer, 1);
    trial.run(|running| {
        assert!(late.struck() >= 2, "asked for at the start and after the lost answer, struck {}", late.struck());
        assert_eq!(lost.struck(), 1);
        at_least(1, commits(running, UNKNOWN)?, "unknown commits")
    })
}

fn fetches_cut(stack: &Stack) -> Result<(), Failed> {
    let trial = Trial::new(stack)?;
    let cut = trial.proxy.set(Rule::on(Api::Fetch, Fault::CutAfter).after(3).times(10));
    trial.run(|_| {
        assert_eq!(cut.struck(), 10);
        Ok(())
    })
}

/// F11: no heartbeat arrives while positions are on their way into a transaction; when they come, the member is none any more.
fn session_lost(stack: &Stack) -> Result<(), Failed> {
    let trial = Trial::new(stack)?;
    let silent = trial.proxy.set(Rule::on(Api::Heartbeat, Fault::LoseRequest).of(&trial.job.name));
    // The session is 6 s in the tests' configuration, the transaction 10 s.
    let late = trial.set(Api::TxnOffsetCommit, Fault::DelayRequest(Duration::from_secs(8)), 1);
    let running = trial.start(Duration::from_secs(10))?;
    wait_for("the loss of the session", || Ok(counted(&running, "testudo_rebalances_total", "kind=\"lost\"")? >= 1))?;
    silent.lift();

    trial.job.wait_committed(RECORDS as i64)?;
    assert!(silent.struck() > 0);
    assert_eq!(late.struck(), 1);
    at_least(1, commits(&running, "aborted")? + commits(&running, UNKNOWN)?, "commits that did not happen")?;
    running.terminate()?;
    trial.audit()
}

/// Faults upon faults: what one of them left to be done is hit by the next.
fn cut_everywhere(stack: &Stack) -> Result<(), Failed> {
    let trial = Trial::new(stack)?;
    let cut = |api, fault, every| trial.proxy.set(Rule::on(api, fault).of(&trial.id()).every(every));
    let rules = [
        cut(Api::InitProducerId, Fault::CutAfter, 3),
        cut(Api::AddPartitionsToTxn, Fault::CutAfter, 21),
        cut(Api::Produce, Fault::CutBefore, 19),
        cut(Api::AddOffsetsToTxn, Fault::CutBefore, 23),
        cut(Api::TxnOffsetCommit, Fault::CutAfter, 22),
        cut(Api::EndTxn, Fault::CutAfter, 20),
        cut(Api::EndTxn, Fault::CutBefore, 25),
    ];
    trial.run(|_| {
        assert!(rules.iter().all(|rule| rule.struck() > 0), "{:?}", rules.each_ref().map(|rule| rule.struck()));
        Ok(())
    })
}

/// Transactions of an instance that ended so.
pub fn commits(running: &Instance, outcome: &str) -> Result<u64, Failed> {
    counted(running, "testudo_commits_total", &format!("outcome=\"{outcome}\""))
}

/// The sum of an instance's counters of this name with this label.
fn counted(running: &Instance, name: &str, label: &str) -> Result<u64, Failed> {
    let page = metrics(running)?;
    let lines = page.lines().filter(|line| line.starts_with(name) && line.contains(label));
    Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
}

/// What a running instance answers under `/metrics`; its log says where. Empty before it listens.
fn metrics(running: &Instance) -> Result<String, Failed> {
    let log = running.log();
    let mut lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let Some(listening) = lines.find(|line| line["message"] == "http listening") else { return Ok(String::new()) };
    let address = listening["addr"].as_str().ok_or("an address in the log")?;
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

fn at_least(least: u64, found: u64, what: &str) -> Result<(), Failed> {
    if found >= least { Ok(()) } else { Err(format!("{found} {what}, not at least {least}").into()) }
}
