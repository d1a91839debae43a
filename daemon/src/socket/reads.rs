//! Reads: answered from the published state, the store, or a kept child; the dispatcher never sees them.

use std::collections::HashMap;
use std::future::Future;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use hone_protocol::application::LedgerRow;
use hone_protocol::dataset::DatasetVersionRecord;
use hone_protocol::event::Change;
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::guard::{GuardRecord, GuardView, TRIAL_BYTES_MAX};
use hone_protocol::id::JobId;
use hone_protocol::job::{JobEvent, JobState};
use hone_protocol::log::{LogDetail, LogQuery};
use hone_protocol::model::{Storage, TRASH_KEPT_MS, TrashItem, VersionRecord};
use hone_protocol::note::NoteRecord;
use hone_protocol::recipe::PREVIEW_ROWS_MAX;
use hone_protocol::request::{
    Answer, AuditRow, LOG_BYTES_MAX, POINTS_MAX, ROWS_MAX, Request, SAMPLED_MAX, Status, StreamPart,
};
use hone_protocol::train::{Point, SERIES};
use hone_protocol::value::{Hash, Metric};
use hone_protocol::worker::{PreviewTask, Select};
use tokio::sync::broadcast::error::RecvError;

use super::connection::Room;
use super::data_reads;
use crate::dispatcher::{batch_key, batch_prefix, gate_report, ledger_prefix, metric_key, move_key, sample_key};
use crate::guards;
use crate::history;
use crate::jobs;
use crate::jobs::attempt::job_folder;
use crate::judged;
use crate::request_log::read;
use crate::state::State;
use crate::store::{StoreError, Table, after, codec, key};
use crate::workers::process::tail;
use crate::{clock, declared, invoice, lineage, machine, stats, usage};

/// Rows of who did what that are looked through for acts on a version, the newest; older acts are not told of.
const AUDIT_LOOKED_THROUGH: usize = 20_000;

pub(super) fn unreadable(error: StoreError) -> Failure {
    Failure::new(FailureCode::Internal, error.to_string())
}

/// Most rows of a page of a ledger: each has its text twice.
const LEDGER_ROWS_MAX: u32 = 200;

/// The version that went into a recipe, and the ledgers of its steps up to one.
fn ledger_names(state: &State, dataset: &str, step: u32) -> Result<(Arc<DatasetVersionRecord>, Vec<Hash>), Failure> {
    let version = state.dataset_version(dataset)?;
    let Some(processed) = &version.processed else {
        let message = format!("{dataset} was not made by a recipe, so no step dropped or changed its rows");
        return Err(Failure::field("dataset", message));
    };
    let names: Vec<Hash> = processed.steps.iter().take(step as usize + 1).map(|step| step.ledger).collect();
    if names.len() <= step as usize {
        let message = format!("step {step} of {}; the first is 0", processed.steps.len());
        return Err(Failure::field("step", message));
    }
    let source = state.dataset_versions.get(&processed.source);
    let source = source.ok_or_else(|| Failure::not_found("dataset version", &processed.source_name))?;
    Ok((source.clone(), names))
}

/// Answers a read.
pub(super) async fn answer(room: &Arc<Room>, person: &str, request: Request) -> Result<Answer, Failure> {
    let state = room.hub.state();
    match request {
        Request::Status => Ok(Answer::Status(Box::new(status(room, &state)))),
        Request::Audit { count } => audit(room, count),
        Request::Models => Ok(Answer::Models(state.models.keys().filter_map(|id| state.model_view(*id)).collect())),
        Request::History { model } => history_of(room, &state, &model),
        Request::CheckGate { model, alias, version } => {
            let version = state.version(&version)?;
            let model = state.model(&model).ok_or_else(|| Failure::not_found("model", &model))?;
            Ok(Answer::Gate(Box::new(gate_report(&state, model, &alias, version))))
        }
        Request::Moves { model, alias } => {
            let model = state.model(&model).ok_or_else(|| Failure::not_found("model", &model))?;
            let name = format!("{}:{alias}", model.name);
            let (from, to) = (move_key(&name, 0), move_key(&name, u64::MAX));
            let pairs = room.store.range(Table::AliasMoves, &from, &to, true, ROWS_MAX as usize).map_err(unreadable)?;
            codec::read_all(Table::AliasMoves, &pairs).map(Answer::Moves).map_err(unreadable)
        }
        Request::TrashList => Ok(Answer::Trash(trash_list(room, &state))),
        Request::Datasets => {
            Ok(Answer::Datasets(state.datasets.keys().filter_map(|id| state.dataset_view(*id)).collect()))
        }
        Request::Rows { dataset, offset, count, split, part } => {
            let version = state.dataset_version(&dataset)?;
            let select = Select::Window { offset, count: count.min(ROWS_MAX), split, part };
            let (rows, total) = room.readers.rows(version, select).await?;
            Ok(Answer::Rows { rows, total })
        }
        Request::FindRows { dataset, filter, offset, count } => {
            let version = state.dataset_version(&dataset)?;
            let select = Select::Find { filter, offset, count: count.min(ROWS_MAX) };
            let (rows, total) = room.readers.rows(version, select).await?;
            Ok(Answer::Rows { rows, total })
        }
        Request::PreviewImport { path, format, name } => {
            let first_row_id = state.dataset(&name).map_or(0, |known| known.next_row_id);
            let made = room.readers.preview(PreviewTask { path, format, first_row_id }).await?;
            Ok(Answer::ImportPreview(Box::new(made)))
        }
        Request::ExportDataset { dataset, path, format, split, part } => {
            let version = state.dataset_version(&dataset)?;
            let rows = room.readers.export(version, path, format, split, part).await?;
            Ok(Answer::Exported { rows })
        }
        Request::PreviewRecipe { dataset, recipe, from, count } => {
            let version = state.dataset_version(&dataset)?;
            recipe.check()?;
            let others = jobs::others_of(&state, &recipe)?;
            let count = count.min(PREVIEW_ROWS_MAX);
            room.readers.preview_recipe(version, &recipe, &others, (from, count)).await.map(Answer::RecipePreview)
        }
        Request::RecipeLedger { dataset, step, offset, count } => {
            let (source, names) = ledger_names(&state, &dataset, step)?;
            let page = room.readers.ledger(&source, &names, (offset, count.min(LEDGER_ROWS_MAX))).await;
            page.map(|(entries, total)| Answer::RecipeLedger { entries, total })
        }
        Request::RenderRow { dataset, row_id, version } => render(room, &state, &dataset, row_id, &version).await,
        Request::Jobs { count } => Ok(Answer::Jobs(state.job_views(count as usize))),
        Request::Job { job } => job_answer(&state, job),
        Request::Log { job, bytes } => {
            state.job(job)?;
            let path = job_folder(&room.options.places, job).join("log");
            let size_bytes = std::fs::metadata(&path).map_or(0, |m| m.len());
            let text = tail(&path, u64::from(bytes.min(LOG_BYTES_MAX)));
            Ok(Answer::Log { text, size_bytes })
        }
        Request::Samples { job, from_step, count } => samples(room, &state, job, from_step, count),
        Request::Payments { application } => payments(room, &state, &application),
        Request::Metrics { job, series, from_step, points } => metrics(room, &state, job, &series, from_step, points),
        Request::Checkpoints { job } => {
            Ok(Answer::Checkpoints(jobs::kept::list(&room.options.places, state.job(job)?)))
        }
        Request::BatchRows { job, failed, from_row, count } => {
            state.job(job)?;
            let (from, to) = (batch_key(job, failed, from_row), after(&batch_prefix(job, failed)));
            let count = count.min(ROWS_MAX) as usize;
            let pairs = room.store.range(Table::BatchRows, &from, &to, false, count).map_err(unreadable)?;
            codec::read_all(Table::BatchRows, &pairs).map(Answer::BatchRows).map_err(unreadable)
        }
        Request::PlanTrain { spec } => {
            let places = Arc::new(room.options.places.clone());
            let (store, spawner, events) = (room.store.clone(), room.spawner.clone(), room.events.clone());
            let desk = room.desk.clone();
            jobs::plan_without_starting(state, places, store, spawner, events, desk, *spec).await.map(Answer::Plan)
        }
        Request::Services => {
            Ok(Answer::Services(state.services.keys().filter_map(|id| state.service_view(*id)).collect()))
        }
        Request::Applications => {
            Ok(Answer::Applications(state.applications.keys().filter_map(|id| state.application_view(*id)).collect()))
        }
        Request::Ledger { application, count } => ledger(room, &state, &application, count),
        Request::Invoice { application, month } => {
            invoice::invoice(&room.store, &state, &application, &month).map(|made| Answer::Invoice(Box::new(made)))
        }
        Request::Usage(query) => {
            let store = room.store.clone();
            usage::aside(move || usage::page(&store, &state, &query)).await.map(Answer::Usage)
        }
        Request::Stats { span } => {
            let store = room.store.clone();
            usage::aside(move || stats::read(&store, &state, span, clock::now_ms())).await.map(Answer::Stats)
        }
        Request::Declared => {
            let declared = declared::declared(&state);
            let stamp = declared::stamp(&declared);
            Ok(Answer::Declared { declared: Box::new(declared), stamp })
        }
        Request::Hooks => Ok(Answer::Hooks(state.hooks.values().map(|hook| (**hook).clone()).collect())),
        Request::Alerts { count } => {
            let alerts = state.alerts.values().rev().take(count.min(ROWS_MAX) as usize);
            Ok(Answer::Alerts(alerts.map(|alert| (**alert).clone()).collect()))
        }
        Request::Pools => Ok(Answer::Pools(state.pool_views())),
        Request::Evaluations => Ok(Answer::Evaluations {
            suites: state.suites.values().map(|s| (**s).clone()).collect(),
            evaluations: state.evaluations.values().rev().map(|e| (**e).clone()).collect(),
        }),
        Request::EvaluationRows { evaluation, offset, count } => {
            let end = (offset as usize).saturating_add(count.min(ROWS_MAX) as usize);
            let (from, to) = (evaluation.bytes().to_vec(), after(evaluation.bytes()));
            let pairs = room.store.range(Table::EvaluationRows, &from, &to, false, end).map_err(unreadable)?;
            let window = pairs.get(offset as usize..).unwrap_or_default();
            codec::read_all(Table::EvaluationRows, window).map(Answer::EvaluationRows).map_err(unreadable)
        }
        Request::Judgements { dataset, count } => judgements(room, &state, &dataset, count),
        Request::Notes { kind } => {
            let prefix = judged::note_key(person, kind, "");
            let pairs = room.store.prefix(Table::Notes, &prefix).map_err(unreadable)?;
            let notes: Vec<NoteRecord> = codec::read_all(Table::Notes, &pairs).map_err(unreadable)?;
            let mut heads: Vec<_> = notes.into_iter().map(|note| note.head).collect();
            heads.sort_by_key(|head| std::cmp::Reverse(head.at_ms));
            heads.truncate(ROWS_MAX as usize);
            Ok(Answer::Notes(heads))
        }
        Request::Note { kind, name } => {
            let key = judged::note_key(person, kind, &name);
            let value = room.store.get(Table::Notes, &key).map_err(unreadable)?;
            let value = value.ok_or_else(|| Failure::not_found(kind.word(), &name))?;
            codec::read(Table::Notes, &key, &value).map(|note| Answer::Note(Box::new(note))).map_err(unreadable)
        }
        Request::LogPage(query) => log_page(room, &state, *query).await,
        Request::LogEntry { response } => log_entry(room, &state, &response).await,
        Request::Guards => {
            let view = |record: &Arc<GuardRecord>| GuardView {
                counts: state.guard_counts.get(&record.name).copied().unwrap_or_default(),
                record: (**record).clone(),
            };
            Ok(Answer::Guards(state.guards.values().map(view).collect()))
        }
        Request::TestGuard { spec, text } => {
            if text.len() > TRIAL_BYTES_MAX {
                let message =
                    format!("the text has {} bytes; a guard is tried on {TRIAL_BYTES_MAX} at most", text.len());
                return Err(Failure::field("text", message));
            }
            usage::aside(move || guards::trial(&spec, &text)).await.map(Answer::Trial)
        }
        Request::People => Ok(Answer::People(state.people.values().map(|person| (**person).clone()).collect())),
        Request::Standards => Ok(Answer::Standards(state.standard_views())),
        Request::Standard { standard } => Ok(Answer::Standard(Box::new((**state.standard(&standard)?).clone()))),
        Request::CheckRows { standard, dataset, offset, count } => {
            data_reads::check_rows(room, &state, &standard, &dataset, (offset, count)).await
        }
        Request::EstimateGenerate { spec } => data_reads::estimate(room, &state, *spec).await,
        Request::RejectedCandidates { job, from, count } => data_reads::rejected(room, &state, job, from, count),
        Request::DiffDatasets { before, after, offset, count } => {
            let (before, after) = (state.dataset_version(&before)?, state.dataset_version(&after)?);
            room.readers.diff(before, after, (offset, count.min(ROWS_MAX))).await.map(Answer::Diff)
        }
        Request::DatasetLineage { dataset } => lineage::around(&state, &dataset).map(Answer::Lineage),
        Request::DatasetTrash => Ok(Answer::DatasetTrash(data_reads::trash(&state))),
        _ => Err(Failure::new(FailureCode::Internal, "this request is no read")),
    }
}

async fn log_page(room: &Arc<Room>, state: &State, query: LogQuery) -> Result<Answer, Failure> {
    let record = state.application(&query.application)?.clone();
    let (application, settings) = (record.id, record.log);
    let log = &room.desk.log;
    log.settled().await;
    let (store, folder) = (room.store.clone(), log.folder(application));
    let read = move || read::page(&store, &folder, application, settings.as_ref(), &query, clock::now_ms());
    let mut page = usage::aside(read).await?;
    page.dropped = log.dropped(application);
    Ok(Answer::LogPage(page))
}

async fn log_entry(room: &Arc<Room>, state: &State, response: &str) -> Result<Answer, Failure> {
    let (id, application) = room.desk.response(response)?;
    let record = state.applications.get(&application).cloned();
    let record = record.ok_or_else(|| Failure::not_found("application", &application.to_string()))?;
    let log = &room.desk.log;
    log.settled().await;
    let (store, folder) = (room.store.clone(), log.folder(application));
    let read = move || {
        let entry = read::find(&folder, record.log.as_ref(), id, clock::now_ms())?;
        let feedback = read::feedback_of(&store, application, id)?;
        Ok(LogDetail { application: record.name.clone(), entry, feedback })
    };
    usage::aside(read).await.map(|detail| Answer::LogEntry(Box::new(detail)))
}

fn judgements(room: &Room, state: &State, dataset: &str, count: u32) -> Result<Answer, Failure> {
    let set = state.judged_sets.get(dataset).ok_or_else(|| Failure::not_found("judgements for", dataset))?;
    let (from, to) = (judged::judgement_key(dataset, 0), judged::judgement_key(dataset, set.next_seq));
    let pairs = room.store.range(Table::Judgements, &from, &to, true, count.min(ROWS_MAX) as usize);
    let judgements = codec::read_all(Table::Judgements, &pairs.map_err(unreadable)?).map_err(unreadable)?;
    Ok(Answer::Judgements { set: (**set).clone(), judgements })
}

/// What touched a model or a version.
fn history_of(room: &Room, state: &State, named: &str) -> Result<Answer, Failure> {
    let wanted = match named.contains('@') {
        true => [state.any_version(named)?.id].into(),
        false => {
            let model = state.model(named).ok_or_else(|| Failure::not_found("model", named))?;
            state.versions_of(model.id).into_iter().map(|version| version.id).collect()
        }
    };
    let rows = room.store.range(Table::Audit, &[], &[u8::MAX; 9], true, AUDIT_LOOKED_THROUGH).map_err(unreadable)?;
    let rows: Vec<AuditRow> = codec::read_all(Table::Audit, &rows).map_err(unreadable)?;
    Ok(Answer::History(history::of(state, &rows, &wanted)))
}

/// What is in the trash, the oldest first. A file frees its bytes only with its last name: one that is linked elsewhere, or
/// that a person has somewhere else, frees nothing.
fn trash_list(room: &Room, state: &State) -> Vec<TrashItem> {
    let mut versions: Vec<_> = state.versions.values().filter(|v| !v.is_live() && !v.is_removed()).collect();
    versions.sort_by_key(|version| version.trashed_at_ms);
    let mut names_gone: HashMap<(u64, u64), u64> = HashMap::new();
    let item = |version: &Arc<VersionRecord>| {
        let meta = std::fs::metadata(room.options.places.models.join(&version.file.path)).ok();
        let meta = meta.filter(|_| version.file.storage != Storage::InPlace);
        let frees_bytes = meta.map_or(0, |meta| {
            let gone = names_gone.entry((meta.dev(), meta.ino())).or_default();
            *gone += 1;
            if *gone == meta.nlink() { meta.len() } else { 0 }
        });
        let trashed_at_ms = version.trashed_at_ms.unwrap_or_default();
        let reference = state.version_reference(version.id);
        TrashItem { version: reference, trashed_at_ms, removed_at_ms: trashed_at_ms + TRASH_KEPT_MS, frees_bytes }
    };
    versions.into_iter().map(item).collect()
}

fn status(room: &Room, state: &State) -> Status {
    let places = &room.options.places;
    let (machine, _) = machine::look(&places.state, state.fixed.cores, state.fixed.pool_memory_bytes, None);
    Status {
        version: hone_protocol::VERSION.to_owned(),
        pid: std::process::id(),
        started_at_ms: room.started_at_ms,
        state_dir: places.state.display().to_string(),
        socket: places.socket().display().to_string(),
        http: (*state.http).clone(),
        machine,
        notes: room.notes.iter().cloned().chain(room.spawner.missing()).collect(),
        zone: state.fixed.zone.clone(),
        currency: state.fixed.currency.clone(),
    }
}

fn audit(room: &Room, count: u32) -> Result<Answer, Failure> {
    let count = count.min(ROWS_MAX) as usize;
    let pairs = room.store.range(Table::Audit, &[], &[u8::MAX; 9], true, count).map_err(unreadable)?;
    let rows: Vec<AuditRow> = codec::read_all(Table::Audit, &pairs).map_err(unreadable)?;
    Ok(Answer::Audit(rows))
}

fn job_answer(state: &State, job: JobId) -> Result<Answer, Failure> {
    state
        .job_view(job)
        .map(|view| Answer::Job(Box::new(view)))
        .ok_or_else(|| Failure::not_found("job", &job.to_string()))
}

async fn render(room: &Room, state: &State, dataset: &str, row_id: u64, version: &str) -> Result<Answer, Failure> {
    let rows = state.dataset_version(dataset)?;
    let version = state.version(version)?;
    let base = state.versions.get(&state.base_of(version));
    let base = base.ok_or_else(|| Failure::not_found("version", &version.id.to_string()))?;
    let (found, _) = room.readers.rows(rows, Select::One { row_id }).await?;
    let row = found.into_iter().next().ok_or_else(|| Failure::not_found("row", &row_id.to_string()))?;
    let path = room.options.places.models.join(&base.file.path);
    room.readers.render(&path.display().to_string(), row).await.map(Answer::Rendered)
}

fn metrics(
    room: &Room,
    state: &State,
    job: JobId,
    series: &str,
    from_step: u64,
    points: u32,
) -> Result<Answer, Failure> {
    state.job(job)?;
    let number =
        SERIES.iter().position(|s| *s == series).ok_or_else(|| {
            Failure::field("series", format!("{series:?} is no series; there are {}", SERIES.join(", ")))
        })? as u8;
    let from = metric_key(job, number, from_step);
    let to = after(&key(&[job.bytes(), &[number]]));
    let pairs = room.store.range(Table::Metrics, &from, &to, false, POINTS_MAX as usize).map_err(unreadable)?;
    let all: Vec<Point> = pairs.iter().filter_map(|(key, value)| point(key, value)).collect();
    if points == 0 || all.len() <= points as usize {
        return Ok(Answer::Metrics(all));
    }
    // Spread evenly; the first and the last are always there.
    let last = all.len() - 1;
    let wanted = (points as usize).max(2);
    Ok(Answer::Metrics((0..wanted).map(|i| all[i * last / (wanted - 1)]).collect()))
}

fn samples(room: &Room, state: &State, job: JobId, from_step: u64, count: u32) -> Result<Answer, Failure> {
    state.job(job)?;
    let (from, to) = (sample_key(job, from_step), after(&key(&[job.bytes()])));
    let pairs = room.store.range(Table::Samples, &from, &to, false, count.min(SAMPLED_MAX) as usize);
    let pairs = pairs.map_err(unreadable)?;
    Ok(Answer::Samples(codec::read_all(Table::Samples, &pairs).map_err(unreadable)?))
}

fn point(key: &[u8], value: &[u8]) -> Option<Point> {
    let step = u64::from_be_bytes(key.get(17..25)?.try_into().ok()?);
    let value = f64::from_le_bytes(value.try_into().ok()?);
    Some(Point { step, value: Metric::from(value) })
}

fn payments(room: &Room, state: &State, application: &str) -> Result<Answer, Failure> {
    let prefix = *state.application(application)?.id.bytes();
    let pairs = room.store.range(Table::Payments, &prefix, &after(&prefix), true, ROWS_MAX as usize);
    Ok(Answer::Payments(codec::read_all(Table::Payments, &pairs.map_err(unreadable)?).map_err(unreadable)?))
}

fn ledger(room: &Room, state: &State, application: &str, count: u32) -> Result<Answer, Failure> {
    let count = count.min(ROWS_MAX) as usize;
    let applications = match application {
        "" => state.applications.keys().copied().collect(),
        name => vec![state.application(name)?.id],
    };
    let mut rows: Vec<LedgerRow> = Vec::new();
    for application in applications {
        let prefix = ledger_prefix(application);
        let pairs = room.store.range(Table::Ledger, &prefix, &after(&prefix), true, count).map_err(unreadable)?;
        rows.extend(codec::read_all::<LedgerRow>(Table::Ledger, &pairs).map_err(unreadable)?);
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.id));
    rows.truncate(count);
    Ok(Answer::Ledger(rows))
}

/// Sends the durable events of a job from `from_seq` on, until it has ended and all are sent.
pub(super) async fn follow<S, F>(room: &Room, job: JobId, from_seq: u64, send: S) -> Result<Answer, Failure>
where
    S: Fn(StreamPart) -> F,
    F: Future<Output = Result<(), tokio::sync::mpsc::error::SendError<hone_protocol::request::Down>>>,
{
    let (state, _, mut events) = room.hub.watch();
    state.job(job)?;
    drop(state);
    let mut next = from_seq;
    loop {
        let ended = room.hub.state().job(job)?.state != JobState::Queued;
        let from = key(&[job.bytes(), &next.to_be_bytes()]);
        let pairs =
            room.store.range(Table::JobEvents, &from, &after(job.bytes()), false, usize::MAX).map_err(unreadable)?;
        for event in codec::read_all::<JobEvent>(Table::JobEvents, &pairs).map_err(unreadable)? {
            next = event.seq + 1;
            if send(StreamPart::Job(event)).await.is_err() {
                return Err(Failure::new(FailureCode::Interrupted, "the client went away"));
            }
        }
        if ended {
            return job_answer(&room.hub.state(), job);
        }
        loop {
            match events.recv().await {
                Ok(event) if matches!(&event.change, Change::Job(view) if view.record.id == job) => break,
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => break,
                Err(RecvError::Closed) => return Err(Failure::new(FailureCode::Stopping, "the daemon is stopping")),
            }
        }
    }
}
