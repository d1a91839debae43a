//! The stored forms that the packed product multiplies: frozen matrices as panels of 16-bit or 8-bit integers and
//! columns of activations as 16-bit integers, with one F32 scale for every [`BLOCK`] inner steps. Only formats and the
//! way into them; products are in `product`.
//!
//! A panel holds 16 outputs: for each pair of inner steps 16 times the two values of an output, then for each block
//! the 16 scales. A column holds its inner steps, then its scales. Rounding is to nearest, by the largest magnitude of
//! a block: a wide weight is off by at most 1/4094 of the largest beside it, a narrow one by 1/254, an activation by
//! 1/16382.

use std::ffi::{c_int, c_void};
use std::slice;

use llama_cpp_sys_2 as sys;

use super::PANEL;
use crate::ggml::Work;

/// Inner steps that share a scale.
pub(crate) const BLOCK: usize = 128;
/// Bytes of a block's scales.
pub(crate) const SCALES_BYTES: usize = PANEL * size_of::<f32>();
/// Largest magnitude of a stored activation; a block's sum stays below 128 * 2047 * 8191 < 2^31.
const COLUMN_MAX: f32 = 8191.0;

/// How a panel holds its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// In 16 bits, of which 12 are used: as exact as a file's own quantisation asks for.
    Wide,
    /// In 8 bits: for gradients.
    Narrow,
}

impl Width {
    /// Bytes of a value.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Width::Wide => 2,
            Width::Narrow => 1,
        }
    }

    /// Largest magnitude of a value.
    fn most(self) -> f32 {
        match self {
            Width::Wide => 2047.0,
            Width::Narrow => 127.0,
        }
    }
}

/// Bytes of a panel of `inner` steps.
pub(super) fn panel_bytes(width: Width, inner: usize) -> usize {
    PANEL * (width.bytes() * inner + size_of::<f32>() * inner.div_ceil(BLOCK))
}

/// Bytes of a column of `inner` steps.
pub(super) fn column_bytes(inner: usize) -> usize {
    size_of::<i16>() * inner + size_of::<f32>() * inner.div_ceil(BLOCK)
}

/// Inner steps of a column of so many bytes.
pub(super) fn inner_of_column(bytes: usize) -> usize {
    let (whole, rest) = (bytes / column_bytes(BLOCK), bytes % column_bytes(BLOCK));
    whole * BLOCK + rest.saturating_sub(size_of::<f32>()) / size_of::<i16>()
}

/// Bytes of the whole packed form before the numbers, and before the scales, of block `block` of panel `panel`.
pub(crate) fn block_places(width: Width, inner: usize, panel: usize, block: usize) -> (usize, usize) {
    let begin = panel * panel_bytes(width, inner);
    (begin + block * BLOCK * PANEL * width.bytes(), begin + PANEL * (inner * width.bytes() + block * size_of::<f32>()))
}

/// Writes `values`, the steps of a block of 16 outputs each, as `numbers` and `scales` of a panel.
pub(crate) fn pack_block(width: Width, values: &[f32], numbers: &mut [u8], scales: &mut [u8]) {
    assert!(values.len().is_multiple_of(2 * PANEL) && numbers.len() == values.len() * width.bytes(), "steps in pairs");
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
    let pairs = values.chunks_exact(2 * PANEL).zip(numbers.chunks_exact_mut(2 * PANEL * width.bytes()));
    for (pair, out) in pairs {
        let (even, odd) = pair.split_at(PANEL);
        for output in 0..PANEL {
            let [even, odd] = [even[output], odd[output]].map(|value| rounded(value * factors[output]));
            match width {
                Width::Wide => {
                    out[4 * output..][..2].copy_from_slice(&(even as u16).to_le_bytes());
                    out[4 * output + 2..][..2].copy_from_slice(&(odd as u16).to_le_bytes());
                }
                Width::Narrow => out[2 * output..][..2].copy_from_slice(&[even as u8, odd as u8]),
            }
        }
    }
}

/// ggml's entry: turns the columns of an F32 tensor into their stored form.
pub(super) unsafe extern "C" fn store_columns(dst: *mut sys::ggml_tensor, _ith: c_int, nth: c_int, data: *mut c_void) {
    // SAFETY: the node was made by `stored` from an F32 [inner, columns] whose values lie one after the other, and
    // `dst` has `column_bytes(inner)` a column; workers write disjoint columns.
    unsafe {
        let (dst, source) = (&*dst, &*(*dst).src[0]);
        let inner = source.ne[0] as usize;
        for column in Work::of(data).units(dst.ne[1] as usize, nth) {
            let values = slice::from_raw_parts(source.data.cast::<u8>().add(column * source.nb[1]).cast(), inner);
            let out: *mut u8 = dst.data.cast::<u8>().add(column * dst.nb[1]);
            let scales = slice::from_raw_parts_mut(out.add(size_of::<i16>() * inner).cast(), inner.div_ceil(BLOCK));
            store_column(values, slice::from_raw_parts_mut(out.cast(), inner), scales);
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
