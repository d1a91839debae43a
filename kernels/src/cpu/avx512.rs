//! Tiles of 16 outputs times 12 columns for AVX-512 with VNNI: a register holds all 16 outputs of a column, first as whole
//! numbers while a block runs, then as F32 while all terms run. Everything that is not a whole number is computed in
//! the order of `avx2`, so the same panels give the same bits. Nothing here knows shapes or threads.

use std::arch::asm;
use std::arch::x86_64::{
    __m512, __m512i, _mm512_cvtepi32_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mul_ps, _mm512_set1_epi8,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_storeu_ps,
};
use std::ops::Range;

use super::PANEL;
use super::avx2::PlainRun;
use super::panels::{BLOCK, NIBBLE_BLOCK};

/// Columns of a tile: enough sums that none waits for its own.
pub(super) const TILE: usize = 12;

/// F32 sums of a tile.
pub(super) type Sums = [__m512; TILE];

/// Begins with what `values` has at some columns, and with zeros everywhere where it is null.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn begin(sums: &mut Sums, values: *const f32, stride: usize, columns: Range<usize>) {
    sums.fill(_mm512_setzero_ps());
    if !values.is_null() {
        for (column, sum) in columns.clone().zip(&mut sums[columns]) {
            // SAFETY: the caller gives 16 values at each of these columns.
            *sum = unsafe { _mm512_loadu_ps(values.wrapping_add(column.wrapping_mul(stride))) };
        }
    }
}

/// Writes the sums of some columns.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn end(sums: &Sums, out: *mut f32, stride: usize, columns: Range<usize>) {
    for (column, sum) in columns.clone().zip(&sums[columns]) {
        // SAFETY: the caller gives room for 16 values at each of these columns.
        unsafe { _mm512_storeu_ps(out.wrapping_add(column.wrapping_mul(stride)), *sum) };
    }
}

/// Twelve columns that lie one after the other.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    /// The first column's value of the first step.
    pub(super) values: *const u8,
    /// Bytes from one column to the next.
    pub(super) stride: usize,
}

impl Columns {
    #[inline(always)]
    fn at(self, column: usize, bytes: usize) -> *const u8 {
        // Not checked: this stands in the innermost loops, and an address that is not read may be anything.
        self.values.wrapping_add(column.wrapping_mul(self.stride).wrapping_add(bytes))
    }
}

/// `sums` += row times value of each column, a row and a step of the columns at a time: the row is `$load`ed, and the
/// instruction multiplies it by four bytes of a column. Written out because the compiler keeps an address for every column,
/// which are more than there are registers.
macro_rules! add_steps {
    ($sums:expr, $multiply:literal, $row:expr, $columns:expr, $bytes:expr, $count:expr, [$($load:literal),*],
        row_step: $row_step:expr, step: $step:expr $(, half: $half:expr)?) => {{
        macro_rules! column {
            ($sum:literal, $address:literal) => {
                concat!($multiply, " {", $sum, "}, {n}, dword ptr [", $address, "]{{1to16}}")
            };
        }
        let [a, b, c, d] = [0, 3, 6, 9].map(|column| $columns.at(column, $bytes));
        let [s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11] = $sums;
        asm!(
            "2:",
            $($load,)*
            column!("s0", "{a}"), column!("s1", "{a} + {stride}"), column!("s2", "{a} + 2 * {stride}"),
            column!("s3", "{b}"), column!("s4", "{b} + {stride}"), column!("s5", "{b} + 2 * {stride}"),
            column!("s6", "{c}"), column!("s7", "{c} + {stride}"), column!("s8", "{c} + 2 * {stride}"),
            column!("s9", "{d}"), column!("s10", "{d} + {stride}"), column!("s11", "{d} + 2 * {stride}"),
            "add {row}, {row_step}", "add {a}, {step}", "add {b}, {step}", "add {c}, {step}", "add {d}, {step}",
            "dec {count}",
            "jnz 2b",
            row = inout(reg) $row => _, count = inout(reg) $count => _,
            row_step = in(reg) $row_step, step = in(reg) $step,
            a = inout(reg) a => _, b = inout(reg) b => _, c = inout(reg) c => _, d = inout(reg) d => _,
            stride = in(reg) $columns.stride, n = inout(zmm_reg) _mm512_setzero_si512() => _,
            s0 = inout(zmm_reg) *s0, s1 = inout(zmm_reg) *s1, s2 = inout(zmm_reg) *s2, s3 = inout(zmm_reg) *s3,
            s4 = inout(zmm_reg) *s4, s5 = inout(zmm_reg) *s5, s6 = inout(zmm_reg) *s6, s7 = inout(zmm_reg) *s7,
            s8 = inout(zmm_reg) *s8, s9 = inout(zmm_reg) *s9, s10 = inout(zmm_reg) *s10, s11 = inout(zmm_reg) *s11,
            $(half = in(zmm_reg) $half,)?
            options(nostack, readonly),
        );
    }};
}

/// Some steps of a packed term, from the beginning of a block on.
pub(super) struct Packed {
    /// The panel's numbers of the first step.
    pub(super) panel: *const u8,
    /// Its scales of the first block.
    pub(super) scales: *const f32,
    pub(super) columns: Columns,
    /// Bytes from a column's first step to its scales of the first block.
    pub(super) scales_at: usize,
    pub(super) steps: usize,
}

impl Packed {
    /// What a column has for scaling at place `index`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn of_column(&self, column: usize, index: usize) -> __m512 {
        let at = self.columns.at(column, self.scales_at + size_of::<f32>() * index);
        // SAFETY: the caller names a value that is there; F32 values of columns lie at multiples of two bytes or one.
        unsafe { _mm512_set1_ps(at.cast::<f32>().read_unaligned()) }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn scaled(sum: __m512i, scales: __m512) -> __m512 {
    _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scales)
}

/// Adds the product of numbers of 16 bits.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn words(term: &Packed, sums: &mut Sums) {
    for (block, first) in (0..term.steps).step_by(BLOCK).enumerate() {
        let mut whole = [_mm512_setzero_si512(); TILE];
        let pairs = BLOCK.min(term.steps - first) / 2;
        // SAFETY: panel and columns have `steps` values from here on, scales a vector or value a block.
        unsafe {
            add_steps!(&mut whole, "vpdpwssd", term.panel.add(2 * first * PANEL), term.columns, 2 * first, pairs,
                ["vmovdqu64 {n}, zmmword ptr [{row}]"], row_step: 4 * PANEL, step: 4_usize);
            let of_panel = _mm512_loadu_ps(term.scales.add(block * PANEL));
            for (column, sum) in sums.iter_mut().enumerate() {
                *sum = _mm512_fmadd_ps(scaled(whole[column], of_panel), term.of_column(column, block), *sum);
            }
        }
    }
}

/// Adds the product of octets in blocks of `N`. A column's sum, 128-fold and negative, makes up for the 128 that stands on each number.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn octets<const N: usize>(term: &Packed, sums: &mut Sums) {
    for (block, first) in (0..term.steps).step_by(N).enumerate() {
        let fours = N.min(term.steps - first) / 4;
        // SAFETY: as in `words`; columns have two values a block.
        unsafe {
            let mut whole = [_mm512_setzero_si512(); TILE];
            for (column, sum) in whole.iter_mut().enumerate() {
                let at = term.columns.at(column, term.scales_at + size_of::<f32>() * (2 * block + 1));
                *sum = _mm512_set1_epi32(at.cast::<i32>().read_unaligned());
            }
            add_steps!(&mut whole, "vpdpbusd", term.panel.add(first * PANEL), term.columns, first, fours,
                ["vmovdqu64 {n}, zmmword ptr [{row}]"], row_step: 4 * PANEL, step: 4_usize);
            let of_panel = _mm512_loadu_ps(term.scales.add(block * PANEL));
            for (column, sum) in sums.iter_mut().enumerate() {
                *sum = _mm512_fmadd_ps(scaled(whole[column], of_panel), term.of_column(column, 2 * block), *sum);
            }
        }
    }
}

/// Adds the product of nibbles: the lower halves of 64 bytes are four steps, the upper ones the next four.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn nibbles(term: &Packed, sums: &mut Sums) {
    let half = _mm512_set1_epi8(15);
    for (block, first) in (0..term.steps).step_by(NIBBLE_BLOCK).enumerate() {
        let mut whole = [_mm512_setzero_si512(); TILE];
        let panel = term.panel.wrapping_add(first * PANEL / 2);
        // SAFETY: as in `words`, in whole blocks; scales have two vectors a block, columns two values.
        unsafe {
            add_steps!(&mut whole, "vpdpbusd", panel, term.columns, first, NIBBLE_BLOCK / 8,
                ["vpandd {n}, {half}, zmmword ptr [{row}]"], row_step: 4 * PANEL, step: 8_usize, half: half);
            add_steps!(&mut whole, "vpdpbusd", panel, term.columns, first + 4, NIBBLE_BLOCK / 8,
                ["vmovdqu64 {n}, zmmword ptr [{row}]", "vpsrlw {n}, {n}, 4", "vpandd {n}, {n}, {half}"],
                row_step: 4 * PANEL, step: 8_usize, half: half);
            let scales = term.scales.add(2 * block * PANEL);
            let (of_panel, minimum) = (_mm512_loadu_ps(scales), _mm512_loadu_ps(scales.add(PANEL)));
            for (column, sum) in sums.iter_mut().enumerate() {
                let scale = term.of_column(column, 2 * block);
                let product = _mm512_fmadd_ps(scaled(whole[column], of_panel), scale, *sum);
                *sum = _mm512_fmadd_ps(minimum, term.of_column(column, 2 * block + 1), product);
            }
        }
    }
}

/// Some steps of an F32 term whose outputs are contiguous.
pub(super) struct Plain {
    /// 16 values of the first step.
    pub(super) matrix: *const u8,
    /// Bytes from one step to the next.
    pub(super) matrix_step: usize,
    pub(super) columns: Columns,
    /// Bytes from one step to the next.
    pub(super) step: usize,
    pub(super) steps: usize,
}

/// Adds the product of an F32 term.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn plain(term: &Plain, sums: &mut Sums) {
    if term.steps == 0 {
        return;
    }
    // SAFETY: matrix and columns have `steps` steps from here on.
    unsafe {
        add_steps!(sums, "vfmadd231ps", term.matrix, term.columns, 0, term.steps,
            ["vmovups {n}, zmmword ptr [{row}]"], row_step: term.matrix_step, step: term.step);
    }
}

/// The same for the first `count` columns, where there are fewer than a tile has.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn plain_some(term: &Plain, count: usize, sums: &mut Sums) {
    // SAFETY: as in `plain`.
    unsafe {
        match count {
            1 => plain_columns::<1>(term, sums),
            2 => plain_columns::<2>(term, sums),
            3 => plain_columns::<3>(term, sums),
            4 => plain_columns::<4>(term, sums),
            5 => plain_columns::<5>(term, sums),
            6 => plain_columns::<6>(term, sums),
            7 => plain_columns::<7>(term, sums),
            8 => plain_columns::<8>(term, sums),
            9 => plain_columns::<9>(term, sums),
            10 => plain_columns::<10>(term, sums),
            _ => plain_columns::<11>(term, sums),
        }
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn plain_columns<const N: usize>(term: &Plain, sums: &mut Sums) {
    let mut local: [__m512; N] = std::array::from_fn(|column| sums[column]);
    let mut columns: [*const u8; N] = std::array::from_fn(|column| term.columns.at(column, 0));
    let mut row = term.matrix;
    for _ in 0..term.steps {
        // SAFETY: matrix and columns have `steps` steps; the pointers are not read after their last.
        unsafe {
            let values = _mm512_loadu_ps(row.cast());
            row = row.wrapping_add(term.matrix_step);
            for (sum, column) in local.iter_mut().zip(&mut columns) {
                *sum = _mm512_fmadd_ps(values, _mm512_set1_ps(column.cast::<f32>().read_unaligned()), *sum);
                *column = column.wrapping_add(term.step);
            }
        }
    }
    sums[..N].copy_from_slice(&local);
}

/// `sums` [12][16] += the product of a run.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn rows(run: &PlainRun, sums: *mut f32) {
    let value = size_of::<f32>();
    let columns = Columns { values: run.columns.cast(), stride: value * run.column_stride };
    let (matrix, step) = (run.matrix.cast(), value * run.step);
    let term = Plain { matrix, matrix_step: run.matrix_step, columns, step, steps: run.len };
    let mut local = [_mm512_setzero_ps(); TILE];
    // SAFETY: the caller gives a run of twelve columns and their sums.
    unsafe {
        begin(&mut local, sums, PANEL, 0..TILE);
        plain(&term, &mut local);
        end(&local, sums, PANEL, 0..TILE);
    }
}
