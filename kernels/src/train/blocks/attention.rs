//! Grouped-query attention inside rows: norm, queries, keys and values, rotary embedding, softmax,
//! output projection and the residual. With our own kernels tokens stay flat; ggml's operations want lanes, and the
//! way into them also exchanges tokens and heads. Lc is the lane length, S the lanes, H and K query and key heads.

use crate::arch::Group;
use crate::cpu::{self, Sight};
use crate::ggml::Tensor;

use super::super::lanes::Lanes;
use super::{Builder, linear};

/// What the backward needs; what is cheap to compute again is not kept.
pub(crate) struct Saved {
    x: Tensor,
    input: linear::GroupForward,
    output: linear::GroupForward,
    mixing: Mixing,
    /// [head_dim * H, T].
    mixed: Tensor,
    /// What went into the output projection: `mixed`, or its rows at the predictors in the last layer.
    projected: Tensor,
}

/// What the backward of the mixing of values needs.
enum Mixing {
    /// Our own kernel: Q [head_dim, H, T], K and V [head_dim, K, T], and its result.
    Fused { inputs: [Tensor; 3], result: Tensor },
    /// ggml's operations: Q [head_dim, Lc, H, S], K and V [head_dim, Lc, K, S], and the probabilities [Lc keys, Lc
    /// queries, H, S]; where scores are capped also those, shaped alike.
    Lanes { inputs: [Tensor; 3], scores: Tensor, probabilities: Tensor },
}

impl Builder<'_> {
    /// [head_dim * heads, T], however split -> [head_dim, Lc, heads, S].
    fn to_lanes(&self, a: Tensor, index: Tensor, heads: usize) -> Tensor {
        let (g, head_dim) = (self.graph, self.config.head_dim);
        let rows = g.reshape(a, [head_dim, heads * self.shape.tokens, 1, 1]);
        g.reshape(g.get_rows(rows, index), [head_dim, self.shape.lane_len, heads, self.shape.lanes])
    }

    /// [head_dim, Lc, heads, S] -> [head_dim, heads, T, 1].
    fn leave_lanes(&self, a: Tensor, index: Tensor, heads: usize) -> Tensor {
        let (g, head_dim) = (self.graph, self.config.head_dim);
        let rows = g.reshape(a, [head_dim, heads * self.shape.places(), 1, 1]);
        g.reshape(g.get_rows(rows, index), [head_dim, heads, self.shape.tokens, 1])
    }

    /// Sums over keys: `a` [head_dim, Lc, K, S], `scores` [Lc keys, Lc queries, H, S] -> [head_dim, Lc, H, S].
    fn over_keys(&self, a: Tensor, scores: Tensor) -> Tensor {
        self.graph.mul_mat(self.graph.cont(self.graph.permute(a, [1, 0, 2, 3])), scores)
    }

    fn sight(&self, layer: usize) -> Sight {
        let inputs = self.inputs;
        let local = self.config.local(layer).and(inputs.first_local_keys);
        Sight { first: local.unwrap_or(inputs.first_keys), scale: self.config.score_scale, cap: self.config.score_cap }
    }

    /// What went into attention, as the graph of ggml's own operations reads it.
    fn lanes(&self) -> &Lanes {
        self.inputs.lanes.as_ref().expect("the inputs have lanes unless our own kernels mix")
    }

    /// 0 where a query of `layer` sees a key, else -inf.
    fn mask(&self, layer: usize) -> Tensor {
        let local = self.config.local(layer).and(self.lanes().local_mask);
        local.unwrap_or(self.lanes().mask)
    }

    /// After the attention of the last layer only places that predict a target matter.
    fn is_last(&self, layer: usize) -> bool {
        layer + 1 == self.config.layers
    }
}

/// `x` [width, T] -> x + O(attention(norm(x))), [width, T], or [width, targets] in the last layer.
pub(crate) fn forward(b: &Builder<'_>, layer: usize, x: Tensor) -> (Tensor, Saved) {
    let (g, config) = (b.graph, b.config);
    let (heads, kv_heads, head_dim, tokens) = (config.heads, config.kv_heads, config.head_dim, b.shape.tokens);
    let h = b.norm(x, b.layer(layer).attention_norm);
    let input = linear::forward(b, layer, Group::AttentionInput, h, None);
    let rotate = |index: usize, heads: usize| {
        let a = g.reshape(input.outputs[index], [head_dim, heads, tokens, 1]);
        let a = b.layer(layer).head_norms.map_or(a, |norms| b.norm(a, norms[index]));
        g.rope(a, b.inputs.positions, b.weights.rope_factors, b.rope(layer))
    };
    let v = g.reshape(input.outputs[2], [head_dim, kv_heads, tokens, 1]);
    let (mixed, mixing) = mix(b, layer, [rotate(0, heads), rotate(1, kv_heads), v]);
    let (projected, residual) = if b.is_last(layer) {
        (g.get_rows(mixed, b.inputs.predictors), g.get_rows(x, b.inputs.predictors))
    } else {
        (mixed, x)
    };
    let output = linear::forward(b, layer, Group::AttentionOutput, projected, b.start_of_sum(residual));
    let out = b.end_of_sum(residual, output.outputs[0], b.post_norm(layer, 0));
    (out, Saved { x, input, output, mixing, mixed, projected })
}

/// `gradient` of the output -> gradient of `x`, or nothing in the first layer, below which nothing is trained.
pub(crate) fn backward(b: &Builder<'_>, layer: usize, saved: &Saved, gradient: Tensor) -> Option<Tensor> {
    let (g, config, inputs) = (b.graph, b.config, b.inputs);
    let (heads, kv_heads, head_dim, tokens) = (config.heads, config.kv_heads, config.head_dim, b.shape.tokens);
    let d_added = b.end_of_sum_back(gradient, saved.output.outputs[0], b.post_norm(layer, 0));
    let d_projected =
        linear::backward(b, layer, Group::AttentionOutput, &saved.output, saved.projected, &[d_added], true)
            .expect("the input gradient was asked for");
    let (d_mixed, d_residual) = if b.is_last(layer) {
        // Unused places of `predictors` repeat row 0 with a gradient of zero, which the sum leaves as it is.
        let back = |a: Tensor, like: Tensor| g.get_rows_back(a, inputs.predictors, like);
        (back(d_projected, saved.mixed), back(gradient, saved.x))
    } else {
        (d_projected, gradient)
    };
    let [dq, dk, dv] = mix_backward(b, layer, &saved.mixing, d_mixed);
    let unrotate = |a: Tensor, index: usize, heads: usize| {
        let a = g.rope_back(a, inputs.positions, b.weights.rope_factors, b.rope(layer));
        let a = b.layer(layer).head_norms.map_or(a, |norms| {
            b.norm_back(a, g.reshape(saved.input.outputs[index], [head_dim, heads, tokens, 1]), norms[index])
        });
        g.reshape(a, [head_dim * heads, tokens, 1, 1])
    };
    let (dq, dk) = (unrotate(dq, 0, heads), unrotate(dk, 1, kv_heads));
    let dv = g.reshape(dv, [head_dim * kv_heads, tokens, 1, 1]);
    let h = b.norm(saved.x, b.layer(layer).attention_norm);
    let dh = linear::backward(b, layer, Group::AttentionInput, &saved.input, h, &[dq, dk, dv], b.input_needed(layer))?;
    let dx = b.norm_back_to(d_residual, dh, saved.x, b.layer(layer).attention_norm);
    g.run(dx);
    Some(dx)
}

/// Values mixed by attention, [head_dim * H, T]. Q, K and V come as [head_dim, H or K, T].
fn mix(b: &Builder<'_>, layer: usize, inputs: [Tensor; 3]) -> (Tensor, Mixing) {
    let (g, config) = (b.graph, b.config);
    if b.weights.packed {
        let (mixed, result) = cpu::attention(g, inputs, b.sight(layer));
        return (mixed, Mixing::Fused { inputs, result });
    }
    let lanes = b.lanes();
    let q = b.to_lanes(inputs[0], lanes.to_queries, config.heads);
    let [k, v] = [1, 2].map(|index: usize| b.to_lanes(inputs[index], lanes.to_keys, config.kv_heads));
    let scores = b.capped(g.scale(g.mul_mat(k, q), config.score_scale), config.score_cap);
    let probabilities = g.soft_max_masked(scores, b.mask(layer), 1.0);
    let mixed = b.leave_lanes(b.over_keys(v, probabilities), lanes.from_queries, config.heads);
    let mixed = g.reshape(mixed, [config.head_dim * config.heads, b.shape.tokens, 1, 1]);
    (mixed, Mixing::Lanes { inputs: [q, k, v], scores, probabilities })
}

/// Gradients of queries, keys and values, shaped as [`mix`] takes them. Without a cap and with P = softmax(s K^T Q): dP = V^T dO,
/// dS = softmax'(dP), dQ = s K dS, dK = s Q dS^T, dV = dO P^T, the last two summed over the queries' heads that share
/// a key head.
fn mix_backward(b: &Builder<'_>, layer: usize, mixing: &Mixing, d_mixed: Tensor) -> [Tensor; 3] {
    let (g, config, shape) = (b.graph, b.config, b.shape);
    let (heads, kv_heads, head_dim) = (config.heads, config.kv_heads, config.head_dim);
    let (&[q, k, v], &scores, &probabilities) = match mixing {
        Mixing::Fused { inputs, result } => return cpu::attention_back(g, *inputs, *result, d_mixed, b.sight(layer)),
        Mixing::Lanes { inputs, scores, probabilities } => (inputs, scores, probabilities),
    };
    let lanes = b.lanes();
    let d_out = b.to_lanes(d_mixed, lanes.to_queries, heads);
    let d_scores = g.soft_max_back(g.mul_mat(v, d_out), probabilities, 1.0);
    let d_scores = g.scale(b.capped_back(d_scores, scores, config.score_cap), config.score_scale);
    // Heads that share a key head follow each other, so they fold into the summed dimension.
    let fold =
        |a: Tensor, first: usize| g.reshape(a, [first, heads / kv_heads * shape.lane_len, kv_heads, shape.lanes]);
    let over_queries = |a: Tensor, scores: Tensor| g.out_prod(fold(a, head_dim), fold(scores, shape.lane_len));
    [
        b.leave_lanes(b.over_keys(k, d_scores), lanes.from_queries, heads),
        b.leave_lanes(over_queries(q, d_scores), lanes.from_keys, kv_heads),
        b.leave_lanes(over_queries(d_out, probabilities), lanes.from_keys, kv_heads),
    ]
}
