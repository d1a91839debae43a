//! Jobs: what was asked for. One attempt is one try; a run is the metric history of a training job.

use serde::{Deserialize, Serialize};

use crate::batch::{BatchCounts, BatchSpec};
use crate::bench::BenchReport;
use crate::convert::Conversion;
use crate::dataset::{DatasetSource, ImportReport, RowFormat};
use crate::evaluation::EvaluateSpec;
use crate::failure::Failure;
use crate::generation::GenerateSpec;
use crate::id::{ApplicationId, DatasetVersionId, EvaluationId, JobId, VersionId};
use crate::labelling::SuggestSpec;
use crate::mixture::{MixSpec, SplitSpec};
use crate::model::ModelSource;
use crate::pool::SlurmView;
use crate::recipe::ProcessSpec;
use crate::train::{Register, TrainPlan, TrainResult, TrainSpec, Warned};
use crate::usage::ComputeUsage;
use crate::value::Hash;

/// What is to be done. A new job kind starts here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobSpec {
    /// Bring a model in.
    ImportModel {
        /// From where.
        source: ModelSource,
        /// Name of the model to add a version to; made if it is not there.
        name: String,
    },
    /// Bring rows in.
    ImportDataset {
        /// From where.
        source: DatasetSource,
        /// Name of the dataset to add a version to; made if it is not there.
        name: String,
        /// How they are written.
        format: RowFormat,
    },
    /// Train.
    Train(Box<TrainSpec>),
    /// Evaluate.
    Evaluate(EvaluateSpec),
    /// Change the form of a model, or bring one in or out.
    Convert(Conversion),
    /// Make a version of a kept checkpoint of a run.
    Register(RegisterSpec),
    /// Ask a service many things.
    Batch(BatchSpec),
    /// Send rows through a recipe.
    Process(Box<ProcessSpec>),
    /// Find facts of a dataset version.
    Facts(FactsSpec),
    /// Let a service write rows to a standard.
    Generate(Box<GenerateSpec>),
    /// Make a dataset of rows of several, by weight.
    Mix(Box<MixSpec>),
    /// Make several datasets of the rows of one.
    Split(Box<SplitSpec>),
    /// Let a service suggest labels.
    Suggest(SuggestSpec),
}

/// Of which version facts are wanted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FactsSpec {
    /// `name` or `name@number`.
    pub dataset: String,
    /// The model version whose tokens are counted, `name@number`; none to count none.
    pub model: Option<String>,
}

/// Which checkpoint becomes a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegisterSpec {
    /// The training job.
    pub run: JobId,
    /// The step; none for the run's result where it was not registered, else its newest checkpoint.
    pub step: Option<u64>,
    /// What to make of it.
    pub register: Register,
}

impl JobSpec {
    /// The word for the kind, as the table of kinds has it.
    pub fn kind(&self) -> &'static str {
        match self {
            JobSpec::ImportModel { .. } => "import_model",
            JobSpec::ImportDataset { .. } => "import_dataset",
            JobSpec::Train(_) => "train",
            JobSpec::Evaluate(_) => "evaluate",
            JobSpec::Convert(conversion) => conversion.kind(),
            JobSpec::Register(_) => "register",
            JobSpec::Batch(_) => "batch",
            JobSpec::Process(_) => "process",
            JobSpec::Facts(_) => "facts",
            JobSpec::Generate(_) => "generate",
            JobSpec::Mix(_) => "mix",
            JobSpec::Split(_) => "split",
            JobSpec::Suggest(_) => "suggest",
        }
    }

    /// The model version that it works on, as it is written; none for what comes from outside, for a registration, which works on
    /// a run, and for a batch or a generation, which asks a service.
    pub fn works_on(&self) -> Option<&str> {
        match self {
            JobSpec::ImportModel { .. }
            | JobSpec::ImportDataset { .. }
            | JobSpec::Register(_)
            | JobSpec::Batch(_)
            | JobSpec::Process(_)
            | JobSpec::Generate(_)
            | JobSpec::Mix(_)
            | JobSpec::Split(_)
            | JobSpec::Suggest(_) => None,
            JobSpec::Facts(spec) => spec.model.as_deref(),
            JobSpec::Train(spec) => Some(&spec.base),
            JobSpec::Evaluate(spec) => Some(&spec.version),
            JobSpec::Convert(conversion) => conversion.works_on(),
        }
    }
}

/// A job as it is stored. "Running" is not here on purpose: it is a fact of memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Identity.
    pub id: JobId,
    /// What is to be done.
    pub spec: JobSpec,
    /// Who asked.
    pub person: String,
    /// Who pays.
    pub payer: ApplicationId,
    /// When it was asked for, Unix milliseconds.
    pub created_at_ms: i64,
    /// Where it stands.
    pub state: JobState,
    /// What was wished for it.
    pub wish: Option<Wish>,
    /// Attempts begun; raised before the process starts.
    pub attempt: u32,
    /// Worker deaths since the last accepted checkpoint; at [`STRIKES_MAX`] the job is set aside.
    pub strikes: u32,
    /// Attempts begun since the last accepted checkpoint; at [`BARREN_MAX`] the job is set aside. Counts what
    /// strikes cannot see: a job that brings the daemon itself down.
    pub barren: u32,
    /// The accepted checkpoint to go on from.
    pub checkpoint: Option<Checkpoint>,
    /// When the first attempt began, Unix milliseconds.
    pub started_at_ms: Option<i64>,
    /// When it ended, Unix milliseconds.
    pub ended_at_ms: Option<i64>,
    /// The next number of its durable events.
    pub next_event_seq: u64,
    /// What its attempts computed and cost so far, the running one not counted; none before the first has ended.
    pub compute: Option<ComputeUsage>,
    /// How far a batch is; none for other kinds.
    pub batch: Option<BatchCounts>,
    /// The pool that it computes in; none for `local`.
    pub pool: Option<String>,
}

/// The stored state of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// To be done, being done, or paused: see [`JobView::shown`].
    Queued,
    /// Done.
    Succeeded(JobResult),
    /// Given up.
    Failed(Failure),
    /// Ended by wish.
    Cancelled,
}

/// A durable wish of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// End it.
    Cancel,
    /// Stop at a checkpoint and wait.
    Pause,
}

/// An accepted checkpoint: complete, hashed, and sealed together with all metrics up to its step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The step.
    pub step: u64,
    /// Folder, relative to the job's folder.
    pub folder: String,
    /// SHA-256 of its manifest.
    pub manifest_sha256: Hash,
}

/// What a job made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobResult {
    /// A model version.
    Model(VersionId),
    /// A dataset version.
    Dataset(DatasetVersionId, ImportReport),
    /// A training run.
    Train(TrainResult),
    /// An evaluation.
    Evaluation(EvaluationId),
    /// Files for other programs.
    Exported {
        /// Absolute path of the folder or file.
        path: String,
        /// Names of the files in it.
        files: Vec<String>,
    },
    /// What formats of a model come to on this machine.
    Bench(BenchReport),
    /// Answers to the lines of a file; they are read as the batch's own files.
    Batch(BatchCounts),
    /// Facts of a dataset version, which has them now.
    Facts(DatasetVersionId),
    /// Dataset versions, the parts of a split in their order.
    Datasets(Vec<DatasetVersionId>),
    /// Rows that got a suggestion.
    Suggested(u64),
}

/// The state that people see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum ShownState {
    Queued,
    Running,
    Paused,
    Succeeded,
    Failed,
    Cancelled,
}

/// How far an attempt is. A fact of memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done now: a key of the catalogue (`phase.train`…).
    pub phase: String,
    /// Units done.
    pub done: u64,
    /// Units in all; 0 when not known.
    pub total: u64,
    /// Remaining milliseconds, estimated; none when not known.
    pub remaining_ms: Option<u64>,
}

/// A job as lists show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    /// The record.
    pub record: JobRecord,
    /// The state that people see.
    pub shown: ShownState,
    /// Why it waits, when queued: a sentence in English; empty otherwise.
    pub waits_for: String,
    /// How far it is, when running.
    pub progress: Option<Progress>,
    /// The plan of a training run, once known.
    pub plan: Option<TrainPlan>,
    /// The last loss of a training run.
    pub last_loss: Option<f64>,
    /// Tokens per second of a running batch, prompts and answers.
    pub tokens_per_s: Option<f64>,
    /// Process of the running attempt.
    pub pid: Option<u32>,
    /// Where it stands in Slurm, while an attempt is there.
    pub slurm: Option<SlurmView>,
}

/// A durable event of a job; following from 0 replays its whole life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobEvent {
    /// Its number, from 0, without gaps.
    pub seq: u64,
    /// When, Unix milliseconds.
    pub at_ms: i64,
    /// What happened.
    pub kind: JobEventKind,
}

/// What can happen to a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobEventKind {
    /// It was asked for.
    Submitted,
    /// An attempt began.
    Started {
        /// Which one, from 1.
        attempt: u32,
        /// The step of the checkpoint it goes on from.
        from_step: Option<u64>,
    },
    /// The plan of a training run is known.
    Planned(TrainPlan),
    /// A run should be looked at; it goes on.
    Warned(Warned),
    /// A checkpoint was accepted.
    Checkpointed {
        /// At which step.
        step: u64,
    },
    /// An attempt ended without an end of the job.
    Interrupted(Failure),
    /// A pause was wished or took effect.
    Paused,
    /// A pause was lifted.
    Resumed,
    /// The job ended well.
    Succeeded(JobResult),
    /// The job was given up.
    Failed(Failure),
    /// The job was ended by wish.
    Cancelled,
    /// The attempt's job in Slurm was submitted, began to run, or ended.
    Slurm(SlurmView),
}

/// Worker deaths without progress before a job is set aside.
pub const STRIKES_MAX: u32 = 3;
/// Attempts without progress before a job is set aside.
pub const BARREN_MAX: u32 = 30;
