//! Gemma 2 and 3: scaled embeddings, GELU, norms before and after each block, every second or sixth layer seeing the
//! whole row. Gemma 2 caps scores and logits, <https://arxiv.org/abs/2408.00118>; Gemma 3 norms heads instead and has
//! rotary frequencies of their own in local layers, <https://arxiv.org/abs/2503.19786>. The files' norm weights already
//! have the one added that the papers add. Data only, nothing here computes.

use super::{Activation, Arch, LocalLayers, PLAIN};

const REFUSED: &[(&str, u64)] = &[("expert_count", 0), ("expert_used_count", 0)];

pub(super) static GEMMA2: Arch = Arch {
    name: "gemma2",
    activation: Activation::Gelu,
    post_norms: true,
    scaled_embedding: true,
    // The size of 27 billion.
    scores_by_width: Some(46),
    score_cap: Some(50.0),
    logit_cap: Some(30.0),
    local: Some(LocalLayers { every: 2, keys: Some(4096), rope_base: None }),
    refused: REFUSED,
    ..PLAIN
};

pub(super) static GEMMA3: Arch = Arch {
    name: "gemma3",
    activation: Activation::Gelu,
    post_norms: true,
    head_norms: true,
    scaled_embedding: true,
    scores_by_width: Some(62),
    logit_cap: Some(0.0),
    local: Some(LocalLayers { every: 6, keys: None, rope_base: Some(10_000.0) }),
    refused: REFUSED,
    ..PLAIN
};
