//! Llama and its relatives (SmolLM2 among them): pre-norm decoder, rotary embedding, grouped-query attention, SwiGLU.
//! <https://arxiv.org/abs/2302.13971>, <https://arxiv.org/abs/2307.09288>; data only, nothing here computes.

use super::{Arch, RopePairs};

pub(super) static ARCH: Arch = Arch {
    name: "llama",
    // GGUF converters permute the Q and K weights of this family, so neighbours are paired.
    rope: RopePairs::Neighbours,
    refused: &[("expert_count", 0), ("expert_used_count", 0), ("attention.sliding_window", 0)],
};
