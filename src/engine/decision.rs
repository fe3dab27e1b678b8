//! Whether a partition's state may be believed: facts in, decision out, and the words for those who have to help.
//!
//! The state is a copy of what the changelogs say, and both say how far the input is in them. The group says how far it is read. All
//! three have to agree (EOS-9, EOS-10); where they do not, nothing is guessed, and nothing starts empty unless the operator says so.

use crate::kafka::{Failure, Mark, Position, Reaction, TopicPartition, Watermarks};
use crate::store::{LoggedProgress, Progress, StoreFault, WindowStoreId, identity};

/// Why a partition cannot be taken up.
#[derive(Debug, thiserror::Error)]
pub enum RestoreFault {
    /// The broker fails.
    #[error(transparent)]
    Kafka(#[from] Failure),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// Going on would lose or double results (EOS-9, EOS-10).
    #[error("{partition}: {why}")]
    Refused {
        /// The input partition.
        partition: TopicPartition,
        /// What does not fit, and what to do.
        why: String,
    },
    /// The state is ahead of what the group said (EOS-9). Whoever meets this asks the group once more before believing it: the answer
    /// may be older than the last commit.
    #[error(
        "{partition}: {what} stands at {stored}, the group at {}: the group was set back, its offsets expired, or the broker lost the markers \
         of a committed transaction (KAFKA-20734); set the group to {stored} to continue, or begin again with `testudo reset`",
        shown(*committed)
    )]
    Ahead {
        /// The input partition.
        partition: TopicPartition,
        /// What is ahead: the state, or a changelog.
        what: String,
        /// Where it stands.
        stored: Mark,
        /// Where the group stands.
        committed: Option<Mark>,
    },
}

fn shown(committed: Option<Mark>) -> String {
    committed.map_or_else(|| "no position".into(), |mark| mark.to_string())
}

/// What has to be restored for one window of the partition.
#[derive(Clone, Debug)]
pub struct WindowPlan {
    /// The window's name.
    pub window: String,
    /// Where the store keeps it.
    pub store: WindowStoreId,
    /// Its changelog partition.
    pub changelog: TopicPartition,
    /// Identity of the changelog topic.
    pub changelog_id: String,
    /// Identity of the declaration.
    pub identity: String,
    /// Whether its changelog may know nothing although the input was read: the window is new to the partition.
    pub is_new: bool,
    /// Whether the operator accepts that state of it is lost.
    pub loss_is_accepted: bool,
}

/// What is known of a partition before its state is looked at.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The input partition.
    pub partition: TopicPartition,
    /// Identity of its topic.
    pub topic_id: String,
    /// Partitions of its topic.
    pub topic_partitions: i32,
    /// Index of its source.
    pub source: usize,
    /// The group's committed mark.
    pub committed: Option<Mark>,
    /// The first position that is still in the log.
    pub low: Position,
    /// The windows over it.
    pub windows: Vec<WindowPlan>,
}

impl Facts {
    /// Where the partition goes on.
    pub fn start(&self) -> Position {
        self.committed.map_or(self.low, |mark| mark.position)
    }
}

/// What to do about the local state. Pure: facts in, decision out.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// Use it as it is.
    Use,
    /// Replay changelogs from these positions, in the order of the windows; `None`: from the beginning, over nothing.
    Replay(Vec<Option<Position>>),
    /// The state holds records that the group does not count as read.
    Ahead {
        /// Where the state stands.
        stored: Mark,
    },
    /// Do not go on.
    Refuse(String),
}

/// Decides by EOS-9.
pub fn decide(facts: &Facts, stored: Option<&Progress>) -> Decision {
    let Some(stored) = stored else {
        return Decision::Replay(vec![None; facts.windows.len()]);
    };
    if stored.topic_id != facts.topic_id {
        return Decision::Refuse(recreated_input());
    }
    let known = |window: &WindowPlan| {
        let progress = stored.changelogs.get(&window.window)?;
        (progress.topic_id == window.changelog_id).then_some(Position(progress.position))
    };
    for window in facts.windows.iter().filter(|window| !window.loss_is_accepted) {
        if stored.changelogs.get(&window.window).is_some_and(|progress| progress.topic_id != window.changelog_id) {
            return Decision::Refuse(format!(
                "the changelog {} was deleted and created again since the state was written; restore the topic, {}. \
                 After a `testudo reset` on another machine: move this one's state folder away",
                window.changelog.topic,
                accepting(&window.window)
            ));
        }
    }
    let is_ahead = stored.mark.position > facts.committed.unwrap_or(Mark::START).position;
    // A group that was set to its position by hand has forgotten its sweeps: they are committed, and no record lies behind them.
    let is_level = facts.committed.is_some_and(|committed| committed.position == stored.mark.position && committed <= stored.mark);
    match (is_ahead, is_level && facts.windows.iter().all(|window| known(window).is_some())) {
        (true, _) => Decision::Ahead { stored: stored.mark },
        (_, true) => Decision::Use,
        _ => Decision::Replay(facts.windows.iter().map(known).collect()),
    }
}

impl Facts {
    fn refused(&self, why: String) -> RestoreFault {
        RestoreFault::Refused { partition: self.partition.clone(), why }
    }

    /// Whether a changelog with these bounds can be replayed from `from`. What was read from it before must still be there.
    pub(super) fn check_bounds(&self, plan: &WindowPlan, from: Option<Position>, bounds: Watermarks) -> Result<(), RestoreFault> {
        let topic = &plan.changelog.topic;
        match from {
            Some(from) if from > bounds.high && !plan.loss_is_accepted => Err(self.refused(format!(
                "the changelog {topic} ends at {}, before what the local state has seen ({from}): its end was lost, as by an unclean leader \
                 election; restore the topic, {}",
                bounds.high,
                accepting(&plan.window)
            ))),
            Some(from) if from < bounds.low && !plan.loss_is_accepted => Err(self.refused(cut(plan, bounds.low, from))),
            _ => Ok(()),
        }
    }

    /// Whether a changelog that was replayed, from `start` on where it was replayed whole, leads to where the group stands.
    pub(super) fn check_logged(
        &self,
        plan: &WindowPlan,
        logged: Option<&LoggedProgress>,
        start: Option<Position>,
    ) -> Result<(), RestoreFault> {
        let topic = &plan.changelog.topic;
        if let Some(difference) = logged.and_then(|logged| identity::changed(&plan.identity, &logged.identity)) {
            let why = format!("window `{}` was changed since its changelog {topic} was written: {difference}", plan.window);
            return Err(self.refused(format!("{why}; {}", identity::CHANGED_REMEDY)));
        }
        if logged.and_then(|logged| logged.input_id.as_ref()).is_some_and(|input| *input != self.topic_id) {
            return Err(self.refused(recreated_input()));
        }
        // Compaction leaves a log's start where it is, so one that begins later was cut (F44).
        let whole_from = Position(logged.map_or(0, |logged| logged.whole_from));
        if let Some(start) = start.filter(|start| *start > whole_from && !plan.loss_is_accepted) {
            return Err(self.refused(cut(plan, start, whole_from)));
        }
        self.compare(plan, logged.map(|logged| logged.mark))
    }

    /// The group's mark, or a later one at its position that state and changelogs have: a group that was set to its position by hand has
    /// forgotten its sweeps, which are committed, and no record lies behind them.
    pub(super) fn committed_or_later(&self, marks: impl Iterator<Item = Mark>) -> Option<Mark> {
        let committed = self.committed?;
        marks.filter(|mark| mark.position == committed.position).chain([committed]).max()
    }

    /// Compares a changelog's last mark with the group's.
    fn compare(&self, plan: &WindowPlan, logged: Option<Mark>) -> Result<(), RestoreFault> {
        let (topic, committed) = (&plan.changelog.topic, self.committed);
        let is_excused = (plan.loss_is_accepted && logged < committed) || (plan.is_new && logged.is_none());
        match (logged, committed) {
            _ if logged == committed || is_excused => Ok(()),
            (None, Some(committed)) => Err(self.refused(format!(
                "the group stands at {committed}, the changelog {topic} knows nothing of it: it was deleted, or the window is new; \
                 restore the topic, {}",
                accepting(&plan.window)
            ))),
            (Some(logged), Some(committed)) if logged < committed => Err(self.refused(format!(
                "the changelog {topic} stands at {logged}, the group at {committed}: the group was set forward, or the changelog's end was \
                 lost; set the group to {logged} to continue, leave records out by `testudo skip`, {}",
                accepting(&plan.window)
            ))),
            (logged, _) => Err(RestoreFault::Ahead {
                partition: self.partition.clone(),
                what: format!("the changelog {topic}"),
                stored: logged.unwrap_or(Mark::START),
                committed,
            }),
        }
    }
}

fn cut(plan: &WindowPlan, begins: Position, needed: Position) -> String {
    format!(
        "the changelog {} begins at {begins}, {needed} is needed: records were deleted from it, by hand or by a `cleanup.policy` other than \
         compact; restore the topic and set the policy to compact, {}",
        plan.changelog.topic,
        accepting(&plan.window)
    )
}

fn recreated_input() -> String {
    "the input topic was deleted and created again since its state was written; positions mean nothing in the new one: \
     restore the old topic, or begin with the new one by `testudo reset`"
        .into()
}

/// How to go on without what is lost.
fn accepting(window: &str) -> String {
    format!("or go on without what is lost by `testudo run --accept-state-loss {window}`")
}

impl RestoreFault {
    /// What to do about it.
    pub fn reaction(&self) -> Reaction {
        match self {
            Self::Kafka(failure) => failure.reaction,
            Self::Store(_) | Self::Refused { .. } | Self::Ahead { .. } => Reaction::Stop,
        }
    }
}
