//! The way of F32 columns into the form that panels of each width are multiplied with. The forms themselves are in `panels`.

use std::arch::x86_64::{
    __m256i, _mm_cvtsi128_si64, _mm_packs_epi16, _mm256_add_epi32, _mm256_and_si256, _mm256_castsi256_si128,
    _mm256_cvtps_epi32, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_max_epi32, _mm256_mul_ps, _mm256_packs_epi32,
    _mm256_permute4x64_epi64, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_si256, _mm256_storeu_si256,
};
use std::ffi::{c_int, c_void};
use std::slice;

use llama_cpp_sys_2 as sys;

use super::panels::{BLOCK, NIBBLE_BLOCK, OCTET_BLOCK, OCTET_ZERO, Width, factor, magnitude, rounded};
use crate::ggml::Work;

/// Largest magnitude of a stored activation; a block's sum stays below 128 * 2047 * 8191 < 2^31.
const COLUMN_MAX: f32 = 8191.0;
/// The same beside nibbles and octets. Sixteen products of a nibble are added in 16 bits, 16 * 15 * 127 < 2^15, all of a
/// block's octets in 32.
const BYTE_COLUMN_MAX: f32 = 127.0;

/// ggml's entry: turns the columns of an F32 tensor into the stored form for the width whose number is in the work's flags.
pub(super) unsafe extern "C" fn store_columns(dst: *mut sys::ggml_tensor, _ith: c_int, nth: c_int, data: *mut c_void) {
    // SAFETY: the node was made by `stored` from an F32 [inner, columns] whose values lie one after the other, and
    // `dst` has `column_bytes(inner)` a column; workers write disjoint columns.
    unsafe {
        let (dst, source, work) = (&*dst, &*(*dst).src[0], Work::of(data));
        let inner = source.ne[0] as usize;
        let width = Width::ALL[work.flags];
        let scales = width.column_scales() * inner.div_ceil(width.block());
        for column in work.units(dst.ne[1] as usize, nth) {
            let values = slice::from_raw_parts(source.data.cast::<u8>().add(column * source.nb[1]).cast(), inner);
            let out: *mut u8 = dst.data.cast::<u8>().add(column * dst.nb[1]);
            let scales = slice::from_raw_parts_mut(out.add(width.column_step() * inner).cast(), scales);
            let (bytes, words) = (out.cast(), out.cast());
            match width {
                Width::Nibble => {
                    let out = slice::from_raw_parts_mut(bytes, inner);
                    store_bytes::<NIBBLE_BLOCK>(values, out, scales, |scale, sum| scale * sum as f32)
                }
                Width::Octet => {
                    store_bytes::<OCTET_BLOCK>(values, slice::from_raw_parts_mut(bytes, inner), scales, make_up)
                }
                Width::LongOctet => {
                    store_bytes::<BLOCK>(values, slice::from_raw_parts_mut(bytes, inner), scales, make_up)
                }
                _ => store_words(values, slice::from_raw_parts_mut(words, inner), scales),
            }
        }
    }
}

/// What makes up for that which was added to octets: an integer in the bits of an F32.
fn make_up(_: f32, sum: i32) -> f32 {
    f32::from_bits(sum.wrapping_mul(-i32::from(OCTET_ZERO)).cast_unsigned())
}

#[target_feature(enable = "avx2,fma")]
fn store_words(values: &[f32], out: &mut [i16], scales: &mut [f32]) {
    for ((values, out), scale) in values.chunks(BLOCK).zip(out.chunks_mut(BLOCK)).zip(scales) {
        let largest = f32::from_bits(values.iter().fold(0, |largest, value| largest.max(magnitude(*value))));
        let factor = factor(COLUMN_MAX, largest);
        *scale = largest / COLUMN_MAX;
        for (out, value) in out.iter_mut().zip(values) {
            *out = rounded(value * factor) as i16;
        }
    }
}

/// Numbers of blocks of `N`, of which the last may be shorter, but comes in eights; for each its scale, and what `behind`
/// makes of that and of the sum of its numbers.
#[target_feature(enable = "avx2,fma")]
fn store_bytes<const N: usize>(values: &[f32], out: &mut [i8], scales: &mut [f32], behind: impl Fn(f32, i32) -> f32) {
    let sign_less = _mm256_set1_epi32(0x7fff_ffff);
    for ((values, out), scales) in values.chunks(N).zip(out.chunks_mut(N)).zip(scales.chunks_exact_mut(2)) {
        let (mut largest, mut sum) = (_mm256_setzero_si256(), _mm256_setzero_si256());
        for eight in values.as_chunks::<8>().0 {
            // SAFETY: eight values are there.
            let bits = unsafe { _mm256_loadu_si256(eight.as_ptr().cast()) };
            largest = _mm256_max_epi32(largest, _mm256_and_si256(bits, sign_less));
        }
        let largest = f32::from_bits(lanes(largest).into_iter().fold(0, i32::max).cast_unsigned());
        let factor = _mm256_set1_ps(factor(BYTE_COLUMN_MAX, largest));
        for (eight, out) in values.as_chunks::<8>().0.iter().zip(out.as_chunks_mut::<8>().0) {
            // SAFETY: eight values are there.
            let numbers = unsafe { _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(eight.as_ptr()), factor)) };
            sum = _mm256_add_epi32(sum, numbers);
            let words = _mm256_permute4x64_epi64::<0b1000>(_mm256_packs_epi32(numbers, numbers));
            let words = _mm256_castsi256_si128(words);
            let bytes = _mm_cvtsi128_si64(_mm_packs_epi16(words, words));
            *out = bytes.to_le_bytes().map(u8::cast_signed);
        }
        scales[0] = largest / BYTE_COLUMN_MAX;
        scales[1] = behind(scales[0], lanes(sum).into_iter().fold(0, i32::wrapping_add));
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn lanes(vector: __m256i) -> [i32; 8] {
    let mut lanes = [0; 8];
    // SAFETY: there is room for eight.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), vector) };
    lanes
}
