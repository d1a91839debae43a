//! Argilla's records and settings. Never here: other tools' files.
//!
//! Spans are counted in UTF-16 code units: its window takes them from the browser's selection and shows what it is given
//! in the same way (span-selection.ts; issue 5729, closed as stale). Records that a script made of a text with such
//! characters may differ. Responses have no room for more than value, person and status (`Record.from_dict`), so that
//! remarks stand in the metadata. Its server takes persons by their UUID alone: whoever sends the records off puts those
//! there.

use super::*;

/// A question and the value that was said to it.
type Answer<'a> = (&'a str, &'a Value);

/// The question of a task.
pub(super) fn argilla_question(task: &Task) -> &'static str {
    match task {
        Task::Choice { .. } => "label",
        Task::Several { .. } => "labels",
        Task::Span { .. } => "done",
        Task::Pair { .. } => "pair",
        Task::Rank => "rank",
        Task::Rating { .. } => "rating",
        Task::Edit => "edit",
    }
}

/// Only fields that the settings have: Argilla refuses records with others.
pub(super) fn argilla_record(task: &Task, labelled: &Labelled, standing: &[&LabelRecord]) -> Result<Value, String> {
    let row = &labelled.row;
    let mut metadata = remarks(standing, true);
    metadata.insert("hone_row_id".to_owned(), row.row_id.into());
    let mut fields = Map::new();
    let shown = shown(row).into_iter().map(|(name, text)| (name.to_owned(), json!(text)));
    match task {
        Task::Span { .. } => {
            let whole = Whole::of(&row.messages);
            fields.insert("text".to_owned(), json!(whole.text));
            metadata.insert("hone_parts".to_owned(), json!(whole.parts));
        }
        Task::Pair { .. } => fields.extend(shown),
        Task::Rank => {
            fields.extend(shown.filter(|(name, _)| name == "prompt"));
            fields.extend((1..).zip(answers(row)).map(|(at, text)| (format!("answer_{at}"), json!(text))));
        }
        _ => drop(fields.insert("messages".to_owned(), json!(row.messages))),
    }
    let mut responses: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for label in standing {
        let said = &label.decision.value;
        let status = if said.is_skip() { "discarded" } else { "submitted" };
        for (question, value) in argilla_answers(task, row, said)? {
            responses
                .entry(question)
                .or_default()
                .push(json!({ "value": value, "user_id": label.person, "status": status }));
        }
    }
    let mut suggestions = Map::new();
    if let Some(said) = suggested(labelled) {
        let agent = agent(&said.by);
        if agent != said.by {
            metadata.insert("hone_by".to_owned(), json!(said.by));
        }
        for (question, mut value) in argilla_answers(task, row, &said.value)? {
            if let LabelValue::Ranks(ranks) = &said.value {
                // Its client knows a suggested order as a list of values, which has no equal places.
                let Some(order) = order(ranks) else { continue };
                value = json!(order);
            }
            suggestions.insert(question, json!({ "value": value, "score": score(said.probability), "agent": agent }));
        }
    }
    let done = standing.iter().any(|label| !label.decision.value.is_skip());
    Ok(json!({ "id": format!("row-{}", row.row_id), "fields": fields, "metadata": metadata, "suggestions": suggestions,
        "responses": responses, "vectors": {}, "status": if done { "completed" } else { "pending" } }))
}

/// A name that Argilla takes for an agent.
fn agent(by: &str) -> String {
    by.chars().map(|c| if c.is_ascii_alphanumeric() || "-_:./ ".contains(c) { c } else { '-' }).take(200).collect()
}

/// What a value says to each question.
fn argilla_answers(task: &Task, row: &Row, value: &LabelValue) -> Result<Vec<(String, Value)>, String> {
    checked(task, value.clone())?;
    let main = argilla_question(task).to_owned();
    Ok(match (task, value) {
        (_, LabelValue::Skip) => vec![(main, Value::Null)],
        (Task::Choice { .. }, LabelValue::Labels(names)) => vec![(main, json!(names.first()))],
        (_, LabelValue::Labels(names)) => vec![(main, json!(names))],
        (_, LabelValue::Spans(spans)) => {
            let whole = Whole::of(&row.messages);
            let span = |span: &Span| {
                let (start, end, _) = whole.place(Units::Utf16, span)?;
                Ok(json!({ "label": span.label, "start": start, "end": end }))
            };
            let spans = spans.iter().map(span).collect::<Result<Value, String>>()?;
            vec![("span".to_owned(), spans), (main, json!("yes"))]
        }
        (_, LabelValue::Pair { answer, reason, .. }) => {
            let reason = (!reason.is_empty()).then(|| ("reason".to_owned(), json!(reason)));
            [(main, json!(answer.word()))].into_iter().chain(reason).collect()
        }
        (_, LabelValue::Ranks(ranks)) => {
            let place = |(at, rank)| json!({ "value": format!("answer_{at}"), "rank": rank });
            vec![(main, (1..).zip(ranks).map(place).collect())]
        }
        (_, LabelValue::Points(points)) => vec![(main, json!(points))],
        (_, LabelValue::Text(text)) => vec![(main, json!(text))],
    })
}

pub(super) fn argilla_item(task: &Task, item: &Value) -> Result<Said, String> {
    let metadata = item.get("metadata").unwrap_or(&Value::Null);
    let row_id = row_id(&[metadata.get("hone_row_id"), item.get("id"), item.get("external_id")])?;
    let object = |field: &str| match item.get(field) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(value) => want(value.as_object().cloned(), field, "an object of questions, as Record.to_dict gives it"),
    };
    // What each person answered, and whether they threw the record away or are not done.
    let mut persons: Vec<(String, Vec<Answer>, &str)> = Vec::new();
    let responses = object("responses")?;
    for (question, all) in &responses {
        let place = format!("responses.{question}");
        for response in want(all.as_array(), &place, "a list")? {
            let person = match response.get("user_id").or(response.get("user")) {
                Some(Value::String(person)) => person.clone(),
                None | Some(Value::Null) => NOBODY.to_owned(),
                Some(_) => return Err(format!("{place}.user_id: it must be a text")),
            };
            let value = response.get("value").unwrap_or(&Value::Null);
            // `Record.to_dict` leaves the status out: no value was thrown away.
            let status = if value.is_null() { "discarded" } else { "submitted" };
            let status = response.get("status").and_then(Value::as_str).unwrap_or(status);
            match persons.iter_mut().find(|(known, ..)| *known == person) {
                Some((_, answers, _)) if answers.iter().any(|(known, _)| known == question) => {
                    return Err(format!("{place}: {person} answered twice; leave one answer out"));
                }
                Some((_, answers, _)) => answers.push((question, value)),
                None => persons.push((person, vec![(question, value)], status)),
            }
        }
    }
    let mut decisions = Vec::new();
    for (person, answers, status) in &persons {
        let value = match *status {
            "discarded" => Some(LabelValue::Skip),
            "draft" => None,
            _ => within("responses", argilla_value(task, item, answers))?,
        };
        let Some(value) = value else { continue };
        decisions.push((person_of(person), within("metadata", decision(row_id, value, metadata, person))?));
    }
    let suggested = object("suggestions")?;
    let read = || {
        let value = |said: &'_ Value| said.get("value").cloned().unwrap_or_default();
        let values: Vec<(&str, Value)> = suggested.iter().map(|(name, said)| (name.as_str(), value(said))).collect();
        let answers: Vec<(&str, &Value)> = values.iter().map(|(name, value)| (*name, value)).collect();
        let Some(value) = argilla_value(task, item, &answers)? else { return Ok(None) };
        let main = suggested.get(argilla_question(task)).or(suggested.values().next()).unwrap_or(&Value::Null);
        let by = main.get("agent").and_then(Value::as_str).unwrap_or(NOBODY);
        let whole = metadata.get("hone_by").and_then(Value::as_str).filter(|whole| agent(whole) == by);
        let probability = probability(main.get("score"), "score")?;
        Ok(Some(Suggestion { row_id, value, probability, by: whole.unwrap_or(by).to_owned() }))
    };
    let suggestion = within("suggestions", read())?;
    Ok(Said { row_id, decisions, suggestion })
}

/// What the answers of one person say; none when they say nothing. A question of another name is the task's when it is
/// the only one.
fn argilla_value(task: &Task, item: &Value, answers: &[Answer]) -> Result<Option<LabelValue>, String> {
    let main = argilla_question(task);
    let found = answers.iter().find(|(name, _)| *name == main);
    let (name, value) = match (task, found, answers) {
        (_, Some(found), _) | (_, None, [found]) => *found,
        (Task::Span { .. }, None, [first, ..]) => *first,
        (_, None, []) => return Ok(None),
        (_, None, [..]) => {
            let names: Vec<&str> = answers.iter().map(|(name, _)| *name).collect();
            return Err(format!("{main}: there is no question of that name; there is {}", names.join(", ")));
        }
    };
    if answers.iter().all(|(_, value)| value.is_null()) || (value.is_null() && !matches!(task, Task::Span { .. })) {
        return Ok(None);
    }
    let text = || want(value.as_str(), name, "a text").map(str::to_owned);
    let said = match task {
        Task::Choice { .. } => LabelValue::Labels(vec![text()?]),
        Task::Several { .. } => LabelValue::Labels(texts(Some(value), name)?),
        Task::Span { .. } => {
            let spans = answers.iter().map(|(name, value)| within(name, argilla_spans(task, item, name, value)));
            LabelValue::Spans(spans.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
        }
        Task::Pair { .. } => {
            let word = text()?;
            let answer = PairAnswer::ALL.iter().find(|(known, _)| *known == word).map(|(_, answer)| *answer);
            let known: Vec<&str> = PairAnswer::ALL.iter().map(|(word, _)| *word).collect();
            let answer = want(answer, name, &format!("one of {}", known.join(", ")))?;
            let reason = answers.iter().find(|(name, value)| *name == "reason" && !value.is_null());
            let reason = reason.map(|(_, value)| want(value.as_str(), "reason", "a text")).transpose()?;
            LabelValue::Pair { answer, reason: reason.unwrap_or_default().to_owned(), is_swapped: false }
        }
        Task::Rank => {
            let place = |(at, said): (u32, &Value)| match said {
                Value::String(_) => Some((said.as_str()?.to_owned(), at)),
                said => Some((said.get("value")?.as_str()?.to_owned(), said.get("rank")?.as_u64()?.try_into().ok()?)),
            };
            let places = value.as_array().and_then(|all| (1..).zip(all).map(place).collect::<Option<Vec<_>>>());
            let places = want(places, name, "a list of answers, or of value and rank")?;
            ranks(&places.iter().map(|(name, place)| (name.as_str(), *place)).collect::<Vec<_>>(), name)?
        }
        Task::Rating { .. } => points(Some(value), name)?,
        Task::Edit => LabelValue::Text(text()?),
    };
    checked(task, said).map(Some)
}

/// The spans of one question. That of `done` has none.
fn argilla_spans(task: &Task, item: &Value, name: &str, value: &Value) -> Result<Vec<Span>, String> {
    if value.is_null() || name == argilla_question(task) && value.is_string() {
        return Ok(Vec::new());
    }
    let text = item.get("fields").and_then(|fields| fields.get("text")).and_then(Value::as_str);
    let text = want(text, "fields", "an object with the text that spans are of, as text")?;
    let whole = Whole::read(text, item.get("metadata").and_then(|metadata| metadata.get("hone_parts")))?;
    let mut spans = Vec::new();
    for said in want(value.as_array(), "value", "a list of spans")? {
        let label = label_name(task, want(said.get("label").and_then(Value::as_str), "label", "a text")?)?;
        spans.push(whole.span(Units::Utf16, said, ["start", "end"], label)?);
    }
    Ok(spans)
}

pub(super) fn argilla_settings(project: &ProjectView) -> Value {
    let spec = &project.record.spec;
    let labels = |labels: &[LabelName]| -> Value {
        labels.iter().map(|label| json!({ "value": label.name, "text": label.shown() })).collect()
    };
    let words = |all: &[(&str, &str)]| -> Value {
        all.iter().map(|(value, text)| json!({ "value": value, "text": text })).collect()
    };
    let title = question(project);
    let ask = |name: &str, title: &str, required: bool, settings: Value| {
        json!({ "name": name, "title": title, "description": null, "required": required,
            "settings": settings })
    };
    let main = argilla_question(&spec.task);
    let chosen = |kind: &str, options: Value| ask(main, title, true, json!({ "type": kind, "options": options }));
    let questions = match &spec.task {
        Task::Choice { labels: all } => vec![chosen("label_selection", labels(all))],
        Task::Several { labels: all } => vec![chosen("multi_label_selection", labels(all))],
        Task::Span { labels: all } => {
            let settings =
                json!({ "type": "span", "field": "text", "options": labels(all), "allow_overlapping": true });
            let span = ask("span", title, false, settings);
            // A row without any span can only be sent off by a question that has an answer.
            let done = words(&[("yes", "All parts are marked"), ("no", "Not sure")]);
            let done = ask(main, "Done?", true, json!({ "type": "label_selection", "options": done }));
            vec![span, done]
        }
        Task::Pair { reasons } => {
            let titles =
                ["The first, by far", "The first", "Both are equally good", "The second", "The second, by far"];
            let titles = titles.into_iter().chain(["Neither is good enough"]);
            let all: Vec<(&str, &str)> = PairAnswer::ALL.iter().map(|(word, _)| *word).zip(titles).collect();
            let mut questions = vec![chosen("label_selection", words(&all))];
            // A label question has two options or more.
            if let [reason] = reasons.as_slice() {
                let options = words(&[(reason, reason), ("another", "Another reason")]);
                questions.push(ask("reason", "Why?", false, json!({ "type": "label_selection", "options": options })));
            } else if !reasons.is_empty() {
                let options = words(&reasons.iter().map(|r| (r.as_str(), r.as_str())).collect::<Vec<_>>());
                questions.push(ask("reason", "Why?", false, json!({ "type": "label_selection", "options": options })));
            }
            questions
        }
        // All options must have a place: these are the two of a pair. Rows of more answers need more options here.
        Task::Rank => vec![chosen("ranking", words(&[("answer_1", "Answer 1"), ("answer_2", "Answer 2")]))],
        Task::Rating { scale } => vec![chosen("rating", (1..=*scale).map(|value| json!({ "value": value })).collect())],
        Task::Edit => vec![ask(main, title, true, json!({ "type": "text", "use_markdown": false }))],
    };
    let field = |name: String, required: bool, kind: &str| {
        let settings = json!({ "type": kind, "use_markdown": false });
        json!({ "name": name, "title": name, "required": required, "settings": settings })
    };
    let fields: Vec<Value> = match spec.task {
        Task::Span { .. } => vec![field("text".to_owned(), true, "text")],
        Task::Pair { .. } => ["prompt", "chosen", "rejected"].map(|name| field(name.to_owned(), true, "text")).to_vec(),
        Task::Rank => {
            let answers = (1..=PLACES).map(|at| field(format!("answer_{at}"), at < 3, "text"));
            [field("prompt".to_owned(), false, "text")].into_iter().chain(answers).collect()
        }
        _ => vec![field("messages".to_owned(), true, "chat")],
    };
    let metadata = json!([{ "name": "hone_row_id", "title": "Row", "settings": { "type": "integer" },
        "visible_for_annotators": true }]);
    let guide = Some(&spec.guide).filter(|guide| !guide.trim().is_empty());
    json!({ "guidelines": guide, "questions": questions, "fields": fields, "vectors": [], "metadata": metadata,
        "allow_extra_metadata": true, "distribution": { "strategy": "overlap", "min_submitted": spec.persons.max(1) },
        "mapping": null })
}
