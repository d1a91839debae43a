//! The gated activations of the feed-forward block and their backward, in one pass over memory. With s = sigmoid(g) for
//! SiLU and s = sigmoid(2 c (g + a g^3)) for GELU: f(g) = g s, and f'(g) = s + g s (1 - s) r with r = 1 for SiLU and
//! r = 2 c (1 + 3 a g^2) for GELU. d gate = dh up f'(g), d up = dh f(g).

use std::ffi::{c_int, c_void};
use std::slice;

use llama_cpp_sys_2 as sys;

use super::math::exp;
use super::{GELU_CUBE, GELU_FACTOR, share};

/// The part of operand `index` that worker `ith` of `nth` reads.
unsafe fn operand<'a>(dst: &'a sys::ggml_tensor, index: usize, ith: c_int, nth: c_int) -> &'a [f32] {
    // SAFETY: the caller's node has contiguous F32 operands of one shape.
    unsafe {
        let part = share((dst.ne[0] * dst.ne[1]) as usize, ith as usize, nth as usize);
        let data: *const f32 = (*dst.src[index]).data.cast();
        slice::from_raw_parts(data.add(part.start), part.len())
    }
}

/// The part of the result's `index`-th plane that worker `ith` of `nth` writes.
unsafe fn result<'a>(dst: &'a sys::ggml_tensor, index: usize, ith: c_int, nth: c_int) -> &'a mut [f32] {
    // SAFETY: as in `operand`; workers write disjoint parts.
    unsafe {
        let values = (dst.ne[0] * dst.ne[1]) as usize;
        let part = share(values, ith as usize, nth as usize);
        let data: *mut f32 = dst.data.cast();
        slice::from_raw_parts_mut(data.add(index * values + part.start), part.len())
    }
}

/// ggml's entry. Operands: gate, up; the destination gets gelu(gate) * up, all [width, columns].
pub(super) unsafe extern "C" fn geglu(dst: *mut sys::ggml_tensor, ith: c_int, nth: c_int, _data: *mut c_void) {
    // SAFETY: the node was made by `geglu` from contiguous F32 tensors of one shape, whose memory is allocated.
    unsafe {
        let dst = &*dst;
        gelu_times(operand(dst, 0, ith, nth), operand(dst, 1, ith, nth), result(dst, 0, ith, nth));
    }
}

/// ggml's entry. Operands: gradient, gate, up, each contiguous [width, columns]; the destination [width, columns, 2]
/// gets the gradient of gate first, then that of up.
pub(super) unsafe extern "C" fn swiglu_back(dst: *mut sys::ggml_tensor, ith: c_int, nth: c_int, _data: *mut c_void) {
    // SAFETY: the node was made by `gated_back`; else as in `geglu`.
    unsafe {
        let dst = &*dst;
        let [dh, g, u] = [0, 1, 2].map(|index| operand(dst, index, ith, nth));
        back(dh, g, u, result(dst, 0, ith, nth), result(dst, 1, ith, nth), |g| (g, 1.0));
    }
}

/// The same for GELU.
pub(super) unsafe extern "C" fn geglu_back(dst: *mut sys::ggml_tensor, ith: c_int, nth: c_int, _data: *mut c_void) {
    // SAFETY: as in `swiglu_back`.
    unsafe {
        let dst = &*dst;
        let [dh, g, u] = [0, 1, 2].map(|index| operand(dst, index, ith, nth));
        back(dh, g, u, result(dst, 0, ith, nth), result(dst, 1, ith, nth), gelu_argument);
    }
}

/// What GELU's sigmoid is taken of, and its slope r.
#[inline(always)]
fn gelu_argument(g: f32) -> (f32, f32) {
    let square = GELU_CUBE * g * g;
    (2.0 * GELU_FACTOR * g * (1.0 + square), 2.0 * GELU_FACTOR * (1.0 + 3.0 * square))
}

#[target_feature(enable = "avx2,fma")]
fn gelu_times(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((g, u), out) in gate.iter().zip(up).zip(out) {
        *out = g * u / (1.0 + exp(-gelu_argument(*g).0));
    }
}

#[target_feature(enable = "avx2,fma")]
fn back(
    gradient: &[f32],
    gate: &[f32],
    up: &[f32],
    d_gate: &mut [f32],
    d_up: &mut [f32],
    argument: impl Fn(f32) -> (f32, f32),
) {
    let operands = gradient.iter().zip(gate).zip(up);
    for (((dh, &g), u), (d_gate, d_up)) in operands.zip(d_gate.iter_mut().zip(d_up)) {
        let (x, slope) = argument(g);
        let s = 1.0 / (1.0 + exp(-x));
        *d_gate = dh * u * s * (1.0 + g * (1.0 - s) * slope);
        *d_up = dh * g * s;
    }
}
