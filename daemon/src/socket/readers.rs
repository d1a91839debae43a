//! Children that are kept for reads: one that pages rows, one that renders them for a model. Each is started on
//! demand and ends when nobody asked for a while.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hone_protocol::dataset::{
    DatasetDiff, DatasetVersionRecord, ExportFormat, ImportPreview, Part, RenderedRow, Row, Segment, Split,
};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::paths;
use hone_protocol::recipe::{LedgerEntry, Preview, Recipe};
use hone_protocol::value::Hash;
use hone_protocol::worker::{
    DiffTask, ExportTask, FromWorker, LedgerTask, PreviewTask, ReadTask, RecipePreviewTask, Select, ToWorker,
};
use tokio::sync::Mutex;

use crate::config::Places;
use crate::jobs::ledgers_folder;
use crate::sandbox::Paths;
use crate::workers::line::Line;
use crate::workers::process::{Program, Spawner};

/// A reader that nobody asks ends after so long.
const IDLE_MS: u64 = 30_000;
/// A read that takes longer is given up, and its child with it.
const READ_MS: u64 = 30_000;
/// A look at a file that takes longer is given up.
const PREVIEW_MS: u64 = 20_000;
/// An export that takes longer is given up, and its file with it.
const EXPORT_MS: u64 = 3_600_000;

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

    /// Where words begin in texts, in characters.
    pub async fn words(&self, texts: Vec<String>) -> Result<Vec<Vec<u32>>, Failure> {
        let wanted = texts.len();
        let task = |request| ToWorker::Words { request, texts: texts.clone() };
        match self.ask(&self.rows, Program::Daemon("data"), "", task).await? {
            FromWorker::Words { words, .. } if words.len() == wanted => Ok(words),
            _ => Err(misplaced()),
        }
    }

    /// What an import of a file would do. A child of its own looks, which may read that one file.
    pub async fn preview(&self, task: PreviewTask) -> Result<ImportPreview, Failure> {
        absolute(&task.path)?;
        let paths = Paths::none().read(&task.path);
        match self.once(paths, ToWorker::Preview(task), PREVIEW_MS).await? {
            FromWorker::Previewed(made) => Ok(*made),
            FromWorker::Failed(failure) => Err(failure),
            _ => Err(misplaced()),
        }
    }

    /// Writes rows into a new file; says how many.
    pub async fn export(
        &self,
        version: &DatasetVersionRecord,
        path: String,
        format: ExportFormat,
        split: Split,
        part: Part,
    ) -> Result<u64, Failure> {
        absolute(&path)?;
        let at = Path::new(&path);
        if at.exists() {
            let message = format!("{path} is there already; choose another name or remove it first");
            return Err(Failure::field("path", message));
        }
        let folder = at.parent().unwrap_or(at);
        let paths = Paths::none().read(&self.places.blobs).write(folder);
        let (folder, segments) = (self.places.blobs.display().to_string(), version.segments.clone());
        let task = ExportTask { folder, segments, split, part, rows_max: 0, format, path };
        match self.once(paths, ToWorker::Export(task), EXPORT_MS).await? {
            FromWorker::Exported { rows } => Ok(rows),
            FromWorker::Failed(failure) => Err(failure),
            _ => Err(misplaced()),
        }
    }

    /// What a recipe would do to rows of a version. `others` are the datasets that its steps look at.
    pub async fn preview_recipe(
        &self,
        version: &DatasetVersionRecord,
        recipe: &Recipe,
        others: &[(String, Vec<Segment>)],
        (from, count): (u64, u32),
    ) -> Result<Preview, Failure> {
        let task = |request| {
            ToWorker::PreviewRecipe(Box::new(RecipePreviewTask {
                request,
                folder: self.places.blobs.display().to_string(),
                segments: version.segments.clone(),
                recipe: recipe.clone(),
                others: others.to_vec(),
                from,
                count,
            }))
        };
        match self.ask(&self.rows, Program::Daemon("data"), "", task).await? {
            FromWorker::RecipePreviewed { preview, .. } => preview,
            _ => Err(misplaced()),
        }
    }

    /// Asks a child of its own, which ends with its answer.
    async fn once(&self, paths: Paths, task: ToWorker, within_ms: u64) -> Result<FromWorker, Failure> {
        let log = self.places.state.join(paths::LOGS).join("readers.log");
        let mut line = Line::open(&self.spawner, Program::Daemon("data"), paths, None, &log).await?;
        let answer = async {
            line.send(&task).await?;
            loop {
                match line.recv().await? {
                    FromWorker::Progress { .. } => {}
                    answer => return Ok(answer),
                }
            }
        };
        let answer = tokio::time::timeout(Duration::from_millis(within_ms), answer).await;
        answer.map_err(|_| Failure::new(FailureCode::WorkerSilent, "the reader took too long and was ended"))?
    }

    /// A page of what a step did to the rows of a version: the ledgers of the steps before, and its own.
    pub async fn ledger(
        &self,
        source: &DatasetVersionRecord,
        names: &[Hash],
        (offset, count): (u64, u32),
    ) -> Result<(Vec<LedgerEntry>, u64), Failure> {
        let task = |request| {
            ToWorker::Ledger(LedgerTask {
                request,
                folder: self.places.blobs.display().to_string(),
                ledgers: ledgers_folder(&self.places.blobs).display().to_string(),
                segments: source.segments.clone(),
                names: names.to_vec(),
                offset,
                count,
            })
        };
        match self.ask(&self.rows, Program::Daemon("data"), "", task).await? {
            FromWorker::LedgerPage { entries, total, .. } => Ok((entries?, total)),
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

fn absolute(path: &str) -> Result<(), Failure> {
    match Path::new(path).is_absolute() {
        true => Ok(()),
        false => Err(Failure::field("path", format!("{path:?} is not an absolute path"))),
    }
}

fn misplaced() -> Failure {
    Failure::new(FailureCode::BadFrame, "the reader answered something else")
}
