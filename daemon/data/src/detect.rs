//! What a file is: the format of its rows, its fields, and the rows that an import would make, without writing anything.
//! Lives here: the guess and the preview. Never here: importing.

use std::path::Path;

use hone_protocol::dataset::{FieldMap, ImportPreview, PreviewField, Rejection, Row, RowFormat};
use hone_protocol::failure::Failure;
use hone_protocol::value::{Hash, JsonText};
use hone_protocol::worker::PreviewTask;

use super::canonical::content_sha256;
use super::format::Format;
use super::json::{Fault, Value, parse};
use super::mapping::{Plan, proposed};
use super::open::{Opened, open};
use super::pieces::Body;
use super::rows::{for_each_line, too_long};

/// How many rows are looked at to find the format. When none of them is of a known format, the look goes on to
/// the first that is.
const DETECT_ROWS: u64 = 100;
/// The look for a first row of a known format ends after so many rows without one.
const DETECT_ROWS_MAX: u64 = 100_000;
/// Rows that a preview looks at.
const PREVIEW_READ: u64 = 200;
/// Rows, rejections and fields that a preview shows.
const PREVIEW_ROWS: usize = 20;
const PREVIEW_FIELDS: usize = 64;
/// Bytes of rows that a preview shows; the first row is always shown.
const PREVIEW_BYTES: usize = 256 * 1024;

/// Gives the first rows of a file, until it says that it has seen enough: the line, and the text or what is wrong with it.
fn look(
    opened: &Opened,
    mut each: impl FnMut(Option<&str>, u64, Result<&str, Fault>) -> bool,
) -> Result<bool, Failure> {
    let mut pieces = opened.pieces()?;
    let (mut lines, mut file) = (0, None);
    while let Some(piece) = pieces.next()? {
        if piece.file != file {
            (lines, file) = (0, piece.file.clone());
        }
        let name = file.as_deref();
        let mut enough = Ok(());
        match &piece.body {
            Body::TooLong { bytes } => {
                lines += 1;
                if !each(name, lines, Err(too_long(*bytes))) {
                    enough = Err(());
                }
            }
            Body::Lines { bytes, start } => {
                enough = for_each_line(bytes, *start, |row| {
                    lines += 1;
                    if row == Ok("") || each(name, lines, row) { Ok(()) } else { Err(()) }
                });
            }
            Body::Rows { text, rows } => {
                let mut from = 0;
                for made in rows {
                    let row = match &made.end {
                        Ok(end) => Ok(&text[std::mem::replace(&mut from, *end)..*end]),
                        Err(fault) => Err(fault.clone()),
                    };
                    if !each(name, made.line, row) {
                        enough = Err(());
                        break;
                    }
                }
            }
        }
        if enough.is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The format of most of the first rows, on a tie the one that was seen first; else a mapping of well-known names.
pub(super) fn detect(opened: &Opened) -> Result<Plan, Failure> {
    let mut seen: Vec<(Plan, u64)> = Vec::new();
    let mut rows = 0;
    look(opened, |_, _, row| {
        rows += 1;
        if let Some(plan) = row.ok().and_then(recognise) {
            match seen.iter_mut().find(|(known, _)| *known == plan) {
                Some((_, count)) => *count += 1,
                None => seen.push((plan, 1)),
            }
        }
        rows < DETECT_ROWS || seen.is_empty() && rows < DETECT_ROWS_MAX
    })?;
    // A known format before any mapping; `max_by_key` takes the last of equals, so the order is turned round.
    let most = seen.into_iter().rev().max_by_key(|(plan, count)| (plan.format.is_some(), *count));
    Ok(most.map(|(plan, _)| plan).unwrap_or_default())
}

fn recognise(text: &str) -> Option<Plan> {
    let row: Value<'_> = parse(text).ok()?;
    if let Some(format) = Format::recognise(&row) {
        let plan = Plan { format: Some(format), mapping: Vec::new() };
        // Tables have a column named as a format's own field, and not the others.
        let lacks = plan.turns(&row).is_err_and(|fault| fault.reason.starts_with("field missing"));
        if !lacks || proposed(&row).is_empty() {
            return Some(plan);
        }
    }
    let mapping = proposed(&row);
    (!mapping.is_empty()).then_some(Plan { format: None, mapping })
}

/// What an import of a file would do.
pub(super) fn preview(task: &PreviewTask) -> Result<ImportPreview, Failure> {
    let opened = open(Path::new(&task.path))?;
    let plan = match &task.format {
        RowFormat::Detect => detect(&opened)?,
        RowFormat::Mapped(mapping) => Plan { format: None, mapping: mapping.clone() },
        format => Plan { format: Format::chosen(format), mapping: Vec::new() },
    };
    let mapping: Vec<FieldMap> = plan.mapping.clone();
    let mut made = ImportPreview {
        container: opened.container().to_owned(),
        format: opened.named(&plan),
        shape: plan.shape(),
        mapping,
        fields: Vec::new(),
        read: 0,
        kept: 0,
        rows: Vec::new(),
        rejections: Vec::new(),
        whole: false,
    };
    let mut shown_bytes = 0;
    made.whole = look(&opened, |file, line, text| {
        made.read += 1;
        let row = text.and_then(|text| {
            let value = parse(text)?;
            note_fields(&mut made.fields, &value);
            let turns = plan.turns(&value)?;
            if made.rows.len() < PREVIEW_ROWS && (made.rows.is_empty() || shown_bytes + text.len() <= PREVIEW_BYTES) {
                shown_bytes += text.len();
                let said = || turns.iter().map(|turn| (turn.role.word(), turn.content.as_ref()));
                let messages = said().map(|(role, content)| hone_protocol::dataset::ChatMessage {
                    role: role.to_owned(),
                    content: content.to_owned(),
                });
                made.rows.push(Row {
                    row_id: task.first_row_id + made.kept,
                    messages: messages.collect(),
                    content_sha256: Hash(content_sha256(said())),
                    original: JsonText::new(text),
                });
            }
            Ok(())
        });
        match row {
            Ok(()) => made.kept += 1,
            Err(fault) if made.rejections.len() < PREVIEW_ROWS => {
                let reason = file.map_or_else(|| fault.reason.clone(), |file| format!("{file}: {}", fault.reason));
                made.rejections.push(Rejection { line, field: fault.field, reason });
            }
            Err(_) => {}
        }
        made.read < PREVIEW_READ
    })?;
    Ok(made)
}

fn note_fields(fields: &mut Vec<PreviewField>, row: &Value<'_>) {
    let Value::Object(found) = row else { return };
    for (name, value) in found {
        if let Some(field) = fields.iter_mut().find(|field| field.name == *name) {
            field.rows += 1;
        } else if fields.len() < PREVIEW_FIELDS {
            fields.push(PreviewField { name: name.to_string(), kind: value.kind().to_owned(), rows: 1 });
        }
    }
}
