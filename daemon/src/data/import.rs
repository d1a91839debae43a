//! The import of a chat file: every line is kept or rejected with its place and reason, none is lost.
//! Lives here: the task, the report, the guess of the format. Never here: syntax, formats, segments themselves.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufReader, Seek};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use hone_protocol::dataset::{ImportReport, REJECTIONS_MAX, Rejection, Segment};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::worker::{FromWorker, ImportTask};

use super::canonical::content_sha256;
use super::distinct::Distinct;
use super::format::{Format, turns};
use super::json::{Fault, Value, parse};
use super::lines::{LINE_BYTES_MAX, Line, Lines};
use super::segment_writer::{LARGE_BATCH_BYTES, SegmentWriter};
use super::{Progress, unreadable, unwritable};

/// How many rows are looked at to find the format. When none of them is of a known format, the look goes on to
/// the first that is.
const DETECT_ROWS: u64 = 100;
/// Bytes read at once.
const READ_BUFFER_BYTES: usize = 256 * 1024;
/// Rows between two signs of life.
const PROGRESS_ROWS: u64 = 64;

/// What an import made.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Import {
    pub(super) report: ImportReport,
    pub(super) segments: Vec<Segment>,
}

impl Import {
    /// The answer to the daemon. An import that keeps nothing has failed; the failure carries its counts.
    pub(super) fn into_answer(self) -> Result<FromWorker, Failure> {
        let Import { report, segments } = self;
        if report.kept > 0 {
            return Ok(FromWorker::Imported { report, segments });
        }
        let (why, line) = match report.rejections.first() {
            None => ("the file has no rows".to_owned(), String::new()),
            Some(first) => {
                let field = if first.field.is_empty() { String::new() } else { format!("{}: ", first.field) };
                // The form in which Alpaca and ShareGPT files are often passed on.
                let array = first.reason.starts_with("a list,") || first.reason.ends_with("inside a list");
                let advice =
                    if array { "; rewrite a JSON array with one object on each line (jq -c '.[]')" } else { "" };
                let why = format!(
                    "none of the {} rows can be used; the first, line {}: {field}{}{advice}",
                    report.read, first.line, first.reason
                );
                (why, format!(":{}", first.line))
            }
        };
        Err(Failure::new(FailureCode::NoRows, format!("nothing to import from {}: {why}", report.source))
            .at(format!("{}{line}", report.source))
            .arg("read", report.read)
            .arg("rejected", report.rejected)
            .hint(HintCode::CorrectFile))
    }
}

/// Imports a file. Progress counts bytes.
pub(super) fn import(task: &ImportTask, progress: Progress<'_>) -> Result<Import, Failure> {
    let path = Path::new(&task.path);
    let folder = Path::new(&task.folder);
    let mut file = open(path)?;
    let total = file.metadata().map_err(|error| unreadable(path, &error))?.len();
    let format = match Format::chosen(task.format) {
        Some(format) => Some(format),
        None => detect(&file).map_err(|error| unreadable(path, &error))?,
    };
    file.rewind().map_err(|error| unreadable(path, &error))?;
    let mut counts = Counts::new(format, &task.source);
    let mut segments = SegmentWriter::new(folder, task.first_row_id);
    let mut distinct = Distinct::new(folder);
    let mut lines = Lines::new(BufReader::with_capacity(READ_BUFFER_BYTES, file));
    progress(0, total);
    while let Some(row) = next_row(&mut lines).map_err(|error| unreadable(path, &error))? {
        counts.report.read += 1;
        match row.and_then(|text| keep(format, text, &mut segments, &mut distinct)) {
            Ok(Ok(original)) => {
                if original == Original::Owed {
                    segments.push_original(Cow::Owned(take_text(&mut lines)?))?;
                }
                counts.report.kept += 1;
            }
            Ok(Err(failure)) => return Err(failure),
            Err(fault) => counts.reject(lines.number(), fault),
        }
        if counts.report.read.is_multiple_of(PROGRESS_ROWS) {
            progress(lines.done().min(total), total);
        }
    }
    let segments = segments.finish()?;
    let distinct = distinct.count().map_err(|error| unwritable(folder, &error))?;
    let mut report = counts.report;
    report.duplicates = report.kept - distinct;
    progress(total, total);
    Ok(Import { report, segments })
}

/// The counts so far.
struct Counts {
    report: ImportReport,
}

impl Counts {
    fn new(format: Option<Format>, source: &str) -> Counts {
        let format = format.map_or("", Format::name).to_owned();
        Counts { report: ImportReport { format, source: source.to_owned(), ..ImportReport::default() } }
    }

    fn reject(&mut self, line: u64, fault: Fault) {
        self.report.rejected += 1;
        if self.report.rejections.len() < REJECTIONS_MAX {
            self.report.rejections.push(Rejection { line, field: fault.field, reason: fault.reason });
        }
    }
}

/// Whether the text of a kept row is in the batch already. That of an enormous row follows when the parsed row
/// is gone, so that memory holds neither a third copy nor a fourth.
#[derive(Debug, PartialEq, Eq)]
enum Original {
    Stored,
    Owed,
}

/// A fault is the row's; a failure ends the import.
type Kept = Result<Result<Original, Failure>, Fault>;

fn keep(format: Option<Format>, text: &str, segments: &mut SegmentWriter, distinct: &mut Distinct) -> Kept {
    let row = parse(text)?;
    let turns = turns(format, &row)?;
    let hash = content_sha256(turns.iter().map(|turn| (turn.role.word(), turn.content.as_ref())));
    let mut store = || {
        distinct
            .push(&hash)
            .map_err(|error| Failure::new(FailureCode::NotSaved, format!("row hashes cannot be kept: {error}")))?;
        segments.push_messages(&turns, &hash, text.len())?;
        if text.len() >= LARGE_BATCH_BYTES {
            return Ok(Original::Owed);
        }
        segments.push_original(Cow::Borrowed(text))?;
        Ok(Original::Stored)
    };
    Ok(store())
}

/// The text of the line that was read last, in the line's own buffer. It was found to be UTF-8 before.
fn take_text<R: std::io::BufRead>(lines: &mut Lines<R>) -> Result<String, Failure> {
    let mut line = lines.take_line();
    let text_bytes = content(&line).len();
    line.truncate(line.trim_ascii_end().len());
    line.drain(..line.len() - text_bytes);
    String::from_utf8(line).map_err(|error| Failure::new(FailureCode::Internal, error.to_string()))
}

/// The next row that is not blank: its text, or what is wrong with the line as a whole.
fn next_row<R: std::io::BufRead>(lines: &mut Lines<R>) -> std::io::Result<Option<Result<&str, Fault>>> {
    // Two steps, because a borrow that is returned from inside the loop would last for the whole loop.
    loop {
        match lines.next()? {
            None => return Ok(None),
            Some(Line::TooLong { bytes }) => {
                let reason = format!("the line has {bytes} bytes; at most {LINE_BYTES_MAX} are read");
                return Ok(Some(Err(Fault::line(reason))));
            }
            Some(Line::Bytes(bytes)) if content(bytes).is_empty() => {}
            Some(Line::Bytes(_)) => break,
        }
    }
    Ok(Some(text(content(lines.line()), lines.start())))
}

/// A line without the byte order mark and without white space at its ends.
fn content(line: &[u8]) -> &[u8] {
    line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).trim_ascii()
}

fn text(line: &[u8], start: u64) -> Result<&str, Fault> {
    std::str::from_utf8(line).map_err(|error| {
        let at = error.valid_up_to();
        let byte = line.get(at).copied().unwrap_or_default();
        Fault::line(format!(
            "invalid UTF-8: byte 0x{byte:02x} at byte {at} of the line, which begins at byte {start} of the file"
        ))
    })
}

/// Opens what must be a file of lines, without waiting for a pipe that nobody writes to.
fn open(path: &Path) -> Result<File, Failure> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file =
        File::options().read(true).custom_flags(nonblocking).open(path).map_err(|error| unreadable(path, &error))?;
    let facts = file.metadata().map_err(|error| unreadable(path, &error))?;
    let bad = |reason: &str| {
        Failure::new(FailureCode::BadFile, format!("{} {reason}", path.display()))
            .at(path.display().to_string())
            .hint(HintCode::CorrectFile)
    };
    if !facts.is_file() {
        return Err(bad(if facts.is_dir() { "is a folder; name a file in it" } else { "is not a regular file" }));
    }
    let mut head = [0; 4];
    let read = file.read_at(&mut head, 0).map_err(|error| unreadable(path, &error))?;
    match &head[..read] {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Err(bad("is UTF-16; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)")),
        [0x1f, 0x8b, ..] => Err(bad("is compressed by gzip; unpack it first (gunzip)")),
        [0x28, 0xb5, 0x2f, 0xfd] => Err(bad("is compressed by zstd; unpack it first (zstd -d)")),
        b"PK\x03\x04" => Err(bad("is a ZIP archive; unpack it first")),
        b"PAR1" => Err(bad("is a Parquet file; this version imports JSONL")),
        b"ARRO" => Err(bad("is an Arrow file; this version imports JSONL")),
        _ => Ok(file),
    }
}

/// The format of most of the first rows; on a tie the one that was seen first.
fn detect(file: &File) -> std::io::Result<Option<Format>> {
    let mut lines = Lines::new(BufReader::with_capacity(READ_BUFFER_BYTES, file));
    let mut seen: Vec<(Format, u64)> = Vec::new();
    let mut rows = 0;
    while rows < DETECT_ROWS || seen.is_empty() {
        let Some(row) = next_row(&mut lines)? else { break };
        rows += 1;
        let found = row.ok().and_then(recognise);
        if let Some(format) = found {
            match seen.iter_mut().find(|(known, _)| *known == format) {
                Some((_, count)) => *count += 1,
                None => seen.push((format, 1)),
            }
        }
    }
    // `max_by_key` takes the last of equals, so the order is turned round.
    Ok(seen.into_iter().rev().max_by_key(|(_, count)| *count).map(|(format, _)| format))
}

fn recognise(text: &str) -> Option<Format> {
    let row: Value<'_> = parse(text).ok()?;
    Format::recognise(&row)
}
