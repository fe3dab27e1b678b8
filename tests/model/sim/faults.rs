//! What may go wrong, and how often.

use super::random::Random;

/// A kind of fault. Each has its own chance, so that one that is left out does not move the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A process ends at any call, as by kill -9. Its disk stays.
    Crash,
    /// A crash that takes with it what the disk had not synced.
    PowerLoss,
    /// A crash that takes the disk with it.
    DiskLoss,
    /// A process stands still in the middle of a call, and goes on later, perhaps as a zombie.
    Freeze,
    /// An instance is told to stop, and leaves the group.
    Leave,
    /// A call takes long, also longer than sessions and transactions live.
    Slow,
    /// A request is lost.
    RequestLost,
    /// A request is done, its answer is lost.
    AnswerLost,
    /// An EndTxn arrives after its client has given it up (KAFKA-17754).
    LateEndTxn,
    /// An EndTxn arrives a second time.
    DoubledEndTxn,
    /// Positions arrive after their client has given them up.
    LatePositions,
    /// Records arrive after their client has given them up.
    LateProduce,
    /// A registration of partitions arrives after its client has given it up.
    LateRegistration,
    /// Another process initialises a worker's transactional id.
    Rival,
    /// No broker answers for a while.
    Outage,
    /// One machine does not reach the brokers for a while.
    Partition,
    /// A coordinator moves: requests are refused for a moment.
    Moved,
    /// The client is not ready to resume a partition.
    NotReady,
    /// Markers of ended transactions are written late.
    SlowMarkers,
    /// Changelogs are compacted.
    Compaction,
    /// Old input is deleted.
    Truncation,
    /// Producers of the input use transactions, and abort some.
    Upstream,
    /// The registry takes its time.
    SlowRegistry,
    /// The registry answers with an error.
    FailingRegistry,
    /// A replica of the registry that lags does not know a schema yet.
    LaggingRegistry,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 25] = [
        Self::Crash,
        Self::PowerLoss,
        Self::DiskLoss,
        Self::Freeze,
        Self::Leave,
        Self::Slow,
        Self::RequestLost,
        Self::AnswerLost,
        Self::LateEndTxn,
        Self::DoubledEndTxn,
        Self::LatePositions,
        Self::LateProduce,
        Self::LateRegistration,
        Self::Rival,
        Self::Outage,
        Self::Partition,
        Self::Moved,
        Self::NotReady,
        Self::SlowMarkers,
        Self::Compaction,
        Self::Truncation,
        Self::Upstream,
        Self::SlowRegistry,
        Self::FailingRegistry,
        Self::LaggingRegistry,
    ];

    /// Its name in a plan.
    pub fn word(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::PowerLoss => "power-loss",
            Self::DiskLoss => "disk-loss",
            Self::Freeze => "freeze",
            Self::Leave => "leave",
            Self::Slow => "slow",
            Self::RequestLost => "request-lost",
            Self::AnswerLost => "answer-lost",
            Self::LateEndTxn => "late-end-txn",
            Self::DoubledEndTxn => "doubled-end-txn",
            Self::LatePositions => "late-positions",
            Self::LateProduce => "late-produce",
            Self::LateRegistration => "late-registration",
            Self::Rival => "rival",
            Self::Outage => "outage",
            Self::Partition => "partition",
            Self::Moved => "moved",
            Self::NotReady => "not-ready",
            Self::SlowMarkers => "slow-markers",
            Self::Compaction => "compaction",
            Self::Truncation => "truncation",
            Self::Upstream => "upstream",
            Self::SlowRegistry => "slow-registry",
            Self::FailingRegistry => "failing-registry",
            Self::LaggingRegistry => "lagging-registry",
        }
    }

    /// The fault of that name.
    pub fn by_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.word() == word)
    }

    fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// A set of faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults(u32);

impl Faults {
    /// Puts a fault in or takes it out.
    pub fn set(&mut self, fault: Fault, is_in: bool) {
        self.0 = if is_in { self.0 | fault.bit() } else { self.0 & !fault.bit() };
    }

    /// Whether it is in.
    pub fn has(self, fault: Fault) -> bool {
        self.0 & fault.bit() != 0
    }

    /// Those that are in.
    pub fn iter(self) -> impl Iterator<Item = Fault> {
        Fault::ALL.into_iter().filter(move |fault| self.has(*fault))
    }
}

/// Decides when faults strike.
#[derive(Debug)]
pub struct Chances {
    faults: Faults,
    streams: Vec<Random>,
    /// How much more often than usual each one strikes: some runs are stormy.
    factors: Vec<u32>,
    /// Nothing strikes any more.
    pub is_healed: bool,
    /// How many struck.
    pub struck: [u64; Fault::ALL.len()],
}

impl Chances {
    /// The chances of a seed.
    pub fn new(seed: u64, faults: Faults) -> Self {
        let mut streams: Vec<Random> = (0..Fault::ALL.len()).map(|number| Random::new(seed, 100 + number as u64)).collect();
        let factors = streams.iter_mut().map(|stream| [1, 1, 2, 5][stream.below(4)]).collect();
        Self { faults, streams, factors, is_healed: false, struck: [0; Fault::ALL.len()] }
    }

    /// Whether the fault strikes now, so many times in ten thousand in a usual run.
    pub fn strikes(&mut self, fault: Fault, in_ten_thousand: u32) -> bool {
        // Never always: nothing would go on.
        let often = in_ten_thousand.max((in_ten_thousand * self.factors[fault as usize]).min(5_000));
        let is_drawn = self.streams[fault as usize].below(10_000) < often as usize;
        let strikes = is_drawn && self.faults.has(fault) && !self.is_healed;
        self.struck[fault as usize] += u64::from(strikes);
        strikes
    }

    /// The fault's own stream: how long, how late.
    pub fn of(&mut self, fault: Fault) -> &mut Random {
        &mut self.streams[fault as usize]
    }
}
