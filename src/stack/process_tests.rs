//! Claims about recorded processes, with `sleep` as the server.

use super::*;
use crate::clock::SystemClock;

fn service(folder: &tempfile::TempDir) -> Service {
    Service { name: "sleeper", folder: folder.path().join("sleeper") }
}

fn sleep_long() -> Command {
    let mut command = Command::new("sleep");
    command.arg("60");
    command
}

#[test]
fn stopped_service_has_no_pid() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let service = service(&folder);

    service.launch(sleep_long()).expect("sleep starts");
    assert!(service.pid().is_some());
    let clock = SystemClock::shared();
    service.stop(&clock).expect("sleep ends on TERM");

    assert_eq!(service.pid(), None);
    assert_eq!(service.ended_badly_ms(&clock), None);
}

#[test]
fn paused_service_can_go_on_and_can_be_stopped() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let service = service(&folder);
    let state = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).expect("a state")
    };

    service.launch(sleep_long()).expect("sleep starts");
    let pid = service.pid().expect("it runs");
    // A signal takes a moment to arrive.
    let clock = SystemClock::shared();
    let becomes = |stopped: bool| {
        (0..500).any(|_| {
            (state(pid) == 'T') == stopped || {
                clock.sleep(Duration::from_millis(10));
                false
            }
        })
    };
    service.pause().expect("it runs");
    assert!(becomes(true));
    service.resume().expect("it runs");
    assert!(becomes(false));
    service.pause().expect("it runs");
    service.stop(&SystemClock::shared()).expect("a paused process ends too");

    assert_eq!(service.pid(), None);
    assert!(service.pause().is_err(), "there is nothing to pause");
}

#[test]
fn killed_service_has_no_pid() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let service = service(&folder);

    service.launch(sleep_long()).expect("sleep starts");
    let clock = SystemClock::shared();
    let before = clock.wall_ms();
    service.kill(&clock).expect("nothing survives KILL");

    assert_eq!(service.pid(), None);
    let ended = service.ended_badly_ms(&clock).expect("it was killed");
    // A file's time may be coarser than the clock.
    assert!(ended >= before - 20 && ended <= clock.wall_ms(), "{ended}, killed after {before}");
}

#[test]
fn service_that_somebody_else_killed_ended_badly() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let service = service(&folder);
    let clock = SystemClock::shared();

    service.launch(sleep_long()).expect("sleep starts");
    assert_eq!(service.ended_badly_ms(&clock), None, "it runs");
    signal(service.identity().expect("it runs"), "KILL").expect("it is ours");
    assert!(service.is_gone_within(KILL_WITHIN, &clock));

    assert!(service.ended_badly_ms(&clock).is_some());
}

#[test]
fn stranger_with_the_recorded_pid_is_not_ours() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let service = service(&folder);
    fs::create_dir_all(&service.folder).expect("the folder is ours");

    let this = std::process::id();
    let started = started_of(this).expect("this process runs");
    fs::write(service.folder.join("pid"), format!("{this} {}\n", started + 1)).expect("the folder is ours");

    assert_eq!(service.pid(), None);
    service.kill(&SystemClock::shared()).expect("there is nothing to kill");
}

#[test]
fn program_name_cannot_confuse_the_start_time() {
    let after_name = "S 1 7 7 0 -1 4194560 1 0 0 0 5 6 0 0 20 0 1 0 8765 1000 2 3";

    assert_eq!(started_in(&format!("7 (java) {after_name}")), Some(8765));
    assert_eq!(started_in(&format!("7 (a) Z 9 (b) {after_name}")), Some(8765));
}

#[test]
fn zombie_counts_as_running_until_its_last_thread_has_ended() {
    let zombie = |threads: u32| format!("7 (java) Z 1 7 7 0 -1 4194560 1 0 0 0 5 6 0 0 20 0 {threads} 0 8765 0 0");

    assert_eq!(started_in(&zombie(30)), Some(8765));
    assert_eq!(started_in(&zombie(1)), None);
}

#[tokio::test]
async fn service_that_ends_at_once_fails_with_its_last_words() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let service = service(&folder);
    let mut command = Command::new("sh");
    command.args(["-c", "echo port is taken; exit 1"]);

    service.launch(command).expect("sh starts");
    let error = service.until_ready(async || false).await.expect_err("it never answers");

    assert!(error.to_string().contains("port is taken"), "{error}");
}
