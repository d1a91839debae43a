//! Reading a log: pages of entries, the newest first, by what is asked of them; one entry by its response. Files are read whole and
//! backwards, so much at a time. Never here: writing.

use std::path::Path;

use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::generate::Prompt;
use hone_protocol::id::{ApplicationId, LedgerId};
use hone_protocol::log::{
    FeedbackCounts, FeedbackFilter, FeedbackRecord, LOG_SHOWN_CHARS, LogEntry, LogLine, LogPage, LogQuery, LogSettings,
    Rating,
};
use hone_protocol::request::ROWS_MAX;

use super::files::{self, Part};
use crate::store::{Store, Table, codec, key};

/// Bytes that are looked through for one page. Then it ends, whether it is full or not, and the next one goes on.
const LOOK_BYTES_MAX: u64 = 64 << 20;

fn unreadable(error: std::io::Error) -> Failure {
    Failure::new(FailureCode::FileUnreadable, format!("the request log cannot be read: {error}"))
}

/// What people said of a response.
pub(crate) fn feedback_of(
    store: &Store,
    application: ApplicationId,
    response: LedgerId,
) -> Result<Vec<FeedbackRecord>, Failure> {
    let pairs = store.prefix(Table::Feedback, &key(&[application.bytes(), response.bytes()]))?;
    Ok(codec::read_all(Table::Feedback, &pairs)?)
}

/// The same in numbers.
pub(super) fn counts(records: &[FeedbackRecord]) -> FeedbackCounts {
    let mut counts = FeedbackCounts::default();
    records.iter().for_each(|record| counts.add(&record.feedback));
    counts
}

/// The lines of a file that can be read, by their place in it. What a crash tore is left out.
pub(super) fn lines(folder: &Path, part: &Part) -> Result<Vec<(usize, LogEntry)>, Failure> {
    let bytes = match std::fs::read(part.path(folder)) {
        // It was too old or too much in the meantime.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        bytes => bytes.map_err(unreadable)?,
    };
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    Ok(lines.filter_map(|(at, line)| Some((at, serde_json::from_slice(line).ok()?))).collect())
}

/// The files of a log, the oldest first.
pub(super) fn parts(folder: &Path) -> Result<Vec<Part>, Failure> {
    files::parts(folder).map(Into::into).map_err(unreadable)
}

/// Looks at entries.
pub(super) struct Sieve<'q> {
    query: &'q LogQuery,
    text: String,
    since_ms: i64,
}

impl<'q> Sieve<'q> {
    pub(super) fn new(query: &'q LogQuery, settings: Option<&LogSettings>, now_ms: i64) -> Sieve<'q> {
        let oldest = settings.map_or(i64::MIN, |settings| files::oldest_ms(settings, now_ms));
        let since_ms = query.since_ms.unwrap_or(i64::MIN).max(oldest);
        Sieve { query, text: query.text.to_lowercase(), since_ms }
    }

    /// Whether nothing of a file fits.
    pub(super) fn skips(&self, part: &Part) -> bool {
        part.from_ms.saturating_add(files::FILE_MS) < self.since_ms
            || self.query.until_ms.is_some_and(|until| part.from_ms >= until)
    }

    /// Whether an entry fits, but for what was said of it.
    pub(super) fn fits(&self, entry: &LogEntry) -> bool {
        let query = self.query;
        let is = |wanted: &str, value: &str| wanted.is_empty() || wanted == value;
        entry.at_ms >= self.since_ms
            && query.until_ms.is_none_or(|until| entry.at_ms < until)
            && is(&query.service, &entry.service)
            && is(&query.user, &entry.user)
            && (query.id.is_empty() || is_of(&query.id, entry.id))
            && (self.text.is_empty() || says(entry, &self.text))
    }

    /// Whether what was said of it fits.
    pub(super) fn is_said(&self, counts: &FeedbackCounts) -> bool {
        match self.query.feedback {
            None => true,
            Some(FeedbackFilter::Any) => *counts != FeedbackCounts::default(),
            Some(FeedbackFilter::None) => *counts == FeedbackCounts::default(),
            Some(FeedbackFilter::Up) => counts.rating() == Some(Rating::Up),
            Some(FeedbackFilter::Down) => counts.rating() == Some(Rating::Down),
            Some(FeedbackFilter::Corrected) => counts.corrections > 0,
        }
    }
}

/// Whether a part of an id, in any of the forms in which clients are told it, is of a response.
fn is_of(part: &str, id: LedgerId) -> bool {
    let digits = part.rsplit(['-', '_']).next().unwrap_or(part);
    id.to_string().contains(digits)
}

fn says(entry: &LogEntry, text: &str) -> bool {
    let has = |said: &str| said.to_lowercase().contains(text);
    let asks = |prompt: &Prompt| match prompt {
        Prompt::Chat(chat) => chat.turns.iter().any(|turn| has(&turn.content)),
        Prompt::Text { text, .. } => has(text),
        Prompt::Tokens(_) => false,
    };
    entry.prompts.iter().any(asks) || entry.answers.iter().any(|answer| has(&answer.text) || has(&answer.reasoning))
}

fn beginning(text: &str) -> String {
    text.chars().take(LOG_SHOWN_CHARS).collect()
}

/// The last message.
fn asked(entry: &LogEntry) -> String {
    match entry.prompts.first() {
        Some(Prompt::Chat(chat)) => chat.turns.last().map(|turn| beginning(&turn.content)).unwrap_or_default(),
        Some(Prompt::Text { text, .. }) => beginning(text),
        Some(Prompt::Tokens(tokens)) => format!("{} tokens", tokens.len()),
        None => String::new(),
    }
}

fn line(entry: LogEntry, counts: &FeedbackCounts) -> LogLine {
    let first = entry.answers.first();
    let answered = first.map(|answer| match answer.calls.first() {
        Some((name, arguments)) if answer.text.is_empty() => beginning(&format!("{name}({arguments})")),
        _ => beginning(&answer.text),
    });
    LogLine {
        id: entry.id,
        at_ms: entry.at_ms,
        asked: asked(&entry),
        answered: answered.unwrap_or_default(),
        finish: first.map(|answer| answer.finish.clone()).unwrap_or_default(),
        service: entry.service,
        version: entry.version,
        user: entry.user,
        outcome: entry.outcome,
        prompt_tokens: entry.prompt_tokens,
        completion_tokens: entry.completion_tokens,
        total_ms: entry.total_ms,
        ratings: (counts.up as u32, counts.down as u32),
        is_corrected: counts.corrections > 0,
        guarded: entry.guards.iter().map(|hit| hit.matches).sum(),
        cut_bytes: entry.cut_bytes,
    }
}

/// Where a page begins: before this line of this file.
fn place(after: &str) -> Result<(u64, usize), Failure> {
    if after.is_empty() {
        return Ok((u64::MAX, usize::MAX));
    }
    let numbers = after.split_once('.').and_then(|(part, line)| Some((part.parse().ok()?, line.parse().ok()?)));
    numbers.ok_or_else(|| Failure::field("after", "this is no place in a log; use next of the page before"))
}

/// A page of an application's log.
pub(crate) fn page(
    store: &Store,
    folder: &Path,
    application: ApplicationId,
    settings: Option<&LogSettings>,
    query: &LogQuery,
    now_ms: i64,
) -> Result<LogPage, Failure> {
    let sieve = Sieve::new(query, settings, now_ms);
    let (before_part, before_line) = place(&query.after)?;
    let count = query.count.clamp(1, ROWS_MAX) as usize;
    let parts = parts(folder)?;
    let mut page = LogPage { bytes: parts.iter().map(|part| part.bytes).sum(), ..LogPage::default() };
    let mut looked = 0;
    for part in parts.iter().rev().filter(|part| part.number <= before_part && !sieve.skips(part)) {
        if looked > LOOK_BYTES_MAX {
            page.next = Some(format!("{}.{}", part.number, usize::MAX));
            return Ok(page);
        }
        looked += part.bytes;
        let end = if part.number == before_part { before_line } else { usize::MAX };
        for (at, entry) in lines(folder, part)?.into_iter().rev().filter(|(at, _)| *at < end) {
            if !sieve.fits(&entry) {
                continue;
            }
            let counts = counts(&feedback_of(store, application, entry.id)?);
            if !sieve.is_said(&counts) {
                continue;
            }
            if page.lines.len() == count {
                page.next = Some(format!("{}.{}", part.number, at + 1));
                return Ok(page);
            }
            page.lines.push(line(entry, &counts));
        }
    }
    Ok(page)
}

/// The entry of a response, where it was logged and is not too old.
pub(crate) fn find(
    folder: &Path,
    settings: Option<&LogSettings>,
    response: LedgerId,
    now_ms: i64,
) -> Result<Option<LogEntry>, Failure> {
    let everything = LogQuery::default();
    let sieve = Sieve::new(&everything, settings, now_ms);
    let opened_ms = response.made_at_ms();
    let parts = parts(folder)?;
    // It was written after it was opened: the file that was begun last before that is the first that may have it.
    let first = parts.iter().rposition(|part| part.from_ms <= opened_ms).unwrap_or(0);
    for part in &parts[first..] {
        let found = lines(folder, part)?.into_iter().map(|(_, entry)| entry).find(|entry| entry.id == response);
        if let Some(entry) = found {
            return Ok(Some(entry).filter(|entry| sieve.fits(entry)));
        }
    }
    Ok(None)
}
