//! The tenant's own change: told, continued where it can be, begun beside the old one, or rebuilt from the input (docs/adr/0015-rebuild.md).

use std::collections::BTreeSet;

use libtest_mimic::Failed;
use mongodb::bson::{Document, doc};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use testudo::stack::Stack;

use crate::Test;
use crate::damage::ran;
use crate::job::{Instance, Job, READING, SMALL_EPOCHS, ZOO, wait_for};
use crate::matrix::load::Load;

pub const TESTS: &[Test] = &[
    ("a_rebuild_that_is_killed_anywhere_goes_on", killed_anywhere),
    ("a_changed_window_is_rebuilt_while_the_old_one_goes_on", under_load),
    ("an_instance_that_wakes_up_after_a_rebuild_ends", woken),
    ("a_rebuild_that_is_given_up_leaves_nothing", given_up),
    ("a_second_rebuild_waits_for_members_of_every_protocol_and_two_at_once_are_one", twice),
    ("a_generation_that_is_built_skips_what_it_cannot_read", skipped),
    ("what_is_rebuilt_after_a_reset_begins_with_the_first_record", after_reset),
    ("nobody_works_when_what_counts_was_deleted", forgotten),
    ("what_is_no_window_continues_and_a_new_window_starts_beside", compatible),
];

/// Where a rebuild is killed, in the order in which it comes there.
const POINTS: [&str; 14] = [
    "commit.sent",
    "commit.before_store",
    "rebuild.staged",
    "rebuild.switching",
    "rebuild.switched",
    "rebuild.copying",
    "rebuild.copied_some",
    "sink.written",
    "rebuild.copied",
    "rebuild.published",
    "rebuild.renaming",
    "rebuild.renamed",
    "rebuild.exchanged",
    "rebuild.settled",
];

/// Writes the zoo's tenant file with a window of so many minutes.
fn declare(job: &Job<'_>, minutes: u32) -> Result<(), Failed> {
    let file = ZOO.replace("NAME", &job.name).replace("\"1 minute\" }", &format!("\"{minutes} minutes\" }}"));
    Ok(std::fs::write(job.path("tenants/tenant.toml"), file)?)
}

/// The lengths of the windows that the collection holds, seconds.
fn lengths(job: &Job<'_>) -> Result<BTreeSet<i64>, Failed> {
    let collection = job.collection("zoo_analytics")?;
    job.block_on(async {
        let mut found = collection.find(doc! {}).await?;
        let mut lengths = BTreeSet::new();
        while found.advance().await? {
            let document: Document = found.deserialize_current()?;
            let millis = |name: &str| document.get_datetime(name).map(|at| at.timestamp_millis());
            lengths.insert((millis("window_end")? - millis("window_start")?) / 1_000);
        }
        Ok(lengths)
    })
}

fn names_of(job: &Job<'_>) -> Result<Vec<String>, Failed> {
    let client = job.block_on(mongodb::Client::with_uri_str(job.stack.mongo_uri()))?;
    Ok(job.block_on(async { client.database(&job.database()).list_collection_names().await })?)
}

/// The exit code that says "does not fit", and these words.
fn refused(instance: &mut Instance, words: &[&str]) -> Result<(), Failed> {
    let code = instance.wait()?.code();
    let log = instance.log();
    match code == Some(5) && words.iter().all(|word| log.contains(word)) {
        true => Ok(()),
        false => Err(format!("ended with {code:?}, wanted 5 and {words:?}:\n{log}").into()),
    }
}

/// Waits for a step of a rebuild, which has many small ones.
fn wait_long(what: &str, new: &Instance, mut condition: impl FnMut() -> Result<bool, Failed>) -> Result<(), Failed> {
    for _ in 0..2 {
        if wait_for(what, &mut condition).is_ok() {
            return Ok(());
        }
    }
    wait_for(what, condition).map_err(|failed| format!("{}\n{}", failed.message().unwrap_or_default(), new.log()).into())
}

fn under_load(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 4)?;
    let schema = job.register(&job.topic("in"), READING)?;
    let load = Load::start(&job, schema, u64::from(std::process::id()));
    let old = job.start("one", &[])?;
    job.wait_committed(3_000)?;
    let index = mongodb::IndexModel::builder().keys(doc! { "total_records": 1 }).build();
    let collection = job.collection("zoo_analytics")?;
    job.block_on(async { collection.create_index(index).await })?;

    // It is given partitions of its own, and finds out from their changelogs.
    declare(&job, 5)?;
    refused(&mut job.start("two", &[])?, &["its size was 60 s and is 300 s", "testudo run --rebuild", "new name and topic"])?;
    let new = job.start_with("three", &["--rebuild"], &[])?;
    wait_long("the rebuilt generation to be complete", &new, || Ok(new.log().contains("rebuilt; stop all other instances")))?;

    let before = job.committed()?;
    wait_long("the old one to go on", &new, || Ok(job.committed()? > before))?;
    assert_eq!(lengths(&job)?, BTreeSet::from([60]), "the old results stand until the new ones are complete");
    assert!(!new.log().contains("publishing"), "{}", new.log());
    old.terminate()?;
    wait_long("the switch", &new, || Ok(new.log().contains("rebuilt; `testudo reset")))?;
    let next = format!("{}.g2", job.name);
    wait_long("the new one to work", &new, || Ok(job.committed_of(&next)? > job.committed()? + 1_000))?;
    load.stop()?;
    new.terminate()?;
    job.drain()?;

    assert_eq!(lengths(&job)?, BTreeSet::from([300]));
    let indexes = job.block_on(async { collection.list_index_names().await })?;
    assert!(indexes.iter().any(|name| name.starts_with("total_records")), "the owner's index is there again: {indexes:?}");
    job.audit()?;

    declare(&job, 1)?;
    refused(&mut job.start("one", &[])?, &["its size was 300 s and is 60 s"])?;
    declare(&job, 5)?;
    removed(&job, 1)?;
    job.emulate(schema, 77, 500, None, &[])?;
    job.drain()?;
    job.audit()
}

/// Removes what a generation has left; it must be gone.
fn removed(job: &Job<'_>, generation: u32) -> Result<(), Failed> {
    let output = job.command(&["reset", "tenants/tenant.toml", "--generation", &generation.to_string(), "--yes"]).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("reset --generation ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into()),
    }
}

fn killed_anywhere(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 2)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 5, 8_000, None, &[])?;
    job.drain()?;
    let alerts = job.read(&job.topic("alert"))?.len();
    assert!(alerts > 0 && job.documents("zoo_analytics")? > 0);

    declare(&job, 5)?;
    for point in POINTS {
        let failpoints = format!("{point}=return");
        let environment = [SMALL_EPOCHS[0], SMALL_EPOCHS[1], ("FAILPOINTS", failpoints.as_str())];
        let mut running = job.start_with("one", &["--rebuild", "--drain"], &environment)?;
        let ended = running.wait()?;
        if ended.code().is_some() {
            return Err(format!("{point} was not met, ended with {ended}:\n{}", running.log()).into());
        }
        if ["rebuild.staged", "rebuild.switching", "rebuild.switched", "rebuild.published"].contains(&point) {
            assert_eq!(lengths(&job)?, BTreeSet::from([60]), "killed at {point}: the old results stand");
        }
        if point == "rebuild.switched" {
            refused(&mut job.start("one", &[])?, &["not published whole"])?;
        }
    }
    let mut last = job.start_with("one", &["--rebuild", "--drain"], &[])?;
    if !last.wait()?.success() {
        return Err(last.log().into());
    }

    assert_eq!(lengths(&job)?, BTreeSet::from([300]));
    assert_eq!(job.read(&job.topic("alert"))?.len(), alerts, "no alert is let out twice");
    assert!(!names_of(&job)?.iter().any(|name| name.contains(".g2")), "{:?}", names_of(&job)?);
    job.audit()?;
    job.emulate(schema, 6, 500, None, &[])?;
    job.drain()?;
    job.audit()
}

/// Asleep with everything in its hands, an instance of the old generation wakes up when another one counts.
fn woken(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 2)?;
    let schema = job.register(&job.topic("in"), READING)?;
    let load = Load::start(&job, schema, u64::from(std::process::id()));
    let mut old = job.start("one", &[])?;
    job.wait_committed(3_000)?;
    old.signal("-STOP")?;
    declare(&job, 5)?;
    let new = job.start_with("three", &["--rebuild"], &[])?;
    wait_long("the switch", &new, || Ok(new.log().contains("rebuilt; `testudo reset")))?;
    let next = format!("{}.g2", job.name);
    wait_long("the new one to work", &new, || Ok(job.committed_of(&next)? > job.committed()? + 1_000))?;

    old.signal("-CONT")?;
    refused(&mut old, &["a rebuild has put generation 2 in its place"])?;

    load.stop()?;
    new.terminate()?;
    job.drain()?;
    assert_eq!(lengths(&job)?, BTreeSet::from([300]), "it wrote nothing");
    job.audit()
}

fn given_up(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 2)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 7, 5_000, None, &[])?;
    job.drain()?;
    declare(&job, 5)?;
    let mut half = job.start_with("one", &["--rebuild", "--drain"], &[("FAILPOINTS", "rebuild.switching=return")])?;
    half.wait()?;

    declare(&job, 10)?;
    let mut other = job.start_with("one", &["--rebuild", "--drain"], &[])?;
    refused(&mut other, &["from another declaration", "testudo reset --generation 2"])?;
    removed(&job, 2)?;
    declare(&job, 1)?;
    job.emulate(schema, 8, 500, None, &[])?;
    job.drain()?;
    job.audit()?;

    // The number is free again.
    declare(&job, 10)?;
    let mut rebuilt = job.start_with("one", &["--rebuild", "--drain"], &[])?;
    if !rebuilt.wait()?.success() {
        return Err(rebuilt.log().into());
    }
    assert_eq!(lengths(&job)?, BTreeSet::from([600]));
    job.audit()
}

/// Generation 2, then 3 while a member by KIP-848 works on 2 and two processes want to rebuild at once: one does, the other is told so.
fn twice(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 2)?;
    job.use_protocol("consumer")?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 11, 2_000, None, &[])?;
    job.drain()?;
    declare(&job, 5)?;
    let mut second = job.start_with("one", &["--rebuild", "--drain"], &[])?;
    if !second.wait()?.success() {
        return Err(second.log().into());
    }
    assert_eq!(lengths(&job)?, BTreeSet::from([300]));
    let old = job.start("old", &[])?;
    job.emulate(schema, 12, 500, None, &[])?;
    let next = format!("{}.g2", job.name);
    wait_long("the old one to work", &old, || Ok(job.committed_of(&next)? >= 2_500))?;

    declare(&job, 10)?;
    let mut both = [job.start_with("one", &["--rebuild"], &[])?, job.start_with("two", &["--rebuild"], &[])?];
    wait_for("the rebuilt generation to be complete", || {
        Ok(both.iter().any(|one| one.log().contains("rebuilt; stop all other instances")))
    })?;
    let winner = usize::from(both[1].log().contains("rebuilt; stop all other instances"));
    assert!(both[winner].log().contains("testudo-old"), "the member by KIP-848 is named: {}", both[winner].log());
    let code = both[1 - winner].wait()?.code();
    let (told, name) = (both[1 - winner].log(), ["one", "two"][winner]);
    assert!(code == Some(1) && told.contains(&format!("is being rebuilt by testudo-{name} at ")), "{code:?}: {told}");
    let mut again = job.start_with(name, &["--rebuild"], &[])?;
    let code = again.wait()?.code();
    assert!(code == Some(6) && again.log().contains(&format!("is being rebuilt by process {}", both[winner].pid())), "{}", again.log());
    let output = job.command(&["reset", "tenants/tenant.toml", "--generation", "3", "--yes"]).output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let is_refused = !output.status.success() && (text.contains("has members") || text.contains("works on"));
    assert!(is_refused, "it is not given up while it is built: {text}");

    old.terminate()?;
    wait_long("the switch", &both[winner], || Ok(both[winner].log().contains("rebuilt; `testudo reset")))?;
    let [one, two] = both;
    [two, one].into_iter().nth(1 - winner).ok_or("a winner")?.terminate()?;
    job.drain()?;
    assert_eq!(lengths(&job)?, BTreeSet::from([600]));
    assert!(!names_of(&job)?.iter().any(|name| name.contains(".g3")), "{:?}", names_of(&job)?);
    job.audit()
}

/// What lies behind the new generation's position has to be left out there alone: alerts keep it, windows do not, and the audits know.
fn skipped(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 1)?;
    job.use_protocol("consumer")?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 13, 2_000, None, &[])?;
    job.drain()?;
    let alerts = job.read(&job.topic("alert"))?.len();
    job.emulate(schema, 14, 100, None, &[])?;
    declare(&job, 5)?;
    let environment = [SMALL_EPOCHS[0], SMALL_EPOCHS[1], ("FAILPOINTS", "commit.before_store=return")];
    job.start_with("one", &["--rebuild"], &environment)?.wait()?;
    let from = job.committed_of(&format!("{}.g2", job.name))?;
    assert!((1..2_000).contains(&from), "it was killed on its way: {from}");

    let partition = format!("{}/0", job.topic("in"));
    let skip = |to: i64, generation: &[&str]| -> Result<(Option<i32>, String), Failed> {
        let to = to.to_string();
        let arguments = ["skip", "tenants/tenant.toml", &partition, "--to", &to, "--yes"];
        let output = job.command(&[&arguments, generation].concat()).output()?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    let refused = [
        (skip(from + 300, &[])?, 5, "is being rebuilt"),
        (skip(from + 300, &["--generation", "3"])?, 2, "generation 3 of tenant"),
        (skip(2_050, &["--generation", "2"])?, 2, "generation 1 stands at 2000"),
        (skip(9_999, &["--generation", "2"])?, 2, "--to has to be one of"),
    ];
    for ((code, told), wanted, words) in refused {
        assert!(code == Some(wanted) && told.contains(words), "ended with {code:?}, wanted {wanted} and {words}: {told}");
    }
    let (code, told) = skip(from + 300, &["--generation", "2"])?;
    assert_eq!(code, Some(0), "{told}");
    let mut rebuilt = job.start_with("one", &["--rebuild", "--drain"], &[])?;
    if !rebuilt.wait()?.success() {
        return Err(rebuilt.log().into());
    }

    assert_eq!(lengths(&job)?, BTreeSet::from([300]));
    assert!(job.read(&job.topic("alert"))?.len() >= alerts, "alerts are of the first generation, which read everything");
    for arguments in [&["audit"][..], &["audit", "--ledger"]] {
        let output = job.command(arguments).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.contains(&format!("{partition}: {from} to {} skipped in generation 2 alone by ", from + 299)), "{text}");
    }
    Ok(())
}

/// Builds the next generation of a tenant that stands still.
fn rebuilt(job: &Job<'_>) -> Result<(), Failed> {
    let mut rebuilt = job.start_with("one", &["--rebuild", "--drain"], &[])?;
    match rebuilt.wait()?.success() {
        true => Ok(()),
        false => Err(rebuilt.log().into()),
    }
}

fn after_reset(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 1)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 15, 2_000, None, &[])?;
    job.drain()?;
    let (code, text) = ran(&job, &["reset", "tenants/tenant.toml", "--to", &format!("{}/0=1200", job.topic("in")), "--yes"])?;
    assert_eq!(code, Some(0), "{text}");
    job.drain()?;
    job.audit()?;

    declare(&job, 5)?;
    rebuilt(&job)?;

    assert_eq!(lengths(&job)?, BTreeSet::from([300]));
    job.audit()
}

/// Deletes all records of a topic, as a `cleanup.policy` with `delete` does in time.
fn emptied(job: &Job<'_>, topic: &str) -> Result<(), Failed> {
    let admin: AdminClient<DefaultClientContext> = job.client().create()?;
    let policy = |policy: &'static str| {
        let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set("cleanup.policy", policy);
        job.block_on(admin.alter_configs(&[change], &AdminOptions::new()))
    };
    policy("delete")?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::End)?;
    wait_for("the records to be deleted", || {
        let deleted = job.block_on(admin.delete_records(&list, &AdminOptions::new()))?;
        Ok(deleted.elements().iter().all(|element| element.error().is_ok()))
    })?;
    policy("compact")?;
    Ok(())
}

/// Without the record of a rebuild the first generation would count again.
fn forgotten(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 1)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 16, 2_000, None, &[])?;
    job.drain()?;
    declare(&job, 5)?;
    rebuilt(&job)?;
    let topic = job.topic("generation");
    let last = job.read(&topic)?.pop().ok_or("the record of the rebuild")?;

    emptied(&job, &topic)?;

    refused(&mut job.start("one", &[])?, &["which generation counts", "records were deleted from it", "write its last record again"])?;
    job.produce(&topic, 0, last.key.as_deref(), last.value.as_deref(), last.timestamp_ms)?;
    job.emulate(schema, 17, 500, None, &[])?;
    job.drain()?;
    assert_eq!(lengths(&job)?, BTreeSet::from([300]));
    job.audit()?;

    // Verdicts that are gone are not guessed either.
    emptied(&job, &job.topic("schemas"))?;
    let (code, text) = ran(&job, &["schema", "ls", "tenants/tenant.toml"])?;
    assert!(code == Some(3) && text.contains("records were deleted from it"), "{code:?}: {text}");
    Ok(())
}

fn compatible(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 2)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 9, 2_000, None, &[])?;
    job.drain()?;
    let beside = r#"
[window.longer]
from = "readings"
by = ['"dev-id"']
over = { tumbling = "5 minutes" }
grace = "1 minute"
emit = "updates"
topic = "NAME-longer"
[window.longer.select]
total_records = "count(*)"
"#;
    let file = format!("{}{beside}", ZOO.replace("battery < 2000", "battery < 1000")).replace("NAME", &job.name);
    std::fs::write(job.path("tenants/tenant.toml"), file)?;
    // With nothing to rebuild, a run as any other.
    job.emulate(schema, 10, 2_000, None, &[])?;
    let mut running = job.start_with("one", &["--rebuild", "--drain"], &[])?;
    if !running.wait()?.success() {
        return Err(running.log().into());
    }

    assert!(!running.log().contains("rebuilding"), "{}", running.log());
    assert_eq!(job.committed()?, 4_000, "the group is the same");
    assert!(!job.read(&job.topic("longer"))?.is_empty(), "the new window has begun");
    assert_eq!(lengths(&job)?, BTreeSet::from([60]), "the old one goes on");
    Ok(())
}
