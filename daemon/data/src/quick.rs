//! The common line of JSON, read quickly, with the places of its texts.
//! Lives here: a parser for what almost every row is. Whatever is unusual or wrong is left to [`json`](super::json), which also finds the
//! words for what is wrong; a test holds both to the same values. Never here: faults.

use std::borrow::Cow;

use super::json::{DEPTH_MAX, RESERVED_KEY, VALUES_MAX, Value};

/// Fields of an object that are compared one by one; objects with more go the other road.
const FIELDS_MAX: usize = 24;
/// Longer numbers, and those with an exponent, go the other road.
const NUMBER_BYTES_MAX: usize = 32;

/// Where the texts with escapes stand in the line. Texts without are slices of the line and need no note.
#[derive(Debug, Default)]
pub(super) struct Places {
    escaped: Vec<Place>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    /// Address of the text without its escapes.
    address: usize,
    start: usize,
    end: usize,
    canonical: bool,
}

/// The literal of a text in its line, quotes not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Literal {
    pub(super) start: usize,
    pub(super) end: usize,
    /// Whether its escapes are those of RFC 8785.
    pub(super) canonical: bool,
}

impl Places {
    /// Where a text of the row that was parsed last stands in its line; nothing when it was put together.
    pub(super) fn literal(&self, line: &str, text: &str) -> Option<Literal> {
        let (address, base) = (text.as_ptr() as usize, line.as_ptr() as usize);
        if address > base && address + text.len() < base + line.len() {
            let start = address - base;
            let (start, end) = (start, start + text.len());
            let quoted = line.as_bytes()[start - 1] == b'"' && line.as_bytes()[end] == b'"';
            return quoted.then_some(Literal { start, end, canonical: true });
        }
        let place = self.escaped.iter().find(|place| place.address == address)?;
        Some(Literal { start: place.start, end: place.end, canonical: place.canonical })
    }
}

/// Reads a line, or leaves it to the careful parser.
pub(super) fn parse<'l>(line: &'l str, places: &mut Places) -> Option<Value<'l>> {
    places.escaped.clear();
    let mut scan = Scan { line, bytes: line.as_bytes(), at: 0, values: 0, places };
    let value = scan.value(0).filter(|_| {
        scan.space();
        scan.at == scan.bytes.len()
    });
    if value.is_none() {
        // They are of texts that are gone, and others may come to lie at their addresses.
        places.escaped.clear();
    }
    value
}

struct Scan<'l, 'p> {
    line: &'l str,
    bytes: &'l [u8],
    at: usize,
    values: usize,
    places: &'p mut Places,
}

impl<'l> Scan<'l, '_> {
    fn space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The next byte that is not white space, passed over.
    fn next(&mut self) -> Option<u8> {
        let mut byte = *self.bytes.get(self.at)?;
        if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            self.space();
            byte = *self.bytes.get(self.at)?;
        }
        self.at += 1;
        Some(byte)
    }

    fn word(&mut self, rest: &[u8], value: Value<'l>) -> Option<Value<'l>> {
        let found = self.bytes.get(self.at..self.at + rest.len())? == rest;
        self.at += rest.len();
        found.then_some(value)
    }

    fn value(&mut self, depth: usize) -> Option<Value<'l>> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return None;
        }
        match self.next()? {
            b'"' => self.text().map(Value::Text),
            b'{' => self.object(depth),
            b'[' => self.list(depth),
            b't' => self.word(b"rue", Value::Boolean(true)),
            b'f' => self.word(b"alse", Value::Boolean(false)),
            b'n' => self.word(b"ull", Value::Null),
            b'-' | b'0'..=b'9' => self.number(),
            _ => None,
        }
    }

    fn object(&mut self, depth: usize) -> Option<Value<'l>> {
        if depth == DEPTH_MAX {
            return None;
        }
        let mut fields: Vec<(Cow<'l, str>, Value<'l>)> = Vec::with_capacity(2);
        let mut byte = self.next()?;
        if byte == b'}' {
            return Some(Value::Object(fields));
        }
        loop {
            if byte != b'"' || fields.len() == FIELDS_MAX {
                return None;
            }
            let key = self.text()?;
            if key == RESERVED_KEY || fields.iter().any(|(known, _)| *known == key) || self.next()? != b':' {
                return None;
            }
            let value = self.value(depth + 1)?;
            fields.push((key, value));
            match self.next()? {
                b',' => byte = self.next()?,
                b'}' => return Some(Value::Object(fields)),
                _ => return None,
            }
        }
    }

    fn list(&mut self, depth: usize) -> Option<Value<'l>> {
        if depth == DEPTH_MAX {
            return None;
        }
        let mut items = Vec::new();
        self.space();
        if *self.bytes.get(self.at)? == b']' {
            self.at += 1;
            return Some(Value::List(items));
        }
        items.reserve(4);
        loop {
            items.push(self.value(depth + 1)?);
            match self.next()? {
                b',' => {}
                b']' => return Some(Value::List(items)),
                _ => return None,
            }
        }
    }

    fn number(&mut self) -> Option<Value<'l>> {
        let start = self.at - 1;
        let digits = |scan: &mut Self| {
            let from = scan.at;
            while matches!(scan.bytes.get(scan.at), Some(b'0'..=b'9')) {
                scan.at += 1;
            }
            scan.at - from
        };
        self.at = start + usize::from(self.bytes[start] == b'-');
        let leading_zero = self.bytes.get(self.at) == Some(&b'0');
        let whole = digits(self);
        if whole == 0 || leading_zero && whole > 1 {
            return None;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            if digits(self) == 0 {
                return None;
            }
        }
        let exponent = matches!(self.bytes.get(self.at), Some(b'e' | b'E'));
        (!exponent && self.at - start <= NUMBER_BYTES_MAX).then_some(Value::Number)
    }

    /// The text whose opening quote was passed.
    fn text(&mut self) -> Option<Cow<'l, str>> {
        let start = self.at;
        self.at = special_from(self.bytes, start);
        match *self.bytes.get(self.at)? {
            b'"' => {
                self.at += 1;
                Some(Cow::Borrowed(&self.line[start..self.at - 1]))
            }
            b'\\' => self.escaped(start).map(Cow::Owned),
            _ => None,
        }
    }

    /// A text with escapes, the first of which is here.
    fn escaped(&mut self, start: usize) -> Option<String> {
        let mut text = String::with_capacity((self.at - start) * 2 + 64);
        let mut canonical = true;
        let mut from = start;
        loop {
            text.push_str(&self.line[from..self.at]);
            match *self.bytes.get(self.at)? {
                b'"' => break,
                b'\\' => {}
                _ => return None,
            }
            let code = *self.bytes.get(self.at + 1)?;
            self.at += 2;
            text.push(match code {
                b'n' => '\n',
                b'"' => '"',
                b'\\' => '\\',
                b't' => '\t',
                b'r' => '\r',
                b'b' => '\u{8}',
                b'f' => '\u{c}',
                b'/' => {
                    canonical = false;
                    '/'
                }
                b'u' => {
                    canonical = false;
                    self.unicode()?
                }
                _ => return None,
            });
            from = self.at;
            self.at = special_from(self.bytes, from);
        }
        self.places.escaped.push(Place { address: text.as_ptr() as usize, start, end: self.at, canonical });
        self.at += 1;
        Some(text)
    }

    fn unicode(&mut self) -> Option<char> {
        let high = self.hex()?;
        if !(0xd800..0xe000).contains(&high) {
            return char::from_u32(high);
        }
        if self.bytes.get(self.at..self.at + 2)? != b"\\u" {
            return None;
        }
        self.at += 2;
        let low = self.hex()?;
        if high >= 0xdc00 || !(0xdc00..0xe000).contains(&low) {
            return None;
        }
        char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))
    }

    fn hex(&mut self) -> Option<u32> {
        let mut code = 0;
        for byte in self.bytes.get(self.at..self.at + 4)? {
            code = code * 16 + char::from(*byte).to_digit(16)?;
        }
        self.at += 4;
        Some(code)
    }
}

/// Bytes looked at together; almost all are plain.
const STRIDE: usize = 32;

/// The place of the next quote, backslash or control character; the end when there is none.
pub(super) fn special_from(bytes: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = bytes[at..].first_chunk::<STRIDE>() {
        // Without a branch in it, so that the compiler makes vector code of it.
        let plain = chunk.iter().fold(true, |plain, b| plain & !((*b < 0x20) | (*b == b'"') | (*b == b'\\')));
        if !plain {
            break;
        }
        at += STRIDE;
    }
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        let found = special_in(u64::from_le_bytes(*chunk));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while let Some(byte) = bytes.get(at) {
        if *byte < 0x20 || *byte == b'"' || *byte == b'\\' {
            return at;
        }
        at += 1;
    }
    at
}

/// The high bit of each byte that is special. Only the lowest of them is sure: a borrow may mark bytes above it.
fn special_in(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGH;
    let equal = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    below(word, 0x20) | equal(b'"') | equal(b'\\')
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn literals_are_found_with_and_without_escapes() {
        let line = r#"{"a":"plain","b":"two\nlines","c":"\u00e9","d":"plain"}"#;
        let mut places = Places::default();
        let row = parse(line, &mut places).unwrap();
        let literal = |name: &str| match row.field(name).unwrap() {
            Value::Text(text) => {
                places.literal(line, text).map(|found| (&line[found.start..found.end], found.canonical))
            }
            _ => None,
        };
        assert_eq!(literal("a"), Some(("plain", true)));
        assert_eq!(literal("b"), Some((r"two\nlines", true)));
        assert_eq!(literal("c"), Some((r"\u00e9", false)));
        assert_eq!(places.literal(line, "elsewhere"), None);
    }

    fn soup() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"",
            "\"a\"",
            "\"b\":",
            "\\n",
            "\\u00e9",
            "\\ud83d\\ude00",
            "\\ud800",
            "\\x",
            " ",
            "1",
            "-0.5",
            "1e3",
            "01",
            "true",
            "null",
            "nul",
            "中",
            "\u{1}",
            "\t",
            "\"a long text, longer than a stride of the scan\"",
        ]);
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    fn tree() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(|n| serde_json::json!(n)),
            any::<bool>().prop_map(|b| serde_json::json!(b)),
            "(\\PC|[\n\"\\\\\u{1}]){0,60}".prop_map(|text| serde_json::json!(text)),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::from),
                prop::collection::vec(("[a-d]{0,2}", inner), 0..6)
                    .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn what_it_reads_is_what_the_careful_parser_reads(line in prop_oneof![soup(), tree().prop_map(|v| v.to_string())]) {
            if let Some(value) = parse(&line, &mut Places::default()) {
                prop_assert_eq!(json::parse(&line), Ok(value), "{}", line);
            }
        }

        #[test]
        fn it_reads_what_serde_writes(tree in tree()) {
            let line = tree.to_string();
            prop_assert!(parse(&line, &mut Places::default()).is_some(), "{}", line);
        }

        #[test]
        fn the_scan_finds_the_first_special_byte(bytes in prop::collection::vec(any::<u8>(), 0..120), from in 0usize..40) {
            let from = from.min(bytes.len());
            let slow = bytes[from..].iter().position(|b| *b < 0x20 || *b == b'"' || *b == b'\\').map_or(bytes.len(), |i| from + i);
            prop_assert_eq!(special_from(&bytes, from), slow);
        }
    }
}
