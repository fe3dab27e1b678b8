//! A JSON Schema and those that it was registered with: where a `$ref` leads.

use std::cmp::Reverse;

use jsonschema::{Retrieve, Uri};
use serde_json::{Map, Value};

use super::super::Reference;
use super::refused;
use crate::avro::schema::SchemaFault;

/// The schema, and the others by their names.
#[derive(Debug)]
pub(super) struct Documents {
    documents: Vec<Document>,
}

#[derive(Debug)]
struct Document {
    /// What the others call it; empty for the schema itself.
    name: String,
    json: Value,
}

/// A place in one of them.
#[derive(Clone, Debug)]
pub(super) struct Place<'d> {
    pub(super) document: usize,
    /// A JSON pointer.
    pub(super) pointer: String,
    pub(super) value: &'d Value,
}

impl<'d> Place<'d> {
    /// The place of a member or item.
    pub(super) fn step(&self, step: &str, value: &'d Value) -> Self {
        let step = step.replace('~', "~0").replace('/', "~1");
        Self { document: self.document, pointer: format!("{}/{step}", self.pointer), value }
    }

    /// The place of a keyword's value.
    pub(super) fn keyword(&self, keyword: &str) -> Option<Self> {
        Some(self.step(keyword, self.value.get(keyword)?))
    }

    /// The members of an object.
    pub(super) fn members(&self) -> impl Iterator<Item = (&'d str, Self)> + '_ {
        let members: Option<&'d Map<String, Value>> = self.value.as_object();
        members.into_iter().flatten().map(|(name, value)| (name.as_str(), self.step(name, value)))
    }

    /// The items of an array.
    pub(super) fn items(&self) -> impl Iterator<Item = Self> + '_ {
        let items: Option<&'d Vec<Value>> = self.value.as_array();
        items.into_iter().flatten().enumerate().map(|(at, value)| self.step(&at.to_string(), value))
    }
}

impl Documents {
    pub(super) fn parse(text: &str, references: &[Reference]) -> Result<Self, SchemaFault> {
        let others = references.iter().map(|reference| (reference.name.as_str(), reference.text.as_str()));
        let mut documents = Vec::with_capacity(references.len() + 1);
        for (name, text) in [("", text)].into_iter().chain(others) {
            let json = serde_json::from_str(text).map_err(|error| refused(format!("{name}#"), format!("it is not JSON: {error}")))?;
            documents.push(Document { name: name.to_owned(), json });
        }
        Ok(Self { documents })
    }

    /// The schema itself.
    pub(super) fn root(&self) -> &Value {
        &self.documents[0].json
    }

    pub(super) fn start(&self) -> Place<'_> {
        Place { document: 0, pointer: String::new(), value: self.root() }
    }

    /// A place for people.
    pub(super) fn show(&self, place: &Place<'_>) -> String {
        format!("{}#{}", self.documents[place.document].name, place.pointer)
    }

    /// Whether what stands beside a `$ref` counts: it does from draft 2019-09 on.
    pub(super) fn counts_beside_ref(&self, document: usize) -> bool {
        let of = |document: &Document| document.json.get("$schema").and_then(Value::as_str).map(str::to_owned);
        let draft = of(&self.documents[document]).or_else(|| of(&self.documents[0])).unwrap_or_default();
        !["draft-04", "draft-06", "draft-07"].iter().any(|old| draft.contains(old))
    }

    /// Where the `$ref` at `place` leads.
    pub(super) fn follow<'d>(&'d self, place: &Place<'d>, reference: &str) -> Result<Place<'d>, SchemaFault> {
        let (uri, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let lost = |why: &str| refused(self.show(place), format!("`$ref` to `{reference}` {why}"));
        let document = match uri.is_empty() {
            true => place.document,
            false => self.find(uri).ok_or_else(|| lost("leads to a schema that this one was not registered with; nothing is fetched"))?,
        };
        if !fragment.is_empty() && !fragment.starts_with('/') {
            return Err(lost("names an anchor; write a JSON pointer, such as `#/$defs/name`"));
        }
        let pointer = decoded(fragment).ok_or_else(|| lost("is not a URI"))?;
        let value = self.documents[document].json.pointer(&pointer).ok_or_else(|| lost("leads nowhere"))?;
        Ok(Place { document, pointer, value })
    }

    /// The schema that a URI means: by its own `$id` or the name it was registered under, as it stands or else behind a base; of several
    /// then the one that has more of it.
    fn find(&self, uri: &str) -> Option<usize> {
        let uri = uri.trim_end_matches('#');
        let rank = |document: &Document| {
            let id = ["$id", "id"].iter().find_map(|key| document.json.get(key)?.as_str()).unwrap_or_default().trim_end_matches('#');
            let ends = |long: &str, short: &str| !short.is_empty() && long.strip_suffix(short).is_some_and(|base| base.ends_with('/'));
            let name = document.name.trim_end_matches('#');
            if uri == id {
                Some((3, 0))
            } else if uri == name {
                Some((2, 0))
            } else if ends(uri, name) {
                Some((1, name.len()))
            } else {
                ends(id, uri).then_some((1, uri.len()))
            }
        };
        let ranked = self.documents.iter().enumerate().filter_map(|(at, document)| Some((rank(document)?, Reverse(at))));
        ranked.max().map(|(_, Reverse(at))| at)
    }
}

/// Percent signs of a URI's fragment, undone.
fn decoded(fragment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                bytes.push(u8::try_from(high * 16 + low).ok()?);
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).ok()
}

/// Gives the validator what is known, and nothing else.
pub(super) struct Known(pub(super) Documents);

impl Retrieve for Known {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        match self.0.find(uri.as_str()) {
            Some(document) => Ok(self.0.documents[document].json.clone()),
            None => {
                Err(format!("`{}` is not among the schemas that this one was registered with; nothing is fetched", uri.as_str()).into())
            }
        }
    }
}
