//! Generation: a service writes rows to a standard. Lives here: what is asked for, what it may cost, what became of each candidate,
//! and what a version says of its making. Never here: prompts, asking (the daemon's jobs do that).

use serde::{Deserialize, Serialize};

use crate::dataset::ChatMessage;
use crate::id::DatasetVersionId;
use crate::standard::CheckFault;
use crate::value::Pico;

/// Most rows of one job.
pub const GENERATED_MAX: u32 = 20_000;
/// Most requests of one job, whatever its form says.
pub const GENERATE_REQUESTS_MAX: u64 = 200_000;
/// Rows of the seeds that prompts are made of; more are not read.
pub const SEED_ROWS_MAX: usize = 20_000;

/// What is to be generated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerateSpec {
    /// `name` or `name@number` of the standard.
    pub standard: String,
    /// The service that writes.
    pub service: String,
    /// Name of the dataset to add a version to; made if it is not there.
    pub name: String,
    /// How.
    pub method: GenerateMethod,
    /// `name` or `name@number` of the rows that it begins with: seeds, prompts, documents, rows to rewrite. Empty for the good
    /// examples of the standard.
    pub source: String,
    /// Rows wanted, up to [`GENERATED_MAX`]; 0 for one of each row or chunk of the source.
    pub count: u32,
    /// Chooses seeds and tokens.
    pub seed: u64,
    /// 0 is greedy; up to 2.
    pub temperature: f32,
    /// Share of the probability to keep.
    pub top_p: f32,
    /// Longest answer in tokens.
    pub tokens_max: u32,
    /// A candidate that is more like a seed or an earlier row than this is let go, in percent of ROUGE-L; 100 keeps all.
    pub similarity_max_percent: u32,
    /// The service that judges by the rubric; empty for none.
    pub judge: String,
    /// Least percent of the rubric's points.
    pub judge_least_percent: u32,
    /// No more requests than this are ever answered; 0 for four times what the estimate says.
    pub requests_max: u64,
    /// No more tokens than this are ever used, prompts and answers; 0 for four times what the estimate says.
    pub total_tokens_max: u64,
    /// The application that pays.
    pub payer: String,
    /// Requests at once; 0 for one less than the service has slots.
    pub at_once: u32,
}

/// How rows are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GenerateMethod {
    /// New prompts in the manner of some seeds, then answers to them (Wang et al. 2022, arXiv 2212.10560).
    SelfInstruct,
    /// The same thing in other words; the answer stays.
    Paraphrase,
    /// Answers to the prompts of the source.
    Answers,
    /// A question and its answer out of each piece of the source's texts.
    Documents {
        /// Longest piece, in characters.
        chunk_chars: u32,
        /// Characters that two pieces share.
        overlap_chars: u32,
    },
    /// Rows in another language.
    Translate {
        /// Which, in words that the service understands, for example `French`.
        language: String,
    },
}

impl GenerateMethod {
    /// The word on the command line and in rows.
    pub fn word(&self) -> &'static str {
        match self {
            GenerateMethod::SelfInstruct => "self_instruct",
            GenerateMethod::Paraphrase => "paraphrase",
            GenerateMethod::Answers => "answers",
            GenerateMethod::Documents { .. } => "documents",
            GenerateMethod::Translate { .. } => "translate",
        }
    }
}

/// What a job may come to. Prompts are counted in bytes, so tokens are an estimate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerateEstimate {
    /// Rows that are wanted.
    pub rows: u64,
    /// Requests, judgements included.
    pub requests: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Tokens of answers.
    pub completion_tokens: u64,
    /// At the prices of now; none where a service has no price.
    pub cost: Option<Pico>,
    /// At the pace of the service's last requests; none where there was none.
    pub duration_ms: Option<u64>,
    /// Requests that are never exceeded.
    pub requests_max: u64,
    /// Tokens that are never exceeded.
    pub total_tokens_max: u64,
}

/// A candidate that did not become a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedCandidate {
    /// Number of the candidate within the job.
    pub number: u64,
    /// What it would have been.
    pub messages: Vec<ChatMessage>,
    /// Why not.
    pub faults: Vec<CheckFault>,
}

/// What a version says of its making. A version with this never becomes a held-out set or a suite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generated {
    /// `name@number` of the standard.
    pub standard: String,
    /// [`GenerateMethod::word`].
    pub method: String,
    /// The version whose rows it began with; none for the standard's examples.
    pub source: Option<DatasetVersionId>,
    /// The service that wrote.
    pub service: String,
    /// `name@number` of every version that answered.
    pub versions: Vec<String>,
    /// Requests answered.
    pub requests: u64,
    /// Candidates that became rows.
    pub kept: u64,
    /// Candidates that did not.
    pub rejected: u64,
    /// Why it ended before all rows were there; empty when they are.
    pub ended: String,
}
