//! Rows with what persons said of them, as lines that can be imported. Lives here: what a decision does to a row, and where it stands in
//! it. Never here: which decision counts (the daemon resolves that), the layout of a segment.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use hone_protocol::dataset::{CHOSEN, ChatMessage, REJECTED};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::labelling::{LabelledRow, LabelledTask, RowChange, answers};
use hone_protocol::worker::FromWorker;
use serde_json::{Value, json};

use super::steps::{Item, Rows, Source};
use super::{Progress, unreadable, unwritable};

/// The field of a row that holds labels, by the name of their project.
const LABELS: &str = "labels";

/// Writes every row that has a label. Progress counts rows.
pub(super) fn write(task: &LabelledTask, progress: Progress<'_>) -> Result<FromWorker, Failure> {
    let source = Source::open(Path::new(&task.folder), &task.segments, None)?;
    let total = task.segments.iter().map(|segment| segment.rows).sum();
    let labels = Path::new(&task.labels);
    let file = File::open(labels).map_err(|error| unreadable(labels, &error))?;
    let mut wanted = Wanted { lines: BufReader::new(file).lines(), next: None, path: labels };
    wanted.go_on()?;
    let path = Path::new(&task.path);
    let mut out = BufWriter::new(File::create(path).map_err(|error| unwritable(path, &error))?);
    let (mut seen, mut rows) = (0, 0);
    for chunk in 0..source.chunks() {
        for item in source.read(chunk)? {
            seen += 1;
            let Some(labelled) = wanted.take(item.row_id)? else { continue };
            for line in lines(item, &labelled, task)? {
                rows += 1;
                writeln!(out, "{line}").map_err(|error| unwritable(path, &error))?;
            }
        }
        progress(seen, total);
    }
    if let Some(left) = wanted.next {
        let message = format!("row {} has a label and is not in {}", left.row_id, task.reference);
        return Err(Failure::new(FailureCode::NotFound, message).hint(HintCode::ReportBug));
    }
    out.flush().map_err(|error| unwritable(path, &error))?;
    Ok(FromWorker::Picked { rows: vec![rows] })
}

/// The labels, one after the other.
struct Wanted<'p> {
    lines: std::io::Lines<BufReader<File>>,
    next: Option<LabelledRow>,
    path: &'p Path,
}

impl Wanted<'_> {
    fn go_on(&mut self) -> Result<(), Failure> {
        self.next = match self.lines.next() {
            None => None,
            Some(line) => {
                let line = line.map_err(|error| unreadable(self.path, &error))?;
                let broken =
                    |error: serde_json::Error| Failure::new(FailureCode::BadFrame, format!("a label: {error}"));
                Some(serde_json::from_str(&line).map_err(broken)?)
            }
        };
        Ok(())
    }

    /// What was said of a row, if anything was.
    fn take(&mut self, row_id: u64) -> Result<Option<LabelledRow>, Failure> {
        if self.next.as_ref().is_none_or(|next| next.row_id != row_id) {
            return Ok(None);
        }
        let taken = self.next.take();
        self.go_on()?;
        Ok(taken)
    }
}

/// The lines that a row becomes.
fn lines(mut item: Item, labelled: &LabelledRow, task: &LabelledTask) -> Result<Vec<Value>, Failure> {
    let unfit = |what: &str| {
        let message = format!("row {} of {} has no {what}", labelled.row_id, task.reference);
        Failure::new(FailureCode::InvalidRequest, message).hint(HintCode::ReportBug)
    };
    let answers = answers(&item.original, &item.messages);
    match &labelled.change {
        RowChange::None => {}
        RowChange::Last(text) => {
            let last = item.messages.last_mut().ok_or_else(|| unfit("answer"))?;
            let before = std::mem::replace(&mut last.content, text.clone());
            let mut labelled = labelled.clone();
            labelled.label.0["before"] = before.into();
            return Ok(vec![line(&item, &labelled, task)]);
        }
        RowChange::Swap => {
            let [.., first, second] = item.messages.as_mut_slice() else { return Err(unfit("pair of answers")) };
            std::mem::swap(&mut first.content, &mut second.content);
        }
        RowChange::Pairs(pairs) => {
            let prompt: Vec<ChatMessage> = before_answers(&item);
            let mut made = Vec::new();
            for (better, worse) in pairs {
                let of = |index: &u32| answers.get(*index as usize).cloned().ok_or_else(|| unfit("such answer"));
                let message = |role: &str, content| ChatMessage { role: role.to_owned(), content };
                let last = [message(CHOSEN, of(better)?), message(REJECTED, of(worse)?)];
                let messages = prompt.iter().cloned().chain(last).collect();
                made.push(line(&Item { messages, ..item.clone() }, labelled, task));
            }
            return Ok(made);
        }
    }
    Ok(vec![line(&item, labelled, task)])
}

/// The messages that the answers follow.
fn before_answers(item: &Item) -> Vec<ChatMessage> {
    let answer = |message: &&ChatMessage| message.role == CHOSEN || message.role == REJECTED;
    let kept: Vec<ChatMessage> = item.messages.iter().filter(|message| !answer(message)).cloned().collect();
    // The last answer of a chat is one of its responses.
    match kept.last() {
        Some(last) if last.role == "assistant" => kept[..kept.len() - 1].to_vec(),
        _ => kept,
    }
}

/// A row with its label, and where it came from.
fn line(item: &Item, labelled: &LabelledRow, task: &LabelledTask) -> Value {
    let mut fields = item.rebuilt();
    let labels = fields.entry(LABELS).or_insert_with(|| json!({}));
    if !labels.is_object() {
        // The row has a field of that name of its own.
        *labels = json!({ "before": labels.take() });
    }
    labels[task.project.as_str()] = labelled.label.0.clone();
    fields.insert("parent".into(), json!({ "dataset": task.reference, "row_id": item.row_id }));
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use hone_protocol::value::Json;

    use super::*;

    fn item(turns: &[(&str, &str)], original: Value) -> Item {
        let message = |(role, content): &(&str, &str)| ChatMessage { role: (*role).into(), content: (*content).into() };
        Item { index: 0, row_id: 7, messages: turns.iter().map(message).collect(), original: original.to_string() }
    }

    fn task() -> LabelledTask {
        LabelledTask {
            folder: String::new(),
            reference: "a@1".into(),
            segments: Vec::new(),
            labels: String::new(),
            project: "tone".into(),
            path: String::new(),
        }
    }

    fn made(item: Item, change: RowChange) -> Vec<Value> {
        lines(item, &LabelledRow { row_id: 7, label: Json(json!({"value": ["good"]})), change }, &task()).unwrap()
    }

    #[test]
    fn a_label_stands_beside_the_fields_that_a_row_has() {
        let row = item(&[("user", "Hi"), ("assistant", "Hello")], json!({"topic": "x", "labels": {"other": 1}}));
        let line = &made(row, RowChange::None)[0];
        assert_eq!(line["labels"], json!({"other": 1, "tone": {"value": ["good"]}}));
        assert_eq!((&line["topic"], &line["parent"]["row_id"]), (&json!("x"), &json!(7)));
        let row = item(&[("text", "words")], json!({"labels": ["a", "b"]}));
        assert_eq!(made(row, RowChange::None)[0]["labels"], json!({"before": ["a", "b"], "tone": {"value": ["good"]}}));
    }

    #[test]
    fn an_edit_changes_the_last_message_and_a_swap_the_two_answers() {
        let row = item(&[("user", "Hi"), ("assistant", "Hello")], json!({}));
        assert_eq!(made(row.clone(), RowChange::Last("Good day".into()))[0]["messages"][1]["content"], "Good day");
        assert_eq!(made(row, RowChange::Last("Good day".into()))[0]["labels"]["tone"]["before"], "Hello");
        let pair = item(&[("user", "Hi"), (CHOSEN, "b"), (REJECTED, "c")], json!({}));
        let line = &made(pair, RowChange::Swap)[0];
        assert_eq!((&line["chosen"], &line["rejected"]), (&json!("c"), &json!("b")));
    }

    #[test]
    fn ranked_answers_become_pairs() {
        let original = json!({"prompt": "Hi", "responses": ["x", "y", "z"]});
        let pair = item(&[("user", "Hi"), (CHOSEN, "x"), (REJECTED, "z")], original);
        let lines = made(pair, RowChange::Pairs(vec![(2, 0), (2, 1)]));
        let said: Vec<_> = lines.iter().map(|line| (line["chosen"].clone(), line["rejected"].clone())).collect();
        assert_eq!(said, [(json!("z"), json!("x")), (json!("z"), json!("y"))]);
        assert!(
            super::lines(
                item(&[("user", "Hi")], json!({})),
                &LabelledRow { row_id: 7, label: Json(json!(1)), change: RowChange::Pairs(vec![(0, 1)]) },
                &task()
            )
            .is_err()
        );
    }
}
