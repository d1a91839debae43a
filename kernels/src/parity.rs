//! Whether a device computes what the CPU computes: every operation that a training graph is made of, on seeded values,
//! on both, compared node by node; and how fast the device multiplies. Never here: custom CPU kernels (they have
//! their own tests against ggml) and whole models.

use std::time::Instant;

use serde::Serialize;

use crate::ggml::{
    self, BF16, Backend, BackendError, Buffer, Context, Device, F16, F32, Graph, GraphMemory, I32, I64, Q4_0, Q4_1,
    Q8_0, Rope, Tensor, Type,
};
use crate::train::SplitMix;

/// Width, tokens and head of the operands: those of a 135M model at 128 tokens, a size that no kernel's block divides
/// evenly in all directions.
const WIDTH: usize = 576;
const HEAD: usize = 64;
const HEADS: usize = 9;
const TOKENS: usize = 128;
const VOCAB: usize = 2048;
/// Both squared: differences to reference, for F32 arithmetic in another order and for operands rounded on the way.
const EXACT: f64 = 1e-7;
const ROUNDED: f64 = 5e-4;

/// How a device did in one operation.
#[derive(Debug, Clone, Serialize)]
pub struct Parity {
    /// The operation, with the type of its weights where that matters.
    pub operation: String,
    /// Whether the device says that it can run every node of it.
    pub supported: bool,
    /// Sum of squared differences over the sum of squares of the reference. None where it is not supported.
    pub error: Option<f64>,
    /// The most that counts as the same.
    pub error_max: f64,
    /// Whether the error is a number and not past it. False where it is not supported.
    pub same: bool,
}

/// How fast a device multiplies in one storage type.
#[derive(Debug, Clone, Serialize)]
pub struct Speed {
    /// Storage type of the weights.
    pub weights: String,
    /// Outputs, inputs and columns of the product.
    pub shape: [usize; 3],
    /// Whether the device runs it; if not, there is no figure.
    pub supported: bool,
    /// Seconds of one product, best of the samples.
    pub seconds: Option<f64>,
    /// 10^12 operations a second, a multiply-add being two.
    pub tflop_s: Option<f64>,
}

/// What an operand holds.
#[derive(Debug, Clone, Copy)]
enum Fill {
    /// Values in [-1, 1].
    Values,
    /// Values in [0.5, 1.5].
    Positive,
    /// 0, 1, 2, ...
    Positions,
    /// Indices below this, none twice.
    Indices(usize),
    /// A causal mask.
    Mask,
    /// Rows that sum to one.
    Probabilities,
    /// The seven numbers of an AdamW step.
    AdamW,
}

type Operand = (Type, [usize; 4], Fill);
type Build = Box<dyn Fn(&Graph, &[Tensor]) -> Tensor>;

struct Case {
    operation: String,
    operands: Vec<Operand>,
    build: Build,
    error_max: f64,
}

fn case(
    operation: &str,
    error_max: f64,
    operands: &[Operand],
    build: impl Fn(&Graph, &[Tensor]) -> Tensor + 'static,
) -> Case {
    Case { operation: operation.to_owned(), operands: operands.to_vec(), build: Box::new(build), error_max }
}

const STATES: Operand = (F32, [WIDTH, TOKENS, 1, 1], Fill::Values);
const SCORES: Operand = (F32, [TOKENS, TOKENS, HEADS, 1], Fill::Values);
const ROTATED: Operand = (F32, [HEAD, HEADS, TOKENS, 1], Fill::Values);
const POSITIONS: Operand = (I32, [TOKENS, 1, 1, 1], Fill::Positions);

/// The operations of training, one case each; those with weights once for each storage type.
fn cases() -> Vec<Case> {
    let mut all = products();
    all.extend(elementwise());
    all.extend(attention());
    all.extend(rows());
    all.extend(optimiser());
    all
}

fn products() -> Vec<Case> {
    let mut all = Vec::new();
    for kind in [F32, F16, BF16, Q8_0, Q4_0, Q4_1] {
        let name = format!("mul_mat {}", ggml::type_name(kind));
        let weight = (kind, [WIDTH, 3 * WIDTH, 1, 1], Fill::Values);
        all.push(case(&name, ROUNDED, &[weight, STATES], |graph, x| graph.mul_mat(x[0], x[1])));
        // The backward product needs the transpose: decoded, then turned, for one layer at a time.
        let name = format!("mul_mat transposed {}", ggml::type_name(kind));
        let gradient = (F32, [3 * WIDTH, TOKENS, 1, 1], Fill::Values);
        let identity = (I32, [3 * WIDTH, 1, 1, 1], Fill::Positions);
        all.push(case(&name, ROUNDED, &[weight, gradient, identity], |graph, x| {
            let decoded = graph.get_rows(x[0], x[2]);
            graph.mul_mat(graph.cont(graph.transpose(decoded)), x[1])
        }));
    }
    let grouped = [(F32, [HEAD, TOKENS, 3, 1], Fill::Values), (F32, [HEAD, TOKENS, HEADS, 1], Fill::Values)];
    all.push(case("mul_mat grouped heads", ROUNDED, &grouped, |graph, x| graph.mul_mat(x[0], x[1])));
    all.push(case("out_prod f32", ROUNDED, &[STATES, STATES], |graph, x| graph.out_prod(x[0], x[1])));
    all
}

fn elementwise() -> Vec<Case> {
    let scale = (F32, [WIDTH, 1, 1, 1], Fill::Positive);
    let positive = (F32, STATES.1, Fill::Positive);
    vec![
        case("add", EXACT, &[STATES, STATES], |graph, x| graph.add(x[0], x[1])),
        case("add broadcast", EXACT, &[STATES, scale], |graph, x| graph.add(x[0], x[1])),
        case("add_inplace", EXACT, &[STATES, STATES], |graph, x| graph.add_inplace(x[0], x[1])),
        case("mul broadcast", EXACT, &[STATES, scale], |graph, x| graph.mul(x[0], x[1])),
        case("scale", EXACT, &[STATES], |graph, x| graph.scale(x[0], 0.3)),
        case("scale_bias", EXACT, &[STATES], |graph, x| graph.scale_bias(x[0], 0.3, 1.5)),
        case("silu", EXACT, &[STATES], |graph, x| graph.silu(x[0])),
        case("silu_back", EXACT, &[STATES, STATES], |graph, x| graph.silu_back(x[0], x[1])),
        case("swiglu", EXACT, &[STATES, STATES], |graph, x| graph.swiglu(x[0], x[1])),
        case("sigmoid", EXACT, &[STATES], |graph, x| graph.sigmoid(x[0])),
        case("tanh", EXACT, &[STATES], |graph, x| graph.tanh(x[0])),
        case("log", EXACT, &[positive], |graph, x| graph.log(x[0])),
        case("rms_norm", EXACT, &[STATES], |graph, x| graph.rms_norm(x[0], 1e-5)),
        case("rms_norm_back", EXACT, &[STATES, STATES], |graph, x| graph.rms_norm_back(x[0], x[1], 1e-5)),
    ]
}

fn attention() -> Vec<Case> {
    let probabilities = (F32, SCORES.1, Fill::Probabilities);
    let mut all = vec![
        case("soft_max", EXACT, &[SCORES], |graph, x| graph.soft_max(x[0])),
        case("soft_max_back", EXACT, &[SCORES, probabilities], |graph, x| graph.soft_max_back(x[0], x[1], 0.125)),
        case("concat", EXACT, &[STATES, STATES], |graph, x| graph.concat(x[0], x[1])),
        case("permute and cont", EXACT, &[ROTATED], |graph, x| graph.cont(graph.permute(x[0], [0, 2, 1, 3]))),
    ];
    for kind in [F32, F16] {
        let mask = (kind, [TOKENS, TOKENS, 1, 1], Fill::Mask);
        let name = format!("soft_max_ext mask {}", ggml::type_name(kind));
        all.push(case(&name, EXACT, &[SCORES, mask], |graph, x| graph.soft_max_masked(x[0], x[1], 0.125)));
    }
    for (mode, pairs) in [(0, "neighbours"), (2, "halves")] {
        let rope = Rope { dims: HEAD, mode, base: 10_000.0, scale: 1.0 };
        let factors = (F32, [HEAD / 2, 1, 1, 1], Fill::Positive);
        let name = |what: &str| format!("{what} {pairs}");
        let operands = [ROTATED, POSITIONS];
        all.push(case(&name("rope"), EXACT, &operands, move |g, x| g.rope(x[0], x[1], None, rope)));
        all.push(case(&name("rope_back"), EXACT, &operands, move |g, x| g.rope_back(x[0], x[1], None, rope)));
        let operands = [ROTATED, POSITIONS, factors];
        all.push(case(&name("rope factors"), EXACT, &operands, move |g, x| g.rope(x[0], x[1], Some(x[2]), rope)));
    }
    all
}

fn rows() -> Vec<Case> {
    let chosen = (I32, [TOKENS, 1, 1, 1], Fill::Indices(VOCAB));
    let places = (I64, [TOKENS, 1, 1, 1], Fill::Indices(VOCAB));
    let table = (F32, [WIDTH, VOCAB, 1, 1], Fill::Values);
    let mut all = vec![
        case("get_rows_back", EXACT, &[STATES, chosen, table], |graph, x| graph.get_rows_back(x[0], x[1], x[2])),
        case("set_rows", EXACT, &[table, STATES, places], |graph, x| graph.set_rows(x[0], x[1], x[2])),
        case("cpy f32", EXACT, &[STATES, STATES], |graph, x| graph.copy(x[0], x[1])),
    ];
    for kind in [F32, F16, Q8_0, Q4_0, Q4_1] {
        let table = (kind, table.1, Fill::Values);
        let name = format!("get_rows {}", ggml::type_name(kind));
        all.push(case(&name, EXACT, &[table, chosen], |graph, x| graph.get_rows(x[0], x[1])));
    }
    for kind in [F16, BF16] {
        let name = format!("cpy f32 to {} and back", ggml::type_name(kind));
        let operands = [STATES, (kind, STATES.1, Fill::Values), STATES];
        all.push(case(&name, EXACT, &operands, |graph, x| graph.copy(graph.copy(x[0], x[1]), x[2])));
    }
    all
}

fn optimiser() -> Vec<Case> {
    let second = (F32, STATES.1, Fill::Positive);
    let numbers = (F32, [7, 1, 1, 1], Fill::AdamW);
    let step = |graph: &Graph, x: &[Tensor]| {
        graph.mark_parameter(x[0]);
        graph.adamw(x[0], x[1], x[2], x[3], x[4])
    };
    vec![case("opt_step_adamw", EXACT, &[STATES, STATES, STATES, second, numbers], step)]
}

/// A case on one device, ready to run. Fields are freed in their order: memory before what it belongs to.
struct Ready {
    output: Tensor,
    _memory: GraphMemory,
    _buffer: Buffer,
    graph: Graph,
    _context: Context,
}

impl Ready {
    /// None when the device does not support a node.
    fn new(backend: &Backend, case: &Case) -> Result<Option<Ready>, BackendError> {
        let context = Context::new(case.operands.len() + 1, 0)?;
        let tensors: Vec<Tensor> = case.operands.iter().map(|&(kind, dims, _)| context.tensor(kind, &dims)).collect();
        let buffer = backend.allocate(&context, "the operands of a comparison")?;
        for (index, (tensor, &(_, _, fill))) in tensors.iter().zip(&case.operands).enumerate() {
            write(*tensor, fill, index as u64 + 1);
        }
        let graph = Graph::new(16)?;
        let output = (case.build)(&graph, &tensors);
        graph.keep(output);
        graph.run(output);
        if graph.nodes().iter().any(|(_, node)| !backend.supports(*node)) {
            return Ok(None);
        }
        let memory = GraphMemory::new(backend, &graph)?;
        Ok(Some(Ready { output, _memory: memory, _buffer: buffer, graph, _context: context }))
    }

    fn run(&self, backend: &Backend) -> Result<Vec<f32>, BackendError> {
        backend.compute(&self.graph)?;
        Ok(self.output.to_vec())
    }
}

fn write(tensor: Tensor, fill: Fill, seed: u64) {
    let count = tensor.elements();
    let mut random = SplitMix::new(seed);
    let row = tensor.dims()[0];
    let values: Vec<f32> = match fill {
        Fill::Positions => return write_indices(tensor, (0..count).collect()),
        // An odd step visits every index of a power of two once before it repeats.
        Fill::Indices(below) => return write_indices(tensor, (0..count).map(|at| (at * 77 + 5) % below).collect()),
        Fill::Values => (0..count).map(|_| random.symmetric()).collect(),
        Fill::Positive => (0..count).map(|_| 1.0 + random.symmetric() / 2.0).collect(),
        Fill::Mask => (0..count).map(|at| if at % row > at / row { f32::NEG_INFINITY } else { 0.0 }).collect(),
        Fill::Probabilities => {
            let weights: Vec<f32> = (0..count).map(|_| 1.0 + random.symmetric() / 2.0).collect();
            weights.chunks(row).flat_map(|row| row.iter().map(|w| w / row.iter().sum::<f32>())).collect()
        }
        // Rate, the two decays of the moments, epsilon, weight decay, and the two corrections of the first step.
        Fill::AdamW => vec![1e-3, 0.9, 0.999, 1e-8, 0.01, 10.0, 1000.0],
    };
    let mut stored = vec![0; tensor.bytes()];
    ggml::encode(tensor.kind(), &values, row, &mut stored);
    tensor.write_bytes(&stored, 0);
}

fn write_indices(tensor: Tensor, indices: Vec<usize>) {
    if tensor.kind() == I64 {
        tensor.write(&indices.iter().map(|&index| index as i64).collect::<Vec<_>>());
    } else {
        tensor.write(&indices.iter().map(|&index| index as i32).collect::<Vec<_>>());
    }
}

/// Sum of squared differences over the sum of squares of `reference`.
fn error_of(reference: &[f32], found: &[f32]) -> f64 {
    let square = |value: f64| value * value;
    let differences: f64 = reference.iter().zip(found).map(|(&r, &f)| square(f64::from(r) - f64::from(f))).sum();
    let size: f64 = reference.iter().map(|&value| square(f64::from(value))).sum();
    if differences == 0.0 { 0.0 } else { differences / size }
}

/// Runs every operation on the CPU with one thread and on `device`, and compares, from the one with number `first` on.
/// `begins` is told each before it runs and `ends` what came of it: a driver may end the process between the two.
pub fn compare(
    device: &Device,
    threads: usize,
    first: usize,
    begins: impl Fn(&str),
    mut ends: impl FnMut(Parity),
) -> Result<(), BackendError> {
    let reference = Backend::cpu(1)?;
    let backend = Backend::open(device, threads)?;
    for case in cases().into_iter().skip(first) {
        begins(&case.operation);
        let expected = Ready::new(&reference, &case)?;
        let found = Ready::new(&backend, &case)?;
        let error = match (expected, found) {
            (Some(expected), Some(found)) => Some(error_of(&expected.run(&reference)?, &found.run(&backend)?)),
            _ => None,
        };
        ends(Parity {
            supported: error.is_some(),
            same: error.is_some_and(|error| error <= case.error_max),
            operation: case.operation,
            error,
            error_max: case.error_max,
        });
    }
    Ok(())
}

/// Times products of `shape` (outputs, inputs, columns) for each storage type, best of `samples` after one to warm up.
pub fn speeds(device: &Device, threads: usize, shape: [usize; 3], samples: usize) -> Result<Vec<Speed>, BackendError> {
    let backend = Backend::open(device, threads)?;
    let [outputs, inputs, columns] = shape;
    let mut all = Vec::new();
    for kind in [F32, F16, BF16, Q8_0, Q4_0, Q4_1] {
        let weight = (kind, [inputs, outputs, 1, 1], Fill::Values);
        let input = (F32, [inputs, columns, 1, 1], Fill::Values);
        let product = case("product", ROUNDED, &[weight, input], |graph, x| graph.mul_mat(x[0], x[1]));
        let seconds = match Ready::new(&backend, &product)? {
            Some(ready) => Some(best_of(&backend, &ready, samples)?),
            None => None,
        };
        let operations = 2.0 * (outputs * inputs * columns) as f64;
        all.push(Speed {
            weights: ggml::type_name(kind).to_owned(),
            shape,
            supported: seconds.is_some(),
            seconds,
            tflop_s: seconds.map(|seconds| operations / seconds / 1e12),
        });
    }
    Ok(all)
}

fn best_of(backend: &Backend, ready: &Ready, samples: usize) -> Result<f64, BackendError> {
    backend.compute(&ready.graph)?;
    let mut best = f64::INFINITY;
    for _ in 0..samples {
        let started = Instant::now();
        backend.compute(&ready.graph)?;
        best = best.min(started.elapsed().as_secs_f64());
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_agrees_with_itself_in_every_operation() {
        let devices = ggml::devices();
        let cpu = ggml::choose(&devices, Some("CPU")).unwrap();
        let mut results = Vec::new();
        compare(&cpu, 2, 0, |_| (), |result| results.push(result)).unwrap();
        assert!(results.len() > 40, "{}", results.len());
        let wrong: Vec<_> = results.iter().filter(|result| !result.same).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn a_difference_is_seen() {
        assert_eq!(error_of(&[1.0, 2.0], &[1.0, 2.0]), 0.0);
        assert!(error_of(&[1.0, 2.0], &[1.0, 2.1]) > EXACT);
        assert!(error_of(&[0.0, 0.0], &[0.0, 0.1]) > ROUNDED);
        // Not a number is no agreement.
        assert!(error_of(&[1.0], &[f32::NAN]).is_nan());
    }
}
