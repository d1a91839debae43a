//! What differs between two versions of rows, row by row. Lives here: comparing and pages of the differences. Never here: the layout of
//! a segment.
//!
//! A row is the same when its content is (by hash; as often as in the version that has fewer of it). What is left is changed where both
//! versions have its id, else where both have its prompt; the rest is added or removed. Segments that both versions have are not read.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

use hone_protocol::dataset::{CHOSEN, DatasetDiff, DiffRow, REJECTED, Row, Segment, TEXT};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::frame::FRAME_BYTES_MAX;
use hone_protocol::wire;
use hone_protocol::worker::{DiffTask, FromWorker};

use super::canonical::content_sha256;
use super::segment::SegmentFile;
use super::window::check_segments;

/// Rows that two versions may have apart; with more the answer says so instead.
const ROWS_MAX: u64 = 4_000_000;
/// Most rows of one page.
const PAGE_ROWS_MAX: usize = 1_000;
/// Most bytes of the rows of one page.
const PAGE_BYTES_MAX: usize = FRAME_BYTES_MAX - 4096;

/// Where a row is, and by what it is known.
struct Known {
    row_id: u64,
    content: [u8; 32],
    prompt: [u8; 32],
    segment: u32,
    block: u32,
    index: u32,
}

/// One difference: places in both lists of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change {
    before: Option<u32>,
    after: Option<u32>,
}

/// What is kept between pages.
#[derive(Default)]
pub(super) struct Differ {
    of: Option<(PathBuf, Vec<Segment>, Vec<Segment>)>,
    before: Side,
    after: Side,
    same: u64,
    changes: Vec<Change>,
}

#[derive(Default)]
struct Side {
    segments: Vec<Segment>,
    rows: Vec<Known>,
}

/// The answer to a request for differences.
pub(super) fn answer(differ: &mut Differ, task: &DiffTask) -> FromWorker {
    let diff = differ.compare(task).and_then(|()| differ.page(task));
    FromWorker::Diffed { request: task.request, diff: diff.map(Box::new) }
}

fn prompt(row: &Row) -> [u8; 32] {
    let answers = |message: &&hone_protocol::dataset::ChatMessage| {
        !matches!(message.role.as_str(), "assistant" | CHOSEN | REJECTED | TEXT)
    };
    let asked = row.messages.iter().filter(answers);
    content_sha256(asked.map(|message| (message.role.as_str(), message.content.as_str())))
}

impl Side {
    fn read(folder: &Path, segments: Vec<Segment>) -> Result<Side, Failure> {
        let mut rows = Vec::new();
        for (at, segment) in segments.iter().enumerate() {
            let file = SegmentFile::open(folder, segment)?;
            for block in 0..file.blocks() {
                let read = file.read(block)?;
                for index in 0..read.len() {
                    let row = read.row(index).map_err(|reason| file.damaged(&reason))?;
                    rows.push(Known {
                        row_id: row.row_id,
                        content: row.content_sha256.0,
                        prompt: prompt(&row),
                        segment: at as u32,
                        block: block as u32,
                        index: index as u32,
                    });
                }
            }
        }
        Ok(Side { segments, rows })
    }

    fn row(&self, folder: &Path, at: u32) -> Result<Row, Failure> {
        let gone = || Failure::new(FailureCode::Internal, "a row is no more where it was");
        let known = self.rows.get(at as usize).ok_or_else(gone)?;
        let segment = self.segments.get(known.segment as usize).ok_or_else(gone)?;
        let file = SegmentFile::open(folder, segment)?;
        let rows = file.read(known.block as usize)?;
        rows.row(known.index as usize).map_err(|reason| file.damaged(&reason))
    }
}

impl Differ {
    fn compare(&mut self, task: &DiffTask) -> Result<(), Failure> {
        let of = (PathBuf::from(&task.folder), task.before.clone(), task.after.clone());
        if self.of.as_ref() == Some(&of) {
            return Ok(());
        }
        check_segments(&task.before)?;
        check_segments(&task.after)?;
        let apart = |own: &[Segment], other: &[Segment]| {
            own.iter().filter(|one| !other.contains(one)).cloned().collect::<Vec<_>>()
        };
        let (before, after) = (apart(&task.before, &task.after), apart(&task.after, &task.before));
        let rows = |segments: &[Segment]| segments.iter().map(|segment| segment.rows).sum::<u64>();
        let most = rows(&before).max(rows(&after));
        if most > ROWS_MAX {
            let message = format!("the versions have {most} rows apart; at most {ROWS_MAX} are compared");
            return Err(Failure::new(FailureCode::LimitReached, message).hint(HintCode::CorrectField));
        }
        *self = Differ::default();
        let shared = rows(&task.before) - rows(&before);
        self.before = Side::read(&of.0, before)?;
        self.after = Side::read(&of.0, after)?;
        let (same, changes) = changes(&self.before.rows, &self.after.rows);
        (self.same, self.changes, self.of) = (shared + same, changes, Some(of));
        Ok(())
    }

    fn page(&self, task: &DiffTask) -> Result<DatasetDiff, Failure> {
        let folder = Path::new(&task.folder);
        let count = |fits: fn(&Change) -> bool| self.changes.iter().filter(|change| fits(change)).count() as u64;
        let mut diff = DatasetDiff {
            added: count(|change| change.before.is_none()),
            removed: count(|change| change.after.is_none()),
            changed: count(|change| change.before.is_some() && change.after.is_some()),
            same: self.same,
            rows: Vec::new(),
        };
        let mut bytes = 0;
        let from = usize::try_from(task.offset).unwrap_or(usize::MAX);
        let page = self.changes.get(from..).unwrap_or_default();
        for change in page.iter().take((task.count as usize).min(PAGE_ROWS_MAX)) {
            let side = |side: &Side, at: Option<u32>| at.map(|at| side.row(folder, at)).transpose();
            let row = DiffRow { before: side(&self.before, change.before)?, after: side(&self.after, change.after)? };
            bytes += wire::encode(&row).len();
            if bytes > PAGE_BYTES_MAX && !diff.rows.is_empty() {
                break;
            }
            diff.rows.push(row);
        }
        Ok(diff)
    }
}

/// How many rows are the same, and the differences: changed and added rows in the order of the new version, then removed ones.
fn changes(before: &[Known], after: &[Known]) -> (u64, Vec<Change>) {
    let mut left: Vec<Option<u32>> = vec![None; after.len()];
    let mut taken = vec![false; before.len()];
    let mut same = vec![false; after.len()];
    let mut pair = |key: &dyn Fn(&Known) -> [u8; 32], is_same: bool, left: &mut Vec<Option<u32>>| {
        let mut waiting: HashMap<[u8; 32], VecDeque<u32>> = HashMap::new();
        for (at, known) in before.iter().enumerate().filter(|(at, _)| !taken[*at]) {
            waiting.entry(key(known)).or_default().push_back(at as u32);
        }
        for (at, known) in after.iter().enumerate() {
            if same[at] || left[at].is_some() {
                continue;
            }
            if let Some(found) = waiting.get_mut(&key(known)).and_then(VecDeque::pop_front) {
                taken[found as usize] = true;
                if is_same {
                    same[at] = true;
                } else {
                    left[at] = Some(found);
                }
            }
        }
    };
    let by_id = |known: &Known| {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&known.row_id.to_be_bytes());
        key
    };
    pair(&|known| known.content, true, &mut left);
    pair(&by_id, false, &mut left);
    pair(&|known| known.prompt, false, &mut left);
    let count = same.iter().filter(|is_same| **is_same).count() as u64;
    let rows = (0..after.len()).filter(|at| !same[*at]);
    let mut changes: Vec<Change> = rows.map(|at| Change { before: left[at], after: Some(at as u32) }).collect();
    let removed = (0..before.len()).filter(|at| !taken[*at]);
    changes.extend(removed.map(|at| Change { before: Some(at as u32), after: None }));
    (count, changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(row_id: u64, content: u8, prompt: u8) -> Known {
        Known { row_id, content: [content; 32], prompt: [prompt; 32], segment: 0, block: 0, index: 0 }
    }

    fn change(before: Option<u32>, after: Option<u32>) -> Change {
        Change { before, after }
    }

    #[test]
    fn rows_are_the_same_changed_added_or_removed() {
        // The same content under other ids; the same id; the same prompt; one added; one removed.
        let before = [known(0, 1, 1), known(1, 2, 2), known(2, 3, 3), known(3, 4, 4)];
        let after = [known(10, 1, 1), known(1, 9, 8), known(12, 10, 3), known(13, 11, 11)];
        let (same, found) = changes(&before, &after);
        assert_eq!(same, 1);
        let expected =
            [change(Some(1), Some(1)), change(Some(2), Some(2)), change(None, Some(3)), change(Some(3), None)];
        assert_eq!(found, expected);
    }

    #[test]
    fn repeated_rows_count_as_often_as_they_stand() {
        let before = [known(0, 1, 1), known(1, 1, 1), known(2, 1, 1)];
        let after = [known(5, 1, 1), known(6, 1, 1)];
        assert_eq!(changes(&before, &after), (2, vec![change(Some(2), None)]));
        assert_eq!(changes(&after, &before), (2, vec![change(None, Some(2))]));
        assert_eq!(changes(&before, &before), (3, Vec::new()));
    }
}
