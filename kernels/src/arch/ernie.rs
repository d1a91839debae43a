//! ERNIE 4.5, the dense models: a llama in everything that is computed. <https://ernie.baidu.com/blog/publication/ERNIE_Technical_Report.pdf>.
//! Data only, nothing here computes.

use super::{Arch, Matrix, PLAIN, RopePairs};

pub(super) static ERNIE4_5: Arch = Arch {
    name: "ernie4_5",
    rope: RopePairs::Neighbours,
    biases: &[Matrix::Q, Matrix::K, Matrix::V],
    refused: &[
        ("expert_count", 0),
        ("expert_used_count", 0),
        ("attention.sliding_window", 0),
        ("rope.dimension_sections", 0),
    ],
    ..PLAIN
};
