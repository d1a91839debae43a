//! What a run will do and what it will take, known before the first step: rows that take part, passes, steps, memory.

use std::path::Path;

use crate::arch::{self, Config};
use crate::ggml::Backend;
use crate::gguf::GgufFile;

use super::TrainError;
use super::batch::Shape;
use super::checkpoint;
use super::lora::LoraLayout;
use super::measure::Peak;
use super::memory::{self, Arrangement};
use super::packing::{self, Prepared, TokenRow};
use super::params::{Objective, ParamsError, TrainParams, Tuning};
use super::stream::Stream;

/// What a run will do.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Rows that take part; pairs count once.
    pub rows: usize,
    /// Their tokens, once.
    pub tokens: u64,
    /// Their target tokens, once.
    pub targets: u64,
    /// Rows cut to `sequence_tokens`.
    pub cut: usize,
    /// Rows left out because they are longer than `sequence_tokens`.
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
    /// Bytes of one checkpoint on disk.
    pub checkpoint_bytes: u64,
    /// Bytes of the finished adapter on disk.
    pub adapter_bytes: u64,
    /// Whether the forms of the frozen weights are made anew in every pass, for want of memory to hold them.
    pub streamed: bool,
    /// As [`TrainParams::recompute_every`]; 0: nothing is computed twice.
    pub recompute_every: u32,
    /// Operations of the whole run's matrix products, a multiply-add being two.
    pub operations: f64,
}

/// Share of the processor's peak in the products' integers that a run's steps come to, all else included: 0.41 measured with
/// AVX512-VNNI and 0.5 with AVX2 (docs/performance.md).
const PEAK_SHARE: f64 = 0.4;

impl Plan {
    /// How long the steps will take, in milliseconds, from what the processor multiplies at its best at this moment (a look of
    /// some 20 ms); right within a factor of two. `None` where our kernels do not run.
    pub fn estimate_ms(&self, params: &TrainParams) -> Option<u64> {
        let peak = Peak::look(params.threads as usize, 1)?;
        Some((self.operations / (peak.integer_gop_s * 1e9 * PEAK_SHARE) * 1e3) as u64)
    }
}

/// Operations of a pass: its products forward, as often again backward (where the whole model is trained, once more for the
/// weights' own gradients), and once more where a pass is scored first or activations are computed again.
fn operations(config: &Config, shape: Shape, params: &TrainParams, recomputed: bool) -> f64 {
    let of = |(inner, outputs): (usize, usize), columns: usize| 2.0 * (inner * outputs * columns) as f64;
    let layer: f64 = config.matrices().map(|matrix| of(config.matrix_dims(matrix), shape.tokens)).sum();
    let layers = config.layers as f64 * layer;
    let head = of((config.width, config.vocab), shape.targets);
    let gradients = if params.tuning == Tuning::Full { 2.0 } else { 1.0 };
    let scored = if params.objective == Objective::Likelihood { 0.0 } else { 1.0 };
    (layers + head) * (1.0 + gradients + scored) + if recomputed { layers } else { 0.0 }
}

/// Memory of a run in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryBytes {
    /// Frozen weights in the forms that are held.
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
    let group = params.objective.rows_per_group();
    if !rows.len().is_multiple_of(group) {
        let problem = format!("wants rows in groups of {group}, and {} were given", rows.len());
        return Err(ParamsError { field: "objective", problem }.into());
    }
    let prepared = packing::prepare(rows, params.sequence_tokens as usize, params.long_rows, group);
    if prepared.documents.is_empty() {
        return Err(TrainError::NoRows {
            rows: rows.len() / group,
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

/// What a run would do, from the model's header alone; memory is estimated within a tenth.
pub fn preflight(model_path: &Path, rows: &[TokenRow], params: &TrainParams) -> Result<Plan, TrainError> {
    params.validate()?;
    let file = GgufFile::open(model_path)?;
    let (_, config) = arch::recognise(&file)?;
    let prepared = admit(rows, params, &config)?;
    let stream = Stream::new(prepared.documents.clone(), params);
    let backend = Backend::cpu(params.threads as usize)?;
    let layout = match params.tuning {
        Tuning::Lora => LoraLayout::new(&config, params),
        Tuning::Full => LoraLayout::full(&file, &config),
    };
    let arrangement = memory::arrange(&backend, &file, &config, &layout, stream.shape, params)?;
    Ok(plan_of(&config, params, &prepared, &stream, &layout, &arrangement, arrangement.memory))
}

pub(super) fn plan_of(
    config: &Config,
    params: &TrainParams,
    prepared: &Prepared,
    stream: &Stream,
    layout: &LoraLayout,
    arrangement: &Arrangement,
    memory: MemoryBytes,
) -> Plan {
    let pass = operations(config, stream.shape, params, arrangement.recompute_every > 0);
    Plan {
        operations: stream.passes as f64 * pass,
        rows: prepared.documents.len() / params.objective.rows_per_group(),
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
        checkpoint_bytes: checkpoint::bytes(layout.padded()),
        // A model's matrices are written in F16.
        adapter_bytes: (if layout.whole.is_empty() { size_of::<f32>() } else { 2 } * layout.values) as u64,
        streamed: arrangement.form.streams(),
        recompute_every: arrangement.recompute_every as u32,
    }
}
