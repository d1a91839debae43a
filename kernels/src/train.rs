//! Training over a GGUF model: adapters beside it, or all of its values. Reading order: `params` (settings), `packing` (which rows share a pass),
//! `stream`, `plan` and `memory` (the passes of a run and what they take), `batch` and `lanes` (a pass as numbers), `weights` and `lora` (frozen and trained values), `blocks` (forward and backward),
//! `preference` (what pairs of rows cost),
//! `trainer` (steps), `evaluate` (losses without a step), `divergence` and `patience` (whether it still learns), `checkpoint` (state on disk), `saved` (results as GGUF files), `measure` (how close to the machine's limit a step is). Nothing
//! here knows jobs, sockets or datasets: rows come in as tokens, metrics and files go out.

mod batch;
mod blocks;
mod checkpoint;
mod divergence;
mod evaluate;
mod lanes;
mod lora;
pub mod measure;
mod memory;
mod packing;
mod params;
mod patience;
mod plan;
mod preference;
mod saved;
mod stream;
#[cfg(test)]
pub(crate) mod tests;
mod trainer;
mod weights;

use std::path::PathBuf;

pub use checkpoint::CheckpointError;
pub use evaluate::{Evaluation, RowLoss};
pub(crate) use packing::SplitMix;
pub use packing::TokenRow;
pub use params::{
    ACCUMULATION_MAX, BATCH_WINDOWS_MAX, BETA_MAX, DROPOUT_MAX, EPOCHS_MAX, LongRows, Objective, ParamsError, RANK_MAX,
    SEQUENCE_TOKENS_MAX, Schedule, THREADS_MAX, TrainParams, Tuning, Weights,
};
pub use plan::{MemoryBytes, Plan, preflight};
pub use preference::PreferenceMetrics;
pub use saved::save_checkpoint;
pub use trainer::{StepMetrics, StepOutcome, Trainer};

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
        "no row can be trained on: of {rows}, {refused} are longer than sequence_tokens and {without_target} have no target; \
         raise sequence_tokens, allow cutting, or check which turns are trained"
    )]
    NoRows {
        /// Rows given.
        rows: usize,
        /// Rows left out for their length.
        refused: usize,
        /// Rows left out for want of a target.
        without_target: usize,
    },
    /// No arrangement of weights and activations fits.
    #[error(
        "the run needs {} MiB (weights {}, adapter {}, a pass of {tokens} tokens {}) and may take {} MiB; {}",
        mib(needed.total()), mib(needed.weights), mib(needed.adapter), mib(needed.activations), mib(*limit),
        does_not_fit_advice(needed, *limit)
    )]
    DoesNotFit {
        /// The least that the run would take.
        needed: MemoryBytes,
        /// What it may take.
        limit: u64,
        /// Tokens of a pass.
        tokens: usize,
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
    /// The loss went up and stays there.
    #[error(
        "the run has diverged: the loss of the last {} steps is {mean:.2}, their lowest before was {lowest:.2}; nothing more was \
         updated after step {step}; lower learning_rate, raise warmup_ratio or set clip_norm, and train again",
        divergence::WINDOW
    )]
    Diverged {
        /// The last update, 1-based.
        step: u64,
        /// Mean of the last steps, in nats per target.
        mean: f64,
        /// The lowest such mean.
        lowest: f64,
    },
    /// State on disk.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// Whole MiB, rounded up.
fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

fn does_not_fit_advice(needed: &MemoryBytes, limit: u64) -> &'static str {
    if needed.weights + needed.adapter >= limit {
        "choose a smaller or more strongly quantised model, or free memory"
    } else {
        "lower batch_windows, then sequence_tokens, or free memory"
    }
}

/// Lower-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
