//! How a run fits into memory: what each arrangement of weights and activations takes, by formula from sizes alone, and
//! which arrangement is the fastest that fits. The choice changes time and memory, never a result. Nothing here
//! allocates.

use crate::arch::{Config, Group, Matrix};
use crate::cpu;
use crate::ggml::{Backend, F32, Type};
use crate::gguf::GgufFile;

use super::TrainError;
use super::batch::Shape;
use super::lora::LoraLayout;
use super::params::{Objective, TrainParams};
use super::plan::MemoryBytes;
use super::weights::WeightForm;

/// Tokens of a pass at which making panels on the way takes as long as the products themselves (measured).
const STREAM_TOKENS: f64 = 150.0;

/// Where weights and activations are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Arrangement {
    pub(crate) form: WeightForm,
    /// Layers whose activations exist together; 0: all.
    pub(crate) recompute_every: usize,
    pub(crate) memory: MemoryBytes,
    /// Time of a pass, in forward passes with all weights in their forms.
    cost: f64,
}

/// The fastest arrangement that keeps below the settings' `memory_max_bytes`, among those that the settings allow.
pub(crate) fn arrange(
    backend: &Backend,
    file: &GgufFile,
    config: &Config,
    lora: &LoraLayout,
    shape: Shape,
    params: &TrainParams,
) -> Result<Arrangement, TrainError> {
    let scored = params.objective != Objective::Likelihood;
    let forms = WeightForm::candidates(backend, params.weights, params.tuning, config);
    // 0 first, then from the longest segments to single layers.
    let segments: Vec<usize> = match params.recompute_every {
        Some(every) => vec![every as usize],
        None => [0].into_iter().chain((1..config.layers).rev()).collect(),
    };
    let all: Vec<Arrangement> = forms
        .iter()
        .flat_map(|&form| segments.iter().map(move |&every| (form, every)))
        .map(|(form, every)| Arrangement {
            form,
            recompute_every: every,
            memory: estimate(file, config, form, lora, shape, every, scored),
            cost: cost(config, form, shape, every),
        })
        .collect();
    let limit = params.memory_max_bytes.unwrap_or(u64::MAX);
    let fitting = all.iter().filter(|arrangement| arrangement.memory.total() <= limit);
    fitting.min_by(|a, b| a.cost.total_cmp(&b.cost)).copied().ok_or_else(|| {
        let least = all.iter().min_by_key(|arrangement| arrangement.memory.total()).expect("there is a candidate");
        TrainError::DoesNotFit { needed: least.memory, limit, tokens: shape.tokens }
    })
}

/// A pass is a forward, a backward that costs as much, and the forward of all segments but the last again; panels made
/// on the way add what they cost to each.
fn cost(config: &Config, form: WeightForm, shape: Shape, recompute_every: usize) -> f64 {
    let again = match recompute_every {
        0 => 0.0,
        every => {
            let last = config.layers - (config.layers - 1) / every * every;
            1.0 - last as f64 / config.layers as f64
        }
    };
    let forwards = 2.0 + again;
    if form.streams() { forwards * (1.0 + STREAM_TOKENS / shape.tokens as f64) } else { forwards }
}

/// Bytes of a run: the forms of the weights, five flat buffers and the host's copy, and the activations.
fn estimate(
    file: &GgufFile,
    config: &Config,
    form: WeightForm,
    lora: &LoraLayout,
    shape: Shape,
    recompute_every: usize,
    scored: bool,
) -> MemoryBytes {
    // Where the whole model is trained its values are counted with their gradient and moments, and there is no other form.
    let whole = !lora.whole.is_empty();
    let head_kind = if whole { F32 } else { head_kind(file, config) };
    let of_layers = (0..config.layers).flat_map(|layer| {
        Group::ALL.into_iter().flat_map(move |group| {
            config.group(group).iter().map(move |&matrix| {
                let kind = file.tensor(&matrix.weight_name(layer)).map_or(F32, |tensor| tensor.type_id);
                let kind = if whole { F32 } else { kind };
                (config.matrix_dims(matrix), kind, Some(group))
            })
        })
    });
    let (forward, transposed) = of_layers
        .chain([((config.width, config.vocab), head_kind, None)])
        .map(|(dims, kind, group)| form.matrix_bytes(dims, kind, group))
        .fold((Some(0), 0), |(forward, transposed), (more, turned)| {
            (forward.zip(more).map(|(sum, more)| sum + more), transposed + turned)
        });
    let in_file: u64 = file.tensors.iter().map(|tensor| tensor.size_bytes).sum();
    let embedding = file.tensor("token_embd.weight").map_or(0, |tensor| tensor.size_bytes);
    let forward = forward.map_or(in_file, |bytes| bytes as u64 + embedding);
    let segment = if recompute_every == 0 { config.layers } else { recompute_every.min(config.layers) };
    let segments = config.layers.div_ceil(segment);
    // The last segment's activations are there while the head computes, a whole segment's while layers do.
    let last = config.layers - (segments - 1) * segment;
    let of_layers = |layers: usize| 4 * layers * kept_values(config, form, shape);
    let inputs = 4 * (segments - 1) * shape.tokens * config.width;
    let head = of_layers(last) + head_bytes(config, form, shape, head_kind);
    let layers = of_layers(segment) + layer_bytes(config, form, shape);
    // The pass that judges pairs keeps nothing: what is most is at its head.
    let score = if scored { head_bytes(config, form, shape, head_kind) } else { 0 };
    MemoryBytes {
        weights: if whole { 4 * (shape.tokens * config.heads) as u64 } else { forward + transposed as u64 },
        adapter: 6 * 4 * lora.padded() as u64,
        activations: (inputs + head.max(layers) + score) as u64,
    }
}

/// Type that the file stores the head in.
fn head_kind(file: &GgufFile, config: &Config) -> Type {
    file.tensor(config.head_name()).map_or(F32, |tensor| tensor.type_id)
}

/// Values that a layer keeps from its forward to its backward: what goes into both blocks, queries, keys and values
/// after rotation, what attention makes of them, gate and up, and what norms after and inside the blocks need.
fn kept_values(config: &Config, form: WeightForm, shape: Shape) -> usize {
    let (queries, keys) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    let mut per_token = 2 * config.width + queries + 2 * config.feed_forward;
    per_token += if config.post_norms { 2 * config.width } else { 0 };
    per_token += if config.head_norms { queries + keys } else { 0 };
    let attention = if form.ours().is_some() {
        shape.tokens * (queries + 2 * keys + config.heads)
    } else {
        shape.places() * (queries + 2 * keys + config.heads * shape.lane_len)
    };
    shape.tokens * per_token + attention
}

/// Bytes at the worst moment of the head: the logits of a chunk, which become probabilities and their gradient in place,
/// beside its stored form and beside panels that were made on the way, and what goes into the head.
fn head_bytes(config: &Config, form: WeightForm, shape: Shape, kind: Type) -> usize {
    let logits = 4 * shape.chunk * config.vocab;
    let (forward, transposed) = made_bytes(form, (config.width, config.vocab), kind, None);
    let stored = form.widths(kind, None).map_or(0, |widths| shape.chunk * widths.transposed.column_bytes(config.vocab));
    let capped = if config.logit_cap > 0.0 { logits } else { 0 };
    logits + forward.max(stored + transposed) + capped + 12 * shape.targets * config.width
}

/// Bytes at the worst moment of a layer, in the backward of the feed-forward block, beside what layers keep.
fn layer_bytes(config: &Config, form: WeightForm, shape: Shape) -> usize {
    let values = shape.tokens * (4 * config.feed_forward + 4 * config.width);
    let of_group = |group: Group| -> usize {
        let bytes = |&matrix: &Matrix| made_bytes(form, config.matrix_dims(matrix), F32, Some(group)).1;
        config.group(group).iter().map(bytes).sum()
    };
    4 * values + Group::ALL.into_iter().map(of_group).max().unwrap_or(0)
}

/// Bytes of a matrix's panels, forward and transposed, where they are made on the way.
fn made_bytes(form: WeightForm, (input, output): (usize, usize), kind: Type, group: Option<Group>) -> (usize, usize) {
    form.widths(kind, group).filter(|_| form.streams()).map_or((0, 0), |widths| {
        (cpu::packed_bytes(widths.forward, output, input), cpu::packed_bytes(widths.transposed, input, output))
    })
}
