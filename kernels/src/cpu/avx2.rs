//! Tiles of 16 outputs times 6 columns for AVX2 and FMA: twelve sums stay in registers while the inner steps run.
//! Nothing here knows shapes, threads or formats beyond a tile.

use std::arch::asm;
use std::arch::x86_64::{
    __m256, _MM_HINT_T1, _mm_loadu_si128, _mm_prefetch, _mm256_broadcast_ss, _mm256_cvtepi8_epi16, _mm256_cvtepi32_ps,
    _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_mul_ps, _mm256_setzero_ps, _mm256_setzero_si256, _mm256_storeu_ps,
    _mm256_storeu_si256,
};

use super::PANEL;
use super::panels::BLOCK;

/// Columns of a tile.
pub(super) const TILE: usize = 6;

/// Widens `count` 8-bit values, a multiple of 16.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn widen(from: *const i8, to: *mut i16, count: usize) {
    for at in (0..count).step_by(16) {
        // SAFETY: the caller gives `count` values on both sides.
        unsafe { _mm256_storeu_si256(to.add(at).cast(), _mm256_cvtepi8_epi16(_mm_loadu_si128(from.add(at).cast()))) };
    }
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
    /// 16-bit values of each column's first step.
    pub(super) columns: [*const i16; TILE],
    /// Scale of each column's first block.
    pub(super) column_scales: [*const f32; TILE],
}

/// `sums` [6][16] += the packed product of `steps` inner steps, whole pairs from the beginning of a block on. `panel`
/// is widened; `scales` are the panel's of the first block.
///
/// Per pair of steps: two loads of the panel, and per column a broadcast, two multiplications of pairs that add
/// neighbours, two additions. Written out because the compiler reorders the additions and spills the sums, which
/// costs a quarter of the speed.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn packed(panel: *const i16, scales: *const f32, tile: &PackedTile, steps: usize, sums: *mut f32) {
    macro_rules! column {
        ($column:literal, $low:literal, $high:literal) => {
            concat!(
                "vpbroadcastd {t1}, dword ptr [",
                $column,
                " + {at}]\n",
                "vpmaddwd {t0}, {low}, {t1}\n",
                "vpmaddwd {t1}, {high}, {t1}\n",
                "vpaddd ",
                $low,
                ", ",
                $low,
                ", {t0}\n",
                "vpaddd ",
                $high,
                ", ",
                $high,
                ", {t1}\n",
            )
        };
    }
    for (block, first) in (0..steps).step_by(BLOCK).enumerate() {
        let len = BLOCK.min(steps - first);
        let bytes = (len * size_of::<i16>()) as isize;
        // SAFETY: panel and columns have `steps` values from here on; the loop reads `len` of each, addresses running
        // from -bytes to 0 behind the block's end. `sums` has 6 * 16 values, scales one vector or value a block.
        unsafe {
            let zero = _mm256_setzero_si256();
            let (mut l0, mut l1, mut l2, mut l3, mut l4, mut l5) = (zero, zero, zero, zero, zero, zero);
            let (mut h0, mut h1, mut h2, mut h3, mut h4, mut h5) = (zero, zero, zero, zero, zero, zero);
            let end = |column: usize| tile.columns[column].add(first + len);
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
                panel = inout(reg) panel.add(first * PANEL) => _,
                at = inout(reg) -bytes => _,
                c0 = in(reg) end(0), c1 = in(reg) end(1), c2 = in(reg) end(2),
                c3 = in(reg) end(3), c4 = in(reg) end(4), c5 = in(reg) end(5),
                low = out(ymm_reg) _, high = out(ymm_reg) _, t0 = out(ymm_reg) _, t1 = out(ymm_reg) _,
                l0 = inout(ymm_reg) l0, l1 = inout(ymm_reg) l1, l2 = inout(ymm_reg) l2,
                l3 = inout(ymm_reg) l3, l4 = inout(ymm_reg) l4, l5 = inout(ymm_reg) l5,
                h0 = inout(ymm_reg) h0, h1 = inout(ymm_reg) h1, h2 = inout(ymm_reg) h2,
                h3 = inout(ymm_reg) h3, h4 = inout(ymm_reg) h4, h5 = inout(ymm_reg) h5,
                options(nostack, readonly),
            );
            let scales = scales.add(block * PANEL);
            let (low, high) = (_mm256_loadu_ps(scales), _mm256_loadu_ps(scales.add(8)));
            for (column, (l, h)) in [(l0, h0), (l1, h1), (l2, h2), (l3, h3), (l4, h4), (l5, h5)].into_iter().enumerate()
            {
                let scale = _mm256_broadcast_ss(&*tile.column_scales[column].add(block));
                let sums = sums.add(column * PANEL);
                let (l, h) = (_mm256_mul_ps(_mm256_cvtepi32_ps(l), low), _mm256_mul_ps(_mm256_cvtepi32_ps(h), high));
                _mm256_storeu_ps(sums, _mm256_fmadd_ps(l, scale, _mm256_loadu_ps(sums)));
                _mm256_storeu_ps(sums.add(8), _mm256_fmadd_ps(h, scale, _mm256_loadu_ps(sums.add(8))));
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
