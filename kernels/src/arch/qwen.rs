//! Qwen2 (and 2.5): a llama with biases on queries, keys and values, <https://arxiv.org/abs/2407.10671>. Qwen3: without
//! biases, but with the heads of queries and keys normed, <https://arxiv.org/abs/2505.09388>. Data only, nothing here
//! computes.

use super::{Arch, Matrix, PLAIN};

pub(super) static QWEN2: Arch = Arch { name: "qwen2", biases: &[Matrix::Q, Matrix::K, Matrix::V], ..PLAIN };

pub(super) static QWEN3: Arch = Arch { name: "qwen3", head_norms: true, ..PLAIN };
