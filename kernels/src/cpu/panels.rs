//! The stored forms that the packed product multiplies: frozen matrices as panels of 16-bit, 8-bit or 4-bit integers and
//! columns of activations as 16-bit or 8-bit integers, with F32 scales for every block of inner steps. Only formats and
//! the way into them; products are in `product`.
//!
//! A panel holds 16 outputs: the numbers of all inner steps, then for each block 16 scales. Wide and narrow panels hold, for
//! each pair of inner steps, 16 times the two values of an output; octets, for each four inner steps, 16 times the four
//! values of an output, 128 added to each; nibbles, for each eight inner steps, 16 times the first four values of an output in
//! the lower halves of bytes and the other four in the upper halves. Behind a block's scales of nibbles come its 16 minima.
//! A column holds its inner steps, then its scales; one for nibbles has behind each scale the sum of the block's values,
//! one for octets -128 times the sum of its numbers, as an integer.
//!
//! Rounding is to nearest, by the largest magnitude of a block: a wide weight is off by at most 1/4094 of the largest beside
//! it, a narrow one or an octet by 1/254, an activation by 1/16382, one for nibbles or octets by 1/254.
//! Nibbles are the file's own numbers and exact.

use super::PANEL;
use crate::ggml::{F64, I8, I16, I32, I64, Type};

/// Inner steps that share a scale.
pub(crate) const BLOCK: usize = 128;
/// Inner steps that share a scale and a minimum where weights are nibbles, as in the file.
pub(crate) const NIBBLE_BLOCK: usize = 32;
/// Inner steps that share a scale where weights are octets, as in files of 8 bits.
pub(crate) const OCTET_BLOCK: usize = 32;
/// Bytes of a block's scales.
pub(crate) const SCALES_BYTES: usize = PANEL * size_of::<f32>();
/// What is added to an octet, so that it has no sign.
pub(super) const OCTET_ZERO: u8 = 128;

/// How a panel holds its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// In 16 bits, of which 12 are used: as exact as a file's own quantisation asks for.
    Wide,
    /// In 8 bits with a sign, multiplied with activations of 16 bits.
    Narrow,
    /// In 4 bits, as the file has them: exact, and multiplied with activations of 8 bits.
    Nibble,
    /// In 8 bits as narrow ones, multiplied with activations of 8 bits: only where [`super::Isa::Avx512`] multiplies.
    Octet,
    /// The same in longer blocks: for gradients, which bear it.
    LongOctet,
}

impl Width {
    /// In the order of their numbers, which flags of operations carry.
    pub(super) const ALL: [Width; 5] = [Width::Wide, Width::Narrow, Width::Nibble, Width::Octet, Width::LongOctet];

    /// The storage type that says so of a tensor of panels; ggml has none for them.
    pub(super) fn kind(self) -> Type {
        match self {
            Width::Wide => I16,
            Width::Narrow => I8,
            Width::Nibble => I32,
            Width::Octet => I64,
            Width::LongOctet => F64,
        }
    }

    /// Whether such panels are multiplied with activations of 8 bits.
    fn takes_bytes(self) -> bool {
        matches!(self, Width::Nibble | Width::Octet | Width::LongOctet)
    }

    /// Bytes of the numbers of 16 outputs and one inner step.
    pub(crate) fn step_bytes(self) -> usize {
        match self {
            Width::Wide => 2 * PANEL,
            Width::Narrow | Width::Octet | Width::LongOctet => PANEL,
            Width::Nibble => PANEL / 2,
        }
    }

    /// Inner steps that share a scale.
    pub(crate) fn block(self) -> usize {
        match self {
            Width::Wide | Width::Narrow | Width::LongOctet => BLOCK,
            Width::Nibble => NIBBLE_BLOCK,
            Width::Octet => OCTET_BLOCK,
        }
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
        if self.takes_bytes() { size_of::<i8>() } else { size_of::<i16>() }
    }

    /// F32 values that a column has for each block.
    pub(super) fn column_scales(self) -> usize {
        if self.takes_bytes() { 2 } else { 1 }
    }

    /// Bytes of such a column of `inner` steps.
    pub(crate) fn column_bytes(self, inner: usize) -> usize {
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

/// Writes `values`, the steps of a block of 16 outputs each, as `numbers` and `scales` of a panel whose numbers are
/// rounded.
pub(crate) fn pack_block(width: Width, values: &[f32], numbers: &mut [u8], scales: &mut [u8]) {
    assert_eq!(numbers.len() * PANEL, values.len() * width.step_bytes(), "a number for each value");
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
    match width {
        Width::Wide => write_numbers::<2, 2>(values, &factors, numbers, |number| (number as u16).to_le_bytes()),
        Width::Narrow => write_numbers::<2, 1>(values, &factors, numbers, |number| [number as u8]),
        Width::Octet | Width::LongOctet => {
            write_numbers::<4, 1>(values, &factors, numbers, |number| [(number as u8).wrapping_add(OCTET_ZERO)])
        }
        Width::Nibble => unreachable!("nibbles are the file's own numbers"),
    }
}

/// Rounds `values` times the factors of their outputs; `STEPS` steps of an output lie side by side, each `BYTES` bytes.
fn write_numbers<const STEPS: usize, const BYTES: usize>(
    values: &[f32],
    factors: &[f32; PANEL],
    numbers: &mut [u8],
    bytes: impl Fn(u32) -> [u8; BYTES],
) {
    assert!(values.len().is_multiple_of(STEPS * PANEL), "whole groups of steps");
    for (values, out) in values.chunks_exact(STEPS * PANEL).zip(numbers.chunks_exact_mut(STEPS * BYTES * PANEL)) {
        for (output, out) in out.chunks_exact_mut(STEPS * BYTES).enumerate() {
            for (step, out) in out.chunks_exact_mut(BYTES).enumerate() {
                out.copy_from_slice(&bytes(rounded(values[step * PANEL + output] * factors[output])));
            }
        }
    }
}

/// The bits of |value|, which are ordered as the magnitudes are, with infinities and NaN above all others: these
/// become a block's scale, reach the sums and are seen.
#[inline(always)]
pub(super) fn magnitude(value: f32) -> u32 {
    value.to_bits() & 0x7fff_ffff
}

/// What brings `largest` to `most`; zero for a block without values to speak of.
#[inline(always)]
pub(super) fn factor(most: f32, largest: f32) -> f32 {
    if largest > 1e-30 { most / largest } else { 0.0 }
}

/// The nearest whole number of a value up to 2^22 in magnitude, in the low bits; ties go to the even one.
#[inline(always)]
pub(super) fn rounded(value: f32) -> u32 {
    (value + 12_582_912.0).to_bits()
}
