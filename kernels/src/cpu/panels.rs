//! The stored forms that the packed product multiplies: frozen matrices as panels of 16-bit, 8-bit or 4-bit integers and
//! columns of activations as 16-bit or 8-bit integers, with F32 scales for every block of inner steps. Only formats and
//! the way into them; products are in `product`.
//!
//! A panel holds 16 outputs: the numbers of all inner steps, then for each block 16 scales. Wide and narrow panels hold, for
//! each pair of inner steps, 16 times the two values of an output. Nibbles hold, for each four inner steps, 8 times the
//! four values of an output in the lower halves of bytes and those of the output 8 further in the upper halves;
//! behind a block's scales come its 16 minima. A column holds its inner steps, then its scales; one for nibbles has
//! behind each scale the sum of the block's values.
//!
//! Rounding is to nearest, by the largest magnitude of a block: a wide weight is off by at most 1/4094 of the largest
//! beside it, a narrow one by 1/254, an activation by 1/16382, one for nibbles by 1/254. Nibbles are the file's own
//! numbers and exact.

use std::ffi::{c_int, c_void};
use std::slice;

use llama_cpp_sys_2 as sys;

use super::PANEL;
use crate::ggml::Work;

/// Inner steps that share a scale.
pub(crate) const BLOCK: usize = 128;
/// Inner steps that share a scale and a minimum where weights are nibbles, as in the file.
pub(crate) const NIBBLE_BLOCK: usize = 32;
/// Bytes of a block's scales.
pub(crate) const SCALES_BYTES: usize = PANEL * size_of::<f32>();
/// Largest magnitude of a stored activation; a block's sum stays below 128 * 2047 * 8191 < 2^31.
const COLUMN_MAX: f32 = 8191.0;
/// The same beside nibbles; sixteen products of a block's 32 are added in 16 bits: 16 * 15 * 127 < 2^15.
const NIBBLE_COLUMN_MAX: f32 = 127.0;

/// How a panel holds its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// In 16 bits, of which 12 are used: as exact as a file's own quantisation asks for.
    Wide,
    /// In 8 bits, of the transposed matrix: for gradients.
    Narrow,
    /// In 4 bits, as the file has them: exact, and multiplied with activations of 8 bits.
    Nibble,
}

impl Width {
    /// Bytes of the numbers of 16 outputs and one inner step.
    pub(crate) fn step_bytes(self) -> usize {
        match self {
            Width::Wide => 2 * PANEL,
            Width::Narrow => PANEL,
            Width::Nibble => PANEL / 2,
        }
    }

    /// Inner steps that share a scale.
    pub(crate) fn block(self) -> usize {
        if self == Width::Nibble { NIBBLE_BLOCK } else { BLOCK }
    }

    /// F32 values that a panel has for each block.
    pub(crate) fn block_scales(self) -> usize {
        if self == Width::Nibble { 2 * PANEL } else { PANEL }
    }

    /// Bytes of a panel of `inner` steps.
    pub(super) fn panel_bytes(self, inner: usize) -> usize {
        self.step_bytes() * inner + size_of::<f32>() * self.block_scales() * inner.div_ceil(self.block())
    }

    /// Bytes of a value of a column that is multiplied with such panels.
    pub(super) fn column_step(self) -> usize {
        if self == Width::Nibble { size_of::<i8>() } else { size_of::<i16>() }
    }

    /// F32 values that a column has for each block.
    pub(super) fn column_scales(self) -> usize {
        if self == Width::Nibble { 2 } else { 1 }
    }

    /// Bytes of such a column of `inner` steps.
    pub(super) fn column_bytes(self, inner: usize) -> usize {
        self.column_step() * inner + size_of::<f32>() * self.column_scales() * inner.div_ceil(self.block())
    }

    /// Inner steps of a column of so many bytes.
    pub(super) fn inner_of_column(self, bytes: usize) -> usize {
        let (whole, rest) = (bytes / self.column_bytes(self.block()), bytes % self.column_bytes(self.block()));
        whole * self.block() + rest.saturating_sub(size_of::<f32>() * self.column_scales()) / self.column_step()
    }

    /// Bytes of the whole packed form before the numbers, and before the scales, of block `block` of panel `panel`.
    pub(crate) fn block_places(self, inner: usize, panel: usize, block: usize) -> (usize, usize) {
        let begin = panel * self.panel_bytes(inner);
        let scales = begin + self.step_bytes() * inner + size_of::<f32>() * self.block_scales() * block;
        (begin + block * self.block() * self.step_bytes(), scales)
    }

    /// Largest magnitude of a value that is rounded.
    fn most(self) -> f32 {
        if self == Width::Wide { 2047.0 } else { 127.0 }
    }
}

/// Writes `values`, the steps of a block of 16 outputs each, as `numbers` and `scales` of a wide or narrow panel.
pub(crate) fn pack_block(width: Width, values: &[f32], numbers: &mut [u8], scales: &mut [u8]) {
    assert!(
        values.len().is_multiple_of(2 * PANEL) && numbers.len() * PANEL == values.len() * width.step_bytes(),
        "steps in pairs"
    );
    assert_eq!(scales.len(), SCALES_BYTES, "a scale for each output");
    let mut largest = [0u32; PANEL];
    for step in values.chunks_exact(PANEL) {
        for (largest, value) in largest.iter_mut().zip(step) {
            *largest = (*largest).max(magnitude(*value));
        }
    }
    let largest = largest.map(f32::from_bits);
    let factors = largest.map(|largest| factor(width.most(), largest));
    for (scale, largest) in scales.chunks_exact_mut(size_of::<f32>()).zip(largest) {
        scale.copy_from_slice(&(largest / width.most()).to_le_bytes());
    }
    let pairs = values.chunks_exact(2 * PANEL).zip(numbers.chunks_exact_mut(2 * width.step_bytes()));
    for (pair, out) in pairs {
        let (even, odd) = pair.split_at(PANEL);
        for output in 0..PANEL {
            let [even, odd] = [even[output], odd[output]].map(|value| rounded(value * factors[output]));
            match width {
                Width::Wide => {
                    out[4 * output..][..2].copy_from_slice(&(even as u16).to_le_bytes());
                    out[4 * output + 2..][..2].copy_from_slice(&(odd as u16).to_le_bytes());
                }
                _ => out[2 * output..][..2].copy_from_slice(&[even as u8, odd as u8]),
            }
        }
    }
}

/// ggml's entry: turns the columns of an F32 tensor into their stored form, that for nibbles if the work's flags are 1.
pub(super) unsafe extern "C" fn store_columns(dst: *mut sys::ggml_tensor, _ith: c_int, nth: c_int, data: *mut c_void) {
    // SAFETY: the node was made by `stored` from an F32 [inner, columns] whose values lie one after the other, and
    // `dst` has `column_bytes(inner)` a column; workers write disjoint columns.
    unsafe {
        let (dst, source, work) = (&*dst, &*(*dst).src[0], Work::of(data));
        let inner = source.ne[0] as usize;
        let width = if work.flags == 1 { Width::Nibble } else { Width::Wide };
        let scales = width.column_scales() * inner.div_ceil(width.block());
        for column in work.units(dst.ne[1] as usize, nth) {
            let values = slice::from_raw_parts(source.data.cast::<u8>().add(column * source.nb[1]).cast(), inner);
            let out: *mut u8 = dst.data.cast::<u8>().add(column * dst.nb[1]);
            let scales = slice::from_raw_parts_mut(out.add(width.column_step() * inner).cast(), scales);
            match width {
                Width::Nibble => store_nibble_column(values, slice::from_raw_parts_mut(out.cast(), inner), scales),
                _ => store_column(values, slice::from_raw_parts_mut(out.cast(), inner), scales),
            }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
fn store_column(values: &[f32], out: &mut [i16], scales: &mut [f32]) {
    for ((values, out), scale) in values.chunks(BLOCK).zip(out.chunks_mut(BLOCK)).zip(scales) {
        let largest = f32::from_bits(values.iter().fold(0, |largest, value| largest.max(magnitude(*value))));
        let factor = factor(COLUMN_MAX, largest);
        *scale = largest / COLUMN_MAX;
        for (out, value) in out.iter_mut().zip(values) {
            *out = rounded(value * factor) as i16;
        }
    }
}

#[target_feature(enable = "avx2,fma")]
fn store_nibble_column(values: &[f32], out: &mut [i8], scales: &mut [f32]) {
    let blocks =
        values.chunks_exact(NIBBLE_BLOCK).zip(out.chunks_exact_mut(NIBBLE_BLOCK)).zip(scales.chunks_exact_mut(2));
    for ((values, out), scales) in blocks {
        let largest = f32::from_bits(values.iter().fold(0, |largest, value| largest.max(magnitude(*value))));
        let factor = factor(NIBBLE_COLUMN_MAX, largest);
        let mut numbers = [0i32; NIBBLE_BLOCK];
        for (number, value) in numbers.iter_mut().zip(values) {
            *number = rounded(value * factor) as i8 as i32;
        }
        for (out, number) in out.iter_mut().zip(numbers) {
            *out = number as i8;
        }
        scales[0] = largest / NIBBLE_COLUMN_MAX;
        scales[1] = scales[0] * numbers.iter().sum::<i32>() as f32;
    }
}

/// The bits of |value|, which are ordered as the magnitudes are, with infinities and NaN above all others: these
/// become a block's scale, reach the sums and are seen.
#[inline(always)]
fn magnitude(value: f32) -> u32 {
    value.to_bits() & 0x7fff_ffff
}

/// What brings `largest` to `most`; zero for a block without values to speak of.
#[inline(always)]
fn factor(most: f32, largest: f32) -> f32 {
    if largest > 1e-30 { most / largest } else { 0.0 }
}

/// The nearest whole number of a value up to 2^22 in magnitude, in the low bits; ties go to the even one.
#[inline(always)]
fn rounded(value: f32) -> u32 {
    (value + 12_582_912.0).to_bits()
}
