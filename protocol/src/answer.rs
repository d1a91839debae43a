//! What the daemon answers to requests. Never here: requests (see [`crate::request`]), what is streamed beside them.

use serde::{Deserialize, Serialize};

use crate::about::{AuditRow, ChatEnd, Status};
use crate::application::{ApplicationView, LedgerRow, Payment};
use crate::batch::BatchRow;
use crate::dataset::{DatasetDiff, DatasetView, ImportPreview, LineageEdge, RenderedRow, Row};
use crate::declared::Declared;
use crate::evaluation::{EvaluationRecord, EvaluationRow, SuiteRecord};
use crate::gate::GateReport;
use crate::generation::{GenerateEstimate, RejectedCandidate};
use crate::guard::{GuardTrial, GuardView};
use crate::hook::{AlertRecord, HookRecord};
use crate::id::KeyId;
use crate::job::JobView;
use crate::judgement::{JudgedSet, JudgementRecord};
use crate::labelling::LabelAnswer;
use crate::log::{LogDetail, LogPage};
use crate::model::{AliasMove, HistoryEntry, ModelView, TrashItem};
use crate::note::{NoteHead, NoteRecord};
use crate::person::PersonRecord;
use crate::pool::PoolView;
use crate::recipe::{LedgerEntry, Preview};
use crate::service::ServiceView;
use crate::standard::{CheckedRows, StandardRecord, StandardView};
use crate::train::{KeptCheckpoint, Point, Sampled, TrainPlan};
use crate::usage::{Invoice, Stats, UsagePage};
use crate::value::Hash;

/// What a request is answered with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Done; nothing more to say.
    Done,
    /// To `status`.
    Status(Box<Status>),
    /// To `audit`.
    Audit(Vec<AuditRow>),
    /// To `models`.
    Models(Vec<ModelView>),
    /// To `history`.
    History(Vec<HistoryEntry>),
    /// To `check_gate`.
    Gate(Box<GateReport>),
    /// To `moves`.
    Moves(Vec<AliasMove>),
    /// To `trash_list`, the oldest first.
    Trash(Vec<TrashItem>),
    /// To `datasets`.
    Datasets(Vec<DatasetView>),
    /// To `rows` and `find_rows`.
    Rows {
        /// The window.
        rows: Vec<Row>,
        /// Rows of the part in all.
        total: u64,
    },
    /// To `preview_import`.
    ImportPreview(Box<ImportPreview>),
    /// To `export_dataset`: rows written.
    Exported {
        /// How many.
        rows: u64,
    },
    /// To `render_row`.
    Rendered(RenderedRow),
    /// To `submit` and the wishes for jobs.
    Job(Box<JobView>),
    /// To `jobs`.
    Jobs(Vec<JobView>),
    /// To `log`.
    Log {
        /// The end of the log.
        text: String,
        /// Its whole size in bytes.
        size_bytes: u64,
    },
    /// To `metrics`.
    Metrics(Vec<Point>),
    /// To `samples`, by step.
    Samples(Vec<Sampled>),
    /// To `checkpoints`.
    Checkpoints(Vec<KeptCheckpoint>),
    /// To `batch_rows`.
    BatchRows(Vec<BatchRow>),
    /// To `plan_train`.
    Plan(TrainPlan),
    /// To `services`.
    Services(Vec<ServiceView>),
    /// To `publish`, `publish_upstream` and `set_service`.
    Service(Box<ServiceView>),
    /// To `chat`.
    Chat(ChatEnd),
    /// To `applications`.
    Applications(Vec<ApplicationView>),
    /// To `payments`.
    Payments(Vec<Payment>),
    /// To `create_key` and `rotate_key`. Shown once.
    Key {
        /// The key.
        key: KeyId,
        /// What the client sends as a bearer token.
        secret: String,
    },
    /// To `ledger`.
    Ledger(Vec<LedgerRow>),
    /// To `usage`.
    Usage(UsagePage),
    /// To `invoice`.
    Invoice(Box<Invoice>),
    /// To `stats`.
    Stats(Stats),
    /// To `pools`.
    Pools(Vec<PoolView>),
    /// To `hooks`.
    Hooks(Vec<HookRecord>),
    /// To `set_hook`.
    Hook {
        /// The hook.
        hook: Box<HookRecord>,
        /// What bodies are signed with; only for a new webhook. Shown once.
        secret: Option<String>,
    },
    /// To `test_hook`.
    Alert(AlertRecord),
    /// To `alerts`.
    Alerts(Vec<AlertRecord>),
    /// To `declared`.
    Declared {
        /// Everything.
        declared: Box<Declared>,
        /// Differs when anything of it does.
        stamp: Hash,
    },
    /// To `apply`.
    Applied {
        /// What bodies of new webhooks are signed with, by hook. Shown once.
        secrets: Vec<(String, String)>,
    },
    /// To `create_suite`.
    Suite(SuiteRecord),
    /// To `evaluations`.
    Evaluations {
        /// All suites.
        suites: Vec<SuiteRecord>,
        /// All evaluations, newest first.
        evaluations: Vec<EvaluationRecord>,
    },
    /// To `evaluation_rows`.
    EvaluationRows(Vec<EvaluationRow>),
    /// To `count_tokens`.
    Counted {
        /// Tokens of the prompt.
        tokens: u64,
        /// Context of one request of the service, in tokens.
        context_tokens: u32,
    },
    /// To `judge` and `unjudge`.
    Judged {
        /// Number of the judgement.
        seq: u64,
        /// The set as it is now.
        set: JudgedSet,
    },
    /// To `judgements`.
    Judgements {
        /// The set.
        set: JudgedSet,
        /// Its judgements, newest first.
        judgements: Vec<JudgementRecord>,
    },
    /// To `notes`.
    Notes(Vec<NoteHead>),
    /// To `note`.
    Note(Box<NoteRecord>),
    /// To `log_page`.
    LogPage(LogPage),
    /// To `log_entry`.
    LogEntry(Box<LogDetail>),
    /// To `guards`.
    Guards(Vec<GuardView>),
    /// To `test_guard`.
    Trial(GuardTrial),
    /// To `preview_recipe`.
    RecipePreview(Preview),
    /// To `recipe_ledger`.
    RecipeLedger {
        /// The entries.
        entries: Vec<LedgerEntry>,
        /// Entries of the step in all.
        total: u64,
    },
    /// To `people`.
    People(Vec<PersonRecord>),
    /// To `labelling`.
    Labelling(LabelAnswer),
    /// To `standards`.
    Standards(Vec<StandardView>),
    /// To `standard` and `set_standard`.
    Standard(Box<StandardRecord>),
    /// To `check_rows`.
    Checked(CheckedRows),
    /// To `estimate_generate`.
    Estimate(GenerateEstimate),
    /// To `rejected_candidates`.
    Rejected(Vec<RejectedCandidate>),
    /// To `dataset_trash`, the oldest first.
    DatasetTrash(Vec<TrashItem>),
    /// To `diff_datasets`.
    Diff(Box<DatasetDiff>),
    /// To `dataset_lineage`.
    Lineage(Vec<LineageEdge>),
}
