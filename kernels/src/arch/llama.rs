//! Llama and its relatives (SmolLM2 and Mistral among them): pre-norm decoder, rotary embedding, grouped-query
//! attention, SwiGLU. <https://arxiv.org/abs/2302.13971>, <https://arxiv.org/abs/2307.09288>; data only, nothing here
//! computes.

use super::{Arch, Matrix, PLAIN, RopePairs};

pub(super) static LLAMA: Arch = Arch {
    name: "llama",
    // GGUF converters permute the Q and K weights of this family, so neighbours are paired.
    rope: RopePairs::Neighbours,
    biases: &[Matrix::Q, Matrix::K, Matrix::V, Matrix::O, Matrix::Gate, Matrix::Up, Matrix::Down],
    rope_factors: true,
    ..PLAIN
};
