//! What a file says of embeddings: whether its model is an encoder, and how the vectors of tokens become one. Never here: how
//! they are computed.

use super::{InspectError, integer, rule};
use crate::gguf::GgufFile;

/// Architectures that read a whole text at once and make vectors of its tokens: they write nothing. As the pinned
/// llama.cpp has them (it makes no cache for these).
const ENCODERS: &[&str] = &[
    "bert",
    "modern-bert",
    "nomic-bert",
    "nomic-bert-moe",
    "neo-bert",
    "jina-bert-v2",
    "jina-bert-v3",
    "eurobert",
    "gemma-embedding",
];

/// How the vectors of an input's tokens become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first one.
    First,
    /// The last one.
    Last,
}

/// Whether an architecture makes embeddings and nothing else.
pub(super) fn is_encoder(architecture: &str) -> bool {
    ENCODERS.contains(&architecture)
}

/// llama.cpp's numbers: 0 is said of models that nobody told how.
pub(super) fn pooling(file: &GgufFile, key: &str) -> Result<Option<Pooling>, InspectError> {
    match integer(file, key) {
        None | Some(0) => Ok(None),
        Some(1) => Ok(Some(Pooling::Mean)),
        Some(2) => Ok(Some(Pooling::First)),
        Some(3) => Ok(Some(Pooling::Last)),
        Some(4) => Err(rule(file, key, "is 4: a reranker, which gives scores and no vectors, cannot be served".into())),
        Some(other) => Err(rule(file, key, format!("must be 0 to 3, is {other}"))),
    }
}
