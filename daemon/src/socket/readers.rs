//! Children that are kept for reads: one that pages rows, one that renders them for a model. Each is started on
//! demand and ends when nobody asked for a while.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hone_protocol::dataset::{DatasetDiff, DatasetVersionRecord, RenderedRow, Row};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::paths;
use hone_protocol::worker::{DiffTask, FromWorker, ReadTask, Select, ToWorker};
use tokio::sync::Mutex;

use crate::config::Places;
use crate::sandbox::Paths;
use crate::workers::line::Line;
use crate::workers::process::{Program, Spawner};

/// A reader that nobody asks ends after so long.
const IDLE_MS: u64 = 30_000;
/// A read that takes longer is given up, and its child with it.
const READ_MS: u64 = 30_000;

struct Kept {
    line: Line,
    /// What it was started for: nothing for rows, a model's path for rendering.
    of: String,
    used_at: Instant,
    next_request: u64,
}

impl Kept {
    async fn ask(&mut self, task: impl Fn(u64) -> ToWorker) -> Result<FromWorker, Failure> {
        let request = self.next_request;
        self.next_request += 1;
        self.used_at = Instant::now();
        self.line.send(&task(request)).await?;
        let answer = tokio::time::timeout(Duration::from_millis(READ_MS), self.line.recv()).await;
        answer.map_err(|_| Failure::new(FailureCode::WorkerSilent, "the reader took too long and was ended"))?
    }
}

/// The kept children. Cheap to clone.
#[derive(Clone)]
pub struct Readers {
    places: Arc<Places>,
    spawner: Spawner,
    rows: Arc<Mutex<Option<Kept>>>,
    renderer: Arc<Mutex<Option<Kept>>>,
}

impl Readers {
    /// None is started yet.
    pub fn new(places: Arc<Places>, spawner: Spawner) -> Readers {
        Readers { places, spawner, rows: Arc::default(), renderer: Arc::default() }
    }

    /// A window of rows of a version, and how many rows the part has.
    pub async fn rows(&self, version: &DatasetVersionRecord, select: Select) -> Result<(Vec<Row>, u64), Failure> {
        let task = |request| {
            ToWorker::Read(ReadTask {
                request,
                folder: self.places.blobs.display().to_string(),
                segments: version.segments.clone(),
                select: select.clone(),
            })
        };
        match self.ask(&self.rows, Program::Daemon("data"), "", task).await? {
            FromWorker::Window { rows, total, .. } => Ok((rows?, total)),
            _ => Err(misplaced()),
        }
    }

    /// What differs between two versions.
    pub async fn diff(
        &self,
        before: &DatasetVersionRecord,
        after: &DatasetVersionRecord,
        (offset, count): (u64, u32),
    ) -> Result<Box<DatasetDiff>, Failure> {
        let task = |request| {
            ToWorker::Diff(DiffTask {
                request,
                folder: self.places.blobs.display().to_string(),
                before: before.segments.clone(),
                after: after.segments.clone(),
                offset,
                count,
            })
        };
        match self.ask(&self.rows, Program::Daemon("data"), "", task).await? {
            FromWorker::Diffed { diff, .. } => diff,
            _ => Err(misplaced()),
        }
    }

    /// A row as a model sees it.
    pub async fn render(&self, model_path: &str, row: Row) -> Result<RenderedRow, Failure> {
        let task = |request| ToWorker::Render { request, row: row.clone() };
        match self.ask(&self.renderer, Program::Worker("tokenize"), model_path, task).await? {
            FromWorker::Rendered { row, .. } => row,
            _ => Err(misplaced()),
        }
    }

    async fn ask(
        &self,
        place: &Arc<Mutex<Option<Kept>>>,
        program: Program,
        of: &str,
        task: impl Fn(u64) -> ToWorker,
    ) -> Result<FromWorker, Failure> {
        let mut slot = place.lock().await;
        // Taken out while in use: a read that is given up half-way must not leave its answer to the next one.
        let mut kept = slot.take().filter(|kept| kept.of == of);
        loop {
            let known = kept.is_some();
            let mut reader = match kept.take() {
                Some(reader) => reader,
                None => self.start(place, program, of).await?,
            };
            match reader.ask(&task).await {
                Ok(answer) => {
                    *slot = Some(reader);
                    return Ok(answer);
                }
                // It may have ended since its last read; a fresh one is asked once.
                Err(failure) if known && failure.code == FailureCode::WorkerDied => {}
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn start(&self, place: &Arc<Mutex<Option<Kept>>>, program: Program, of: &str) -> Result<Kept, Failure> {
        let log = self.places.state.join(paths::LOGS).join("readers.log");
        let paths = match of {
            "" => Paths::none().read(&self.places.blobs),
            model_path => Paths::none().read(model_path),
        };
        let mut line = Line::open(&self.spawner, program, paths, None, &log).await?;
        if !of.is_empty() {
            line.send(&ToWorker::Tokenize { model_path: of.to_owned() }).await?;
            loop {
                match line.recv().await? {
                    FromWorker::Ready { .. } => break,
                    FromWorker::Progress { .. } => {}
                    _ => return Err(misplaced()),
                }
            }
        }
        let place = place.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(IDLE_MS)).await;
                let mut slot = place.lock().await;
                match &*slot {
                    Some(kept) if kept.used_at.elapsed() < Duration::from_millis(IDLE_MS) => {}
                    _ => {
                        *slot = None;
                        return;
                    }
                }
            }
        });
        Ok(Kept { line, of: of.to_owned(), used_at: Instant::now(), next_request: 1 })
    }
}

fn misplaced() -> Failure {
    Failure::new(FailureCode::BadFrame, "the reader answered something else")
}
