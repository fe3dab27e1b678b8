//! Schemas that producers use and the specification forbids, in words that it allows.
//!
//! Java's parser looks at no namespace (`com.acme.Outer$`, `com.acme-corp`), takes an `error` for a record and letters of any language in
//! names, and a registry keeps schemas whose defaults do not fit their types. None of it changes how a datum is read: names match without
//! namespaces, a reader's are put in the same words, and a writer's defaults are never used. So such texts are put in other words.

use serde_json::{Map, Value};

/// What may be said in other words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leniency {
    /// Types' names, and `error` for `record`.
    Names,
    /// These, fields' names and symbols, and defaults are left out: for writers.
    NamesAndDefaults,
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
        Value::String(name) => *name = legal(name),
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
            reword_names(object);
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
            reword_names(object);
            if leniency == Leniency::NamesAndDefaults {
                object.remove("default");
                object.get_mut("symbols").into_iter().for_each(|symbols| reword(symbols, leniency));
            }
        }
        "fixed" => reword_names(object),
        "array" => object.get_mut("items").into_iter().for_each(|items| reword(items, leniency)),
        "map" => object.get_mut("values").into_iter().for_each(|values| reword(values, leniency)),
        _ => object.get_mut("type").into_iter().for_each(|of| reword(of, leniency)),
    }
}

fn reword_names(object: &mut Map<String, Value>) {
    if let Some(Value::String(name)) = object.get_mut("name") {
        *name = legal(name);
    }
    if let Some(Value::String(namespace)) = object.get_mut("namespace") {
        *namespace = legal_namespace(namespace);
    }
    for alias in object.get_mut("aliases").and_then(Value::as_array_mut).into_iter().flatten() {
        reword(alias, Leniency::Names);
    }
}

/// A legal name in the place of one with or without a namespace. Other letters become their code points, so that two names stay two; a dot in
/// front says that there is no namespace.
pub fn legal(name: &str) -> String {
    match name.strip_prefix('.') {
        Some(own) => format!(".{}", legal_namespace(own)),
        None => legal_namespace(name),
    }
}

/// A text for people, in which names that were put in other words are as they were.
pub fn as_written(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(ESCAPE) {
        shown.push_str(before);
        let letter = after.split_once("__").and_then(|(code, behind)| {
            let letter = char::from_u32(u32::from_str_radix(code, 16).ok()?)?;
            // What was made so, and moves no cursor.
            let is_shown = !letter.is_ascii_alphanumeric() && (letter.is_alphanumeric() || letter.is_ascii_punctuation());
            (is_shown && format!("{:x}", u32::from(letter)) == code).then_some((letter, behind))
        });
        match letter {
            Some((letter, behind)) => {
                shown.push(letter);
                rest = behind;
            }
            None => {
                shown.push_str(ESCAPE);
                rest = after;
            }
        }
    }
    shown + rest
}

/// In front of a letter's code point, with `__` behind it.
const ESCAPE: &str = "__chr_";

fn legal_namespace(namespace: &str) -> String {
    let part = |part: &str| {
        let mut legal = String::with_capacity(part.len());
        for letter in part.chars() {
            match letter {
                '_' | 'A'..='Z' | 'a'..='z' => legal.push(letter),
                '0'..='9' if !legal.is_empty() => legal.push(letter),
                other => legal.push_str(&format!("{ESCAPE}{:x}__", u32::from(other))),
            }
        }
        if legal.is_empty() { "_".to_owned() } else { legal }
    };
    match namespace.is_empty() {
        true => String::new(),
        false => namespace.split('.').map(part).collect::<Vec<_>>().join("."),
    }
}

/// A schema's text for people, without the defaults that a parser would try again and again, in each branch of each union: those that hold
/// others. None where it is no JSON.
pub fn with_plain_defaults(json: &str) -> Option<String> {
    let mut schema = serde_json::from_str(json).ok()?;
    drop_deep_defaults(&mut schema);
    Some(schema.to_string())
}

fn drop_deep_defaults(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(drop_deep_defaults),
        Value::Object(members) => {
            let is_of_map = members.get("type").is_some_and(|of| of.get("type").is_some_and(|word| word == "map"));
            let is_deep = match members.get("default") {
                Some(Value::Array(items)) => !items.is_empty(),
                Some(Value::Object(entries)) => !(entries.is_empty() && is_of_map),
                _ => false,
            };
            if is_deep {
                members.remove("default");
            }
            members.values_mut().for_each(drop_deep_defaults);
        }
        _ => {}
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
        let written = parse_writer(writer, &Default::default()).expect("a writer schema");
        let reader = |aliases: &str| ReaderSchema::parse(&READER.replacen(r#""name":"R""#, &format!(r#""name":"R"{aliases}"#), 1));
        let fault = check_readable(&written, &reader("").expect("a reader schema")).expect_err("another name").to_string();
        assert!(as_written(&fault).contains("Mätning"), "{fault}");
        let renamed = reader(r#","aliases":["Mätning"]"#).expect("an alias that a writer has");
        assert!(check_readable(&written, &renamed).is_ok(), "the advice can be followed");
        let warm =
            r#"{"type":"record","name":"R","aliases":["Mätning"],"fields":[{"name":"warm","type":"double","aliases":["lämpötila"]}]}"#;
        let warm = ReaderSchema::parse(warm).expect("a reader schema");
        let rows = Decoder::new(&written, &warm).expect("readable").decode([datum.as_slice()].into_iter()).expect("decoded").rows;
        assert_eq!(arrow::util::display::array_value_to_string(rows.column(0), 0).expect("a number"), "20.5", "fields' aliases too");
    }

    #[test]
    fn a_name_is_put_in_other_words_and_back() {
        for name in ["lämpötila", "com.acme-corp.v1", "Outer$", ".Inner", "plain_name", "__chr_", "a__chr_zz__b", "a__chr_41__b"] {
            assert_eq!(as_written(&legal(name)), name, "{name}");
        }
        assert_eq!(legal(".Inner"), ".Inner");
        assert_eq!(as_written("field `l__chr_e4__mp__chr_f6__tila` is new"), "field `lämpötila` is new");
        assert_eq!(as_written(&legal("a\u{1b}[2J\n")), "a__chr_1b__[2J__chr_a__", "a stranger moves no cursor");
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
