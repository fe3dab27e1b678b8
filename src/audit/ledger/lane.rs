//! A lane: the records of one output partition that came of one input partition, beside what the ledger says of them.
//!
//! One worker at a time has an input partition, so a lane's records stand in the order of its transactions, whatever other workers
//! wrote between them. After each transaction as many records are taken as the ledger has told of, and the sums are compared: where they
//! part and never meet again is the transaction that is wrong. What was read before the ledger told of it waits, as hashes.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::ledger::Sum;

/// What waits gives its room back when it takes less than a quarter of it, and more than this many places.
const ROOM_KEPT: usize = 1 << 10;

/// A transaction of the ledger, and how far a lane had come with it.
#[derive(Clone, Debug)]
pub struct Point {
    /// Offset of the ledger's record.
    pub at: i64,
    /// The transaction in a few words: a whole one may be large, and each lane keeps two.
    pub transaction: Arc<str>,
    /// Offset of the last output record that was taken for it; -1 for none.
    pub offset: i64,
}

/// A record that waits: 24 bytes, where a hash as a number would be aligned to 32.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    offset: i64,
    hash: [u8; 16],
}

impl Waiting {
    fn hash(self) -> u128 {
        u128::from_ne_bytes(self.hash)
    }
}

/// Both sides of one lane.
#[derive(Debug, Default)]
pub struct Lane {
    told: Sum,
    taken: Sum,
    /// Offsets and hashes of records that the ledger has not told of yet.
    ahead: VecDeque<Waiting>,
    /// The sum of the first of them, while a ledger that begins in the middle looks for its place.
    window: Sum,
    last_offset: Option<i64>,
    /// Records of which the ledger never told.
    left: u64,
    /// The last transaction after which both sides were equal.
    agreed: Option<Point>,
    /// The first one after it where they were not.
    parted: Option<Point>,
    /// Records that stand before the first of which the ledger tells.
    pub before: u64,
    /// The ledger begins in the middle and its first transaction was not found: nothing can be said.
    pub is_unaligned: bool,
}

/// What a lane came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Records that the ledger tells of.
    pub told: u64,
    /// Records that are there.
    pub found: u64,
    /// Where the two part, if they do: the last transaction that agrees, and the first that does not. Neither: what is there stands behind
    /// all that the ledger tells of.
    pub parting: Option<(Option<Point>, Option<Point>)>,
}

impl Lane {
    /// The next record of the lane was read. Whether it has to wait: the ledger may have told of it before it could be read.
    pub fn read(&mut self, offset: i64, hash: u128) -> bool {
        self.ahead.push_back(Waiting { offset, hash: hash.to_ne_bytes() });
        let is_told = self.taken.records < self.told.records;
        self.take();
        !is_told
    }

    /// Records that wait.
    pub fn waiting(&self) -> usize {
        self.ahead.len()
    }

    /// Whether the ledger has told of nothing yet.
    pub fn is_new(&self) -> bool {
        self.told.records == 0
    }

    /// How many records of the lane have to be read for a transaction of `records` more.
    pub fn lacking(&self, records: u64) -> u64 {
        (self.told.records + records).saturating_sub(self.taken.records + self.ahead.len() as u64)
    }

    /// Whether the records that wait begin with these; drops the first one if not.
    pub fn begins_with(&mut self, sum: Sum) -> bool {
        while self.window.records < sum.records {
            let Some(next) = self.ahead.get(self.window.records as usize) else { break };
            self.window.add(next.hash());
        }
        if self.window == sum {
            return true;
        }
        if let Some(first) = self.ahead.pop_front() {
            self.window.take_out(first.hash());
            self.before += 1;
        }
        false
    }

    /// The ledger tells of records; those that were read are taken and compared.
    pub fn tell(&mut self, sum: Sum, at: i64, transaction: &Arc<str>) {
        self.told += sum;
        self.take();
        let point = || Point { at, transaction: transaction.clone(), offset: self.last_offset.unwrap_or(-1) };
        if self.taken == self.told {
            self.agreed = Some(point());
            self.parted = None;
        } else if self.parted.is_none() {
            self.parted = Some(point());
        }
    }

    /// Takes of the records that wait as many as the ledger has told of.
    fn take(&mut self) {
        while self.taken.records < self.told.records
            && let Some(first) = self.ahead.pop_front()
        {
            self.taken.add(first.hash());
            self.last_offset = Some(first.offset);
        }
        if self.ahead.capacity() > ROOM_KEPT && self.ahead.len() < self.ahead.capacity() / 4 {
            self.ahead.shrink_to(self.ahead.len() * 2);
        }
    }

    /// The ledger tells of nothing more. Of the records that wait those before `end` are too many; those behind it may belong to later
    /// transactions.
    pub fn close(&mut self, end: i64) {
        if self.taken == self.told {
            self.parted = None;
        }
        self.left += self.ahead.drain(..).filter(|waiting| waiting.offset < end).count() as u64;
    }

    /// What it came to.
    pub fn finish(self) -> Outcome {
        let parting = (self.parted.is_some() || self.left > 0).then_some((self.agreed, self.parted));
        Outcome { told: self.told.records, found: self.taken.records + self.left, parting }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(hashes: &[u128]) -> Sum {
        let mut sum = Sum::default();
        hashes.iter().for_each(|hash| sum.add(*hash));
        sum
    }

    /// Transactions of three records 1, 2, 3 and 4, 5, 6 and 7, 8, 9 over what is there.
    fn outcome(there: &[u128]) -> Outcome {
        let mut lane = Lane::default();
        there.iter().zip(0..).for_each(|(hash, offset)| assert!(lane.read(offset, *hash)));
        for (sequence, hashes) in [[1, 2, 3], [4, 5, 6], [7, 8, 9]].iter().enumerate() {
            lane.tell(sum(hashes), sequence as i64, &format!("#{sequence}").into());
        }
        lane.close(100);
        lane.finish()
    }

    fn parting(there: &[u128]) -> (Option<i64>, Option<i64>) {
        let (agreed, parted) = outcome(there).parting.expect("a parting");
        (agreed.map(|point| point.at), parted.map(|point| point.at))
    }

    #[test]
    fn what_is_as_it_should_be_does_not_part() {
        assert!(outcome(&[1, 2, 3, 4, 5, 6, 7, 8, 9]).parting.is_none());
        assert!(outcome(&[3, 1, 2, 6, 5, 4, 9, 8, 7]).parting.is_none(), "there is no order in a transaction");
    }

    #[test]
    fn the_transaction_of_a_fault_is_found() {
        assert_eq!(parting(&[1, 2, 3, 4, 6, 7, 8, 9]), (Some(0), Some(1)), "one is lacking");
        assert_eq!(parting(&[1, 2, 3, 4, 5, 5, 6, 7, 8, 9]), (Some(0), Some(1)), "one is doubled");
        assert_eq!(parting(&[1, 2, 3, 4, 50, 6, 7, 8, 9]), (Some(0), Some(1)), "one is altered");
        assert_eq!(parting(&[1, 2, 3, 4, 5, 6, 7, 8]), (Some(1), Some(2)), "the last one is lacking");
        assert_eq!(parting(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), (Some(2), None), "one stands behind");
        assert_eq!(parting(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), (None, Some(0)), "one stands in front");
    }

    #[test]
    fn records_of_later_transactions_are_nobodys_fault() {
        let mut lane = Lane::default();
        lane.read(7, 1);
        lane.close(7);

        assert_eq!(lane.finish().found, 0);
    }

    /// Told before it could be read, since too many others waited.
    #[test]
    fn what_is_read_late_is_compared_as_a_whole() {
        let late = |there: &[u128]| {
            let mut lane = Lane::default();
            lane.read(0, 1);
            lane.tell(sum(&[1, 2]), 0, &"#0".into());
            lane.tell(sum(&[3]), 1, &"#1".into());
            for (hash, offset) in there.iter().zip(1..) {
                lane.read(offset, *hash);
                lane.close(100);
            }
            lane.finish()
        };

        assert!(late(&[2, 3]).parting.is_none());
        assert!(late(&[2]).parting.is_some() && late(&[2, 4]).parting.is_some() && late(&[2, 3, 3]).parting.is_some());
    }

    #[test]
    fn a_lane_gives_its_room_back() {
        let mut lane = Lane::default();
        let hashes: Vec<u128> = (0..100_000).collect();
        hashes.iter().zip(0..).for_each(|(hash, offset)| assert!(lane.read(offset, *hash)));

        lane.tell(sum(&hashes), 0, &"#0".into());

        assert_eq!((lane.waiting(), size_of::<Waiting>()), (0, 24));
        assert!(lane.ahead.capacity() <= ROOM_KEPT, "{}", lane.ahead.capacity());
    }

    #[test]
    fn a_ledger_that_begins_later_finds_its_place() {
        let mut lane = Lane::default();
        [10, 11, 1, 2, 3].iter().zip(0..).for_each(|(hash, offset)| assert!(lane.read(offset, *hash)));

        let tries: Vec<bool> = (0..3).map(|_| lane.begins_with(sum(&[1, 2, 3]))).collect();

        assert_eq!(tries, [false, false, true]);
        assert_eq!(lane.before, 2);
    }
}
