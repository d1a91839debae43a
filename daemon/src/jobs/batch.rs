//! Batch: the rows of a dataset, or the lines of a file, through a service that is published anyway. Rows are kept as they are
//! answered, so an interrupted batch goes on where it was. Never here: how rows are asked (`batch_ask.rs`), metering.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;

use hone_protocol::application::{ApplicationRecord, Services};
use hone_protocol::batch::{BatchRow, BatchSpec, DatasetBatch, DatasetLineage, ROWS_AT_ONCE_MAX};
use hone_protocol::dataset::{
    CHOSEN, ChatMessage, DatasetVersionRecord, ImportReport, Part, REJECTED, REJECTIONS_MAX, Rejection, Row, RowFormat,
    Shape, Split,
};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::generate::{Prompt, Wish};
use hone_protocol::job::JobSpec;
use hone_protocol::paths::is_name;
use hone_protocol::worker::{FromWorker, ImportTask, ReadTask, Select, ToWorker};

use super::attempt::{Context, Stop, unexpected};
use super::batch_ask::{Feed, Item, ask_all, done_rows};
use super::{Kind, Work};
use crate::dispatcher::event::{Fact, Produced};
use crate::dispatcher::{batch_key, batch_prefix};
use crate::http::desk::{Ask, Caller};
use crate::http::lines::{Wanted, Write};
use crate::sandbox::Paths;
use crate::state::{Need, State};
use crate::store::{StoreError, Table, after, codec};
use crate::workers::process::Program;

pub(super) const KIND: Kind = Kind { word: "batch", check, pin, memory, heavy: false, run };

/// Batches at once.
const BATCHES_MAX: usize = 4;
/// Rows that are read at once.
const WINDOW: u32 = 200;
/// Longest answer that can be asked for; the context is the true bound.
pub(super) const TOKENS_MAX: u32 = 1 << 20;
/// The file of rows with answers, in the job's folder.
const ANSWERS: &str = "answers.jsonl";

fn spec_of(spec: &JobSpec) -> Result<&BatchSpec, Failure> {
    match spec {
        JobSpec::Batch(spec) => Ok(spec),
        _ => Err(Failure::new(FailureCode::Internal, "not a batch")),
    }
}

fn check(state: &State, spec: &JobSpec) -> Result<(), Failure> {
    let BatchSpec::Dataset(batch) = spec_of(spec)? else {
        state.application(spec_of(spec)?.payer())?;
        return Ok(());
    };
    let version = state.dataset_version(&batch.dataset)?;
    let shape = state.datasets.get(&version.dataset).map(|dataset| dataset.shape);
    if shape == Some(Shape::Text) {
        let message = format!("{} holds text rows; there is nothing in them to answer", batch.dataset);
        return Err(Failure::field("dataset", message));
    }
    may_call(state, state.application(&batch.payer)?, &batch.service)?;
    if !is_name(&batch.name) {
        let message =
            format!("{:?} cannot be a name: use 1 to 64 of a-z 0-9 . _ - beginning with a letter or digit", batch.name);
        return Err(Failure::field("name", message).hint(HintCode::ChooseAnotherName));
    }
    if let Some(dataset) = state.dataset(&batch.name).filter(|dataset| dataset.shape != Shape::Chat) {
        let message = format!("{} holds {} rows, answers are chats", batch.name, dataset.shape.word());
        return Err(Failure::field("name", message).hint(HintCode::ChooseAnotherName));
    }
    if batch.rows_at_once > ROWS_AT_ONCE_MAX {
        let message = format!("rows_at_once must be between 0 and {ROWS_AT_ONCE_MAX}");
        return Err(Failure::field("rows_at_once", message));
    }
    if batch.tokens_max > TOKENS_MAX {
        return Err(Failure::field("tokens_max", format!("tokens_max must be between 0 and {TOKENS_MAX}")));
    }
    batch.sampling.check()
}

/// Whether an application may call a service.
pub(super) fn may_call(state: &State, payer: &ApplicationRecord, service: &str) -> Result<(), Failure> {
    let service = state.service(service)?;
    match &payer.services {
        Services::Listed(listed) if !listed.contains(&service.id) => {
            let message =
                format!("{} may not call {}; hone app create sets what it may call", payer.name, service.name);
            Err(Failure::new(FailureCode::Forbidden, message).at("payer"))
        }
        _ => Ok(()),
    }
}

fn pin(state: &State, spec: JobSpec) -> Result<JobSpec, Failure> {
    let BatchSpec::Dataset(batch) = spec_of(&spec)? else { return Ok(spec) };
    let dataset = state.dataset_reference(state.dataset_version(&batch.dataset)?);
    Ok(JobSpec::Batch(BatchSpec::Dataset(Box::new(DatasetBatch { dataset, ..(**batch).clone() }))))
}

/// What reads and writes rows takes as much as an import; the service is there anyway.
fn memory(_: &State, _: &JobSpec) -> Need {
    Need::exactly(128 << 20)
}

/// Whether a job asks services, behind everybody who waits for an answer.
pub(super) fn asks_services(spec: &JobSpec) -> bool {
    matches!(spec, JobSpec::Batch(_) | JobSpec::Generate(_) | JobSpec::Suggest(_))
}

/// Why a batch may not begin now, beside memory.
pub(super) fn waits_for(state: &State, spec: &JobSpec) -> Result<(), String> {
    let running = state.attempts.keys().filter_map(|id| state.jobs.get(id));
    if running.filter(|job| asks_services(&job.spec)).count() >= BATCHES_MAX {
        return Err(format!("{BATCHES_MAX} batches run already"));
    }
    let spec = match spec {
        JobSpec::Batch(spec) => spec,
        JobSpec::Generate(spec) => return super::generate::waits_for(state, spec),
        JobSpec::Suggest(spec) => return super::suggest::waits_for(state, spec),
        _ => return Ok(()),
    };
    match spec {
        BatchSpec::Dataset(batch) if state.service(&batch.service).is_ok_and(|service| !service.wanted) => {
            Err(format!("service {} is off; hone service start {} turns it on", batch.service, batch.service))
        }
        _ => Ok(()),
    }
}

fn run(context: Context) -> Work {
    Box::pin(batch(context))
}

async fn batch(context: Context) -> Result<Produced, Stop> {
    let job = context.job.clone();
    match spec_of(&job.spec)? {
        BatchSpec::Dataset(batch) => of_dataset(context, batch).await,
        BatchSpec::File(batch) => super::batch_file::of_file(context, batch).await,
    }
}

/// Who pays, as the desk knows callers.
pub(super) fn caller(context: &Context) -> Caller {
    let application = context.job.payer;
    let name = context.state.applications.get(&application).map_or(String::new(), |a| a.name.clone());
    Caller { application, application_name: name, key: None }
}

async fn of_dataset(mut context: Context, batch: &DatasetBatch) -> Result<Produced, Stop> {
    let version = context.state.dataset_version(&batch.dataset)?.clone();
    let rows = if batch.rows_max == 0 { version.rows } else { version.rows.min(batch.rows_max) };
    context.durable(Fact::BatchCounted(rows)).await?;
    let done = done_rows(&context)?;
    let left = rows.saturating_sub(done.len() as u64);
    context.progress("phase.batch", done.len() as u64, rows).await;
    let slots = context.state.service(&batch.service)?.slots;
    let at_once =
        if batch.rows_at_once == 0 { slots.saturating_sub(1).min(ROWS_AT_ONCE_MAX) } else { batch.rows_at_once };
    let job = context.job.id.to_string();
    let mut feed = DatasetFeed { rows: Rows::new(&version, rows), batch, job, done, write: Arc::new(text_of) };
    let caller = caller(&context);
    ask_all(&mut context, caller, &mut feed, at_once as usize, left).await?;
    finish(&mut context, batch, &version, rows).await
}

/// The rows of a version, window by window. Each window has a child of its own: between two of them may lie hours.
pub(super) struct Rows {
    version: DatasetVersionRecord,
    window: VecDeque<Row>,
    offset: u64,
    most: u64,
}

impl Rows {
    pub(super) fn new(version: &DatasetVersionRecord, most: u64) -> Rows {
        Rows { version: version.clone(), window: VecDeque::new(), offset: 0, most }
    }

    pub(super) async fn next(&mut self, context: &mut Context) -> Result<Option<Row>, Stop> {
        if self.window.is_empty() && self.offset < self.most {
            self.read(context).await?;
        }
        Ok(self.window.pop_front())
    }

    async fn read(&mut self, context: &mut Context) -> Result<(), Stop> {
        let mut line = context.child(Program::Daemon("data"), Paths::none().read(&context.places.blobs)).await?;
        let count = WINDOW.min(u32::try_from(self.most - self.offset).unwrap_or(WINDOW));
        let split = Split { held_out_percent: 0, seed: 0 };
        let task = ReadTask {
            request: self.offset,
            folder: context.places.blobs.display().to_string(),
            segments: self.version.segments.clone(),
            select: Select::Window { offset: self.offset, count, split, part: Part::All },
        };
        line.send(&ToWorker::Read(task)).await?;
        let read = match context.next(&mut line).await? {
            FromWorker::Window { rows, .. } => rows?,
            other => return Err(unexpected(&other)),
        };
        line.process.kill();
        context.fact(Fact::Pid(None)).await;
        if read.is_empty() {
            let message = format!("the version has fewer rows than the {} that its record says", self.most);
            return Err(Failure::new(FailureCode::BadFile, message).into());
        }
        self.offset += read.len() as u64;
        self.window = read.into();
        Ok(())
    }
}

struct DatasetFeed<'b> {
    rows: Rows,
    batch: &'b DatasetBatch,
    job: String,
    done: HashSet<u64>,
    write: Write,
}

impl Feed for DatasetFeed<'_> {
    async fn next(&mut self, context: &mut Context) -> Result<Option<Item>, Stop> {
        while let Some(row) = self.rows.next(context).await? {
            if !self.done.contains(&row.row_id) {
                let wanted = self.ask(&row).map(|ask| Wanted::Answer(ask, self.write.clone()));
                return Ok(Some(Item::new(row.row_id, String::new(), wanted, true)));
            }
        }
        Ok(None)
    }
}

impl DatasetFeed<'_> {
    fn ask(&self, row: &Row) -> Result<Ask, Failure> {
        let messages = sent(row, &self.batch.system)?;
        let wish = Wish { sampling: self.batch.sampling.clone(), format: self.batch.format.clone(), ..Wish::default() };
        Ok(Ask {
            service: self.batch.service.clone(),
            prompts: vec![Prompt::chat(messages)],
            answers: 1,
            wish,
            tokens_max: (self.batch.tokens_max > 0).then_some(self.batch.tokens_max),
            // So that the ledger says for which batch.
            user: self.job.clone(),
            metadata: Vec::new(),
            route: "batch",
        })
    }
}

/// The messages that are sent for a row.
pub(super) fn sent(row: &Row, system: &str) -> Result<Vec<ChatMessage>, Failure> {
    let is_answer = |message: &ChatMessage| matches!(message.role.as_str(), "assistant" | CHOSEN | REJECTED);
    let end = match row.shape() {
        Shape::Preference => row.messages.iter().position(|m| m.role == CHOSEN),
        _ => row.messages.iter().rposition(is_answer),
    };
    let mut messages = row.messages[..end.unwrap_or(row.messages.len())].to_vec();
    if !messages.iter().any(|message| message.role != "system") {
        let message = "there is nothing to answer: no message before the last assistant turn";
        return Err(Failure::new(FailureCode::InvalidRequest, message).at("messages"));
    }
    if !system.is_empty() {
        messages.retain(|message| message.role != "system");
        messages.insert(0, ChatMessage { role: "system".into(), content: system.to_owned() });
    }
    Ok(messages)
}

/// What is kept of an answer: its text.
fn text_of(
    _: &crate::http::desk::Opening,
    gathered: &[crate::http::answer::Gathered],
    _: &hone_protocol::application::LedgerRow,
) -> Result<String, Failure> {
    let text = gathered.first().map_or(String::new(), |choice| choice.text.clone());
    if text.trim().is_empty() {
        return Err(Failure::new(FailureCode::FormatNotKept, "the answer is empty"));
    }
    Ok(text)
}

pub(super) fn unreadable(error: StoreError) -> Failure {
    Failure::new(FailureCode::Internal, error.to_string())
}

/// Makes a dataset version of the rows with answers.
async fn finish(
    context: &mut Context,
    batch: &DatasetBatch,
    version: &DatasetVersionRecord,
    rows: u64,
) -> Result<Produced, Stop> {
    context.progress("phase.export", 0, rows).await;
    let path = context.folder().join(ANSWERS);
    let answered = write_answers(context, batch, version, rows, &path).await?;
    let mut report = rejected(context, batch, rows)?;
    // The state now: others may have added rows to the dataset meanwhile.
    let state = context.desk.hub.state();
    let first_row_id = state.dataset(&batch.name).map_or(0, |dataset| dataset.next_row_id);
    let mut segments = Vec::new();
    if !answered.rows.is_empty() {
        let task = ImportTask {
            path: path.display().to_string(),
            source: report.source.clone(),
            format: RowFormat::OpenAi,
            folder: context.places.blobs.display().to_string(),
            first_row_id,
        };
        let paths = Paths::none().read(&path).write(&context.places.blobs);
        let mut line = context.child(Program::Daemon("data"), paths).await?;
        line.send(&ToWorker::Import(task)).await?;
        match context.next(&mut line).await? {
            FromWorker::Imported { report: imported, segments: written } => {
                segments = written;
                answered.join(&mut report, imported);
            }
            other => return Err(unexpected(&other)),
        }
    }
    let licence = state.datasets.get(&version.dataset).map_or(String::new(), |dataset| dataset.licence.clone());
    let versions = answered.versions.into_iter().collect();
    let lineage = DatasetLineage { source: version.id, service: batch.service.clone(), versions };
    let (lineage, responses, processed) = (Some(lineage), Vec::new(), None);
    Ok(Produced::Dataset { report, segments, first_row_id, licence, lineage, responses, processed })
}

/// What was written for the import.
struct Answered {
    /// Row ids by line.
    rows: Vec<u64>,
    versions: BTreeSet<String>,
}

impl Answered {
    /// What the import kept and rejected, told by rows rather than lines.
    fn join(&self, report: &mut ImportReport, imported: ImportReport) {
        report.format = imported.format;
        report.kept = imported.kept;
        report.duplicates = imported.duplicates;
        report.rejected = report.read - imported.kept;
        let row = |line: u64| self.rows.get(line.saturating_sub(1) as usize).copied().unwrap_or_default();
        let more = imported.rejections.into_iter().map(|one| Rejection { line: row(one.line), ..one });
        report.rejections.extend(more);
        report.rejections.truncate(REJECTIONS_MAX);
    }
}

async fn write_answers(
    context: &mut Context,
    batch: &DatasetBatch,
    version: &DatasetVersionRecord,
    most: u64,
    path: &Path,
) -> Result<Answered, Stop> {
    let unwritable =
        |error: std::io::Error| Failure::new(FailureCode::DiskFull, format!("answers cannot be written: {error}"));
    let mut file = BufWriter::new(File::create(path).map_err(unwritable)?);
    let mut rows = Rows::new(version, most);
    let mut answered = Answered { rows: Vec::new(), versions: BTreeSet::new() };
    while let Some(row) = rows.next(context).await? {
        let key = batch_key(context.job.id, false, row.row_id);
        let Some(bytes) = context.store.get(Table::BatchRows, &key).map_err(unreadable)? else { continue };
        let done: BatchRow = codec::read(Table::BatchRows, &key, &bytes).map_err(unreadable)?;
        let line = line_of(batch, &row, &done)?;
        writeln!(file, "{line}").map_err(unwritable)?;
        answered.rows.push(row.row_id);
        answered.versions.insert(done.version);
    }
    file.flush().map_err(unwritable)?;
    Ok(answered)
}

/// A row with its answer, and where both came from.
fn line_of(batch: &DatasetBatch, row: &Row, done: &BatchRow) -> Result<serde_json::Value, Failure> {
    let mut messages = sent(row, &batch.system)?;
    let answer = done.answer.as_ref().map_err(Clone::clone)?;
    messages.push(ChatMessage { role: "assistant".into(), content: answer.clone() });
    Ok(serde_json::json!({
        "messages": messages,
        "parent": {"dataset": batch.dataset, "row_id": row.row_id},
        "service": batch.service,
        "version": done.version,
        "finish": done.finish,
        "request": done.ledger,
        "prompt_tokens": done.prompt_tokens,
        "completion_tokens": done.completion_tokens,
    }))
}

/// The report of a batch before its answers are imported: read = answered + failed, and the first failures with their rows.
fn rejected(context: &Context, batch: &DatasetBatch, read: u64) -> Result<ImportReport, Failure> {
    let prefix = batch_prefix(context.job.id, true);
    let pairs = context.store.range(Table::BatchRows, &prefix, &after(&prefix), false, REJECTIONS_MAX);
    let failed: Vec<BatchRow> = codec::read_all(Table::BatchRows, &pairs.map_err(unreadable)?).map_err(unreadable)?;
    let rejection = |row: BatchRow| {
        let failure = row.answer.err()?;
        Some(Rejection { line: row.row, field: failure.place, reason: failure.message_en })
    };
    let rejections = failed.into_iter().filter_map(rejection).collect();
    let source = format!("{} through {}", batch.dataset, batch.service);
    Ok(ImportReport { source, read, rejected: read, rejections, ..ImportReport::default() })
}

#[cfg(test)]
mod tests {
    use hone_protocol::value::{Hash, JsonText};

    use super::*;

    fn row(messages: &[(&str, &str)]) -> Row {
        let message = |(role, content): &(&str, &str)| ChatMessage { role: (*role).into(), content: (*content).into() };
        let messages = messages.iter().map(message).collect();
        Row { row_id: 3, messages, content_sha256: Hash([0; 32]), original: JsonText::default() }
    }

    fn roles(row: &Row, system: &str) -> Vec<String> {
        sent(row, system).unwrap().into_iter().map(|m| format!("{}:{}", m.role, m.content)).collect()
    }

    #[test]
    fn what_stands_before_the_last_answer_is_sent() {
        let chat = row(&[("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]);
        assert_eq!(roles(&chat, ""), ["system:s", "user:a", "assistant:b", "user:c"]);
        assert_eq!(roles(&chat, "t"), ["system:t", "user:a", "assistant:b", "user:c"]);
        assert_eq!(roles(&row(&[("user", "a")]), ""), ["user:a"]);
        let pair = row(&[("user", "a"), (CHOSEN, "b"), (REJECTED, "c")]);
        assert_eq!(roles(&pair, ""), ["user:a"]);
        let nothing = sent(&row(&[("system", "s"), ("assistant", "b")]), "").unwrap_err();
        assert!(nothing.message_en.contains("nothing to answer"), "{nothing}");
    }
}
