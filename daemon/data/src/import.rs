//! The import of rows: every row is kept or rejected with its place and reason, none is lost.
//! Lives here: the task, its threads, the order of pieces, the report. Never here: rows themselves (see `rows`), files (see `open`),
//! segments.
//!
//! Threads take pieces in turn and work on them apart; what they made is put together in the order of the file. So the segments depend on
//! the file alone.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hone_protocol::dataset::{ImportReport, REJECTIONS_MAX, Rejection, RowFormat, Segment};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::worker::{FromWorker, ImportTask};

use super::distinct::Distinct;
use super::format::Format;
use super::mapping::Plan;
use super::open::open;
use super::pieces::{Piece, Pieces};
use super::rows::{Done, RowWork};
use super::segment_writer::{SegmentWriter, broken};
use super::{Progress, unwritable};

/// Threads of one import at most; more would wait for the one disk.
const THREADS_MAX: usize = 8;
/// Finished pieces that may wait for an earlier one, for each thread.
const WAITING_MAX: u64 = 2;
/// Between two signs of life.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

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
                let why = format!(
                    "none of the {} rows can be used; the first, line {}: {field}{}",
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
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    import_with(task, threads, progress)
}

/// The same on so many threads.
pub(super) fn import_with(task: &ImportTask, threads: usize, progress: Progress<'_>) -> Result<Import, Failure> {
    let folder = Path::new(&task.folder);
    let opened = open(Path::new(&task.path))?;
    let plan = match &task.format {
        RowFormat::Detect => super::detect::detect(&opened)?,
        RowFormat::Mapped(mapping) => Plan { format: None, mapping: mapping.clone() },
        format => Plan { format: Format::chosen(format), mapping: Vec::new() },
    };
    let total = opened.size_bytes();
    progress(0, total);
    let sink = Sink {
        next: 0,
        waiting: BTreeMap::new(),
        base: Base::default(),
        report: ImportReport { format: opened.named(&plan), source: task.source.clone(), ..ImportReport::default() },
        segments: SegmentWriter::new(folder, task.first_row_id)?,
        distinct: Distinct::new(folder),
        failure: None,
    };
    let line = Line {
        source: Mutex::new(Source { pieces: opened.pieces()?, taken: 0, ended: false }),
        sink: Mutex::new(sink),
        moved: Condvar::new(),
        ahead_max: WAITING_MAX * threads as u64,
        folder,
    };
    let done = opened.progress();
    run(&line, &plan, threads, &done, total, progress);
    let mut sink = line.sink.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(failure) = sink.failure.take() {
        return Err(failure);
    }
    let segments = sink.segments.finish()?;
    let distinct = sink.distinct.count().map_err(|error| unwritable(folder, &error))?;
    sink.report.duplicates = sink.report.kept - distinct;
    progress(total, total);
    Ok(Import { report: sink.report, segments })
}

fn run(line: &Line<'_>, plan: &Plan, threads: usize, done: &Arc<AtomicU64>, total: u64, progress: Progress<'_>) {
    std::thread::scope(|scope| {
        let (ends, ended) = mpsc::channel::<()>();
        for _ in 0..threads {
            let ends = ends.clone();
            scope.spawn(move || {
                // A thread that panics must not leave the others waiting for its piece.
                let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| line.work(plan)));
                if let Ok(Err(failure)) = worked {
                    line.fail(failure);
                } else if worked.is_err() {
                    line.fail(
                        Failure::new(FailureCode::BadFile, "the file cannot be read: its reader gave up")
                            .hint(HintCode::CorrectFile),
                    );
                }
                drop(ends);
            });
        }
        drop(ends);
        while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(PROGRESS_EVERY) {
            progress(done.load(Ordering::Relaxed).min(total), total);
        }
    });
}

/// What the threads of an import share.
struct Line<'i> {
    source: Mutex<Source>,
    sink: Mutex<Sink>,
    /// The sink has taken a piece in, or the import has failed.
    moved: Condvar,
    ahead_max: u64,
    folder: &'i Path,
}

struct Source {
    pieces: Box<dyn Pieces>,
    taken: u64,
    ended: bool,
}

impl Line<'_> {
    /// What one thread does until there are no more pieces.
    fn work(&self, plan: &Plan) -> Result<(), Failure> {
        let mut rows = RowWork::new(plan).map_err(|error| broken(self.folder, error))?;
        while let Some((index, piece)) = self.take()? {
            let done = rows.piece(&piece).map_err(|error| broken(self.folder, error))?;
            let Piece { file, body } = piece;
            drop(body);
            if !self.give(index, file, done) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn take(&self) -> Result<Option<(u64, Piece)>, Failure> {
        let mut source = locked(&self.source);
        if source.ended {
            return Ok(None);
        }
        let piece = source.pieces.next();
        source.ended = !matches!(piece, Ok(Some(_)));
        let index = source.taken;
        source.taken += 1;
        Ok(piece?.map(|piece| (index, piece)))
    }

    /// Hands over what was made of a piece; says whether there is a point in going on.
    fn give(&self, index: u64, file: Option<Arc<str>>, done: Done) -> bool {
        let mut sink = locked(&self.sink);
        while index >= sink.next + self.ahead_max && sink.failure.is_none() {
            sink = self.moved.wait(sink).unwrap_or_else(PoisonError::into_inner);
        }
        if sink.failure.is_some() {
            return false;
        }
        sink.waiting.insert(index, (file, done));
        if let Err(failure) = sink.take_in() {
            sink.failure = Some(failure);
        }
        self.moved.notify_all();
        sink.failure.is_none()
    }

    fn fail(&self, failure: Failure) {
        locked(&self.source).ended = true;
        locked(&self.sink).failure.get_or_insert(failure);
        self.moved.notify_all();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts what the threads made together, in the order of the file.
struct Sink {
    next: u64,
    waiting: BTreeMap<u64, (Option<Arc<str>>, Done)>,
    base: Base,
    report: ImportReport,
    segments: SegmentWriter,
    distinct: Distinct,
    failure: Option<Failure>,
}

/// Lines before a piece, in its file.
#[derive(Default)]
struct Base {
    file: Option<Arc<str>>,
    lines: u64,
}

impl Sink {
    fn take_in(&mut self) -> Result<(), Failure> {
        while let Some((file, done)) = self.waiting.remove(&self.next) {
            self.next += 1;
            if self.base.file != file {
                self.base = Base { file, lines: 0 };
            }
            self.count(&done);
            for batch in &done.batches {
                self.segments.add(batch)?;
            }
            for key in &done.keys {
                let saved = self.distinct.push(*key);
                saved.map_err(|error| {
                    Failure::new(FailureCode::NotSaved, format!("row hashes cannot be kept: {error}"))
                })?;
            }
        }
        Ok(())
    }

    fn count(&mut self, done: &Done) {
        self.report.read += done.read;
        self.report.kept += done.kept;
        self.report.rejected += done.read - done.kept;
        let before = if done.lines.is_some() { self.base.lines } else { 0 };
        let room = REJECTIONS_MAX - self.report.rejections.len();
        for (line, fault) in done.faults.iter().take(room) {
            let reason = match &self.base.file {
                Some(file) => format!("{file}: {}", fault.reason),
                None => fault.reason.clone(),
            };
            self.report.rejections.push(Rejection { line: before + line, field: fault.field.clone(), reason });
        }
        self.base.lines += done.lines.unwrap_or_default();
    }
}
