//! Claims about the stack itself: what takes a server away does so, and what comes back is whole.

use std::time::Duration;

use libtest_mimic::Failed;
use mongodb::bson::doc;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use testudo::stack::{Options, Ports, Stack};

use crate::Test;
use crate::job::{PATIENCE, wait_for};

pub const TESTS: &[Test] = &[
    ("stack_fault_listener_sends_clients_to_the_proxy", fault_listener),
    ("stack_paused_servers_go_on", paused),
    ("stack_database_steps_down_and_comes_back", step_down),
    ("stack_broker_stopped_in_good_order_comes_back", stopped),
];

/// Four more processes for a while: with `make crash`.
pub const LONG_TESTS: &[Test] = &[("stack_three_brokers_lose_one_and_go_on", three_brokers)];

/// Ample for an answer of a server that is there, and less than a broker's session.
const SHORT: Duration = Duration::from_secs(1);

fn fault_listener(stack: &Stack) -> Result<(), Failed> {
    let ports = stack.fault_listener();
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", format!("127.0.0.1:{}", ports.real)).create()?;

    let metadata = client.fetch_metadata(None, PATIENCE)?;

    let found: Vec<i32> = metadata.brokers().iter().map(|broker| broker.port()).collect();
    assert_eq!(found, [i32::from(ports.advertised)]);
    Ok(())
}

fn paused(stack: &Stack) -> Result<(), Failed> {
    wait_for("the broker", || broker_answers(stack))?;
    stack.pause_broker()?;
    let while_paused = broker_answers(stack);
    stack.continue_broker()?;
    assert!(!while_paused?, "a paused broker does not answer");
    wait_for("the broker", || broker_answers(stack))?;

    stack.pause_mongod()?;
    let while_paused = database_is_primary(stack);
    stack.continue_mongod()?;
    assert!(!while_paused?, "a paused database does not answer");
    wait_for("the database", || database_is_primary(stack))
}

fn step_down(stack: &Stack) -> Result<(), Failed> {
    stack.step_down_mongod(Duration::from_secs(3))?;

    assert!(!database_is_primary(stack)?, "nobody is primary for 3 s");
    wait_for("the database", || database_is_primary(stack))
}

fn stopped(stack: &Stack) -> Result<(), Failed> {
    stack.stop_broker()?;
    assert!(!broker_answers(stack)?);
    stack.start_broker()?;

    wait_for("the broker", || broker_answers(stack))
}

/// F07: with three copies a broker's end takes nothing away, and the transaction that it meets ends as asked.
fn three_brokers(_: &Stack) -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let options = Options {
        dir: dir.path().to_owned(),
        ports: Ports::Free,
        kafka_heap_mib: 256,
        fast_failure_settings: true,
        brokers: 3,
        ..Options::default()
    };
    let stack = Stack::up(options)?;
    let client = |settings: &[(&str, &str)]| {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", stack.bootstrap());
        for (name, value) in settings {
            config.set(*name, *value);
        }
        config
    };
    let admin: AdminClient<DefaultClientContext> = client(&[]).create()?;
    let topic = NewTopic::new("three", 3, TopicReplication::Fixed(3));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for answer in runtime.block_on(admin.create_topics(&[topic], &AdminOptions::new()))? {
        answer.map_err(|(topic, code)| format!("topic {topic} not created: {code}"))?;
    }
    let producer: BaseProducer = client(&[("transactional.id", "three")]).create()?;
    producer.init_transactions(PATIENCE)?;

    for killed in 1..=3 {
        producer.begin_transaction()?;
        send_to_all(&producer, killed)?;
        stack.kill_broker_of(killed)?;
        send_to_all(&producer, killed)?;
        producer.commit_transaction(PATIENCE)?;
        stack.start_broker_of(killed)?;
    }

    let reader: BaseConsumer = client(&[("group.id", "three"), ("isolation.level", "read_committed")]).create()?;
    for partition in 0..3 {
        // Each transaction left two records and a marker.
        let ends = || Ok(reader.fetch_watermarks("three", partition, SHORT).is_ok_and(|(_, stable)| stable == 9));
        wait_for("all that was committed", ends)?;
    }
    Ok(stack.down()?)
}

fn send_to_all(producer: &BaseProducer, number: usize) -> Result<(), Failed> {
    for partition in 0..3 {
        let payload = number.to_string();
        let record = BaseRecord::<[u8], str>::to("three").partition(partition).payload(&payload);
        producer.send(record).map_err(|(error, _)| error)?;
    }
    producer.flush(PATIENCE)?;
    Ok(())
}

fn broker_answers(stack: &Stack) -> Result<bool, Failed> {
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", stack.bootstrap()).create()?;
    Ok(client.fetch_metadata(None, SHORT).is_ok())
}

fn database_is_primary(stack: &Stack) -> Result<bool, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut options = mongodb::options::ClientOptions::parse(stack.mongo_uri()).await?;
        options.server_selection_timeout = Some(SHORT);
        let client = mongodb::Client::with_options(options)?;
        let hello = tokio::time::timeout(SHORT, client.database("admin").run_command(doc! { "hello": 1 })).await;
        Ok(hello.is_ok_and(|answer| answer.is_ok_and(|answer| answer.get_bool("isWritablePrimary").unwrap_or(false))))
    })
}
