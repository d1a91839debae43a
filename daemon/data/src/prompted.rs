//! Rows that are a prompt and what belongs to it: one completion, answers sorted by quality, an expected answer; and Qianfan's lists.
//! Lives here: those formats. Never here: pairs of answers (see `preference`), conversations (see `format`).

use super::format::{Role, Turn, Turns, content, list, messages_of, text};
use super::json::{Fault, Value};
use super::preference::{asks, prompt as asked};

/// `{"prompt", "completion"}`, texts or messages. With `"label": false`, as KTO has it, the completion is one that is not wanted, which a
/// single answer cannot say.
pub(super) fn completion<'v>(row: &'v Value<'_>) -> Turns<'v> {
    match row.field("label") {
        Some(Value::Boolean(false)) => {
            let reason =
                "an answer that is not wanted; only a pair can say so, make preference rows of chosen and rejected";
            return Err(Fault::new("label", reason));
        }
        None | Some(Value::Null | Value::Boolean(true)) => {}
        Some(other) => return Err(Fault::new("label", format!("{}, not a boolean", other.kind()))),
    }
    let mut turns = asked(row)?;
    asks(&turns)?;
    match row.field("completion") {
        Some(Value::List(_)) => turns.extend(messages_of(row, "completion")?),
        _ => turns.push(Turn::new(Role::Assistant, text(row, "completion", || "completion".into())?)),
    }
    Ok(turns)
}

/// `{"prompt", "responses": [best, …, worst]}`: the best against the worst. The others stay in the original.
pub(super) fn ranked<'v>(row: &'v Value<'_>) -> Turns<'v> {
    let mut turns = asked(row)?;
    asks(&turns)?;
    let responses = list(row, "responses")?;
    compared(&mut turns, &responses.iter().collect::<Vec<_>>(), "responses")?;
    Ok(turns)
}

/// Adds the first and the last of sorted answers.
fn compared<'v>(turns: &mut Vec<Turn<'v>>, responses: &[&'v Value<'_>], field: &str) -> Result<(), Fault> {
    let ([best, .., worst], last) = (responses, responses.len().saturating_sub(1)) else {
        return Err(Fault::new(field, format!("{} answers; sorted answers are at least two", responses.len())));
    };
    let chosen = content(Some(best), || format!("{field}[0]"))?;
    let rejected = content(Some(worst), || format!("{field}[{last}]"))?;
    if chosen == rejected {
        return Err(Fault::new(field, "the best answer is the same text as the worst: there is nothing to prefer"));
    }
    turns.push(Turn::new(Role::Chosen, chosen));
    turns.push(Turn::new(Role::Rejected, rejected));
    Ok(())
}

/// Whether a row is `{"input": [messages], "ideal": …}`, as sets of evaluations have them.
pub(super) fn is_ideal(row: &Value<'_>) -> bool {
    matches!(row.field("input"), Some(Value::List(_))) && row.field("ideal").is_some()
}

/// Whether a row is a prompt without a field `expected`: of an evaluation set, or messages that expect nothing.
pub(super) fn stands_alone(row: &Value<'_>) -> bool {
    is_ideal(row) || matches!(row.field("prompt"), Some(Value::List(_)))
}

/// `{"prompt", "expected"}`: what is asked, with the answer that a model should give. Of several ideal answers the first counts.
pub(super) fn prompt<'v>(row: &'v Value<'_>) -> Turns<'v> {
    if is_ideal(row) {
        let mut turns = messages_of(row, "input")?;
        // Some put the question into the system text.
        if let [only] = turns.as_mut_slice() {
            only.role = Role::User;
        }
        let ideal = match row.field("ideal") {
            Some(Value::List(several)) => several.first(),
            one => one,
        };
        turns.push(Turn::new(Role::Expected, content(ideal, || "ideal".into())?));
        return Ok(turns);
    }
    let mut turns = asked(row)?;
    // Messages may end as a set of evaluations has them, and be asked without an answer that is expected.
    let is_list = matches!(row.field("prompt"), Some(Value::List(_)));
    match row.field("expected") {
        None | Some(Value::Null) if is_list => asks(&turns)?,
        _ => {
            if !is_list {
                asks(&turns)?;
            }
            turns.push(Turn::new(Role::Expected, text(row, "expected", || "expected".into())?));
        }
    }
    Ok(turns)
}

/// How many responses the last turn of a Qianfan row has; nothing when it is none.
pub(super) fn qianfan_responses(row: &Value<'_>) -> Option<usize> {
    let Value::List(turns) = row else { return None };
    let last = turns.last()?;
    last.field("prompt")?;
    Some(responses(last.field("response")?).len())
}

/// `[{"system", "prompt", "response": [["…"]]}, …]`; the last turn of a ranked row has several responses, the best first.
pub(super) fn qianfan<'v>(row: &'v Value<'_>, ranked: bool) -> Turns<'v> {
    let Value::List(rounds) = row else { return Err(Fault::line(format!("{}, not a list", row.kind()))) };
    let mut turns = Vec::new();
    for (index, round) in rounds.iter().enumerate() {
        let at = |field: &str| format!("[{index}].{field}");
        match round.field("system") {
            None | Some(Value::Null) => {}
            Some(Value::Text(text)) if text.trim().is_empty() => {}
            system if index == 0 => turns.push(Turn::new(Role::System, content(system, || at("system"))?)),
            Some(_) => return Err(Fault::new(at("system"), "a system text stands before the first turn only")),
        }
        turns.push(Turn::new(Role::User, text(round, "prompt", || at("prompt"))?));
        let Some(response) = round.field("response") else {
            return Err(Fault::new(at("response"), "field missing"));
        };
        match responses(response).as_slice() {
            all if ranked && index + 1 == rounds.len() => compared(&mut turns, all, &at("response"))?,
            [only] => turns.push(Turn::new(Role::Assistant, content(Some(only), || at("response"))?)),
            all => {
                let reason =
                    format!("{} responses; a turn of a chat has one (sorted ones: --format qianfan-ranked)", all.len());
                return Err(Fault::new(at("response"), reason));
            }
        }
    }
    match turns.is_empty() {
        true => Err(Fault::line("empty list")),
        false => Ok(turns),
    }
}

/// Qianfan writes a response as a list of lists of one text; some write less.
fn responses<'v, 'l>(value: &'v Value<'l>) -> Vec<&'v Value<'l>> {
    match value {
        Value::List(items) => items.iter().flat_map(responses).collect(),
        other => vec![other],
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::{Format, turns};
    use super::super::json::parse;

    fn read(line: &str) -> Result<Vec<(String, String)>, (String, String)> {
        let row = parse(line).unwrap();
        turns(Format::recognise(&row), &row)
            .map(|turns| turns.iter().map(|turn| (turn.role.word().to_owned(), turn.content.to_string())).collect())
            .map_err(|fault| (fault.field, fault.reason))
    }

    #[test]
    fn prompts_with_what_belongs_to_them() {
        let is = |line: &str, wanted: &[(&str, &str)]| {
            let found = read(line).unwrap();
            let found: Vec<_> = found.iter().map(|(role, text)| (role.as_str(), text.as_str())).collect();
            assert_eq!(found, wanted, "{line}");
        };
        is(r#"{"prompt":"q","completion":"a"}"#, &[("user", "q"), ("assistant", "a")]);
        is(r#"{"prompt":"q","completion":"a","label":true}"#, &[("user", "q"), ("assistant", "a")]);
        is(
            r#"{"prompt":[{"role":"user","content":"q"}],"completion":[{"role":"assistant","content":"a"}]}"#,
            &[("user", "q"), ("assistant", "a")],
        );
        is(r#"{"prompt":"q","responses":["a","b","c"]}"#, &[("user", "q"), ("chosen", "a"), ("rejected", "c")]);
        is(r#"{"prompt":"q","expected":"a"}"#, &[("user", "q"), ("expected", "a")]);
        is(r#"{"input":[{"role":"system","content":"q"}],"ideal":["a","b"]}"#, &[("user", "q"), ("expected", "a")]);
        is(r#"[{"prompt":"q","response":[["a"]]}]"#, &[("user", "q"), ("assistant", "a")]);
        is(
            r#"[{"system":"s","prompt":"q","response":[["a"]]},{"prompt":"r","response":[["b"],["c"]]}]"#,
            &[("system", "s"), ("user", "q"), ("assistant", "a"), ("user", "r"), ("chosen", "b"), ("rejected", "c")],
        );
    }

    #[test]
    fn what_is_wrong_with_them_is_named() {
        for (line, field) in [
            (r#"{"prompt":"q","completion":"a","label":false}"#, "label"),
            (r#"{"prompt":"q","completion":"a","label":"yes"}"#, "label"),
            (r#"{"completion":"a"}"#, "prompt"),
            (r#"{"prompt":"q","responses":["a"]}"#, "responses"),
            (r#"{"prompt":"q","responses":["a",3]}"#, "responses[1]"),
            (r#"{"prompt":"q","expected":3}"#, "expected"),
            (r#"[{"prompt":"q","response":[["a"],["b"]]},{"prompt":"q","response":[["a"]]}]"#, "[0].response"),
        ] {
            assert_eq!(read(line).unwrap_err().0, field, "{line}");
        }
    }
}
