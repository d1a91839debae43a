//! What the fields of rows are to become, where a file has fields of its own.
//! Lives here: rows by a mapping, and the mapping that is proposed for fields with well-known names. Never here: known formats.

use std::borrow::Cow;

use hone_protocol::dataset::{FieldMap, FieldRole, Shape};

use super::format::{Format, Role, Turn, Turns, content, messages_of, turns};
use super::json::{Fault, Value};

/// How the rows of a file are read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Plan {
    /// The format; nothing when none was found, or when there is a mapping.
    pub(super) format: Option<Format>,
    /// What fields become; empty for the format's own.
    pub(super) mapping: Vec<FieldMap>,
}

/// Names of fields that say what they hold, in the order in which they are looked for.
const NAMES: &[(FieldRole, &[&str])] = &[
    (FieldRole::System, &["system", "system_prompt", "sys_prompt"]),
    (
        FieldRole::User,
        &["prompt", "question", "query", "instruction", "input", "user", "human", "source", "问题", "提问"],
    ),
    (FieldRole::Chosen, &["chosen", "better", "preferred"]),
    (FieldRole::Rejected, &["rejected", "worse", "dispreferred"]),
    (
        FieldRole::Assistant,
        &["response", "answer", "completion", "output", "assistant", "gpt", "reply", "target", "回答", "答案"],
    ),
    (
        FieldRole::Expected,
        &["expected", "expected_answer", "ground_truth", "reference", "reference_answer", "label_text"],
    ),
    (FieldRole::Text, &["text", "content", "document", "body", "passage", "article", "文本", "内容", "正文"]),
];

impl Plan {
    /// The name in reports: the format's, or the shape that a mapping makes.
    pub(super) fn name(&self) -> String {
        match (self.mapping.is_empty(), self.format) {
            (false, _) => format!("mapped_{}", self.shape().word()),
            (true, Some(format)) => format.name().to_owned(),
            (true, None) => String::new(),
        }
    }

    /// What its rows are.
    pub(super) fn shape(&self) -> Shape {
        if self.mapping.is_empty() {
            return Shape::of_format(self.format.map_or("", Format::name));
        }
        let has = |role: FieldRole| self.mapping.iter().any(|map| map.role == role);
        match () {
            () if has(FieldRole::Text) => Shape::Text,
            () if has(FieldRole::Rejected) => Shape::Preference,
            () if has(FieldRole::Assistant) || has(FieldRole::Messages) => Shape::Chat,
            () => Shape::Prompt,
        }
    }

    /// The messages of a row, or its first fault.
    pub(super) fn turns<'v>(&self, row: &'v Value<'_>) -> Turns<'v> {
        if self.mapping.is_empty() {
            return turns(self.format, row);
        }
        if !matches!(row, Value::Object(_)) {
            return Err(Fault::line(format!("{}, not an object", row.kind())));
        }
        let mut made: Vec<Turn<'v>> = Vec::new();
        for role in ORDER {
            let mut of_role: Option<Cow<'v, str>> = None;
            for map in self.mapping.iter().filter(|map| map.role == role) {
                if role == FieldRole::Messages {
                    made.extend(messages_of(row, &map.field)?);
                    continue;
                }
                let value = at_path(row, &map.field);
                if optional(role) && blank(value) {
                    continue;
                }
                let text = content(value, || map.field.clone())?;
                of_role = Some(match of_role {
                    None => Cow::Borrowed(text),
                    Some(before) => Cow::Owned(format!("{before}\n{text}")),
                });
            }
            if let (Some(text), Some(role)) = (of_role, turn_of(role)) {
                made.push(Turn::new(role, text));
            }
        }
        match made.as_slice() {
            [] => Err(Fault::line("every mapped field is empty")),
            [.., chosen, rejected] if rejected.role == Role::Rejected && chosen.content == rejected.content => {
                Err(Fault::line("the worse answer is the same text as the better one: there is nothing to prefer"))
            }
            _ => Ok(made),
        }
    }
}

/// The order in which roles stand in a row, whatever the order of the fields.
const ORDER: [FieldRole; 8] = [
    FieldRole::System,
    FieldRole::Messages,
    FieldRole::User,
    FieldRole::Assistant,
    FieldRole::Expected,
    FieldRole::Chosen,
    FieldRole::Rejected,
    FieldRole::Text,
];

fn turn_of(role: FieldRole) -> Option<Role> {
    Some(match role {
        FieldRole::System => Role::System,
        FieldRole::User => Role::User,
        FieldRole::Assistant => Role::Assistant,
        FieldRole::Chosen => Role::Chosen,
        FieldRole::Rejected => Role::Rejected,
        FieldRole::Text => Role::Text,
        FieldRole::Expected => Role::Expected,
        FieldRole::Messages => return None,
    })
}

/// Whether a field of that role may be missing in a row: system texts, and further fields of a question.
fn optional(role: FieldRole) -> bool {
    role == FieldRole::System
}

fn blank(value: Option<&Value<'_>>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Text(text)) => text.trim().is_empty(),
        Some(_) => false,
    }
}

/// A field by its name, else by a path of names and numbers with dots: `answers.text.0`.
fn at_path<'v, 'l>(row: &'v Value<'l>, path: &str) -> Option<&'v Value<'l>> {
    if let Some(value) = row.field(path) {
        return Some(value);
    }
    path.split('.').try_fold(row, |value, step| match value {
        Value::List(items) => items.get(step.parse::<usize>().ok()?),
        other => other.field(step),
    })
}

/// The mapping for fields with well-known names; empty when they say too little.
pub(super) fn proposed(row: &Value<'_>) -> Vec<FieldMap> {
    let Value::Object(fields) = row else { return Vec::new() };
    let texts: Vec<&str> =
        fields.iter().filter(|(_, value)| matches!(value, Value::Text(_))).map(|(name, _)| name.as_ref()).collect();
    let named = |role: FieldRole| {
        let (_, names) = NAMES.iter().find(|(known, _)| *known == role)?;
        let is = |text: &&&str, name: &str| text.trim().to_lowercase() == name;
        let found = names.iter().find_map(|name| texts.iter().find(|text| is(text, name)))?;
        Some(FieldMap { field: (*found).to_owned(), role })
    };
    let asked: Vec<FieldMap> = [FieldRole::System, FieldRole::User].into_iter().filter_map(named).collect();
    let asks = asked.iter().any(|map| map.role == FieldRole::User);
    let pair = [named(FieldRole::Chosen), named(FieldRole::Rejected)];
    let answers = match (pair, named(FieldRole::Assistant), named(FieldRole::Expected)) {
        ([Some(chosen), Some(rejected)], _, _) => vec![chosen, rejected],
        (_, Some(answer), _) => vec![answer],
        (_, None, Some(expected)) => vec![expected],
        _ => Vec::new(),
    };
    if asks && !answers.is_empty() {
        return [asked, answers].concat();
    }
    match (named(FieldRole::Text), asks) {
        (Some(text), _) => vec![text],
        (None, true) => asked,
        (None, false) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::parse;
    use super::*;

    fn map(pairs: &[(&str, FieldRole)]) -> Vec<FieldMap> {
        pairs.iter().map(|(field, role)| FieldMap { field: (*field).to_owned(), role: *role }).collect()
    }

    fn read(plan: &Plan, line: &str) -> Result<Vec<(&'static str, String)>, (String, String)> {
        let row = parse(line).unwrap();
        plan.turns(&row)
            .map(|turns| turns.iter().map(|turn| (turn.role.word(), turn.content.to_string())).collect())
            .map_err(|fault| (fault.field, fault.reason))
    }

    #[test]
    fn fields_become_what_they_are_mapped_to_in_the_order_of_a_row() {
        use FieldRole::{Assistant, Expected, System, User};
        let plan =
            Plan { format: None, mapping: map(&[("a", Assistant), ("q.text", User), ("more", User), ("s", System)]) };
        let wanted = [("user", "one\ntwo".to_owned()), ("assistant", "x".to_owned())];
        assert_eq!(read(&plan, r#"{"a":"x","q":{"text":"one"},"more":"two","s":null}"#).unwrap(), wanted);
        assert_eq!(read(&plan, r#"{"a":3,"q":{"text":"one"},"more":"two"}"#).unwrap_err().0, "a");
        assert_eq!(plan.name(), "mapped_chat");
        let plan = Plan { format: None, mapping: map(&[("q", User), ("answers.0", Expected)]) };
        assert_eq!(
            read(&plan, r#"{"q":"x","answers":["y","z"]}"#).unwrap(),
            [("user", "x".to_owned()), ("expected", "y".to_owned())]
        );
        assert_eq!(plan.shape(), Shape::Prompt);
    }

    #[test]
    fn well_known_names_are_proposed() {
        use FieldRole::{Assistant, Chosen, Expected, Rejected, Text, User};
        let is = |line: &str, wanted: &[(&str, FieldRole)]| {
            assert_eq!(proposed(&parse(line).unwrap()), map(wanted), "{line}")
        };
        is(r#"{"Question":"q","Answer":"a","n":3}"#, &[("Question", User), ("Answer", Assistant)]);
        is(r#"{"问题":"q","回答":"a"}"#, &[("问题", User), ("回答", Assistant)]);
        is(
            r#"{"prompt":"q","chosen":"a","rejected":"b"}"#,
            &[("prompt", User), ("chosen", Chosen), ("rejected", Rejected)],
        );
        is(r#"{"question":"q","ground_truth":"a"}"#, &[("question", User), ("ground_truth", Expected)]);
        is(r#"{"title":"t","body":"b"}"#, &[("body", Text)]);
        is(r#"{"prompt":"q"}"#, &[("prompt", User)]);
        is(r#"{"x":"q","y":1}"#, &[]);
    }
}
