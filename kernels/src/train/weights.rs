//! The weights in the forms that the graph wants: forward as the file has them or as copies, and transposed for
//! the gradient with respect to a layer's input. Built once at load, on all threads. Where the whole model is trained they are views of
//! the trained values, and every form is made anew in each pass.

mod build;

use crate::arch::{Config, Group, Matrix};
use crate::cpu::{self, Isa, Width};
use crate::ggml::{self, BF16, Backend, Buffer, Context, F16, F32, Graph, Q8_0, Tensor, Type};
use crate::gguf::{GgufFile, TensorInfo};

use build::{Form, Job, build};

use super::TrainError;
use super::lora::{Lora, Whole};
use super::params::{Tuning, Weights};

/// Forms of the frozen weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WeightForm {
    /// Panels for our own kernels, in the widths that fit the instructions ([`Widths::of`]): what the forward is off by shifts
    /// the loss and every gradient, what the transposed copy is off by only the gradients below it.
    Packed(Isa),
    /// The same panels, made of the file's own data each time they are needed: a third of the memory, the same bits.
    Streamed(Isa),
    /// ggml's types: the forward copies (`None` uses the file's own data) and the transposed ones.
    Ggml(Option<Type>, Type),
}

impl WeightForm {
    /// The forms for this CPU, the fastest first. Our kernels multiply integers, which is quicker than any product of ggml
    /// (docs/performance.md) and takes less memory than F16. Where they cannot run, F16 is ggml's
    /// quickest type with F16C, BF16 with AVX512-BF16, and without either only F32 is quick.
    pub(crate) fn candidates(backend: &Backend, weights: Weights, tuning: Tuning, config: &Config) -> Vec<WeightForm> {
        let has = |name| ggml::has_cpu_feature(backend, name);
        let packable = config
            .matrices()
            .map(|matrix| config.matrix_dims(matrix))
            .chain([(config.width, config.vocab)])
            .all(|(input, output)| cpu::fits(input) && cpu::fits(output));
        let packable = packable && cpu::fits_head(config.head_dim);
        let ours = Isa::best().filter(|_| packable);
        let small = ours.map_or(WeightForm::Ggml(None, Q8_0), WeightForm::Streamed);
        let fast = match ours {
            Some(isa) => WeightForm::Packed(isa),
            None if has("AVX512_BF16") => WeightForm::Ggml(Some(BF16), BF16),
            None if has("AVX2") && has("F16C") => WeightForm::Ggml(Some(F16), F16),
            None => WeightForm::Ggml(Some(F32), F32),
        };
        // Values that change have no copies: their panels are made anew in each pass.
        if tuning == Tuning::Full {
            let live = ours.map_or(WeightForm::Ggml(None, F32), WeightForm::Streamed);
            return vec![if weights == Weights::Exact { WeightForm::Ggml(None, F32) } else { live }];
        }
        match weights {
            Weights::Exact => vec![WeightForm::Ggml(Some(F32), F32)],
            Weights::Small => vec![small],
            Weights::Auto => vec![fast, small],
        }
    }

    /// What our own kernels compute with, if they do.
    pub(crate) fn ours(self) -> Option<Isa> {
        match self {
            WeightForm::Packed(isa) | WeightForm::Streamed(isa) => Some(isa),
            WeightForm::Ggml(..) => None,
        }
    }

    /// Widths of the panels of a matrix of `group` stored in `kind`, `None` being the head, if our own kernels compute.
    pub(crate) fn widths(self, kind: Type, group: Option<Group>) -> Option<Widths> {
        self.ours().map(|isa| Widths::of(isa, kind, group))
    }

    /// Whether panels are made on the way.
    pub(crate) fn streams(self) -> bool {
        matches!(self, WeightForm::Streamed(_))
    }

    /// For checkpoints: runs with the same name compute the same bits at equal threads.
    pub(crate) fn name(self) -> String {
        match self {
            WeightForm::Packed(isa) | WeightForm::Streamed(isa) => {
                let widths = match isa {
                    Isa::Avx2 => "forward=i4/i12 transposed=i8",
                    Isa::Avx512 => "forward=i4/u8/i12 transposed=u8",
                };
                format!("hone-cpu {} {widths}", isa.name())
            }
            WeightForm::Ggml(forward, transposed) => {
                let forward = forward.map_or("file", ggml::type_name);
                format!("ggml-cpu forward={forward} transposed={}", ggml::type_name(transposed))
            }
        }
    }

    /// Bytes of a matrix [input, output] of `group` stored in `kind`, forward (`None`: in the file) and transposed.
    pub(crate) fn matrix_bytes(
        self,
        (input, output): (usize, usize),
        kind: Type,
        group: Option<Group>,
    ) -> (Option<usize>, usize) {
        match self {
            WeightForm::Packed(isa) => {
                let widths = Widths::of(isa, kind, group);
                let forward = cpu::packed_bytes(widths.forward, output, input);
                (Some(forward), cpu::packed_bytes(widths.transposed, input, output))
            }
            WeightForm::Streamed(_) => (None, 0),
            WeightForm::Ggml(forward, transposed) => {
                (forward.map(|kind| ggml::row_bytes(kind, input) * output), ggml::row_bytes(transposed, output) * input)
            }
        }
    }
}

/// How the panels of a matrix hold its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Widths {
    pub(crate) forward: Width,
    pub(crate) transposed: Width,
}

impl Widths {
    /// For a matrix of `group` stored in `kind`, `None` being the head. The fewer bits the faster, but a file that is not
    /// quantised is not made so forward; and what queries and keys are off by is enlarged by the softmax behind them, so
    /// what reads attention's input is wide forward. In the gradient of logits a target's is a hundred times its neighbours', which asks for
    /// short blocks (docs/performance.md has the figures).
    pub(crate) fn of(isa: Isa, kind: Type, group: Option<Group>) -> Widths {
        let quantised = ggml::block_elements(kind) > 1;
        let forward = match (isa, group) {
            (_, Some(Group::AttentionInput)) => Width::Wide,
            _ if cpu::has_nibbles(kind) => Width::Nibble,
            (Isa::Avx512, _) if quantised => Width::Octet,
            _ => Width::Wide,
        };
        let transposed = match (isa, group) {
            (Isa::Avx2, _) => Width::Narrow,
            (Isa::Avx512, None) => Width::Octet,
            (Isa::Avx512, Some(_)) => Width::LongOctet,
        };
        Widths { forward, transposed }
    }
}

/// A frozen matrix [input, output] and its transposed copy [output, input], both as panels, or both the file's own
/// data where panels are made on the way ([`ModelWeights::forward`], [`ModelWeights::transposed`]).
#[derive(Clone, Copy)]
pub(crate) struct Frozen {
    forward: Tensor,
    transposed: Tensor,
    /// Of the panels, if our own kernels multiply.
    pub(crate) widths: Option<Widths>,
}

/// The frozen weights of one layer.
pub(crate) struct LayerWeights {
    pub(crate) attention_norm: Tensor,
    pub(crate) feed_forward_norm: Tensor,
    /// Norms of what attention and the feed-forward block add.
    pub(crate) post_norms: Option<[Tensor; 2]>,
    /// Norms of the heads of queries and keys.
    pub(crate) head_norms: Option<[Tensor; 2]>,
    matrices: [Option<Frozen>; Matrix::COUNT],
    biases: [Option<Tensor>; Matrix::COUNT],
}

impl LayerWeights {
    pub(crate) fn matrix(&self, matrix: Matrix) -> Frozen {
        self.matrices[matrix as usize].expect("every matrix of the architecture was loaded")
    }

    /// F32 [output].
    pub(crate) fn bias(&self, matrix: Matrix) -> Option<Tensor> {
        self.biases[matrix as usize]
    }
}

/// All frozen weights of a model.
pub(crate) struct ModelWeights {
    /// [width, vocab] in the file's type; rows are read, never multiplied unless it is also the head.
    pub(crate) embedding: Tensor,
    pub(crate) output_norm: Tensor,
    pub(crate) head: Frozen,
    /// F32 [rope_dims / 2].
    pub(crate) rope_factors: Option<Tensor>,
    /// Whether our own kernels multiply.
    pub(crate) packed: bool,
    /// Whether their panels are made on the way.
    streamed: bool,
    /// Where the whole model is trained.
    live: Option<Live>,
    pub(crate) layers: Vec<LayerWeights>,
    buffer: Buffer,
    _context: Context,
}

/// What the gradients of all values need.
struct Live {
    /// Of each weight, shaped like it.
    gradients: Vec<(Tensor, Tensor)>,
    /// F32 [1, n], n being the most rows of any norm: sums over rows are products with it.
    ones: Tensor,
}

/// The trained values of a whole model.
#[derive(Clone, Copy)]
pub(crate) struct WholeModel<'a> {
    pub(crate) lora: &'a Lora,
    /// Most rows that a norm has in a pass.
    pub(crate) rows_max: usize,
}

/// Describes tensors now; [`build`] fills them afterwards.
struct Planner<'a> {
    file: &'a GgufFile,
    context: Context,
    jobs: Vec<Job<'a>>,
    /// Where the whole model is trained.
    whole: Option<WholeModel<'a>>,
    gradients: Vec<(Tensor, Tensor)>,
}

impl<'a> Planner<'a> {
    fn info(&self, name: &str) -> Result<&'a TensorInfo, TrainError> {
        let info = self.file.require_tensor(name)?;
        if ggml::can_decode(info.type_id) {
            return Ok(info);
        }
        let problem = format!("storage type {} cannot be decoded; quantise the model to another type", info.type_name);
        Err(TrainError::Model { path: self.file.path.clone(), field: name.to_owned(), problem })
    }

    /// A tensor in type `kind`, or in the file's own; rows that are no whole number of blocks fall back to F32.
    fn rows(&mut self, name: &str, kind: Option<Type>, transposed: bool) -> Result<Tensor, TrainError> {
        let info = self.info(name)?;
        let (input, output) = (info.dim(0) as usize, info.dim(1) as usize);
        if let Some(whole) = self.whole.and_then(|whole| whole.lora.layout.whole_of(name).map(|of| (whole, of))) {
            return Ok(self.trained(info, whole.0, whole.1));
        }
        let (row, rows) = if transposed { (output, input) } else { (input, output) };
        let mut kind = kind.unwrap_or(info.type_id);
        if !row.is_multiple_of(ggml::block_elements(kind)) {
            kind = F32;
        }
        let tensor = self.context.tensor(kind, &[row, rows]);
        self.jobs.push(Job { info, tensor, form: Form::Rows { transposed } });
        Ok(tensor)
    }

    /// A view of the trained values, which are the file's at first, and one of their gradient.
    fn trained(&mut self, info: &'a TensorInfo, whole: WholeModel<'a>, of: &Whole) -> Tensor {
        let (input, output) = (info.dim(0) as usize, info.dim(1) as usize);
        let view = |flat: Tensor| self.context.view(flat, input, output, of.first);
        let (tensor, gradient) = (view(whole.lora.values), view(whole.lora.gradient));
        self.gradients.push((tensor, gradient));
        self.jobs.push(Job { info, tensor, form: Form::Rows { transposed: false } });
        tensor
    }

    fn panels(&mut self, name: &str, width: Width, transposed: bool) -> Result<Tensor, TrainError> {
        let info = self.info(name)?;
        let (input, output) = (info.dim(0) as usize, info.dim(1) as usize);
        let (outputs, inner) = if transposed { (input, output) } else { (output, input) };
        let (kind, dims) = cpu::packed_form(width, outputs, inner);
        let tensor = self.context.tensor(kind, &dims);
        self.jobs.push(Job { info, tensor, form: Form::Panels { width, transposed } });
        Ok(tensor)
    }

    fn frozen(&mut self, name: &str, group: Option<Group>, form: WeightForm) -> Result<Frozen, TrainError> {
        let kind = if self.whole.is_some() { F32 } else { self.info(name)?.type_id };
        let widths = form.widths(kind, group);
        if self.whole.is_some() {
            let rows = self.rows(name, None, false)?;
            return Ok(Frozen { forward: rows, transposed: rows, widths });
        }
        let (forward, transposed) = match (form, widths) {
            (WeightForm::Packed(_), Some(widths)) => {
                (self.panels(name, widths.forward, false)?, self.panels(name, widths.transposed, true)?)
            }
            (WeightForm::Ggml(forward, transposed), _) => {
                (self.rows(name, forward, false)?, self.rows(name, Some(transposed), true)?)
            }
            _ => {
                let rows = self.rows(name, None, false)?;
                (rows, rows)
            }
        };
        Ok(Frozen { forward, transposed, widths })
    }
}

impl Planner<'_> {
    fn norm(&mut self, layer: usize, stem: &str) -> Result<Tensor, TrainError> {
        self.rows(&format!("blk.{layer}.{stem}.weight"), Some(F32), false)
    }

    fn norms(&mut self, layer: usize, there: bool, stems: [&str; 2]) -> Result<Option<[Tensor; 2]>, TrainError> {
        if there { Ok(Some([self.norm(layer, stems[0])?, self.norm(layer, stems[1])?])) } else { Ok(None) }
    }

    fn layer(&mut self, config: &Config, layer: usize, form: WeightForm) -> Result<LayerWeights, TrainError> {
        let (mut matrices, mut biases) = ([None; Matrix::COUNT], [None; Matrix::COUNT]);
        for group in Group::ALL {
            for &matrix in config.group(group) {
                matrices[matrix as usize] = Some(self.frozen(&matrix.weight_name(layer), Some(group), form)?);
                if config.biases.contains(&matrix) {
                    biases[matrix as usize] = Some(self.rows(&matrix.bias_name(layer), Some(F32), false)?);
                }
            }
        }
        Ok(LayerWeights {
            attention_norm: self.norm(layer, "attn_norm")?,
            feed_forward_norm: self.norm(layer, "ffn_norm")?,
            post_norms: self.norms(layer, config.post_norms, ["post_attention_norm", "post_ffw_norm"])?,
            head_norms: self.norms(layer, config.head_norms, ["attn_q_norm", "attn_k_norm"])?,
            matrices,
            biases,
        })
    }
}

impl ModelWeights {
    /// Reads the tensors of `file` and builds the forms that `form` asks for, on `threads` threads.
    pub(crate) fn load(
        backend: &Backend,
        file: &GgufFile,
        config: &Config,
        form: WeightForm,
        whole: Option<WholeModel<'_>>,
        threads: usize,
    ) -> Result<ModelWeights, TrainError> {
        let tensors = 16 + 2 * config.layers * (6 + 3 * Matrix::COUNT);
        let (context, jobs) = (Context::new(tensors, 0)?, Vec::with_capacity(tensors));
        let mut planner = Planner { file, context, jobs, whole, gradients: Vec::new() };
        let ones = whole.map(|whole| planner.context.tensor(F32, &[1, whole.rows_max]));
        let embedding = planner.rows("token_embd.weight", None, false)?;
        let output_norm = planner.rows("output_norm.weight", Some(F32), false)?;
        let head = match form {
            _ if config.tied_head && whole.is_some() => {
                Frozen { forward: embedding, transposed: embedding, widths: form.widths(F32, None) }
            }
            WeightForm::Streamed(_) if config.tied_head => {
                let widths = form.widths(embedding.kind(), None);
                Frozen { forward: embedding, transposed: embedding, widths }
            }
            WeightForm::Ggml(None, transposed) if config.tied_head => {
                let transposed = planner.rows(config.head_name(), Some(transposed), true)?;
                Frozen { forward: embedding, transposed, widths: None }
            }
            _ => planner.frozen(config.head_name(), None, form)?,
        };
        let rope_factors =
            if config.rope_factors { Some(planner.rows("rope_freqs.weight", Some(F32), false)?) } else { None };
        let mut layers = Vec::with_capacity(config.layers);
        for layer in 0..config.layers {
            layers.push(planner.layer(config, layer, form)?);
        }
        let Planner { context, jobs, gradients, .. } = planner;
        let buffer = backend.allocate(&context, "the frozen weights")?;
        build(file, &jobs, threads)?;
        let live = ones.map(|ones| {
            ones.write(&vec![1.0f32; ones.elements()]);
            Live { gradients, ones }
        });
        Ok(ModelWeights {
            embedding,
            output_norm,
            head,
            rope_factors,
            packed: form.ours().is_some(),
            streamed: form.streams(),
            live,
            layers,
            buffer,
            _context: context,
        })
    }

    /// The matrix as forward products want it.
    pub(crate) fn forward(&self, graph: &Graph, frozen: Frozen) -> Tensor {
        match frozen.widths {
            Some(widths) if self.streamed => cpu::packed(graph, frozen.forward, widths.forward, false),
            _ => frozen.forward,
        }
    }

    /// The matrix as products for the gradient of their input want it.
    pub(crate) fn transposed(&self, graph: &Graph, frozen: Frozen) -> Tensor {
        match frozen.widths {
            Some(widths) if self.streamed => cpu::packed(graph, frozen.transposed, widths.transposed, true),
            // A copy would be of values that are no more.
            _ if self.live.is_some() => graph.cont(graph.transpose(frozen.transposed)),
            _ => frozen.transposed,
        }
    }

    /// Where the whole model is trained: the gradient of a weight, shaped like it, to add to.
    pub(crate) fn gradient(&self, weight: Tensor) -> Option<Tensor> {
        let live = self.live.as_ref()?;
        live.gradients.iter().find(|(known, _)| *known == weight).map(|(_, gradient)| *gradient)
    }

    /// The same of a matrix.
    pub(crate) fn matrix_gradient(&self, matrix: Frozen) -> Option<Tensor> {
        self.gradient(matrix.forward)
    }

    /// F32 [1, rows] of ones; only where the whole model is trained.
    pub(crate) fn ones(&self, graph: &Graph, rows: usize) -> Tensor {
        let live = self.live.as_ref().expect("asked for beside a gradient");
        graph.view_2d(live.ones, 1, rows, 1, 0)
    }

    /// Whether the whole model is trained.
    pub(crate) fn trains_all(&self) -> bool {
        self.live.is_some()
    }

    /// Bytes of memory taken.
    pub(crate) fn bytes(&self) -> usize {
        self.buffer.bytes()
    }
}
