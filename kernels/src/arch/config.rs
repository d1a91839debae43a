//! The sizes and numbers of one model, read from its metadata and checked against its tensors. Everything that the
//! blocks ask is here, so that they never look at an architecture. Nothing here computes.

use std::collections::HashSet;

use crate::gguf::{Array, GgufError, GgufFile, TensorInfo, Value};

use super::{Activation, Arch, ArchError, Group, LAYERS_MAX, Matrix, Projection, RopePairs};

/// Layers that see only the last keys of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalAttention {
    /// Keys that a query sees, its own included.
    pub keys: usize,
    /// Which layers, one entry each.
    pub layers: Vec<bool>,
    /// Base of their rotary frequencies.
    pub rope_base: f32,
    /// Their factor on positions.
    pub rope_scale: f32,
}

/// One model.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Number of layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Width inside the feed-forward block.
    pub feed_forward: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Values per head.
    pub head_dim: usize,
    /// How rotary embedding pairs values.
    pub rope: RopePairs,
    /// Values of a head that are rotated.
    pub rope_dims: usize,
    /// Base of the rotary frequencies.
    pub rope_base: f32,
    /// Factor on positions (1 / linear scaling factor).
    pub rope_scale: f32,
    /// Whether the file has per-frequency divisors (`rope_freqs.weight`).
    pub rope_factors: bool,
    /// Added under the root in RMS norm.
    pub norm_eps: f32,
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// Positions that the model was made for.
    pub context_tokens: usize,
    /// Whether the output head is the embedding matrix.
    pub tied_head: bool,
    /// What the gate goes through.
    pub activation: Activation,
    /// Whether Q, K and V are one matrix, and gate and up another.
    pub fused: bool,
    /// Whether what a block adds is normed first.
    pub post_norms: bool,
    /// Whether heads of queries and keys are normed.
    pub head_norms: bool,
    /// Matrices that have a bias.
    pub biases: Vec<Matrix>,
    /// Factor on embeddings.
    pub embedding_scale: f32,
    /// Factor on attention scores.
    pub score_scale: f32,
    /// c of c tanh(score / c); 0: not capped.
    pub score_cap: f32,
    /// The same over logits.
    pub logit_cap: f32,
    /// Layers that see only the last keys.
    pub local: Option<LocalAttention>,
}

/// A file read as one architecture.
struct Reader<'a> {
    arch: &'a Arch,
    file: &'a GgufFile,
}

impl Reader<'_> {
    fn key(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.arch.name)
    }

    fn has(&self, suffix: &str) -> bool {
        self.file.get(&self.key(suffix)).is_some()
    }

    fn size(&self, suffix: &str) -> Result<usize, GgufError> {
        Ok(self.file.u32(&self.key(suffix))? as usize)
    }

    fn size_or(&self, suffix: &str, other: usize) -> Result<usize, GgufError> {
        if self.has(suffix) { self.size(suffix) } else { Ok(other) }
    }

    /// A number of at least 0.
    fn number_or(&self, suffix: &str, other: f32) -> Result<f32, ArchError> {
        if !self.has(suffix) {
            return Ok(other);
        }
        let value = self.file.f32(&self.key(suffix))?;
        if value.is_finite() && value >= 0.0 {
            return Ok(value);
        }
        self.fail(suffix, format!("{value} is not a number of at least 0"))
    }

    fn fail<T>(&self, suffix: &str, problem: String) -> Result<T, ArchError> {
        Err(ArchError::Shape { path: self.file.path.clone(), field: self.key(suffix), problem })
    }

    fn refuse_features(&self) -> Result<(), ArchError> {
        for (suffix, off) in self.arch.refused {
            if let Some(value) = self.file.get(&self.key(suffix))
                && value.as_u64() != Some(*off)
            {
                return self.refuse(suffix, value);
            }
        }
        Ok(())
    }

    fn refuse<T>(&self, suffix: &str, value: &Value) -> Result<T, ArchError> {
        let (path, key) = (self.file.path.clone(), self.key(suffix));
        Err(ArchError::Feature { path, key, value: format!("{value:?}") })
    }

    /// Factor on positions; scaling methods other than none and linear are refused.
    fn rope_scale(&self) -> Result<f32, ArchError> {
        match self.file.get(&self.key("rope.scaling.type")) {
            None => Ok(1.0),
            Some(Value::Str(method)) if method == "none" => Ok(1.0),
            Some(Value::Str(method)) if method == "linear" => {
                let factor = self.file.f32(&self.key("rope.scaling.factor"))?;
                if factor.is_finite() && factor > 0.0 {
                    return Ok(1.0 / factor);
                }
                self.fail("rope.scaling.factor", format!("{factor} is not positive"))
            }
            Some(other) => self.refuse("rope.scaling.type", other),
        }
    }

    fn local(&self, layers: usize, rope_base: f32, rope_scale: f32) -> Result<Option<LocalAttention>, ArchError> {
        let Some(local) = self.arch.local else { return Ok(None) };
        let keys = self.size_or("attention.sliding_window", local.keys.unwrap_or(0))?;
        if keys == 0 {
            return Ok(None);
        }
        let pattern = "attention.sliding_window_pattern";
        let layers = match self.file.get(&self.key(pattern)) {
            Some(Value::Array(Array::Bool(list))) if list.len() >= layers => list[..layers].to_vec(),
            Some(other @ Value::Array(_)) => return self.refuse(pattern, other),
            _ => {
                let every = self.size_or(pattern, local.every)?;
                (0..layers).map(|layer| every > 0 && layer % every + 1 < every).collect()
            }
        };
        let scale = if local.rope_base.is_some() { 1.0 } else { rope_scale };
        let base = self.number_or("rope.freq_base_swa", local.rope_base.unwrap_or(rope_base))?;
        Ok(Some(LocalAttention { keys, layers, rope_base: base, rope_scale: scale }))
    }

    fn config(&self) -> Result<Config, ArchError> {
        let (arch, file) = (self.arch, self.file);
        let heads = self.size("attention.head_count")?;
        let (layers, width) = (self.size("block_count")?, self.size("embedding_length")?);
        if layers == 0 || layers > LAYERS_MAX {
            return self.fail("block_count", format!("{layers} layers, 1 to {LAYERS_MAX} are possible"));
        }
        let head_dim = self.size_or("attention.key_length", width.checked_div(heads).unwrap_or(0))?;
        let by_width = arch.scores_by_width == Some(layers);
        let divisor = if by_width { width.checked_div(heads).unwrap_or(0) } else { head_dim };
        let (rope_base, rope_scale) = (self.number_or("rope.freq_base", 10_000.0)?, self.rope_scale()?);
        Ok(Config {
            layers,
            width,
            feed_forward: self.size("feed_forward_length")?,
            heads,
            kv_heads: self.size_or("attention.head_count_kv", heads)?,
            head_dim,
            rope: arch.rope,
            rope_dims: self.size_or("rope.dimension_count", head_dim)?,
            rope_base,
            rope_scale,
            rope_factors: arch.rope_factors && file.tensor("rope_freqs.weight").is_some(),
            norm_eps: file.f32(&self.key("attention.layer_norm_rms_epsilon"))?,
            vocab: file.require_tensor("token_embd.weight")?.dim(1) as usize,
            context_tokens: self.size("context_length")?,
            tied_head: file.tensor("output.weight").is_none(),
            activation: arch.activation,
            fused: arch.fused,
            post_norms: arch.post_norms,
            head_norms: arch.head_norms,
            biases: arch.biases.iter().copied().filter(|bias| file.tensor(&bias.bias_name(0)).is_some()).collect(),
            embedding_scale: if arch.scaled_embedding { (width as f32).sqrt() } else { 1.0 },
            score_scale: 1.0 / (divisor as f32).sqrt(),
            score_cap: match arch.score_cap {
                Some(cap) => self.number_or("attn_logit_softcapping", cap)?,
                None => 0.0,
            },
            logit_cap: match arch.logit_cap {
                Some(cap) => self.number_or("final_logit_softcapping", cap)?,
                None => 0.0,
            },
            local: self.local(layers, rope_base, rope_scale)?,
        })
    }

    fn check_sizes(&self, config: &Config) -> Result<(), ArchError> {
        if config.kv_heads == 0 || config.heads == 0 || !config.heads.is_multiple_of(config.kv_heads) {
            let problem = format!("{} query heads do not divide among {} key heads", config.heads, config.kv_heads);
            return self.fail("attention.head_count_kv", problem);
        }
        if self.size_or("attention.value_length", config.head_dim)? != config.head_dim {
            return self.fail("attention.value_length", format!("differs from the key length {}", config.head_dim));
        }
        if config.rope_dims == 0 || config.rope_dims > config.head_dim || !config.rope_dims.is_multiple_of(2) {
            let problem = format!("{} of {} values per head", config.rope_dims, config.head_dim);
            return self.fail("rope.dimension_count", problem);
        }
        if !(config.norm_eps.is_finite() && config.norm_eps >= 0.0) {
            let problem = format!("{} is not a small positive number", config.norm_eps);
            return self.fail("attention.layer_norm_rms_epsilon", problem);
        }
        if config.rope_base <= 0.0 {
            return self.fail("rope.freq_base", format!("{} is not positive", config.rope_base));
        }
        Ok(())
    }

    /// Every tensor that the blocks use is there in its shape, and the file has no tensor that they do not use.
    fn check_tensors(&self, config: &Config) -> Result<(), ArchError> {
        let fail = |field: &str, problem: String| {
            Err(ArchError::Shape { path: self.file.path.clone(), field: format!("tensor {field:?}"), problem })
        };
        let expected = config.tensors();
        for (name, dims) in &expected {
            let found: Vec<usize> = self.file.require_tensor(name)?.dims.iter().map(|&dim| dim as usize).collect();
            if trimmed(&found) != trimmed(dims) {
                return fail(name, format!("dimensions {found:?}, expected {dims:?}"));
            }
        }
        let known: HashSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
        let unknown: Option<&TensorInfo> = self.file.tensors.iter().find(|t| !known.contains(t.name.as_str()));
        match unknown {
            Some(tensor) => fail(&tensor.name, "is not part of this architecture as training knows it".to_owned()),
            None => Ok(()),
        }
    }
}

/// Dimensions without trailing ones.
fn trimmed(dims: &[usize]) -> &[usize] {
    let len = dims.iter().rposition(|&dim| dim != 1).map_or(1, |last| last + 1);
    &dims[..len.min(dims.len())]
}

impl Config {
    pub(super) fn read(arch: &Arch, file: &GgufFile) -> Result<Config, ArchError> {
        let config = Config::planned(arch, file)?;
        Reader { arch, file }.check_tensors(&config)?;
        Ok(config)
    }

    /// The same before there are tensors beside the embeddings.
    pub(super) fn planned(arch: &Arch, file: &GgufFile) -> Result<Config, ArchError> {
        let reader = Reader { arch, file };
        reader.refuse_features()?;
        let config = reader.config()?;
        reader.check_sizes(&config)?;
        Ok(config)
    }

    /// Name and dimensions of every tensor.
    pub(crate) fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let mut tensors = vec![
            ("token_embd.weight".to_owned(), vec![self.width, self.vocab]),
            ("output_norm.weight".to_owned(), vec![self.width]),
        ];
        if !self.tied_head {
            tensors.push(("output.weight".to_owned(), vec![self.width, self.vocab]));
        }
        if self.rope_factors {
            tensors.push(("rope_freqs.weight".to_owned(), vec![self.rope_dims / 2]));
        }
        for layer in 0..self.layers {
            for (stem, size) in self.norms() {
                tensors.push((format!("blk.{layer}.{stem}.weight"), vec![size]));
            }
            for matrix in self.matrices() {
                let (input, output) = self.matrix_dims(matrix);
                tensors.push((matrix.weight_name(layer), vec![input, output]));
                if self.biases.contains(&matrix) {
                    tensors.push((matrix.bias_name(layer), vec![output]));
                }
            }
        }
        tensors
    }

    /// Stem and size of a layer's norms.
    fn norms(&self) -> Vec<(&'static str, usize)> {
        let mut norms = vec![("attn_norm", self.width), ("ffn_norm", self.width)];
        if self.post_norms {
            norms.extend([("post_attention_norm", self.width), ("post_ffw_norm", self.width)]);
        }
        if self.head_norms {
            norms.extend([("attn_q_norm", self.head_dim), ("attn_k_norm", self.head_dim)]);
        }
        norms
    }

    /// Name of the output head's tensor.
    pub fn head_name(&self) -> &'static str {
        if self.tied_head { "token_embd.weight" } else { "output.weight" }
    }

    /// The matrices of a group in the order in which their outputs are wanted.
    pub fn group(&self, group: Group) -> &'static [Matrix] {
        match group {
            Group::AttentionInput if self.fused => &[Matrix::Qkv],
            Group::AttentionInput => &[Matrix::Q, Matrix::K, Matrix::V],
            Group::AttentionOutput => &[Matrix::O],
            Group::FeedForwardInput if self.fused => &[Matrix::GateUp],
            Group::FeedForwardInput => &[Matrix::Gate, Matrix::Up],
            Group::FeedForwardOutput => &[Matrix::Down],
        }
    }

    /// The matrices of a layer.
    pub fn matrices(&self) -> impl Iterator<Item = Matrix> {
        Group::ALL.into_iter().flat_map(|group| self.group(group).iter().copied())
    }

    /// Input and output width of a projection.
    pub fn projection_dims(&self, projection: Projection) -> (usize, usize) {
        let (queries, keys) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        match projection {
            Projection::Q => (self.width, queries),
            Projection::K | Projection::V => (self.width, keys),
            Projection::O => (queries, self.width),
            Projection::Gate | Projection::Up => (self.width, self.feed_forward),
            Projection::Down => (self.feed_forward, self.width),
        }
    }

    /// Input and output width of a matrix.
    pub fn matrix_dims(&self, matrix: Matrix) -> (usize, usize) {
        let parts = matrix.parts();
        (self.projection_dims(parts[0]).0, parts.iter().map(|&part| self.projection_dims(part).1).sum())
    }

    /// The attention of `layer` if it sees only the last keys.
    pub fn local(&self, layer: usize) -> Option<&LocalAttention> {
        self.local.as_ref().filter(|local| local.layers[layer])
    }
}
