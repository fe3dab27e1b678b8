//! What operators did to a tenant, as it stands on `<tenant>-events`: records left out, a reset, a loss of state that was accepted.
//!
//! None of that is a fault, and none of it may pass unseen: the audits say what was done, by whom and when, and judge the rest.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::facts::{InputRecord, Place};
use crate::kafka::TopicPartition;
use crate::tenant::Generation;

/// Who did something, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deed {
    /// User and machine, as the operating system named them.
    pub by: String,
    /// RFC 3339.
    pub at: String,
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "by {} at {}", self.by, self.at)
    }
}

/// Records that `testudo skip` left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// The input partition.
    pub partition: TopicPartition,
    /// The first offset left out.
    pub from: i64,
    /// The offset that the tenant went on with.
    pub to: i64,
    /// The generation that left them out.
    pub generation: u32,
    /// Whether that was being rebuilt aside: alerts, readings and their dead letters are then of the one before, which read them.
    pub is_aside: bool,
    /// Who and when.
    pub deed: Deed,
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let aside = if self.is_aside { format!(" in generation {} alone", self.generation) } else { String::new() };
        write!(f, "{}: {} to {} skipped{aside} {}", self.partition, self.from, self.to - 1, self.deed)
    }
}

/// Where `testudo reset` had the tenant begin again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reset {
    /// The positions that the inputs were set to.
    pub inputs: BTreeMap<TopicPartition, i64>,
    /// Where outputs, dead letters and ledger ended then.
    pub outputs: BTreeMap<TopicPartition, i64>,
    /// The generation that began again: the next one is computed from the first records on.
    pub generation: u32,
    /// Who and when.
    pub deed: Deed,
}

/// Windows whose state was lost, with an operator's consent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Names of the windows.
    pub windows: Vec<String>,
    /// Where the group stood; partitions without a position had no state to lose.
    pub inputs: BTreeMap<TopicPartition, i64>,
    /// The generation that lost it: the next one is computed anew.
    pub generation: u32,
    /// Who and when.
    pub deed: Deed,
}

/// Everything that was done, since the last reset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The last reset.
    pub reset: Option<Reset>,
    /// What was left out since.
    pub skips: Vec<Skip>,
    /// What was lost since.
    pub losses: Vec<Loss>,
    /// The generation whose records are audited; what stands before in the outputs is of earlier ones.
    pub generation: Generation,
    /// Events that tell of a deed and cannot be read, for people.
    pub warnings: Vec<String>,
}

impl History {
    /// Takes the next record of the events topic.
    pub fn push(&mut self, record: &InputRecord) {
        let Ok(value) = serde_json::from_slice::<Value>(record.value.as_deref().unwrap_or_default()) else { return };
        let taken = match value["event"].as_str() {
            Some("skip") => self.skip(&value),
            Some("reset") => self.begin_again(&value),
            Some("accept-state-loss") => self.lose(&value),
            _ => return,
        };
        if taken.is_none() {
            self.warnings.push(format!("{}: an operator's deed that cannot be read: {value}", record.place()));
        }
    }

    fn skip(&mut self, value: &Value) -> Option<()> {
        let detail = &value["detail"];
        let partition = partition(detail["partition"].as_str()?)?;
        let generation = u32::try_from(detail["generation"].as_u64().unwrap_or(1)).ok()?;
        let is_aside = detail["aside"].as_bool().unwrap_or(false);
        let (from, to) = (detail["from"].as_i64()?, detail["to"].as_i64()?);
        self.skips.push(Skip { partition, from, to, generation, is_aside, deed: deed(value) });
        Some(())
    }

    fn begin_again(&mut self, value: &Value) -> Option<()> {
        let inputs = positions(value["detail"]["new_positions"].as_object()?)?;
        let generation = u32::try_from(value["detail"]["generation"].as_u64().unwrap_or(1)).ok()?;
        let outputs = match value["detail"]["outputs"].as_object() {
            Some(ends) => positions(ends)?,
            None => {
                self.warnings
                    .push("a reset from before outputs' ends were recorded: what stands in the outputs from before it differs".into());
                BTreeMap::new()
            }
        };
        *self = Self {
            reset: Some(Reset { inputs, outputs, generation, deed: deed(value) }),
            warnings: std::mem::take(&mut self.warnings),
            ..Self::default()
        };
        Some(())
    }

    fn lose(&mut self, value: &Value) -> Option<()> {
        let detail = &value["detail"];
        let windows = detail["windows"].as_array()?.iter().map(|window| window.as_str().map(str::to_owned)).collect::<Option<_>>()?;
        let known: Map<String, Value> = detail["old_positions"]
            .as_object()?
            .iter()
            .filter(|(_, position)| !position.is_null())
            .map(|(name, at)| (name.clone(), at.clone()))
            .collect();
        let generation = u32::try_from(detail["generation"].as_u64().unwrap_or(1)).ok()?;
        self.losses.push(Loss { windows, inputs: positions(&known)?, generation, deed: deed(value) });
        Some(())
    }

    /// Where an input partition is audited from.
    pub fn input_from(&self, partition: &TopicPartition) -> i64 {
        self.reset.as_ref().and_then(|reset| reset.inputs.get(partition).copied()).unwrap_or(0)
    }

    /// Where an output partition, or the ledger's, is audited from.
    pub fn output_from(&self, partition: &TopicPartition) -> i64 {
        let reset = self.reset.as_ref().and_then(|reset| reset.outputs.get(partition).copied()).unwrap_or(0);
        reset.max(self.generation.begins_at(&partition.topic, partition.partition))
    }

    /// Without what other generations lost.
    pub fn with_losses_of(mut self, generation: u32) -> Self {
        self.losses.retain(|loss| loss.generation == generation);
        self
    }

    /// What one generation left out of its windows, and of its ledger, what it lost, and where it began again.
    pub fn of_windows(&self, generation: u32) -> Self {
        let mut history = self.clone().with_losses_of(generation);
        history.skips.retain(|skip| skip.generation == generation);
        history.reset = history.reset.filter(|reset| reset.generation >= generation);
        history
    }

    /// What was left out of everything else, which is of the generation that counted when the record was read.
    pub fn of_the_rest(&self) -> Self {
        let mut history = self.clone();
        history.skips.retain(|skip| !skip.is_aside);
        history
    }

    /// Whether an input record was left out of what is not windows', or stands before where the tenant began again.
    pub fn leaves_out(&self, place: &Place) -> bool {
        let is_it = |skip: &Skip| !skip.is_aside && skip.partition == place.partition && (skip.from..skip.to).contains(&place.offset);
        place.offset < self.input_from(&place.partition) || self.skips.iter().any(is_it)
    }

    /// Whether the record at an offset is behind where the tenant began again, and in no skip.
    pub fn reads(&self, partition: &TopicPartition, offset: i64) -> bool {
        offset >= self.input_from(partition) && self.skip_of(partition, offset).is_none()
    }

    /// The skip that an offset is in.
    pub fn skip_of(&self, partition: &TopicPartition, offset: i64) -> Option<&Skip> {
        self.skips.iter().find(|skip| skip.partition == *partition && (skip.from..skip.to).contains(&offset))
    }

    /// What is left of the offsets between two positions when everything skipped is taken out, in order.
    pub fn not_skipped(&self, partition: &TopicPartition, from: i64, until: i64) -> Vec<Range<i64>> {
        let mut skips: Vec<&Skip> = self.skips.iter().filter(|skip| skip.partition == *partition && skip.to > from).collect();
        skips.sort_by_key(|skip| skip.from);
        let (mut kept, mut at) = (Vec::new(), from);
        for skip in skips.iter().take_while(|skip| skip.from < until) {
            if skip.from > at {
                kept.push(at..skip.from);
            }
            at = at.max(skip.to);
        }
        if at < until {
            kept.push(at..until);
        }
        kept
    }

    /// Whether everything from one offset to before another was skipped.
    pub fn is_skipped(&self, partition: &TopicPartition, from: i64, to: i64) -> bool {
        self.not_skipped(partition, from, to).is_empty()
    }

    /// The position at which a window's state over a partition was last lost.
    pub fn lost_at(&self, window: &str, partition: &TopicPartition) -> Option<i64> {
        let of_window = self.losses.iter().filter(|loss| loss.windows.iter().any(|lost| lost == window));
        of_window.filter_map(|loss| loss.inputs.get(partition).copied()).max()
    }

    /// What was done, for people.
    pub fn notes(&self) -> Vec<String> {
        let reset = self.reset.iter().map(|reset| {
            let begins: Vec<String> = reset.inputs.iter().map(|(partition, position)| format!("{partition} at {position}")).collect();
            format!("reset {}: audited from there on, {}", reset.deed, begins.join(", "))
        });
        let losses = self.losses.iter().map(|loss| {
            let inputs: Vec<String> = loss.inputs.iter().map(|(partition, position)| format!("{partition} at {position}")).collect();
            format!("loss of state of {} accepted {}: {}", loss.windows.join(", "), loss.deed, inputs.join(", "))
        });
        reset.chain(self.skips.iter().map(Skip::to_string)).chain(losses).collect()
    }
}

fn deed(value: &Value) -> Deed {
    let by = &value["by"];
    let user = by["user"].as_str().map(str::to_owned).or_else(|| by["uid"].as_u64().map(|uid| format!("user {uid}")));
    let sudo = by["sudo_user"].as_str().map(|name| format!(" (sudo, {name})")).unwrap_or_default();
    let host = by["host"].as_str().unwrap_or("an unknown machine");
    Deed {
        by: format!("{}{sudo} on {host}", user.unwrap_or_else(|| "somebody".into())),
        at: value["at"].as_str().unwrap_or("an unknown time").to_owned(),
    }
}

/// `topic/3`; a topic's name holds no slash.
fn partition(text: &str) -> Option<TopicPartition> {
    let (topic, number) = text.rsplit_once('/')?;
    Some(TopicPartition::new(Arc::<str>::from(topic), number.parse().ok()?))
}

fn positions(listed: &Map<String, Value>) -> Option<BTreeMap<TopicPartition, i64>> {
    listed.iter().map(|(name, position)| Some((partition(name)?, position.as_i64()?))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(kind: &str, detail: Value) -> InputRecord {
        let by = json!({ "user": "ada", "uid": 1000, "sudo_user": null, "host": "ops1" });
        let value = json!({ "event": kind, "tenant": "zoo", "at": "2026-01-01T00:00:00+00:00", "by": by, "detail": detail });
        InputRecord {
            partition: TopicPartition::new("zoo-events", 0),
            offset: 0,
            timestamp_ms: 1,
            key: None,
            value: Some(value.to_string().into_bytes()),
            headers: Vec::new(),
        }
    }

    #[test]
    fn what_was_skipped_is_cut_out() {
        let partition = TopicPartition::new("in", 0);
        let mut history = History::default();
        // Skipped too short, again, and over again; in no order; and elsewhere.
        for (name, from, to) in [("in/0", 50, 60), ("in/0", 10, 12), ("in/0", 12, 20), ("in/0", 55, 58), ("in/1", 0, 100)] {
            history.push(&event("skip", json!({ "partition": name, "from": from, "to": to })));
        }
        let kept = |from, until| history.not_skipped(&partition, from, until);

        assert_eq!(kept(0, 100), [0..10, 20..50, 60..100]);
        assert_eq!([kept(11, 55), kept(10, 60), kept(60, 70)].concat(), [20..50, 20..50, 60..70]);
        assert!(kept(12, 20).is_empty() && kept(7, 7).is_empty() && kept(9, 3).is_empty());
        assert_eq!(history.not_skipped(&TopicPartition::new("out", 0), 0, 9).first(), Some(&(0..9)));
    }

    #[test]
    fn a_generation_that_is_built_aside_leaves_out_for_its_windows_alone() {
        let partition = TopicPartition::new("in", 0);
        let mut history = History::default();
        history.push(&event("skip", json!({ "partition": "in/0", "from": 5, "to": 9, "generation": 1 })));
        history.push(&event("skip", json!({ "partition": "in/0", "from": 20, "to": 30, "generation": 2, "aside": true })));
        history.push(&event("skip", json!({ "partition": "in/0", "from": 40, "to": 41, "generation": 2, "aside": false })));
        let place = |offset| Place { partition: partition.clone(), offset };

        let (windows, rest) = (history.of_windows(2), history.of_the_rest());

        assert_eq!(windows.not_skipped(&partition, 0, 50), [0..20, 30..40, 41..50]);
        assert_eq!(rest.not_skipped(&partition, 0, 50), [0..5, 9..40, 41..50]);
        assert!(history.leaves_out(&place(5)) && history.leaves_out(&place(40)) && !history.leaves_out(&place(20)));
        assert_eq!(history.notes()[1], "in/0: 20 to 29 skipped in generation 2 alone by ada on ops1 at 2026-01-01T00:00:00+00:00");
    }

    #[test]
    fn a_reset_is_of_the_generation_that_began_again_and_of_what_is_no_windows() {
        let partition = TopicPartition::new("in", 0);
        let mut history = History::default();
        let began = |history: &History, generation| history.of_windows(generation).input_from(&partition);

        history.push(&event("reset", json!({ "new_positions": { "in/0": 100 }, "outputs": {} })));
        let (windows, rest) = (history.of_windows(2), history.of_the_rest());
        assert_eq!((began(&history, 1), began(&history, 2), rest.input_from(&partition)), (100, 0, 100));
        assert!(windows.reads(&partition, 50) && !rest.reads(&partition, 50) && rest.reads(&partition, 100));

        history.push(&event("reset", json!({ "new_positions": { "in/0": 200 }, "outputs": {}, "generation": 2 })));
        assert_eq!((began(&history, 2), began(&history, 3), history.of_the_rest().input_from(&partition)), (200, 0, 200));
    }

    #[test]
    fn deeds_are_read_and_a_reset_ends_what_was_before() {
        let partition = TopicPartition::new("in", 0);
        let mut history = History::default();
        history.push(&event("skip", json!({ "partition": "in/0", "from": 5, "to": 9 })));
        history.push(&event("skip", json!({ "partition": "in/0", "from": 9, "to": 10 })));
        history.push(&event("accept-state-loss", json!({ "windows": ["w"], "old_positions": { "in/0": 12, "in/1": null } })));
        history.push(&event("schema-version", json!({})));

        assert!(history.is_skipped(&partition, 5, 10) && !history.is_skipped(&partition, 4, 10) && !history.is_skipped(&partition, 5, 11));
        assert!(history.leaves_out(&Place { partition: partition.clone(), offset: 9 }));
        assert_eq!((history.lost_at("w", &partition), history.lost_at("v", &partition)), (Some(12), None));
        let of = |generation| history.of_windows(generation).lost_at("w", &partition);
        assert_eq!((of(1), of(2)), (Some(12), None), "what was computed anew has lost nothing");
        assert_eq!(history.notes()[0], "in/0: 5 to 8 skipped by ada on ops1 at 2026-01-01T00:00:00+00:00");

        history.push(&event("reset", json!({ "old_positions": {}, "new_positions": { "in/0": 3 }, "outputs": { "alerts/0": 7 } })));

        assert_eq!((history.input_from(&partition), history.output_from(&TopicPartition::new("alerts", 0))), (3, 7));
        assert!(history.skips.is_empty() && history.losses.is_empty() && history.warnings.is_empty(), "{history:?}");
        history.push(&event("skip", json!({ "partition": "in/0" })));
        assert_eq!(history.warnings.len(), 1);
    }
}
