//! How close a step is to the machine's limit: the frozen products of a pass run alone (what a step cannot go below
//! with these kernels), ggml's products by storage type, and the processor's peak. For the bench and for choosing
//! storage types; no part of training.

use std::thread;
use std::time::Instant;

use crate::arch::{Config, Group};
use crate::cpu::{self, Isa, Term, Width};
use crate::ggml::{
    self, BF16, Backend, BackendError, Buffer, Context, F16, F32, Graph, GraphMemory, Q4_0, Q4_1, Q8_0, Tensor,
};

use super::batch::Shape;
use super::packing::SplitMix;
use super::weights::{Frozen, ModelWeights};

/// A step beside the frozen products of its passes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Comparison {
    /// Tokens of rows in the last step.
    pub tokens: u64,
    /// Floating point operations of the products of one pass (a multiply-add is two).
    pub flop: f64,
    /// Wall time of each step in seconds.
    pub step_s: Vec<f64>,
    /// Wall time of the products of one pass by the run's own kernel.
    pub own_s: Vec<f64>,
    /// Wall time of the same products by `ggml_mul_mat` on F16.
    pub ggml_s: Vec<f64>,
}

/// A product: frozen matrix, its outputs, inner dimension, and columns of activations.
struct Product {
    frozen: Frozen,
    transposed: bool,
    outputs: usize,
    inner: usize,
    columns: usize,
}

/// Which kernel computes the products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    /// The run's own, on the run's own weights.
    Own,
    /// `ggml_mul_mat` on F16, ggml's fastest type here. Products of one shape share a matrix, which stays in cache
    /// better than a model would and so flatters the ceiling.
    GgmlF16,
}

/// The frozen products of one pass, alone in a graph.
pub(super) struct ProductsGraph {
    graph: Graph,
    _memory: GraphMemory,
    _buffer: Buffer,
    _context: Context,
    flop: f64,
}

impl ProductsGraph {
    pub(super) fn new(
        backend: &Backend,
        config: &Config,
        weights: &ModelWeights,
        shape: Shape,
        kernel: Kernel,
    ) -> Result<ProductsGraph, BackendError> {
        let products = products_of(config, weights, shape);
        let context = Context::new(2 * products.len(), 0)?;
        let graph = Graph::new(4 * products.len() + 16)?;
        // One tensor per size serves all products of that size, as in a step the input was just written.
        let mut tensors: Vec<Tensor> = Vec::new();
        let mut tensor = |kind, dims: [usize; 2]| {
            let known = tensors.iter().find(|t| t.kind() == kind && t.dims()[..2] == dims).copied();
            known.unwrap_or_else(|| {
                tensors.push(context.tensor(kind, &dims));
                tensors[tensors.len() - 1]
            })
        };
        let operands: Vec<(Tensor, Tensor, Option<Width>)> = products
            .iter()
            .map(|product| {
                let columns = tensor(F32, [product.inner, product.columns]);
                let matrix = match kernel {
                    Kernel::Own if product.transposed => weights.transposed(&graph, product.frozen),
                    Kernel::Own => weights.forward(&graph, product.frozen),
                    Kernel::GgmlF16 => tensor(F16, [product.inner, product.outputs]),
                };
                let widths = product.frozen.widths;
                let width = widths.map(|widths| if product.transposed { widths.transposed } else { widths.forward });
                let width = width.filter(|_| kernel == Kernel::Own);
                (matrix, columns, width)
            })
            .collect();
        let buffer = backend.allocate(&context, "operands of the products")?;
        let mut random = SplitMix::new(7);
        for tensor in tensors {
            let values: Vec<f32> = (0..tensor.elements()).map(|_| random.symmetric()).collect();
            let mut stored = vec![0; tensor.bytes()];
            ggml::encode(tensor.kind(), &values, tensor.dims()[0], &mut stored);
            tensor.write_bytes(&stored, 0);
        }
        let mut flop = 0.0;
        for (product, (matrix, columns, width)) in products.iter().zip(operands) {
            flop += 2.0 * (product.outputs * product.inner * product.columns) as f64;
            graph.run(if let Some(width) = width {
                let (dims, columns) = ([product.outputs, product.columns, 1, 1], cpu::stored(&graph, columns, width));
                cpu::sum_of_products(&graph, dims, None, &[Term { matrix, columns }])
            } else {
                graph.mul_mat(matrix, columns)
            });
        }
        let memory = GraphMemory::new(backend, &graph)?;
        Ok(ProductsGraph { graph, _memory: memory, _buffer: buffer, _context: context, flop })
    }

    pub(super) fn flop(&self) -> f64 {
        self.flop
    }

    /// Wall time of one run in seconds.
    pub(super) fn time(&self, backend: &Backend) -> Result<f64, BackendError> {
        let started = Instant::now();
        backend.compute(&self.graph)?;
        Ok(started.elapsed().as_secs_f64())
    }
}

/// Forward products of every layer and of the head, and the backward ones that a step needs.
fn products_of(config: &Config, weights: &ModelWeights, shape: Shape) -> Vec<Product> {
    let mut products = Vec::new();
    let mut both = |frozen: Frozen, (inner, outputs): (usize, usize), columns: usize, backward: bool| {
        products.push(Product { frozen, transposed: false, outputs, inner, columns });
        if backward {
            products.push(Product { frozen, transposed: true, outputs: inner, inner: outputs, columns });
        }
    };
    for layer in 0..config.layers {
        for (index, group) in Group::ALL.into_iter().enumerate() {
            // Behind the last attention only target places are computed, and below the first layer nothing is trained.
            let trimmed = layer + 1 == config.layers && index > 0;
            let columns = if trimmed { shape.targets } else { shape.tokens };
            for &matrix in config.group(group) {
                let frozen = weights.layers[layer].matrix(matrix);
                both(frozen, config.matrix_dims(matrix), columns, layer > 0 || index > 0);
            }
        }
    }
    for first in (0..shape.targets).step_by(shape.chunk) {
        both(weights.head, (config.width, config.vocab), shape.chunk.min(shape.targets - first), true);
    }
    products
}

/// Speed of `ggml_mul_mat` for one shape and storage type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TypeSpeed {
    /// Rows of the weight (outputs).
    pub outputs: usize,
    /// Inputs.
    pub inputs: usize,
    /// Columns of activations.
    pub columns: usize,
    /// Storage type.
    pub type_name: &'static str,
    /// Best of the samples, in 10^9 operations per second.
    pub gflop_s: f64,
}

/// Best speed of each product for each storage type and shape (outputs, inputs, columns), `samples` runs each: ggml's
/// own, and ours on panels of every width with the storing of the columns.
pub fn type_speeds(
    threads: usize,
    shapes: &[(usize, usize, usize)],
    samples: usize,
) -> Result<Vec<TypeSpeed>, BackendError> {
    let backend = Backend::cpu(threads)?;
    let mut speeds = Vec::new();
    for &(outputs, inputs, columns) in shapes {
        let mut time = |type_name, kind, dims: &[usize], fill: &dyn Fn(Tensor), ours: Option<Width>| {
            let context = Context::new(4, 0)?;
            let weight = context.tensor(kind, dims);
            let input = context.tensor(F32, &[inputs, columns]);
            let _buffer = backend.allocate(&context, "a product")?;
            fill(weight);
            let mut random = SplitMix::new(7);
            input.write(&(0..inputs * columns).map(|_| random.symmetric()).collect::<Vec<f32>>());
            let graph = Graph::new(4)?;
            graph.run(if let Some(width) = ours {
                let term = Term { matrix: weight, columns: cpu::stored(&graph, input, width) };
                cpu::sum_of_products(&graph, [outputs, columns, 1, 1], None, &[term])
            } else {
                graph.mul_mat(weight, input)
            });
            let _memory = GraphMemory::new(&backend, &graph)?;
            let mut best = f64::INFINITY;
            for _ in 0..samples {
                let started = Instant::now();
                backend.compute(&graph)?;
                best = best.min(started.elapsed().as_secs_f64());
            }
            let gflop_s = 2.0 * (outputs * inputs * columns) as f64 / best / 1e9;
            speeds.push(TypeSpeed { outputs, inputs, columns, type_name, gflop_s });
            Ok(())
        };
        for kind in [F32, F16, BF16, Q8_0, Q4_0, Q4_1] {
            let random_rows = |weight: Tensor| {
                let mut random = SplitMix::new(7);
                let values: Vec<f32> = (0..inputs * outputs).map(|_| random.symmetric()).collect();
                let mut stored = vec![0; weight.bytes()];
                ggml::encode(kind, &values, inputs, &mut stored);
                weight.write_bytes(&stored, 0);
            };
            time(ggml::type_name(kind), kind, &[inputs, outputs], &random_rows, None)?;
        }
        if let Some(isa) = Isa::best() {
            let rounded: &[_] = match isa {
                Isa::Avx2 => &[(Width::Narrow, "narrow")],
                Isa::Avx512 => &[(Width::Octet, "octet"), (Width::LongOctet, "octet, long")],
            };
            for &(width, name) in [(Width::Wide, "wide"), (Width::Nibble, "nibble")].iter().chain(rounded) {
                let (kind, dims) = cpu::packed_form(width, outputs, inputs);
                // Small bytes are small numbers, as integers and as scales.
                time(name, kind, &dims, &|weight| weight.write_bytes(&vec![1; weight.bytes()], 0), Some(width))?;
            }
        }
    }
    Ok(speeds)
}

/// Rounds of the peak loops; about 20 ms.
const PEAK_ROUNDS: usize = 4_000_000;

/// What `threads` threads multiply and add per second from registers alone, in 10^9 operations, a multiply-add being two:
/// the physical limits of kernels with the instructions that ours use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak {
    /// In F32.
    pub float_gop_s: f64,
    /// In the integers of the packed products.
    pub integer_gop_s: f64,
}

impl Peak {
    /// The best of `samples`; `None` where our kernels do not run.
    pub fn look(threads: usize, samples: usize) -> Option<Peak> {
        let isa = Isa::best()?;
        let best = |multiply: fn(Isa, usize) -> f64| {
            (0..samples).map(|_| rate(threads, &|| multiply(isa, PEAK_ROUNDS))).fold(0.0, f64::max)
        };
        Some(Peak { float_gop_s: best(cpu::multiply_floats), integer_gop_s: best(cpu::multiply_integers) })
    }

    /// The better of two looks: a shared machine is slower for moments.
    pub fn max(self, other: Peak) -> Peak {
        Peak {
            float_gop_s: self.float_gop_s.max(other.float_gop_s),
            integer_gop_s: self.integer_gop_s.max(other.integer_gop_s),
        }
    }
}

/// 10^9 of what `work` counts, per second, on so many threads.
fn rate(threads: usize, work: &(dyn Fn() -> f64 + Sync)) -> f64 {
    let started = Instant::now();
    let done: f64 = thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        all.into_iter().map(|thread| thread.join().expect("the loop does not panic")).sum()
    });
    done / started.elapsed().as_secs_f64() / 1e9
}
