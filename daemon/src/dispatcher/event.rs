//! Everything that can make the daemon act. A closed list: what is not here cannot happen.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hone_protocol::application::{LedgerRow, Outcome};
use hone_protocol::batch::{BatchCounts, BatchRow, DatasetLineage, FileRecord};
use hone_protocol::bench::BenchReport;
use hone_protocol::convert::Receipt;
use hone_protocol::dataset::{ImportReport, Segment};
use hone_protocol::evaluation::EvaluationRow;
use hone_protocol::event::Machine;
use hone_protocol::failure::Failure;
use hone_protocol::generation::{Generated, RejectedCandidate};
use hone_protocol::guard::GuardHit;
use hone_protocol::hook::HookOutcome;
use hone_protocol::id::{
    AlertId, ApplicationId, DatasetVersionId, FileId, HookId, JobId, LedgerId, ServiceId, VersionId,
};
use hone_protocol::job::{Checkpoint, Progress};
use hone_protocol::labelling::Suggestion;
use hone_protocol::log::FeedbackRecord;
use hone_protocol::model::{ModelFacts, WeightsFile};
use hone_protocol::pool::SlurmView;
use hone_protocol::recipe::{DatasetFacts, Processed};
use hone_protocol::request::{Answer, Request};
use hone_protocol::service::ServingMemory;
use hone_protocol::train::{PreferenceMetrics, Sampled, StepMetrics, TrainPlan, TrainResult, Warned};
use hone_protocol::value::Metric;
use tokio::sync::{Notify, oneshot};

use super::labelling::HandTo;
use super::limits::Allowance;

/// Where an answer goes.
pub type ReplyTo = oneshot::Sender<Result<Answer, Failure>>;

/// One thing that happened.
pub enum Event {
    /// A person wishes something that changes facts.
    Request {
        /// Who.
        person: String,
        /// Makes a repetition harmless.
        once: Option<String>,
        /// What.
        request: Box<Request>,
        /// Where the answer goes.
        reply: ReplyTo,
    },
    /// An attempt reports.
    Attempt {
        /// Of which job.
        job: JobId,
        /// Which attempt; reports of older ones are ignored.
        number: u32,
        /// What.
        fact: Fact,
        /// Told when it is durable.
        done: Option<oneshot::Sender<()>>,
    },
    /// An attempt ended.
    AttemptEnded {
        /// Of which job.
        job: JobId,
        /// Which attempt.
        number: u32,
        /// How.
        end: AttemptEnd,
    },
    /// A serving process reports.
    Serving {
        /// Its base.
        base: VersionId,
        /// Which process; reports of older ones are ignored.
        generation: u64,
        /// What.
        fact: ServingFact,
    },
    /// It is time to try a serving process again.
    RetryServing {
        /// Its base.
        base: VersionId,
        /// The process that ended.
        generation: u64,
    },
    /// A window that labels is gone: its rows are free.
    LeaveDesk {
        /// Whose it was.
        person: String,
        /// Name of the project.
        project: String,
        /// The window.
        session: u64,
    },
    /// Somebody who labels wants rows.
    HandOut {
        /// Who.
        person: String,
        /// Name of the project.
        project: String,
        /// The window that asks.
        session: u64,
        /// Rows that it has.
        held: Vec<u64>,
        /// At most this many more.
        count: u32,
        /// Where they go.
        reply: HandTo,
    },
    /// Somebody asks a service that is not loaded.
    Wake {
        /// Which.
        service: ServiceId,
        /// Told when it is being loaded, or why it cannot be.
        reply: oneshot::Sender<Result<(), Failure>>,
    },
    /// A service may have been idle long enough.
    LookIdle {
        /// Which.
        service: ServiceId,
    },
    /// A metered request begins.
    OpenRow {
        /// The row.
        row: Box<LedgerRow>,
        /// Most tokens of its prompt and of its answer, which limits and budgets set aside while it is open.
        tokens_most: (u64, u64),
        /// Told when it is durable with what limits leave, or why it may not begin.
        reply: oneshot::Sender<Result<Allowance, Failure>>,
    },
    /// The worker has counted the prompt of an open row: what was set aside by estimate is set aside exactly.
    Counted {
        /// Which row.
        id: LedgerId,
        /// Tokens of its prompts.
        prompt_tokens: u64,
        /// Most tokens of its answers.
        answer_most: u64,
    },
    /// Something that costs nothing is asked for: it counts as a request of the minute.
    Knock {
        /// By whom.
        application: ApplicationId,
        /// Told whether it may be.
        reply: oneshot::Sender<Result<(), Failure>>,
    },
    /// So many tokens of an open row were written.
    Watermark {
        /// Which row.
        id: LedgerId,
        /// Prompt tokens, cached ones included.
        prompt_tokens: u64,
        /// Prompt tokens found in the cache.
        cached_tokens: u64,
        /// Tokens whose bytes were written.
        tokens: u64,
        /// Told when it is durable.
        mark: Arc<Watermark>,
    },
    /// A metered request ended.
    CloseRow {
        /// Which row.
        id: LedgerId,
        /// How it ended and what it used.
        close: Close,
        /// Told the row as it is stored.
        reply: oneshot::Sender<Result<LedgerRow, Failure>>,
    },
    /// A row of a batch is done.
    BatchRow {
        /// The batch.
        job: JobId,
        /// Which attempt; rows of older ones are not kept.
        number: u32,
        /// The row.
        kept: Box<KeptRow>,
        /// Told when it is durable.
        done: oneshot::Sender<()>,
    },
    /// An application wishes something of its files.
    File {
        /// What.
        wish: FileWish,
        /// Told when it is durable, or why not.
        reply: oneshot::Sender<Result<(), Failure>>,
    },
    /// Guards found something in a request.
    Guarded {
        /// At which service.
        service: ServiceId,
        /// In a text of which application.
        application: ApplicationId,
        /// What.
        hits: Vec<GuardHit>,
    },
    /// Somebody says something of an answer. When it was said is filled in.
    Feedback {
        /// What.
        record: Box<FeedbackRecord>,
        /// Told when it is durable.
        reply: oneshot::Sender<Result<(), Failure>>,
    },
    /// What no longer answers may have no request any more.
    LookRetired,
    /// A try to tell a hook of an alert ended.
    Delivered {
        /// The hook.
        hook: HookId,
        /// The alert.
        alert: AlertId,
        /// How.
        outcome: HookOutcome,
        /// How long it took.
        ms: u64,
    },
    /// It is time to tell a hook again.
    RetryDelivery {
        /// The hook.
        hook: HookId,
        /// The alert.
        alert: AlertId,
    },
    /// So many bytes of disk are free.
    DiskFree(u64),
    /// The machine was looked at.
    Machine(Machine),
    /// HTTP listens here.
    Http(Vec<String>),
    /// It is time to charge reserved time.
    LookReserved,
    /// It is time to look for versions whose time in the trash is over.
    EmptyTrash,
    /// Checkpoint, stop everything, end.
    Stop,
    /// The time for a graceful stop is over.
    StopNow,
}

/// How a metered request ended.
#[derive(Debug, Clone, Copy)]
pub struct Close {
    /// How.
    pub outcome: Outcome,
    /// Prompt tokens, cached ones included.
    pub prompt_tokens: u64,
    /// Prompt tokens found in the cache.
    pub cached_tokens: u64,
    /// Tokens whose bytes were written.
    pub completion_tokens: u64,
    /// Time to the first token.
    pub first_token_ms: Option<u32>,
    /// Time to the end.
    pub total_ms: u32,
    /// Whether the tokens are an estimate: a server elsewhere told none.
    pub is_estimate: bool,
}

/// A row of a batch as it is to be kept, and how the ledger's row closes with it.
pub struct KeptRow {
    /// The row.
    pub row: BatchRow,
    /// How its row of the ledger closes; none where that is closed already, or was never opened.
    pub close: Option<Close>,
    /// How fast the batch is: tokens per second, prompts and answers.
    pub tokens_per_s: f64,
    /// Remaining milliseconds, estimated.
    pub remaining_ms: Option<u64>,
}

/// What an application wishes of its files.
pub enum FileWish {
    /// Record one, whose bytes are complete.
    Add(FileRecord),
    /// Remove one.
    Remove {
        /// Whose.
        application: ApplicationId,
        /// Which.
        file: FileId,
    },
    /// Let the answers of a batch go, or its failed lines.
    LetRowsGo {
        /// The batch.
        job: JobId,
        /// Which of both.
        failed: bool,
    },
}

/// The number of tokens of an open row that are durably billed.
#[derive(Default)]
pub struct Watermark {
    tokens: AtomicU64,
    changed: Notify,
}

impl Watermark {
    /// What is durable.
    pub fn tokens(&self) -> u64 {
        self.tokens.load(Ordering::Acquire)
    }
    /// Raises it; called after the commit.
    pub fn raise(&self, tokens: u64) {
        self.tokens.fetch_max(tokens, Ordering::AcqRel);
        self.changed.notify_waiters();
    }
    /// Waits until it is at least `tokens`.
    pub async fn reach(&self, tokens: u64) {
        loop {
            let changed = self.changed.notified();
            if self.tokens() >= tokens {
                return;
            }
            changed.await;
        }
    }
}

/// What an attempt reports.
pub enum Fact {
    /// The process that does the work now.
    Pid(Option<u32>),
    /// How far it is.
    Progress(Progress),
    /// The plan of a training run.
    Planned(TrainPlan),
    /// One step.
    Step(StepMetrics),
    /// The loss on held-out rows.
    Evaluated {
        /// After this step.
        step: u64,
        /// Mean loss per target token, or per pair.
        loss: Metric,
        /// What pairs came to; none for other methods.
        preference: Option<PreferenceMetrics>,
        /// Loss on held-out rows of the set that is mixed in; none where nothing is.
        replay_loss: Option<Metric>,
    },
    /// Answers to a run's fixed prompts.
    Sampled(Sampled),
    /// A run should be looked at.
    Warned(Warned),
    /// A complete checkpoint.
    Checkpoint(Checkpoint),
    /// Judged rows.
    EvaluationRows(Vec<EvaluationRow>),
    /// How many rows a batch has.
    BatchCounted(u64),
    /// What a service thinks of rows of a project.
    Suggested(String, Vec<Suggestion>),
    /// Candidates of a generation that became no rows.
    Rejected(Vec<RejectedCandidate>),
    /// Where its job stands in Slurm.
    Slurm(SlurmView),
    /// One of the others, out of frames that can be taken again: how far they were taken is stored with it.
    At {
        /// Bytes of frames.
        position: u64,
        /// Which.
        fact: Box<Fact>,
    },
}

/// How an attempt ended.
pub enum AttemptEnd {
    /// Well.
    Produced(Box<Produced>),
    /// By wish: cancelled, paused at a checkpoint, or because the daemon stops.
    Stopped,
    /// It failed.
    Failed(Failure),
}

/// What an attempt made; files are complete under their final names.
pub enum Produced {
    /// A model file.
    Model {
        /// The new version's id, which names its file.
        version: VersionId,
        /// What the inspector found.
        facts: ModelFacts,
        /// Where it is.
        file: WeightsFile,
        /// What it was imported from.
        source: String,
    },
    /// Rows.
    Dataset {
        /// What was kept and rejected.
        report: ImportReport,
        /// The segments.
        segments: Vec<Segment>,
        /// The first row id that was given.
        first_row_id: u64,
        /// Licence, when the source states one.
        licence: String,
        /// What a service made them of.
        lineage: Option<DatasetLineage>,
        /// Logged responses that they were made of.
        responses: Vec<LedgerId>,
        /// What a recipe did.
        processed: Option<Box<Processed>>,
    },
    /// Facts of a dataset version.
    Facts(DatasetVersionId, Box<DatasetFacts>),
    /// Rows that a service wrote to a standard.
    Generated {
        /// How they were made.
        made: Generated,
        /// What became of the candidates.
        report: ImportReport,
        /// The segments.
        segments: Vec<Segment>,
        /// The first row id that was given.
        first_row_id: u64,
    },
    /// Rows of other versions: a mixture, or the parts of a split.
    Picked {
        /// The versions that they are of.
        sources: Vec<DatasetVersionId>,
        /// What was made.
        parts: Vec<PickedPart>,
    },
    /// Rows that got a suggestion; they are stored already.
    Suggested(u64),
    /// Answers to the lines of a file; they are stored already.
    Batch(BatchCounts),
    /// A trained adapter.
    Adapter {
        /// The new version's id, which names its file; none when the run is not registered.
        version: Option<(VersionId, WeightsFile, ModelFacts)>,
        /// What the run came to; its version is not known yet.
        result: TrainResult,
    },
    /// A kept checkpoint of a run, as a file.
    Registered {
        /// The new version's id, which names its file.
        version: VersionId,
        /// What the inspector found.
        facts: ModelFacts,
        /// Where it is.
        file: WeightsFile,
        /// The step.
        step: u64,
    },
    /// A version made of another one, or an adapter brought in.
    Converted {
        /// The new version's id, which names its file.
        version: VersionId,
        /// What the inspector found.
        facts: ModelFacts,
        /// Where it is.
        file: WeightsFile,
        /// Rank and alpha of an adapter; its base is the parent.
        adapter: Option<(u32, f32)>,
        /// What it was made from.
        parent: VersionId,
        /// How, in words.
        source: String,
        /// What a person should know about it; may be empty.
        warning: String,
        /// How near it is to what it was made from, if that was measured.
        receipt: Option<Receipt>,
    },
    /// What formats of a model come to.
    Bench(BenchReport),
    /// Files for other programs.
    Exported {
        /// Folder or file.
        path: String,
        /// Names of the files in it.
        files: Vec<String>,
    },
    /// A judged suite; its rows are stored already.
    Evaluation {
        /// Rows judged.
        rows: u64,
        /// Sum of the loss in nats.
        loss_sum: f64,
        /// Target tokens behind it.
        loss_tokens: u64,
        /// Mean rule score.
        score: Option<f64>,
    },
}

/// A version that was made of rows of others.
pub struct PickedPart {
    /// Name of the dataset.
    pub name: String,
    /// What was kept.
    pub report: ImportReport,
    /// The segments.
    pub segments: Vec<Segment>,
    /// The first row id that was given.
    pub first_row_id: u64,
}

/// What a serving process reports.
pub enum ServingFact {
    /// It answers.
    Ready {
        /// Resident bytes.
        memory_bytes: u64,
    },
    /// It has loaded an adapter.
    AdapterReady(VersionId),
    /// It could not load an adapter.
    AdapterFailed(VersionId, Failure),
    /// How much it has to do.
    Load {
        /// Requests in slots.
        active: u32,
        /// Requests waiting.
        waiting: u32,
        /// Resident bytes.
        memory_bytes: u64,
    },
    /// What its memory is for.
    Memory(ServingMemory),
    /// It ended.
    Ended(Failure),
    /// What is wrong with the server elsewhere that it speaks to; none while that answers.
    Health(Option<Failure>),
}
