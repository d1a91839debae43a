//! Pages of rows: any window of either side of a split, by index, or one row by id.
//! Lives here: finding the rows and keeping the reply within a frame. Never here: the layout of a segment.

use std::path::{Path, PathBuf};

use hone_protocol::dataset::{Part, Row, RowFilter, Segment, Split};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::frame::FRAME_BYTES_MAX;
use hone_protocol::value::Hash;
use hone_protocol::worker::{FromWorker, ReadTask, Select};

use super::columns::Rows;
use super::search;
use super::segment::SegmentFile;

/// Most rows of one page; more are not an error, the page is shorter.
pub(super) const WINDOW_ROWS_MAX: usize = 10_000;
/// Most bytes of the rows of one page, so that the reply and its other fields fit into a frame.
pub(super) const WINDOW_BYTES_MAX: usize = FRAME_BYTES_MAX - 4096;
/// Segments held open; beyond it the one that was not used for longest is closed.
const OPEN_MAX: usize = 64;

/// What a reader keeps between pages.
#[derive(Default)]
pub(super) struct Reader {
    open: Vec<(PathBuf, SegmentFile)>,
    last: Option<(Hash, usize, Rows)>,
    counts: Option<Counts>,
    found: Option<Found>,
}

/// The rows that a filter let through, for the version and filter asked for last.
struct Found {
    filter: RowFilter,
    segments: Vec<Segment>,
    ids: Vec<u64>,
}

/// How many rows of a part each segment has, for the version and split asked for last.
struct Counts {
    split: Split,
    part: Part,
    spans: Vec<(u64, u64)>,
    rows: Vec<u64>,
}

/// The reply to a request for rows.
pub(super) fn answer(reader: &mut Reader, task: &ReadTask) -> FromWorker {
    let found = check(task).and_then(|()| match &task.select {
        Select::Window { offset, count, split, part } => {
            let count = (*count as usize).min(WINDOW_ROWS_MAX);
            reader.window(task, *offset, count, *split, *part)
        }
        Select::One { row_id } => reader.one(task, *row_id),
        Select::Ids { row_ids } => reader.by_ids(task, row_ids),
        Select::Find { filter, offset, count } => {
            reader.find(task, filter, *offset, (*count as usize).min(WINDOW_ROWS_MAX))
        }
    });
    let (rows, total) = match found {
        Ok((rows, total)) => (Ok(rows), total),
        Err(failure) => (Err(failure), 0),
    };
    FromWorker::Window { request: task.request, rows, total }
}

fn check(task: &ReadTask) -> Result<(), Failure> {
    if let Select::Window { split, .. } | Select::Find { filter: RowFilter { split, .. }, .. } = &task.select {
        check_split(split)?;
    }
    check_segments(&task.segments)
}

/// A split outside its range would put rows on the wrong side.
pub(super) fn check_split(split: &Split) -> Result<(), Failure> {
    if split.held_out_percent <= 90 {
        return Ok(());
    }
    let message = format!("{} percent held out; it must be between 0 and 90", split.held_out_percent);
    Err(Failure::field("held_out_percent", message))
}

/// Ids that do not fit 64 bits would wrap around.
pub(super) fn check_segments(segments: &[Segment]) -> Result<(), Failure> {
    match segments.iter().find(|segment| segment.first_row_id.checked_add(segment.rows).is_none()) {
        None => Ok(()),
        Some(segment) => {
            Err(Failure::field("segments", format!("the segment {} has row ids beyond 64 bits", segment.sha256)))
        }
    }
}

impl Reader {
    fn window(
        &mut self,
        task: &ReadTask,
        offset: u64,
        count: usize,
        split: Split,
        part: Part,
    ) -> Result<(Vec<Row>, u64), Failure> {
        let counts = self.counts(&task.segments, split, part);
        let total = counts.iter().sum();
        let mut page = Page::new(count);
        let mut skip = offset;
        for (segment, rows) in task.segments.iter().zip(counts) {
            if skip >= rows {
                skip -= rows;
                continue;
            }
            let ids = segment.first_row_id..segment.first_row_id + segment.rows;
            for id in ids.filter(|id| split.includes(part, *id)).skip(skip as usize) {
                if page.is_full() || !page.add(self.row(task, segment, id - segment.first_row_id)?)? {
                    return Ok((page.rows, total));
                }
            }
            skip = 0;
        }
        Ok((page.rows, total))
    }

    /// A page of what a filter lets through. All of it is found once and kept, so that paging goes on at once.
    fn find(
        &mut self,
        task: &ReadTask,
        filter: &RowFilter,
        offset: u64,
        count: usize,
    ) -> Result<(Vec<Row>, u64), Failure> {
        let known = self.found.take().filter(|known| known.filter == *filter && known.segments == task.segments);
        let found = match known {
            Some(found) => found,
            None => {
                let ids = search::found(Path::new(&task.folder), &task.segments, filter)?;
                Found { filter: filter.clone(), segments: task.segments.clone(), ids }
            }
        };
        let mut page = Page::new(count);
        let ids: Vec<u64> = found.ids.iter().skip(offset as usize).take(count).copied().collect();
        let total = found.ids.len() as u64;
        self.found = Some(found);
        for id in ids {
            let holds = |segment: &&Segment| (segment.first_row_id..segment.first_row_id + segment.rows).contains(&id);
            let Some(segment) = task.segments.iter().find(holds) else { continue };
            if !page.add(self.row(task, segment, id - segment.first_row_id)?)? {
                break;
            }
        }
        Ok((page.rows, total))
    }

    fn one(&mut self, task: &ReadTask, row_id: u64) -> Result<(Vec<Row>, u64), Failure> {
        let total = task.segments.iter().map(|segment| segment.rows).sum();
        // A later segment of a version stands for an edit of an earlier row.
        let holds = |segment: &&Segment| (segment.first_row_id..segment.first_row_id + segment.rows).contains(&row_id);
        let Some(segment) = task.segments.iter().rev().find(holds) else {
            return Err(Failure::not_found("row", &row_id.to_string()));
        };
        let mut page = Page::new(1);
        page.add(self.row(task, segment, row_id - segment.first_row_id)?)?;
        Ok((page.rows, total))
    }

    /// Rows by their ids, as many as fit into a page. Those that are not there are left out.
    fn by_ids(&mut self, task: &ReadTask, row_ids: &[u64]) -> Result<(Vec<Row>, u64), Failure> {
        let total = task.segments.iter().map(|segment| segment.rows).sum();
        let mut page = Page::new(WINDOW_ROWS_MAX);
        for row_id in row_ids {
            let holds =
                |segment: &&Segment| (segment.first_row_id..segment.first_row_id + segment.rows).contains(row_id);
            let Some(segment) = task.segments.iter().rev().find(holds) else { continue };
            if page.is_full() || !page.add(self.row(task, segment, row_id - segment.first_row_id)?)? {
                break;
            }
        }
        Ok((page.rows, total))
    }

    /// Rows of the part in each segment. Counting a million ids takes a few milliseconds, so it is kept.
    fn counts(&mut self, segments: &[Segment], split: Split, part: Part) -> Vec<u64> {
        let spans: Vec<(u64, u64)> = segments.iter().map(|segment| (segment.first_row_id, segment.rows)).collect();
        match &self.counts {
            Some(known) if known.split == split && known.part == part && known.spans == spans => known.rows.clone(),
            _ => {
                let count = |(first, rows): &(u64, u64)| match part {
                    Part::All => *rows,
                    _ => (*first..first + rows).filter(|id| split.includes(part, *id)).count() as u64,
                };
                let rows: Vec<u64> = spans.iter().map(count).collect();
                self.counts = Some(Counts { split, part, spans, rows: rows.clone() });
                rows
            }
        }
    }

    fn row(&mut self, task: &ReadTask, segment: &Segment, index: u64) -> Result<Row, Failure> {
        let file = self.file(Path::new(&task.folder), segment)?;
        let (block, start) = file.block_of(index).ok_or_else(|| file.damaged("a row is missing"))?;
        let known = self.last.as_ref().is_some_and(|(hash, last, _)| *hash == segment.sha256 && *last == block);
        if !known {
            let rows = self.file(Path::new(&task.folder), segment)?.read(block)?;
            self.last = Some((segment.sha256, block, rows));
        }
        match &self.last {
            Some((_, _, rows)) => rows.row((index - start) as usize),
            None => Err("the block was not read".into()),
        }
        .map_err(|reason| match self.open.last() {
            Some((_, file)) => file.damaged(&reason),
            None => Failure::new(FailureCode::Internal, reason),
        })
    }

    /// The open segment, moved to the end of the list: the front is closed first.
    fn file(&mut self, folder: &Path, segment: &Segment) -> Result<&SegmentFile, Failure> {
        let known = self.open.iter().position(|(at, file)| at == folder && file.segment() == segment);
        let entry = match known {
            Some(index) => self.open.remove(index),
            None => (folder.to_owned(), SegmentFile::open(folder, segment)?),
        };
        if self.open.len() == OPEN_MAX {
            self.open.remove(0);
        }
        self.open.push(entry);
        Ok(&self.open[self.open.len() - 1].1)
    }
}

/// Bytes of a row in a frame, at most: its texts, and nine for each length and number.
fn frame_bytes(row: &Row) -> usize {
    let messages: usize = row.messages.iter().map(|m| m.role.len() + m.content.len() + 18).sum();
    messages + row.original.as_str().len() + 68
}

/// Rows of a reply that still fit.
struct Page {
    rows: Vec<Row>,
    rows_max: usize,
    bytes: usize,
}

impl Page {
    fn new(rows_max: usize) -> Page {
        Page { rows: Vec::new(), rows_max, bytes: 0 }
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= self.rows_max
    }

    /// Adds a row, or says that the page is full. A row that no page can hold is a failure, else the one who asks
    /// would ask for ever.
    fn add(&mut self, row: Row) -> Result<bool, Failure> {
        let bytes = frame_bytes(&row);
        if self.bytes + bytes <= WINDOW_BYTES_MAX {
            self.bytes += bytes;
            self.rows.push(row);
            return Ok(true);
        }
        if !self.rows.is_empty() {
            return Ok(false);
        }
        Err(Failure::new(
            FailureCode::LimitReached,
            format!("row {} has {bytes} bytes; at most {WINDOW_BYTES_MAX} can be shown, export it instead", row.row_id),
        )
        .arg("row_id", row.row_id)
        .hint(HintCode::CorrectFile))
    }
}
