//! A generation: one computation of a tenant's results from the beginning. A rebuild makes the next one (docs/adr/0015-rebuild.md).

use std::collections::BTreeMap;

/// Which generation, and where its results begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// 1, and one more after each rebuild.
    pub number: u32,
    /// For each output topic the offset at which this generation begins in each partition. What stands before is of earlier ones.
    pub begins: BTreeMap<String, Vec<i64>>,
}

impl Default for Generation {
    fn default() -> Self {
        Self::first()
    }
}

impl Generation {
    /// The one that a tenant starts with.
    pub const fn first() -> Self {
        Self { number: 1, begins: BTreeMap::new() }
    }

    /// What names the possessions of this generation of a tenant. A tenant's own name holds no dot, so no other tenant has such a name.
    pub fn own_name(&self, tenant: &str) -> String {
        match self.number {
            1 => tenant.to_owned(),
            number => format!("{tenant}.g{number}"),
        }
    }

    /// The offset at which it begins in a partition of an output topic.
    pub fn begins_at(&self, topic: &str, partition: i32) -> i64 {
        let of_topic = self.begins.get(topic).zip(usize::try_from(partition).ok());
        of_topic.and_then(|(begins, partition)| begins.get(partition)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_generation_has_the_bare_name_and_begins_at_the_beginning() {
        let second = Generation { number: 2, begins: BTreeMap::from([("means".into(), vec![7, 9])]) };

        assert_eq!((Generation::first().own_name("zoo"), second.own_name("zoo")), ("zoo".into(), "zoo.g2".into()));
        assert_eq!((second.begins_at("means", 1), second.begins_at("means", 2), second.begins_at("alerts", 0)), (9, 0, 0));
    }
}
