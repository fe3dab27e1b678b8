//! JSON as a tree in which numbers are still their text: a parser for the audit alone, letter by letter.

use std::iter::Peekable;
use std::str::Chars;

use crate::audit::datum::Malformed;

/// Deepest nesting of arrays and objects.
const DEPTH_MAX: usize = 64;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as it is spelt.
    Number(String),
    /// A text.
    Text(String),
    /// An array.
    Array(Vec<Json>),
    /// An object; its names differ.
    Object(Vec<(String, Json)>),
}

/// Parses a whole value.
///
/// # Errors
/// [`Malformed`] when it is not UTF-8, not JSON, nested too deep, or an object holds a name twice.
pub fn parse(value: &[u8]) -> Result<Json, Malformed> {
    let text = std::str::from_utf8(value).map_err(|_| Malformed("not UTF-8"))?;
    let mut letters = Letters(text.chars().peekable());
    let json = letters.value(0)?;
    letters.space();
    match letters.0.next() {
        None => Ok(json),
        Some(_) => Err(Malformed("something is left behind the value")),
    }
}

struct Letters<'t>(Peekable<Chars<'t>>);

impl Letters<'_> {
    fn space(&mut self) {
        while self.0.next_if(|letter| " \t\n\r".contains(*letter)).is_some() {}
    }

    fn expect(&mut self, letter: char) -> Result<(), Malformed> {
        self.space();
        self.0.next_if_eq(&letter).map(drop).ok_or(Malformed("another character is due"))
    }

    fn word(&mut self, word: &str, json: Json) -> Result<Json, Malformed> {
        match word.chars().all(|letter| self.0.next() == Some(letter)) {
            true => Ok(json),
            false => Err(Malformed("no such word")),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Json, Malformed> {
        self.space();
        match self.0.peek() {
            Some('n') => self.word("null", Json::Null),
            Some('t') => self.word("true", Json::Bool(true)),
            Some('f') => self.word("false", Json::Bool(false)),
            Some('"') => self.text().map(Json::Text),
            Some('[' | '{') if depth >= DEPTH_MAX => Err(Malformed("nested too deep")),
            Some('[') => self.array(depth + 1),
            Some('{') => self.object(depth + 1),
            Some('-' | '0'..='9') => self.number(),
            _ => Err(Malformed("no value")),
        }
    }

    fn array(&mut self, depth: usize) -> Result<Json, Malformed> {
        self.expect('[')?;
        let mut items = Vec::new();
        self.space();
        if self.0.next_if_eq(&']').is_some() {
            return Ok(Json::Array(items));
        }
        loop {
            items.push(self.value(depth)?);
            self.space();
            if self.0.next_if_eq(&']').is_some() {
                return Ok(Json::Array(items));
            }
            self.expect(',')?;
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, Malformed> {
        self.expect('{')?;
        let mut members: Vec<(String, Json)> = Vec::new();
        self.space();
        if self.0.next_if_eq(&'}').is_some() {
            return Ok(Json::Object(members));
        }
        loop {
            self.space();
            if self.0.peek() != Some(&'"') {
                return Err(Malformed("no name"));
            }
            let name = self.text()?;
            self.expect(':')?;
            members.push((name, self.value(depth)?));
            self.space();
            if self.0.next_if_eq(&'}').is_some() {
                break;
            }
            self.expect(',')?;
        }
        let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).any(|pair| pair[0] == pair[1]) {
            true => Err(Malformed("a name stands twice")),
            false => Ok(Json::Object(members)),
        }
    }

    fn number(&mut self) -> Result<Json, Malformed> {
        let mut text = String::new();
        text.extend(self.0.next_if_eq(&'-'));
        match self.0.peek() {
            Some('0') => text.extend(self.0.next()),
            _ => self.digits(&mut text)?,
        }
        if let Some(point) = self.0.next_if_eq(&'.') {
            text.push(point);
            self.digits(&mut text)?;
        }
        if let Some(exponent) = self.0.next_if(|letter| matches!(letter, 'e' | 'E')) {
            text.push(exponent);
            text.extend(self.0.next_if(|letter| matches!(letter, '+' | '-')));
            self.digits(&mut text)?;
        }
        match self.0.peek() {
            Some(letter) if letter.is_ascii_alphanumeric() || matches!(letter, '.' | '+' | '-') => Err(Malformed("no number")),
            _ => Ok(Json::Number(text)),
        }
    }

    fn digits(&mut self, text: &mut String) -> Result<(), Malformed> {
        let before = text.len();
        while let Some(digit) = self.0.next_if(char::is_ascii_digit) {
            text.push(digit);
        }
        if text.len() > before { Ok(()) } else { Err(Malformed("a digit is due")) }
    }

    fn text(&mut self) -> Result<String, Malformed> {
        self.expect('"')?;
        let mut text = String::new();
        loop {
            match self.0.next() {
                None => return Err(Malformed("a text is not closed")),
                Some('"') => return Ok(text),
                Some('\\') => text.push(self.escape()?),
                Some('\0'..='\u{1f}') => return Err(Malformed("a control character in a text")),
                Some(letter) => text.push(letter),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Malformed> {
        Ok(match self.0.next() {
            Some(letter @ ('"' | '\\' | '/')) => letter,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => {
                let mut units = vec![self.unit()?];
                if (0xd800..0xdc00).contains(&units[0]) {
                    let is_escape = self.0.next() == Some('\\') && self.0.next() == Some('u');
                    units.push(if is_escape { self.unit()? } else { 0 });
                }
                let decoded: Result<Vec<char>, _> = char::decode_utf16(units).collect();
                match decoded.as_deref() {
                    Ok([letter]) => *letter,
                    _ => return Err(Malformed("half of a surrogate pair")),
                }
            }
            _ => return Err(Malformed("no such escape")),
        })
    }

    fn unit(&mut self) -> Result<u16, Malformed> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.0.next().and_then(|letter| letter.to_digit(16)).ok_or(Malformed("a hexadecimal digit is due"))?;
            unit = unit * 16 + digit as u16;
        }
        Ok(unit)
    }
}

/// A number in units of `10^-scale`; none where a part of a unit is left, or where it needs more than 38 digits.
pub fn in_units(number: &str, scale: i64) -> Option<i128> {
    let (mantissa, exponent) = match number.find(['e', 'E']) {
        Some(at) => (&number[..at], number[at + 1..].parse::<i64>()),
        None => (number, Ok(0)),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    let kept = digits.trim_end_matches('0').trim_end_matches('-');
    if kept.is_empty() {
        return Some(0);
    }
    let kept = digits.trim_end_matches('0');
    let dropped = (digits.len() - kept.len()) as i64;
    let shift = exponent.ok()?.checked_add(scale)?.checked_sub(fraction.len() as i64)?.checked_add(dropped)?;
    let power = 10_i128.checked_pow(u32::try_from(shift).ok()?)?;
    kept.parse::<i128>().ok()?.checked_mul(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_as_they_are_spelt() {
        let json = parse(br#" {"a": [1.50e2, -0, {"b": "\u00e4\ud83d\ude00"}], "c": null} "#).expect("JSON");

        let inner = Json::Object(vec![("b".into(), Json::Text("ä😀".into()))]);
        let items = Json::Array(vec![Json::Number("1.50e2".into()), Json::Number("-0".into()), inner]);
        assert_eq!(json, Json::Object(vec![("a".into(), items), ("c".into(), Json::Null)]));
    }

    #[test]
    fn what_is_no_json_or_not_clear_is_refused() {
        let wrong =
            ["", "{", "[1,]", "{\"a\":1,}", "01", "1.", "NaN", "\"\\ud800\"", "{\"a\":1,\"\\u0061\":2}", "1 2", "'a'", "{a:1}", "truf"];
        for text in wrong {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse("[".repeat(65).as_bytes()).is_err());
        assert!(parse(format!("{}{}", "[".repeat(64), "]".repeat(64)).as_bytes()).is_ok());
    }

    #[test]
    fn numbers_are_scaled_exactly_or_not_at_all() {
        assert_eq!(in_units("12.34", 2), Some(1_234));
        assert_eq!(in_units("-12.340", 2), Some(-1_234));
        assert_eq!(in_units("1e3", 0), Some(1_000));
        assert_eq!(in_units("1000e-3", 0), Some(1));
        assert_eq!(in_units("-0.0", 0), Some(0));
        assert_eq!(in_units("12.345", 2), None);
        assert_eq!(in_units("1e99", 0), None);
        assert_eq!(in_units("1e99999999999999999999", 0), None);
    }
}
