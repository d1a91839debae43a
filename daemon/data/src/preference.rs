//! Pairs of answers to one prompt, as TRL, LLaMA-Factory and others write them.
//! Lives here: finding the prompt, the better and the worse answer of a row. Never here: other rows (see `format`).
//!
//! The prompt is `prompt` (a text or messages), `messages`, `conversations` (ShareGPT), or `instruction` and `input`; or there is none
//! and both answers repeat the whole conversation, as TRL allows. An answer is `chosen` and `rejected`: a text, a message, or messages.

use super::format::{Role, Turn, Turns, messages_of, optional_text, sharegpt, text};
use super::json::{Fault, Value};

/// The prompt's turns, then the better answer, then the worse one.
pub(super) fn turns<'v>(row: &'v Value<'_>) -> Turns<'v> {
    let (mut chosen, rejected) = (answer(row, "chosen")?, answer(row, "rejected")?);
    let mut turns = prompt(row)?;
    let (Some(good), Some((bad, before))) = (chosen.pop(), rejected.split_last()) else {
        return Err(Fault::new("chosen", "empty list"));
    };
    if chosen != before {
        let reason =
            "the conversations of chosen and rejected differ before their last message; only last answers are compared";
        return Err(Fault::new("rejected", reason));
    }
    if !chosen.is_empty() {
        // Some repeat the prompt that stands beside them.
        if !turns.is_empty() && turns != chosen {
            return Err(Fault::new("chosen", "a conversation that does not begin with the prompt beside it"));
        }
        turns = chosen;
    }
    asks(&turns)?;
    if good.content == bad.content {
        return Err(Fault::new("rejected", "the same text as chosen: there is nothing to prefer"));
    }
    turns.push(Turn { role: Role::Chosen, ..good });
    turns.push(Turn { role: Role::Rejected, content: bad.content.clone() });
    Ok(turns)
}

/// Whether turns end with somebody who asks.
pub(super) fn asks(turns: &[Turn<'_>]) -> Result<(), Fault> {
    match turns.last().map(|turn| turn.role) {
        Some(Role::User) => Ok(()),
        Some(_) => Err(Fault::new("prompt", "the prompt must end with a user turn, which the answers follow")),
        None => Err(Fault::new("prompt", "field missing: what are the answers to?")),
    }
}

/// An answer, with the conversation before it where it is there.
fn answer<'v>(row: &'v Value<'_>, field: &str) -> Turns<'v> {
    let turns = match row.field(field) {
        Some(Value::List(_)) => messages_of(row, field)?,
        // LLaMA-Factory's ShareGPT rows have one message, {from, value}, or {role, content}.
        Some(message @ Value::Object(_)) => {
            let key = if message.field("value").is_some() { "value" } else { "content" };
            vec![Turn::new(Role::Assistant, text(message, key, || format!("{field}.{key}"))?)]
        }
        _ => vec![Turn::new(Role::Assistant, text(row, field, || field.into())?)],
    };
    match turns.last() {
        Some(turn) if turn.role == Role::Assistant => Ok(turns),
        _ => Err(Fault::new(field, "must end with an assistant turn")),
    }
}

/// What answers answer; empty where it is not beside them.
pub(super) fn prompt<'v>(row: &'v Value<'_>) -> Turns<'v> {
    if row.field("messages").is_some() {
        return messages_of(row, "messages");
    }
    if row.field("conversations").is_some() {
        return sharegpt(row);
    }
    let mut turns = Vec::new();
    if let Some(system) = optional_text(row, "system")? {
        turns.push(Turn::new(Role::System, system));
    }
    match (row.field("prompt"), row.field("instruction")) {
        (Some(Value::List(_)), _) => turns.extend(messages_of(row, "prompt")?),
        (Some(_), _) => turns.push(Turn::new(Role::User, text(row, "prompt", || "prompt".into())?)),
        (None, Some(_)) => {
            let instruction = text(row, "instruction", || "instruction".into())?;
            turns.push(match optional_text(row, "input")? {
                Some(input) => Turn::new(Role::User, format!("{instruction}\n{input}")),
                None => Turn::new(Role::User, instruction),
            });
        }
        (None, None) => {
            turns.extend(optional_text(row, "question")?.map(|question| Turn::new(Role::User, question)));
        }
    }
    Ok(turns)
}

#[cfg(test)]
mod tests {
    use super::super::json::parse;
    use super::*;

    fn read(line: &str) -> Result<Vec<(&'static str, String)>, (String, String)> {
        let row = parse(line).unwrap();
        turns(&row)
            .map(|turns| turns.into_iter().map(|turn| (turn.role.word(), turn.content.into_owned())).collect())
            .map_err(|fault| (fault.field, fault.reason))
    }

    #[test]
    fn every_way_of_writing_a_pair_reads_the_same() {
        let wanted =
            [("user", "q"), ("chosen", "good"), ("rejected", "bad")].map(|(role, text)| (role, text.to_owned()));
        for line in [
            r#"{"prompt":"q","chosen":"good","rejected":"bad"}"#,
            r#"{"prompt":[{"role":"user","content":"q"}],"chosen":[{"role":"assistant","content":"good"}],"rejected":[{"role":"assistant","content":"bad"}]}"#,
            r#"{"chosen":[{"role":"user","content":"q"},{"role":"assistant","content":"good"}],"rejected":[{"role":"user","content":"q"},{"role":"assistant","content":"bad"}]}"#,
            r#"{"prompt":"q","chosen":[{"role":"user","content":"q"},{"role":"assistant","content":"good"}],"rejected":[{"role":"user","content":"q"},{"role":"assistant","content":"bad"}]}"#,
            r#"{"instruction":"q","input":"","chosen":"good","rejected":"bad"}"#,
            r#"{"question":"q","chosen":"good","rejected":"bad"}"#,
            r#"{"conversations":[{"from":"human","value":"q"}],"chosen":{"from":"gpt","value":"good"},"rejected":{"from":"gpt","value":"bad"}}"#,
            r#"{"messages":[{"role":"user","content":"q"}],"chosen":{"role":"assistant","content":"good"},"rejected":{"role":"assistant","content":"bad"}}"#,
        ] {
            assert_eq!(read(line).unwrap(), wanted, "{line}");
        }
        let system = r#"{"system":"s","prompt":"q","chosen":"good","rejected":"bad"}"#;
        assert_eq!(read(system).unwrap()[0], ("system", "s".to_owned()));
    }

    #[test]
    fn what_cannot_be_compared_is_named() {
        for (line, field) in [
            (r#"{"prompt":"q","chosen":"good"}"#, "rejected"),
            (r#"{"chosen":"good","rejected":"bad"}"#, "prompt"),
            (r#"{"prompt":"q","chosen":"same","rejected":"same"}"#, "rejected"),
            (r#"{"prompt":"q","chosen":" ","rejected":"bad"}"#, "chosen"),
            (r#"{"prompt":[{"role":"assistant","content":"a"}],"chosen":"x","rejected":"y"}"#, "prompt"),
            (
                r#"{"chosen":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}],"rejected":[{"role":"user","content":"other"},{"role":"assistant","content":"b"}]}"#,
                "rejected",
            ),
        ] {
            assert_eq!(read(line).unwrap_err().0, field, "{line}");
        }
    }
}
