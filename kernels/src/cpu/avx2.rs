//! Tiles of 16 outputs times 6 columns for AVX2 and FMA: twelve sums stay in registers while the inner steps run.
//! Nothing here knows shapes, threads or formats beyond a tile.

use std::arch::asm;
use std::arch::x86_64::{
    __m256, _MM_HINT_T1, _mm_loadu_si128, _mm_prefetch, _mm256_and_si256, _mm256_broadcast_ss, _mm256_cvtepi8_epi16,
    _mm256_cvtepi32_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_mul_ps,
    _mm256_set1_epi8, _mm256_set1_epi16, _mm256_setzero_ps, _mm256_setzero_si256, _mm256_srli_epi16, _mm256_storeu_ps,
    _mm256_storeu_si256,
};

use super::PANEL;
use super::panels::{BLOCK, NIBBLE_BLOCK};

/// Columns of a tile.
pub(super) const TILE: usize = 6;

/// Widens `count` 8-bit values, a multiple of 16; returns where.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn widen(from: *const i8, to: *mut i16, count: usize) -> *const u8 {
    for at in (0..count).step_by(16) {
        // SAFETY: the caller gives `count` values on both sides.
        unsafe { _mm256_storeu_si256(to.add(at).cast(), _mm256_cvtepi8_epi16(_mm_loadu_si128(from.add(at).cast()))) };
    }
    to.cast()
}

/// Of every 64 of `count` bytes the lower halves, then the upper ones, each as a byte; returns where.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn split(from: *const u8, to: *mut u8, count: usize) -> *const u8 {
    let half = _mm256_set1_epi8(15);
    for (at, part) in (0..count).step_by(64).flat_map(|at| [(at, 0), (at, 32)]) {
        // SAFETY: the caller gives `count` bytes, a multiple of 64, and room for twice as many.
        unsafe {
            let both = _mm256_loadu_si256(from.add(at + part).cast());
            let to = to.add(2 * at + part);
            _mm256_storeu_si256(to.cast(), _mm256_and_si256(both, half));
            _mm256_storeu_si256(to.add(64).cast(), _mm256_and_si256(_mm256_srli_epi16::<4>(both), half));
        }
    }
    to
}

/// Asks for `bytes` bytes from `from` on, which need not exist.
#[inline]
pub(super) fn prefetch(from: *const u8, bytes: usize) {
    for line in (0..bytes).step_by(64) {
        // SAFETY: a prefetch of an address that is not mapped does nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.wrapping_add(line).cast()) };
    }
}

/// Six columns of the packed product.
pub(super) struct PackedTile {
    /// Values of each column's first step.
    pub(super) columns: [*const u8; TILE],
    /// Scales of each column's first block.
    pub(super) column_scales: [*const f32; TILE],
}

/// Integer sums of a block, [(outputs 0 to 7, outputs 8 to 15); 6 columns]: a run of 64 panel bytes and of 4 bytes of each
/// column at a time, multiplied and added by the instructions given.
///
/// Per 4 bytes of a column: a broadcast, two multiplications that add neighbours, two additions; two loads of the
/// panel serve all columns. Written out because the compiler reorders the additions and spills the sums, which costs
/// a quarter of the speed.
macro_rules! block_sums {
    ($multiply:literal, $add:literal, $panel:expr, $end:expr, $bytes:expr) => {{
        macro_rules! column {
            ($column:literal, $low:literal, $high:literal) => {
                concat!(
                    "vpbroadcastd {t1}, dword ptr [",
                    $column,
                    " + {at}]\n",
                    $multiply,
                    " {t0}, {low}, {t1}\n",
                    $multiply,
                    " {t1}, {high}, {t1}\n",
                    $add,
                    " ",
                    $low,
                    ", ",
                    $low,
                    ", {t0}\n",
                    $add,
                    " ",
                    $high,
                    ", ",
                    $high,
                    ", {t1}\n",
                )
            };
        }
        let zero = _mm256_setzero_si256();
        let (mut l0, mut l1, mut l2, mut l3, mut l4, mut l5) = (zero, zero, zero, zero, zero, zero);
        let (mut h0, mut h1, mut h2, mut h3, mut h4, mut h5) = (zero, zero, zero, zero, zero, zero);
        asm!(
            "2:",
            "vmovdqu {low}, ymmword ptr [{panel}]",
            "vmovdqu {high}, ymmword ptr [{panel} + 32]",
            column!("{c0}", "{l0}", "{h0}"),
            column!("{c1}", "{l1}", "{h1}"),
            column!("{c2}", "{l2}", "{h2}"),
            column!("{c3}", "{l3}", "{h3}"),
            column!("{c4}", "{l4}", "{h4}"),
            column!("{c5}", "{l5}", "{h5}"),
            "add {panel}, 64",
            "add {at}, 4",
            "jne 2b",
            panel = inout(reg) $panel => _,
            at = inout(reg) -($bytes as isize) => _,
            c0 = in(reg) $end(0), c1 = in(reg) $end(1), c2 = in(reg) $end(2),
            c3 = in(reg) $end(3), c4 = in(reg) $end(4), c5 = in(reg) $end(5),
            low = out(ymm_reg) _, high = out(ymm_reg) _, t0 = out(ymm_reg) _, t1 = out(ymm_reg) _,
            l0 = inout(ymm_reg) l0, l1 = inout(ymm_reg) l1, l2 = inout(ymm_reg) l2,
            l3 = inout(ymm_reg) l3, l4 = inout(ymm_reg) l4, l5 = inout(ymm_reg) l5,
            h0 = inout(ymm_reg) h0, h1 = inout(ymm_reg) h1, h2 = inout(ymm_reg) h2,
            h3 = inout(ymm_reg) h3, h4 = inout(ymm_reg) h4, h5 = inout(ymm_reg) h5,
            options(nostack, readonly),
        );
        [(l0, h0), (l1, h1), (l2, h2), (l3, h3), (l4, h4), (l5, h5)]
    }};
}

/// `sums` [6][16] += the product of `steps` inner steps, whole pairs from the beginning of a block on, in 16 bits. `panel`
/// is widened; `scales` are the panel's of the first block.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn packed(panel: *const u8, scales: *const f32, tile: &PackedTile, steps: usize, sums: *mut f32) {
    for (block, first) in (0..steps).step_by(BLOCK).enumerate() {
        let len = BLOCK.min(steps - first);
        let end = |column: usize| tile.columns[column].wrapping_add(2 * (first + len));
        // SAFETY: panel and columns have `steps` values from here on; the loop reads `len` of each, addresses running
        // up to 0 behind the block's end. `sums` has 6 * 16 values, scales one vector or value a block.
        unsafe {
            let block_sums = block_sums!("vpmaddwd", "vpaddd", panel.add(2 * first * PANEL), end, 2 * len);
            let scales = scales.add(block * PANEL);
            let (low, high) = (_mm256_loadu_ps(scales), _mm256_loadu_ps(scales.add(8)));
            for (column, (l, h)) in block_sums.into_iter().enumerate() {
                let scale = _mm256_broadcast_ss(&*tile.column_scales[column].add(block));
                let sums = sums.add(column * PANEL);
                let (l, h) = (_mm256_mul_ps(_mm256_cvtepi32_ps(l), low), _mm256_mul_ps(_mm256_cvtepi32_ps(h), high));
                _mm256_storeu_ps(sums, _mm256_fmadd_ps(l, scale, _mm256_loadu_ps(sums)));
                _mm256_storeu_ps(sums.add(8), _mm256_fmadd_ps(h, scale, _mm256_loadu_ps(sums.add(8))));
            }
        }
    }
}

/// The same for 4-bit numbers, split into bytes, and columns of 8 bits, whole blocks: eight pairs of products are added
/// in 16 bits, which a block's 32 steps do not overflow.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn nibbles(panel: *const u8, scales: *const f32, tile: &PackedTile, steps: usize, sums: *mut f32) {
    let ones = _mm256_set1_epi16(1);
    for (block, first) in (0..steps).step_by(NIBBLE_BLOCK).enumerate() {
        let end = |column: usize| tile.columns[column].wrapping_add(first + NIBBLE_BLOCK);
        // SAFETY: as in `packed`; scales have two vectors a block, columns two values.
        unsafe {
            let block_sums = block_sums!("vpmaddubsw", "vpaddw", panel.add(first * PANEL), end, NIBBLE_BLOCK);
            let scales = scales.add(2 * block * PANEL);
            let [low, high, low_minimum, high_minimum] =
                [0, 8, PANEL, PANEL + 8].map(|at| _mm256_loadu_ps(scales.add(at)));
            for (column, (l, h)) in block_sums.into_iter().enumerate() {
                let of_column = tile.column_scales[column].add(2 * block);
                let (scale, sum) = (_mm256_broadcast_ss(&*of_column), _mm256_broadcast_ss(&*of_column.add(1)));
                let sums = sums.add(column * PANEL);
                let [l, h] = [l, h].map(|sums| _mm256_cvtepi32_ps(_mm256_madd_epi16(sums, ones)));
                let l = _mm256_fmadd_ps(_mm256_mul_ps(l, low), scale, _mm256_loadu_ps(sums));
                let h = _mm256_fmadd_ps(_mm256_mul_ps(h, high), scale, _mm256_loadu_ps(sums.add(8)));
                _mm256_storeu_ps(sums, _mm256_fmadd_ps(low_minimum, sum, l));
                _mm256_storeu_ps(sums.add(8), _mm256_fmadd_ps(high_minimum, sum, h));
            }
        }
    }
}

/// A run of inner steps of an F32 matrix whose outputs are contiguous.
#[derive(Clone, Copy)]
pub(super) struct PlainRun {
    /// Panel values of the first step.
    pub(super) matrix: *const f32,
    /// Bytes from one step to the next.
    pub(super) matrix_step: usize,
    /// First column's value of the first step.
    pub(super) columns: *const f32,
    /// Values from one step to the next.
    pub(super) step: usize,
    /// Values from one column to the next.
    pub(super) column_stride: usize,
    /// Steps.
    pub(super) len: usize,
}

/// `sums` [width][16] += the product of a run, for up to six columns.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn plain(run: &PlainRun, width: usize, sums: *mut f32) {
    // SAFETY: the caller gives a run and sums of that width.
    unsafe {
        match width {
            1 => plain_columns::<1>(run, sums),
            2 => plain_columns::<2>(run, sums),
            3 => plain_columns::<3>(run, sums),
            4 => plain_columns::<4>(run, sums),
            5 => plain_columns::<5>(run, sums),
            _ => plain_columns::<6>(run, sums),
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn plain_columns<const N: usize>(run: &PlainRun, sums: *mut f32) {
    // SAFETY: `sums` has N * 16 values.
    unsafe {
        let mut local = [[_mm256_setzero_ps(); 2]; N];
        for (n, local) in local.iter_mut().enumerate() {
            *local = [_mm256_loadu_ps(sums.add(n * PANEL)), _mm256_loadu_ps(sums.add(n * PANEL + 8))];
        }
        // Only turned columns have another step than 1, and a single turned column reads the same either way.
        if run.step == 1 {
            plain_steps::<N, true>(run, &mut local)
        } else {
            plain_steps::<N, false>(run, &mut local)
        }
        for (n, local) in local.iter().enumerate() {
            _mm256_storeu_ps(sums.add(n * PANEL), local[0]);
            _mm256_storeu_ps(sums.add(n * PANEL + 8), local[1]);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn plain_steps<const N: usize, const CONTIGUOUS: bool>(run: &PlainRun, sums: &mut [[__m256; 2]; N]) {
    let mut local = *sums;
    let mut row = run.matrix;
    // SAFETY: columns of the tile exist.
    let columns: [*const f32; N] = std::array::from_fn(|n| unsafe { run.columns.add(n * run.column_stride) });
    // Turned columns lie side by side, so one address serves the tile.
    let mut turned = columns[0];
    for step in 0..run.len {
        // Addresses advance by pointer: checked index arithmetic would cost a third of the speed.
        // SAFETY: the matrix has `len` rows of 16 values from here on, the columns `len` values; the pointers are
        // not read after their last step.
        unsafe {
            let (low, high) = (_mm256_loadu_ps(row), _mm256_loadu_ps(row.add(8)));
            row = row.wrapping_byte_add(run.matrix_step);
            for n in 0..N {
                let value = _mm256_broadcast_ss(&*if CONTIGUOUS { columns[n].add(step) } else { turned.add(n) });
                local[n] = [_mm256_fmadd_ps(low, value, local[n][0]), _mm256_fmadd_ps(high, value, local[n][1])];
            }
            turned = turned.wrapping_add(run.step);
        }
    }
    *sums = local;
}
