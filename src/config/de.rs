//! From the tree to types: serde over [`Node`], so that a fault knows its path and text takes the type the setting wants.

use std::collections::btree_map;
use std::fmt;

use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use toml::Value;

use super::tree::{Given, Node, Path, scalar};

/// A setting that does not fit its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Which setting.
    pub path: Path,
    /// What is wrong.
    pub text: String,
    /// Where the key is unknown: the keys that are known there.
    pub known: Option<&'static [&'static str]>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self { path: Path::new(), text: text.to_string(), known: None }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self { path: vec![field.to_owned()], text: "there is no such setting".into(), known: Some(expected) }
    }
}

fn in_toml(error: toml::de::Error) -> Error {
    de::Error::custom(error.message())
}

/// Deserializes from one node.
#[derive(Clone, Copy)]
pub struct NodeDeserializer<'a>(pub &'a Node);

impl<'de> NodeDeserializer<'_> {
    fn value<V: Visitor<'de>>(self, wanted: &str, value: Value, visitor: V) -> Result<V::Value, Error> {
        if matches!(&value, Value::String(_)) {
            return Err(de::Error::custom(format_args!("must be {wanted}")));
        }
        de::Deserializer::deserialize_any(value, visitor).map_err(in_toml)
    }
}

impl<'de> de::Deserializer<'de> for NodeDeserializer<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Node::Table(_) => self.deserialize_map(visitor),
            Node::Leaf(leaf) => de::Deserializer::deserialize_any(leaf.given.typed(), visitor).map_err(in_toml),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Node::Table(entries) => visitor.visit_map(Entries { entries: entries.iter(), current: None }),
            Node::Leaf(leaf) => self.value("a section", leaf.given.typed(), visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(self, _: &'static str, _: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.deserialize_map(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Node::Leaf(leaf) = self.0 else {
            return Err(de::Error::custom("must be a list, not a section"));
        };
        let value = match &leaf.given {
            Given::Typed(value) => value.clone(),
            // `[…]` as in a file, or items between commas.
            Given::Text(text) => match scalar(text) {
                list @ Value::Array(_) => list,
                _ => text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Value::from).collect::<Vec<_>>().into(),
            },
        };
        self.value("a list", value, visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Node::Leaf(leaf) => match &leaf.given {
                Given::Text(text) | Given::Typed(Value::String(text)) => visitor.visit_str(text),
                Given::Typed(_) => Err(de::Error::custom("must be text, in quotes")),
            },
            Node::Table(_) => Err(de::Error::custom("must be text, not a section")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let choices = || -> Error { de::Error::custom(format_args!("must be one of {}", variants.join(", "))) };
        match self.0 {
            Node::Leaf(leaf) => match &leaf.given {
                Given::Text(text) | Given::Typed(Value::String(text)) if variants.contains(&text.as_str()) => {
                    visitor.visit_enum(IntoDeserializer::<Error>::into_deserializer(text.as_str()))
                }
                Given::Text(_) | Given::Typed(Value::String(_)) => Err(choices()),
                Given::Typed(value) => de::Deserializer::deserialize_enum(value.clone(), name, variants, visitor).map_err(in_toml),
            },
            Node::Table(_) => Err(choices()),
        }
    }

    // Text that is a TOML scalar is visited as that scalar, so numbers and truth values need nothing of their own.
    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct identifier
        ignored_any
    }
}

/// The entries of a table.
struct Entries<'a> {
    entries: btree_map::Iter<'a, String, Node>,
    current: Option<(&'a String, &'a Node)>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.current = self.entries.next();
        match self.current {
            Some((key, _)) => seed.deserialize(IntoDeserializer::<Error>::into_deserializer(key.as_str())).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let (key, node) = self.current.ok_or_else(|| -> Error { de::Error::custom("a value without a key") })?;
        seed.deserialize(NodeDeserializer(node)).map_err(|mut error| {
            error.path.insert(0, key.clone());
            error
        })
    }
}
