//! Matrices that read the same input, frozen, each with its adapter: y = W x + s B A x. A group's A matrices lie one
//! after the other, so one product serves all of them. With dropout the adapters read m x instead of x, m being zero or
//! 1 / (1 - p) for each value; m is drawn again wherever it is needed.

use crate::arch::{Group, Matrix};
use crate::cpu::{self, Term, Width};
use crate::ggml::Tensor;

use super::super::lora::Adapter;
use super::super::packing::SplitMix;
use super::Builder;

/// Outputs in the order of the group's projections, and the adapters' inner values for the backward.
pub(crate) struct GroupForward {
    pub(crate) outputs: Vec<Tensor>,
    /// s A x: [rank * adapted members, T]; `None` when no member is adapted.
    inner: Option<Tensor>,
}

impl Builder<'_> {
    /// The A matrices of a group as one [input, rank * members], of the values or of the gradient.
    fn a_of(&self, flat: Tensor, members: &[Adapter]) -> Tensor {
        let first = members[0];
        self.graph.view_2d(flat, first.input, self.lora.layout.rank * members.len(), first.input, first.a)
    }

    /// B^T of an adapter, [output, rank], of the values or of the gradient.
    fn b_of(&self, flat: Tensor, adapter: Adapter) -> Tensor {
        self.graph.view_2d(flat, adapter.output, self.lora.layout.rank, adapter.output, adapter.b)
    }

    /// Adds M X^T to a part of the flat gradient, M [outputs, T], X [columns, T].
    pub(super) fn add_outer(&self, into: Tensor, m: Tensor, x: Tensor) {
        let g = self.graph;
        g.run(if self.weights.packed {
            cpu::add_outer(g, into, Term { matrix: m, columns: x })
        } else {
            g.add_inplace(into, g.out_prod(m, x))
        });
    }

    /// What the adapters of a group read of `x`, or what flows back to it: all of it, or what this pass does not drop.
    fn kept(&self, layer: usize, group: Group, x: Tensor) -> Tensor {
        let Some((share, seed)) = self.dropout else { return x };
        let site = layer * Group::ALL.len() + group as usize;
        cpu::dropped(
            self.graph,
            x,
            self.inputs.dropout_key,
            share,
            SplitMix::new(seed.wrapping_add(site as u64)).next(),
        )
    }

    /// The part [rank, T] of the inner values that belongs to the adapted member at `position`.
    fn inner_of(&self, inner: Tensor, position: usize) -> Tensor {
        let [stride, tokens, ..] = inner.dims();
        let rank = self.lora.layout.rank;
        self.graph.view_2d(inner, rank, tokens, stride, position * rank)
    }
}

/// The outputs of the projections that `matrix` computes, each [output, T] without gaps.
fn split(b: &Builder<'_>, matrix: Matrix, y: Tensor) -> Vec<Tensor> {
    let [stride, tokens, ..] = y.dims();
    let mut first = 0;
    let parts = matrix.parts().iter().map(|&part| {
        let output = b.config.projection_dims(part).1;
        let view = b.graph.view_2d(y, output, tokens, stride, first);
        first += output;
        if output == stride { y } else { b.graph.cont(view) }
    });
    parts.collect()
}

/// The other way round: gradients of the group's projections -> one per matrix.
fn join<'a>(b: &'a Builder<'_>, group: Group, gradients: &'a [Tensor]) -> impl Iterator<Item = (Matrix, Tensor)> + 'a {
    let mut rest = gradients;
    b.config.group(group).iter().map(move |&matrix| {
        let (own, after) = rest.split_at(matrix.parts().len());
        rest = after;
        let whole = own.iter().copied().reduce(|first, second| b.graph.concat(first, second));
        (matrix, whole.expect("a matrix computes something"))
    })
}

/// `x` [input, T] -> one [output, T] per projection of the group, added to `start` if given.
pub(crate) fn forward(b: &Builder<'_>, layer: usize, group: Group, x: Tensor, start: Option<Tensor>) -> GroupForward {
    let g = b.graph;
    let adapters = b.lora.layout.group(layer, group);
    let inner = (!adapters.members.is_empty()).then(|| {
        let product = g.mul_mat(b.a_of(b.lora.values, &adapters.members), b.kept(layer, group, x));
        g.scale(product, b.lora.layout.scale())
    });
    let mut stored: Vec<(Width, Tensor)> = Vec::new();
    let outputs = b.config.group(group).iter().flat_map(|&kind| {
        let frozen = b.layer(layer).matrix(kind);
        let matrix = b.weights.forward(g, frozen);
        let adapter = inner.zip(adapters.position(kind)).map(|(inner, position)| Term {
            matrix: b.b_of(b.lora.values, adapters.members[position]),
            columns: b.inner_of(inner, position),
        });
        let y = if let Some(widths) = frozen.widths {
            let known = stored.iter().find(|(width, _)| *width == widths.forward).map(|(_, columns)| *columns);
            let columns = known.unwrap_or_else(|| {
                stored.push((widths.forward, cpu::stored(g, x, widths.forward)));
                stored[stored.len() - 1].1
            });
            let terms: Vec<Term> = [Term { matrix, columns }].into_iter().chain(adapter).collect();
            let dims = [b.config.matrix_dims(kind).1, x.dims()[1], 1, 1];
            cpu::sum_of_products(g, dims, start, &terms)
        } else {
            let y = g.mul_mat(matrix, x);
            let y = adapter.map_or(y, |term| g.add(y, g.out_prod(term.matrix, g.transpose(term.columns))));
            start.map_or(y, |start| g.add(start, y))
        };
        split(b, kind, b.layer(layer).bias(kind).map_or(y, |bias| g.add(y, bias)))
    });
    GroupForward { outputs: outputs.collect(), inner }
}

/// Adds the gradients of A and B to the flat gradient and returns the gradient of `x`, or nothing where the caller
/// does not need it. With u = s A x: dB^T += dy u^T, du = s B^T dy, dA += x du^T, dx = W^T dy + A^T du.
pub(crate) fn backward(
    b: &Builder<'_>,
    layer: usize,
    group: Group,
    saved: &GroupForward,
    x: Tensor,
    gradients: &[Tensor],
    input_needed: bool,
) -> Option<Tensor> {
    let g = b.graph;
    let adapters = b.lora.layout.group(layer, group);
    let mut inner_gradient: Option<Tensor> = None;
    let gradients: Vec<(Matrix, Tensor)> = join(b, group, gradients).collect();
    for &(matrix, dy) in &gradients {
        if let Some(into) = b.weights.matrix_gradient(b.layer(layer).matrix(matrix)) {
            b.add_outer(into, x, dy);
        }
        if let Some(into) = b.layer(layer).bias(matrix).and_then(|bias| b.weights.gradient(bias)) {
            b.add_outer(into, dy, b.weights.ones(g, dy.dims()[1]));
        }
        let (Some(inner), Some(position)) = (saved.inner, adapters.position(matrix)) else { continue };
        let adapter = adapters.members[position];
        b.add_outer(b.b_of(b.lora.gradient, adapter), dy, b.inner_of(inner, position));
        let du = g.mul_mat(b.b_of(b.lora.values, adapter), dy);
        inner_gradient = Some(inner_gradient.map_or(du, |earlier| g.concat(earlier, du)));
    }
    let inner_gradient = inner_gradient.map(|gradient| g.scale(gradient, b.lora.layout.scale()));
    if let Some(du) = inner_gradient {
        b.add_outer(b.a_of(b.lora.gradient, &adapters.members), b.kept(layer, group, x), du);
    }
    if !input_needed {
        return None;
    }
    let frozen = gradients.iter().map(|&(matrix, dy)| {
        let frozen = b.layer(layer).matrix(matrix);
        let columns = frozen.widths.map_or(dy, |widths| cpu::stored(g, dy, widths.transposed));
        Term { matrix: b.weights.transposed(g, frozen), columns }
    });
    let adapter = inner_gradient.map(|du| Term { matrix: b.a_of(b.lora.values, &adapters.members), columns: du });
    if b.weights.packed {
        // What is dropped of the adapters' part is not dropped of the frozen one's, so they cannot be one sum.
        let apart = adapter.filter(|_| b.dropout.is_some());
        let start = apart.map(|term| b.kept(layer, group, cpu::sum_of_products(g, x.dims(), None, &[term])));
        let terms: Vec<Term> = frozen.chain(adapter.filter(|_| apart.is_none())).collect();
        return Some(cpu::sum_of_products(g, x.dims(), start, &terms));
    }
    let frozen = frozen.map(|term| g.mul_mat(term.matrix, term.columns));
    let adapter = adapter.map(|term| b.kept(layer, group, g.out_prod(term.matrix, g.transpose(term.columns))));
    frozen.chain(adapter).reduce(|sum, part| g.add(sum, part))
}
