//! From documents to commands: one statement for each document, guarded so that applying it twice, late or in another order
//! changes nothing (SINK-1). Pure.
//!
//! The guard stands inside a pipeline, the filter is `_id` alone: a guard in the filter would make every stale write an attempt to
//! insert, which fails with a duplicate key. `$literal` keeps what looks like an expression, a path or an operator as data (C91).
//!
//! Records are inserted, which is cheapest; where one is there already the statement is repeated as a guarded update, which finds out
//! whether it is the same record or one of a topic made anew.

use std::collections::HashMap;

use mongodb::bson::raw::{CStr, cstr};
use mongodb::bson::{RawArrayBuf, RawDocumentBuf};

use super::document::{Rule, Update};
use super::rows::SetAside;
use super::settings::Bounds;
use crate::planted::Bug;

/// Largest document that is written: the server's bound is 16 MiB, and a guard and an envelope have to fit beside it.
pub const DOCUMENT_BYTES_MAX: usize = 15 << 20;

/// How long the server may wait until a majority has a write, milliseconds.
const MAJORITY_TIMEOUT_MS: i32 = 10_000;

/// Bytes of a command besides its statements, generously.
const ENVELOPE_BYTES: usize = 1 << 10;

/// How documents are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `insert`: refused for documents that are there.
    Insert,
    /// `update` with upsert and guard.
    Update,
}

impl Form {
    /// The form that documents of `rule` are first sent in.
    pub fn first(rule: &Rule) -> Self {
        match rule {
            Rule::Newest { .. } => Self::Update,
            Rule::Once => Self::Insert,
        }
    }
}

/// A command that is ready to be sent.
#[derive(Debug)]
pub struct Command {
    /// How its documents are sent.
    pub form: Form,
    /// Which document each statement writes, by index.
    pub documents: Vec<usize>,
    /// The command.
    pub body: RawDocumentBuf,
}

/// Merges documents of one `_id`, so that a command holds each once: unordered statements have no order among themselves (C119).
///
/// Documents of different origins are not merged; the later origin goes into the next round, as if they had been sent one by one.
pub fn rounds(updates: Vec<Update>) -> Vec<Vec<Update>> {
    let mut rounds: Vec<Vec<Update>> = Vec::new();
    let mut places: HashMap<Vec<u8>, Vec<usize>> = HashMap::with_capacity(updates.len());
    for update in updates {
        let places = places.entry(update.id.as_bytes().to_vec()).or_default();
        let known = places.iter().enumerate().find(|(round, index)| rounds[*round][**index].rule == update.rule);
        if let Some((round, index)) = known {
            let earlier = &mut rounds[round][*index];
            if update.source.is_newer_than(&earlier.source) {
                *earlier = update;
            }
            continue;
        }
        let round = places.len();
        if rounds.len() == round {
            rounds.push(Vec::new());
        }
        places.push(rounds[round].len());
        rounds[round].push(update);
    }
    rounds
}

/// Commands that write `updates[index]` for each of `which`, cut at the bounds; a document above them goes alone.
pub fn commands(collection: &str, form: Form, updates: &[Update], which: &[usize], bounds: Bounds) -> Vec<Command> {
    let statements = which.iter().map(|index| match form {
        Form::Insert => (*index, updates[*index].document.clone()),
        Form::Update => (*index, guarded(&updates[*index])),
    });
    cut(statements, bounds)
        .into_iter()
        .map(|(documents, statements)| Command { form, documents, body: envelope(collection, form, statements) })
        .collect()
}

/// Commands that note what was set aside, in a collection of its own. Repeating them changes nothing.
pub fn markers(collection: &str, set_aside: &[SetAside], bounds: Bounds) -> Vec<Command> {
    let statements = set_aside.iter().enumerate().map(|(index, aside)| {
        let mut statement = RawDocumentBuf::new();
        statement.append(cstr!("q"), by_id(&aside.source.place()));
        statement.append(cstr!("u"), aside.marker());
        statement.append(cstr!("upsert"), true);
        (index, statement)
    });
    cut(statements, bounds)
        .into_iter()
        .map(|(documents, statements)| Command { form: Form::Update, documents, body: envelope(collection, Form::Update, statements) })
        .collect()
}

fn cut(statements: impl Iterator<Item = (usize, RawDocumentBuf)>, bounds: Bounds) -> Vec<(Vec<usize>, RawArrayBuf)> {
    let mut cuts: Vec<(Vec<usize>, RawArrayBuf)> = Vec::new();
    let mut bytes = 0;
    for (index, statement) in statements {
        // An array keeps a type, the index as text and a zero byte beside each element.
        let own = statement.as_bytes().len() + 8;
        let fits = bytes + own + ENVELOPE_BYTES <= bounds.bytes_max;
        match cuts.last_mut() {
            Some((indexes, array)) if fits && indexes.len() < bounds.statements_max => {
                indexes.push(index);
                array.push(statement);
                bytes += own;
            }
            _ => {
                let mut array = RawArrayBuf::new();
                array.push(statement);
                cuts.push((vec![index], array));
                bytes = own;
            }
        }
    }
    cuts
}

fn envelope(collection: &str, form: Form, statements: RawArrayBuf) -> RawDocumentBuf {
    let (command, list) = match form {
        Form::Insert => (cstr!("insert"), cstr!("documents")),
        Form::Update => (cstr!("update"), cstr!("updates")),
    };
    let mut body = RawDocumentBuf::new();
    body.append(command, collection);
    body.append(cstr!("ordered"), false);
    body.append(cstr!("writeConcern"), write_concern());
    body.append(list, statements);
    body
}

/// Majority and journal: what is acknowledged must survive a failover, because positions are committed right after. A command does not
/// inherit the client's write concern.
fn write_concern() -> RawDocumentBuf {
    let mut concern = RawDocumentBuf::new();
    concern.append(cstr!("w"), "majority");
    concern.append(cstr!("j"), true);
    concern.append(cstr!("wtimeout"), MAJORITY_TIMEOUT_MS);
    concern
}

fn by_id(id: &RawDocumentBuf) -> RawDocumentBuf {
    let mut filter = RawDocumentBuf::new();
    filter.append(cstr!("_id"), id);
    filter
}

/// `{q: {_id}, u: [{$replaceWith: {$cond: [<newer>, {$literal: <document>}, "$$ROOT"]}}], upsert: true}`
fn guarded(update: &Update) -> RawDocumentBuf {
    let choice = operator(cstr!("$cond"), [newer(update).into(), literal(&update.document).into(), Operand::Path("$$ROOT")]);
    let mut stage = RawDocumentBuf::new();
    stage.append(cstr!("$replaceWith"), choice);
    let mut pipeline = RawArrayBuf::new();
    pipeline.push(stage);
    let mut statement = RawDocumentBuf::new();
    statement.append(cstr!("q"), by_id(&update.id));
    statement.append(cstr!("u"), pipeline);
    statement.append(cstr!("upsert"), true);
    statement
}

/// The condition under which the stored document gives way; a document that is not there has no `source` and gives way.
fn newer(update: &Update) -> RawDocumentBuf {
    let source = &update.source;
    let is_of_another_topic = operator(cstr!("$ne"), [Operand::Path("$source.topic_id"), text(&source.topic_id).into()]);
    let Rule::Newest { origin } = &update.rule else { return is_of_another_topic };
    let is_same_partition = operator(cstr!("$eq"), [Operand::Path("$source.partition"), Operand::Number(source.partition.into())]);
    let is_below = if Bug::StaleUpsert.is_planted() { cstr!("$gt") } else { cstr!("$lt") };
    let is_earlier = operator(is_below, [Operand::Path("$source.offset"), Operand::Number(source.offset)]);
    let is_newer =
        operator(cstr!("$or"), [is_of_another_topic.into(), operator(cstr!("$and"), [is_same_partition.into(), is_earlier.into()]).into()]);
    let stored_origin = operator(cstr!("$ifNull"), [Operand::Path("$origin"), text(origin).into()]);
    let is_same_origin = operator(cstr!("$eq"), [stored_origin.into(), text(origin).into()]);
    operator(cstr!("$and"), [is_same_origin.into(), is_newer.into()])
}

/// An operand of an aggregation operator.
enum Operand {
    Path(&'static str),
    Number(i64),
    Expression(RawDocumentBuf),
}

impl From<RawDocumentBuf> for Operand {
    fn from(expression: RawDocumentBuf) -> Self {
        Self::Expression(expression)
    }
}

fn operator<const N: usize>(name: &CStr, operands: [Operand; N]) -> RawDocumentBuf {
    let mut list = RawArrayBuf::new();
    for operand in operands {
        match operand {
            Operand::Path(path) => list.push(path),
            Operand::Number(number) => list.push(number),
            Operand::Expression(expression) => list.push(expression),
        }
    }
    let mut document = RawDocumentBuf::new();
    document.append(name, list);
    document
}

fn literal(document: &RawDocumentBuf) -> RawDocumentBuf {
    let mut literal = RawDocumentBuf::new();
    literal.append(cstr!("$literal"), document);
    literal
}

fn text(text: &str) -> RawDocumentBuf {
    let mut literal = RawDocumentBuf::new();
    literal.append(cstr!("$literal"), text);
    literal
}

#[cfg(test)]
#[path = "statement_tests.rs"]
mod tests;
