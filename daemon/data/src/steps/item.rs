//! A row on its way through steps, and what a step says of it.
//! Lives here: rows, their parts, their originals when they were changed. Never here: steps, files.

use std::borrow::Cow;

use hone_protocol::dataset::{CHOSEN, ChatMessage, EXPECTED, REJECTED, Shape, TEXT};
use serde_json::{Map, Value};

/// A row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Item {
    /// Its place in the version that went in, from 0.
    pub(crate) index: u64,
    /// Its id there.
    pub(crate) row_id: u64,
    /// Its messages.
    pub(crate) messages: Vec<ChatMessage>,
    /// The object as it was imported, as JSON.
    pub(crate) original: String,
}

/// Why a row was dropped or changed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Why {
    pub(crate) reason: Cow<'static, str>,
    pub(crate) value: f64,
    pub(crate) threshold: f64,
    pub(crate) detail: String,
}

impl Why {
    pub(super) fn new(reason: &'static str, value: f64, threshold: f64) -> Why {
        Why { reason: Cow::Borrowed(reason), value, threshold, detail: String::new() }
    }

    pub(super) fn of(mut self, detail: impl Into<String>) -> Why {
        self.detail = detail.into();
        self
    }
}

/// What a step says of a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    Keep,
    /// The row is another now.
    Changed(Why),
    Drop(Why),
}

/// Which part of a row is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Row,
    Prompt,
    Answer,
}

impl Of {
    pub(super) fn read(word: &str) -> Of {
        match word {
            "prompt" => Of::Prompt,
            "answer" => Of::Answer,
            _ => Of::Row,
        }
    }
}

/// Fields of an imported object that hold its messages; all others are the person's own.
const CONTENT_FIELDS: [&str; 16] = [
    "messages",
    "completion",
    "expected",
    "responses",
    "conversations",
    "instruction",
    "input",
    "output",
    "prompt",
    "chosen",
    "rejected",
    "text",
    "system",
    "history",
    "question",
    "response",
];

/// The shape of a row whose messages have these roles.
pub(super) fn shape_of<'r>(roles: impl Iterator<Item = &'r str>) -> Shape {
    let (mut last, mut answers) = (None, false);
    for role in roles {
        answers |= role == "assistant";
        last = Some(role);
    }
    match last {
        Some(REJECTED) => Shape::Preference,
        Some(TEXT) => Shape::Text,
        Some(EXPECTED) => Shape::Prompt,
        Some("user") if !answers => Shape::Prompt,
        _ => Shape::Chat,
    }
}

impl Item {
    pub(crate) fn shape(&self) -> Shape {
        shape_of(self.messages.iter().map(|message| message.role.as_str()))
    }

    /// Index of the message that answers: the better one of a preference, the text of a text, the last answer of a chat.
    pub(super) fn answer_at(&self) -> Option<usize> {
        match self.shape() {
            Shape::Preference => self.messages.iter().rposition(|message| message.role == CHOSEN),
            Shape::Text => self.messages.len().checked_sub(1),
            Shape::Prompt => self.messages.iter().rposition(|message| message.role == EXPECTED),
            _ => self.messages.iter().rposition(|message| message.role == "assistant"),
        }
    }

    /// The last question.
    pub(super) fn question(&self) -> Option<&str> {
        let answer = self.answer_at()?;
        self.messages[..answer].iter().rev().find(|message| message.role == "user").map(|m| m.content.as_str())
    }

    /// The texts of a part, one after the other.
    pub(super) fn text(&self, of: Of) -> Cow<'_, str> {
        let messages = match (of, self.answer_at()) {
            (Of::Row, _) | (Of::Answer, None) => &self.messages[..],
            (Of::Answer, Some(at)) => &self.messages[at..=at],
            (Of::Prompt, Some(at)) => &self.messages[..at],
            (Of::Prompt, None) => &self.messages[..],
        };
        match messages {
            [one] => Cow::Borrowed(one.content.as_str()),
            many => Cow::Owned(many.iter().map(|m| m.content.as_str()).collect::<Vec<_>>().join("\n")),
        }
    }

    /// Rewrites every message; `None` from `rewrite` leaves one as it is. A row of which a message has nothing left is dropped.
    pub(super) fn rewrite(&mut self, reason: &'static str, rewrite: impl Fn(&str) -> Option<String>) -> Verdict {
        let mut changed = 0;
        let mut emptied = None;
        for message in &mut self.messages {
            let Some(text) = rewrite(&message.content) else { continue };
            if text.trim().is_empty() && !message.content.trim().is_empty() {
                emptied = Some(message.role.clone());
            }
            message.content = text;
            changed += 1;
        }
        match (changed, emptied) {
            (0, _) => Verdict::Keep,
            (_, Some(role)) => Verdict::Drop(Why::new("nothing_left", 0.0, 1.0).of(role)),
            (changed, None) => {
                self.rebuild();
                Verdict::Changed(Why::new(reason, f64::from(changed), 0.0))
            }
        }
    }

    /// Makes the original say what the messages say. Fields that are the person's own stay.
    pub(super) fn rebuild(&mut self) {
        self.original = Value::Object(self.rebuilt()).to_string();
    }

    /// An object that can be imported: the messages in the format of their shape, and the fields that no format knows.
    pub(crate) fn rebuilt(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        let content = |message: &ChatMessage| Value::from(message.content.as_str());
        let chats = |messages: &[ChatMessage]| -> Value {
            let one = |m: &ChatMessage| {
                let mut fields = Map::new();
                fields.insert("role".into(), m.role.as_str().into());
                fields.insert("content".into(), content(m));
                Value::Object(fields)
            };
            messages.iter().map(one).collect()
        };
        match (self.shape(), &self.messages[..]) {
            (Shape::Preference, [prompt @ .., chosen, rejected]) => {
                fields.insert("prompt".into(), chats(prompt));
                fields.insert("chosen".into(), content(chosen));
                fields.insert("rejected".into(), content(rejected));
            }
            (Shape::Prompt, [prompt @ .., expected]) if expected.role == EXPECTED => {
                fields.insert("prompt".into(), chats(prompt));
                fields.insert("expected".into(), content(expected));
            }
            (Shape::Prompt, prompt) => {
                fields.insert("prompt".into(), chats(prompt));
            }
            (Shape::Text, [text]) => {
                fields.insert("text".into(), content(text));
            }
            (_, messages) => {
                fields.insert("messages".into(), chats(messages));
            }
        }
        let own = self.fields();
        // Beside messages, answers are all that a format reads.
        let answers = ["chosen", "rejected", "responses", "expected", "completion"];
        let is_plain = own.contains_key("messages") && !answers.iter().any(|key| own.contains_key(*key));
        let read: &[&str] = if is_plain { &CONTENT_FIELDS[..1] } else { &CONTENT_FIELDS };
        let taken: Vec<String> = fields.keys().cloned().collect();
        let is_own = |key: &String| !read.contains(&key.as_str()) && !taken.contains(key);
        let others = own.into_iter().filter(|(key, _)| is_own(key));
        fields.extend(others);
        fields
    }

    /// The original as it is parsed; an object without fields when it is none.
    pub(super) fn fields(&self) -> Map<String, Value> {
        match serde_json::from_str(&self.original) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        }
    }

    /// A field of the original by its path: `meta.score`.
    pub(super) fn field(&self, path: &str) -> Option<Value> {
        let mut value = Value::Object(self.fields());
        for key in path.split('.') {
            value = match value {
                Value::Object(mut fields) => fields.remove(key)?,
                Value::Array(mut list) => {
                    let at: usize = key.parse().ok()?;
                    if at >= list.len() {
                        return None;
                    }
                    list.swap_remove(at)
                }
                _ => return None,
            };
        }
        Some(value)
    }
}

/// Whether a field of the original holds messages.
pub(super) fn is_content(key: &str) -> bool {
    CONTENT_FIELDS.contains(&key)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn chat(messages: &[(&str, &str)]) -> Item {
        let messages: Vec<ChatMessage> = messages
            .iter()
            .map(|(role, content)| ChatMessage { role: (*role).into(), content: (*content).into() })
            .collect();
        let mut item = Item { index: 0, row_id: 0, messages, original: "{}".into() };
        item.rebuild();
        item
    }

    #[test]
    fn beside_messages_a_persons_field_stays_whatever_it_is_called() {
        let mut item = chat(&[("user", "q"), ("assistant", "a")]);
        item.original = r#"{"messages":[],"question":"id7","text":1}"#.into();
        item.rebuild();
        assert!(item.original.ends_with(r#""question":"id7","text":1}"#), "{}", item.original);
        item.original = r#"{"question":"q","answer":"a"}"#.into();
        item.rebuild();
        assert!(item.original.ends_with(r#"],"answer":"a"}"#), "{}", item.original);
    }

    #[test]
    fn parts_and_originals() {
        let item = chat(&[("system", "s"), ("user", "q"), ("assistant", "a")]);
        assert_eq!(
            (item.text(Of::Prompt), item.text(Of::Answer), item.question()),
            ("s\nq".into(), "a".into(), Some("q"))
        );
        let pair = chat(&[("user", "q"), ("chosen", "good"), ("rejected", "bad")]);
        assert_eq!((pair.text(Of::Answer), pair.text(Of::Prompt)), ("good".into(), "q".into()));
        assert_eq!(pair.original, r#"{"prompt":[{"role":"user","content":"q"}],"chosen":"good","rejected":"bad"}"#);
        let mut text = chat(&[("text", "old")]);
        text.original = r#"{"text":"old","meta":{"score":3,"tags":["a"]}}"#.into();
        text.messages[0].content = "new".into();
        text.rebuild();
        assert_eq!(text.original, r#"{"text":"new","meta":{"score":3,"tags":["a"]}}"#);
        assert_eq!(text.field("meta.score"), Some(3.into()));
        assert_eq!((text.field("meta.tags.0"), text.field("meta.tags.1")), (Some("a".into()), None));
        assert_eq!(text.field("a.b"), None);
    }

    #[test]
    fn a_row_with_nothing_left_is_dropped() {
        let mut item = chat(&[("user", "q"), ("assistant", "x")]);
        let gone = item.rewrite("r", |text| (text == "x").then(String::new));
        assert!(matches!(gone, Verdict::Drop(why) if why.reason == "nothing_left" && why.detail == "assistant"));
    }
}
