//! What a run will do and what it will take, known before the first step: rows that take part, passes, steps, memory.

use std::path::Path;

use crate::arch::{self, Config};
use crate::ggml::Backend;
use crate::gguf::GgufFile;

use super::TrainError;
use super::batch::Shape;
use super::lora::LoraLayout;
use super::packing::{self, Prepared, TokenRow};
use super::params::{ParamsError, TrainParams};
use super::stream::Stream;
use super::weights::WeightForm;

/// What a run will do.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Rows that take part.
    pub rows: usize,
    /// Their tokens, once.
    pub tokens: u64,
    /// Their target tokens, once.
    pub targets: u64,
    /// Rows cut to `seq_len`.
    pub cut: usize,
    /// Rows left out because they are longer than `seq_len`.
    pub refused: usize,
    /// Rows left out because they have no target.
    pub without_target: usize,
    /// Passes in the whole run.
    pub passes: u64,
    /// Passes that one epoch takes, whether or not the run ends before.
    pub epoch_passes: u64,
    /// Tokens that a pass computes.
    pub pass_tokens: usize,
    /// Share of computed tokens that belong to rows, 0 to 1, over the whole run.
    pub fill: f64,
    /// Updates in the whole run.
    pub steps: u64,
    /// Trained values.
    pub parameters: u64,
    /// Memory that the run takes.
    pub memory: MemoryBytes,
}

/// Memory of a run in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryBytes {
    /// Frozen weights in both forms.
    pub weights: u64,
    /// Adapter, gradient, moments and what the update needs.
    pub adapter: u64,
    /// Temporary tensors of a pass, and its inputs.
    pub activations: u64,
}

impl MemoryBytes {
    /// All of it.
    pub fn total(self) -> u64 {
        self.weights + self.adapter + self.activations
    }
}

/// Checks rows and settings against the model.
pub(super) fn admit(rows: &[TokenRow], params: &TrainParams, config: &Config) -> Result<Prepared, TrainError> {
    for row in rows {
        let fail = |problem: String| Err(TrainError::Row { row_id: row.row_id, problem });
        if row.tokens.len() != row.trained.len() {
            return fail(format!("{} tokens but {} target marks", row.tokens.len(), row.trained.len()));
        }
        let foreign = row.tokens.iter().find(|&&token| token < 0 || token as usize >= config.vocab);
        if let Some(token) = foreign {
            return fail(format!("token {token} is not in the model's vocabulary of {}", config.vocab));
        }
    }
    check_targets(params, config)?;
    let prepared = packing::prepare(rows, params.seq_len as usize, params.long_rows);
    if prepared.documents.is_empty() {
        return Err(TrainError::NoRows {
            rows: rows.len(),
            refused: prepared.refused,
            without_target: prepared.without_target,
        });
    }
    Ok(prepared)
}

/// A matrix that computes several projections has one adapter for all of them.
fn check_targets(params: &TrainParams, config: &Config) -> Result<(), TrainError> {
    for matrix in config.matrices() {
        let parts = matrix.parts();
        let chosen = parts.iter().filter(|part| params.targets.contains(part)).count();
        if chosen > 0 && chosen < parts.len() {
            let names = parts.iter().map(|part| part.name()).collect::<Vec<_>>().join(", ");
            let problem =
                format!("in this model {names} are one matrix ({}): choose all of them or none", matrix.stem());
            return Err(ParamsError { field: "targets", problem }.into());
        }
    }
    Ok(())
}

/// What a run would do, from the model's header alone; memory is estimated within about a quarter.
pub fn preflight(model_path: &Path, rows: &[TokenRow], params: &TrainParams) -> Result<Plan, TrainError> {
    params.validate()?;
    let file = GgufFile::open(model_path)?;
    let (_, config) = arch::recognise(&file)?;
    let prepared = admit(rows, params, &config)?;
    let stream = Stream::new(prepared.documents.clone(), params);
    let backend = Backend::cpu(params.threads as usize)?;
    let form = WeightForm::choose(&backend, params.weights, &config);
    let layout = LoraLayout::new(&config, params);
    let memory = estimate_memory(&file, &config, form, &layout, stream.shape, params);
    Ok(plan_of(&prepared, &stream, &layout, memory))
}

pub(super) fn plan_of(prepared: &Prepared, stream: &Stream, layout: &LoraLayout, memory: MemoryBytes) -> Plan {
    Plan {
        rows: prepared.documents.len(),
        tokens: prepared.tokens,
        targets: prepared.targets,
        cut: prepared.cut,
        refused: prepared.refused,
        without_target: prepared.without_target,
        passes: stream.passes,
        epoch_passes: stream.epoch_passes(),
        pass_tokens: stream.shape.tokens,
        fill: stream.tokens as f64 / (stream.passes * stream.shape.tokens as u64) as f64,
        steps: stream.steps,
        parameters: layout.values as u64,
        memory,
    }
}

/// Bytes of a run by formula: both forms of the weights, five flat buffers and the host's copy, and the activations.
fn estimate_memory(
    file: &GgufFile,
    config: &Config,
    form: WeightForm,
    lora: &LoraLayout,
    shape: Shape,
    params: &TrainParams,
) -> MemoryBytes {
    let matrices = config
        .matrices()
        .flat_map(|matrix| std::iter::repeat_n(config.matrix_dims(matrix), config.layers))
        .chain([(config.width, config.vocab)]);
    let (forward, transposed) = matrices
        .map(|(input, output)| form.matrix_bytes(input, output))
        .fold((Some(0), 0), |(forward, transposed), (more, turned)| {
            (forward.zip(more).map(|(sum, more)| sum + more), transposed + turned)
        });
    let in_file: u64 = file.tensors.iter().map(|tensor| tensor.size_bytes).sum();
    let embedding = file.tensor("token_embd.weight").map_or(0, |tensor| tensor.size_bytes);
    let forward = forward.map_or(in_file, |bytes| bytes as u64 + embedding);
    let kept_layers = match params.recompute_every as usize {
        0 => config.layers,
        every => every.min(config.layers),
    };
    let segment_inputs = config.layers.div_ceil(kept_layers) - 1;
    let activations = kept_layers * kept_values(config, form, shape)
        + segment_inputs * shape.tokens * config.width
        + passing_values(config, shape);
    MemoryBytes {
        weights: forward + transposed as u64,
        adapter: 6 * 4 * lora.padded() as u64,
        activations: 4 * activations as u64,
    }
}

/// Values that a layer keeps from its forward to its backward: what goes into both blocks, queries, keys and values
/// after rotation, what attention makes of them, gate and up.
fn kept_values(config: &Config, form: WeightForm, shape: Shape) -> usize {
    let (queries, keys) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    let per_token = 2 * config.width + queries + 2 * config.feed_forward;
    let attention = if form == WeightForm::Packed {
        shape.tokens * (queries + 2 * keys + config.heads)
    } else {
        shape.places() * (queries + 2 * keys + config.heads * shape.lane_len)
    };
    shape.tokens * per_token + attention
}

/// Values that exist at the worst moment beside what layers keep: logits and probabilities of a chunk at the head, or
/// what the backward of the feed-forward block has at once.
fn passing_values(config: &Config, shape: Shape) -> usize {
    let head = 2 * shape.chunk * config.vocab + 3 * shape.targets * config.width;
    head.max(shape.tokens * (4 * config.feed_forward + 4 * config.width))
}
