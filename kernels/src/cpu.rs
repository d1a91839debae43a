//! Our own CPU kernels, as ggml custom operations: they run on ggml's threads inside its graphs, have no barrier and no
//! work buffer, and are emitted only when the backend is the CPU and the processor has what they need. Everywhere else
//! the same graph is built from ggml's own operations. Each output value is computed by one thread in a fixed order,
//! so results do not depend on the number of threads.

#[cfg(target_arch = "x86_64")]
mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod columns;
mod dropout;
#[cfg(target_arch = "x86_64")]
mod glu;
pub(crate) mod math;
mod nibbles;
#[cfg(target_arch = "x86_64")]
mod norm;
mod pack;
mod panels;
#[cfg(target_arch = "x86_64")]
mod peak;
#[cfg(target_arch = "x86_64")]
mod product;
mod scatter;

use std::sync::OnceLock;

use crate::arch::Activation;
use crate::ggml::{self, Graph, I8, Tensor, Type};

pub(crate) use nibbles::has_nibbles;
pub(crate) use pack::{Packing, Scratch};
pub(crate) use panels::{BLOCK, Width};
#[cfg(target_arch = "x86_64")]
pub(crate) use peak::{multiply_floats, multiply_integers};

/// Values of a panel: as many outputs as two AVX2 registers hold.
pub(crate) const PANEL: usize = 16;

/// Names the instructions to use at most, as [`Isa::name`] has them: for runs that are to compute the bits of an older
/// processor.
pub(crate) const ISA_VARIABLE: &str = "HONE_ISA";

/// Instructions that the kernels are written for, each including those before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Isa {
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 with its F, BW, DQ, VL and VNNI.
    Avx512,
}

impl Isa {
    pub(crate) const ALL: [Isa; 2] = [Isa::Avx2, Isa::Avx512];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512-vnni",
        }
    }

    fn is_here(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            match self {
                Isa::Avx2 => has!("avx2") && has!("fma"),
                Isa::Avx512 => {
                    Isa::Avx2.is_here()
                        && has!("avx512f")
                        && has!("avx512bw")
                        && has!("avx512dq")
                        && has!("avx512vl")
                        && has!("avx512vnni")
                }
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// The best that this processor has and [`ISA_VARIABLE`] allows; `None`: our kernels do not run here.
    pub(crate) fn best() -> Option<Isa> {
        #[cfg(test)]
        if let Some(isa) = trial::forced() {
            return Some(isa);
        }
        static BEST: OnceLock<Option<Isa>> = OnceLock::new();
        *BEST.get_or_init(|| {
            let wished = std::env::var(ISA_VARIABLE).ok();
            let most = Isa::ALL.into_iter().find(|isa| wished.as_deref() == Some(isa.name()));
            let best = Isa::ALL.into_iter().rfind(|isa| most.is_none_or(|most| *isa <= most) && isa.is_here());
            if let (Some(wished), None) = (wished, most) {
                let (known, used) = (Isa::ALL.map(Isa::name).join(" or "), best.map_or("none", Isa::name));
                eprintln!(
                    "{ISA_VARIABLE}={wished} names no kernels of hone's, set it to {known}; going on with {used}"
                );
            }
            best
        })
    }
}

/// Tests see every instruction set that the processor has.
#[cfg(test)]
pub(crate) mod trial {
    use std::cell::Cell;

    use super::Isa;

    thread_local!(static FORCED: Cell<Option<Isa>> = const { Cell::new(None) });

    pub(super) fn forced() -> Option<Isa> {
        FORCED.get()
    }

    /// Runs `test` once for each; graphs made on this thread use it.
    pub(crate) fn for_each_isa(test: impl Fn(Isa)) {
        let here: Vec<Isa> = Isa::ALL.into_iter().filter(|isa| isa.is_here()).collect();
        assert!(!here.is_empty(), "these tests need AVX2 and FMA");
        for isa in here {
            println!("{}", isa.name());
            FORCED.set(Some(isa));
            test(isa);
        }
        FORCED.set(None);
    }
}

/// One term M X of a sum of products.
#[derive(Clone, Copy)]
pub(crate) struct Term {
    /// M, either packed (see [`packed_form`]) or F32 [outputs, inner], outputs contiguous.
    pub(crate) matrix: Tensor,
    /// X, [`stored`] for a packed M, else F32 [inner, columns], or [columns, inner] for [`add_outer`].
    pub(crate) columns: Tensor,
}

/// Storage type and dimensions of the packed form of a matrix: a row for each panel of 16 outputs.
pub(crate) fn packed_form(width: Width, outputs: usize, inner: usize) -> (Type, [usize; 2]) {
    let kind = width.kind();
    (kind, [width.panel_bytes(inner) / ggml::row_bytes(kind, 1), outputs / PANEL])
}

/// Bytes of the packed form.
pub(crate) fn packed_bytes(width: Width, outputs: usize, inner: usize) -> usize {
    width.panel_bytes(inner) * (outputs / PANEL)
}

/// Whether a matrix with so many outputs, or inner steps, can be packed.
pub(crate) fn fits(size: usize) -> bool {
    size.is_multiple_of(PANEL)
}

/// Panels of `matrix` [input, output], stored as the model file has it, or of its transposed.
#[cfg(target_arch = "x86_64")]
pub(crate) fn packed(graph: &Graph, matrix: Tensor, width: Width, transposed: bool) -> Tensor {
    let [input, output, ..] = matrix.dims();
    let (outputs, inner) = if transposed { (input, output) } else { (output, input) };
    let (kind, [row, panels]) = packed_form(width, outputs, inner);
    let flags = width as usize | if transposed { pack::TRANSPOSED } else { 0 };
    graph.custom_of(kind, [row, panels, 1, 1], &[matrix], pack::run, flags)
}

/// The F32 columns `x` [inner, columns] in the form that a matrix packed in `width` is multiplied with.
#[cfg(target_arch = "x86_64")]
pub(crate) fn stored(graph: &Graph, x: Tensor, width: Width) -> Tensor {
    let [inner, columns, ..] = x.dims();
    let dims = [width.column_bytes(inner), columns, 1, 1];
    graph.custom_of(I8, dims, &[x], columns::store_columns, width as usize)
}

#[cfg(target_arch = "x86_64")]
fn product_flags() -> usize {
    if Isa::best() == Some(Isa::Avx512) { product::AVX512 } else { 0 }
}

/// Sum of `terms`, plus `start` if given: F32 of `dims`. Matrices are repeated over dimensions 2 and 3 as needed.
#[cfg(target_arch = "x86_64")]
pub(crate) fn sum_of_products(graph: &Graph, dims: [usize; 4], start: Option<Tensor>, terms: &[Term]) -> Tensor {
    let flags = product_flags() | if start.is_some() { product::HAS_START } else { 0 };
    let mut operands: Vec<Tensor> = start.into_iter().collect();
    operands.extend(terms.iter().flat_map(|term| [term.matrix, term.columns]));
    graph.custom(dims, &operands, product::run, flags)
}

/// `into` += M X^T, in place.
#[cfg(target_arch = "x86_64")]
pub(crate) fn add_outer(graph: &Graph, into: Tensor, term: Term) -> Tensor {
    graph.custom_inplace(
        into,
        &[term.matrix, term.columns],
        product::run,
        product_flags() | product::TURNED | product::HAS_START,
    )
}

/// `x` [width, columns] with a `share` of its values set to zero and the others made larger to make up for it; which, is drawn
/// from `seed` and from `pass`, I32 [2]. On every processor.
pub(crate) fn dropped(graph: &Graph, x: Tensor, pass: Tensor, share: f32, seed: u64) -> Tensor {
    graph.custom(x.dims(), &[x, pass], dropout::run, dropout::flags(share, seed))
}

/// `into` [width, rows] += `rows` [width, n], each where `numbers`, I32 [n], says. On every processor.
pub(crate) fn add_rows(graph: &Graph, into: Tensor, rows: Tensor, numbers: Tensor) -> Tensor {
    graph.custom_inplace(into, &[rows, numbers], scatter::add_rows, 0)
}

/// x / rms(x) * weight for rows of `x`.
#[cfg(target_arch = "x86_64")]
pub(crate) fn norm(graph: &Graph, x: Tensor, weight: Tensor, eps: f32) -> Tensor {
    graph.custom(x.dims(), &[x, weight], norm::forward, eps.to_bits() as usize)
}

/// Gradient of `x` for the gradient `dy` of [`norm`], added to `more` if given.
#[cfg(target_arch = "x86_64")]
pub(crate) fn norm_back(
    graph: &Graph,
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    more: Option<Tensor>,
    eps: f32,
) -> Tensor {
    let operands: Vec<Tensor> = [dy, x, weight].into_iter().chain(more).collect();
    graph.custom(x.dims(), &operands, norm::backward, eps.to_bits() as usize)
}

/// sqrt(2 / pi), c of GELU as [`Activation::Gelu`] has it.
pub(crate) const GELU_FACTOR: f32 = 0.797_884_6;
/// Factor on the cube in GELU.
pub(crate) const GELU_CUBE: f32 = 0.044_715;

/// gelu(gate) * up.
#[cfg(target_arch = "x86_64")]
pub(crate) fn geglu(graph: &Graph, gate: Tensor, up: Tensor) -> Tensor {
    graph.custom(gate.dims(), &[gate, up], glu::geglu, 0)
}

/// Gradients of f(gate) * up for the output gradient `gradient`: those of gate and up.
#[cfg(target_arch = "x86_64")]
pub(crate) fn gated_back(
    graph: &Graph,
    activation: Activation,
    gradient: Tensor,
    gate: Tensor,
    up: Tensor,
) -> (Tensor, Tensor) {
    let [width, columns, ..] = gate.dims();
    let function = match activation {
        Activation::Silu => glu::swiglu_back,
        Activation::Gelu => glu::geglu_back,
    };
    let both = graph.custom([width, columns, 2, 1], &[gradient, gate, up], function, 0);
    let part = |index: usize| graph.view_2d(both, width, columns, width, index * width * columns);
    (part(0), part(1))
}

/// What a query sees, for [`attention`].
#[derive(Clone, Copy)]
pub(crate) struct Sight {
    /// I32 [T], rising: first key that each query sees; the last is the query itself.
    pub(crate) first: Tensor,
    /// Factor on scores.
    pub(crate) scale: f32,
    /// c of c tanh(score / c); 0: not capped.
    pub(crate) cap: f32,
}

impl Sight {
    /// Both numbers; the sign of the cap says whether AVX-512 multiplies.
    fn flags(self) -> usize {
        let cap = if Isa::best() == Some(Isa::Avx512) { -self.cap } else { self.cap };
        (cap.to_bits() as usize) << 32 | self.scale.to_bits() as usize
    }
}

/// Whether heads of this size can take part in [`attention`].
#[cfg(target_arch = "x86_64")]
pub(crate) fn fits_head(head_dim: usize) -> bool {
    fits(head_dim) && head_dim <= attention::HEAD_DIM_MAX
}

/// K or V [head_dim, kv_heads, T] in panels of 16 keys.
#[cfg(target_arch = "x86_64")]
fn attention_panels(graph: &Graph, a: Tensor) -> Tensor {
    let [head_dim, heads, tokens, ..] = a.dims();
    graph.custom([PANEL * head_dim, tokens.div_ceil(PANEL), heads, 1], &[a], attention::turn, 0)
}

/// Causal attention of Q [head_dim, heads, T] over K and V [head_dim, kv_heads, T] inside documents: the output
/// [head_dim * heads, T], a view of the second tensor, which [`attention_back`] wants.
#[cfg(target_arch = "x86_64")]
pub(crate) fn attention(graph: &Graph, [q, k, v]: [Tensor; 3], sight: Sight) -> (Tensor, Tensor) {
    let [head_dim, heads, tokens, ..] = q.dims();
    let operands = [q, attention_panels(graph, k), v, sight.first];
    let all = graph.custom([(head_dim + 1) * heads * tokens, 1, 1, 1], &operands, attention::forward, sight.flags());
    (graph.view_2d(all, head_dim * heads, tokens, head_dim * heads, 0), all)
}

/// Gradients of Q, K and V, shaped as they are, for the gradient `d_out` [head_dim * heads, T] of [`attention`]'s
/// output, given its second result.
#[cfg(target_arch = "x86_64")]
pub(crate) fn attention_back(
    graph: &Graph,
    [q, k, v]: [Tensor; 3],
    forward: Tensor,
    d_out: Tensor,
    sight: Sight,
) -> [Tensor; 3] {
    let ([head_dim, heads, tokens, ..], [_, kv_heads, ..]) = (q.dims(), k.dims());
    let panels = [attention_panels(graph, k), attention_panels(graph, v)];
    let operands = [q, k, panels[0], panels[1], forward, d_out, sight.first];
    let values = 3 * head_dim * heads * tokens;
    let queries = graph.custom([values, 1, 1, 1], &operands, attention::backward, sight.flags());
    let size = head_dim * kv_heads * tokens;
    let keys = graph.custom([2 * size, 1, 1, 1], &[q, k, queries], attention::fold_keys, 0);
    let part = |all: Tensor, heads: usize, offset: usize| {
        graph.reshape(graph.view_1d(all, head_dim * heads * tokens, offset), [head_dim, heads, tokens, 1])
    };
    [part(queries, heads, 0), part(keys, kv_heads, 0), part(keys, kv_heads, size)]
}

/// Never called: [`Isa::best`] is none on other processors.
#[cfg(not(target_arch = "x86_64"))]
mod elsewhere {
    use super::{Activation, Graph, Isa, Sight, Tensor, Term, Width};

    pub(crate) fn sum_of_products(_: &Graph, _: [usize; 4], _: Option<Tensor>, _: &[Term]) -> Tensor {
        unreachable!("no kernels for this processor")
    }
    pub(crate) fn packed(_: &Graph, _: Tensor, _: Width, _: bool) -> Tensor {
        unreachable!("no kernels for this processor")
    }
    pub(crate) fn stored(_: &Graph, _: Tensor, _: Width) -> Tensor {
        unreachable!("no kernels for this processor")
    }
    pub(crate) fn fits_head(_: usize) -> bool {
        false
    }
    pub(crate) fn multiply_floats(_: Isa, _: usize) -> f64 {
        unreachable!("no kernels for this processor")
    }
    pub(crate) fn multiply_integers(_: Isa, _: usize) -> f64 {
        unreachable!("no kernels for this processor")
    }
    pub(crate) fn norm(_: &Graph, _: Tensor, _: Tensor, _: f32) -> Tensor {
        unreachable!("no kernels for this processor")
    }
    pub(crate) fn norm_back(_: &Graph, _: Tensor, _: Tensor, _: Tensor, _: Option<Tensor>, _: f32) -> Tensor {
        unreachable!("no kernels for this processor")
    }
    pub(crate) fn attention(_: &Graph, _: [Tensor; 3], _: Sight) -> (Tensor, Tensor) {
        unreachable!("no kernels for this processor")
    }
    pub(crate) fn attention_back(_: &Graph, _: [Tensor; 3], _: Tensor, _: Tensor, _: Sight) -> [Tensor; 3] {
        unreachable!("no kernels for this processor")
    }
    pub(crate) fn add_outer(_: &Graph, _: Tensor, _: Term) -> Tensor {
        unreachable!("no kernels for this processor")
    }
    pub(crate) fn geglu(_: &Graph, _: Tensor, _: Tensor) -> Tensor {
        unreachable!("no kernels for this processor")
    }
    pub(crate) fn gated_back(_: &Graph, _: Activation, _: Tensor, _: Tensor, _: Tensor) -> (Tensor, Tensor) {
        unreachable!("no kernels for this processor")
    }
}
#[cfg(not(target_arch = "x86_64"))]
pub(crate) use elsewhere::{
    add_outer, attention, attention_back, fits_head, gated_back, geglu, norm, norm_back, packed, stored,
    sum_of_products,
};

#[cfg(all(test, target_arch = "x86_64"))]
mod tests;
