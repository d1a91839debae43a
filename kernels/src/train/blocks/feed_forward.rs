//! The gated feed-forward block (<https://arxiv.org/abs/2002.05202>): x + Down(silu(Gate(norm(x))) * Up(norm(x))).

use crate::cpu;
use crate::ggml::Tensor;

use super::super::lora::Group;
use super::{Builder, linear};

/// What the backward needs; what is cheap to compute again is not kept.
pub(crate) struct Saved {
    x: Tensor,
    input: linear::GroupForward,
    output: linear::GroupForward,
}

/// `x` [width, T] -> [width, T].
pub(crate) fn forward(b: &Builder<'_>, layer: usize, x: Tensor) -> (Tensor, Saved) {
    let g = b.graph;
    let h = b.norm(x, b.layer(layer).feed_forward_norm);
    let input = linear::forward(b, layer, Group::FeedForwardInput, h, None);
    let hidden = g.swiglu(input.outputs[0], input.outputs[1]);
    let output = linear::forward(b, layer, Group::FeedForwardOutput, hidden, Some(x));
    (output.outputs[0], Saved { x, input, output })
}

/// `gradient` of the output -> gradient of `x`.
pub(crate) fn backward(b: &Builder<'_>, layer: usize, saved: &Saved, gradient: Tensor) -> Tensor {
    let g = b.graph;
    let (gate, up) = (saved.input.outputs[0], saved.input.outputs[1]);
    let hidden = g.swiglu(gate, up);
    let d_hidden = linear::backward(b, layer, Group::FeedForwardOutput, &saved.output, hidden, &[gradient], true)
        .expect("the input gradient was asked for");
    let (d_gate, d_up) = if b.weights.packed {
        cpu::swiglu_back(g, d_hidden, gate, up)
    } else {
        (g.silu_back(g.mul(d_hidden, up), gate), g.mul(d_hidden, g.silu(gate)))
    };
    let h = b.norm(saved.x, b.layer(layer).feed_forward_norm);
    let dh = linear::backward(b, layer, Group::FeedForwardInput, &saved.input, h, &[d_gate, d_up], true)
        .expect("the input gradient was asked for");
    g.add(gradient, b.norm_back(dh, saved.x, b.layer(layer).feed_forward_norm))
}
