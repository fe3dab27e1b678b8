//! Claims about commands: what a statement says, what is merged, where commands are cut.

use mongodb::bson::{Bson, Document, doc};

use super::*;
use crate::mongo::document::Source;

const LARGE: Bounds = Bounds { statements_max: 1_000, bytes_max: 8 << 20 };

fn update(key: &str, origin: &str, offset: i64) -> Update {
    let mut id = RawDocumentBuf::new();
    id.append(cstr!("dev_id"), key);
    let mut document = RawDocumentBuf::new();
    document.append(cstr!("_id"), &id);
    document.append(cstr!("total_records"), offset);
    let source = Source { topic: "zoo-analytics".into(), topic_id: "id-1".into(), partition: 0, offset };
    Update { id, document, rule: Rule::Newest { origin: origin.into() }, source }
}

fn reading(offset: i64, bytes: usize) -> Update {
    let source = Source { topic: "readings".into(), topic_id: "id-1".into(), partition: 0, offset };
    let id = source.place();
    let mut document = RawDocumentBuf::new();
    document.append(cstr!("_id"), &id);
    document.append(cstr!("text"), "x".repeat(bytes));
    Update { id, document, rule: Rule::Once, source }
}

fn all(updates: &[Update]) -> Vec<usize> {
    (0..updates.len()).collect()
}

fn parsed(body: &RawDocumentBuf) -> Document {
    Document::try_from(body.clone()).expect("valid BSON")
}

#[test]
fn a_result_is_guarded_inside_the_pipeline_and_filtered_by_id_alone() {
    let updates = [update("a", "readings/1", 41)];

    let commands = commands("zoo_analytics", Form::Update, &updates, &[0], LARGE);

    let topic = doc! { "$ne": ["$source.topic_id", { "$literal": "id-1" }] };
    let later = doc! { "$and": [{ "$eq": ["$source.partition", 0_i64] }, { "$lt": ["$source.offset", 41_i64] }] };
    let origin = doc! { "$eq": [{ "$ifNull": ["$origin", { "$literal": "readings/1" }] }, { "$literal": "readings/1" }] };
    let newer = doc! { "$and": [origin, { "$or": [topic, later] }] };
    let literal = doc! { "$literal": { "_id": { "dev_id": "a" }, "total_records": 41_i64 } };
    let expected = doc! {
        "update": "zoo_analytics",
        "ordered": false,
        "writeConcern": { "w": "majority", "j": true, "wtimeout": 10_000 },
        "updates": [{
            "q": { "_id": { "dev_id": "a" } },
            "u": [{ "$replaceWith": { "$cond": [newer, literal, "$$ROOT"] } }],
            "upsert": true,
        }],
    };
    assert_eq!(commands.len(), 1);
    assert_eq!(parsed(&commands[0].body), expected);
}

#[test]
fn a_reading_is_inserted_first_and_repeated_as_an_update_that_minds_the_topic_alone() {
    let updates = [reading(5, 3)];

    let insert = parsed(&commands("tortoise", Form::first(&updates[0].rule), &updates, &[0], LARGE)[0].body);
    let repeated = parsed(&commands("tortoise", Form::Update, &updates, &[0], LARGE)[0].body);

    assert_eq!(insert.get_str("insert").ok(), Some("tortoise"));
    assert_eq!(insert.get_array("documents").map(Vec::len).ok(), Some(1));
    let text = repeated.to_string();
    assert!(text.contains(r#""$ne": ["$source.topic_id""#) && !text.contains("$origin"), "{text}");
}

/// C119: counts 1, 2, 3 of one window in one batch.
#[test]
fn of_one_documents_updates_the_newest_is_sent() {
    let updates = vec![update("a", "r/0", 1), update("b", "r/0", 2), update("a", "r/0", 3), update("a", "r/0", 2)];

    let rounds = rounds(updates);

    let offsets: Vec<Vec<i64>> = rounds.iter().map(|round| round.iter().map(|update| update.source.offset).collect()).collect();
    assert_eq!(offsets, [vec![3, 2]]);
}

/// Sent one by one, the origin that comes first would own the document and keep it: rounds keep that order.
#[test]
fn another_origin_waits_for_the_next_round() {
    let updates = vec![update("a", "r/0", 1), update("a", "s/0", 2), update("a", "r/0", 3), update("a", "s/0", 4), update("b", "s/0", 5)];

    let rounds = rounds(updates);

    let places: Vec<Vec<(String, i64)>> =
        rounds.iter().map(|round| round.iter().map(|update| (format!("{:?}", update.rule), update.source.offset)).collect()).collect();
    assert_eq!(places.len(), 2);
    assert_eq!(places[0].iter().map(|(_, offset)| *offset).collect::<Vec<_>>(), [3, 5]);
    assert_eq!(places[1].iter().map(|(_, offset)| *offset).collect::<Vec<_>>(), [4]);
    assert!(places[1][0].0.contains("s/0"), "{places:?}");
}

#[test]
fn commands_are_cut_by_number_and_by_bytes() {
    let updates: Vec<Update> = (0..10).map(|offset| reading(offset, 10_000)).collect();

    let by_number = commands("c", Form::Insert, &updates, &all(&updates), Bounds { statements_max: 4, bytes_max: 8 << 20 });
    let by_bytes = commands("c", Form::Insert, &updates, &all(&updates), Bounds { statements_max: 1_000, bytes_max: 32_000 });

    let cuts = |commands: &[Command]| commands.iter().map(|command| command.documents.len()).collect::<Vec<_>>();
    assert_eq!(cuts(&by_number), [4, 4, 2]);
    assert_eq!(cuts(&by_bytes), [3, 3, 3, 1]);
    assert!(by_bytes.iter().all(|command| command.body.as_bytes().len() <= 32_000));
    let indexes: Vec<usize> = by_bytes.iter().flat_map(|command| command.documents.clone()).collect();
    assert_eq!(indexes, all(&updates));
}

/// The server takes commands of 16 MiB + 16 KiB.
#[test]
fn the_largest_document_fits_into_a_command_of_its_own() {
    let mut updates = vec![reading(0, 10), reading(1, DOCUMENT_BYTES_MAX - 200), reading(2, 10)];
    updates[1].rule = Rule::Newest { origin: "o".repeat(300).into() };

    let commands = commands("c", Form::Update, &updates, &all(&updates), LARGE);

    assert_eq!(commands.iter().map(|command| command.documents.clone()).collect::<Vec<_>>(), [vec![0], vec![1], vec![2]]);
    assert!(commands[1].body.as_bytes().len() < (16 << 20) + (16 << 10));
}

/// C117: the marker says which record, and why.
#[test]
fn what_was_set_aside_leaves_a_marker() {
    let aside = SetAside { source: reading(7, 1).source, reason: "document-too-large", detail: "17 MB".into(), bytes: 17_000_000 };

    let commands = markers("tortoise_set_aside", &[aside], LARGE);

    let body = parsed(&commands[0].body);
    let expected = doc! {
        "q": { "_id": { "topic": "readings", "partition": 0, "offset": 7_i64 } },
        "u": { "reason": "document-too-large", "detail": "17 MB", "bytes": 17_000_000_i64 },
        "upsert": true,
    };
    assert_eq!(body.get_array("updates").expect("statements"), &[Bson::Document(expected)]);
}
