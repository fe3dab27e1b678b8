//! Named crash points for failure-injection tests; no code without the feature `failpoints`.
//!
//! Points are set from outside: `FAILPOINTS="commit.sent=4*off->return"` lets the point pass four times, then the process ends at
//! once, like `kill -9`. With `return(1500)` it ends 1,500 µs after the point was passed: in the midst of what follows it, a commit
//! on its way or a bulk half written. The other actions of the `fail` crate (`1*panic`, `sleep(200)`) do what they say.
//!
//! | point | stands |
//! |---|---|
//! | `producer.init` | before a producer is made |
//! | `assignment.answered` | after new partitions were taken in, before their restore |
//! | `restore.step`, `restore.ready` | before each step of a restore; after it, before the partition is resumed |
//! | `intake.polled` | after a poll that brought records |
//! | `gate.asking` | before a schema is looked up |
//! | `process.half`, `process.done` | between a run's alerts and its windows; after the run |
//! | `commit.begun`, `commit.sending`, `commit.sent` | in the open transaction: before the records, before each, after the last |
//! | `commit.drained`, `commit.positions_sent` | after all acknowledgements; after the positions, before EndTxn |
//! | `commit.done`, `commit.before_store`, `commit.stored` | after EndTxn was answered; before and after the write to the store |
//! | `abort.begun`, `abort.done` | around an abort |
//! | `revoke.before_commit`, `revoke.after_commit` | in the answer to a revocation |
//! | `shutdown.begun`, `shutdown.committed` | around the last commit |
//! | `sink.send`, `sink.answered` | before a command to MongoDB; after its answer, others of the batch still to be sent |
//! | `rebuild.staged`, `rebuild.switching`, `rebuild.switched` | a generation is built aside; before and after the record that puts it in the place of the old one |
//! | `rebuild.copying`, `rebuild.copied_some`, `rebuild.copied` | in a transaction that copies results; after it; after the last |
//! | `rebuild.published`, `rebuild.renaming`, `rebuild.renamed` | topics and collections aside are full; before and after a collection takes its place |
//! | `rebuild.exchanged`, `rebuild.settled` | before and after the record that ends a rebuild |
//! | `sink.written`, `sink.committed` | after a batch was written; after its positions were committed |
//!
//! `tests/stack/matrix/points.rs` kills at each of them, `tests/stack/rebuild.rs` at those of a rebuild.

/// Passes the named point; with the feature on, a configured `return` ends the process without clean-up.
#[inline]
pub fn at(_name: &str) {
    #[cfg(feature = "failpoints")]
    fail::eval(_name, |after_us| end(_name, after_us));
}

/// Reads `FAILPOINTS` once at start.
pub fn setup() {
    #[cfg(feature = "failpoints")]
    std::mem::forget(fail::FailScenario::setup());
}

/// Ends the process, now or after so many microseconds. The log says where, so that another end is not taken for this one.
#[cfg(feature = "failpoints")]
fn end(point: &str, after_us: Option<String>) {
    tracing::warn!(point, "failpoint: the process ends");
    let Some(after_us) = after_us.and_then(|text| text.parse().ok()) else { std::process::abort() };
    std::thread::spawn(move || {
        crate::clock::Clock::sleep(&crate::clock::SystemClock::default(), std::time::Duration::from_micros(after_us));
        std::process::abort()
    });
}
