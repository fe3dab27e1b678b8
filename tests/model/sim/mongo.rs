//! A model of MongoDB's guarded upsert: it evaluates the pipelines that the sink sends, so that any order of redelivery can be tried.
//!
//! # Source
//! MongoDB's manual on aggregation expressions: a missing field is below every number and equal to none; `$eq` compares numbers by value.

use std::collections::BTreeMap;
use std::sync::Arc;

use mongodb::bson::raw::cstr;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use testudo::mongo::settings::Bounds;
use testudo::mongo::statement::{Form, commands, rounds};
use testudo::mongo::{Rule, Source, Update};
use testudo::planted::on_this_thread;

use super::planted::OF_SINKS;
use super::random::Random;

/// Windows whose results are written.
const KEYS: usize = 4;
/// Results of each run.
const RESULTS: usize = 40;
const BOUNDS: Bounds = Bounds { statements_max: 5, bytes_max: 1 << 20 };

/// A collection.
#[derive(Debug, Default)]
struct Collection {
    documents: BTreeMap<String, Document>,
}

impl Collection {
    /// Executes the statements of an `update` command, in an order of its own: the sink asks for no order.
    fn execute(&mut self, command: &RawDocumentBuf, random: &mut Random) {
        let command = Document::try_from(command.clone()).expect("valid BSON");
        let mut statements: Vec<&Bson> = command.get_array("updates").expect("statements").iter().collect();
        while !statements.is_empty() {
            let statement = statements.swap_remove(random.below(statements.len())).as_document().expect("a statement");
            self.upsert(statement);
        }
    }

    fn upsert(&mut self, statement: &Document) {
        let id = statement.get_document("q").expect("a filter").get("_id").expect("by _id");
        let pipeline = statement.get_array("u").expect("a pipeline");
        let [Bson::Document(stage)] = pipeline.as_slice() else { panic!("{pipeline:?} has other stages") };
        let root = self.documents.get(&id.to_string()).cloned().unwrap_or_else(|| doc! { "_id": id.clone() });
        let replaced = evaluate(stage.get("$replaceWith").expect("a replacement"), &root).expect("a document");
        self.documents.insert(id.to_string(), replaced.as_document().expect("a document").clone());
    }
}

/// The value of an expression over a document; `None` for a missing field.
fn evaluate(expression: &Bson, root: &Document) -> Option<Bson> {
    match expression {
        Bson::String(path) if path == "$$ROOT" => Some(Bson::Document(root.clone())),
        Bson::String(path) if path.starts_with('$') => {
            let mut parts = path[1..].split('.');
            let first = root.get(parts.next()?)?.clone();
            parts.try_fold(first, |value, part| value.as_document()?.get(part).cloned())
        }
        Bson::Document(operator) if operator.len() == 1 => {
            let (name, operands) = operator.iter().next()?;
            if name == "$literal" {
                return Some(operands.clone());
            }
            let operands = operands.as_array().expect("a list of operands");
            apply(name, operands, root)
        }
        other => Some(other.clone()),
    }
}

fn apply(operator: &str, operands: &[Bson], root: &Document) -> Option<Bson> {
    let value = |number: usize| evaluate(&operands[number], root);
    let holds = |expression: &Bson| evaluate(expression, root) == Some(Bson::Boolean(true));
    Some(match operator {
        "$cond" => return value(if holds(&operands[0]) { 1 } else { 2 }),
        "$ifNull" => return value(0).or_else(|| value(1)),
        "$and" => Bson::Boolean(operands.iter().all(holds)),
        "$or" => Bson::Boolean(operands.iter().any(holds)),
        "$eq" => Bson::Boolean(is_equal(value(0), value(1))),
        "$ne" => Bson::Boolean(!is_equal(value(0), value(1))),
        "$lt" => Bson::Boolean(number(value(0)) < number(value(1))),
        "$gt" => Bson::Boolean(number(value(0)) > number(value(1))),
        other => panic!("the model does not know {other}"),
    })
}

fn number(value: Option<Bson>) -> Option<i64> {
    match value? {
        Bson::Int32(number) => Some(number.into()),
        Bson::Int64(number) => Some(number),
        other => panic!("{other:?} is not compared by the sink"),
    }
}

fn is_equal(left: Option<Bson>, right: Option<Bson>) -> bool {
    match (&left, &right) {
        (Some(Bson::Int32(_) | Bson::Int64(_)), Some(Bson::Int32(_) | Bson::Int64(_))) => number(left) == number(right),
        _ => left == right,
    }
}

/// The result at `offset` of a window's topic.
fn result(offset: i64, random: &mut Random) -> Update {
    let key = format!("d{}", random.below(KEYS));
    let (topic, topic_id, origin): (Arc<str>, Arc<str>, Arc<str>) = ("updated".into(), "id-1".into(), "in/0".into());
    let mut id = RawDocumentBuf::new();
    id.append(cstr!("dev_id"), &*key);
    let mut source = RawDocumentBuf::new();
    source.append(cstr!("topic"), &*topic);
    source.append(cstr!("topic_id"), &*topic_id);
    source.append(cstr!("partition"), 0);
    source.append(cstr!("offset"), offset);
    let mut document = RawDocumentBuf::new();
    document.append(cstr!("_id"), &id);
    document.append(cstr!("readings"), offset);
    document.append(cstr!("origin"), &*origin);
    document.append(cstr!("source"), &source);
    Update { id, document, rule: Rule::Newest { origin }, source: Source { topic, topic_id, partition: 0, offset } }
}

/// A sink that reads on, and is set back at times, as by a crash before its positions were committed.
struct Reading {
    next: usize,
    committed: usize,
}

impl Reading {
    /// Writes a batch, or some of its commands only.
    fn write(&mut self, results: &[Update], collection: &mut Collection, random: &mut Random) {
        let end = (self.next + 1 + random.below(9)).min(results.len());
        for round in rounds(results[self.next..end].to_vec()) {
            let all: Vec<usize> = (0..round.len()).collect();
            for command in commands("updated", Form::Update, &round, &all, BOUNDS) {
                if random.permille(100) {
                    self.next = self.committed;
                    return;
                }
                collection.execute(&command.body, random);
            }
        }
        self.next = end;
        if random.permille(500) {
            self.committed = end;
        }
    }
}

/// What two sinks leave, one of them a zombie, each reading again from where it committed last; and what should be there: the newest
/// result of each window.
fn left_and_wanted(seed: u64) -> (BTreeMap<String, Document>, BTreeMap<String, Document>) {
    let mut random = Random::new(seed, 7);
    let results: Vec<Update> = (0..RESULTS).map(|offset| result(offset as i64, &mut random)).collect();
    let mut collection = Collection::default();
    let mut sinks = [Reading { next: 0, committed: 0 }, Reading { next: 0, committed: 0 }];
    while sinks.iter().any(|sink| sink.next < results.len()) {
        let sink = random.below(2);
        sinks[sink].write(&results, &mut collection, &mut random);
    }
    let newest = results.iter().map(|update| {
        let document = Document::try_from(update.document.clone()).expect("valid BSON");
        (document.get("_id").expect("an _id").to_string(), document)
    });
    (collection.documents, newest.collect())
}

/// SINK-1.
#[test]
fn results_written_in_any_order_of_redelivery_leave_the_newest() {
    for seed in 0..500 {
        let (left, wanted) = left_and_wanted(seed);
        assert_eq!(left, wanted, "seed {seed}");
    }
}

#[cfg_attr(not(feature = "failpoints"), ignore = "bugs are planted by failpoints")]
#[test]
fn the_planted_bug_of_sinks_is_found() {
    let (left, wanted) = on_this_thread(Some(OF_SINKS), || left_and_wanted(0));
    assert_ne!(left, wanted);
}
