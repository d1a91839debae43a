//! doccano's lines. Never here: other tools' files.
//!
//! Spans are counted in UTF-16 code units while "Count grapheme clusters as one character" is off (issue 2290). A line
//! has the labels of one person. Other fields come back as they went out (`ExportedExample.to_dict`) when all lines have
//! them: its reader makes a table (`Reader.batch`).

use super::*;

pub(super) fn doccano_lines(task: &Task, labelled: &Labelled, standing: &[&LabelRecord]) -> Result<Vec<Value>, String> {
    let row = &labelled.row;
    let whole = Whole::of(&row.messages);
    let line = |said: Option<&&LabelRecord>| {
        let value = said.map_or(&LabelValue::Skip, |label| &label.decision.value);
        checked(task, value.clone())?;
        let label = match value {
            LabelValue::Labels(names) => json!(names),
            LabelValue::Text(text) => json!([text]),
            LabelValue::Spans(spans) => {
                let span = |span: &Span| {
                    let (start, end, _) = whole.place(Units::Utf16, span)?;
                    Ok(json!([start, end, span.label]))
                };
                spans.iter().map(span).collect::<Result<Value, String>>()?
            }
            _ => json!([]),
        };
        let (person, flag, note, spent_ms) = said.map_or(("", "", "", 0), |label| {
            let Decision { flag, note, spent_ms, .. } = &label.decision;
            (label.person.as_str(), flag.as_str(), note.as_str(), *spent_ms)
        });
        Ok(json!({ "id": row.row_id, "text": whole.text, "label": label, "hone_row_id": row.row_id,
            "annotator": person, "hone_skipped": said.is_some() && value.is_skip(), "hone_flag": flag,
            "hone_note": note, "hone_spent_ms": spent_ms, "hone_parts": whole.parts }))
    };
    if standing.is_empty() { Ok(vec![line(None)?]) } else { standing.iter().map(|label| line(Some(label))).collect() }
}

pub(super) fn doccano_item(task: &Task, item: &Value) -> Result<Said, String> {
    let row_id = row_id(&[item.get("hone_row_id"), item.get("id")])?;
    let field = ["label", "labels", "entities"].into_iter().find(|field| item.get(field).is_some()).unwrap_or("label");
    let labels = list(item, field)?;
    let person = ["annotator", "user", "username"].iter().find_map(|name| match item.get(name) {
        Some(Value::String(name)) => Some(name.clone()).filter(|name| !name.is_empty()),
        Some(Value::Number(number)) => Some(format!("user-{number}")),
        _ => None,
    });
    let skipped = match item.get("hone_skipped") {
        None | Some(Value::Null) => false,
        Some(skipped) => want(skipped.as_bool(), "hone_skipped", "true or false")?,
    };
    // No labels say nothing, unless hone wrote down that somebody said so.
    let value = match task {
        _ if labels.is_empty() && skipped => Some(LabelValue::Skip),
        _ if labels.is_empty() && (person.is_none() || !matches!(task, Task::Several { .. } | Task::Span { .. })) => {
            None
        }
        Task::Span { .. } => Some(LabelValue::Spans(doccano_spans(task, item, labels, field)?)),
        Task::Edit => {
            let text =
                <[String; 1]>::try_from(texts(item.get(field), field)?).ok().map(|[text]| LabelValue::Text(text));
            Some(want(text, field, "a list of one text")?)
        }
        _ => Some(LabelValue::Labels(texts(item.get(field), field)?)),
    };
    let person = person.unwrap_or_else(|| NOBODY.to_owned());
    let decided = |value| Ok((person_of(&person), decision(row_id, checked(task, value)?, item, &person)?));
    let decisions = value.into_iter().map(decided).collect::<Result<Vec<_>, String>>()?;
    Ok(Said { row_id, decisions, suggestion: None })
}

fn doccano_spans(task: &Task, item: &Value, labels: &[Value], field: &str) -> Result<Vec<Span>, String> {
    let text = want(item.get("text").or(item.get("data")).and_then(Value::as_str), "text", "the text of the spans")?;
    let whole = Whole::read(text, item.get("hone_parts"))?;
    let span = |said: &Value| {
        let said = match said.as_array().map(Vec::as_slice) {
            Some([start, end, label]) => json!({ "start_offset": start, "end_offset": end, "label": label }),
            _ => said.clone(),
        };
        let label = label_name(task, want(said.get("label").and_then(Value::as_str), "label", "a text")?)?;
        whole.span(Units::Utf16, &said, ["start_offset", "end_offset"], label)
    };
    labels.iter().enumerate().map(|(at, said)| within(&format!("{field}[{at}]"), span(said))).collect()
}
