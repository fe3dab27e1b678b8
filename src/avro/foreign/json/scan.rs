//! JSON texts, read from the front without building a tree: numbers stay the text that they are, so that no digit is lost, and every
//! object's keys are told apart from each other.
//!
//! # Source
//! RFC 8259. What it leaves open is refused: names that occur twice, halves of surrogate pairs.

use std::borrow::Cow;

use hashbrown::HashSet;

use crate::avro::foreign::TranscodeFault;

/// A JSON text and how far it has been read.
pub(super) struct Scan<'v> {
    text: &'v str,
    at: usize,
    /// Objects and arrays that may still be opened inside one another.
    depth_left: usize,
}

/// What a value is, told by its first character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Boolean,
    Number,
    Text,
    Array,
    Object,
}

impl Kind {
    /// For people.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::Array => "an array",
            Self::Object => "an object",
        }
    }
}

/// A fault at no place yet.
#[cold]
pub(super) fn fault(reason: &'static str, detail: impl Into<String>) -> TranscodeFault {
    TranscodeFault { reason, path: String::new(), detail: detail.into() }
}

/// A fault further out, in the member or item `step`: `.name`, `[3]`.
#[cold]
pub(super) fn inside(mut fault: TranscodeFault, step: &str) -> TranscodeFault {
    let is_outermost = fault.path.is_empty() || fault.path.starts_with('[');
    let joint = if is_outermost { "" } else { "." };
    fault.path = format!("{step}{joint}{}", fault.path);
    fault
}

type Outcome<T> = Result<T, TranscodeFault>;

impl<'v> Scan<'v> {
    /// Begins at the front of `value`.
    ///
    /// # Errors
    /// `invalid-utf8`.
    pub(super) fn new(value: &'v [u8], depth_max: usize) -> Outcome<Self> {
        match std::str::from_utf8(value) {
            Ok(text) => Ok(Self { text, at: 0, depth_left: depth_max }),
            Err(error) => Err(fault("invalid-utf8", format!("the value is not UTF-8 from byte {} on", error.valid_up_to()))),
        }
    }

    /// Tells what comes next.
    pub(super) fn peek(&mut self) -> Outcome<Kind> {
        self.space();
        Ok(match self.byte() {
            Some(b'n') => Kind::Null,
            Some(b't' | b'f') => Kind::Boolean,
            Some(b'-' | b'0'..=b'9') => Kind::Number,
            Some(b'"') => Kind::Text,
            Some(b'[') => Kind::Array,
            Some(b'{') => Kind::Object,
            _ => return Err(self.wrong("a value must begin here")),
        })
    }

    /// Ends: only space may be left.
    pub(super) fn end(&mut self) -> Outcome<()> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.wrong("the value ends before this")) }
    }

    pub(super) fn null(&mut self) -> Outcome<()> {
        self.word("null")
    }

    pub(super) fn boolean(&mut self) -> Outcome<bool> {
        match self.byte() {
            Some(b't') => self.word("true").map(|()| true),
            _ => self.word("false").map(|()| false),
        }
    }

    /// The text of a number.
    pub(super) fn number(&mut self) -> Outcome<&'v str> {
        let length = number_length(&self.text[self.at..]);
        let number = &self.text[self.at..self.at + length];
        self.at += length;
        match (length, self.byte()) {
            (0, _) | (_, Some(b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')) => Err(self.wrong("this is no number")),
            _ => Ok(number),
        }
    }

    /// A text without its quotation marks and escapes.
    pub(super) fn text(&mut self) -> Outcome<Cow<'v, str>> {
        self.at += 1;
        let begin = self.at;
        let plain = self.plain()?;
        if self.byte() == Some(b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(plain));
        }
        let mut text = self.text[begin..self.at].to_owned();
        loop {
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(text));
                }
                Some(b'\\') => text.push(self.escaped()?),
                _ => text.push_str(self.plain()?),
            }
        }
    }

    /// Reads an object's members: `member` gets each key, and reads or [skips](Self::skip) its value.
    ///
    /// # Errors
    /// `duplicate-key`, `too-deep`, `not-json`, or what `member` fails with.
    pub(super) fn object(&mut self, mut member: impl FnMut(&mut Self, Cow<'v, str>) -> Outcome<()>) -> Outcome<()> {
        self.open()?;
        let mut keys: HashSet<Cow<'v, str>> = HashSet::new();
        let mut is_first = true;
        while self.has_next(b'}', &mut is_first)? {
            if self.byte() != Some(b'"') {
                return Err(self.wrong("a name in quotation marks must stand here"));
            }
            let key = self.text()?;
            if !keys.insert(key.clone()) {
                return Err(inside(fault("duplicate-key", "the name stands twice in its object"), &shown(&key)));
            }
            self.space();
            if self.byte() != Some(b':') {
                return Err(self.wrong("a colon must stand here"));
            }
            self.at += 1;
            self.peek()?;
            member(self, key)?;
        }
        self.depth_left += 1;
        Ok(())
    }

    /// Reads an array's items: `item` gets the number of each.
    ///
    /// # Errors
    /// `too-deep`, `not-json`, or what `item` fails with, at the item.
    pub(super) fn array(&mut self, mut item: impl FnMut(&mut Self, Kind) -> Outcome<()>) -> Outcome<i64> {
        self.open()?;
        let (mut count, mut is_first) = (0i64, true);
        while self.has_next(b']', &mut is_first)? {
            let kind = self.peek()?;
            item(self, kind).map_err(|fault| inside(fault, &format!("[{count}]")))?;
            count += 1;
        }
        self.depth_left += 1;
        Ok(count)
    }

    /// Moves past a value that nobody wants; it must be JSON all the same.
    pub(super) fn skip(&mut self) -> Outcome<()> {
        match self.peek()? {
            Kind::Null => self.null(),
            Kind::Boolean => self.boolean().map(drop),
            Kind::Number => self.number().map(drop),
            Kind::Text => self.text().map(drop),
            Kind::Array => self.array(|scan, _| scan.skip()).map(drop),
            Kind::Object => self.object(|scan, key| scan.skip().map_err(|fault| inside(fault, &shown(&key)))),
        }
    }

    fn open(&mut self) -> Outcome<()> {
        self.depth_left =
            self.depth_left.checked_sub(1).ok_or_else(|| fault("too-deep", format!("nested too deep at byte {}", self.at)))?;
        self.at += 1;
        Ok(())
    }

    /// Moves to the next member or item, past a comma where one is due; or past `close`.
    fn has_next(&mut self, close: u8, is_first: &mut bool) -> Outcome<bool> {
        self.space();
        match (self.byte(), std::mem::replace(is_first, false)) {
            (Some(byte), _) if byte == close => {
                // No comma stands before the end, so an end after one is met below.
                self.at += 1;
                Ok(false)
            }
            (Some(b','), false) => {
                self.at += 1;
                self.space();
                if self.byte() == Some(close) { Err(self.wrong("something must follow a comma")) } else { Ok(true) }
            }
            (Some(_), true) => Ok(true),
            _ => Err(self.wrong("a comma or the end must stand here")),
        }
    }

    /// The characters up to the next quotation mark or escape.
    fn plain(&mut self) -> Outcome<&'v str> {
        let begin = self.at;
        let rest = &self.text.as_bytes()[begin..];
        match rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)) {
            Some(length) if rest[length] >= 0x20 => {
                self.at += length;
                Ok(&self.text[begin..self.at])
            }
            Some(length) => {
                self.at += length;
                Err(self.wrong("a control character must be escaped"))
            }
            None => {
                self.at = self.text.len();
                Err(self.wrong("the text is not closed"))
            }
        }
    }

    fn escaped(&mut self) -> Outcome<char> {
        let escape = self.text.as_bytes().get(self.at + 1).copied();
        let plain = match escape {
            Some(b'u') => return self.code_point(),
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            _ => return Err(self.wrong("there is no such escape")),
        };
        self.at += 2;
        Ok(plain)
    }

    /// One code point from one escape, or from the two of a surrogate pair.
    fn code_point(&mut self) -> Outcome<char> {
        let first = self.code_unit()?;
        let code = match first {
            0xd800..0xdc00 => {
                let second = if self.text[self.at..].starts_with("\\u") { self.code_unit()? } else { 0 };
                match second {
                    0xdc00..0xe000 => 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00),
                    _ => first,
                }
            }
            other => other,
        };
        char::from_u32(code).ok_or_else(|| self.wrong("half of a surrogate pair is no character"))
    }

    fn code_unit(&mut self) -> Outcome<u32> {
        let digits = self.text.as_bytes().get(self.at + 2..self.at + 6).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let code = digits.and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        match code {
            Some(code) => {
                self.at += 6;
                Ok(code)
            }
            None => Err(self.wrong("four hexadecimal digits must follow")),
        }
    }

    fn word(&mut self, word: &str) -> Outcome<()> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.wrong("this is no value"));
        }
        self.at += word.len();
        Ok(())
    }

    fn space(&mut self) {
        while matches!(self.byte(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    #[inline]
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[cold]
    fn wrong(&self, what: &str) -> TranscodeFault {
        fault("not-json", format!("the value is not JSON: {what} (byte {})", self.at))
    }
}

/// A name in a path: strangers choose it, and its length.
pub(super) fn shown(key: &str) -> String {
    key.chars().take(64).collect()
}

/// Length of the number that `text` begins with; 0 when it begins with none.
pub(super) fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes[from.min(bytes.len())..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = usize::from(bytes.first() == Some(&b'-'));
    at += match bytes.get(at) {
        Some(b'0') => 1,
        Some(b'1'..=b'9') => digits(at),
        _ => return 0,
    };
    if bytes.get(at) == Some(&b'.') {
        match digits(at + 1) {
            0 => return 0,
            fraction => at += 1 + fraction,
        }
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        match digits(at + 1 + sign) {
            0 => return 0,
            exponent => at += 1 + sign + exponent,
        }
    }
    at
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
