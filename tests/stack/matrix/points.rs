//! Where a process is killed: every step of a record's path, in the order in which it passes them.
//!
//! `K1` … `K14` are the steps of one commit cycle as the failure matrix numbers them: polled, in the midst of a batch, some records
//! sent, all acknowledged, positions sent, commit on its way, committed, inside the store's write, before, in and after a write to
//! MongoDB, in a revocation, in a restore, in a shutdown.

/// What has to go on for a point to be passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// Records come in.
    Load,
    /// Records of a schema that the process has not seen.
    NewSchema,
    /// A start with state.
    Restart,
    /// A start without its state folder: changelogs are replayed.
    Replay,
    /// A second instance joins and takes partitions.
    Join,
    /// The broker refuses an output, so the transaction is aborted.
    Refused,
    /// SIGTERM.
    Stop,
}

/// A way to die.
#[derive(Debug)]
pub struct Point {
    /// Name in the scorecard.
    pub name: &'static str,
    /// Step of the commit cycle.
    pub step: &'static str,
    /// The failpoint, see `src/failpoint.rs`.
    pub failpoint: &'static str,
    /// What makes the process pass it.
    pub scene: Scene,
    /// The process lives through up to so many passes before.
    pub passes_max: u32,
    /// It ends up to so many microseconds after the point; 0: at the point.
    pub delay_max_us: u32,
}

const fn at(step: &'static str, failpoint: &'static str, scene: Scene, passes_max: u32) -> Point {
    Point { name: failpoint, step, failpoint, scene, passes_max, delay_max_us: 0 }
}

const fn within(step: &'static str, name: &'static str, failpoint: &'static str, delay_max_us: u32) -> Point {
    Point { name, step, failpoint, scene: Scene::Load, passes_max: 12, delay_max_us }
}

/// All of them. K15, between two steps of a workflow, comes with workflows.
pub const POINTS: &[Point] = &[
    at("start", "producer.init", Scene::Restart, 0),
    at("start", "assignment.answered", Scene::Restart, 0),
    at("K13", "restore.step", Scene::Replay, 5),
    at("K13", "restore.ready", Scene::Replay, 1),
    at("K1", "intake.polled", Scene::Load, 12),
    at("K1", "gate.asking", Scene::NewSchema, 1),
    at("K2", "process.half", Scene::Load, 12),
    at("K2", "process.done", Scene::Load, 12),
    at("K3", "commit.begun", Scene::Load, 12),
    at("K3", "commit.sending", Scene::Load, 200),
    at("K4", "commit.sent", Scene::Load, 12),
    at("K4", "commit.drained", Scene::Load, 12),
    at("K5", "commit.positions_sent", Scene::Load, 12),
    within("K6", "commit on its way", "commit.positions_sent", 4_000),
    at("K7", "commit.done", Scene::Load, 12),
    at("K7", "commit.before_store", Scene::Load, 12),
    within("K8", "store write on its way", "commit.before_store", 300),
    at("K8", "commit.stored", Scene::Load, 12),
    at("abort", "abort.begun", Scene::Refused, 0),
    at("abort", "abort.done", Scene::Refused, 0),
    at("K12", "revoke.before_commit", Scene::Join, 0),
    at("K12", "revoke.after_commit", Scene::Join, 0),
    at("K14", "shutdown.begun", Scene::Stop, 0),
    at("K14", "shutdown.committed", Scene::Stop, 0),
    at("K9", "sink.send", Scene::Load, 12),
    within("K10", "bulk on its way", "sink.send", 4_000),
    at("K10", "sink.answered", Scene::Load, 12),
    at("K11", "sink.written", Scene::Load, 12),
    at("K11", "sink.committed", Scene::Load, 12),
];
