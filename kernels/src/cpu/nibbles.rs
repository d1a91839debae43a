//! The storage types whose weights are 4-bit numbers, each block of 32 with a scale and a minimum:
//! weight = scale * number + minimum. Layouts are those of ggml's `block_q4_0`, `block_q4_1` and `block_q4_K`; other types are
//! decoded by ggml. Nothing here multiplies.

use llama_cpp_sys_2 as sys;

use super::panels::NIBBLE_BLOCK;
use crate::ggml::{Q4_0, Q4_1, Q4_K, Type};

/// Values of a block of Q4_K.
const SUPER_BLOCK: usize = 256;
/// Bytes of a block of Q4_K: two F16 factors, 12 bytes of 6-bit scales and minima, the numbers.
const SUPER_BYTES: usize = 4 + 12 + SUPER_BLOCK / 2;

/// Whether weights of this type are 4-bit numbers.
pub(crate) fn has_nibbles(kind: Type) -> bool {
    matches!(kind, Q4_0 | Q4_1 | Q4_K)
}

/// Numbers, scale and minimum of the 32 values from `32 * block` on of a row stored in `kind`.
pub(super) fn block(kind: Type, row: &[u8], block: usize) -> ([u8; NIBBLE_BLOCK], f32, f32) {
    match kind {
        Q4_0 => {
            let own = &row[block * 18..][..18];
            let scale = f16(own, 0);
            (halves(&own[2..]), scale, -8.0 * scale)
        }
        Q4_1 => {
            let own = &row[block * 20..][..20];
            (halves(&own[4..]), f16(own, 0), f16(own, 2))
        }
        Q4_K => {
            let within = block % (SUPER_BLOCK / NIBBLE_BLOCK);
            let own = &row[block / (SUPER_BLOCK / NIBBLE_BLOCK) * SUPER_BYTES..][..SUPER_BYTES];
            let (scale, minimum) = six_bits(&own[4..16], within);
            // Two blocks share 32 bytes, the first in the lower halves.
            let bytes = &own[16 + within / 2 * NIBBLE_BLOCK..][..NIBBLE_BLOCK];
            let numbers = std::array::from_fn(|at| bytes[at] >> (within % 2 * 4) & 15);
            (numbers, f16(own, 0) * f32::from(scale), -(f16(own, 2) * f32::from(minimum)))
        }
        _ => unreachable!("only types for which `has_nibbles` holds are asked for"),
    }
}

/// Sixteen values in the lower halves of bytes, then sixteen in the upper ones.
fn halves(bytes: &[u8]) -> [u8; NIBBLE_BLOCK] {
    std::array::from_fn(|at| bytes[at % 16] >> (at / 16 * 4) & 15)
}

fn f16(bytes: &[u8], at: usize) -> f32 {
    let bits = u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    // SAFETY: a function of its argument only.
    unsafe { sys::ggml_fp16_to_fp32(bits) }
}

/// Scale and minimum of one of the eight blocks of a Q4_K block: the first four have theirs in the lower six bits of
/// bytes 0 to 3 and 4 to 7, the last four in the halves of bytes 8 to 11 and the upper two bits of the others.
fn six_bits(bytes: &[u8], block: usize) -> (u8, u8) {
    if block < 4 {
        return (bytes[block] & 63, bytes[block + 4] & 63);
    }
    let both = bytes[block + 4];
    (both & 15 | bytes[block - 4] >> 6 << 4, both >> 4 | bytes[block] >> 6 << 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ggml;

    #[test]
    fn numbers_scales_and_minima_are_what_ggml_decodes() {
        for kind in [Q4_0, Q4_1, Q4_K] {
            let values: Vec<f32> =
                (0..1024).map(|at| ((at * 7919 + at * at % 977) % 256) as f32 / 128.0 - 0.7).collect();
            let mut row = vec![0; ggml::row_bytes(kind, values.len())];
            ggml::encode(kind, &values, values.len(), &mut row);
            let mut decoded = vec![0.0; values.len()];
            ggml::decode(kind, &row, &mut decoded);
            for (index, decoded) in decoded.chunks(NIBBLE_BLOCK).enumerate() {
                let (numbers, scale, minimum) = block(kind, &row, index);
                for (number, decoded) in numbers.iter().zip(decoded) {
                    let ours = scale * f32::from(*number) + minimum;
                    assert!((ours - decoded).abs() < 1e-6, "{} {index}: {ours} {decoded}", ggml::type_name(kind));
                }
            }
        }
    }
}
