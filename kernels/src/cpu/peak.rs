//! What the processor multiplies from registers alone: the physical limit that kernels are measured against. Loops for that
//! only, with as many independent sums as hide the latency of an instruction.

use std::arch::x86_64::{
    _mm256_add_epi32, _mm256_fmadd_ps, _mm256_madd_epi16, _mm256_set1_epi16, _mm256_set1_ps, _mm512_dpbusd_epi32,
    _mm512_fmadd_ps, _mm512_set1_epi32, _mm512_set1_ps,
};
use std::hint::black_box;

use super::Isa;

/// Independent sums.
const SUMS: usize = 12;

/// Runs `rounds` rounds of F32 multiply-adds and returns how many operations these are, a multiply-add being two.
pub(crate) fn multiply_floats(isa: Isa, rounds: usize) -> f64 {
    // SAFETY: the caller names instructions that the processor has.
    unsafe {
        match isa {
            Isa::Avx2 => floats_256(rounds),
            Isa::Avx512 => floats_512(rounds),
        }
    }
    let lanes = if isa == Isa::Avx512 { 16 } else { 8 };
    (2 * lanes * SUMS * rounds) as f64
}

/// The same for the integers that the packed products multiply: pairs of words on AVX2, fours of bytes on AVX-512.
pub(crate) fn multiply_integers(isa: Isa, rounds: usize) -> f64 {
    // SAFETY: as above.
    unsafe {
        match isa {
            Isa::Avx2 => words_256(rounds),
            Isa::Avx512 => bytes_512(rounds),
        }
    }
    let lanes = if isa == Isa::Avx512 { 64 } else { 16 };
    (2 * lanes * SUMS * rounds) as f64
}

#[target_feature(enable = "avx2,fma")]
unsafe fn floats_256(rounds: usize) {
    let (factor, mut sums) = (black_box(_mm256_set1_ps(0.999)), [_mm256_set1_ps(0.5); SUMS]);
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, factor, factor);
        }
    }
    black_box(sums);
}

#[target_feature(enable = "avx512f")]
unsafe fn floats_512(rounds: usize) {
    let (factor, mut sums) = (black_box(_mm512_set1_ps(0.999)), [_mm512_set1_ps(0.5); SUMS]);
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, factor, factor);
        }
    }
    black_box(sums);
}

#[target_feature(enable = "avx2")]
unsafe fn words_256(rounds: usize) {
    let (factor, mut sums) = (black_box(_mm256_set1_epi16(3)), [_mm256_set1_epi16(1); SUMS]);
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(*sum, factor));
        }
    }
    black_box(sums);
}

#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn bytes_512(rounds: usize) {
    let (factor, mut sums) = (black_box(_mm512_set1_epi32(0x0101_0101)), [_mm512_set1_epi32(1); SUMS]);
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, factor, factor);
        }
    }
    black_box(sums);
}
