//! Rows as other programs read them.
//! Lives here: one row in each format, and what a format cannot say. Never here: which rows.
//!
//! What is written reads in again as the same messages. A row that a format cannot hold ends the export with its number: nothing is left
//! out or bent in silence.

use std::borrow::Cow;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, RecordBatch, StringBuilder, StructBuilder};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::ipc::writer::FileWriter;
use hone_protocol::dataset::{CHOSEN, ChatMessage, EXPECTED, ExportFormat, REJECTED, Row, Shape, TEXT};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::wire;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};

use super::complete::Complete;
use super::unwritable;

type File = BufWriter<Complete>;

/// Rows of one batch of a Parquet or Arrow file.
const BATCH_ROWS: usize = 1024;
/// Bytes of one batch.
const BATCH_BYTES: usize = 8 << 20;

/// A file that is being written.
pub(super) struct Out {
    path: PathBuf,
    format: ExportFormat,
    sink: Sink,
    shape: Option<Shape>,
}

enum Sink {
    Lines(File),
    /// Not begun, because the columns depend on the first row.
    Waiting(Option<File>),
    Parquet(Box<ArrowWriter<File>>, Batch),
    Arrow(Box<FileWriter<File>>, Batch),
}

impl Out {
    pub(super) fn new(format: ExportFormat, file: File, path: &Path) -> Result<Out, Failure> {
        let sink = match format {
            ExportFormat::Parquet | ExportFormat::Arrow => Sink::Waiting(Some(file)),
            _ => Sink::Lines(file),
        };
        Ok(Out { path: path.to_owned(), format, sink, shape: None })
    }

    pub(super) fn row(&mut self, row: &Row) -> Result<(), Failure> {
        if self.shape.is_none() {
            self.shape = Some(row.shape());
            self.begin(row.shape())?;
        }
        let path = &self.path;
        match &mut self.sink {
            Sink::Lines(file) => {
                let text = line(self.format, row).map_err(|reason| unsaid(row, self.format, &reason))?;
                file.write_all(text.as_bytes()).map_err(|error| unwritable(path, &error))
            }
            Sink::Parquet(_, batch) | Sink::Arrow(_, batch) => {
                batch.push(row).map_err(|reason| unsaid(row, self.format, &reason))?;
                if batch.is_full() { self.flush() } else { Ok(()) }
            }
            Sink::Waiting(_) => Err(Failure::new(FailureCode::Internal, "the file was not begun")),
        }
    }

    /// Begins the file as rows of that shape need it.
    fn begin(&mut self, shape: Shape) -> Result<(), Failure> {
        if let (ExportFormat::Csv, Sink::Lines(file)) = (self.format, &mut self.sink) {
            let header = format!("{}\n", csv_columns(shape).join(","));
            return file.write_all(header.as_bytes()).map_err(|error| unwritable(&self.path, &error));
        }
        let Sink::Waiting(file) = &mut self.sink else { return Ok(()) };
        let Some(file) = file.take() else { return Ok(()) };
        let batch = Batch::new(shape);
        let broken = |error: &dyn std::fmt::Display| unsaved(&self.path, error);
        self.sink = if self.format == ExportFormat::Parquet {
            let level = parquet::basic::ZstdLevel::try_new(3).map_err(|error| broken(&error))?;
            let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
            let writer = ArrowWriter::try_new(file, batch.schema.clone(), Some(properties));
            Sink::Parquet(Box::new(writer.map_err(|error| broken(&error))?), batch)
        } else {
            let writer = FileWriter::try_new(file, &batch.schema).map_err(|error| broken(&error))?;
            Sink::Arrow(Box::new(writer), batch)
        };
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let path = self.path.clone();
        let broken = |error: &dyn std::fmt::Display| unsaved(&path, error);
        match &mut self.sink {
            Sink::Parquet(writer, batch) => {
                let batch = batch.take().map_err(|error| broken(&error))?;
                writer.write(&batch).map_err(|error| broken(&error))
            }
            Sink::Arrow(writer, batch) => {
                let batch = batch.take().map_err(|error| broken(&error))?;
                writer.write(&batch).map_err(|error| broken(&error))
            }
            Sink::Lines(_) | Sink::Waiting(_) => Ok(()),
        }
    }

    /// The file with all its rows.
    pub(super) fn finish(mut self) -> Result<File, Failure> {
        if self.shape.is_none() {
            self.begin(Shape::Chat)?;
        }
        self.flush()?;
        let path = self.path;
        let broken = |error: &dyn std::fmt::Display| unsaved(&path, error);
        match self.sink {
            Sink::Lines(file) => Ok(file),
            Sink::Waiting(_) => Err(Failure::new(FailureCode::Internal, "the file was not begun")),
            Sink::Parquet(writer, _) => writer.into_inner().map_err(|error| broken(&error)),
            Sink::Arrow(mut writer, _) => {
                writer.finish().map_err(|error| broken(&error))?;
                writer.into_inner().map_err(|error| broken(&error))
            }
        }
    }
}

fn unsaved(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(FailureCode::NotSaved, format!("{} cannot be written: {error}", path.display()))
        .hint(HintCode::TryAgain)
}

fn unsaid(row: &Row, format: ExportFormat, reason: &str) -> Failure {
    let word = ExportFormat::ALL.iter().find(|(_, known)| *known == format).map_or("", |(word, _)| word);
    Failure::new(
        FailureCode::InvalidRequest,
        format!("row {} cannot be written as {word}: {reason}; export it as original or messages", row.row_id),
    )
    .at("format")
    .hint(HintCode::CorrectField)
}

/// What a row says, taken apart.
struct Said<'r> {
    system: Option<&'r str>,
    turns: &'r [ChatMessage],
}

impl<'r> Said<'r> {
    fn of(row: &'r Row) -> Said<'r> {
        match row.messages.split_first() {
            Some((first, rest)) if first.role == "system" => Said { system: Some(&first.content), turns: rest },
            _ => Said { system: None, turns: &row.messages },
        }
    }

    /// One question and what follows it.
    fn pair(&self, role: &str) -> Result<(&'r str, &'r str), String> {
        match self.turns {
            [ask, answer] if ask.role == "user" && answer.role == role => Ok((&ask.content, &answer.content)),
            turns => Err(format!("it has {} turns, not a question and an answer", turns.len())),
        }
    }

    /// The turns before the answers of a preference, and the two answers.
    fn preference(&self) -> Result<(&'r [ChatMessage], &'r str, &'r str), String> {
        match self.turns {
            [before @ .., chosen, rejected] if chosen.role == CHOSEN && rejected.role == REJECTED => {
                Ok((before, &chosen.content, &rejected.content))
            }
            _ => Err("it is no pair of answers".to_owned()),
        }
    }
}

fn messages(turns: &[ChatMessage]) -> Value {
    turns.iter().map(|turn| json!({ "role": turn.role, "content": turn.content })).collect()
}

/// A row as a line of a text format.
fn line(format: ExportFormat, row: &Row) -> Result<String, String> {
    let said = Said::of(row);
    let object = match format {
        ExportFormat::Rows => return Ok(wire::encode_line(row)),
        ExportFormat::Original => return Ok(format!("{}\n", row.original.in_one_line())),
        ExportFormat::Messages => conversation(row)?,
        ExportFormat::Alpaca => alpaca(&said)?,
        ExportFormat::ShareGpt => sharegpt(&said)?,
        ExportFormat::Preference => preference(&said)?,
        ExportFormat::Kto => return kto(&said),
        ExportFormat::Csv => return csv_row(row),
        ExportFormat::Text => return Ok(text(row)?.into_owned()),
        ExportFormat::Parquet | ExportFormat::Arrow => return Err("it is not made of lines".to_owned()),
    };
    Ok(format!("{object}\n"))
}

/// A row of any shape as JSON that reads in again.
fn conversation(row: &Row) -> Result<Value, String> {
    let said = Said::of(row);
    Ok(match row.shape() {
        Shape::Chat => json!({ "messages": messages(&row.messages) }),
        Shape::Text => json!({ "text": text_of(row)? }),
        Shape::Preference => preference(&said)?,
        Shape::Prompt => match row.messages.split_last() {
            Some((last, before)) if last.role == EXPECTED => {
                json!({ "prompt": messages(before), "expected": last.content })
            }
            _ => return Err("a prompt without an expected answer".to_owned()),
        },
    })
}

fn alpaca(said: &Said<'_>) -> Result<Value, String> {
    let [history @ .., ask, answer] = said.turns else { return Err("it is no question with an answer".to_owned()) };
    let mut rounds = Vec::new();
    for round in history.chunks(2) {
        match round {
            [ask, answer] if ask.role == "user" && answer.role == "assistant" => {
                rounds.push(json!([ask.content, answer.content]));
            }
            _ => return Err("its turns are not questions and answers in turn".to_owned()),
        }
    }
    if ask.role != "user" || answer.role != "assistant" {
        return Err("it does not end with a question and its answer".to_owned());
    }
    let mut object = json!({ "instruction": ask.content, "input": "", "output": answer.content });
    if let Some(system) = said.system {
        object["system"] = system.into();
    }
    if !rounds.is_empty() {
        object["history"] = rounds.into();
    }
    Ok(object)
}

fn sharegpt(said: &Said<'_>) -> Result<Value, String> {
    let mut turns = Vec::new();
    for turn in said.turns {
        let from = match turn.role.as_str() {
            "user" => "human",
            "assistant" => "gpt",
            "system" => "system",
            other => return Err(format!("it has a turn of {other}")),
        };
        turns.push(json!({ "from": from, "value": turn.content }));
    }
    let mut object = json!({ "conversations": turns });
    if let Some(system) = said.system {
        object["system"] = system.into();
    }
    Ok(object)
}

fn preference(said: &Said<'_>) -> Result<Value, String> {
    let (before, chosen, rejected) = said.preference()?;
    let mut prompt = Vec::new();
    prompt.extend(said.system.map(|system| json!({ "role": "system", "content": system })));
    prompt.extend(before.iter().map(|turn| json!({ "role": turn.role, "content": turn.content })));
    let answer = |content: &str| json!([{ "role": "assistant", "content": content }]);
    Ok(json!({ "prompt": prompt, "chosen": answer(chosen), "rejected": answer(rejected) }))
}

/// A chat is one wanted answer; of a pair, both are written, each with its label.
fn kto(said: &Said<'_>) -> Result<String, String> {
    let (before, answers) = match said.preference() {
        Ok((before, chosen, rejected)) => (before, vec![(chosen, true), (rejected, false)]),
        Err(_) => match said.turns {
            [before @ .., answer] if answer.role == "assistant" && !before.is_empty() => {
                (before, vec![(answer.content.as_str(), true)])
            }
            _ => return Err("it does not end with an answer".to_owned()),
        },
    };
    let mut prompt = Vec::new();
    prompt.extend(said.system.map(|system| json!({ "role": "system", "content": system })));
    prompt.extend(before.iter().map(|turn| json!({ "role": turn.role, "content": turn.content })));
    let line = |(answer, label): (&str, bool)| {
        let completion = json!([{ "role": "assistant", "content": answer }]);
        format!("{}\n", json!({ "prompt": prompt, "completion": completion, "label": label }))
    };
    Ok(answers.into_iter().map(line).collect())
}

fn csv_columns(shape: Shape) -> &'static [&'static str] {
    match shape {
        Shape::Chat => &["system", "prompt", "response"],
        Shape::Preference => &["system", "prompt", "chosen", "rejected"],
        Shape::Text => &["text"],
        Shape::Prompt => &["system", "prompt", "expected"],
    }
}

fn csv_row(row: &Row) -> Result<String, String> {
    let said = Said::of(row);
    let system = said.system.unwrap_or_default();
    let cells = match row.shape() {
        Shape::Chat => {
            let (ask, answer) = said.pair("assistant")?;
            vec![system, ask, answer]
        }
        Shape::Prompt => {
            let (ask, answer) = said.pair(EXPECTED)?;
            vec![system, ask, answer]
        }
        Shape::Preference => match said.preference()? {
            ([ask], chosen, rejected) if ask.role == "user" => vec![system, &ask.content, chosen, rejected],
            _ => return Err("it has more turns than one question".to_owned()),
        },
        Shape::Text => vec![text_of(row)?],
    };
    let cells: Vec<String> = cells.into_iter().map(|cell| format!("\"{}\"", cell.replace('"', "\"\""))).collect();
    Ok(format!("{}\n", cells.join(",")))
}

fn text_of(row: &Row) -> Result<&str, String> {
    match row.messages.as_slice() {
        [only] if only.role == TEXT => Ok(&only.content),
        _ => Err("it is no plain text".to_owned()),
    }
}

/// A text with an empty line after it; one with empty lines inside would read in as several.
fn text(row: &Row) -> Result<Cow<'_, str>, String> {
    let text = text_of(row)?;
    if text.split('\n').any(|line| line.trim().is_empty()) {
        return Err("it has empty lines, which part texts from each other".to_owned());
    }
    Ok(Cow::Owned(format!("{text}\n\n")))
}

/// Rows on their way into a Parquet or Arrow file.
struct Batch {
    shape: Shape,
    schema: SchemaRef,
    rows: Vec<Value>,
    bytes: usize,
}

impl Batch {
    fn new(shape: Shape) -> Batch {
        let fields: Vec<Field> = match shape {
            Shape::Chat => vec![list_field("messages")],
            Shape::Text => vec![Field::new("text", DataType::Utf8, false)],
            Shape::Preference => vec![list_field("prompt"), list_field("chosen"), list_field("rejected")],
            Shape::Prompt => vec![list_field("prompt"), Field::new("expected", DataType::Utf8, false)],
        };
        Batch { shape, schema: Arc::new(Schema::new(fields)), rows: Vec::new(), bytes: 0 }
    }

    fn push(&mut self, row: &Row) -> Result<(), String> {
        if row.shape() != self.shape {
            return Err("it is of another shape than the first row".to_owned());
        }
        self.bytes += row.messages.iter().map(|message| message.content.len()).sum::<usize>();
        self.rows.push(conversation(row)?);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    fn take(&mut self) -> Result<RecordBatch, arrow::error::ArrowError> {
        self.bytes = 0;
        let rows = std::mem::take(&mut self.rows);
        let columns = self.schema.fields().iter().map(|field| match field.data_type() {
            DataType::Utf8 => {
                let mut texts = StringBuilder::new();
                rows.iter().for_each(|row| texts.append_value(row[field.name()].as_str().unwrap_or_default()));
                Arc::new(texts.finish()) as ArrayRef
            }
            _ => lists(&rows, field.name()),
        });
        RecordBatch::try_new(self.schema.clone(), columns.collect())
    }
}

fn turn_fields() -> Fields {
    Fields::from(vec![Field::new("role", DataType::Utf8, true), Field::new("content", DataType::Utf8, true)])
}

fn list_field(name: &str) -> Field {
    let item = Field::new("item", DataType::Struct(turn_fields()), true);
    Field::new(name, DataType::List(Arc::new(item)), true)
}

fn lists(rows: &[Value], name: &str) -> ArrayRef {
    let texts = || Box::new(StringBuilder::new()) as Box<dyn arrow::array::ArrayBuilder>;
    let mut lists = ListBuilder::new(StructBuilder::new(turn_fields(), vec![texts(), texts()]));
    for row in rows {
        for turn in row[name].as_array().into_iter().flatten() {
            for (index, field) in ["role", "content"].into_iter().enumerate() {
                if let Some(texts) = lists.values().field_builder::<StringBuilder>(index) {
                    texts.append_value(turn[field].as_str().unwrap_or_default());
                }
            }
            lists.values().append(true);
        }
        lists.append(true);
    }
    Arc::new(lists.finish())
}
