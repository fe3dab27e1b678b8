//! Bugs that are put in on purpose, one for each rule that simulation and audits have to hold; no code without the feature `failpoints`.
//!
//! `FAILPOINTS="planted.dropped_tail=return"` puts one in for the life of a process, `3*off->1*return` only when its place is passed
//! for the fourth time. A simulation, which has many processes on one thread, puts it in by [`on_this_thread`].
//!
//! Who finds which: `tests/model/sim/planted.rs` and `tests/stack/planted.rs` (docs/adr/0017-planted-bugs.md).

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The last window result of an epoch is not produced (EOS-6).
    DroppedTail,
    /// The first record of a transaction is produced twice.
    DoubledRecord,
    /// The positions of two partitions change places (EOS-2).
    SwappedOffsets,
    /// Positions are committed one short (EOS-2).
    PositionsOffByOne,
    /// The guard of an upsert looks the wrong way: older results replace newer ones (SINK-1).
    StaleUpsert,
    /// The input is read uncommitted.
    UncommittedRead,
    /// A changelog is read uncommitted.
    UncommittedRestore,
    /// The store is written before the commit is known (EOS-3).
    StateBeforeCommit,
    /// A restored partition begins without stream time (TIME-1).
    ForgottenStreamTime,
    /// A commit whose outcome is not known counts as one that happened (EOS-7).
    GuessedOutcome,
    /// A producer goes on although a request of it may still be on its way (EOS-8).
    ForgottenDoubt,
    /// A consumer that has become another member goes on with what the old one held (EOS-5).
    NewMemberGoesOn,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::DroppedTail,
        Self::DoubledRecord,
        Self::SwappedOffsets,
        Self::PositionsOffByOne,
        Self::StaleUpsert,
        Self::UncommittedRead,
        Self::UncommittedRestore,
        Self::StateBeforeCommit,
        Self::ForgottenStreamTime,
        Self::GuessedOutcome,
        Self::ForgottenDoubt,
        Self::NewMemberGoesOn,
    ];

    /// The failpoint that puts it in.
    pub fn point(self) -> &'static str {
        match self {
            Self::DroppedTail => "planted.dropped_tail",
            Self::DoubledRecord => "planted.doubled_record",
            Self::SwappedOffsets => "planted.swapped_offsets",
            Self::PositionsOffByOne => "planted.positions_off_by_one",
            Self::StaleUpsert => "planted.stale_upsert",
            Self::UncommittedRead => "planted.uncommitted_read",
            Self::UncommittedRestore => "planted.uncommitted_restore",
            Self::StateBeforeCommit => "planted.state_before_commit",
            Self::ForgottenStreamTime => "planted.forgotten_stream_time",
            Self::GuessedOutcome => "planted.guessed_outcome",
            Self::ForgottenDoubt => "planted.forgotten_doubt",
            Self::NewMemberGoesOn => "planted.new_member_goes_on",
        }
    }

    /// Whether it is put in here and now.
    #[inline]
    pub fn is_planted(self) -> bool {
        #[cfg(feature = "failpoints")]
        return HERE.get() == Some(self) || fail::eval(self.point(), |_| ()).is_some();
        #[cfg(not(feature = "failpoints"))]
        false
    }
}

#[cfg(feature = "failpoints")]
thread_local! {
    static HERE: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Does something with a bug put in on this thread, or with none. Without the feature there are none.
pub fn on_this_thread<T>(_bug: Option<Bug>, act: impl FnOnce() -> T) -> T {
    #[cfg(feature = "failpoints")]
    let before = HERE.replace(_bug);
    let done = act();
    #[cfg(feature = "failpoints")]
    HERE.set(before);
    done
}

#[cfg(all(test, feature = "failpoints"))]
mod tests {
    use super::*;

    #[test]
    fn a_bug_has_a_switch_of_its_own_and_is_planted_where_it_was_put() {
        for (at, bug) in Bug::ALL.into_iter().enumerate() {
            assert!(Bug::ALL[..at].iter().all(|other| other.point() != bug.point()));
            assert!(!bug.is_planted());
            on_this_thread(Some(bug), || {
                assert!(bug.is_planted());
                on_this_thread(None, || assert!(!bug.is_planted()));
                let elsewhere = std::thread::spawn(move || bug.is_planted());
                assert!(bug.is_planted() && !elsewhere.join().expect("no panic"));
            });
            assert!(!bug.is_planted());
        }
    }
}
