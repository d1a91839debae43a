//! Suites, scorers, evaluations and their per-row results: the tables that issue H widens.

use serde::{Deserialize, Serialize};

use crate::dataset::{Part, Split};
use crate::id::{DatasetVersionId, EvaluationId, JobId, SuiteId, VersionId};
use crate::value::Json;

/// Rows and scorers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SuiteRecord {
    /// Identity.
    pub id: SuiteId,
    /// Unique name, `[a-z0-9._-]`.
    pub name: String,
    /// The rows.
    pub dataset: DatasetVersionId,
    /// Which split of them.
    pub split: Split,
    /// Which side of the split.
    pub part: Part,
    /// How answers are judged, in order.
    pub scorers: Vec<Scorer>,
    /// When it was made, Unix milliseconds.
    pub created_at_ms: i64,
    /// Who made it.
    pub created_by: String,
}

/// How one answer is judged. Each scorer gives a number from 0 to 1, but for `Loss`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scorer {
    /// Mean loss in nats per target token of the row's own answers; perplexity is its exponential.
    Loss,
    /// Share of the row's own checks that hold: `expect.contains`, `expect.starts_with`, `expect.ends_with`
    /// (case and outer space do not count).
    Expect,
    /// The answer equals the row's last assistant message (outer space does not count).
    Exact,
}

/// What to evaluate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluateSpec {
    /// Model version, as `name@number` or `name:alias`.
    pub version: String,
    /// Name of the suite.
    pub suite: String,
    /// Longest answer in tokens.
    pub answer_tokens_max: u32,
    /// At most this many rows; 0 for all.
    pub rows_max: u64,
}

/// One run of a suite on a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// Identity.
    pub id: EvaluationId,
    /// The suite.
    pub suite: SuiteId,
    /// What was evaluated.
    pub version: VersionId,
    /// The job that did it.
    pub job: JobId,
    /// Rows judged.
    pub rows: u64,
    /// Mean loss in nats per target token, over all rows' tokens together.
    pub loss: Option<f64>,
    /// Target tokens behind `loss`.
    pub loss_tokens: u64,
    /// Mean of the rule score over the rows, 0 to 1.
    pub score: Option<f64>,
    /// When it ended, Unix milliseconds.
    pub created_at_ms: i64,
}

impl EvaluationRecord {
    /// The exponential of the loss.
    pub fn perplexity(&self) -> Option<f64> {
        self.loss.map(f64::exp)
    }
}

/// What was found on one row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRow {
    /// The row.
    pub row_id: u64,
    /// What the model was asked last.
    pub prompt: String,
    /// The row's own answer.
    pub expected: String,
    /// What the model answered, decoded greedily.
    pub answer: String,
    /// Sum of the loss over the row's target tokens, in nats.
    pub loss_sum: f64,
    /// Those tokens.
    pub loss_tokens: u64,
    /// Score of each scorer that gives one, with its name.
    pub scores: Vec<(String, f64)>,
    /// Checks that did not hold, as a list; room for reasons of later scorers.
    pub notes: Json,
    /// Wall time of the answer in milliseconds.
    pub answer_ms: f64,
}
