//! Damage: bytes flipped in the state, a full disk, a foreign folder, a batch that nobody can read. Refused or repaired, never silent.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use testudo::stack::Stack;

use crate::Test;
use crate::job::{Instance, Job, PATIENCE, READING, ZOO, wait_for};

pub const TESTS: &[Test] = &[
    ("f41_flipped_bytes_in_data_and_log_are_set_aside_and_restored", |stack| damaged(stack, &["OPTIONS", ".sst", ".log"])),
    ("f41_flipped_bytes_in_manifest_and_current_are_set_aside_and_restored", |stack| damaged(stack, &["MANIFEST", "CURRENT"])),
    ("f41_a_missing_table_is_set_aside_and_restored", missing_table),
    ("f40_a_full_disk_is_waited_for", full_disk),
    ("f42_f43_state_of_others_is_refused", foreign_state),
    ("f29_a_corrupt_batch_holds_its_partition_alone", corrupt_batch),
    ("f29_a_corrupt_batch_is_skipped_on_record_and_audited", skipped_batch),
];

/// The zoo without sinks.
pub fn without_mongo() -> String {
    ZOO.split("[mongo.zoo_analytics]").next().unwrap_or(ZOO).to_owned()
}

/// Runs a command of the program to its end; stdout and stderr as one text, and the signal that ended it where one did.
pub fn ran(job: &Job<'_>, arguments: &[&str]) -> Result<(Option<i32>, String), Failed> {
    let Output { status, stdout, stderr } = job.command(arguments).output()?;
    let signal = if status.code().is_none() { status.to_string() } else { String::new() };
    Ok((status.code(), format!("{}{}{signal}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr))))
}

/// The program must end with this code and say these words.
pub fn refused(job: &Job<'_>, arguments: &[&str], code: i32, words: &[&str]) -> Result<(), Failed> {
    let (ended, text) = ran(job, arguments)?;
    match ended == Some(code) && words.iter().all(|words| text.contains(words)) {
        true => Ok(()),
        false => Err(format!("{arguments:?} ended with {ended:?}, not {code} and {words:?}:\n{text}").into()),
    }
}

fn state(job: &Job<'_>) -> PathBuf {
    job.path("state").join(&job.name)
}

fn names(dir: &Path) -> Result<Vec<String>, Failed> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// Folders of the state that were set aside for this reason.
pub fn aside(job: &Job<'_>, why: &str) -> Result<usize, Failed> {
    Ok(names(&job.path("state"))?.iter().filter(|name| name.contains(&format!(".{why}-"))).count())
}

/// The newest file of the state whose name has this part.
fn state_file(job: &Job<'_>, part: &str) -> Result<PathBuf, Failed> {
    let newest = names(&state(job))?.into_iter().filter(|name| name.contains(part)).max();
    Ok(state(job).join(newest.ok_or_else(|| format!("no {part} in the state"))?))
}

/// Flips one bit of the byte at `at`, from the end where it is negative.
fn flip(path: &Path, at: i64) -> Result<(), Failed> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let place = file.seek(if at < 0 { SeekFrom::End(at) } else { SeekFrom::Start(at as u64) })?;
    let mut byte = [0];
    file.read_exact(&mut byte)?;
    file.seek(SeekFrom::Start(place))?;
    file.write_all(&[byte[0] ^ 0x10])?;
    Ok(())
}

fn damaged(stack: &Stack, parts: &[&str]) -> Result<(), Failed> {
    let job = Job::zoo(stack, 2)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 1, 2_000, None, &[])?;
    job.drain()?;
    for (number, part) in parts.iter().enumerate() {
        // What the last run logged becomes a table at this start, and the log holds what is new.
        job.emulate(schema, 2 + number as u64, 500, None, &[])?;
        job.drain()?;
        let before = aside(&job, "damaged")?;
        let path = state_file(&job, part)?;
        let at = if *part == "CURRENT" { 3 } else { fs::metadata(&path)?.len() as i64 / 3 };
        flip(&path, at)?;
        job.drain()?;
        let set_aside = aside(&job, "damaged")? - before;
        // Options are not read back.
        if set_aside != usize::from(*part != "OPTIONS") {
            return Err(format!("{part}: {set_aside} folders set aside").into());
        }
    }
    job.audit()
}

fn missing_table(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 2)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 1, 2_000, None, &[])?;
    job.drain()?;
    job.drain()?;
    fs::remove_file(state_file(&job, ".sst")?)?;
    job.emulate(schema, 2, 500, None, &[])?;

    job.drain()?;

    assert_eq!(aside(&job, "damaged")?, 1);
    job.audit()
}

/// A small file system of its own; unmounted when dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` when this user may not mount.
    pub fn mount(at: &Path, size: &str) -> Result<Option<Self>, Failed> {
        fs::create_dir_all(at)?;
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at).status();
        Ok(status.is_ok_and(|status| status.success()).then(|| Self(at.to_owned())))
    }

    /// Writes until nothing fits any more.
    pub fn fill(&self) -> Result<PathBuf, Failed> {
        let path = self.0.join("filler");
        let mut file = File::create(&path)?;
        for size in [1 << 16, 1 << 10, 1] {
            while file.write(&vec![0_u8; size]).is_ok_and(|written| written > 0) {}
        }
        Ok(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazy: what still has a file open there ends with the test.
        if !Command::new("umount").arg("-l").arg(&self.0).status().is_ok_and(|status| status.success()) {
            eprintln!("{} could not be unmounted", self.0.display());
        }
    }
}

/// The body of an instance's answer; its log says where it listens. Empty before it does.
pub fn asked(running: &Instance, path: &str) -> Result<String, Failed> {
    let log = running.log();
    let mut lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let Some(listening) = lines.find(|line| line["message"] == "http listening") else { return Ok(String::new()) };
    let address = listening["addr"].as_str().ok_or("an address in the log")?;
    let mut stream = TcpStream::connect(address).map_err(|error| format!("{address}: {error}; the instance's log:\n{log}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

fn full_disk(stack: &Stack) -> Result<(), Failed> {
    let job = Job::zoo(stack, 2)?;
    let Some(disk) = SmallDisk::mount(&job.path("state"), "6m")? else {
        eprintln!("skipped: this user may not mount a file system, so no disk can be filled");
        return Ok(());
    };
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 1, 1_000, None, &[])?;
    let running = job.start("one", &[])?;
    job.wait_committed(1_000)?;

    let filler = disk.fill()?;
    job.emulate(schema, 2, 5_000, None, &[])?;
    wait_for("/readyz to say why", || Ok(asked(&running, "/readyz?verbose")?.contains("No space left on device")))?;
    std::thread::sleep(Duration::from_secs(2));
    fs::remove_file(filler)?;

    job.wait_committed(6_000)?;
    running.terminate()?;
    assert_eq!(aside(&job, "damaged")?, 0, "a full disk is no damage (EOS-10)");
    job.drain()?;
    job.audit()
}

fn foreign_state(stack: &Stack) -> Result<(), Failed> {
    let (theirs, job) = (Job::zoo(stack, 1)?, Job::zoo(stack, 1)?);
    for job in [&theirs, &job] {
        let schema = job.register(&job.topic("in"), READING)?;
        job.emulate(schema, 1, 500, None, &[])?;
        job.drain()?;
    }
    fs::rename(state(&job), job.path("own"))?;
    fs::rename(state(&theirs), state(&job))?;
    refused(&job, &["run", "--drain"], 5, &["holds `testudo state 1, tenant", "give this tenant another `store.dir`"])?;
    assert_eq!(aside(&job, "damaged")?, 0, "another tenant's state is left alone");
    fs::remove_dir_all(state(&job))?;
    fs::rename(job.path("own"), state(&job))?;

    let running = job.start("one", &[])?;
    wait_for("readiness", || Ok(asked(&running, "/readyz")?.contains("200 OK")))?;
    let words = ["is in use by another process (process ", "stop it, or give this instance another `store.dir`"];
    refused(&job, &["--set", "instance=two", "run", "--drain"], 6, &words)?;
    running.terminate()?;
    job.drain()?;
    job.audit()
}

/// The log of a partition in the broker's data, as it is read by fetches.
fn partition_log(stack: &Stack, topic: &str, partition: i32) -> Result<PathBuf, Failed> {
    let wanted = format!("{topic}-{partition}");
    let mut folders = vec![stack.dir().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| *name == *wanted) {
                return Ok(path.join("00000000000000000000.log"));
            }
            if path.is_dir() && !path.join("partition.metadata").exists() {
                folders.push(path);
            }
        }
    }
    Err(format!("the broker has no folder {wanted}").into())
}

/// A tenant without sinks that has read 1,000 records; 500 more wait, of which partition 0's last batch is flipped. Waits until that
/// is told and everything else is committed.
fn held<'s>(stack: &'s Stack) -> Result<(Job<'s>, PathBuf), Failed> {
    let job = Job::new(stack, &without_mongo(), &[("NAME-in", READING)])?;
    job.create_topic(&job.topic("in"), 2)?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 1, 1_000, None, &[])?;
    job.drain()?;
    let read = job.end(0)?;
    job.emulate(schema, 2, 500, None, &[])?;
    let log = partition_log(stack, &job.topic("in"), 0)?;
    flip(&log, -10)?;

    let running = job.start("one", &[])?;
    wait_for("/readyz to name the partition", || {
        let page = asked(&running, "/readyz?verbose")?;
        Ok(page.contains("/0 is held at") && page.contains("testudo skip"))
    })?;
    let others = job.end(1)?;
    wait_for("the other partition", || Ok(job.committed()? >= others + read))?;
    let total = job.end(0)? + others;
    assert!(job.committed()? < total, "nothing behind the batch is taken");
    assert!(asked(&running, "/metrics")?.contains("testudo_partitions_held{tenant="), "there is a metric");
    assert!(running.log().contains("input batch cannot be read, partition held"));
    running.terminate()?;
    Ok((job, log))
}

fn corrupt_batch(stack: &Stack) -> Result<(), Failed> {
    let (job, log) = held(stack)?;

    // As another replica would have it.
    flip(&log, -10)?;

    job.drain()?;
    job.audit()
}

fn skipped_batch(stack: &Stack) -> Result<(), Failed> {
    let (job, log) = held(stack)?;
    let (partition, to) = (format!("{}/0", job.topic("in")), job.end(0)?);
    let tenant = job.path("tenants/tenant.toml").display().to_string();
    let skip = ["skip", &tenant, &partition, "--to", &to.to_string()];
    refused(&job, &skip, 2, &["are left out", "give --yes"])?;

    let (code, text) = ran(&job, &[&skip[..], &["--yes"]].concat())?;

    assert_eq!(code, Some(0), "{text}");
    let events = job.read(&job.topic("events"))?;
    let event: serde_json::Value = serde_json::from_slice(events.last().and_then(|event| event.value.as_deref()).ok_or("an event")?)?;
    assert_eq!((&event["event"], &event["detail"]["to"]), (&"skip".into(), &to.into()), "{event}");
    assert!(event["by"]["uid"].is_number(), "{event}");
    // The state is behind and reads its new position from the changelog; on an empty disk too.
    job.drain()?;
    fs::remove_dir_all(state(&job))?;
    job.drain()?;
    assert_eq!(job.committed()?, to + job.end(1)?);
    // The audits read up to the batch, and behind it.
    job.audit()?;
    let schema = job.register(&job.topic("in"), READING)?;
    job.emulate(schema, 3, 500, None, &[])?;
    job.drain()?;
    job.audit()?;

    // A batch that was whole when it was read has been left out by nobody.
    flip(&log, 100)?;
    let place = format!("failed to read {partition}: the batch at offset 0 cannot be read");
    for arguments in [&["audit"][..], &["audit", "--ledger"]] {
        let began = Instant::now();
        refused(&job, arguments, 6, &[&place, "have another replica lead", "testudo skip"])?;
        assert!(began.elapsed() < PATIENCE / 2, "{arguments:?} took {:?}", began.elapsed());
    }
    flip(&log, 100)?;
    job.audit()
}
