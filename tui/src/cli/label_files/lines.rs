//! The lines of hone itself. Never here: files of other tools.
//!
//! {"row_id","messages","labels":[{"person","at_ms","value","flag","note","spent_ms","how"}],
//! "suggestion":{"value","probability","by"}} with values as the protocol writes them. Only the row and the values must
//! be there when it is read.

use super::*;

pub(super) fn hone_line(labelled: &Labelled, standing: &[&LabelRecord]) -> Value {
    let label = |label: &&LabelRecord| {
        let Decision { value, flag, note, spent_ms, how, .. } = &label.decision;
        json!({ "person": label.person, "at_ms": label.at_ms, "value": value, "flag": flag, "note": note,
            "spent_ms": spent_ms, "how": how })
    };
    let suggestion = labelled.suggestion.as_ref().map(|suggestion| {
        json!({ "value": suggestion.value, "probability": score(suggestion.probability), "by": suggestion.by })
    });
    let labels: Vec<Value> = standing.iter().map(label).collect();
    let Row { row_id, messages, .. } = &labelled.row;
    json!({ "row_id": row_id, "messages": messages, "labels": labels, "suggestion": suggestion })
}

pub(super) fn hone_item(task: &Task, item: &Value) -> Result<Said, String> {
    let row_id = row_id(&[item.get("row_id"), item.get("id")])?;
    let value_of = |said: &Value| {
        let value = said.get("value").cloned().unwrap_or_default();
        let value = serde_json::from_value(value).map_err(|error| format!("value: {error}"))?;
        checked(task, value)
    };
    let mut decisions = Vec::new();
    for (at, label) in list(item, "labels")?.iter().enumerate() {
        let read = || {
            let field = |name: &str| label.get(name).filter(|value| !value.is_null());
            let person = want(field("person").map_or(Some(NOBODY), Value::as_str), "person", "a name")?;
            let remarks =
                json!({ "hone_note": field("note"), "hone_flag": field("flag"), "hone_spent_ms": field("spent_ms") });
            let how = field("how").map_or(Ok(How::Imported), |how| serde_json::from_value(how.clone()));
            let how = how.map_err(|error| format!("how: {error}"))?;
            Ok((person_of(person), Decision { how, ..decision(row_id, value_of(label)?, &remarks, person)? }))
        };
        decisions.push(within(&format!("labels[{at}]"), read())?);
    }
    let suggestion = item.get("suggestion").filter(|said| !said.is_null()).map(|said| {
        let by = want(said.get("by").map_or(Some(NOBODY), Value::as_str), "by", "a text")?.to_owned();
        let probability = probability(said.get("probability"), "probability")?;
        Ok(Suggestion { row_id, value: value_of(said)?, probability, by })
    });
    Ok(Said { row_id, decisions, suggestion: within("suggestion", suggestion.transpose())? })
}
