//! Label Studio's tasks and its labelling interface. Never here: other tools' files.
//!
//! It counts code points: `charsToCodePoints` and `findGlobalOffset` of its editor's selection-tools.js, since pull
//! request 308 of label-studio-frontend. Files of before (issue 1008) have UTF-16 code units, which the `text` beside
//! the places gives away. Of imported annotations it knows `completed_by` only as a member's number or e-mail and
//! refuses the file for any other (tasks/serializers.py), so that persons are written beside it. What does not say
//! `ground_truth` it takes for the truth. Names and values of predictions must be in the labelling interface, or it
//! refuses the file.

use super::*;

pub(super) fn studio_task(task: &Task, labelled: &Labelled, standing: &[&LabelRecord]) -> Result<Value, String> {
    let row = &labelled.row;
    let mut data = Map::new();
    data.insert("hone_row_id".to_owned(), row.row_id.into());
    let shown = shown(row);
    if let (Task::Edit, [("text", text)]) = (task, shown.as_slice()) {
        data.insert("answer".to_owned(), json!(text));
    }
    data.extend(shown.into_iter().map(|(name, text)| (name.to_owned(), json!(text))));
    data.insert("messages".to_owned(), json!(row.messages));
    match task {
        Task::Rank => {
            let answer =
                |(at, body)| json!({ "id": format!("answer_{at}"), "title": format!("Answer {at}"), "body": body });
            data.insert("answers".to_owned(), (1..).zip(answers(row)).map(answer).collect());
        }
        Task::Span { .. } => {
            let whole = Whole::of(&row.messages);
            data.insert("text".to_owned(), json!(whole.text));
            data.insert("hone_parts".to_owned(), json!(whole.parts));
        }
        _ => {}
    }
    let mut meta = remarks(standing, false);
    meta.insert("hone_row_id".to_owned(), row.row_id.into());
    let annotation = |label: &&LabelRecord| {
        let said = &label.decision;
        Ok(json!({
            "hone_person": label.person,
            "was_cancelled": said.value.is_skip(),
            "ground_truth": said.how == How::Final,
            "lead_time": said.spent_ms as f64 / 1000.0,
            "result": studio_result(task, row, &said.value, "better")?,
        }))
    };
    let annotations = standing.iter().map(annotation).collect::<Result<Vec<_>, String>>()?;
    let prediction = |said: &Suggestion| {
        let result = studio_result(task, row, &said.value, "first")?;
        Ok(json!({ "model_version": said.by, "score": score(said.probability), "result": result }))
    };
    let predictions = suggested(labelled).into_iter().map(prediction).collect::<Result<Vec<_>, String>>()?;
    Ok(json!({ "id": row.row_id, "data": data, "meta": meta, "annotations": annotations, "predictions": predictions }))
}

/// What a value says. `object` is what the side of a pair is of: the editor calls it as the control, the check of
/// predictions (`LabelInterface.validate_prediction`) wants one of the two texts.
fn studio_result(task: &Task, row: &Row, value: &LabelValue, object: &str) -> Result<Vec<Value>, String> {
    let mut results: Vec<Value> = Vec::new();
    let mut add = |from: &str, to: &str, kind: &str, value: Value| {
        let id = format!("hone-{}-{}", row.row_id, results.len());
        results.push(json!({ "id": id, "from_name": from, "to_name": to, "type": kind, "value": value }));
    };
    match value {
        LabelValue::Skip => {}
        LabelValue::Labels(names) if names.is_empty() => {}
        LabelValue::Labels(names) => add("label", "messages", "choices", json!({ "choices": names })),
        LabelValue::Spans(spans) => {
            let whole = Whole::of(&row.messages);
            for span in spans {
                let (start, end, text) = whole.place(Units::Scalars, span)?;
                let value = json!({ "start": start, "end": end, "text": text, "labels": [span.label] });
                add("label", "text", "labels", value);
            }
        }
        LabelValue::Pair { answer, reason, .. } => {
            let (side, degree) = match answer {
                PairAnswer::FirstMuch => (Some("left"), Some("much")),
                PairAnswer::First => (Some("left"), None),
                PairAnswer::Same => (None, Some("same")),
                PairAnswer::Second => (Some("right"), None),
                PairAnswer::SecondMuch => (Some("right"), Some("much")),
                PairAnswer::BothBad => (None, Some("both_bad")),
            };
            if let Some(side) = side {
                add("better", object, "pairwise", json!({ "selected": side }));
            }
            let reason = Some(reason.as_str()).filter(|reason| !reason.is_empty());
            for (from, choice) in [("degree", degree), ("reason", reason)] {
                if let Some(choice) = choice {
                    add(from, "prompt", "choices", json!({ "choices": [choice] }));
                }
            }
        }
        LabelValue::Ranks(ranks) => {
            let mut buckets: BTreeMap<u32, Vec<String>> = BTreeMap::new();
            for (at, place) in (1..).zip(ranks) {
                buckets.entry(*place).or_default().push(format!("answer_{at}"));
            }
            if ranks.len() > PLACES as usize {
                return Err(format!("label-studio's interface has {PLACES} places, the row {} answers", ranks.len()));
            }
            add("rank", "answers", "ranker", json!({ "ranker": buckets }));
        }
        LabelValue::Points(points) => add("rating", "messages", "rating", json!({ "rating": points })),
        LabelValue::Text(text) => add("edit", "messages", "textarea", json!({ "text": [text] })),
    }
    checked(task, value.clone()).map(|_| results)
}

pub(super) fn studio_item(task: &Task, item: &Value) -> Result<Said, String> {
    let data = want(item.get("data").filter(|data| data.is_object()), "data", "an object")?;
    let meta = item.get("meta").unwrap_or(&Value::Null);
    let row_id = row_id(&[data.get("hone_row_id"), meta.get("hone_row_id"), item.get("id")])?;
    // A person can annotate a task again: what was touched last stands.
    let mut annotations: Vec<(usize, &Value)> = list(item, "annotations")?.iter().enumerate().collect();
    annotations.sort_by_key(|(_, annotation)| annotation.get("updated_at").and_then(Value::as_str).unwrap_or_default());
    let mut decided: BTreeMap<String, Decision> = BTreeMap::new();
    for (at, annotation) in annotations {
        let read = || studio_annotation(task, row_id, data, meta, annotation);
        let Some((person, decision)) = within(&format!("annotations[{at}]"), read())? else { continue };
        decided.insert(person, decision);
    }
    let decisions = decided.into_iter().map(|(person, decision)| (person_of(&person), decision)).collect();
    let mut suggestion = None;
    for (at, said) in list(item, "predictions")?.iter().enumerate() {
        let read = || {
            let Some(value) = studio_value(task, data, list(said, "result")?)? else { return Ok(None) };
            let by = said.get("model_version").and_then(Value::as_str).filter(|by| !by.is_empty()).unwrap_or(NOBODY);
            let probability = probability(said.get("score"), "score")?;
            Ok(Some(Suggestion { row_id, value, probability, by: by.to_owned() }))
        };
        suggestion = within(&format!("predictions[{at}]"), read())?.or(suggestion);
    }
    Ok(Said { row_id, decisions, suggestion })
}

/// What an annotation says; none when it says nothing.
fn studio_annotation(
    task: &Task,
    row_id: u64,
    data: &Value,
    meta: &Value,
    annotation: &Value,
) -> Result<Option<(String, Decision)>, String> {
    let person = match annotation.get("completed_by").filter(|by| !by.is_null()) {
        Some(Value::Number(number)) => format!("user-{number}"),
        Some(Value::String(name)) => name.clone(),
        Some(by) => {
            let name =
                ["email", "username", "id"].iter().find_map(|field| by.get(field).filter(|name| !name.is_null()));
            let name = name.and_then(|name| match name {
                Value::String(name) => Some(name.clone()),
                number => number.as_u64().map(|number| format!("user-{number}")),
            });
            want(name, "completed_by", "a number, or an object with email, username or id")?
        }
        None => annotation.get("hone_person").and_then(Value::as_str).unwrap_or(NOBODY).to_owned(),
    };
    let skipped = match annotation.get("was_cancelled") {
        None | Some(Value::Null) => false,
        Some(skipped) => want(skipped.as_bool(), "was_cancelled", "true or false")?,
    };
    let value = match skipped {
        true => LabelValue::Skip,
        false => match studio_value(task, data, list(annotation, "result")?)? {
            Some(value) => value,
            None => return Ok(None),
        },
    };
    let mut decision = decision(row_id, value, meta, &person)?;
    if let Some(seconds) = annotation.get("lead_time").filter(|time| !time.is_null()) {
        let seconds = seconds.as_f64().filter(|seconds| (0.0..=SECONDS_MAX).contains(seconds));
        decision.spent_ms = (want(seconds, "lead_time", "a number of seconds")? * 1000.0).round() as u64;
    }
    Ok(Some((person, decision)))
}

fn studio_value(task: &Task, data: &Value, results: &[Value]) -> Result<Option<LabelValue>, String> {
    let (mut names, mut spans, mut one) = (Vec::new(), Vec::new(), None);
    let (mut side, mut degree, mut reason) = (None, None, String::new());
    for (at, result) in results.iter().enumerate() {
        let value = result.get("value").unwrap_or(&Value::Null);
        let choice = || texts(value.get("choices"), "value.choices").map(|names| names.into_iter().next());
        let mut read = || {
            let kind = want(result.get("type").and_then(Value::as_str), "type", "a text")?;
            match (task, kind, result.get("from_name").and_then(Value::as_str)) {
                (Task::Choice { .. } | Task::Several { .. }, "choices", _) => {
                    names.extend(texts(value.get("choices"), "value.choices")?);
                }
                (Task::Span { .. }, "labels", _) => spans.extend(studio_spans(task, data, result, value)?),
                (Task::Span { .. }, kind, _) if kind.ends_with("labels") => {
                    return Err(format!("type: {kind} has no place in a text; label with <Labels> over <Text>"));
                }
                (Task::Pair { .. }, "pairwise", _) => {
                    side =
                        Some(want(value.get("selected").and_then(Value::as_str), "value.selected", "left or right")?);
                }
                (Task::Pair { .. }, "choices", Some("degree")) => degree = choice()?,
                (Task::Pair { .. }, "choices", Some("reason")) => reason = choice()?.unwrap_or_default(),
                (Task::Rank, "ranker", _) => one = Some(studio_ranks(value)?),
                (Task::Rating { .. }, "rating", _) => one = Some(points(value.get("rating"), "value.rating")?),
                (Task::Edit, "textarea", _) => {
                    let all = texts(value.get("text"), "value.text")?;
                    let text = <[String; 1]>::try_from(all).ok().map(|[text]| LabelValue::Text(text));
                    one = Some(want(text, "value.text", "one text")?);
                }
                _ => {}
            }
            Ok(())
        };
        within(&format!("result[{at}]"), read())?;
    }
    let answer = match (side, degree.as_deref()) {
        (None, None) => None,
        (Some("left"), None) => Some(PairAnswer::First),
        (Some("left"), Some("much")) => Some(PairAnswer::FirstMuch),
        (Some("right"), None) => Some(PairAnswer::Second),
        (Some("right"), Some("much")) => Some(PairAnswer::SecondMuch),
        (None, Some("same")) => Some(PairAnswer::Same),
        (None, Some("both_bad")) => Some(PairAnswer::BothBad),
        (side, degree) => {
            let (side, degree) = (side.unwrap_or("neither"), degree.unwrap_or("nothing"));
            return Err(format!("result: {side} is selected and {degree} is chosen, which cannot both be"));
        }
    };
    let value = match task {
        Task::Choice { .. } if names.is_empty() => None,
        Task::Choice { .. } | Task::Several { .. } => Some(LabelValue::Labels(names)),
        Task::Span { .. } => Some(LabelValue::Spans(spans)),
        Task::Pair { .. } => answer.map(|answer| LabelValue::Pair { answer, reason, is_swapped: false }),
        Task::Rank | Task::Rating { .. } | Task::Edit => one,
    };
    value.map(|value| within("result", checked(task, value))).transpose()
}

/// The spans of a region: one for each of its labels.
fn studio_spans(task: &Task, data: &Value, result: &Value, value: &Value) -> Result<Vec<Span>, String> {
    let name = want(result.get("to_name").and_then(Value::as_str), "to_name", "a text")?;
    let text = data.get(name).or(data.get("text")).and_then(Value::as_str);
    let text = want(text, "to_name", &format!("the name of a text of the data, which has no {name}"))?;
    let whole = Whole::read(text, data.get("hone_parts"))?;
    let read = |units| whole.span(units, value, ["start", "end"], String::new());
    let mut place = read(Units::Scalars);
    if let Some(said) = value.get("text").and_then(Value::as_str) {
        let says = |span: &Span| whole.place(Units::Scalars, span).is_ok_and(|(.., text)| text == said);
        if !place.as_ref().is_ok_and(says) {
            place = read(Units::Utf16).ok().filter(says).map_or(place, Ok);
        }
    }
    let place = within("value", place)?;
    let labels = texts(value.get("labels"), "value.labels")?;
    labels.iter().map(|label| Ok(Span { label: label_name(task, label)?, ..place.clone() })).collect()
}

/// Buckets that are called by their place, or one list with the best first.
fn studio_ranks(value: &Value) -> Result<LabelValue, String> {
    let field = "value.ranker";
    let buckets = want(value.get("ranker").and_then(Value::as_object), field, "an object of lists")?;
    let mut places = Vec::new();
    for (name, ids) in buckets {
        let ids = want(ids.as_array(), field, "an object of lists")?;
        for (at, id) in (1..).zip(ids) {
            let place = match name.parse().ok() {
                None if buckets.len() == 1 && name != "_" => Some(at),
                place => place,
            };
            let what = format!("buckets 1 to {PLACES}, or one list; {name:?} holds answers without a place");
            places.push((want(id.as_str(), field, "lists of texts")?, want(place, field, &what)?));
        }
    }
    ranks(&places, field)
}

/// A text inside of an attribute.
fn attribute(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    text.replace(['\n', '\r', '\t'], " ")
}

pub(super) fn studio_interface(project: &ProjectView) -> String {
    let task = &project.record.spec.task;
    // Of titles the name is the alias: results hold names.
    let options = |tag: &str, labels: &[LabelName]| {
        let option = |(at, label): (usize, &LabelName)| {
            let key = if at < 9 { format!(" hotkey=\"{}\"", at + 1) } else { String::new() };
            format!("<{tag} value=\"{}\" alias=\"{}\"{key}/>", attribute(label.shown()), label.name)
        };
        labels.iter().enumerate().map(option).collect::<String>()
    };
    let messages =
        "<Paragraphs name=\"messages\" value=\"$messages\" nameKey=\"role\" textKey=\"content\" layout=\"dialogue\"/>";
    let body = match task {
        Task::Choice { labels } => format!(
            "{messages}<Choices name=\"label\" toName=\"messages\" choice=\"single\" required=\"true\">{}</Choices>",
            options("Choice", labels)
        ),
        Task::Several { labels } => format!(
            "{messages}<Choices name=\"label\" toName=\"messages\" choice=\"multiple\">{}</Choices>",
            options("Choice", labels)
        ),
        Task::Span { labels } => format!(
            "<Labels name=\"label\" toName=\"text\">{}</Labels><Text name=\"text\" value=\"$text\"/>",
            options("Label", labels)
        ),
        Task::Pair { reasons } => {
            let reason: String = reasons.iter().map(|r| format!("<Choice value=\"{}\"/>", attribute(r))).collect();
            let reasons = format!("<Choices name=\"reason\" toName=\"prompt\" choice=\"single\">{reason}</Choices>");
            format!(
                "<Text name=\"prompt\" value=\"$prompt\"/><Pairwise name=\"better\" toName=\"first,second\"/>\
                 <Text name=\"first\" value=\"$chosen\"/><Text name=\"second\" value=\"$rejected\"/>\
                 <Choices name=\"degree\" toName=\"prompt\" choice=\"single\">\
                 <Choice value=\"Much better\" alias=\"much\"/><Choice value=\"Equally good\" alias=\"same\"/>\
                 <Choice value=\"Neither is good\" alias=\"both_bad\"/></Choices>{}",
                if reason.is_empty() { "" } else { reasons.as_str() }
            )
        }
        Task::Rank => {
            let buckets: String =
                (1..=PLACES).map(|place| format!("<Bucket name=\"{place}\" title=\"{place}\"/>")).collect();
            format!(
                "<Text name=\"prompt\" value=\"$prompt\"/><List name=\"answers\" value=\"$answers\" title=\"Answers\"/>\
                 <Ranker name=\"rank\" toName=\"answers\">{buckets}</Ranker>"
            )
        }
        Task::Rating { scale } => {
            format!("{messages}<Rating name=\"rating\" toName=\"messages\" maxRating=\"{scale}\" required=\"true\"/>")
        }
        Task::Edit => format!(
            "{messages}<TextArea name=\"edit\" toName=\"messages\" value=\"$answer\" rows=\"8\" editable=\"true\" \
             maxSubmissions=\"1\" required=\"true\"/>"
        ),
    };
    format!("<View><Header value=\"{}\"/>{body}</View>\n", attribute(question(project)))
}
