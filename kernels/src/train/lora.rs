//! The trained parameters: every A and B^T of the run, or every tensor of the model, as views of one flat F32 buffer, with
//! gradient and moments in the same layout. One optimiser operation and one norm serve them all, and a checkpoint is three flat files.
//!
//! Layout, per layer: for each group of matrices that read the same input, the A matrices [input, rank] of its
//! adapted members one after the other (so that one product serves the group), then their B^T matrices
//! [output, rank]. The weight change is (alpha / rank) B A (<https://arxiv.org/abs/2106.09685>).

use crate::arch::{Config, Group, Matrix};
use crate::ggml::{self, Backend, BackendError, Buffer, Context, F16, F32, Graph, GraphMemory, Tensor};
use crate::gguf::{GgufFile, GgufWriter, Value};

use super::packing::SplitMix;
use super::params::TrainParams;

/// Row length of the flat buffers; ggml's optimiser shares rows among threads.
const FLAT_ROW: usize = 1024;
/// AdamW's decay of the first moment.
const BETA1: f64 = 0.9;
/// AdamW's decay of the second moment.
const BETA2: f64 = 0.999;
/// Added to the root of the second moment.
const EPSILON: f32 = 1e-8;

/// One adapted matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Adapter {
    pub(crate) matrix: Matrix,
    pub(crate) layer: usize,
    pub(crate) input: usize,
    pub(crate) output: usize,
    /// First value of A in the flat buffers.
    pub(crate) a: usize,
    /// First value of B^T in the flat buffers.
    pub(crate) b: usize,
}

/// The adapted members of one group of one layer.
#[derive(Debug, Clone, Default)]
pub(crate) struct GroupAdapters {
    pub(crate) members: Vec<Adapter>,
}

impl GroupAdapters {
    /// Position of `matrix` among the adapted members.
    pub(crate) fn position(&self, matrix: Matrix) -> Option<usize> {
        self.members.iter().position(|adapter| adapter.matrix == matrix)
    }
}

/// A tensor of the model whose values are all trained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) name: String,
    /// Fastest first.
    pub(crate) dims: Vec<u64>,
    /// First value in the flat buffers.
    pub(crate) first: usize,
    pub(crate) values: usize,
}

/// Which matrices are adapted, or which tensors are trained whole, and where their values lie.
#[derive(Debug, Clone)]
pub(crate) struct LoraLayout {
    pub(crate) rank: usize,
    /// The adapter's output is multiplied by this / rank, which is what llama.cpp does with the number in the file.
    pub(crate) alpha: f32,
    groups: Vec<[GroupAdapters; 4]>,
    /// Every tensor of the model, in the file's order, where all of it is trained; then no group has adapters.
    pub(crate) whole: Vec<Whole>,
    /// Number of trained values.
    pub(crate) values: usize,
}

impl LoraLayout {
    pub(crate) fn new(config: &Config, params: &TrainParams) -> LoraLayout {
        let rank = params.rank as usize;
        let mut values = 0;
        let mut groups = Vec::with_capacity(config.layers);
        for layer in 0..config.layers {
            groups.push(Group::ALL.map(|group| {
                let chosen = |matrix: &&Matrix| matrix.parts().iter().all(|part| params.targets.contains(part));
                let mut members: Vec<Adapter> = config
                    .group(group)
                    .iter()
                    .filter(chosen)
                    .map(|&matrix| {
                        let (input, output) = config.matrix_dims(matrix);
                        Adapter { matrix, layer, input, output, a: 0, b: 0 }
                    })
                    .collect();
                for adapter in &mut members {
                    adapter.a = values;
                    values += adapter.input * rank;
                }
                for adapter in &mut members {
                    adapter.b = values;
                    values += adapter.output * rank;
                }
                GroupAdapters { members }
            }));
        }
        let alpha = if params.rank_stabilised { params.alpha * (rank as f32).sqrt() } else { params.alpha };
        LoraLayout { rank, alpha, groups, whole: Vec::new(), values }
    }

    /// The layout of a run that trains every tensor of `file`, but for the fixed factors of the rotation.
    pub(crate) fn full(file: &GgufFile, config: &Config) -> LoraLayout {
        let mut values = 0;
        let trained = file.tensors.iter().filter(|tensor| tensor.name != "rope_freqs.weight");
        let whole = trained.map(|tensor| {
            let count = tensor.elements() as usize;
            let dims = tensor.dims.clone();
            let whole = Whole { name: tensor.name.clone(), dims, first: values, values: count };
            // Every tensor begins at a cache line, as vector instructions like it.
            values += count.next_multiple_of(16);
            whole
        });
        let whole = whole.collect();
        let groups = (0..config.layers).map(|_| Default::default()).collect();
        LoraLayout { rank: 1, alpha: 1.0, groups, whole, values }
    }

    /// Where a tensor that is trained whole lies.
    pub(crate) fn whole_of(&self, name: &str) -> Option<&Whole> {
        self.whole.iter().find(|whole| whole.name == name)
    }

    pub(crate) fn group(&self, layer: usize, group: Group) -> &GroupAdapters {
        &self.groups[layer][group as usize]
    }

    pub(crate) fn adapters(&self) -> impl Iterator<Item = &Adapter> {
        self.groups.iter().flatten().flat_map(|group| group.members.iter())
    }

    /// Factor on the adapters' output.
    pub(crate) fn scale(&self) -> f32 {
        self.alpha / self.rank as f32
    }

    /// Values of the flat buffers, with padding.
    pub(crate) fn padded(&self) -> usize {
        self.values.next_multiple_of(FLAT_ROW)
    }

    /// Adds an adapter of these values and the metadata that llama.cpp reads to `writer`.
    pub(crate) fn describe(&self, values: &[f32], architecture: &str, writer: &mut GgufWriter) {
        writer
            .meta("general.type", Value::Str("adapter".to_owned()))
            .meta("general.architecture", Value::Str(architecture.to_owned()))
            .meta("adapter.type", Value::Str("lora".to_owned()))
            .meta("adapter.lora.alpha", Value::F32(self.alpha));
        self.describe_values(values, writer);
    }

    /// Adds the trained tensors of a whole model: matrices as F16, all else as F32.
    pub(crate) fn describe_model(&self, values: &[f32], writer: &mut GgufWriter) {
        for whole in &self.whole {
            let values = &values[whole.first..][..whole.values];
            if whole.dims.len() < 2 || whole.dims[1] == 1 {
                writer.tensor_f32(&whole.name, &whole.dims, values);
                continue;
            }
            let row = whole.dims[0] as usize;
            let mut encoded = vec![0; ggml::row_bytes(F16, row) * (values.len() / row)];
            ggml::encode(F16, values, row, &mut encoded);
            writer.tensor(&whole.name, &whole.dims, F16, encoded);
        }
    }

    /// Adds flat values as tensors: `lora_a` [input, rank] and `lora_b` [rank, output], F32.
    pub(crate) fn describe_values(&self, values: &[f32], writer: &mut GgufWriter) {
        let rank = self.rank;
        for adapter in self.adapters() {
            let name = adapter.matrix.weight_name(adapter.layer);
            let a = &values[adapter.a..][..adapter.input * rank];
            let b_turned = &values[adapter.b..][..adapter.output * rank];
            let b: Vec<f32> =
                (0..adapter.output * rank).map(|at| b_turned[(at % rank) * adapter.output + at / rank]).collect();
            writer.tensor_f32(&format!("{name}.lora_a"), &[adapter.input as u64, rank as u64], a);
            writer.tensor_f32(&format!("{name}.lora_b"), &[rank as u64, adapter.output as u64], &b);
        }
    }

    /// First values of a run: A uniform in +-1/sqrt(input) (as PEFT's Kaiming initialisation comes out), B zero, so
    /// that the first step starts at the base model.
    pub(crate) fn initial(&self, seed: u64) -> Vec<f32> {
        let mut values = vec![0.0; self.padded()];
        let mut random = SplitMix::new(seed ^ 0x6c6f_7261);
        for adapter in self.adapters() {
            let bound = 1.0 / (adapter.input as f32).sqrt();
            for value in &mut values[adapter.a..][..adapter.input * self.rank] {
                *value = random.symmetric() * bound;
            }
        }
        values
    }
}

/// The flat buffers and the optimiser.
pub(crate) struct Lora {
    pub(crate) layout: LoraLayout,
    /// F32 [FLAT_ROW, rows] each.
    pub(crate) values: Tensor,
    pub(crate) gradient: Tensor,
    pub(crate) first_moment: Tensor,
    pub(crate) second_moment: Tensor,
    numbers: Tensor,
    factor: Tensor,
    host: Vec<f32>,
    update: Graph,
    memory: GraphMemory,
    buffer: Buffer,
    _context: Context,
}

impl Lora {
    pub(crate) fn new(backend: &Backend, layout: LoraLayout, seed: u64) -> Result<Lora, BackendError> {
        let context = Context::new(8, 0)?;
        let flat = || context.tensor(F32, &[FLAT_ROW, layout.padded() / FLAT_ROW]);
        let (values, gradient, first_moment, second_moment) = (flat(), flat(), flat(), flat());
        let (numbers, factor) = (context.tensor(F32, &[7]), context.tensor(F32, &[1]));
        let buffer = backend.allocate(&context, "adapter, gradient and moments")?;
        values.write(&layout.initial(seed));
        gradient.clear();
        first_moment.clear();
        second_moment.clear();
        let update = Graph::new(16)?;
        update.mark_parameter(values);
        update.run(update.adamw(values, update.mul(gradient, factor), first_moment, second_moment, numbers));
        let memory = GraphMemory::new(backend, &update)?;
        let host = vec![0.0; layout.padded()];
        Ok(Lora {
            layout,
            values,
            gradient,
            first_moment,
            second_moment,
            numbers,
            factor,
            host,
            update,
            memory,
            buffer,
            _context: context,
        })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.buffer.bytes() + self.memory.bytes() + size_of_val(self.host.as_slice())
    }

    /// Euclidean norm of the whole gradient, summed in F64.
    pub(crate) fn gradient_norm(&mut self) -> f64 {
        self.gradient.read(&mut self.host);
        // Four sums of fixed membership let the processor overlap them without making the order depend on anything.
        let mut sums = [0.0f64; 4];
        for four in self.host.chunks_exact(4) {
            for (sum, &value) in sums.iter_mut().zip(four) {
                *sum += f64::from(value) * f64::from(value);
            }
        }
        sums.iter().sum::<f64>().sqrt()
    }

    /// One AdamW update (<https://arxiv.org/abs/1711.05101>). `updates` counts this one. The gradient is the flat buffer
    /// times `mean`; `norm` is its norm, and if it is longer than `clip_norm` (if not 0) it is scaled down to it.
    pub(crate) fn update(
        &self,
        backend: &Backend,
        updates: u64,
        learning_rate: f32,
        params: &TrainParams,
        norm: f64,
        mean: f64,
    ) -> Result<(), BackendError> {
        let limit = f64::from(params.clip_norm);
        let clip = if limit > 0.0 && norm > limit { limit / norm } else { 1.0 };
        let correction = |beta: f64| (1.0 / (1.0 - beta.powf(updates as f64))) as f32;
        self.factor.write(&[(clip * mean) as f32]);
        self.numbers.write(&[
            learning_rate,
            BETA1 as f32,
            BETA2 as f32,
            EPSILON,
            params.weight_decay,
            correction(BETA1),
            correction(BETA2),
        ]);
        backend.compute(&self.update)
    }
}
