//! A batch of the lines of an uploaded file: all are looked at first, then each is asked. One line is held at a time. Never here:
//! the shapes of lines (`http/lines.rs`), how they are asked.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use hone_protocol::batch::FileBatch;
use hone_protocol::failure::{Failure, FailureCode, HintCode};

use super::attempt::{Context, Stop};
use super::batch::caller;
use super::batch_ask::{Feed, Item, ask_all, done_rows};
use crate::dispatcher::event::{Fact, Produced};
use crate::http::lines::{self, Fault, LINE_BYTES_MAX, Line};

/// Most lines of a file.
const LINES_MAX: u64 = 50_000;
/// Wrong lines that are told of; all are counted.
const FAULTS_TOLD_MAX: usize = 100;
/// Lines that are asked at once; how many of them are computed at once is for the turns of each service.
const LINES_AT_ONCE: usize = 16;

pub(super) async fn of_file(mut context: Context, batch: &FileBatch) -> Result<Produced, Stop> {
    let known = context.job.batch.map_or(0, |counts| counts.rows);
    let rows = if known > 0 { known } else { check_lines(&context, batch)? };
    context.durable(Fact::BatchCounted(rows)).await?;
    let done = done_rows(&context)?;
    let left = rows.saturating_sub(done.len() as u64);
    context.progress("phase.batch", done.len() as u64, rows).await;
    let mut feed = FileFeed { lines: open(&context, batch)?, endpoint: batch.endpoint.clone(), done };
    let caller = caller(&context);
    ask_all(&mut context, caller, &mut feed, LINES_AT_ONCE, left).await?;
    let state = context.desk.hub.state();
    let counts = state.jobs.get(&context.job.id).and_then(|job| job.batch);
    Ok(Produced::Batch(counts.unwrap_or_default()))
}

fn open(context: &Context, batch: &FileBatch) -> Result<Lines, Failure> {
    let path = context.places.files().join(batch.file.to_string());
    let file = File::open(&path).map_err(|error| {
        Failure::new(FailureCode::FileUnreadable, format!("{} cannot be read: {error}", batch.filename))
            .at(batch.file.to_string())
    })?;
    Ok(Lines { source: BufReader::new(file), number: 0 })
}

/// A line with its number, or what is wrong with it; none at the end.
type Numbered<T> = Option<(u64, Result<T, Fault>)>;

/// The lines of a file that are not blank, with their numbers from 1.
struct Lines {
    source: BufReader<File>,
    number: u64,
}

impl Lines {
    fn next(&mut self) -> Result<Numbered<Vec<u8>>, Failure> {
        let broken = |error: std::io::Error| Failure::new(FailureCode::FileUnreadable, error.to_string());
        loop {
            let mut line = Vec::new();
            let most = LINE_BYTES_MAX as u64 + 1;
            let read = (&mut self.source).take(most).read_until(b'\n', &mut line).map_err(broken)?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            if read as u64 == most && line.last() != Some(&b'\n') {
                self.source.skip_until(b'\n').map_err(broken)?;
                let reason = format!("the line is longer than {LINE_BYTES_MAX} bytes");
                return Ok(Some((self.number, Err(Fault { field: "", reason }))));
            }
            if !line.trim_ascii().is_empty() {
                return Ok(Some((self.number, Ok(line))));
            }
        }
    }

    /// The next line as a request.
    fn request(&mut self, endpoint: &str) -> Result<Numbered<Line>, Failure> {
        let next = self.next()?;
        Ok(next.map(|(number, line)| (number, line.and_then(|line| lines::read(&line, endpoint)))))
    }
}

/// Counts the lines; refuses the file when one of them is no request or two have the same name.
fn check_lines(context: &Context, batch: &FileBatch) -> Result<u64, Failure> {
    let mut lines = open(context, batch)?;
    let mut names = HashSet::new();
    let (mut rows, mut wrong) = (0, 0_u64);
    let mut told: Vec<(u64, String)> = Vec::new();
    while let Some((number, line)) = lines.request(&batch.endpoint)? {
        rows += 1;
        if rows > LINES_MAX {
            let message = format!("{} has more than {LINES_MAX} lines; cut it into several batches", batch.filename);
            return Err(Failure::new(FailureCode::InvalidRequest, message).hint(HintCode::CorrectFile));
        }
        let reason = match line {
            Ok(line) if names.insert(line.custom_id.clone()) => continue,
            Ok(line) => format!("custom_id {:?} stands on an earlier line, too", line.custom_id),
            Err(fault) => fault.reason,
        };
        wrong += 1;
        if told.len() < FAULTS_TOLD_MAX {
            told.push((number, reason));
        }
    }
    if let Some((number, reason)) = told.first() {
        let message = format!(
            "{wrong} of {rows} lines of {} are no requests; the first, line {number}: {reason}",
            batch.filename
        );
        let failure = Failure::new(FailureCode::InvalidRequest, message).hint(HintCode::CorrectFile);
        return Err(told.iter().fold(failure, |failure, (number, reason)| failure.arg(&number.to_string(), reason)));
    }
    if rows == 0 {
        return Err(Failure::new(FailureCode::InvalidRequest, format!("{} has no lines", batch.filename)));
    }
    Ok(rows)
}

struct FileFeed {
    lines: Lines,
    endpoint: String,
    done: HashSet<u64>,
}

impl Feed for FileFeed {
    async fn next(&mut self, _: &mut Context) -> Result<Option<Item>, Stop> {
        while let Some((number, line)) = self.lines.request(&self.endpoint)? {
            if self.done.contains(&number) {
                continue;
            }
            let refuse = |fault: Fault| Failure::new(FailureCode::InvalidRequest, fault.reason).at(fault.field);
            let (custom_id, wanted) = match line {
                Ok(line) => (line.custom_id.clone(), line.wanted()),
                Err(fault) => (String::new(), Err(refuse(fault))),
            };
            return Ok(Some(Item::new(number, custom_id, wanted, false)));
        }
        Ok(None)
    }
}
