//! Phi-3 and the dense Phi-4: a llama whose queries, keys and values are one matrix, and gate and up-projection another.
//! <https://arxiv.org/abs/2404.14219>. The engine computes their sliding window as full attention, and so does
//! training. The long-context variants (two sets of rotary factors) are refused by their tensors' names. Data only,
//! nothing here computes.

use super::{Arch, PLAIN};

pub(super) static PHI3: Arch =
    Arch { name: "phi3", fused: true, refused: &[("expert_count", 0), ("expert_used_count", 0)], ..PLAIN };
