//! Batches: many requests through a service as one job of low priority, each answered and metered once. Lives here: what is
//! asked, what became of each row, the counts. Never here: how rows are asked, or shapes of HTTP.

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::generate::{Format, Sampling};
use crate::id::{DatasetVersionId, FileId, LedgerId};

/// Most rows of one batch that are asked at once.
pub const ROWS_AT_ONCE_MAX: u32 = 64;

/// What a batch asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchSpec {
    /// Rows of a dataset become rows with answers.
    Dataset(Box<DatasetBatch>),
    /// Lines of an uploaded file become lines of answers.
    File(FileBatch),
}

/// A dataset version through a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatasetBatch {
    /// `name` or `name@number`. What is sent of a chat is everything before its last assistant turn; of a preference, everything
    /// before its two answers.
    pub dataset: String,
    /// The service that is asked.
    pub service: String,
    /// Name of the dataset to add a version to; made if it is not there.
    pub name: String,
    /// Sent in front of each row, in the place of a system message of its own; empty for none.
    pub system: String,
    /// How to choose tokens.
    pub sampling: Sampling,
    /// Longest answer in tokens; 0 for as long as the context allows.
    pub tokens_max: u32,
    /// What an answer must look like.
    pub format: Format,
    /// The application that pays.
    pub payer: String,
    /// Rows at once, up to [`ROWS_AT_ONCE_MAX`]; 0 for one less than the service has slots.
    pub rows_at_once: u32,
    /// At most so many rows, from the first; 0 for all.
    pub rows_max: u64,
}

/// An uploaded file of requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileBatch {
    /// The file.
    pub file: FileId,
    /// Its name, as it was uploaded.
    pub filename: String,
    /// The route that each line must name.
    pub endpoint: String,
    /// The application that asked and pays.
    pub payer: String,
    /// What the client noted: names and values.
    pub metadata: Vec<(String, String)>,
    /// OpenAI `completion_window`, as it was said; nothing depends on it.
    pub window: String,
}

impl BatchSpec {
    /// The application that pays.
    pub fn payer(&self) -> &str {
        match self {
            BatchSpec::Dataset(batch) => &batch.payer,
            BatchSpec::File(batch) => &batch.payer,
        }
    }

    /// From where to where, in words that both ends of a screen can show.
    pub fn ends(&self) -> (String, String) {
        match self {
            BatchSpec::Dataset(batch) => (format!("{} > {}", batch.dataset, batch.service), batch.name.clone()),
            BatchSpec::File(batch) => (batch.filename.clone(), batch.endpoint.clone()),
        }
    }
}

/// How far a batch is. Durable: each row changes it in the transaction that keeps the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BatchCounts {
    /// Rows in all; 0 while they are not counted yet.
    pub rows: u64,
    /// Rows with an answer.
    pub answered: u64,
    /// Rows that failed.
    pub failed: u64,
    /// Prompt tokens of both, as billed.
    pub prompt_tokens: u64,
    /// Of the prompt tokens, those found in the cache.
    pub cached_tokens: u64,
    /// Completion tokens of both, as billed.
    pub completion_tokens: u64,
}

/// What became of one row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchRow {
    /// Id of the dataset's row, or line of the file, from 1.
    pub row: u64,
    /// What the client named the line; empty for rows of datasets.
    pub custom_id: String,
    /// The answer's text, for a line the body of the response; or why there is none.
    pub answer: Result<String, Failure>,
    /// `stop`, `length`, `tool_calls`; empty without an answer.
    pub finish: String,
    /// `name@number` of the version that answered; empty where none was asked.
    pub version: String,
    /// The row of the ledger that it is billed by; none where it was refused before one was opened.
    pub ledger: Option<LedgerId>,
    /// Prompt tokens, cached ones included.
    pub prompt_tokens: u64,
    /// Prompt tokens found in the cache.
    pub cached_tokens: u64,
    /// Completion tokens.
    pub completion_tokens: u64,
}

/// Where the rows of a dataset version came from, when a service made them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatasetLineage {
    /// The version whose rows were sent. Each row names its own parent among them in the field `parent`.
    pub source: DatasetVersionId,
    /// The service that was asked.
    pub service: String,
    /// `name@number` of every version that answered: more than one when the service was moved meanwhile.
    pub versions: Vec<String>,
}

/// A file that an application uploaded for a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Identity, and the name of its bytes in the folder of files.
    pub id: FileId,
    /// Whose it is; nobody else sees it.
    pub application: crate::id::ApplicationId,
    /// The name that the client gave it.
    pub filename: String,
    /// OpenAI `purpose`: `batch`.
    pub purpose: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// When it was complete, Unix milliseconds.
    pub created_at_ms: i64,
}
