//! Train: rows are written out by a data child, a trainer works over them and reports steps and checkpoints, and
//! the finished adapter is inspected and linked into the store.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hone_protocol::dataset::{DatasetVersionRecord, ExportFormat, Part, Shape, Split};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::form;
use hone_protocol::id::VersionId;
use hone_protocol::job::{Checkpoint, JobResult, JobSpec, JobState};
use hone_protocol::model::{VersionRecord, Weights};
use hone_protocol::paths::{CHECKPOINTS, TRAINED};
use hone_protocol::pool::LOCAL_POOL;
use hone_protocol::train::{CHECKPOINTS_KEPT, Method, Sampled, TrainPlan, TrainResult, TrainSpec, Tuning};
use hone_protocol::value::Hash;
use hone_protocol::worker::{ExportTask, FromWorker, ToWorker, TrainTask};
use sha2::{Digest, Sha256};

use super::attempt::{Context, Stop, unexpected, wished};
use super::{Kind, Work, fits, import_model, kept, register, store_file, train_far};
use crate::clock::new_id;
use crate::config::Places;
use crate::dispatcher::effect::StopHow;
use crate::dispatcher::event::{Fact, Produced};
use crate::machine;
use crate::sandbox::Paths;
use crate::state::{Need, State, full_train_bytes_estimate, train_bytes_estimate};
use crate::workers::line::Line;
use crate::workers::process::{Program, Spawner};

pub(super) const KIND: Kind = Kind { word: "train", check, pin, memory, heavy: true, run };

/// At most this much work is lost in a crash.
const CHECKPOINT_INTERVAL_MS: u64 = 5 * 60 * 1000;
/// Held-out rows of a mixed-in set whose loss is followed; more would only take longer.
const REPLAY_HELD_OUT_MAX: u64 = 100;
/// Longest answer to a fixed prompt that is believed; a token is a few bytes.
const SAMPLE_BYTES_MAX: usize = 16 << 10;
/// Context that each fixed prompt is counted with.
const SAMPLE_CONTEXT_TOKENS: u32 = 512;
/// How long a trainer may take to write the checkpoint that a stop asked for.
const STOP_MS: u64 = 60_000;

fn spec_of(spec: &JobSpec) -> Result<&TrainSpec, Failure> {
    match spec {
        JobSpec::Train(spec) => Ok(spec),
        _ => Err(Failure::new(FailureCode::Internal, "not a training job")),
    }
}

fn check(state: &State, spec: &JobSpec) -> Result<(), Failure> {
    let spec = spec_of(spec)?;
    form::check(&spec.params)
        .and_then(|()| form::check_samples(spec))
        .map_err(|(key, message)| Failure::field(key, message))?;
    rows_allowed(state, spec)?;
    if spec.split.held_out_percent > 90 {
        return Err(Failure::field("held_out_percent", "held_out_percent must be between 0 and 90"));
    }
    let base = state.version(&spec.base)?;
    if base.weights != Weights::Base {
        let message = format!("{} is an adapter; training begins from a complete model", spec.base);
        return Err(Failure::field("base", message));
    }
    if let Err(reason) = &base.facts.trainable {
        let message = format!("{} cannot be trained here: {reason}", spec.base);
        return Err(Failure::new(FailureCode::UnsupportedArchitecture, message).at("base"));
    }
    let replay = spec.replay.as_ref();
    let shapes = [Some(&spec.dataset), replay.map(|replay| &replay.dataset)];
    let shapes: Vec<Shape> =
        shapes.into_iter().flatten().map(|reference| shape_of(state, reference)).collect::<Result<_, Failure>>()?;
    check_shapes(spec, &shapes)?;
    if !base.facts.has_chat_template && shapes.iter().any(|shape| *shape != Shape::Text) {
        let message = format!(
            "{} has no chat template, so chat rows cannot be rendered for it; text rows can be trained with pretrain",
            spec.base
        );
        return Err(Failure::new(FailureCode::TemplateFailed, message).at("base"));
    }
    if spec.params.sequence_tokens > base.facts.context_tokens {
        let message = format!(
            "sequence_tokens is {}; this model takes {}",
            spec.params.sequence_tokens, base.facts.context_tokens
        );
        return Err(Failure::field("sequence_tokens", message));
    }
    spec.register.as_ref().map_or(Ok(()), register::check_names)
}

/// A draft needs consent, and rows that a service wrote are never held out.
fn rows_allowed(state: &State, spec: &TrainSpec) -> Result<(), Failure> {
    let replay = spec.replay.as_ref().map(|replay| &replay.dataset);
    for reference in [Some(&spec.dataset), replay].into_iter().flatten() {
        let version = state.dataset_version(reference)?;
        let named = state.dataset_reference(version);
        if !version.is_released() && spec.draft_consent != Some(true) {
            let message = format!(
                "{named} is a draft: nobody has released it; hone dataset release {named} does, or train with --draft"
            );
            return Err(Failure::new(FailureCode::WrongState, message).at("dataset"));
        }
        if spec.split.held_out_percent > 0
            && let Some(source) = state.generated_in(version.id)
        {
            let message = format!(
                "rows of {named} were written by a service ({source}) and are never held out; set held_out_percent to 0 and evaluate on rows of people"
            );
            return Err(Failure::field("held_out_percent", message));
        }
    }
    Ok(())
}

/// The shape of a dataset version's rows.
fn shape_of(state: &State, reference: &str) -> Result<Shape, Failure> {
    let rows = state.dataset_version(reference)?;
    Ok(state.datasets.get(&rows.dataset).map_or(Shape::Chat, |dataset| dataset.shape))
}

/// The method learns from rows of one shape; mixed-in rows are chats or texts.
fn check_shapes(spec: &TrainSpec, shapes: &[Shape]) -> Result<(), Failure> {
    let method = spec.params.method;
    if shapes[0] != method.shape() {
        let fitting = [Method::Sft, Method::Pretrain, Method::Dpo].into_iter().find(|other| other.shape() == shapes[0]);
        let advice = fitting.map_or(String::new(), |other| format!("; for these rows choose {}", other.word()));
        let (wanted, there) = (method.shape().word(), shapes[0].word());
        let message =
            format!("{} learns from {wanted} rows, {} holds {there} rows{advice}", method.word(), spec.dataset);
        return Err(Failure::field("dataset", message));
    }
    let Some(replay) = &spec.replay else { return Ok(()) };
    if method.shape() == Shape::Preference {
        return Err(Failure::field("replay", format!("{} compares pairs, nothing can be mixed in", method.word())));
    }
    if !(1..=100).contains(&replay.percent) {
        return Err(Failure::field("replay_percent", "replay_percent must be between 1 and 100"));
    }
    if !matches!(shapes[1], Shape::Chat | Shape::Text) {
        let message = format!("{} holds {} rows; chats or texts can be mixed in", replay.dataset, shapes[1].word());
        return Err(Failure::field("replay", message));
    }
    Ok(())
}

fn pin(state: &State, spec: JobSpec) -> Result<JobSpec, Failure> {
    let mut spec = spec_of(&spec)?.clone();
    spec.base = state.version_reference(state.version(&spec.base)?.id);
    let exact = |reference: &str| -> Result<String, Failure> {
        let rows = state.dataset_version(reference)?;
        let name = state.datasets.get(&rows.dataset).map_or("?", |d| d.name.as_str());
        Ok(format!("{name}@{}", rows.number))
    };
    spec.dataset = exact(&spec.dataset)?;
    if let Some(replay) = &mut spec.replay {
        replay.dataset = exact(&replay.dataset)?;
    }
    Ok(JobSpec::Train(Box::new(spec)))
}

fn memory(state: &State, spec: &JobSpec) -> Need {
    let none = Need::exactly(0);
    let Ok(spec) = spec_of(spec) else { return none };
    let Ok(base) = state.version(&spec.base) else { return none };
    let tokens = u64::from(spec.params.sequence_tokens) * u64::from(spec.params.batch_windows);
    let need = match spec.params.tuning {
        Tuning::Lora => train_bytes_estimate(&base.facts, tokens),
        Tuning::Full => full_train_bytes_estimate(&base.facts, tokens),
    };
    let sampling = sampling_bytes(state, spec);
    Need { least: need.least + sampling, wish: need.wish + sampling }
}

/// What the engine takes that answers the run's fixed prompts beside it; 0 where there are none.
fn sampling_bytes(state: &State, spec: &TrainSpec) -> u64 {
    let (Some(samples), Ok(base)) = (&spec.samples, state.version(&spec.base)) else { return 0 };
    state.serve_bytes(base.id, samples.len() as u32, SAMPLE_CONTEXT_TOKENS)
}

fn run(context: Context) -> Work {
    Box::pin(train(context))
}

/// The file of a version.
pub(super) fn weights_path(places: &Places, version: &VersionRecord) -> PathBuf {
    // An absolute path (in place) replaces the folder.
    places.models.join(&version.file.path)
}

async fn train(mut context: Context) -> Result<Produced, Stop> {
    let job = context.job.clone();
    let spec = spec_of(&job.spec)?;
    let base = context.state.version(&spec.base)?.clone();
    let model_path = weights_path(&context.places, &base);
    store_file::unchanged(&model_path, &base.file)?;
    if context.job.checkpoint.is_some() {
        check_checkpoint(&context)?;
    }
    let result = match context.state.slurm.get(&job.id).cloned() {
        Some(run) => train_far::train(&mut context, spec, &base, &model_path, run).await?,
        None => train_here(&mut context, spec, &base, model_path).await?,
    };
    let version = match &spec.register {
        None => None,
        Some(_) => Some(keep_result(&mut context).await?),
    };
    Ok(Produced::Adapter { version, result })
}

async fn train_here(
    context: &mut Context,
    spec: &TrainSpec,
    base: &VersionRecord,
    model: PathBuf,
) -> Result<TrainResult, Stop> {
    let rows = export_rows(context, spec).await?;
    let place = Where { folder: context.folder(), model, rows };
    let task = task(context, spec, base, &place, false);
    let mut line = context.child(Program::Worker("train"), trainer_paths(context, &place.model)).await?;
    line.send(&ToWorker::Train(Box::new(task))).await?;
    follow(context, &mut line, spec).await
}

/// A trainer reads the model and its rows, and writes the job's folder.
fn trainer_paths(context: &Context, model_path: &Path) -> Paths {
    Paths::none().read(model_path).write(context.folder())
}

/// Files of rows as a trainer reads them.
pub(super) struct RowFiles {
    pub(super) train: PathBuf,
    pub(super) held_out: PathBuf,
    /// Empty where nothing is mixed in.
    pub(super) replay: PathBuf,
    pub(super) replay_held_out: PathBuf,
}

impl RowFiles {
    /// All of them.
    pub(super) fn all(&self) -> Vec<PathBuf> {
        [&self.train, &self.held_out, &self.replay, &self.replay_held_out].map(Clone::clone).into()
    }
}

/// Where a trainer works: on this machine, or on a disk that it shares with others.
pub(super) struct Where {
    /// The attempt's folder.
    pub(super) folder: PathBuf,
    /// The model's file.
    pub(super) model: PathBuf,
    /// Its rows.
    pub(super) rows: RowFiles,
}

pub(super) async fn export_rows(context: &mut Context, spec: &TrainSpec) -> Result<RowFiles, Stop> {
    let rows = context.state.dataset_version(&spec.dataset)?.clone();
    let folder = context.folder();
    let files = RowFiles {
        train: folder.join("rows.jsonl"),
        held_out: folder.join("held-out.jsonl"),
        replay: folder.join("replay.jsonl"),
        replay_held_out: folder.join("replay-held-out.jsonl"),
    };
    let train = export(context, &rows, spec.split, Part::Train, 0, &files.train).await?;
    if train == 0 {
        let message = "no rows are left to train on after holding some out";
        return Err(Failure::new(FailureCode::NoRows, message).at("held_out_percent").into());
    }
    export(context, &rows, spec.split, Part::HeldOut, 0, &files.held_out).await?;
    match &spec.replay {
        None => {
            for path in [&files.replay, &files.replay_held_out] {
                let made = tokio::fs::write(path, b"").await;
                made.map_err(|e| Failure::new(FailureCode::DiskFull, e.to_string()).at(path.display().to_string()))?;
            }
        }
        Some(replay) => {
            // Its held-out rows stay out, so that their loss measures what was not forgotten, not what was learnt.
            let rows = context.state.dataset_version(&replay.dataset)?.clone();
            let most = (train * u64::from(replay.percent)).div_ceil(100);
            export(context, &rows, spec.split, Part::Train, most, &files.replay).await?;
            export(context, &rows, spec.split, Part::HeldOut, REPLAY_HELD_OUT_MAX, &files.replay_held_out).await?;
        }
    }
    Ok(files)
}

/// Writes a part of a dataset version; says how many rows that are. `rows_max` 0 is all.
async fn export(
    context: &mut Context,
    rows: &DatasetVersionRecord,
    split: Split,
    part: Part,
    rows_max: u64,
    path: &Path,
) -> Result<u64, Stop> {
    context.progress("phase.export", 0, rows.rows).await;
    let paths = Paths::none().read(&context.places.blobs).write(context.folder());
    let mut line = context.child(Program::Daemon("data"), paths).await?;
    let task = ExportTask {
        format: ExportFormat::Rows,
        folder: context.places.blobs.display().to_string(),
        segments: rows.segments.clone(),
        split,
        part,
        rows_max,
        path: path.display().to_string(),
    };
    line.send(&ToWorker::Export(task)).await?;
    match context.next(&mut line).await? {
        FromWorker::Exported { rows } => Ok(rows),
        other => Err(unexpected(&other)),
    }
}

pub(super) fn task(
    context: &Context,
    spec: &TrainSpec,
    base: &VersionRecord,
    place: &Where,
    plan_only: bool,
) -> TrainTask {
    let Where { folder, model, rows } = place;
    let resume = context
        .job
        .checkpoint
        .as_ref()
        .map(|c| (folder.join(CHECKPOINTS).join(&c.folder).display().to_string(), c.step));
    let name = spec.register.as_ref().map_or("run", |r| r.model.as_str());
    let mut params = spec.params.clone();
    let pool = context.state.pool_of(&context.job);
    // Threads that a form names are the person's own choice where the machine is undivided.
    match (params.threads, context.state.threads(pool)) {
        (0, _) => params.threads = context.state.capacity(pool).cores,
        (_, 0) => {}
        (named, most) => params.threads = named.min(most),
    }
    TrainTask {
        model_path: model.display().to_string(),
        model_sha256: base.file.sha256,
        rows_path: rows.train.display().to_string(),
        replay_path: rows.replay.display().to_string(),
        replay_held_out_path: rows.replay_held_out.display().to_string(),
        held_out_path: rows.held_out.display().to_string(),
        folder: folder.display().to_string(),
        params,
        resume,
        checkpoint_interval_ms: CHECKPOINT_INTERVAL_MS,
        samples: spec.samples.clone().unwrap_or_default(),
        name: name.to_owned(),
        memory_max_bytes: match context.state.attempts.get(&context.job.id) {
            Some(attempt) if attempt.memory_bytes > 0 => {
                attempt.memory_bytes.saturating_sub(sampling_bytes(&context.state, spec)).max(1)
            }
            _ => 0,
        },
        plan_only,
    }
}

/// The accepted checkpoint must still be what was accepted; the trainer checks the files behind the manifest.
fn check_checkpoint(context: &Context) -> Result<(), Stop> {
    let Some(checkpoint) = &context.job.checkpoint else { return Ok(()) };
    let path = context.folder().join(CHECKPOINTS).join(&checkpoint.folder).join("manifest.json");
    let bytes = std::fs::read(&path).map_err(|e| {
        Failure::new(FailureCode::BadCheckpoint, format!("the checkpoint cannot be read: {e}"))
            .at(path.display().to_string())
    })?;
    if Hash(Sha256::digest(&bytes).into()) != checkpoint.manifest_sha256 {
        let message = "the checkpoint's manifest is not the one that was accepted";
        return Err(Failure::new(FailureCode::BadCheckpoint, message).at(path.display().to_string()).into());
    }
    Ok(())
}

/// Takes a trainer's reports until it is done. A wish to stop is passed on once; what was asked to write a
/// checkpoint has [`STOP_MS`] for it.
pub(super) async fn follow(context: &mut Context, line: &mut Line, spec: &TrainSpec) -> Result<TrainResult, Stop> {
    let mut asked: Option<tokio::time::Instant> = None;
    let mut stop = context.stop.clone();
    loop {
        let message = tokio::select! {
            biased;
            // A wish stands for ever: it is only asked for until it was passed on.
            how = wished(&mut stop), if asked.is_none() => {
                asked = Some(tokio::time::Instant::now() + Duration::from_millis(STOP_MS));
                match how {
                    // What waits in a queue has no state to save.
                    StopHow::AtCheckpoint if !line.process.is_waiting() => {
                        line.send(&ToWorker::StopAtCheckpoint).await?;
                        continue;
                    }
                    StopHow::Leave => {}
                    StopHow::AtCheckpoint | StopHow::Now => line.process.kill(),
                }
                return Err(Stop::Wished);
            }
            () = sleep_until(asked) => {
                line.process.kill();
                return Err(Stop::Wished);
            }
            message = line.recv() => message?,
        };
        if context.stopping() == Some(StopHow::Now) {
            line.process.kill();
            return Err(Stop::Wished);
        }
        match message {
            FromWorker::Progress { phase, done, total } => context.progress(&phase, done, total).await,
            FromWorker::Planned(plan) => {
                let plan = complete(&context.state, spec, plan);
                require_disk(context, &plan)?;
                context.fact(Fact::Planned(plan)).await;
            }
            FromWorker::Step(step) => context.fact(Fact::Step(step)).await,
            FromWorker::Sampled(sampled) => context.fact(Fact::Sampled(bounded(spec, sampled)?)).await,
            FromWorker::Warned(warned) => context.fact(Fact::Warned(warned)).await,
            FromWorker::Evaluated { step, loss, preference, replay_loss } => {
                context.fact(Fact::Evaluated { step, loss, preference, replay_loss }).await;
            }
            FromWorker::Checkpointed { step, folder, manifest_sha256 } => {
                accept(context, Checkpoint { step, folder, manifest_sha256 }).await?;
            }
            FromWorker::Stopped => {
                let elsewhere = train_far::asked_elsewhere(context).filter(|_| asked.is_none());
                return Err(elsewhere.map_or(Stop::Wished, Stop::Failed));
            }
            FromWorker::Trained { steps, kept_step, tokens, loss, tokens_per_s, duration_ms, peak_memory_bytes } => {
                return Ok(TrainResult {
                    steps,
                    kept_step: kept_step.min(steps),
                    tokens,
                    loss,
                    tokens_per_s,
                    duration_ms: Some(duration_ms),
                    peak_memory_bytes: Some(peak_memory_bytes),
                    version: None,
                });
            }
            other => return Err(unexpected(&other)),
        }
    }
}

/// A trainer's plan with what only the daemon knows: the memory of sampling, and how fast runs like it were.
fn complete(state: &State, spec: &TrainSpec, plan: TrainPlan) -> TrainPlan {
    let like = |other: &TrainSpec| {
        let (ours, theirs) = (&spec.params, &other.params);
        other.base == spec.base && (ours.method, ours.tuning) == (theirs.method, theirs.tuning)
    };
    let rate = state.jobs.values().rev().find_map(|job| match (&job.spec, &job.state) {
        (JobSpec::Train(other), JobState::Succeeded(JobResult::Train(result))) if like(other) => {
            Some(result.tokens_per_s).filter(|rate| *rate > 0.0)
        }
        _ => None,
    });
    let passes = plan.steps.saturating_mul(u64::from(spec.params.accumulation));
    // The last step of a run may be of fewer passes, so this is an upper bound.
    let tokens = plan.tokens as f64 * passes as f64 / plan.windows.max(1) as f64;
    TrainPlan {
        memory_bytes: plan.memory_bytes.saturating_add(sampling_bytes(state, spec)),
        duration_ms: rate.map(|rate| (tokens / rate * 1e3) as u64).or(plan.duration_ms),
        ..plan
    }
}

/// Answers within their bounds: one for each prompt, none longer than its tokens can be.
fn bounded(spec: &TrainSpec, sampled: Sampled) -> Result<Sampled, Failure> {
    let prompts = spec.samples.as_ref().map_or(0, Vec::len);
    let long = sampled.answers.iter().any(|answer| answer.text.len() > SAMPLE_BYTES_MAX);
    if sampled.answers.len() != prompts || long {
        let message = format!("the trainer answered {} of {prompts} prompts, or at length", sampled.answers.len());
        return Err(Failure::new(FailureCode::BadFrame, message));
    }
    Ok(sampled)
}

/// Said before the first step, not at the first checkpoint. A run that goes on has its checkpoints already.
fn require_disk(context: &Context, plan: &TrainPlan) -> Result<(), Failure> {
    let there = if context.job.checkpoint.is_some() { CHECKPOINTS_KEPT as u64 * plan.checkpoint_bytes } else { 0 };
    let needed = plan.disk_bytes() - there;
    let folder = context.folder();
    // A system that does not say how much is free is asked when it matters.
    match machine::disk_free_bytes(&folder) {
        Some(free) if free < needed => {
            let mib = |bytes: u64| bytes.div_ceil(1 << 20);
            let message = format!("the run writes up to {} MiB, {} MiB are free there", mib(needed), free >> 20);
            let failure = Failure::new(FailureCode::DiskFull, message).at(folder.display().to_string());
            Err(failure.hint(HintCode::FreeDisk))
        }
        _ => Ok(()),
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Accepts a checkpoint: looks that it is complete, waits until the store has it, then removes older ones.
async fn accept(context: &Context, checkpoint: Checkpoint) -> Result<(), Stop> {
    let plain =
        !checkpoint.folder.is_empty() && checkpoint.folder.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let all = context.folder().join(CHECKPOINTS);
    if plain && context.far.is_some() {
        train_far::bring_checkpoint(context, &checkpoint.folder).await?;
    }
    let manifest = all.join(&checkpoint.folder).join("manifest.json");
    let bytes = if plain { std::fs::read(&manifest).unwrap_or_default() } else { Vec::new() };
    if Hash(Sha256::digest(&bytes).into()) != checkpoint.manifest_sha256 {
        let message = "the trainer reported a checkpoint that is not there as reported";
        return Err(Failure::new(FailureCode::BadCheckpoint, message).at(manifest.display().to_string()).into());
    }
    let step = checkpoint.step;
    context.durable(Fact::Checkpoint(checkpoint)).await?;
    kept::prune(&context.folder(), step);
    Ok(())
}

async fn keep_result(
    context: &mut Context,
) -> Result<(VersionId, hone_protocol::model::WeightsFile, hone_protocol::model::ModelFacts), Stop> {
    let path = context.folder().join(TRAINED);
    let (facts, sha256) = import_model::inspect(context, &path).await?;
    let version: VersionId = new_id();
    let (models, name) = (context.places.models.clone(), format!("{version}.gguf"));
    let file = tokio::task::spawn_blocking(move || store_file::bring(&path, &models, &name, sha256))
        .await
        .map_err(|e| Failure::new(FailureCode::Internal, e.to_string()))??;
    Ok((version, file, facts))
}

/// What a run would do: the same path up to the plan, in a folder of its own.
pub async fn plan_without_starting(
    state: std::sync::Arc<State>,
    places: std::sync::Arc<Places>,
    store: std::sync::Arc<crate::store::Store>,
    spawner: Spawner,
    events: crate::dispatcher::Events,
    desk: crate::desk::ServiceDesk,
    spec: TrainSpec,
) -> Result<TrainPlan, Failure> {
    let wrapped = JobSpec::Train(Box::new(spec));
    check(&state, &wrapped)?;
    fits(&state, &wrapped, LOCAL_POOL)?;
    let wrapped = pin(&state, wrapped)?;
    let id: hone_protocol::id::JobId = new_id();
    let job = hone_protocol::job::JobRecord {
        id,
        spec: wrapped.clone(),
        person: String::new(),
        payer: state.application(crate::state::OWNER)?.id,
        created_at_ms: 0,
        state: hone_protocol::job::JobState::Queued,
        wish: None,
        attempt: 0,
        strikes: 0,
        barren: 0,
        checkpoint: None,
        started_at_ms: None,
        ended_at_ms: None,
        next_event_seq: 0,
        compute: None,
        batch: None,
        pool: None,
    };
    let (_keep, stop) = tokio::sync::watch::channel(None);
    let mut context =
        Context { job: std::sync::Arc::new(job), state, places, store, spawner, events, desk, stop, far: None };
    let folder = context.folder();
    let made = tokio::fs::create_dir_all(&folder).await;
    made.map_err(|e| Failure::new(FailureCode::DiskFull, e.to_string()).at(folder.display().to_string()))?;
    let plan = plan(&mut context, spec_of(&wrapped)?).await;
    let _ = tokio::fs::remove_dir_all(&folder).await;
    plan.map_err(|stop| match stop {
        Stop::Failed(failure) => failure,
        Stop::Wished => Failure::new(FailureCode::Interrupted, "the plan was interrupted"),
    })
}

async fn plan(context: &mut Context, spec: &TrainSpec) -> Result<TrainPlan, Stop> {
    let base = context.state.version(&spec.base)?.clone();
    let model_path = weights_path(&context.places, &base);
    let rows = export_rows(context, spec).await?;
    let place = Where { folder: context.folder(), model: model_path, rows };
    let task = task(context, spec, &base, &place, true);
    let mut line = context.child(Program::Worker("train"), trainer_paths(context, &place.model)).await?;
    line.send(&ToWorker::Train(Box::new(task))).await?;
    match context.next(&mut line).await? {
        FromWorker::Planned(plan) => {
            let plan = complete(&context.state, spec, plan);
            require_disk(context, &plan)?;
            Ok(plan)
        }
        other => Err(unexpected(&other)),
    }
}
