//! Final norm, output head and loss, for the places that predict a target only, in chunks so that the logits of all
//! targets never exist at once. With p = softmax(logits): loss = -sum of w log p[label], d logits = w (p - onehot).

use crate::ggml::Tensor;

use super::Builder;

/// Added to a probability before its logarithm: the loss of a target that the model holds to be impossible is about
/// 87 instead of infinite, while a NaN stays one. The gradient does not pass through it.
const TINY: f32 = f32::MIN_POSITIVE;

/// All logits [vocab, targets] of `x` [width, targets].
pub(crate) fn logits(b: &Builder<'_>, x: Tensor) -> Tensor {
    let logits = b.frozen_forward(b.weights.head, b.config.vocab, b.norm(x, b.weights.output_norm));
    let logits = b.capped(logits, b.config.logit_cap);
    b.graph.keep(logits);
    b.graph.run(logits);
    logits
}

/// Writes the targets' log-probabilities.
pub(crate) fn forward(b: &Builder<'_>, x: Tensor) {
    let normed = b.norm(x, b.weights.output_norm);
    for chunk in Chunk::all(b) {
        chunk.log_probs(b, normed);
    }
}

/// Writes the targets' log-probabilities and returns the gradient of `x` [width, targets].
pub(crate) fn forward_backward(b: &Builder<'_>, x: Tensor) -> Tensor {
    let g = b.graph;
    let normed = b.norm(x, b.weights.output_norm);
    let vocab = b.config.vocab;
    for chunk in Chunk::all(b) {
        let (logits, flat, label_probabilities) = chunk.log_probs(b, normed);
        let less_one = g.scale_bias(label_probabilities, 1.0, -1.0);
        let d_logits = g.set_rows(flat, less_one, g.view_1d(b.inputs.labels_wide, chunk.len, chunk.first));
        let d_logits = g.reshape(d_logits, [vocab, chunk.len, 1, 1]);
        let d_logits = b.capped_back(d_logits, logits, b.config.logit_cap);
        let weights = g.view_2d(b.inputs.weights, 1, chunk.len, 1, chunk.first);
        if let Some(into) = b.weights.matrix_gradient(b.weights.head) {
            let x = g.view_2d(normed, b.config.width, chunk.len, b.config.width, chunk.first * b.config.width);
            b.add_outer(into, g.mul(x, weights), d_logits);
        }
        let part = g.mul(b.frozen_backward(b.weights.head, b.config.width, d_logits), weights);
        let width = b.config.width;
        g.run(g.copy(part, g.view_2d(b.inputs.head_gradient, width, chunk.len, width, chunk.first * width)));
    }
    b.norm_back(b.inputs.head_gradient, x, b.weights.output_norm)
}

/// A run of targets whose logits exist together.
struct Chunk {
    first: usize,
    len: usize,
}

impl Chunk {
    fn all(b: &Builder<'_>) -> impl Iterator<Item = Chunk> {
        let shape = b.shape;
        (0..shape.targets)
            .step_by(shape.chunk)
            .map(move |first| Chunk { first, len: shape.chunk.min(shape.targets - first) })
    }

    /// Writes log-probabilities; returns the logits [vocab, len], the probabilities as [1, vocab * len] and those of the
    /// labels [1, len].
    fn log_probs(&self, b: &Builder<'_>, normed: Tensor) -> (Tensor, Tensor, Tensor) {
        let (g, width, vocab) = (b.graph, b.config.width, b.config.vocab);
        let x = g.view_2d(normed, width, self.len, width, self.first * width);
        let logits = b.capped(b.frozen_forward(b.weights.head, vocab, x), b.config.logit_cap);
        let probabilities = g.soft_max(logits);
        let flat = g.reshape(probabilities, [1, vocab * self.len, 1, 1]);
        let label_probabilities = g.get_rows(flat, g.view_1d(b.inputs.labels, self.len, self.first));
        let log_probs = g.log(g.scale_bias(label_probabilities, 1.0, TINY));
        g.run(g.copy(log_probs, g.view_2d(b.inputs.log_probs, 1, self.len, 1, self.first)));
        (logits, flat, label_probabilities)
    }
}
