//! Model architectures as data: what distinguishes one decoder from another, one file per architecture, one line per
//! architecture in [`REGISTRY`]. The blocks that compute live in `train/blocks`; nothing here computes. A file whose
//! architecture, features or tensors are not all known is refused by name: training with a weight left out would go
//! on without an error and be wrong.

mod llama;

use std::path::PathBuf;

use crate::gguf::{GgufError, GgufFile, TensorInfo, Value};

/// Every architecture that can be trained.
pub static REGISTRY: &[&Arch] = &[&llama::ARCH];

/// Most layers that a file may announce; more is refused. The deepest published decoders have fewer than 200.
pub const LAYERS_MAX: usize = 512;

/// How rotary embedding pairs the values of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopePairs {
    /// Value 2i with value 2i + 1.
    Neighbours,
    /// Value i with value i + half (NeoX).
    Halves,
}

/// What one architecture is, as data for the blocks.
#[derive(Debug)]
pub struct Arch {
    /// `general.architecture` in the file; also the prefix of its metadata keys.
    pub name: &'static str,
    /// How rotary embedding pairs values.
    pub rope: RopePairs,
    /// Metadata keys (without the prefix) that announce a feature the blocks do not have, and the value that switches
    /// the feature off.
    pub refused: &'static [(&'static str, u64)],
}

/// The seven matrices of a decoder layer that LoRA can adapt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Projection {
    /// Attention queries.
    Q,
    /// Attention keys.
    K,
    /// Attention values.
    V,
    /// Attention output.
    O,
    /// Gate of the feed-forward block.
    Gate,
    /// Up-projection of the feed-forward block.
    Up,
    /// Down-projection of the feed-forward block.
    Down,
}

impl Projection {
    /// All of them, in the order in which a layer's parameters are stored.
    pub const ALL: [Projection; 7] = [
        Projection::Q,
        Projection::K,
        Projection::V,
        Projection::O,
        Projection::Gate,
        Projection::Up,
        Projection::Down,
    ];

    /// Name of the tensor inside a layer, without `.weight`.
    pub fn tensor_stem(self) -> &'static str {
        match self {
            Projection::Q => "attn_q",
            Projection::K => "attn_k",
            Projection::V => "attn_v",
            Projection::O => "attn_output",
            Projection::Gate => "ffn_gate",
            Projection::Up => "ffn_up",
            Projection::Down => "ffn_down",
        }
    }

    /// Name of the weight in layer `layer`.
    pub fn tensor_name(self, layer: usize) -> String {
        format!("blk.{layer}.{}.weight", self.tensor_stem())
    }

    /// Name as a person writes it: `q`, `gate` and so on.
    pub fn name(self) -> &'static str {
        match self {
            Projection::Q => "q",
            Projection::K => "k",
            Projection::V => "v",
            Projection::O => "o",
            Projection::Gate => "gate",
            Projection::Up => "up",
            Projection::Down => "down",
        }
    }
}

/// Sizes of one model, read from its metadata and checked against its tensors.
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
}

/// Why a model cannot be trained.
#[derive(Debug, thiserror::Error)]
pub enum ArchError {
    /// No line in the registry.
    #[error("{}: architecture {name:?} cannot be trained; known: {known}", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What the file calls itself.
        name: String,
        /// The registry.
        known: String,
    },
    /// A feature that the blocks do not have.
    #[error("{}: {key} = {value} announces a feature that training does not have yet", path.display())]
    Feature {
        /// The file.
        path: PathBuf,
        /// Metadata key.
        key: String,
        /// Its value.
        value: String,
    },
    /// Sizes that do not fit together.
    #[error("{}: {field}: {problem}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// Key or tensor.
        field: String,
        /// What is wrong.
        problem: String,
    },
    /// The file itself.
    #[error(transparent)]
    Gguf(#[from] GgufError),
}

/// Finds the architecture of `file` in the registry, reads its sizes and checks every tensor against them.
pub fn recognise(file: &GgufFile) -> Result<(&'static Arch, Config), ArchError> {
    let name = file.architecture()?;
    let arch = REGISTRY.iter().find(|arch| arch.name == name).ok_or_else(|| ArchError::Unknown {
        path: file.path.clone(),
        name: name.to_owned(),
        known: REGISTRY.iter().map(|arch| arch.name).collect::<Vec<_>>().join(", "),
    })?;
    refuse_features(arch, file)?;
    let config = read_config(arch, file)?;
    check_tensors(&config, file)?;
    Ok((arch, config))
}

fn refuse_features(arch: &Arch, file: &GgufFile) -> Result<(), ArchError> {
    for (suffix, off) in arch.refused {
        let key = format!("{}.{suffix}", arch.name);
        if let Some(value) = file.get(&key)
            && value.as_u64() != Some(*off)
        {
            return Err(ArchError::Feature { path: file.path.clone(), key, value: format!("{value:?}") });
        }
    }
    Ok(())
}

fn read_config(arch: &Arch, file: &GgufFile) -> Result<Config, ArchError> {
    let key = |suffix: &str| format!("{}.{suffix}", arch.name);
    let size = |suffix: &str| -> Result<usize, GgufError> { Ok(file.u32(&key(suffix))? as usize) };
    let size_or = |suffix: &str, other: usize| match file.get(&key(suffix)) {
        Some(_) => size(suffix),
        None => Ok(other),
    };
    let heads = size("attention.head_count")?;
    let width = size("embedding_length")?;
    let head_dim = size_or("attention.key_length", width.checked_div(heads).unwrap_or(0))?;
    let vocab = file.require_tensor("token_embd.weight")?.dim(1) as usize;
    let config = Config {
        layers: size("block_count")?,
        width,
        feed_forward: size("feed_forward_length")?,
        heads,
        kv_heads: size_or("attention.head_count_kv", heads)?,
        head_dim,
        rope_dims: size_or("rope.dimension_count", head_dim)?,
        rope_base: if file.get(&key("rope.freq_base")).is_some() {
            file.f32(&key("rope.freq_base"))?
        } else {
            10_000.0
        },
        rope_scale: rope_scale(arch, file)?,
        rope_factors: file.tensor("rope_freqs.weight").is_some(),
        norm_eps: file.f32(&key("attention.layer_norm_rms_epsilon"))?,
        vocab,
        context_tokens: size("context_length")?,
        tied_head: file.tensor("output.weight").is_none(),
    };
    let fail =
        |suffix: &str, problem: String| Err(ArchError::Shape { path: file.path.clone(), field: key(suffix), problem });
    if config.layers == 0 || config.layers > LAYERS_MAX {
        return fail("block_count", format!("{} layers, 1 to {LAYERS_MAX} are possible", config.layers));
    }
    if config.kv_heads == 0 || config.heads == 0 || !config.heads.is_multiple_of(config.kv_heads) {
        let problem = format!("{} query heads do not divide among {} key heads", config.heads, config.kv_heads);
        return fail("attention.head_count_kv", problem);
    }
    if size_or("attention.value_length", head_dim)? != head_dim {
        return fail("attention.value_length", format!("differs from the key length {head_dim}"));
    }
    if config.rope_dims == 0 || config.rope_dims > head_dim || !config.rope_dims.is_multiple_of(2) {
        return fail("rope.dimension_count", format!("{} of {head_dim} values per head", config.rope_dims));
    }
    if !(config.norm_eps.is_finite() && config.norm_eps >= 0.0) {
        return fail("attention.layer_norm_rms_epsilon", format!("{} is not a small positive number", config.norm_eps));
    }
    if !(config.rope_base.is_finite() && config.rope_base > 0.0) {
        return fail("rope.freq_base", format!("{} is not positive", config.rope_base));
    }
    Ok(config)
}

/// Factor on positions; scaling methods other than none and linear are refused.
fn rope_scale(arch: &Arch, file: &GgufFile) -> Result<f32, ArchError> {
    let key = format!("{}.rope.scaling.type", arch.name);
    match file.get(&key) {
        None => Ok(1.0),
        Some(Value::Str(method)) if method == "none" => Ok(1.0),
        Some(Value::Str(method)) if method == "linear" => {
            let factor_key = format!("{}.rope.scaling.factor", arch.name);
            let factor = file.f32(&factor_key)?;
            if factor.is_finite() && factor > 0.0 {
                return Ok(1.0 / factor);
            }
            Err(ArchError::Shape {
                path: file.path.clone(),
                field: factor_key,
                problem: format!("{factor} is not positive"),
            })
        }
        Some(other) => Err(ArchError::Feature { path: file.path.clone(), key, value: format!("{other:?}") }),
    }
}

/// Every tensor that the blocks use is there in its shape, and the file has no tensor that they do not use.
fn check_tensors(config: &Config, file: &GgufFile) -> Result<(), ArchError> {
    let mut expected: Vec<(String, Vec<usize>)> = vec![
        ("token_embd.weight".to_owned(), vec![config.width, config.vocab]),
        ("output_norm.weight".to_owned(), vec![config.width]),
    ];
    if !config.tied_head {
        expected.push(("output.weight".to_owned(), vec![config.width, config.vocab]));
    }
    if config.rope_factors {
        expected.push(("rope_freqs.weight".to_owned(), vec![config.rope_dims / 2]));
    }
    for layer in 0..config.layers {
        expected.push((format!("blk.{layer}.attn_norm.weight"), vec![config.width]));
        expected.push((format!("blk.{layer}.ffn_norm.weight"), vec![config.width]));
        for projection in Projection::ALL {
            let (input, output) = config.projection_dims(projection);
            expected.push((projection.tensor_name(layer), vec![input, output]));
        }
    }
    let fail = |field: &str, problem: String| {
        Err(ArchError::Shape { path: file.path.clone(), field: format!("tensor {field:?}"), problem })
    };
    for (name, dims) in &expected {
        let found: Vec<usize> = file.require_tensor(name)?.dims.iter().map(|&dim| dim as usize).collect();
        if trimmed(&found) != trimmed(dims) {
            return fail(name, format!("dimensions {found:?}, expected {dims:?}"));
        }
    }
    let known: std::collections::HashSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
    let unknown: Option<&TensorInfo> = file.tensors.iter().find(|tensor| !known.contains(tensor.name.as_str()));
    match unknown {
        Some(tensor) => fail(&tensor.name, "is not part of this architecture as training knows it".to_owned()),
        None => Ok(()),
    }
}

/// Dimensions without trailing ones.
fn trimmed(dims: &[usize]) -> &[usize] {
    let len = dims.iter().rposition(|&dim| dim != 1).map_or(1, |last| last + 1);
    &dims[..len.min(dims.len())]
}

impl Config {
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
}
