//! One line of JSON, read strictly: nothing is guessed, nothing is dropped, and hostile lines cost little.
//! Lives here: syntax, depth, repeated keys, the number of values. Never here: what the fields mean.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

/// Levels of lists and objects in one row, the row itself counted.
pub(super) const DEPTH_MAX: usize = 64;

/// Values in one row (words, numbers, lists, objects…). It bounds the memory of whoever shows the row later.
pub(super) const VALUES_MAX: usize = 100_000;

/// The longest field path in a report, in characters; a longer one is cut at its end and marked.
pub(super) const PATH_CHARACTERS_MAX: usize = 200;

/// Keys up to this many are compared one by one, beyond it through a hash set.
const KEYS_COMPARED_MAX: usize = 16;

/// Why a row is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// The field as a path, `messages[2].role`; empty for the line as a whole.
    pub(super) field: String,
    /// Why, in English.
    pub(super) reason: String,
}

impl Fault {
    /// A fault of a field.
    pub(super) fn new(field: impl Into<String>, reason: impl Into<String>) -> Fault {
        Fault { field: field.into(), reason: reason.into() }
    }
    /// A fault of the line as a whole.
    pub(super) fn line(reason: impl Into<String>) -> Fault {
        Fault::new("", reason)
    }
}

/// A value. Text without escapes stays where it is in the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value<'l> {
    Null,
    Boolean(bool),
    Number,
    Text(Cow<'l, str>),
    List(Vec<Value<'l>>),
    Object(Vec<(Cow<'l, str>, Value<'l>)>),
}

impl<'l> Value<'l> {
    /// The kind in words, as in "a number, not a string".
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Boolean(_) => "a boolean",
            Value::Number => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Object(_) => "an object",
        }
    }

    /// A field of an object; nothing when it is missing or this is no object.
    pub(super) fn field(&self, name: &str) -> Option<&Value<'l>> {
        match self {
            Value::Object(fields) => fields.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }
}

/// Reads the one value that a line must be.
pub(super) fn parse(line: &str) -> Result<Value<'_>, Fault> {
    let mut walk = Walk::default();
    let mut source = serde_json::Deserializer::from_str(line);
    let parsed = Seed { walk: &mut walk, depth: 0 }.deserialize(&mut source).and_then(|value| {
        source.end()?;
        Ok(value)
    });
    parsed.map_err(|error| match walk.refusal {
        Some(Refusal::RepeatedKey) => Fault::new(walk.path(), "the key occurs twice in the object"),
        Some(Refusal::ReservedKey) => Fault::new(walk.path(), "the key is one that JSON's reader keeps for itself"),
        Some(Refusal::TooDeep) => {
            Fault::line(format!("bad JSON at column {}: nested too deep; at most {DEPTH_MAX} levels", error.column()))
        }
        Some(Refusal::TooMany) => Fault::line(format!("more than {VALUES_MAX} values in one row")),
        None => Fault::line(syntax(&error)),
    })
}

/// The parser's words without their place, and the column before them. Bytes are counted, from 1.
fn syntax(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let words = match text.strip_suffix(&place).unwrap_or(&text) {
        "trailing characters" => "more text after the value; write one object on each line",
        "EOF while parsing a string" => "the line ends inside a string",
        "EOF while parsing a list" => "the line ends inside a list",
        "EOF while parsing an object" => "the line ends inside an object",
        "EOF while parsing a value" => "the line ends where a value is expected",
        "key must be a string" => "a key must be a string in double quotes",
        words => words,
    };
    format!("bad JSON at column {}: {words}", error.column())
}

/// An object that begins with this key is no object to serde_json.
pub(super) const RESERVED_KEY: &str = "$serde_json::private::RawValue";

#[derive(Debug, Clone, Copy)]
enum Refusal {
    RepeatedKey,
    ReservedKey,
    TooDeep,
    TooMany,
}

/// What one walk through a line has met. The path of a refusal is gathered on the way out, innermost first.
#[derive(Default)]
struct Walk {
    values: usize,
    refusal: Option<Refusal>,
    steps: Vec<String>,
}

impl Walk {
    fn refuse<E: Error>(&mut self, refusal: Refusal) -> E {
        self.refusal = Some(refusal);
        E::custom("refused")
    }

    fn path(&self) -> String {
        let path: String = self.steps.iter().rev().map(String::as_str).collect();
        cut(path.strip_prefix('.').unwrap_or(&path), PATH_CHARACTERS_MAX)
    }
}

/// A stranger's words for a report: no longer than that, marked when cut.
pub(super) fn cut(text: &str, characters_max: usize) -> String {
    match text.char_indices().nth(characters_max) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

struct Seed<'w> {
    walk: &'w mut Walk,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value<'de>;
    fn deserialize<D: serde::Deserializer<'de>>(self, source: D) -> Result<Value<'de>, D::Error> {
        self.walk.values += 1;
        if self.walk.values > VALUES_MAX {
            return Err(self.walk.refuse(Refusal::TooMany));
        }
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value<'de>, E> {
        Ok(Value::Boolean(value))
    }
    fn visit_i64<E>(self, _: i64) -> Result<Value<'de>, E> {
        Ok(Value::Number)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Value<'de>, E> {
        Ok(Value::Number)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Value<'de>, E> {
        Ok(Value::Number)
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }
    fn visit_str<E>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value<'de>, A::Error> {
        let depth = deeper(self.walk, self.depth)?;
        let mut list = Vec::new();
        loop {
            match items.next_element_seed(Seed { walk: &mut *self.walk, depth }) {
                Ok(Some(value)) => list.push(value),
                Ok(None) => return Ok(Value::List(list)),
                Err(error) => {
                    self.walk.steps.push(format!("[{}]", list.len()));
                    return Err(error);
                }
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value<'de>, A::Error> {
        let depth = deeper(self.walk, self.depth)?;
        let mut fields: Vec<(Cow<'de, str>, Value<'de>)> = Vec::new();
        let mut many: HashSet<Cow<'de, str>> = HashSet::new();
        while let Some(key) = entries.next_key_seed(Key)? {
            let repeated = if fields.len() < KEYS_COMPARED_MAX {
                fields.iter().any(|(known, _)| *known == key)
            } else {
                if many.is_empty() {
                    many.extend(fields.iter().map(|(known, _)| known.clone()));
                }
                !many.insert(key.clone())
            };
            let step = |walk: &mut Walk| walk.steps.push(format!(".{}", cut(&key, PATH_CHARACTERS_MAX)));
            if repeated || key == RESERVED_KEY {
                step(self.walk);
                let refusal = if repeated { Refusal::RepeatedKey } else { Refusal::ReservedKey };
                return Err(self.walk.refuse(refusal));
            }
            match entries.next_value_seed(Seed { walk: &mut *self.walk, depth }) {
                Ok(value) => fields.push((key, value)),
                Err(error) => {
                    step(self.walk);
                    return Err(error);
                }
            }
        }
        Ok(Value::Object(fields))
    }
}

fn deeper<E: Error>(walk: &mut Walk, depth: usize) -> Result<usize, E> {
    if depth == DEPTH_MAX { Err(walk.refuse(Refusal::TooDeep)) } else { Ok(depth + 1) }
}

/// A key, borrowed from the line where it can be.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;
    fn deserialize<D: serde::Deserializer<'de>>(self, source: D) -> Result<Cow<'de, str>, D::Error> {
        source.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }
    fn visit_str<E>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(line: &str) -> (String, String) {
        let fault = parse(line).unwrap_err();
        (fault.field, fault.reason)
    }

    #[test]
    fn syntax_faults_name_the_column() {
        for (line, reason) in [
            (r#"{"a":1"#, "bad JSON at column 6: the line ends inside an object"),
            (r#"{"a":"x"#, "bad JSON at column 7: the line ends inside a string"),
            (r#"{"a":1}{"#, "bad JSON at column 8: more text after the value; write one object on each line"),
            (r#"{"a":1,}"#, "bad JSON at column 8: trailing comma"),
            ("{'a':1}", "bad JSON at column 2: a key must be a string in double quotes"),
            ("[NaN]", "bad JSON at column 2: expected value"),
            ("[1e999]", "bad JSON at column 6: number out of range"),
            ("[\"a\u{0}\"]", "bad JSON at column 4: control character (\\u0000-\\u001F) found while parsing a string"),
        ] {
            assert_eq!(fault(line), (String::new(), reason.to_owned()), "{line}");
        }
        assert!(fault(r#"["\ud800"]"#).1.starts_with("bad JSON at column"), "lone surrogate");
    }

    #[test]
    fn depth_is_counted_with_the_row_itself() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(&nested(DEPTH_MAX)).is_ok());
        assert!(fault(&nested(DEPTH_MAX + 1)).1.contains("nested too deep"));
        assert!(fault(&"[".repeat(10_000)).1.contains("nested too deep"));
        assert!(fault(&r#"{"a":"#.repeat(10_000)).1.contains("nested too deep"));
    }

    #[test]
    fn a_repeated_key_is_named_by_its_path() {
        assert_eq!(fault(r#"{"a":1,"a":2}"#).0, "a");
        assert_eq!(fault(r#"{"a":1,"\u0061":2}"#).0, "a", "escapes do not hide it");
        assert_eq!(fault(r#"{"m":[{"r":1},{"r":2,"c":3,"r":4}]}"#).0, "m[1].r");
        let many: String = (0..40).map(|i| format!(r#""k{i}":0,"#)).collect();
        assert_eq!(fault(&format!(r#"{{{many}"k39":1}}"#)).0, "k39");
        assert!(parse(&format!(r#"{{{many}"k40":1}}"#)).is_ok());
    }

    #[test]
    fn values_are_bounded_and_numbers_of_any_size_are_numbers() {
        let many = |count: usize| format!("[{}]", vec!["0"; count - 1].join(","));
        assert!(parse(&many(VALUES_MAX)).is_ok());
        assert!(fault(&many(VALUES_MAX + 1)).1.contains("more than 100000 values"));
        assert_eq!(parse("[-0, 18446744073709551616]"), Ok(Value::List(vec![Value::Number, Value::Number])));
    }
}
