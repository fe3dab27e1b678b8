//! A bound for calls of librdkafka that have none: they are made on a thread of their own, which is left behind when they do not end.
//!
//! `rd_kafka_send_offsets_to_transaction` was seen to wait for ever when a group's coordinator was killed (librdkafka 2.12.1); closing a
//! member's client waits for rebalances and for every partition's fetcher (docs/adr/0022-bounded-calls.md).

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// What a call returns; nothing when it has not within `wait`, and goes on with all that it was given. `name` is its thread's.
pub fn within<T: Send + 'static>(wait: Duration, name: &str, call: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (tell, answer) = mpsc::sync_channel(1);
    // Nobody may be there any more to be told.
    thread::Builder::new().name(name.to_owned()).spawn(move || drop(tell.send(call()))).ok()?;
    answer.recv_timeout(wait).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_ends_is_answered() {
        assert_eq!(within(Duration::from_secs(60), "ends", || 7), Some(7));
    }

    #[test]
    fn a_call_that_does_not_end_is_left_behind_with_what_it_holds() {
        let (release, released) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let call = move || {
            assert!(released.recv().is_err(), "released");
            tell.send("ended").expect("the test is there");
        };

        assert_eq!(within(Duration::from_millis(10), "does not", call), None);
        assert!(told.try_recv().is_err(), "it goes on");
        drop(release);
        assert_eq!(told.recv(), Ok("ended"));
    }

    #[test]
    fn a_call_that_panics_is_not_waited_for() {
        assert_eq!(within(Duration::from_secs(60), "panics", || panic!("on purpose")), None::<()>);
    }
}
