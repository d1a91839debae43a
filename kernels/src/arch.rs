//! Model architectures as data: what distinguishes one decoder from another, one file per family, one line per
//! architecture in [`REGISTRY`]. The blocks that compute live in `train/blocks`; nothing here computes. A file whose
//! architecture, features or tensors are not all known is refused by name: training with a weight left out would go
//! on without an error and be wrong. What is ambiguous in a format is read as the pinned llama.cpp reads it, because
//! that is what will serve the model.

mod config;
mod ernie;
mod gemma;
mod llama;
mod phi;
mod qwen;

use std::path::PathBuf;

use crate::gguf::{GgufError, GgufFile};

pub use config::{Config, LocalAttention};

/// Every architecture that can be trained.
pub static REGISTRY: &[&Arch] =
    &[&llama::LLAMA, &qwen::QWEN2, &qwen::QWEN3, &gemma::GEMMA2, &gemma::GEMMA3, &phi::PHI3, &ernie::ERNIE4_5];

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

/// What the gate of the feed-forward block goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x sigmoid(x) (<https://arxiv.org/abs/1702.03118>).
    Silu,
    /// x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)), the form with tanh (<https://arxiv.org/abs/1606.08415>).
    Gelu,
}

/// Layers that see only the last keys of a row, as an architecture has them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LocalLayers {
    /// Layer i sees all keys when i % every = every - 1, unless the file says otherwise.
    pub every: usize,
    /// Keys that a local layer sees when the file does not say; `None`: then every layer sees all.
    pub keys: Option<usize>,
    /// Base of the rotary frequencies of local layers when the file does not say; `None`: as in the others.
    pub rope_base: Option<f32>,
}

/// What one architecture is, as data for the blocks.
#[derive(Debug)]
pub struct Arch {
    /// `general.architecture` in the file; also the prefix of its metadata keys.
    pub name: &'static str,
    /// How rotary embedding pairs values.
    pub rope: RopePairs,
    /// What the gate goes through.
    pub activation: Activation,
    /// Whether Q, K and V are one matrix, and gate and up another.
    pub fused: bool,
    /// Whether what attention and the feed-forward block add is normed before it is added.
    pub post_norms: bool,
    /// Whether each head's queries and keys are normed before they are rotated.
    pub head_norms: bool,
    /// Matrices that may have a bias: in every layer of a file, or in none.
    pub biases: &'static [Matrix],
    /// Whether a file may have per-frequency divisors (`rope_freqs.weight`).
    pub rope_factors: bool,
    /// Whether embeddings are multiplied by the root of the width.
    pub scaled_embedding: bool,
    /// Number of layers of the one size whose scores are divided by sqrt(width / heads) instead of sqrt(head_dim).
    pub scores_by_width: Option<usize>,
    /// c of c tanh(score / c) over attention scores when the file does not say; `None`: not capped.
    pub score_cap: Option<f32>,
    /// The same over logits; with `Some(0.0)` only a file that says so has them capped.
    pub logit_cap: Option<f32>,
    /// Layers that see only the last keys.
    pub local: Option<LocalLayers>,
    /// Metadata keys (without the prefix) that announce a feature the blocks do not have, and the value that switches
    /// the feature off.
    pub refused: &'static [(&'static str, u64)],
}

/// A pre-norm decoder with rotary embedding and SwiGLU, from which the others differ.
const PLAIN: Arch = Arch {
    name: "",
    rope: RopePairs::Halves,
    activation: Activation::Silu,
    fused: false,
    post_norms: false,
    head_norms: false,
    biases: &[],
    rope_factors: false,
    scaled_embedding: false,
    scores_by_width: None,
    score_cap: None,
    logit_cap: None,
    local: None,
    refused: &[("expert_count", 0), ("expert_used_count", 0), ("attention.sliding_window", 0)],
};

/// The seven products of a decoder layer that LoRA can adapt, as a person chooses them.
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
    /// All of them.
    pub const ALL: [Projection; 7] = [
        Projection::Q,
        Projection::K,
        Projection::V,
        Projection::O,
        Projection::Gate,
        Projection::Up,
        Projection::Down,
    ];

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

/// A matrix of a decoder layer as files store it: one projection, or several whose rows follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Matrix {
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
    /// Queries, keys and values.
    Qkv,
    /// Gate and up-projection.
    GateUp,
}

impl Matrix {
    /// How many there are.
    pub const COUNT: usize = 9;

    /// Name of the tensor inside a layer, without `.weight`.
    pub fn stem(self) -> &'static str {
        match self {
            Matrix::Q => "attn_q",
            Matrix::K => "attn_k",
            Matrix::V => "attn_v",
            Matrix::O => "attn_output",
            Matrix::Gate => "ffn_gate",
            Matrix::Up | Matrix::GateUp => "ffn_up",
            Matrix::Down => "ffn_down",
            Matrix::Qkv => "attn_qkv",
        }
    }

    /// Name of the weight in layer `layer`.
    pub fn weight_name(self, layer: usize) -> String {
        format!("blk.{layer}.{}.weight", self.stem())
    }

    /// Name of the bias in layer `layer`.
    pub fn bias_name(self, layer: usize) -> String {
        format!("blk.{layer}.{}.bias", self.stem())
    }

    /// What it computes, in the order of its rows.
    pub fn parts(self) -> &'static [Projection] {
        match self {
            Matrix::Q => &[Projection::Q],
            Matrix::K => &[Projection::K],
            Matrix::V => &[Projection::V],
            Matrix::O => &[Projection::O],
            Matrix::Gate => &[Projection::Gate],
            Matrix::Up => &[Projection::Up],
            Matrix::Down => &[Projection::Down],
            Matrix::Qkv => &[Projection::Q, Projection::K, Projection::V],
            Matrix::GateUp => &[Projection::Gate, Projection::Up],
        }
    }
}

/// Matrices of a layer that read the same input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Queries, keys and values.
    AttentionInput,
    /// The output projection.
    AttentionOutput,
    /// Gate and up-projection.
    FeedForwardInput,
    /// The down-projection.
    FeedForwardOutput,
}

impl Group {
    /// In the order in which a layer computes them.
    pub const ALL: [Group; 4] =
        [Group::AttentionInput, Group::AttentionOutput, Group::FeedForwardInput, Group::FeedForwardOutput];
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
    let arch = registered(file)?;
    Ok((arch, Config::read(arch, file)?))
}

/// The sizes of a file of which there are only metadata and embeddings yet; they say which tensors it will have.
pub(crate) fn planned(file: &GgufFile) -> Result<Config, ArchError> {
    Config::planned(registered(file)?, file)
}

fn registered(file: &GgufFile) -> Result<&'static Arch, ArchError> {
    let name = file.architecture()?;
    REGISTRY.iter().copied().find(|arch| arch.name == name).ok_or_else(|| ArchError::Unknown {
        path: file.path.clone(),
        name: name.to_owned(),
        known: REGISTRY.iter().map(|arch| arch.name).collect::<Vec<_>>().join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::REGISTRY;

    #[test]
    fn each_architecture_has_its_row_in_the_docs() {
        for page in ["../docs/architectures.md", "../docs/zh/architectures.md"] {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
            let text = std::fs::read_to_string(&path).unwrap();
            for arch in REGISTRY {
                assert!(text.contains(&format!("| `{}` |", arch.name)), "{page} has no row for {}", arch.name);
            }
        }
    }
}
