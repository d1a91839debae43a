//! What a client may ask, and what it is told. Every act of the terminal client is one of these, so every act
//! can be scripted. Reads are answered from the published snapshot or the store; the rest goes to the dispatcher.

use serde::{Deserialize, Serialize};

use crate::application::{BudgetKind, Limits};
use crate::dataset::{ChatMessage, ExportFormat, Part, RowFilter, RowFormat, Split};
use crate::evaluation::Scorer;
use crate::generate::Format;
use crate::generation::GenerateSpec;
use crate::guard::GuardSpec;
use crate::hook::{AlertKind, HookTarget};
use crate::id::{EvaluationId, JobId, KeyId};
use crate::job::JobSpec;
use crate::judgement::Judgement;
use crate::labelling::LabelRequest;
use crate::log::{Feedback, LogQuery, LogSettings};
use crate::note::NoteKind;
use crate::person::Role;
use crate::pool::{PoolPlace, Priority};
use crate::recipe::Recipe;
use crate::service::{Keep, Price};
use crate::standard::StandardSpec;
use crate::train::TrainSpec;
use crate::upstream::UpstreamWish;
use crate::usage::{ComputePrice, Span, UsageQuery};
use crate::value::{Hash, Json, Pico};
use crate::worker::Sampling;

pub use crate::answer::Answer;
pub use crate::envelope::{Down, StreamPart, Up};

pub use crate::about::{AuditRow, ChatEnd, Status};

/// A wish.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    // -- the daemon
    /// Version, process, store, memory, listeners.
    Status,
    /// Get a snapshot now and events from then on.
    Watch,
    /// Checkpoint, stop workers and end.
    Shutdown,
    /// Who did what, newest first.
    Audit {
        /// At most this many.
        count: u32,
    },

    // -- models
    /// All models with their versions.
    Models,
    /// What touched a model or one version of it, newest first.
    History {
        /// `name` for all versions, or `name@number`.
        model: String,
    },
    /// Point `model:alias` at a version.
    SetAlias {
        /// Name of the model.
        model: String,
        /// The alias.
        alias: String,
        /// `name@number`.
        version: String,
        /// Why the alias may move although its gate does not hold; none to let the gate decide.
        past_gate: Option<String>,
    },
    /// Take an alias away.
    RemoveAlias {
        /// Name of the model.
        model: String,
        /// The alias.
        alias: String,
    },
    /// Point an alias back at the version that it pointed at before. No gate is asked.
    RollBack {
        /// Name of the model.
        model: String,
        /// The alias.
        alias: String,
    },
    /// Say what must be measured before an alias moves.
    SetGate {
        /// Name of the model.
        model: String,
        /// The alias; it need not be there yet.
        alias: String,
        /// The gate: see [`crate::gate`]; none to let everything through.
        gate: Option<String>,
    },
    /// Whether the gate of an alias lets a version through. Moves nothing.
    CheckGate {
        /// Name of the model.
        model: String,
        /// The alias.
        alias: String,
        /// `name@number`.
        version: String,
    },
    /// The moves of an alias, newest first, up to [`ROWS_MAX`].
    Moves {
        /// Name of the model.
        model: String,
        /// The alias.
        alias: String,
    },
    /// Put a version into the trash. Refused while something uses it; the failure lists what does.
    Trash {
        /// `name@number`.
        version: String,
    },
    /// Take a version out of the trash.
    Restore {
        /// `name@number`.
        version: String,
    },
    /// What is in the trash, and what removing it would free.
    TrashList,
    /// Remove the files of versions in the trash now. It cannot be taken back.
    Purge {
        /// `name@number` of each, as `trash_list` names them.
        versions: Vec<String>,
    },

    // -- datasets
    /// All datasets with their versions.
    Datasets,
    /// A window of rows.
    Rows {
        /// `name` or `name@number`.
        dataset: String,
        /// Index of the first row among the rows of the part.
        offset: u64,
        /// At most [`ROWS_MAX`].
        count: u32,
        /// The split.
        split: Split,
        /// Which side of it.
        part: Part,
    },
    /// The rows that a filter lets through.
    FindRows {
        /// `name` or `name@number`.
        dataset: String,
        /// The filter.
        filter: RowFilter,
        /// Index of the first row among those found.
        offset: u64,
        /// At most [`ROWS_MAX`].
        count: u32,
    },
    /// What an import of a file or folder would do; nothing is written.
    PreviewImport {
        /// Absolute path.
        path: String,
        /// How it is written.
        format: RowFormat,
        /// Name of the dataset that would get the rows; may be empty.
        name: String,
    },
    /// Write rows into a file on this machine.
    ExportDataset {
        /// `name` or `name@number`.
        dataset: String,
        /// Absolute path of a file that is not there yet.
        path: String,
        /// How rows are written.
        format: ExportFormat,
        /// The split.
        split: Split,
        /// Which side of it.
        part: Part,
    },
    /// One row as a model sees it.
    RenderRow {
        /// `name` or `name@number`.
        dataset: String,
        /// Its id.
        row_id: u64,
        /// Model version whose template and vocabulary are used.
        version: String,
    },

    // -- jobs
    /// Do something.
    Submit {
        /// What.
        spec: JobSpec,
        /// Name of the application that pays; none for `owner`.
        payer: Option<String>,
        /// Name of the pool that it computes in; none for `local`.
        pool: Option<String>,
    },
    /// All jobs, newest first.
    Jobs {
        /// At most this many.
        count: u32,
    },
    /// One job.
    Job {
        /// Which.
        job: JobId,
    },
    /// End a job.
    Cancel {
        /// Which.
        job: JobId,
    },
    /// Stop a job at a checkpoint and keep it.
    Pause {
        /// Which.
        job: JobId,
    },
    /// Let a paused or failed job go on from its checkpoint.
    Resume {
        /// Which.
        job: JobId,
    },
    /// The durable events of a job from `from_seq` on, as parts; the answer comes when the job has ended.
    Follow {
        /// Which.
        job: JobId,
        /// 0 replays its whole life.
        from_seq: u64,
    },
    /// The end of a job's log.
    Log {
        /// Which.
        job: JobId,
        /// At most this many bytes from the end, up to [`LOG_BYTES_MAX`].
        bytes: u32,
    },
    /// A series of a run.
    Metrics {
        /// The training job.
        job: JobId,
        /// One of [`SERIES`](crate::train::SERIES).
        series: String,
        /// From this step on.
        from_step: u64,
        /// At most this many points, spread evenly; 0 for all up to [`POINTS_MAX`].
        points: u32,
    },
    /// Answers of a run to its fixed prompts.
    Samples {
        /// The training job.
        job: JobId,
        /// From this step on.
        from_step: u64,
        /// Of so many evaluations at most, up to [`SAMPLED_MAX`].
        count: u32,
    },
    /// What is kept of a run, newest first: each can become a version.
    Checkpoints {
        /// The training job.
        job: JobId,
    },
    /// What became of the rows of a batch, by row. Rows with answers are let go when they have become a dataset version.
    BatchRows {
        /// The batch.
        job: JobId,
        /// Rows that failed, instead of those with answers.
        failed: bool,
        /// From this row or line on.
        from_row: u64,
        /// At most [`ROWS_MAX`].
        count: u32,
    },
    /// What a training run would do, without starting it.
    PlanTrain {
        /// The form.
        spec: Box<TrainSpec>,
    },

    // -- services
    /// All services.
    Services,
    /// Publish a version under a name; the same name again moves the service to the version.
    Publish {
        /// Name of the service.
        name: String,
        /// `name`, `name@number` or `name:alias`.
        version: String,
        /// Sequences at once; 0 for the default.
        slots: u32,
        /// Context of each in tokens; 0 for the default.
        context_tokens: u32,
        /// What a token costs.
        price: Price,
        /// How long it stays loaded while nobody asks; as before when missing.
        keep: Option<Keep>,
        /// Name of the pool that it runs in; as before when missing, `local` for a new one.
        pool: Option<String>,
    },
    /// Turn a service on or off.
    SetService {
        /// Its name.
        name: String,
        /// On or off.
        wanted: bool,
    },
    /// Ask a service from here; answered in parts. Application `owner` pays.
    Chat {
        /// Its name.
        service: String,
        /// The messages.
        messages: Vec<ChatMessage>,
        /// How to choose tokens.
        sampling: Sampling,
        /// Longest answer.
        tokens_max: u32,
        /// [`Wish::typical_p`](crate::generate::Wish::typical_p); none for 1.
        typical_p: Option<f32>,
        /// Texts that end the answer and are not part of it.
        stop: Option<Vec<String>>,
        /// What the answer must look like; none for text.
        format: Option<Format>,
        /// Log-probabilities of the answer's tokens as parts, with so many of the likeliest beside each, up to
        /// [`TOP_CHANCES_MAX`](crate::generate::TOP_CHANCES_MAX).
        chances: Option<u32>,
    },
    /// How many tokens a conversation has for a service, as it would be rendered. Costs nothing.
    CountTokens {
        /// Name of the service.
        service: String,
        /// The messages.
        messages: Vec<ChatMessage>,
    },

    // -- applications
    /// All applications with keys and usage.
    Applications,
    /// Make one, or set what it may call.
    SetApplication {
        /// Its name.
        name: String,
        /// Free title.
        title: String,
        /// Names of services; empty for all.
        services: Vec<String>,
        /// Who goes first where applications wait for the same thing; as before when missing.
        priority: Option<Priority>,
    },
    /// Set how much an application may ask for and spend.
    SetLimits {
        /// Its name.
        application: String,
        /// The limits.
        limits: Limits,
        /// The budget.
        budget: BudgetKind,
    },
    /// Enter a payment of an application with a prepaid budget.
    Pay {
        /// Its name.
        application: String,
        /// How much; negative to take back.
        amount: Pico,
        /// What for, may be empty.
        note: String,
    },
    /// Payments of an application, newest first, up to [`ROWS_MAX`].
    Payments {
        /// Its name.
        application: String,
    },
    /// Make a key. The answer shows the secret, once.
    CreateKey {
        /// Name of the application.
        application: String,
        /// What the person calls it.
        label: String,
        /// When it ends by itself, Unix milliseconds.
        expires_at_ms: Option<i64>,
    },
    /// Make a key in the place of another, which ends after a while. The answer shows the new secret, once.
    RotateKey {
        /// The old one.
        key: KeyId,
        /// How long both are valid, in milliseconds.
        overlap_ms: u64,
    },
    /// Revoke a key: its next request fails.
    RevokeKey {
        /// Which.
        key: KeyId,
    },
    /// Ledger rows, newest first.
    Ledger {
        /// Name of the application; empty for all.
        application: String,
        /// At most this many, up to [`ROWS_MAX`].
        count: u32,
    },
    /// Remove a service for good. Refused while it is on or an application lists it; the ledger keeps its name.
    DeleteService {
        /// Its name.
        name: String,
    },
    /// What was used, by day, application, service, user and key.
    Usage(UsageQuery),
    /// What an application used in a month, by service and price, and by kind of job.
    Invoice {
        /// Name of the application.
        application: String,
        /// `YYYY-MM`; empty for this month.
        month: String,
    },
    /// How services did: requests, errors, times.
    Stats {
        /// Over which time.
        span: Span,
    },
    /// All pools with their prices and users.
    Pools,
    /// Make a pool, or say what it is and costs from now on.
    SetPool {
        /// Name of the pool.
        name: String,
        /// The price from now on.
        price: ComputePrice,
        /// What it is; as before when missing. `local` is what the others leave, so it has none.
        place: Option<PoolPlace>,
    },
    /// Remove a pool. Refused while jobs or services are in it; the failure lists them.
    RemovePool {
        /// Its name.
        name: String,
    },
    /// Keep a service for an application at a price by the hour, or end that.
    Reserve {
        /// Name of the service.
        service: String,
        /// Name of the application that pays; none to end the reservation.
        application: Option<String>,
        /// Micro-units of the currency for an hour.
        hour_micros: u64,
    },

    // -- hooks
    /// All hooks.
    Hooks,
    /// Make a hook, or change it. The answer shows the secret of a new webhook, once.
    SetHook {
        /// Its name.
        name: String,
        /// Of what it is told.
        on: Vec<AlertKind>,
        /// How.
        target: HookTarget,
        /// How long a try may take, in milliseconds; 0 for the default.
        timeout_ms: u32,
    },
    /// Remove a hook, and what waits for it.
    RemoveHook {
        /// Its name.
        name: String,
    },
    /// Send a hook an alert that means nothing.
    TestHook {
        /// Its name.
        name: String,
    },
    /// What was worth an alert, newest first.
    Alerts {
        /// At most this many.
        count: u32,
    },

    // -- declared files
    /// Everything that a file can declare, as it is.
    Declared,
    /// Carry out all changes or none. Refused when what can be declared is no more as it was.
    Apply {
        /// The stamp that `declared` answered, which the changes were made for.
        made_for: Hash,
        /// Up to [`CHANGES_MAX`](crate::declared::CHANGES_MAX) wishes for pools, gates, aliases, services, applications and hooks.
        changes: Vec<Request>,
    },

    // -- evaluation
    /// Make a suite.
    CreateSuite {
        /// Its name.
        name: String,
        /// `name` or `name@number`.
        dataset: String,
        /// The split.
        split: Split,
        /// Which side of it.
        part: Part,
        /// How answers are judged.
        scorers: Vec<Scorer>,
    },
    /// All suites and evaluations.
    Evaluations,
    /// Per-row results.
    EvaluationRows {
        /// Which.
        evaluation: EvaluationId,
        /// Index of the first.
        offset: u64,
        /// At most [`ROWS_MAX`].
        count: u32,
    },

    // -- the playground
    /// Say which of several answers to one conversation is better. Durable at once; rows are made of judgements by an import
    /// from [`DatasetSource::Judgements`](crate::dataset::DatasetSource::Judgements).
    Judge {
        /// Name of the dataset of preferences that they are for. It need not be there yet.
        dataset: String,
        /// What was said.
        judgement: Box<Judgement>,
    },
    /// Take back a judgement that no version has yet.
    Unjudge {
        /// Name of the dataset.
        dataset: String,
        /// Number of the judgement.
        seq: u64,
    },
    /// Judgements for a dataset, newest first.
    Judgements {
        /// Name of the dataset.
        dataset: String,
        /// At most this many, up to [`ROWS_MAX`].
        count: u32,
    },
    /// Keep something of the person who asks under a name; what had the name before is replaced.
    KeepNote {
        /// What it is.
        kind: NoteKind,
        /// Its name.
        name: String,
        /// A title to show, may be empty.
        title: String,
        /// The thing.
        value: Json,
    },
    /// What the person who asks has kept, newest first, without the things themselves, up to [`ROWS_MAX`].
    Notes {
        /// Of which kind.
        kind: NoteKind,
    },
    /// One kept thing.
    Note {
        /// Of which kind.
        kind: NoteKind,
        /// Its name.
        name: String,
    },
    /// Keep it no longer. It cannot be taken back.
    DropNote {
        /// Of which kind.
        kind: NoteKind,
        /// Its name.
        name: String,
    },

    // -- the request log
    /// Log an application's requests, or no longer. What is logged already stays until its time is over.
    SetLog {
        /// Its name.
        application: String,
        /// How; none to turn it off.
        log: Option<LogSettings>,
    },
    /// A page of an application's log, the newest first.
    LogPage(Box<LogQuery>),
    /// One logged request with what people said of it.
    LogEntry {
        /// The response's id, as the client was told it.
        response: String,
    },
    /// Remove everything that an application has logged. It cannot be taken back.
    ClearLog {
        /// Its name.
        application: String,
    },
    /// Say something of an answer. What the same user said of it before is replaced.
    Rate {
        /// The response's id, as the client was told it.
        response: String,
        /// What is said; an empty user is the person who asks.
        feedback: Feedback,
    },

    // -- guards
    /// All guards with what they found.
    Guards,
    /// Make a guard, or set what it does.
    SetGuard {
        /// Its name.
        name: String,
        /// What it does.
        spec: Box<GuardSpec>,
    },
    /// Remove a guard. What it found stays counted.
    RemoveGuard {
        /// Its name.
        name: String,
    },
    /// What a guard would do to a text.
    TestGuard {
        /// The guard, which need not be stored.
        spec: Box<GuardSpec>,
        /// The text, up to [`TRIAL_BYTES_MAX`](crate::guard::TRIAL_BYTES_MAX).
        text: String,
    },

    // -- servers elsewhere
    /// Publish an OpenAI-compatible server elsewhere under a name, or change how the service reaches it.
    PublishUpstream {
        /// Name of the service.
        name: String,
        /// Where it is, its model and key.
        upstream: UpstreamWish,
        /// Requests at once; 0 as before, or for the default.
        slots: u32,
        /// What an answer without a wished length may come to, in tokens, where limits set something aside for it; 0 as
        /// before, or for the default.
        context_tokens: u32,
        /// What a token costs.
        price: Price,
    },

    // -- recipes
    /// What a recipe would do to some rows of a version; nothing is written.
    PreviewRecipe {
        /// `name` or `name@number`.
        dataset: String,
        /// The recipe.
        recipe: Recipe,
        /// The first row to look at, counted in the version.
        from: u64,
        /// Rows to show, up to [`PREVIEW_ROWS_MAX`](crate::recipe::PREVIEW_ROWS_MAX).
        count: u32,
    },
    /// Rows that a step dropped or changed when it made a version.
    RecipeLedger {
        /// The version that came out: `name` or `name@number`.
        dataset: String,
        /// Index of the step.
        step: u32,
        /// The first entry.
        offset: u64,
        /// At most [`ROWS_MAX`].
        count: u32,
    },

    // -- labelling
    /// Projects of labelling, decisions, suggestions, agreement.
    Labelling(LabelRequest),

    // -- persons
    /// Who is let in beside the daemon's own user.
    People,
    /// Let a person in, or change what they may do.
    SetPerson {
        /// Their name.
        name: String,
        /// What they may do.
        role: Role,
        /// Number of the system's user that they come as; none for one who comes as the daemon's own user.
        uid: Option<u32>,
        /// Projects that an annotator labels; empty for all.
        projects: Vec<String>,
    },
    /// Let a person in no longer. What they did keeps their name.
    RemovePerson {
        /// Their name.
        name: String,
    },

    // -- standards and generation
    /// All standards with their versions, without removed ones.
    Standards,
    /// One version of a standard, also of a removed one where a number is said.
    Standard {
        /// `name` or `name@number`.
        standard: String,
    },
    /// Make a standard, or a new version of one. What equals its newest version makes none.
    SetStandard {
        /// Its name.
        name: String,
        /// What it says.
        spec: Box<StandardSpec>,
    },
    /// Remove a standard. Refused while a job uses it; what was made to it still names it.
    RemoveStandard {
        /// Its name.
        name: String,
    },
    /// Rows of a window that do not pass the checks of a standard.
    CheckRows {
        /// `name` or `name@number` of the standard.
        standard: String,
        /// `name` or `name@number` of the dataset.
        dataset: String,
        /// Index of the first row.
        offset: u64,
        /// At most [`ROWS_MAX`].
        count: u32,
    },
    /// What a generation may come to. Asks no service.
    EstimateGenerate {
        /// The form.
        spec: Box<GenerateSpec>,
    },
    /// Candidates of a generation that did not become rows, with reasons.
    RejectedCandidates {
        /// The job.
        job: JobId,
        /// From this candidate on.
        from: u64,
        /// At most [`ROWS_MAX`].
        count: u32,
    },

    // -- versions of datasets
    /// What differs between two versions, row by row.
    DiffDatasets {
        /// `name@number` of the earlier one.
        before: String,
        /// `name@number` of the later one.
        after: String,
        /// Index of the first difference of the page.
        offset: u64,
        /// At most [`ROWS_MAX`].
        count: u32,
    },
    /// What a dataset or one version of it was made of, and what was made of it.
    DatasetLineage {
        /// `name` or `name@number`.
        dataset: String,
    },
    /// Say that a version may be trained on, or take that back.
    ReleaseDataset {
        /// `name@number`.
        version: String,
        /// Whether it may.
        released: bool,
    },
    /// Put a version of a dataset, or all of a dataset, into the trash. Refused while something uses it; the failure lists what.
    TrashDataset {
        /// `name@number` or `name`.
        dataset: String,
    },
    /// Take it out of the trash.
    RestoreDataset {
        /// `name@number` or `name`.
        dataset: String,
    },
    /// Datasets' versions in the trash, and what removing them would free.
    DatasetTrash,
    /// Remove the rows of versions in the trash now. It cannot be taken back.
    PurgeDatasets {
        /// `name@number` of each, as `dataset_trash` names them.
        versions: Vec<String>,
    },
}

/// Most rows in one window.
pub const ROWS_MAX: u32 = 1000;
/// Most bytes of a log in one answer.
pub const LOG_BYTES_MAX: u32 = 1 << 20;
/// Most points of a series in one answer.
pub const POINTS_MAX: u32 = 100_000;
/// Most evaluations whose answers come in one answer.
pub const SAMPLED_MAX: u32 = 64;
