//! What the proxy does to which requests, and what it remembers of having done it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::frame::Frame;

/// Most requests that one rule holds back.
const HELD_MAX: usize = 64;

/// The requests that faults are made for, by their API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    Produce = 0,
    Fetch = 1,
    OffsetFetch = 9,
    Heartbeat = 12,
    InitProducerId = 22,
    AddPartitionsToTxn = 24,
    AddOffsetsToTxn = 25,
    EndTxn = 26,
    TxnOffsetCommit = 28,
}

/// What happens to a request. A delay holds up what comes behind it on the same connection too: brokers answer in order.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Nothing: the rule counts only.
    Nothing,
    /// It never reaches the broker and is never answered.
    LoseRequest,
    /// The broker does it, the answer is lost.
    LoseAnswer,
    /// It never reaches the broker, and the client's connection is cut.
    CutBefore,
    /// The broker does it, and the client's connection is cut in place of the answer.
    CutAfter,
    /// It reaches the broker later.
    DelayRequest(Duration),
    /// Its answer comes later.
    DelayAnswer(Duration),
    /// It reaches the broker twice; the first answer counts.
    Twice,
    /// It (EndTxn, TxnOffsetCommit) is kept until it is released, and the client's connection is cut.
    Hold,
    /// What this rule holds is sent to the broker, and answered, before this request is. Strikes only when there is something.
    Release(Arc<Rule>),
}

/// A fault for some requests of one API.
#[derive(Debug)]
pub struct Rule {
    api: Api,
    name: String,
    skipped: u32,
    every: u32,
    times: u32,
    fault: Fault,
    is_lifted: AtomicBool,
    seen: AtomicU32,
    struck: AtomicU32,
    held: Mutex<VecDeque<Frame>>,
    answers: Mutex<Vec<i16>>,
}

impl Rule {
    /// This fault for every request of `api`, as long as the rule is not lifted.
    pub fn on(api: Api, fault: Fault) -> Self {
        Self {
            api,
            name: String::new(),
            skipped: 0,
            every: 1,
            times: u32::MAX,
            fault,
            is_lifted: AtomicBool::new(false),
            seen: AtomicU32::new(0),
            struck: AtomicU32::new(0),
            held: Mutex::default(),
            answers: Mutex::default(),
        }
    }

    /// Only for requests with this transactional id, group or client id in them.
    pub fn of(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// Not for the first `count` requests.
    pub fn after(self, count: u32) -> Self {
        Self { skipped: count, ..self }
    }

    /// Only for each request whose number, from 1, `count` divides.
    pub fn every(self, count: u32) -> Self {
        Self { every: count, ..self }
    }

    /// For so many requests.
    pub fn times(self, count: u32) -> Self {
        Self { times: count, ..self }
    }

    /// From now on it strikes no more.
    pub fn lift(&self) {
        self.is_lifted.store(true, Ordering::Relaxed);
    }

    /// Requests that it was made for, struck or not.
    pub fn seen(&self) -> u32 {
        self.seen.load(Ordering::Relaxed)
    }

    /// Requests that it struck.
    pub fn struck(&self) -> u32 {
        self.struck.load(Ordering::Relaxed)
    }

    /// The broker's error codes for the requests (EndTxn, TxnOffsetCommit) that were held and released, in order; 0 is success.
    pub fn answers(&self) -> Vec<i16> {
        lock(&self.answers).clone()
    }

    /// Counts a request and decides whether the fault strikes it.
    pub(super) fn strikes(&self, request: &Frame) -> bool {
        if request.api_key() != self.api as i16 || !request.names(&self.name) {
            return false;
        }
        let number = self.seen.fetch_add(1, Ordering::Relaxed) + 1;
        let is_ripe = match &self.fault {
            Fault::Nothing => false,
            Fault::Release(of) => !lock(&of.held).is_empty(),
            Fault::Hold => lock(&self.held).len() < HELD_MAX,
            _ => true,
        };
        let is_its_turn = number > self.skipped && number.is_multiple_of(self.every) && self.struck() < self.times;
        if !is_ripe || !is_its_turn || self.is_lifted.load(Ordering::Relaxed) {
            return false;
        }
        self.struck.fetch_add(1, Ordering::Relaxed);
        true
    }

    pub(super) fn fault(&self) -> &Fault {
        &self.fault
    }

    pub(super) fn hold(&self, request: Frame) {
        lock(&self.held).push_back(request);
    }

    pub(super) fn next_held(&self) -> Option<Frame> {
        lock(&self.held).pop_front()
    }

    pub(super) fn released(&self, code: i16) {
        lock(&self.answers).push(code);
    }
}

/// A lock that a panicking test does not take away from the others.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
