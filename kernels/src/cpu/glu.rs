//! The gated activations of the feed-forward block and their backward, in one pass over memory. With s = sigmoid(g) for
//! SiLU and s = sigmoid(2 c (g + a g^3)) for GELU: f(g) = g s, and f'(g) = s + g s (1 - s) r with r = 1 for SiLU and
//! r = 2 c (1 + 3 a g^2) for GELU. d gate = dh up f'(g), d up = dh f(g).

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::slice;

use llama_cpp_sys_2 as sys;

use super::math::exp;
use super::{GELU_CUBE, GELU_FACTOR};
use crate::ggml::Work;

/// Values of a unit.
const UNIT: usize = 4096;

/// The `part` of operand `index`.
unsafe fn operand<'a>(dst: &'a sys::ggml_tensor, index: usize, part: &Range<usize>) -> &'a [f32] {
    // SAFETY: the caller's node has contiguous F32 operands of one shape, and the part lies inside.
    unsafe { slice::from_raw_parts((*dst.src[index]).data.cast::<f32>().add(part.start), part.len()) }
}

/// The `part` of the result's `index`-th plane.
unsafe fn result<'a>(dst: *mut sys::ggml_tensor, index: usize, part: &Range<usize>) -> &'a mut [f32] {
    // SAFETY: as in `operand`; units are disjoint.
    unsafe {
        let dst = &*dst;
        let values = (dst.ne[0] * dst.ne[1]) as usize;
        slice::from_raw_parts_mut(dst.data.cast::<f32>().add(index * values + part.start), part.len())
    }
}

/// The parts of a plane of `dst` that this thread does.
unsafe fn parts(dst: &sys::ggml_tensor, nth: c_int, data: *mut c_void) -> impl Iterator<Item = Range<usize>> {
    let values = (dst.ne[0] * dst.ne[1]) as usize;
    // SAFETY: the caller passes on what ggml gave it.
    let units = unsafe { Work::of(data) }.units(values.div_ceil(UNIT), nth);
    units.map(move |unit| unit * UNIT..values.min((unit + 1) * UNIT))
}

/// ggml's entry. Operands: gate, up; the destination gets gelu(gate) * up, all [width, columns].
pub(super) unsafe extern "C" fn geglu(dst: *mut sys::ggml_tensor, _ith: c_int, nth: c_int, data: *mut c_void) {
    // SAFETY: the node was made by `geglu` from contiguous F32 tensors of one shape, whose memory is allocated.
    unsafe {
        for part in parts(&*dst, nth, data) {
            gelu_times(operand(&*dst, 0, &part), operand(&*dst, 1, &part), result(dst, 0, &part));
        }
    }
}

/// ggml's entry. Operands: gradient, gate, up, each contiguous [width, columns]; the destination [width, columns, 2]
/// gets the gradient of gate first, then that of up.
pub(super) unsafe extern "C" fn swiglu_back(dst: *mut sys::ggml_tensor, _ith: c_int, nth: c_int, data: *mut c_void) {
    // SAFETY: the node was made by `gated_back`; else as in `geglu`.
    unsafe {
        for part in parts(&*dst, nth, data) {
            let [dh, g, u] = [0, 1, 2].map(|index| operand(&*dst, index, &part));
            back(dh, g, u, result(dst, 0, &part), result(dst, 1, &part), |g| (g, 1.0));
        }
    }
}

/// The same for GELU.
pub(super) unsafe extern "C" fn geglu_back(dst: *mut sys::ggml_tensor, _ith: c_int, nth: c_int, data: *mut c_void) {
    // SAFETY: as in `swiglu_back`.
    unsafe {
        for part in parts(&*dst, nth, data) {
            let [dh, g, u] = [0, 1, 2].map(|index| operand(&*dst, index, &part));
            back(dh, g, u, result(dst, 0, &part), result(dst, 1, &part), gelu_argument);
        }
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
