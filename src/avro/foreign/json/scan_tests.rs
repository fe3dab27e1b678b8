//! The scanner against serde_json: the same texts are JSON for both, apart from what is refused here on purpose.

use proptest::prelude::*;

use super::*;

fn scanned(text: &[u8]) -> Result<(), TranscodeFault> {
    let mut scan = Scan::new(text, 64)?;
    scan.skip()?;
    scan.end()
}

#[test]
fn what_is_no_json_is_told_with_its_byte() {
    let wrong = [
        "",
        " ",
        "nul",
        "truth",
        "+1",
        "01",
        "1.",
        ".5",
        "1e",
        "1e+",
        "--1",
        "NaN",
        "Infinity",
        "-Infinity",
        "'a'",
        "[1,]",
        "[1 2]",
        "[",
        "{",
        "{a:1}",
        "{\"a\" 1}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\":1 \"b\":2}",
        "\"a",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "\"a\nb\"",
        "1 1",
        "{} x",
        "\u{feff}{}",
        "// a\n1",
        "{\"a\":1}}",
    ];
    for text in wrong {
        let found = scanned(text.as_bytes()).expect_err(text);
        assert_eq!(found.reason, "not-json", "{text}: {found}");
        assert!(found.detail.contains("byte"), "{found}");
        assert!(serde_json::from_str::<serde_json::Value>(text).is_err(), "{text}");
    }
    assert_eq!(scanned(b"\"\xc3\x28\"").expect_err("no UTF-8").reason, "invalid-utf8");
}

#[test]
fn names_that_stand_twice_are_found_however_they_are_spelt_and_wherever_they_stand() {
    for text in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#, r#"{"x":[{"a":1,"b":2,"a":3}]}"#] {
        let found = scanned(text.as_bytes()).expect_err(text);
        assert_eq!(found.reason, "duplicate-key");
        assert!(found.path.ends_with('a'), "{}", found.path);
    }
    assert_eq!(scanned(r#"{"x":[1,{"a":1,"a":3}]}"#.as_bytes()).expect_err("twice").path, "x[1].a");
    assert_eq!(scanned(br#"{"a":{"a":1},"b":{"a":1}}"#), Ok(()));
}

#[test]
fn nesting_has_a_bound() {
    let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));

    assert_eq!(scanned(nested(64).as_bytes()), Ok(()));
    assert_eq!(scanned(nested(65).as_bytes()).expect_err("too deep").reason, "too-deep");
    assert_eq!(scanned("[".repeat(1_000_000).as_bytes()).expect_err("too deep").reason, "too-deep");
    assert_eq!(scanned("[[1],[1],[[1]]]".as_bytes()), Ok(()), "closed ones do not count");
}

#[test]
fn escapes_are_read() {
    let mut scan = Scan::new(r#""a\"\\\/\b\f\n\r\t\u00e4\ud83d\ude00z""#.as_bytes(), 1).expect("UTF-8");

    assert_eq!(scan.peek(), Ok(Kind::Text));
    assert_eq!(scan.text().as_deref(), Ok("a\"\\/\u{8}\u{c}\n\r\tä😀z"));
    assert_eq!(scan.end(), Ok(()));
}

/// Texts that are nearly JSON.
fn nearly() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?[0-9]{1,3}(\\.[0-9]{0,2})?([eE][+-]?[0-9]{0,2})?",
        "\"[a-c\\\\u0\"]{0,4}\"",
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(" ,"))),
            proptest::collection::vec(inner, 0..4).prop_map(|items| {
                let members: Vec<String> = items.iter().enumerate().map(|(at, item)| format!("\"k{at}\": {item}")).collect();
                format!("{{ {} }}", members.join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn the_same_texts_are_json_here_and_for_serde(text in nearly(), cut in 0usize..200) {
        let cut = text.char_indices().map(|(at, _)| at).nth(cut).unwrap_or(text.len());
        for text in [&text[..], &text[..cut]] {
            // serde_json refuses numbers beyond a double's range, which JSON has.
            let theirs = match serde_json::from_str::<serde_json::Value>(text) {
                Err(error) if error.to_string().contains("out of range") => true,
                other => other.is_ok(),
            };
            prop_assert_eq!(scanned(text.as_bytes()).is_ok(), theirs, "{}", text);
        }
    }
}
