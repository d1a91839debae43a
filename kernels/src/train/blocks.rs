//! The blocks of a decoder, each with its forward and its hand-written backward side by side, and the graph of one
//! pass composed of them. Shapes in comments are fastest dimension first; T is the flat run of tokens. Nothing here
//! reads data or decides about steps.

mod attention;
mod feed_forward;
mod head;
mod linear;

use crate::arch::{Config, RopePairs};
use crate::cpu::{self, Term, Width};
use crate::ggml::{Backend, BackendError, Graph, GraphMemory, Rope, Tensor};

use super::batch::{Inputs, Shape};
use super::lora::Lora;
use super::weights::{Frozen, LayerWeights, ModelWeights};

/// What a pass is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Losses and gradients.
    Train,
    /// Losses.
    Evaluate,
    /// Logits of every target's place.
    Logits,
}

/// What the blocks build on.
pub(crate) struct Builder<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) config: &'a Config,
    pub(crate) weights: &'a ModelWeights,
    pub(crate) lora: &'a Lora,
    pub(crate) inputs: &'a Inputs,
    pub(crate) shape: Shape,
    /// Share of the adapters' inputs that is dropped in this pass, and the run's seed.
    pub(crate) dropout: Option<(f32, u64)>,
}

impl Builder<'_> {
    /// Whether what goes into a layer has a gradient: below the first only the embedding can be trained.
    fn input_needed(&self, layer: usize) -> bool {
        layer > 0 || self.weights.trains_all()
    }

    fn layer(&self, layer: usize) -> &LayerWeights {
        &self.weights.layers[layer]
    }

    /// Product of a frozen matrix with `x`: [input, T] -> [outputs, T].
    fn frozen_forward(&self, frozen: Frozen, outputs: usize, x: Tensor) -> Tensor {
        let width = frozen.widths.map(|widths| widths.forward);
        self.frozen_product(self.weights.forward(self.graph, frozen), width, outputs, x)
    }

    /// Product of a frozen matrix, transposed, with `x`: [output, T] -> [inputs, T].
    fn frozen_backward(&self, frozen: Frozen, inputs: usize, x: Tensor) -> Tensor {
        let width = frozen.widths.map(|widths| widths.transposed);
        self.frozen_product(self.weights.transposed(self.graph, frozen), width, inputs, x)
    }

    fn frozen_product(&self, matrix: Tensor, width: Option<Width>, outputs: usize, x: Tensor) -> Tensor {
        let Some(width) = width else { return self.graph.mul_mat(matrix, x) };
        let (dims, columns) = ([outputs, x.dims()[1], 1, 1], cpu::stored(self.graph, x, width));
        cpu::sum_of_products(self.graph, dims, None, &[Term { matrix, columns }])
    }

    /// x / rms(x) * weight.
    fn norm(&self, x: Tensor, weight: Tensor) -> Tensor {
        if self.weights.packed {
            return cpu::norm(self.graph, x, weight, self.config.norm_eps);
        }
        self.graph.mul(self.graph.rms_norm(x, self.config.norm_eps), weight)
    }

    /// Rotation of the heads of `layer`.
    fn rope(&self, layer: usize) -> Rope {
        let config = self.config;
        let mode = match config.rope {
            RopePairs::Neighbours => 0,
            RopePairs::Halves => 2,
        };
        let (base, scale) = config
            .local(layer)
            .map_or((config.rope_base, config.rope_scale), |local| (local.rope_base, local.rope_scale));
        Rope { dims: config.rope_dims, mode, base, scale }
    }

    /// Norm of what block `index` (0: attention, 1: feed-forward) of `layer` adds.
    fn post_norm(&self, layer: usize, index: usize) -> Option<Tensor> {
        self.layer(layer).post_norms.map(|norms| norms[index])
    }

    /// What the output projection of a block can add its product to at once: the residual, unless a norm comes between.
    fn start_of_sum(&self, residual: Tensor) -> Option<Tensor> {
        (!self.config.post_norms).then_some(residual)
    }

    /// Residual plus what a block added, given the output projection's result.
    fn end_of_sum(&self, residual: Tensor, result: Tensor, post_norm: Option<Tensor>) -> Tensor {
        post_norm.map_or(result, |norm| self.graph.add(residual, self.norm(result, norm)))
    }

    /// Gradient of the output projection's result for the gradient of [`Builder::end_of_sum`].
    fn end_of_sum_back(&self, gradient: Tensor, result: Tensor, post_norm: Option<Tensor>) -> Tensor {
        post_norm.map_or(gradient, |norm| self.norm_back(gradient, result, norm))
    }

    /// cap * tanh(x / cap); `x` where there is no cap.
    fn capped(&self, x: Tensor, cap: f32) -> Tensor {
        let g = self.graph;
        if cap == 0.0 { x } else { g.scale(g.tanh(g.scale(x, 1.0 / cap)), cap) }
    }

    /// Gradient of `x` for the gradient of [`Builder::capped`] and its result.
    fn capped_back(&self, gradient: Tensor, result: Tensor, cap: f32) -> Tensor {
        let g = self.graph;
        if cap == 0.0 {
            return gradient;
        }
        g.mul(gradient, g.scale_bias(g.mul(result, result), -1.0 / (cap * cap), 1.0))
    }

    /// Where the whole model is trained: adds to the gradient of a norm's weight. With y = w x / rms(x): dw = sum of dy x / rms(x).
    fn train_norm(&self, gradient: Tensor, x: Tensor, weight: Tensor) {
        let Some(into) = self.weights.gradient(weight) else { return };
        let g = self.graph;
        let [width, ..] = x.dims();
        let rows = x.elements() / width;
        let products = g.reshape(g.mul(gradient, g.rms_norm(x, self.config.norm_eps)), [width, rows, 1, 1]);
        self.add_outer(into, products, self.weights.ones(g, rows));
    }

    /// Gradient of [`Builder::norm`] with respect to `x`.
    fn norm_back(&self, gradient: Tensor, x: Tensor, weight: Tensor) -> Tensor {
        self.train_norm(gradient, x, weight);
        if self.weights.packed {
            return cpu::norm_back(self.graph, gradient, x, weight, None, self.config.norm_eps);
        }
        self.graph.rms_norm_back(self.graph.mul(gradient, weight), x, self.config.norm_eps)
    }

    /// The same added to `more`.
    fn norm_back_to(&self, more: Tensor, gradient: Tensor, x: Tensor, weight: Tensor) -> Tensor {
        if self.weights.packed {
            self.train_norm(gradient, x, weight);
            return cpu::norm_back(self.graph, gradient, x, weight, Some(more), self.config.norm_eps);
        }
        self.graph.add(more, self.norm_back(gradient, x, weight))
    }
}

/// What a layer's backward needs of its forward.
struct LayerSaved {
    attention: attention::Saved,
    feed_forward: feed_forward::Saved,
}

fn layer_forward(b: &Builder<'_>, layer: usize, x: Tensor) -> (Tensor, LayerSaved) {
    let (middle, attention) = attention::forward(b, layer, x);
    let (out, feed_forward) = feed_forward::forward(b, layer, middle);
    (out, LayerSaved { attention, feed_forward })
}

fn layer_backward(b: &Builder<'_>, layer: usize, saved: &LayerSaved, gradient: Tensor) -> Option<Tensor> {
    let gradient = feed_forward::backward(b, layer, &saved.feed_forward, gradient);
    attention::backward(b, layer, &saved.attention, gradient)
}

/// The graph of one pass with the memory of its temporary tensors.
pub(crate) struct Pass {
    graph: Graph,
    memory: GraphMemory,
    logits: Option<Tensor>,
}

/// Everything that decides a pass graph.
pub(crate) struct PassSpec<'a> {
    pub(crate) config: &'a Config,
    pub(crate) weights: &'a ModelWeights,
    pub(crate) lora: &'a Lora,
    pub(crate) inputs: &'a Inputs,
    pub(crate) shape: Shape,
    pub(crate) mode: Mode,
    /// See `TrainParams::recompute_every`.
    pub(crate) recompute_every: usize,
    /// See `TrainParams::dropout`, with the seed of what is dropped; in [`Mode::Train`] only.
    pub(crate) dropout: Option<(f32, u64)>,
}

impl Pass {
    pub(crate) fn new(backend: &Backend, spec: &PassSpec<'_>) -> Result<Pass, BackendError> {
        let (graph, logits) = build(spec)?;
        let memory = GraphMemory::new(backend, &graph)?;
        Ok(Pass { graph, memory, logits })
    }

    pub(crate) fn compute(&self, backend: &Backend) -> Result<(), BackendError> {
        backend.compute(&self.graph)
    }

    /// Wall time of every node, named by its operation and, for products, what it multiplies.
    pub(crate) fn time_nodes(&self, backend: &Backend) -> Result<Vec<(String, f64)>, BackendError> {
        let named = self.graph.time_nodes(backend)?.into_iter().map(|(name, node, seconds)| {
            if !matches!(name.as_str(), "MUL_MAT" | "CUSTOM") {
                return (name, seconds);
            }
            let dims = |tensor: Tensor| tensor.dims()[..2].iter().map(usize::to_string).collect::<Vec<_>>().join("x");
            let operands: Vec<String> = node.operands().map(dims).collect();
            (format!("{name} {} <- {}", dims(node), operands.join(" ")), seconds)
        });
        Ok(named.collect())
    }

    /// Logits [vocab, targets] of a pass in [`Mode::Logits`].
    pub(crate) fn logits(&self) -> Option<Vec<f32>> {
        self.logits.map(Tensor::to_vec)
    }

    /// Bytes of temporary tensors.
    pub(crate) fn bytes(&self) -> usize {
        self.memory.bytes()
    }
}

fn build(spec: &PassSpec<'_>) -> Result<(Graph, Option<Tensor>), BackendError> {
    let chunks = spec.shape.targets.div_ceil(spec.shape.chunk);
    let graph = Graph::new(NODES_PER_LAYER * spec.config.layers + NODES_PER_CHUNK * chunks + NODES_REST)?;
    let config = spec.config;
    let b = Builder {
        graph: &graph,
        config,
        weights: spec.weights,
        lora: spec.lora,
        inputs: spec.inputs,
        shape: spec.shape,
        dropout: spec.dropout.filter(|_| spec.mode == Mode::Train),
    };
    let mut x = graph.get_rows(spec.weights.embedding, spec.inputs.tokens);
    if config.embedding_scale != 1.0 {
        x = graph.scale(x, config.embedding_scale);
    }
    // A segment is a run of layers whose activations exist at the same time.
    let keep_all = spec.recompute_every == 0 || spec.mode != Mode::Train;
    let segment = if keep_all { config.layers } else { spec.recompute_every };
    let mut segment_inputs = Vec::new();
    let mut saved: Vec<LayerSaved> = Vec::new();
    for layer in 0..config.layers {
        if layer % segment == 0 {
            segment_inputs.push(x);
            saved.clear();
        }
        let (out, layer_saved) = layer_forward(&b, layer, x);
        graph.run(out);
        saved.push(layer_saved);
        x = out;
    }
    let logits = match spec.mode {
        Mode::Logits => Some(head::logits(&b, x)),
        Mode::Evaluate => {
            head::forward(&b, x);
            None
        }
        Mode::Train => {
            let gradient = head::forward_backward(&b, x);
            backward(&b, segment, &segment_inputs, saved, gradient);
            None
        }
    };
    Ok((graph, logits))
}

/// Layers from the last to the first; the last segment's activations are still there, the others are computed again.
fn backward(b: &Builder<'_>, segment: usize, inputs: &[Tensor], mut saved: Vec<LayerSaved>, gradient: Tensor) {
    let mut gradient = Some(gradient);
    for (index, &input) in inputs.iter().enumerate().rev() {
        let first = index * segment;
        let layers = first..(first + segment).min(b.config.layers);
        if index + 1 < inputs.len() {
            saved.clear();
            let mut x = input;
            for layer in layers.clone() {
                let (out, layer_saved) = layer_forward(b, layer, x);
                saved.push(layer_saved);
                x = out;
            }
        }
        for layer in layers.rev() {
            let incoming = gradient.take().expect("only the first layer, which is the last to run, returns none");
            gradient = layer_backward(b, layer, &saved[layer - first], incoming);
        }
    }
    if let (Some(into), Some(gradient)) = (b.weights.gradient(b.weights.embedding), gradient) {
        let scaled =
            if b.config.embedding_scale == 1.0 { gradient } else { b.graph.scale(gradient, b.config.embedding_scale) };
        b.graph.run(cpu::add_rows(b.graph, into, scaled, b.inputs.tokens));
    }
}

/// Upper bound of nodes of one layer: forward, the same again when recomputed, and backward.
const NODES_PER_LAYER: usize = 480;
/// Upper bound of nodes of one chunk of the head.
const NODES_PER_CHUNK: usize = 64;
/// Upper bound of all other nodes.
const NODES_REST: usize = 128;
