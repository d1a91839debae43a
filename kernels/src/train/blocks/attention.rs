//! Grouped-query attention over rows laid out in lanes: norm, queries, keys and values, rotary embedding, softmax,
//! output projection and the residual. The way into lanes also exchanges tokens and heads, so it replaces copies that
//! the plain layout would need. Lc is the lane length, S the lanes, H and K query and key heads.

use crate::cpu::{self, Term};
use crate::ggml::Tensor;

use super::super::lora::Group;
use super::{Builder, linear};

/// What the backward needs.
pub(crate) struct Saved {
    x: Tensor,
    h: Tensor,
    input: linear::GroupForward,
    output: linear::GroupForward,
    /// [head_dim, Lc, H, S].
    q: Tensor,
    /// [head_dim, Lc, K, S].
    k: Tensor,
    /// [head_dim, Lc, K, S].
    v: Tensor,
    /// [Lc keys, Lc queries, H, S].
    probabilities: Tensor,
    /// [head_dim * H, T].
    mixed: Tensor,
    /// What went into the output projection: `mixed`, or its rows at the predictors in the last layer.
    projected: Tensor,
}

impl Builder<'_> {
    /// [head_dim * heads, T] -> [head_dim, Lc, heads, S].
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

    /// Sums over the width of a head: `a` [head_dim, Lc, K, S], `q` [head_dim, Lc, H, S] -> [Lc, Lc, H, S].
    fn over_width(&self, a: Tensor, q: Tensor) -> Tensor {
        if !self.weights.packed {
            return self.graph.mul_mat(a, q);
        }
        let matrix = self.graph.cont(self.graph.permute(a, [1, 0, 2, 3]));
        let dims = [self.shape.lane_len, self.shape.lane_len, self.config.heads, self.shape.lanes];
        cpu::sum_of_products(self.graph, dims, None, &[Term { matrix, columns: q }])
    }

    /// Sums over keys: `a` [head_dim, Lc, K, S], `scores` [Lc keys, Lc queries, H, S] -> [head_dim, Lc, H, S].
    fn over_keys(&self, a: Tensor, scores: Tensor) -> Tensor {
        if !self.weights.packed {
            return self.graph.mul_mat(self.graph.cont(self.graph.permute(a, [1, 0, 2, 3])), scores);
        }
        let dims = [self.config.head_dim, self.shape.lane_len, self.config.heads, self.shape.lanes];
        cpu::sum_of_products(self.graph, dims, None, &[Term { matrix: a, columns: scores }])
    }

    fn softmax_scale(&self) -> f32 {
        1.0 / (self.config.head_dim as f32).sqrt()
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
    let rotate = |a: Tensor, heads: usize| {
        let a = g.reshape(a, [head_dim, heads, tokens, 1]);
        g.rope(a, b.inputs.positions, b.weights.rope_factors, b.rope)
    };
    let q = b.to_lanes(rotate(input.outputs[0], heads), b.inputs.to_query_lanes, heads);
    let k = b.to_lanes(rotate(input.outputs[1], kv_heads), b.inputs.to_key_lanes, kv_heads);
    let v = b.to_lanes(input.outputs[2], b.inputs.to_key_lanes, kv_heads);
    let probabilities = g.soft_max_masked(b.over_width(k, q), b.inputs.mask, b.softmax_scale());
    let mixed = b.leave_lanes(b.over_keys(v, probabilities), b.inputs.from_query_lanes, heads);
    let mixed = g.reshape(mixed, [head_dim * heads, tokens, 1, 1]);
    let (projected, residual) = if b.is_last(layer) {
        (g.get_rows(mixed, b.inputs.predictors), g.get_rows(x, b.inputs.predictors))
    } else {
        (mixed, x)
    };
    let output = linear::forward(b, layer, Group::AttentionOutput, projected, Some(residual));
    (output.outputs[0], Saved { x, h, input, output, q, k, v, probabilities, mixed, projected })
}

/// `gradient` of the output -> gradient of `x`, or nothing in the first layer, below which nothing is trained.
pub(crate) fn backward(b: &Builder<'_>, layer: usize, saved: &Saved, gradient: Tensor) -> Option<Tensor> {
    let (g, config, inputs) = (b.graph, b.config, b.inputs);
    let (heads, kv_heads, head_dim, tokens) = (config.heads, config.kv_heads, config.head_dim, b.shape.tokens);
    let d_projected =
        linear::backward(b, layer, Group::AttentionOutput, &saved.output, saved.projected, &[gradient], true)
            .expect("the input gradient was asked for");
    let (d_mixed, d_residual) = if b.is_last(layer) {
        // Unused places of `predictors` repeat row 0 with a gradient of zero, which the sum leaves as it is.
        let back = |a: Tensor, like: Tensor| g.get_rows_back(a, inputs.predictors, like);
        (back(d_projected, saved.mixed), back(gradient, saved.x))
    } else {
        (d_projected, gradient)
    };
    let [dq, dk, dv] = mix_backward(b, saved, d_mixed);
    let unrotate = |a: Tensor, heads: usize| {
        let a = g.rope_back(a, inputs.positions, b.weights.rope_factors, b.rope);
        g.reshape(a, [head_dim * heads, tokens, 1, 1])
    };
    let dq = unrotate(b.leave_lanes(dq, inputs.from_query_lanes, heads), heads);
    let dk = unrotate(b.leave_lanes(dk, inputs.from_key_lanes, kv_heads), kv_heads);
    let dv = b.leave_lanes(dv, inputs.from_key_lanes, kv_heads);
    let dv = g.reshape(dv, [head_dim * kv_heads, tokens, 1, 1]);
    let dh = linear::backward(b, layer, Group::AttentionInput, &saved.input, saved.h, &[dq, dk, dv], layer > 0)?;
    let dx = g.add(d_residual, b.norm_back(dh, saved.x, b.layer(layer).attention_norm));
    g.run(dx);
    Some(dx)
}

/// Gradients of queries, keys and values in lanes. With P = softmax(s K^T Q): dP = V^T dO, dS = softmax'(dP),
/// dQ = s K dS, dK = s Q dS^T, dV = dO P^T, the last two summed over the queries' heads that share a key head.
fn mix_backward(b: &Builder<'_>, saved: &Saved, d_mixed: Tensor) -> [Tensor; 3] {
    let (g, config, shape) = (b.graph, b.config, b.shape);
    let (heads, kv_heads, head_dim) = (config.heads, config.kv_heads, config.head_dim);
    let d_out = b.to_lanes(d_mixed, b.inputs.to_query_lanes, heads);
    let d_probabilities = b.over_width(saved.v, d_out);
    let d_scores = g.soft_max_back(d_probabilities, saved.probabilities, b.softmax_scale());
    let dq = b.over_keys(saved.k, d_scores);
    // Heads that share a key head follow each other, so they fold into the summed dimension.
    let fold =
        |a: Tensor, first: usize| g.reshape(a, [first, heads / kv_heads * shape.lane_len, kv_heads, shape.lanes]);
    let over_queries = |a: Tensor, scores: Tensor| {
        let (matrix, columns) = (fold(a, head_dim), fold(scores, shape.lane_len));
        if b.weights.packed {
            cpu::outer(g, [head_dim, shape.lane_len, kv_heads, shape.lanes], Term { matrix, columns })
        } else {
            g.out_prod(matrix, columns)
        }
    };
    [dq, over_queries(saved.q, d_scores), over_queries(d_out, saved.probabilities)]
}
