//! YAML, and JSON as a part of it, with the line of every key: what another program's settings are read from. Never here: what a
//! key means.

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use saphyr_parser::{Event, Parser, Span};

/// Deepest nesting that is read.
const DEPTH_MAX: usize = 32;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// A text, number or word, as written.
    Scalar(String),
    /// Values in order.
    List(Vec<Node>),
    /// Keys in order, each with its line, from 1.
    Map(Vec<(String, usize, Node)>),
}

impl Node {
    /// The text of a scalar; of a list of scalars with commas between; nothing for what has keys.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Node::Scalar(text) => Some(text.clone()),
            Node::List(items) => {
                let texts: Option<Vec<String>> = items.iter().map(Node::text).collect();
                texts.map(|texts| texts.join(","))
            }
            Node::Map(_) => None,
        }
    }

    /// Keys of a map; none of anything else.
    pub(super) fn entries(&self) -> &[(String, usize, Node)] {
        match self {
            Node::Map(entries) => entries,
            _ => &[],
        }
    }
}

/// Reads the first document of a text; `path` is named in mistakes.
pub(super) fn read(path: &str, text: &str) -> Result<Node, Failure> {
    let mut reader = Reader { path, parser: Parser::new_from_str(text) };
    loop {
        match reader.next()? {
            (Event::StreamStart | Event::DocumentStart(_), _) => {}
            (event, span) => return reader.node(event, &span, 0),
        }
    }
}

struct Reader<'t> {
    path: &'t str,
    parser: Parser<'t, saphyr_parser::StrInput<'t>>,
}

impl<'t> Reader<'t> {
    fn bad(&self, line: usize, message: &str) -> Failure {
        let place = format!("{}:{line}", self.path);
        Failure::new(FailureCode::BadFile, message).at(place).hint(HintCode::CorrectFile)
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), Failure> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(self.bad(error.marker().line(), error.info())),
            None => Err(self.bad(1, "the file ends too early")),
        }
    }

    fn node(&mut self, event: Event<'t>, span: &Span, depth: usize) -> Result<Node, Failure> {
        let line = span.start.line();
        if depth > DEPTH_MAX {
            return Err(self.bad(line, "it is nested too deeply"));
        }
        match event {
            Event::Scalar(text, ..) => Ok(Node::Scalar(text.into_owned())),
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => return Ok(Node::List(items)),
                        (event, span) => items.push(self.node(event, &span, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(..) => {
                let mut entries = Vec::new();
                loop {
                    let (key, at) = match self.next()? {
                        (Event::MappingEnd, _) => return Ok(Node::Map(entries)),
                        (Event::Scalar(key, ..), span) => (key.into_owned(), span.start.line()),
                        (_, span) => return Err(self.bad(span.start.line(), "a key must be a word")),
                    };
                    let (event, span) = self.next()?;
                    entries.push((key, at, self.node(event, &span, depth + 1)?));
                }
            }
            // An alias could stand for itself, or for far more than was written.
            Event::Alias(_) => Err(self.bad(line, "aliases (*name) are not read; write the value itself")),
            _ => Ok(Node::Map(Vec::new())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_line_in_yaml_and_json() {
        let text = "### model\nmodel: a/b  # which\nlist: [q_proj, v_proj]\nmore:\n  - x\n  - 'y'\nrate: 1.0e-4\n";
        let node = read("t.yaml", text).unwrap();
        let lines: Vec<_> =
            node.entries().iter().map(|(key, line, value)| (key.as_str(), *line, value.text().unwrap())).collect();
        let of = |text: &str| text.to_owned();
        assert_eq!(
            lines,
            [
                ("model", 2, of("a/b")),
                ("list", 3, of("q_proj,v_proj")),
                ("more", 4, of("x,y")),
                ("rate", 7, of("1.0e-4"))
            ]
        );
        let json = read("t.json", "{\n  \"a\": {\n    \"file_name\": \"x.json\"\n  }\n}").unwrap();
        assert_eq!(json.entries()[0].2.entries()[0].1, 3);
    }

    #[test]
    fn what_cannot_be_read_is_named_by_line() {
        for (text, line) in [("a: 1\nb: [1, 2\n", ":2"), ("a: &x 1\nb: *x\n", ":2"), ("? [a]\n: 1\n", ":1")] {
            let failure = read("t.yaml", text).unwrap_err();
            assert_eq!(failure.code, FailureCode::BadFile);
            assert!(failure.place.starts_with("t.yaml:"), "{failure:?}");
            let found = failure.place.trim_start_matches("t.yaml").to_owned();
            assert!(found == line || text.contains("[1, 2"), "{text:?}: {found}");
        }
        let deep = format!("a: {}1{}", "[".repeat(100), "]".repeat(100));
        assert!(read("t.yaml", &deep).unwrap_err().message_en.contains("deeply"));
    }
}
