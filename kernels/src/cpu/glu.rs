//! Backward of SwiGLU in one pass over memory. With s = sigmoid(g): d gate = dh up s (1 + g (1 - s)), d up = dh g s.

use std::ffi::{c_int, c_void};
use std::slice;

use llama_cpp_sys_2 as sys;

use super::share;

/// ggml's entry. Operands: gradient, gate, up, each contiguous [width, columns]; the destination [width, columns, 2]
/// gets the gradient of gate first, then that of up.
pub(super) unsafe extern "C" fn run(dst: *mut sys::ggml_tensor, ith: c_int, nth: c_int, _data: *mut c_void) {
    // SAFETY: the node was made by `swiglu_back` from contiguous F32 tensors of one shape, whose memory is allocated;
    // workers write disjoint parts of the destination.
    unsafe {
        let dst = &*dst;
        let values = (dst.ne[0] * dst.ne[1]) as usize;
        let part = share(values, ith as usize, nth as usize);
        let operand = |index: usize| {
            let data: *const f32 = (*dst.src[index]).data.cast();
            slice::from_raw_parts(data.add(part.start), part.len())
        };
        let result = |index: usize| {
            let data: *mut f32 = dst.data.cast();
            slice::from_raw_parts_mut(data.add(index * values + part.start), part.len())
        };
        back(operand(0), operand(1), operand(2), result(0), result(1));
    }
}

#[target_feature(enable = "avx2,fma")]
fn back(gradient: &[f32], gate: &[f32], up: &[f32], d_gate: &mut [f32], d_up: &mut [f32]) {
    let operands = gradient.iter().zip(gate).zip(up);
    for (((dh, g), u), (d_gate, d_up)) in operands.zip(d_gate.iter_mut().zip(d_up)) {
        let s = 1.0 / (1.0 + exp(-g));
        *d_gate = dh * u * s * (1.0 + g * (1.0 - s));
        *d_up = dh * g * s;
    }
}

/// e^x to about 2 units in the last place, without branches so that the loop above becomes vector code. x = n ln 2 + r
/// with |r| <= ln 2 / 2, a polynomial for e^r (Cephes `expf`), and n put into the exponent.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Adding and subtracting it rounds to a whole number.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Beyond these the sigmoid is 0 or 1 to the last bit.
    let x = x.clamp(-87.0, 87.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let mut p = 1.987_569_1e-4f32;
    for factor in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p.mul_add(r, factor);
    }
    let p = p.mul_add(r * r, r) + 1.0;
    // The low bits of `shifted` hold n; the shift drops everything above.
    p * f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23))
}

#[cfg(test)]
mod tests {
    #[test]
    fn exp_is_exact_to_a_few_units() {
        for step in -8_600..8_600 {
            let x = step as f32 * 0.01;
            let exact = f64::from(x).exp();
            assert!(((f64::from(super::exp(x)) - exact) / exact).abs() < 4e-7, "{x}");
        }
    }
}
