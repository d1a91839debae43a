//! Backward of SwiGLU in one pass over memory. With s = sigmoid(g): d gate = dh up s (1 + g (1 - s)), d up = dh g s.

use std::ffi::{c_int, c_void};
use std::slice;

use llama_cpp_sys_2 as sys;

use super::math::exp;
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
