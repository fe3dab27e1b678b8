//! Claims about why a document stayed as it was. What needs a server is in the stack tests.

use mongodb::bson::rawdoc;

use super::*;
use crate::mongo::document::Source;

fn update() -> Update {
    let source = Source { topic: "zoo-analytics".into(), topic_id: "id-1".into(), partition: 0, offset: 41 };
    let id = rawdoc! { "dev_id": "a" };
    Update { document: rawdoc! { "_id": id.clone() }, id, rule: Rule::Newest { origin: "readings/1".into() }, source }
}

fn stored(origin: &str, topic_id: &str, partition: i32) -> RawDocumentBuf {
    rawdoc! { "_id": { "dev_id": "a" }, "origin": origin, "source": { "topic_id": topic_id, "partition": partition, "offset": 40_i64 } }
}

#[test]
fn a_document_of_another_origin_is_foreign() {
    assert_eq!(standing(&update(), &stored("readings-2/0", "id-1", 0)), Standing::Foreign("readings-2/0".into()));
}

#[test]
fn a_document_from_another_partition_of_the_same_topic_has_moved() {
    assert_eq!(standing(&update(), &stored("readings/1", "id-1", 5)), Standing::Moved(5));
    assert_eq!(standing(&update(), &stored("readings/1", "id-0", 5)), Standing::Current);
}

#[test]
fn a_document_of_our_own_is_current() {
    assert_eq!(standing(&update(), &stored("readings/1", "id-1", 0)), Standing::Current);
}

#[test]
fn a_document_too_large_is_set_aside_with_its_size() {
    let mut update = update();
    update.document.append(mongodb::bson::raw::cstr!("text"), "x".repeat(DOCUMENT_BYTES_MAX));

    let aside = too_large_aside(&update);

    assert_eq!((aside.reason, aside.source.offset), ("document-too-large", 41));
    assert_eq!(aside.bytes, update.document.as_bytes().len());
}

#[test]
fn only_the_same_refusal_again_and_again_is_for_good() {
    let mut doubts = Doubts::default();
    let mut refused = |document: usize, code: i64, times: u32| (0..times).filter(|_| doubts.are_enough(document, code)).count();

    assert_eq!(refused(0, 999_999, REFUSALS_MAX - 1), 0);
    assert_eq!(refused(1, 999_999, 1), 0, "another document");
    assert_eq!(refused(0, 999_998, REFUSALS_MAX - 1), 0, "another code");
    assert_eq!(refused(0, 999_998, 1), 1);

    doubts.end(0);
    assert!(!doubts.are_enough(0, 999_998), "something else came between");
}
