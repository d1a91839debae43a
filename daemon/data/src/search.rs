//! The rows that a filter lets through, found by going through all of them.
//! Lives here: what a filter means, threads over blocks. Never here: which of the found rows are shown (see `window`).
//!
//! Blocks are looked through without a look at their hashes, which would take five times as long as the search. What is shown of what was
//! found is proved when it is read.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hone_protocol::dataset::{RowFilter, Segment};
use hone_protocol::failure::{Failure, FailureCode};
use regex_automata::meta::Regex;
use regex_automata::util::syntax;

use super::columns::Rows;
use super::segment::SegmentFile;

/// Threads of one search at most.
const THREADS_MAX: usize = 8;
/// Bytes of the text that is looked for.
const CONTAINS_BYTES_MAX: usize = 4096;

/// A filter made ready.
struct Ready<'f> {
    filter: &'f RowFilter,
    contains: Contains<'f>,
}

enum Contains<'f> {
    Anything,
    Exactly(memchr::memmem::Finder<'f>),
    AnyCase(Regex),
}

impl<'f> Ready<'f> {
    fn new(filter: &'f RowFilter) -> Result<Ready<'f>, Failure> {
        if filter.contains.len() > CONTAINS_BYTES_MAX {
            let message = format!("{} bytes to look for; at most {CONTAINS_BYTES_MAX}", filter.contains.len());
            return Err(Failure::field("filter.contains", message));
        }
        let contains = match (filter.contains.as_str(), filter.ignore_case) {
            ("", _) => Contains::Anything,
            (text, false) => Contains::Exactly(memchr::memmem::Finder::new(text)),
            (text, true) => {
                let regex = Regex::builder()
                    .syntax(syntax::Config::new().case_insensitive(true))
                    .build(&regex_syntax::escape(text));
                Contains::AnyCase(regex.map_err(|error| Failure::new(FailureCode::Internal, error.to_string()))?)
            }
        };
        Ok(Ready { filter, contains })
    }

    fn passes(&self, rows: &Rows, index: usize) -> bool {
        rows.messages(index).any(|(role, content)| self.is(role, content))
    }

    /// The cheap questions first: most messages are told apart by their length in bytes.
    fn is(&self, role: &str, content: &str) -> bool {
        let (min, max) = (self.filter.min_characters, self.filter.max_characters);
        let bytes = content.len() as u64;
        if bytes < min || max != 0 && bytes / 4 > max || !self.filter.role.is_empty() && self.filter.role != role {
            return false;
        }
        let found = match &self.contains {
            Contains::Anything => true,
            Contains::Exactly(finder) => finder.find(content.as_bytes()).is_some(),
            Contains::AnyCase(regex) => regex.is_match(content),
        };
        found && {
            let characters = if min == 0 && max == 0 { 0 } else { content.chars().count() as u64 };
            characters >= min && (max == 0 || characters <= max)
        }
    }
}

/// A segment by its place among them, and the ids of its rows that pass.
type OfSegment = (usize, Result<Vec<u64>, Failure>);

/// Ids of the rows that pass, in order.
pub(super) fn found(folder: &Path, segments: &[Segment], filter: &RowFilter) -> Result<Vec<u64>, Failure> {
    let ready = Ready::new(filter)?;
    let next = AtomicUsize::new(0);
    let found: Mutex<Vec<OfSegment>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(segment) = segments.get(index) else { return };
                    let ids = in_segment(folder, segment, &ready);
                    if let Ok(mut found) = found.lock() {
                        found.push((index, ids));
                    }
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    found.sort_by_key(|(index, _)| *index);
    let mut all = Vec::new();
    for (_, ids) in found {
        all.extend(ids?);
    }
    Ok(all)
}

fn in_segment(folder: &Path, segment: &Segment, ready: &Ready<'_>) -> Result<Vec<u64>, Failure> {
    let file = SegmentFile::open(folder, segment)?;
    let (split, part) = (ready.filter.split, ready.filter.part);
    let mut ids = Vec::new();
    for block in 0..file.blocks() {
        let rows = file.skim(block)?;
        let first = segment.first_row_id + file.span(block).start;
        let of_block = (first..).take(rows.len()).enumerate();
        ids.extend(
            of_block.filter(|(index, id)| split.includes(part, *id) && ready.passes(&rows, *index)).map(|(_, id)| id),
        );
    }
    Ok(ids)
}
