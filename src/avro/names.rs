//! The named types of a schema: references are followed here, and types that contain themselves are found here.

use std::collections::{HashMap, HashSet};

use apache_avro::Schema;
use apache_avro::schema::{Alias, Name};

use super::schema::SchemaFault;

/// Every named type that a schema defines, by full name.
#[derive(Debug)]
pub(super) struct Names<'s> {
    types: HashMap<Name, &'s Schema>,
}

impl<'s> Names<'s> {
    /// Collects the named types of `schema`.
    ///
    /// # Errors
    /// [`SchemaFault::Invalid`] when a name is defined twice.
    pub(super) fn of(schema: &'s Schema) -> Result<Self, SchemaFault> {
        let mut names = Self { types: HashMap::new() };
        names.collect(schema)?;
        Ok(names)
    }

    /// The schema itself, or the type that it refers to.
    ///
    /// # Errors
    /// [`SchemaFault::Invalid`] when the reference leads nowhere.
    pub(super) fn resolve(&self, schema: &'s Schema) -> Result<&'s Schema, SchemaFault> {
        match schema {
            Schema::Ref { name } => {
                self.types.get(name).copied().ok_or_else(|| SchemaFault::Invalid(format!("type `{name}` is not defined")))
            }
            other => Ok(other),
        }
    }

    /// The definitions, in no particular order.
    pub(super) fn definitions(&self) -> impl Iterator<Item = &'s Schema> {
        self.types.values().copied()
    }

    fn collect(&mut self, schema: &'s Schema) -> Result<(), SchemaFault> {
        match schema {
            Schema::Ref { .. } => return Ok(()),
            Schema::Array(array) => return self.collect(&array.items),
            Schema::Map(map) => return self.collect(&map.types),
            Schema::Union(union) => return union.variants().iter().try_for_each(|branch| self.collect(branch)),
            _ => {}
        }
        let Some(name) = schema.name() else { return Ok(()) };
        if self.types.insert(name.clone(), schema).is_some() {
            return Err(SchemaFault::Invalid(format!("type `{name}` is defined twice")));
        }
        // A reference may use an alias of the type; a definition of that very name goes first.
        for alias in schema.aliases().into_iter().flatten() {
            self.types.entry(alias.fully_qualified_name(None).into_owned()).or_insert(schema);
        }
        match schema {
            Schema::Record(record) => record.fields.iter().try_for_each(|field| self.collect(&field.schema)),
            _ => Ok(()),
        }
    }
}

/// The attribute of derived types that have no name of their own: a JSON Schema's objects are what stands at their place.
pub(super) const UNNAMED: &str = "unnamed";

/// Whether a reader's named type stands for a writer's: by unqualified name, or by an alias of the reader's, or because the writer's format
/// names no types.
///
/// # Source
/// Avro specification, schema resolution: names match without namespaces.
pub(super) fn is_same_type(of_writer: &Schema, reader: &Schema) -> bool {
    let (Some(writer), Some(name)) = (of_writer.name(), reader.name()) else {
        return true;
    };
    if of_writer.custom_attributes().is_some_and(|attributes| attributes.contains_key(UNNAMED)) {
        return true;
    }
    writer.name() == name.name() || reader.aliases().into_iter().flatten().map(Alias::name).any(|alias| alias == writer.name())
}

/// A type that contains itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recursion {
    pub(super) type_name: String,
    /// The field that holds the type again, as `Type.field`.
    pub(super) field: String,
}

/// Finds a type that contains itself. Definitions come before their references, so references are not followed.
pub(super) fn find_recursion(schema: &Schema) -> Option<Recursion> {
    fn find<'s>(schema: &'s Schema, field: &str, open: &mut HashSet<&'s Name>) -> Option<Recursion> {
        match schema {
            Schema::Ref { name } => open.contains(name).then(|| Recursion { type_name: name.to_string(), field: field.to_owned() }),
            Schema::Array(array) => find(&array.items, field, open),
            Schema::Map(map) => find(&map.types, field, open),
            Schema::Union(union) => union.variants().iter().find_map(|branch| find(branch, field, open)),
            Schema::Record(record) => {
                open.insert(&record.name);
                let found =
                    record.fields.iter().find_map(|inner| find(&inner.schema, &format!("{}.{}", record.name.name(), inner.name), open));
                open.remove(&record.name);
                found
            }
            _ => None,
        }
    }
    find(schema, "", &mut HashSet::new())
}
