//! The gated feed-forward block (<https://arxiv.org/abs/2002.05202>): x + Down(f(Gate(norm(x))) * Up(norm(x))), f being
//! SiLU or GELU, and with post-norms x + norm(Down(...)).

use crate::arch::{Activation, Group};
use crate::cpu::{self, GELU_CUBE, GELU_FACTOR};
use crate::ggml::Tensor;

use super::{Builder, linear};

/// What the backward needs; what is cheap to compute again is not kept.
pub(crate) struct Saved {
    x: Tensor,
    input: linear::GroupForward,
    output: linear::GroupForward,
}

/// `x` [width, T] -> [width, T].
pub(crate) fn forward(b: &Builder<'_>, layer: usize, x: Tensor) -> (Tensor, Saved) {
    let h = b.norm(x, b.layer(layer).feed_forward_norm);
    let input = linear::forward(b, layer, Group::FeedForwardInput, h, None);
    let hidden = b.gated(input.outputs[0], input.outputs[1]);
    let output = linear::forward(b, layer, Group::FeedForwardOutput, hidden, b.start_of_sum(x));
    (b.end_of_sum(x, output.outputs[0], b.post_norm(layer, 1)), Saved { x, input, output })
}

impl Builder<'_> {
    /// f(gate) * up.
    fn gated(&self, gate: Tensor, up: Tensor) -> Tensor {
        let g = self.graph;
        match self.config.activation {
            Activation::Silu => g.swiglu(gate, up),
            Activation::Gelu if self.weights.packed => cpu::geglu(g, gate, up),
            Activation::Gelu => g.mul(g.mul(gate, self.gelu_gate(gate)), up),
        }
    }

    /// Gradients of gate and up for the gradient of [`Builder::gated`].
    fn gated_back(&self, gradient: Tensor, gate: Tensor, up: Tensor) -> (Tensor, Tensor) {
        let g = self.graph;
        if self.weights.packed {
            return cpu::gated_back(g, self.config.activation, gradient, gate, up);
        }
        let d_active = g.mul(gradient, up);
        match self.config.activation {
            Activation::Silu => (g.silu_back(d_active, gate), g.mul(gradient, g.silu(gate))),
            Activation::Gelu => {
                // With s = sigmoid(2 c (x + a x^3)): gelu' = s + x s (1 - s) 2 c (1 + 3 a x^2).
                let s = self.gelu_gate(gate);
                let inner = g.scale_bias(g.mul(gate, gate), 6.0 * GELU_FACTOR * GELU_CUBE, 2.0 * GELU_FACTOR);
                let bend = g.mul(g.mul(gate, inner), g.mul(s, g.scale_bias(s, -1.0, 1.0)));
                (g.mul(d_active, g.add(s, bend)), g.mul(gradient, g.mul(gate, s)))
            }
        }
    }

    /// sigmoid(2 c (x + a x^3)).
    fn gelu_gate(&self, x: Tensor) -> Tensor {
        let g = self.graph;
        let inner = g.scale_bias(g.mul(x, x), 2.0 * GELU_FACTOR * GELU_CUBE, 2.0 * GELU_FACTOR);
        g.sigmoid(g.mul(x, inner))
    }
}

/// `gradient` of the output -> gradient of `x`.
pub(crate) fn backward(b: &Builder<'_>, layer: usize, saved: &Saved, gradient: Tensor) -> Tensor {
    let (gate, up) = (saved.input.outputs[0], saved.input.outputs[1]);
    let hidden = b.gated(gate, up);
    let d_added = b.end_of_sum_back(gradient, saved.output.outputs[0], b.post_norm(layer, 1));
    let d_hidden = linear::backward(b, layer, Group::FeedForwardOutput, &saved.output, hidden, &[d_added], true)
        .expect("the input gradient was asked for");
    let (d_gate, d_up) = b.gated_back(d_hidden, gate, up);
    let h = b.norm(saved.x, b.layer(layer).feed_forward_norm);
    let dh = linear::backward(b, layer, Group::FeedForwardInput, &saved.input, h, &[d_gate, d_up], true)
        .expect("the input gradient was asked for");
    b.norm_back_to(gradient, dh, saved.x, b.layer(layer).feed_forward_norm)
}
