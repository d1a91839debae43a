//! Labels out to and in from the files of other labelling tools: Label Studio's tasks, Argilla's records, doccano's
//! lines, and hone's own lines. A decision that a format cannot say is refused, never bent. Never here: asking the
//! daemon, opening files.

use std::collections::{BTreeMap, HashSet};

use hone_protocol::dataset::{CHOSEN, ChatMessage, EXPECTED, REJECTED, Row, Shape};
use hone_protocol::labelling::{
    Decision, EDIT_BYTES_MAX, How, LabelName, LabelRecord, LabelValue, PairAnswer, ProjectView, REMARK_BYTES_MAX,
    SPANS_MAX, Span, Suggestion, Task,
};
use hone_protocol::paths::is_name;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

mod argilla;
mod doccano;
mod lines;
mod studio;
#[cfg(test)]
mod tests;

use argilla::{argilla_item, argilla_record, argilla_settings};
use doccano::{doccano_item, doccano_lines};
use lines::{hone_item, hone_line};
use studio::{studio_interface, studio_item, studio_task};

/// Who decided where a file does not say.
const NOBODY: &str = "imported";
/// Places that Label Studio's interface has for answers, and answers that Argilla's has.
const PLACES: u32 = 9;
/// Longest time over a row in seconds; a file that says more is broken.
const SECONDS_MAX: f64 = 1e9;

/// A format of label files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LabelFormat {
    /// A line of JSON for each row, with nothing left out.
    Hone,
    /// A list of Label Studio's tasks.
    LabelStudio,
    /// A list of Argilla's records, as its `to_json` writes them.
    Argilla,
    /// doccano's JSONL: a line for each decision, and one for each row without any.
    Doccano,
}

/// A row with all that was said of it.
#[derive(Debug, Clone)]
pub(super) struct Labelled {
    /// The row.
    pub row: Row,
    /// What was decided, in any order.
    pub labels: Vec<LabelRecord>,
    /// What was suggested.
    pub suggestion: Option<Suggestion>,
}

/// A decision as a file has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Read {
    /// The row, which the decision names too.
    pub row_id: u64,
    /// Who decided, as a name that hone takes.
    pub person: String,
    /// What.
    pub decision: Decision,
}

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct FileLabels {
    /// Decisions, rows in the order of the file, at most one of each person on each row.
    pub decisions: Vec<Read>,
    /// Suggestions, at most one for each row.
    pub suggestions: Vec<Suggestion>,
    /// Items without any decision.
    pub without: u64,
}

/// What one item of a file says.
struct Said {
    row_id: u64,
    decisions: Vec<(String, Decision)>,
    suggestion: Option<Suggestion>,
}

/// What a tool counts the places of a text in. hone counts Unicode scalar values.
#[derive(Clone, Copy, PartialEq)]
enum Units {
    Scalars,
    /// UTF-16 code units, as a browser's strings do.
    Utf16,
}

impl LabelFormat {
    /// All formats.
    pub(super) const ALL: [LabelFormat; 4] =
        [LabelFormat::Hone, LabelFormat::LabelStudio, LabelFormat::Argilla, LabelFormat::Doccano];

    /// The word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            LabelFormat::Hone => "hone",
            LabelFormat::LabelStudio => "label-studio",
            LabelFormat::Argilla => "argilla",
            LabelFormat::Doccano => "doccano",
        }
    }

    fn is_list(self) -> bool {
        matches!(self, LabelFormat::LabelStudio | LabelFormat::Argilla)
    }

    /// Refuses a task that the format has no place for.
    fn hold(self, task: &Task) -> Result<(), String> {
        let without = matches!(task, Task::Pair { .. } | Task::Rank | Task::Rating { .. });
        if self != LabelFormat::Doccano || !without {
            return Ok(());
        }
        Err(format!("doccano has no place for a task of kind {}; hone, label-studio and argilla have", task.word()))
    }
}

/// What stands before the first page of a file.
pub(super) fn begin(format: LabelFormat) -> &'static str {
    if format.is_list() { "[\n" } else { "" }
}

/// What stands between two pages. Pages of no rows are left out.
pub(super) fn joiner(format: LabelFormat) -> &'static str {
    if format.is_list() { ",\n" } else { "\n" }
}

/// What stands behind the last page.
pub(super) fn end(format: LabelFormat) -> &'static str {
    if format.is_list() { "\n]\n" } else { "\n" }
}

/// A page of rows. A whole file is [`begin`], its pages with [`joiner`] between them, [`end`].
pub(super) fn write(format: LabelFormat, project: &ProjectView, rows: &[Labelled]) -> Result<String, String> {
    let task = &project.record.spec.task;
    format.hold(task)?;
    let mut items = Vec::with_capacity(rows.len());
    for labelled in rows {
        let standing = standing(&labelled.labels);
        let written = match format {
            LabelFormat::Hone => Ok(vec![hone_line(labelled, &standing)]),
            LabelFormat::LabelStudio => studio_task(task, labelled, &standing).map(|task| vec![task]),
            LabelFormat::Argilla => argilla_record(task, labelled, &standing).map(|record| vec![record]),
            LabelFormat::Doccano => doccano_lines(task, labelled, &standing),
        };
        items.extend(written.map_err(|message| format!("row {}: {message}", labelled.row.row_id))?);
    }
    Ok(items.iter().map(Value::to_string).collect::<Vec<_>>().join(joiner(format)))
}

/// What a file says. Rows are not looked at: whether a row is there, and has so many answers, is the daemon's to say.
pub(super) fn read(format: LabelFormat, task: &Task, text: &str) -> Result<FileLabels, String> {
    format.hold(task)?;
    let mut found = FileLabels::default();
    let (mut rows, mut decided) = (HashSet::new(), HashSet::new());
    for (place, piece) in pieces(text)? {
        let fault = |message: String| format!("{place}: {message}");
        let item: Value = serde_json::from_str(piece).map_err(|error| fault(no_json(&error)))?;
        if !item.is_object() {
            return Err(fault("it must be an object".to_owned()));
        }
        let said = match format {
            LabelFormat::Hone => hone_item(task, &item),
            LabelFormat::LabelStudio => studio_item(task, &item),
            LabelFormat::Argilla => argilla_item(task, &item),
            LabelFormat::Doccano => doccano_item(task, &item),
        };
        let said = said.map_err(fault)?;
        // doccano has a line for each person.
        if !rows.insert(said.row_id) && format != LabelFormat::Doccano {
            return Err(fault(format!("id: row {} is there twice; leave one of them out", said.row_id)));
        }
        found.without += u64::from(said.decisions.is_empty());
        for (person, decision) in said.decisions {
            if !decided.insert((said.row_id, person.clone())) {
                let message = format!("person: {person} decided row {} twice; leave one decision out", said.row_id);
                return Err(fault(message));
            }
            found.decisions.push(Read { row_id: said.row_id, person, decision });
        }
        found.suggestions.extend(said.suggestion);
    }
    Ok(found)
}

/// What sets the tool up for the task: Label Studio's labelling interface as XML, Argilla's settings as JSON. None for
/// other formats.
pub(super) fn config(format: LabelFormat, project: &ProjectView) -> Option<String> {
    match format {
        LabelFormat::LabelStudio => Some(studio_interface(project)),
        LabelFormat::Argilla => Some(argilla_settings(project).to_string()),
        LabelFormat::Hone | LabelFormat::Doccano => None,
    }
}

/// The items of a file, each with its place in words: the values of a list, or lines.
fn pieces(text: &str) -> Result<Vec<(String, &str)>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err("the file is empty".to_owned());
    }
    if text.trim_start().starts_with('[') {
        let items: Vec<&RawValue> =
            serde_json::from_str(text).map_err(|error| format!("line {}: {}", error.line(), no_json(&error)))?;
        return Ok(items.iter().enumerate().map(|(at, item)| (format!("item {}", at + 1), item.get())).collect());
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    Ok(lines.map(|(at, line)| (format!("line {}", at + 1), line)).collect())
}

fn no_json(error: &serde_json::Error) -> String {
    let message = error.to_string();
    format!("column {}: it is no JSON: {}", error.column(), message.split(" at line ").next().unwrap_or_default())
}

/// Of each person the newest decision that was not taken back. Repeats measure the person and are no answer.
fn standing(labels: &[LabelRecord]) -> Vec<&LabelRecord> {
    let mut newest: BTreeMap<&str, &LabelRecord> = BTreeMap::new();
    for label in labels.iter().filter(|label| label.taken_back_at_ms.is_none() && !label.is_repeat) {
        let known = newest.entry(&label.person).or_insert(label);
        if known.seq < label.seq {
            *known = label;
        }
    }
    let mut standing: Vec<&LabelRecord> = newest.into_values().collect();
    standing.sort_by_key(|label| label.seq);
    standing
}

/// What a field must be.
fn want<T>(value: Option<T>, field: &str, what: &str) -> Result<T, String> {
    value.ok_or_else(|| format!("{field}: it must be {what}"))
}

fn within<T>(place: &str, result: Result<T, String>) -> Result<T, String> {
    result.map_err(|message| format!("{place}.{message}"))
}

/// A list, empty where there is none.
fn list<'a>(value: &'a Value, field: &str) -> Result<&'a [Value], String> {
    match value.get(field) {
        None | Some(Value::Null) => Ok(&[]),
        Some(value) => want(value.as_array().map(Vec::as_slice), field, "a list"),
    }
}

/// A list of texts.
fn texts(value: Option<&Value>, field: &str) -> Result<Vec<String>, String> {
    let texts = value
        .and_then(Value::as_array)
        .and_then(|list| list.iter().map(|text| text.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>());
    want(texts, field, "a list of texts")
}

/// The row of an id: a number, `7` or `row-7`.
fn row_id(ids: &[Option<&Value>]) -> Result<u64, String> {
    let id = ids.iter().flatten().find(|id| !id.is_null());
    let row_id = id.and_then(|id| match id {
        Value::String(text) => {
            let digits = text.strip_prefix("row-").unwrap_or(text);
            digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))
        }
        other => other.as_u64(),
    });
    want(row_id, "id", "the number of a row, as 7 or \"row-7\", here or as hone_row_id")
}

/// A name that hone takes.
fn person_of(text: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c.to_ascii_lowercase() } else { '-' };
    let name: String = text.trim().chars().map(fits).take(64).collect();
    let name = name.trim_start_matches(['.', '_', '-']);
    if is_name(name) { name.to_owned() } else { NOBODY.to_owned() }
}

fn probability(value: Option<&Value>, field: &str) -> Result<Option<f32>, String> {
    let sure = |value: &Value| value.as_f64().filter(|sure| (0.0..=1.0).contains(sure)).map(|sure| sure as f32);
    let must = "between 0 and 1, or not there";
    match value {
        None | Some(Value::Null) => Ok(None),
        // Argilla has a score for each label: all of them are as sure as the least.
        Some(Value::Array(scores)) => {
            let scores = want(scores.iter().map(sure).collect::<Option<Vec<f32>>>(), field, must)?;
            Ok(scores.into_iter().reduce(f32::min))
        }
        Some(value) => want(sure(value), field, must).map(Some),
    }
}

/// As short as it is in words: 0.9 is not 0.8999999761581421.
fn score(probability: Option<f32>) -> Option<f64> {
    probability.and_then(|sure| sure.to_string().parse().ok())
}

/// Notes, flags and times by person, for formats that have no place for them.
fn remarks(standing: &[&LabelRecord], time: bool) -> Map<String, Value> {
    let of = |get: fn(&Decision) -> Value| -> Map<String, Value> {
        let said = standing.iter().map(|label| (label.person.clone(), get(&label.decision)));
        said.filter(|(_, value)| *value != json!("") && *value != json!(0)).collect()
    };
    let mut fields = Map::new();
    fields.insert("hone_note".to_owned(), of(|decision| json!(decision.note)).into());
    fields.insert("hone_flag".to_owned(), of(|decision| json!(decision.flag)).into());
    if time {
        fields.insert("hone_spent_ms".to_owned(), of(|decision| json!(decision.spent_ms)).into());
    }
    fields.retain(|_, said| said.as_object().is_some_and(|said| !said.is_empty()));
    fields
}

/// A decision with the remarks that stand for a person in `place`, by person or for everybody.
fn decision(row_id: u64, value: LabelValue, place: &Value, person: &str) -> Result<Decision, String> {
    let said = |field: &str| match place.get(field) {
        Some(Value::Object(persons)) => persons.get(person),
        other => other,
    };
    let text = |field: &str| match said(field) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(value) => {
            let text = value.as_str().filter(|text| text.len() <= REMARK_BYTES_MAX).map(str::to_owned);
            want(text, field, &format!("a text of at most {REMARK_BYTES_MAX} bytes"))
        }
    };
    let spent_ms = match said("hone_spent_ms") {
        None | Some(Value::Null) => 0,
        Some(value) => want(value.as_u64(), "hone_spent_ms", "a number of milliseconds")?,
    };
    Ok(Decision { row_id, value, flag: text("hone_flag")?, note: text("hone_note")?, spent_ms, how: How::Imported })
}

/// The name of a label, which a file may also call by its title.
fn label_name(task: &Task, text: &str) -> Result<String, String> {
    let label = task.label(text).or_else(|| task.labels().iter().find(|label| label.shown() == text));
    label.map(|label| label.name.clone()).ok_or_else(|| {
        let names: Vec<&str> = task.labels().iter().map(|label| label.name.as_str()).collect();
        format!("label: {text:?} is no label of the project; there is {}", names.join(", "))
    })
}

/// The value, when it answers the task.
fn checked(task: &Task, value: LabelValue) -> Result<LabelValue, String> {
    let fault = |message: String| Err(format!("value: {message}"));
    match (task, &value) {
        (_, LabelValue::Skip) => {}
        (Task::Choice { .. }, LabelValue::Labels(names)) if names.len() != 1 => {
            return fault(format!("{} labels were chosen; a choice is one", names.len()));
        }
        (Task::Choice { .. } | Task::Several { .. }, LabelValue::Labels(names)) => {
            let names = names.iter().map(|name| label_name(task, name)).collect::<Result<_, _>>()?;
            return Ok(LabelValue::Labels(names));
        }
        (Task::Span { .. }, LabelValue::Spans(spans)) if spans.len() > SPANS_MAX => {
            return fault(format!("{} spans; at most {SPANS_MAX} are kept", spans.len()));
        }
        (Task::Span { .. }, LabelValue::Spans(spans)) => {
            spans.iter().try_for_each(|span| label_name(task, &span.label).map(drop))?;
            if spans.iter().any(|span| span.start >= span.end) {
                return fault("a span is empty".to_owned());
            }
        }
        (Task::Pair { reasons }, LabelValue::Pair { reason, .. }) => {
            if !reason.is_empty() && !reasons.contains(reason) {
                return fault(format!("{reason:?} is no reason of the project"));
            }
        }
        (Task::Rank, LabelValue::Ranks(ranks)) => {
            if ranks.len() < 2 || ranks.iter().any(|place| *place == 0 || *place as usize > ranks.len()) {
                return fault("places must be of two answers or more, from 1 to the number of answers".to_owned());
            }
        }
        (Task::Rating { scale }, LabelValue::Points(points)) => {
            if !(1..=*scale).contains(points) {
                return fault(format!("{points} points; it must be 1 to {scale}"));
            }
        }
        (Task::Edit, LabelValue::Text(text)) => {
            if text.trim().is_empty() || text.len() > EDIT_BYTES_MAX {
                return fault(format!("the text must have 1 to {EDIT_BYTES_MAX} bytes"));
            }
        }
        (task, _) => return fault(format!("this is no answer to a task of kind {}", task.word())),
    }
    Ok(value)
}

/// Points as a file has them.
fn points(value: Option<&Value>, field: &str) -> Result<LabelValue, String> {
    let points = value.and_then(Value::as_u64).and_then(|points| u32::try_from(points).ok());
    want(points.map(LabelValue::Points), field, "a whole number of points")
}

/// Places of answers that are called `answer_1`, `answer_2`…
fn ranks(places: &[(&str, u32)], field: &str) -> Result<LabelValue, String> {
    let mut ranks = vec![0; places.len()];
    for (name, place) in places {
        let at = name.strip_prefix("answer_").and_then(|number| number.parse::<usize>().ok());
        let rank = at.and_then(|at| ranks.get_mut(at.checked_sub(1)?)).filter(|rank| **rank == 0 && *place > 0);
        let what = format!("a place for each of answer_1 to answer_{}; {name:?} is none or there twice", places.len());
        *want(rank, field, &what)? = *place;
    }
    Ok(LabelValue::Ranks(ranks))
}

/// Where a place within a text is in other units.
fn there(text: &str, units: Units, at: u32) -> usize {
    let before = text.chars().take(at as usize);
    if units == Units::Utf16 { before.map(char::len_utf16).sum() } else { before.count() }
}

/// Where a place in other units is. None outside the text and inside of a character.
fn here(text: &str, units: Units, at: u64) -> Option<u32> {
    let mut place = 0;
    let mut chars = 0;
    for c in text.chars() {
        if place >= at {
            break;
        }
        place += if units == Units::Utf16 { c.len_utf16() as u64 } else { 1 };
        chars += 1;
    }
    (place == at).then_some(chars)
}

/// The messages of a row as the one text that tools have spans of: with their roles before them, a single one alone.
/// Where each content stands in it goes into the file as `hone_parts`, in Unicode scalar values, and maps spans back.
struct Whole {
    text: String,
    parts: Vec<(u32, u32)>,
}

impl Whole {
    fn of(messages: &[ChatMessage]) -> Whole {
        let (mut text, mut parts, mut chars) = (String::new(), Vec::new(), 0);
        for message in messages {
            let head = match (messages.len(), parts.len()) {
                (1, _) => String::new(),
                (_, 0) => format!("{}: ", message.role),
                _ => format!("\n\n{}: ", message.role),
            };
            let start = chars + head.chars().count() as u32;
            chars = start + message.content.chars().count() as u32;
            parts.push((start, chars));
            text = text + &head + &message.content;
        }
        Whole { text, parts }
    }

    /// As a file has it. Without parts all is the first message.
    fn read(text: &str, parts: Option<&Value>) -> Result<Whole, String> {
        let chars = text.chars().count() as u32;
        let part = |part: &Value| match part.as_array()?.as_slice() {
            [start, end] => Some((u32::try_from(start.as_u64()?).ok()?, u32::try_from(end.as_u64()?).ok()?)),
            _ => None,
        };
        let parts = match parts.filter(|parts| !parts.is_null()) {
            None => vec![(0, chars)],
            Some(parts) => {
                let parts = parts.as_array().and_then(|all| all.iter().map(part).collect::<Option<Vec<_>>>());
                let parts = parts.filter(|all| all.iter().all(|(start, end)| start <= end && *end <= chars));
                want(parts, "hone_parts", "as it was written, beside the same text")?
            }
        };
        Ok(Whole { text: text.to_owned(), parts })
    }

    /// The start and the end of a span in other units, and its text.
    fn place(&self, units: Units, span: &Span) -> Result<(usize, usize, String), String> {
        let fault = || format!("the span {}..{} is not within message {}", span.start, span.end, span.message);
        let (begin, behind) = *self.parts.get(span.message as usize).ok_or_else(fault)?;
        if span.start >= span.end || span.end > behind - begin {
            return Err(fault());
        }
        let (start, end) = (begin + span.start, begin + span.end);
        let said = self.text.chars().skip(start as usize).take((end - start) as usize).collect();
        Ok((there(&self.text, units, start), there(&self.text, units, end), said))
    }

    /// The span that a file has.
    fn span(&self, units: Units, value: &Value, fields: [&str; 2], label: String) -> Result<Span, String> {
        let [start, end] = fields.map(|field| {
            let at = value.get(field).and_then(Value::as_u64).and_then(|at| here(&self.text, units, at));
            want(at, field, "a place within the text, between two characters")
        });
        let (start, end) = (start?, end?);
        let part = (0..).zip(&self.parts).find(|(_, (begin, behind))| *begin <= start && end <= *behind);
        let (message, (begin, _)) =
            want(part.filter(|_| start < end), fields[1], "behind the start, in the same message")?;
        Ok(Span { message, start: start - begin, end: end - begin, label })
    }
}

/// What was suggested, when it says something.
fn suggested(labelled: &Labelled) -> Option<&Suggestion> {
    labelled.suggestion.as_ref().filter(|said| !said.value.is_skip())
}

/// Answers with the best first; none when two have the same place.
fn order(ranks: &[u32]) -> Option<Vec<String>> {
    let places: BTreeMap<u32, String> =
        ranks.iter().zip(1..).map(|(place, at)| (*place, format!("answer_{at}"))).collect();
    (places.len() == ranks.len()).then(|| places.into_values().collect())
}

/// What persons look at: the text, a prompt with two answers, or a prompt with its answer.
fn shown(row: &Row) -> Vec<(&'static str, String)> {
    let all = &row.messages;
    let prompt = |before: &[ChatMessage]| {
        let text: Vec<String> = before.iter().map(|m| format!("{}: {}", m.role, m.content)).collect();
        ("prompt", text.join("\n\n"))
    };
    let content = |at: usize| all.get(at).map(|message| message.content.clone()).unwrap_or_default();
    match row.shape() {
        Shape::Text => vec![("text", content(all.len().saturating_sub(1)))],
        Shape::Preference => {
            let at = all.iter().position(|message| message.role == CHOSEN).unwrap_or(all.len().saturating_sub(1));
            vec![prompt(&all[..at]), ("chosen", content(at)), ("rejected", content(all.len().saturating_sub(1)))]
        }
        Shape::Chat | Shape::Prompt => {
            let answer = |message: &ChatMessage| message.role == "assistant" || message.role == EXPECTED;
            let at = all.iter().rposition(answer).unwrap_or(all.len());
            vec![prompt(&all[..at]), ("answer", content(at))]
        }
    }
}

/// The answers of a row that can be put in an order: its `responses` as they were imported, or the two of a pair.
fn answers(row: &Row) -> Vec<String> {
    let original: Value = serde_json::from_str(row.original.as_str()).unwrap_or_default();
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        other => other.get("content").or(other.get("text")).and_then(Value::as_str).map(str::to_owned),
    };
    let responses = original.get("responses").and_then(Value::as_array);
    if let Some(texts) = responses.and_then(|all| all.iter().map(text).collect::<Option<Vec<_>>>())
        && texts.len() > 1
    {
        return texts;
    }
    let answer = |message: &&ChatMessage| message.role == CHOSEN || message.role == REJECTED;
    row.messages.iter().filter(answer).map(|message| message.content.clone()).collect()
}

/// What persons are asked.
fn question(project: &ProjectView) -> &str {
    let spec = &project.record.spec;
    match (&spec.task, spec.question.as_str()) {
        (Task::Choice { .. }, "") => "Which label fits?",
        (Task::Several { .. }, "") => "Which labels fit?",
        (Task::Span { .. }, "") => "Which parts have a label?",
        (Task::Pair { .. }, "") => "Which answer is better?",
        (Task::Rank, "") => "In which order are the answers, the best first?",
        (Task::Rating { .. }, "") => "How many points?",
        (Task::Edit, "") => "What should stand there?",
        (_, question) => question,
    }
}
