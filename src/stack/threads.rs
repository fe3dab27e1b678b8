//! Blocking callers above, asynchronous clients below: how the stack waits for several things at once.

use anyhow::{Context, bail};

/// Runs jobs on a thread each and returns the first error when all have ended.
///
/// # Errors
/// The first error of a job, in the order of the jobs.
pub(super) fn in_parallel<J: FnOnce() -> anyhow::Result<()> + Send>(jobs: Vec<J>) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = jobs.into_iter().map(|job| scope.spawn(job)).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join().unwrap_or_else(|_| bail!("a thread of the stack panicked"));
        let outcomes: Vec<anyhow::Result<()>> = threads.into_iter().map(join).collect();
        outcomes.into_iter().collect()
    })
}

/// Runs a future to its end on a thread and runtime of its own, so that blocking callers and asynchronous tests can both call us.
///
/// # Errors
/// The future's own, or that no runtime could be made.
pub(super) fn block_on<T: Send>(make: impl AsyncFnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("failed to make a runtime")?;
            runtime.block_on(make())
        });
        thread.join().unwrap_or_else(|_| bail!("a thread of the stack panicked"))
    })
}
