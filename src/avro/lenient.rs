//! Schemas that producers use and the specification forbids, in words that it allows.
//!
//! Java's parser looks at no namespace (`com.acme.Outer$`, `com.acme-corp`), takes an `error` for a record and letters of any language in
//! names, and a registry keeps schemas whose defaults do not fit their types. None of it changes how a datum is read: names match without
//! namespaces, no reader has the other letters, and a writer's defaults are never used. So such texts are put in other words.

use serde_json::{Map, Value};

/// What may be said in other words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leniency {
    /// Namespaces, and `error` for `record`.
    Names,
    /// These, all other names, and defaults are left out: for writers.
    NamesAndDefaults,
}

impl Leniency {
    fn name(self, name: &str) -> String {
        match self {
            Self::Names => legal(name),
            Self::NamesAndDefaults => legal_namespace(name),
        }
    }
}

/// A schema and those it refers to in other words; none where there are none, or a text is no JSON. The texts must be within the bounds of
/// [`super::SchemaLimits`]: this recurses.
pub fn reworded(json: &str, references: &[&str], leniency: Leniency) -> Option<(String, Vec<String>)> {
    let mut is_other = false;
    let mut reworded = |json: &str| {
        let given: Value = serde_json::from_str(json).ok()?;
        let mut schema = given.clone();
        reword(&mut schema, leniency);
        is_other |= schema != given;
        Some(schema.to_string())
    };
    let references = references.iter().map(|text| reworded(text)).collect::<Option<Vec<_>>>()?;
    let schema = reworded(json)?;
    is_other.then_some((schema, references))
}

fn reword(schema: &mut Value, leniency: Leniency) {
    match schema {
        Value::String(name) => *name = leniency.name(name),
        Value::Array(branches) => branches.iter_mut().for_each(|branch| reword(branch, leniency)),
        Value::Object(object) => reword_object(object, leniency),
        _ => {}
    }
}

fn reword_object(object: &mut Map<String, Value>, leniency: Leniency) {
    let kind = object.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    match kind.as_str() {
        "record" | "error" => {
            object.insert("type".into(), "record".into());
            reword_names(object, leniency);
            for field in object.get_mut("fields").and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut) {
                if leniency == Leniency::NamesAndDefaults {
                    field.remove("default");
                    field.get_mut("name").into_iter().for_each(|name| reword(name, leniency));
                    field.get_mut("aliases").into_iter().for_each(|aliases| reword(aliases, leniency));
                }
                if let Some(of) = field.get_mut("type") {
                    reword(of, leniency);
                }
            }
        }
        "enum" => {
            reword_names(object, leniency);
            if leniency == Leniency::NamesAndDefaults {
                object.remove("default");
                object.get_mut("symbols").into_iter().for_each(|symbols| reword(symbols, leniency));
            }
        }
        "fixed" => reword_names(object, leniency),
        "array" => object.get_mut("items").into_iter().for_each(|items| reword(items, leniency)),
        "map" => object.get_mut("values").into_iter().for_each(|values| reword(values, leniency)),
        _ => object.get_mut("type").into_iter().for_each(|of| reword(of, leniency)),
    }
}

fn reword_names(object: &mut Map<String, Value>, leniency: Leniency) {
    if let Some(Value::String(name)) = object.get_mut("name") {
        *name = leniency.name(name);
    }
    if let Some(Value::String(namespace)) = object.get_mut("namespace") {
        *namespace = legal_namespace(namespace);
    }
    for alias in object.get_mut("aliases").and_then(Value::as_array_mut).into_iter().flatten() {
        reword(alias, leniency);
    }
}

/// A name with a legal namespace; what stands behind the last dot is left as it is.
pub fn legal(name: &str) -> String {
    match name.rsplit_once('.') {
        Some((namespace, own)) if !namespace.is_empty() => format!("{}.{own}", legal_namespace(namespace)),
        _ => name.to_owned(),
    }
}

/// Other letters become their code points, so that two namespaces stay two.
fn legal_namespace(namespace: &str) -> String {
    let part = |part: &str| {
        let mut legal = String::with_capacity(part.len());
        for letter in part.chars() {
            match letter {
                '_' | 'A'..='Z' | 'a'..='z' => legal.push(letter),
                '0'..='9' if !legal.is_empty() => legal.push(letter),
                other => legal.push_str(&format!("_{:x}_", u32::from(other))),
            }
        }
        if legal.is_empty() { "_".to_owned() } else { legal }
    };
    match namespace.is_empty() {
        true => String::new(),
        false => namespace.split('.').map(part).collect::<Vec<_>>().join("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::avro::{Decoder, ReaderSchema, check_readable, parse_writer};

    const READER: &str = r#"{"type":"record","name":"R","fields":[{"name":"e","type":{"type":"enum","name":"E","symbols":["A"]}},
        {"name":"note","type":["null","string"],"default":"x"}]}"#;

    fn note(writer: &str, datum: &[u8]) -> String {
        let reader = ReaderSchema::parse(READER).expect("a reader schema");
        let writer = parse_writer(writer, &Default::default()).unwrap_or_else(|fault| panic!("{writer}: {fault}"));
        check_readable(&writer, &reader).unwrap_or_else(|fault| panic!("{fault}"));
        let rows = Decoder::new(&writer, &reader).expect("readable").decode([datum].into_iter()).expect("decoded").rows;
        arrow::util::display::array_value_to_string(rows.column(1), 0).expect("a text")
    }

    /// Siblings of C19: the namespaces of Java's nested classes and of companies with a hyphen, in a definition, a reference and a full name.
    #[test]
    fn namespaces_that_only_java_takes_do_not_matter() {
        for namespace in ["com.acme.Outer$", "com.acme-corp.v1", "1st.über", "a..b"] {
            let definition = format!(r#"{{"type":"enum","name":"E","namespace":"{namespace}","symbols":["A"]}}"#);
            let reference = format!(r#"{{"name":"again","type":"{namespace}.E"}}"#);
            let writer = format!(
                r#"{{"type":"record","name":"{namespace}.R","fields":[{{"name":"e","type":{definition}}},{reference},{{"name":"note","type":"string"}}]}}"#
            );
            assert_eq!(note(&writer, &[0, 0, 2, b'n']), "n", "{namespace}");
        }
        assert_ne!(legal_namespace("a-b"), legal_namespace("a$b"));
    }

    /// What Java's parser takes in names, before and after 1.12: letters of any language.
    #[test]
    fn letters_of_other_languages_do_not_matter_in_what_was_written() {
        let writer = r#"{"type":"record","name":"Mätning","aliases":["R"],"fields":[{"name":"lämpötila","type":"double","aliases":["värme"]},
            {"name":"läge","type":{"type":"enum","name":"Läge","symbols":["GRÖN","RÖD"],"default":"RÖD"}},{"name":"åter","type":"Läge"},
            {"name":"e","type":{"type":"enum","name":"E","symbols":["A"]}},{"name":"note","type":"string"}]}"#;
        let mut datum = 20.5_f64.to_le_bytes().to_vec();
        datum.extend([0, 2, 0, 2, b'n']);

        assert_eq!(note(&writer.replace("Mätning", "R"), &datum), "n");
        assert!(parse_writer(writer, &Default::default()).is_ok());
    }

    /// Siblings of C09: what a writer's default is does not matter, right or wrong.
    #[test]
    fn a_writers_defaults_do_not_matter() {
        let fields = |default: &str, of_enum: &str| {
            format!(
                r#"{{"type":"error","name":"R","fields":[{{"name":"e","type":{{"type":"enum","name":"E","symbols":["A"]{of_enum}}}}},
                {{"name":"note","type":"string"{default}}}]}}"#
            )
        };
        for (default, of_enum) in [(r#","default":null"#, ""), (r#","default":7"#, ""), ("", r#","default":"B""#), ("", "")] {
            assert_eq!(note(&fields(default, of_enum), &[0, 2, b'n']), "n", "{default}{of_enum}");
        }
    }

    #[test]
    fn a_readers_defaults_do_matter_and_its_namespace_does_not() {
        let reader = |default: &str| {
            ReaderSchema::parse(&format!(
                r#"{{"type":"record","name":"R","namespace":"a-b","fields":[{{"name":"n","type":"int","default":{default}}}]}}"#
            ))
        };
        assert!(reader("7").is_ok());
        let fault = reader("null").expect_err("no int").to_string();
        assert!(fault.contains("`default`") || fault.contains("namespace"), "{fault}");
    }
}
