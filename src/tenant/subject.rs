//! Under which subjects a source's producers register their schemas, and which record types of them the source reads.
//!
//! The names are those of Confluent's serializers: `TopicNameStrategy`, `RecordNameStrategy`, `TopicRecordNameStrategy`.

use std::sync::Arc;

use super::model::Source;

/// How producers name a value's subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SubjectNaming {
    /// `<topic>-value`: one record type for each topic (the default).
    #[default]
    Topic,
    /// The record's full name: several types can share a topic.
    Record,
    /// `<topic>-<the record's full name>`: several types can share a topic.
    TopicRecord,
}

impl SubjectNaming {
    /// As the tenant file says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Record => "record",
            Self::TopicRecord => "topic-record",
        }
    }

    /// Whether records of several types may be in one topic, so that those of other types are not this source's.
    pub fn is_shared(self) -> bool {
        self != Self::Topic
    }
}

impl Source {
    /// The subjects whose versions this source may meet, each once: topics in declared order, record types within. None for records
    /// without registered schemas.
    pub fn subjects(&self) -> Vec<String> {
        if self.format.schemas().is_none() {
            return Vec::new();
        }
        let of_topic = |topic: &Arc<str>| match self.subject {
            SubjectNaming::Topic => vec![format!("{topic}-value")],
            SubjectNaming::Record => self.records.clone(),
            SubjectNaming::TopicRecord => self.records.iter().map(|record| format!("{topic}-{record}")).collect(),
        };
        let mut subjects: Vec<String> = Vec::new();
        for subject in self.topics.iter().flat_map(of_topic) {
            if !subjects.contains(&subject) {
                subjects.push(subject);
            }
        }
        subjects
    }
}

#[cfg(test)]
mod tests {
    use crate::tenant::check;

    const SCHEMA: &str =
        r#"{"type":"record","name":"Reading","namespace":"farm","aliases":["Measurement"],"fields":[{"name":"cow","type":"string"}]}"#;

    /// The subjects of a source whose declaration goes on with `rest`, or what is wrong with it.
    fn subjects(rest: &str) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("r.avsc"), SCHEMA).expect("a writable folder");
        let path = folder.path().join("farm.toml");
        let file = format!(
            "tenant = \"farm\"\n[source.s]\ntopics = [\"a\", \"b\"]\nschema = \"r.avsc\"\nkey = \"cow\"\n{rest}\n[mongo.all]\nfrom = \"s\"\n"
        );
        std::fs::write(&path, file).expect("a writable folder");
        match check::tenants(&[path], &toml::Table::new()) {
            Ok(checked) => Ok(checked.tenants[0].sources[0].subjects()),
            Err(faults) => Err(faults.to_string()),
        }
    }

    #[test]
    fn the_three_strategies_name_their_subjects() {
        assert_eq!(subjects("").expect("right"), ["a-value", "b-value"]);
        assert_eq!(subjects("subject = \"record\"").expect("right"), ["farm.Reading"]);
        let both = "subject = \"topic-record\"\nrecords = [\"farm.Reading\", \"ranch.Measurement\"]";
        assert_eq!(subjects(both).expect("right"), ["a-farm.Reading", "a-ranch.Measurement", "b-farm.Reading", "b-ranch.Measurement"]);
    }

    #[test]
    fn records_that_can_never_be_read_or_never_be_chosen_are_mistakes() {
        let stranger = subjects("subject = \"record\"\nrecords = [\"farm.Feeding\"]").expect_err("no such type");
        assert!(stranger.contains("`farm.Feeding` can never be read") && stranger.contains("alias"), "{stranger}");

        let one_type = subjects("records = [\"farm.Reading\"]").expect_err("one type for each topic");
        assert!(one_type.contains("source.s.subject = \"record\""), "{one_type}");

        let unknown = subjects("subject = \"recrod\"").expect_err("a typing mistake");
        assert!(unknown.contains("did you mean `record`"), "{unknown}");
    }
}
