//! LoRA training on a frozen GGUF model. Reading order: `params` (settings), `packing` (which rows share a pass),
//! `stream` and `plan` (the passes of a run), `batch` and `lanes` (a pass as numbers), `weights` and `lora` (frozen and trained values), `blocks` (forward and backward),
//! `trainer` (steps), `checkpoint` (state on disk), `measure` (how close to the machine's limit a step is). Nothing
//! here knows jobs, sockets or datasets: rows come in as tokens, metrics and files go out.

mod batch;
mod blocks;
mod checkpoint;
mod lanes;
mod lora;
pub mod measure;
mod packing;
mod params;
mod plan;
mod stream;
#[cfg(test)]
mod tests;
mod trainer;
mod weights;

use std::path::PathBuf;

pub use checkpoint::CheckpointError;
pub use packing::TokenRow;
pub use params::{
    ACCUMULATION_MAX, BATCH_ROWS_MAX, EPOCHS_MAX, LongRows, ParamsError, RANK_MAX, SEQ_LEN_MAX, Schedule, THREADS_MAX,
    TrainParams, Weights,
};
pub use plan::{MemoryBytes, Plan, preflight};
pub use trainer::{Evaluation, RowLoss, StepMetrics, StepOutcome, Trainer};

use crate::arch::ArchError;
use crate::ggml::BackendError;
use crate::gguf::GgufError;

/// Why a run cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A setting.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// The model's architecture or sizes.
    #[error(transparent)]
    Arch(#[from] ArchError),
    /// The model file.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A tensor of the model.
    #[error("{}: {field}: {problem}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// The tensor.
        field: String,
        /// What is wrong.
        problem: String,
    },
    /// A row.
    #[error("row {row_id}: {problem}")]
    Row {
        /// The row's id.
        row_id: u64,
        /// What is wrong.
        problem: String,
    },
    /// No row is left to train on.
    #[error(
        "no row can be trained on: of {rows}, {refused} are longer than seq_len and {without_target} have no target; \
         raise seq_len, allow cutting, or check which turns are trained"
    )]
    NoRows {
        /// Rows given.
        rows: usize,
        /// Rows left out for their length.
        refused: usize,
        /// Rows left out for want of a target.
        without_target: usize,
    },
    /// The native library.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The numbers went wrong.
    #[error("{what} of step {step} is {value}; nothing was updated; lower learning_rate or set clip_norm")]
    NotFinite {
        /// The update, 1-based.
        step: u64,
        /// Loss or gradient norm.
        what: &'static str,
        /// The number.
        value: f64,
    },
    /// State on disk.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// Lower-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
