//! The ways in which people write rows, and the one way hone keeps them.
//! Lives here: OpenAI messages, ShareGPT, Alpaca, plain text; recognising all formats; what is wrong with a row. Never here:
//! pairs of answers (see `preference`), syntax (see `json`), files, hashes.

use std::borrow::Cow;

use hone_protocol::dataset::{CHOSEN, ChatMessage, EXPECTED, REJECTED, RowFormat, TEXT};

use super::json::{Fault, Value, cut};
use super::prompted;

/// A stranger's word in a reason is cut after so many characters.
const WORD_CHARACTERS_MAX: usize = 40;

/// A known format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Messages,
    ShareGpt,
    Alpaca,
    Preference,
    Text,
    /// A prompt and its completion, as TRL writes them; with a label, KTO.
    Completion,
    /// A prompt and its answers, the best first.
    Ranked,
    /// A prompt with the answer that is expected.
    Prompt,
    /// Baidu Qianfan: a list of turns.
    Qianfan,
    /// The same with sorted responses.
    QianfanRanked,
}

impl Format {
    /// Preferences first: their prompts may be written as any of the others.
    pub(super) const ALL: [Format; 10] = [
        Format::Preference,
        Format::Ranked,
        Format::Prompt,
        Format::Messages,
        Format::ShareGpt,
        Format::Completion,
        Format::Alpaca,
        Format::QianfanRanked,
        Format::Qianfan,
        Format::Text,
    ];

    /// The name in reports and on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Format::Messages => "messages",
            Format::ShareGpt => "sharegpt",
            Format::Alpaca => "alpaca",
            Format::Preference => "preference",
            Format::Text => "text",
            Format::Completion => "completion",
            Format::Ranked => "ranked",
            Format::Prompt => "prompt",
            Format::Qianfan => "qianfan",
            Format::QianfanRanked => "qianfan_ranked",
        }
    }

    /// The name that people know it by.
    fn title(self) -> &'static str {
        match self {
            Format::Messages => "OpenAI messages",
            Format::ShareGpt => "ShareGPT",
            Format::Alpaca => "Alpaca",
            Format::Preference => "a preference",
            Format::Text => "plain text",
            Format::Completion => "a prompt with a completion",
            Format::Ranked => "a prompt with sorted responses",
            Format::Prompt => "a prompt with an expected answer",
            Format::Qianfan => "Qianfan",
            Format::QianfanRanked => "Qianfan with sorted responses",
        }
    }

    /// The field that only this format has.
    pub(super) fn key(self) -> &'static str {
        match self {
            Format::Messages => "messages",
            Format::ShareGpt => "conversations",
            Format::Alpaca => "instruction",
            Format::Preference => "rejected",
            Format::Text => "text",
            Format::Completion => "completion",
            Format::Ranked => "responses",
            Format::Prompt => "expected",
            Format::Qianfan | Format::QianfanRanked => "response",
        }
    }

    /// What the person chose; nothing when it is to be detected or mapped.
    pub(super) fn chosen(format: &RowFormat) -> Option<Format> {
        match format {
            RowFormat::Detect | RowFormat::Mapped(_) => None,
            RowFormat::OpenAi => Some(Format::Messages),
            RowFormat::ShareGpt => Some(Format::ShareGpt),
            RowFormat::Alpaca => Some(Format::Alpaca),
            RowFormat::Preference => Some(Format::Preference),
            RowFormat::Text => Some(Format::Text),
            RowFormat::Completion => Some(Format::Completion),
            RowFormat::Ranked => Some(Format::Ranked),
            RowFormat::Prompt => Some(Format::Prompt),
            RowFormat::Qianfan => Some(Format::Qianfan),
            RowFormat::QianfanRanked => Some(Format::QianfanRanked),
        }
    }

    /// The format whose own field a row has; the first of [`Format::ALL`] when it has several.
    pub(super) fn recognise(row: &Value<'_>) -> Option<Format> {
        Format::ALL.into_iter().find(|format| match format {
            Format::Qianfan => prompted::qianfan_responses(row).is_some(),
            Format::QianfanRanked => prompted::qianfan_responses(row).is_some_and(|responses| responses > 1),
            Format::Prompt => row.field("expected").is_some() || prompted::is_ideal(row),
            _ => row.field(format.key()).is_some(),
        })
    }
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    System,
    User,
    Assistant,
    /// The better answer of a preference.
    Chosen,
    /// The worse one.
    Rejected,
    /// Nobody: the text of a text row.
    Text,
    /// Nobody yet: the answer that is expected of a prompt.
    Expected,
}

impl Role {
    pub(super) fn word(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Chosen => CHOSEN,
            Role::Rejected => REJECTED,
            Role::Text => TEXT,
            Role::Expected => EXPECTED,
        }
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Turn<'l> {
    pub(super) role: Role,
    pub(super) content: Cow<'l, str>,
}

impl<'l> Turn<'l> {
    pub(super) fn new(role: Role, content: impl Into<Cow<'l, str>>) -> Turn<'l> {
        Turn { role, content: content.into() }
    }

    /// A message that was read from a segment; none when its role is not one of ours.
    pub(super) fn of_message(message: &'l ChatMessage) -> Option<Turn<'l>> {
        const ROLES: [Role; 7] =
            [Role::System, Role::User, Role::Assistant, Role::Chosen, Role::Rejected, Role::Text, Role::Expected];
        let role = ROLES.into_iter().find(|role| role.word() == message.role)?;
        Some(Turn::new(role, message.content.as_str()))
    }
}

pub(super) type Turns<'l> = Result<Vec<Turn<'l>>, Fault>;

/// The messages of a row, or its first fault in reading order: the row, its list, then turn by turn.
/// `format` is nothing when no row of the file could be recognised.
pub(super) fn turns<'v>(format: Option<Format>, row: &'v Value<'_>) -> Turns<'v> {
    if let (Some(Format::Qianfan | Format::QianfanRanked), Value::List(_)) = (format, row) {
        return prompted::qianfan(row, format == Some(Format::QianfanRanked));
    }
    if !matches!(row, Value::Object(_)) {
        return Err(Fault::line(format!("{}, not an object", row.kind())));
    }
    let Some(format) = format else {
        return Err(Fault::line(
            "no known format: there is no field messages, conversations, instruction, text, or chosen and rejected; name its fields with --map",
        ));
    };
    if row.field(format.key()).is_none() && !(format == Format::Prompt && prompted::stands_alone(row)) {
        let other = match Format::recognise(row) {
            Some(other) => {
                format!("; the row looks like {}, but the file is read as {}", other.title(), format.title())
            }
            None => String::new(),
        };
        return Err(Fault::new(format.key(), format!("field missing{other}")));
    }
    let turns = match format {
        Format::Messages => messages(row)?,
        Format::ShareGpt => sharegpt(row)?,
        Format::Alpaca => alpaca(row)?,
        Format::Preference => return super::preference::turns(row),
        Format::Text => return Ok(vec![Turn::new(Role::Text, text(row, "text", || "text".into())?)]),
        Format::Completion => prompted::completion(row)?,
        Format::Ranked => return prompted::ranked(row),
        Format::Prompt => return prompted::prompt(row),
        Format::Qianfan | Format::QianfanRanked => return Err(Fault::line("an object, not a list of turns")),
    };
    if !turns.iter().any(|turn| turn.role == Role::Assistant) {
        return Err(Fault::new(format.key(), "no assistant turn: nothing to train on"));
    }
    Ok(turns)
}

fn messages<'v>(row: &'v Value<'_>) -> Turns<'v> {
    messages_of(row, "messages")
}

/// Messages as OpenAI writes them, in any field.
pub(super) fn messages_of<'v>(row: &'v Value<'_>, name: &str) -> Turns<'v> {
    let mut turns = Vec::new();
    for (index, message) in list(row, name)?.iter().enumerate() {
        let at = |field: &str| format!("{name}[{index}]{field}");
        object(message, || at(""))?;
        let role = match word(message, "role", || at(".role"))? {
            "system" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "tool" | "function" => {
                return Err(Fault::new(at(".role"), "tool turns are not supported in this version"));
            }
            other => return Err(unknown(at(".role"), "role", other, "system, user or assistant")),
        };
        for field in ["tool_calls", "function_call"] {
            match message.field(field) {
                None | Some(Value::Null) => {}
                Some(Value::List(calls)) if calls.is_empty() => {}
                Some(_) => {
                    return Err(Fault::new(at(&format!(".{field}")), "tool calls are not supported in this version"));
                }
            }
        }
        turns.push(Turn::new(role, text(message, "content", || at(".content"))?));
    }
    Ok(turns)
}

pub(super) fn sharegpt<'v>(row: &'v Value<'_>) -> Turns<'v> {
    let list = list(row, "conversations")?;
    let mut turns = Vec::new();
    if let Some(system) = optional_text(row, "system")? {
        turns.push(Turn::new(Role::System, system));
    }
    for (index, message) in list.iter().enumerate() {
        let at = |field: &str| format!("conversations[{index}]{field}");
        object(message, || at(""))?;
        let role = match word(message, "from", || at(".from"))? {
            "system" => Role::System,
            "human" | "user" => Role::User,
            "gpt" | "assistant" => Role::Assistant,
            "function_call" | "observation" | "tool" => {
                return Err(Fault::new(at(".from"), "tool turns are not supported in this version"));
            }
            other => return Err(unknown(at(".from"), "speaker", other, "system, human or gpt")),
        };
        if role == Role::System && index == 0 && !turns.is_empty() {
            return Err(Fault::new("system", "a system text stands here and in conversations[0]; keep one"));
        }
        turns.push(Turn::new(role, text(message, "value", || at(".value"))?));
    }
    Ok(turns)
}

fn alpaca<'v>(row: &'v Value<'_>) -> Turns<'v> {
    let instruction = text(row, "instruction", || "instruction".into())?;
    let input = optional_text(row, "input")?;
    let output = text(row, "output", || "output".into())?;
    let mut turns = Vec::new();
    if let Some(system) = optional_text(row, "system")? {
        turns.push(Turn::new(Role::System, system));
    }
    match row.field("history") {
        None | Some(Value::Null) => {}
        Some(Value::List(exchanges)) => {
            for (index, exchange) in exchanges.iter().enumerate() {
                let Value::List(pair) = exchange else {
                    return Err(Fault::new(format!("history[{index}]"), format!("{}, not a list", exchange.kind())));
                };
                let [question, answer] = pair.as_slice() else {
                    return Err(Fault::new(
                        format!("history[{index}]"),
                        format!("{} texts, not two: a question and its answer", pair.len()),
                    ));
                };
                turns.push(Turn::new(Role::User, content(Some(question), || format!("history[{index}][0]"))?));
                turns.push(Turn::new(Role::Assistant, content(Some(answer), || format!("history[{index}][1]"))?));
            }
        }
        Some(other) => return Err(Fault::new("history", format!("{}, not a list", other.kind()))),
    }
    turns.push(match input {
        Some(input) => Turn::new(Role::User, format!("{instruction}\n{input}")),
        None => Turn::new(Role::User, instruction),
    });
    turns.push(Turn::new(Role::Assistant, output));
    Ok(turns)
}

/// A list that must be there and hold something.
pub(super) fn list<'v, 'l>(row: &'v Value<'l>, field: &str) -> Result<&'v [Value<'l>], Fault> {
    match row.field(field) {
        Some(Value::List(list)) if list.is_empty() => Err(Fault::new(field, "empty list")),
        Some(Value::List(list)) => Ok(list),
        Some(other) => Err(Fault::new(field, format!("{}, not a list", other.kind()))),
        None => Err(Fault::new(field, "field missing")),
    }
}

fn object(value: &Value<'_>, at: impl Fn() -> String) -> Result<(), Fault> {
    match value {
        Value::Object(_) => Ok(()),
        other => Err(Fault::new(at(), format!("{}, not an object", other.kind()))),
    }
}

/// A text that may be empty, for roles.
fn word<'v>(value: &'v Value<'_>, field: &str, at: impl Fn() -> String) -> Result<&'v str, Fault> {
    match value.field(field) {
        Some(Value::Text(text)) => Ok(text),
        Some(other) => Err(Fault::new(at(), format!("{}, not a string", other.kind()))),
        None => Err(Fault::new(at(), "field missing")),
    }
}

/// A text that says something.
pub(super) fn text<'v>(value: &'v Value<'_>, field: &str, at: impl Fn() -> String) -> Result<&'v str, Fault> {
    content(value.field(field), at)
}

pub(super) fn content<'v>(value: Option<&'v Value<'_>>, at: impl Fn() -> String) -> Result<&'v str, Fault> {
    let reason = match value {
        Some(Value::Text(text)) if text.is_empty() => "empty".into(),
        Some(Value::Text(text)) if text.trim().is_empty() => "only white space".into(),
        // Behind C interfaces a NUL ends a text: what follows would be lost without a word.
        // Only an escape can make one.
        Some(Value::Text(Cow::Owned(text))) if text.contains('\0') => "contains a NUL character".into(),
        Some(Value::Text(text)) => return Ok(text),
        Some(Value::List(_)) => "a list, not a string; content in parts is not supported in this version".into(),
        Some(other) => format!("{}, not a string", other.kind()),
        None => "field missing".into(),
    };
    Err(Fault::new(at(), reason))
}

/// A text that may be missing, null or blank, which all mean the same.
pub(super) fn optional_text<'v>(row: &'v Value<'_>, field: &str) -> Result<Option<&'v str>, Fault> {
    match row.field(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Text(text)) if text.trim().is_empty() => Ok(None),
        value => content(value, || field.to_owned()).map(Some),
    }
}

fn unknown(at: String, kind: &str, word: &str, known: &str) -> Fault {
    Fault::new(at, format!("unknown {kind} {:?}; it must be {known}", cut(word, WORD_CHARACTERS_MAX)))
}

#[cfg(test)]
mod tests {
    use super::super::json::parse;
    use super::*;

    fn read(format: Format, line: &str) -> Result<Vec<(&'static str, String)>, (String, String)> {
        let row = parse(line).unwrap();
        turns(Some(format), &row)
            .map(|turns| turns.into_iter().map(|turn| (turn.role.word(), turn.content.into_owned())).collect())
            .map_err(|fault| (fault.field, fault.reason))
    }

    fn fault_at(format: Format, line: &str) -> String {
        read(format, line).unwrap_err().0
    }

    #[test]
    fn alpaca_orders_system_history_instruction_and_answer() {
        let line = r#"{"output":"c","instruction":"b","input":"x","system":"s","history":[["q","a"]]}"#;
        let expected = [("system", "s"), ("user", "q"), ("assistant", "a"), ("user", "b\nx"), ("assistant", "c")];
        assert_eq!(read(Format::Alpaca, line).unwrap(), expected.map(|(role, text)| (role, text.to_owned())));
        let blank = r#"{"instruction":"b","input":" ","output":"c","system":"","history":null}"#;
        assert_eq!(read(Format::Alpaca, blank).unwrap(), [("user", "b".to_owned()), ("assistant", "c".to_owned())]);
    }

    #[test]
    fn the_place_of_a_fault_is_exact() {
        use Format::{Alpaca, Messages, ShareGpt};
        for (format, line, field) in [
            (Alpaca, r#"{"instruction":"b","output":"c","history":[["q"]]}"#, "history[0]"),
            (Alpaca, r#"{"instruction":"b","output":"c","history":[["q",3]]}"#, "history[0][1]"),
            (Alpaca, r#"{"instruction":"b","output":"c","history":{}}"#, "history"),
            (Alpaca, r#"{"instruction":"b","output":"c","system":1}"#, "system"),
            (Messages, r#"{"messages":[{"role":"tool","content":"c"}]}"#, "messages[0].role"),
            (
                Messages,
                r#"{"messages":[{"role":"assistant","content":null,"tool_calls":[{}]}]}"#,
                "messages[0].tool_calls",
            ),
            (Messages, r#"{"messages":[{"role":"user","content":"a\u0000b"}]}"#, "messages[0].content"),
            (Messages, r#"{"messages":[{"role":"user","content":[{"type":"text"}]}]}"#, "messages[0].content"),
            (ShareGpt, r#"{"conversations":[{"from":"observation","value":"c"}]}"#, "conversations[0].from"),
            (ShareGpt, r#"{"system":"a","conversations":[{"from":"system","value":"b"}]}"#, "system"),
            (ShareGpt, r#"{"conversations":[{"from":"human","value":"b"}]}"#, "conversations"),
        ] {
            assert_eq!(fault_at(format, line), field, "{line}");
        }
    }

    #[test]
    fn an_unknown_word_is_quoted_and_cut() {
        let line = format!(r#"{{"messages":[{{"role":"{}","content":"c"}}]}}"#, "r\\n".repeat(100));
        let (_, reason) = read(Format::Messages, &line).unwrap_err();
        assert!(reason.contains("r\\nr\\n") && reason.contains('…') && reason.len() < 160, "{reason}");
    }
}
