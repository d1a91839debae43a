//! Root mean square norm (<https://arxiv.org/abs/1910.07467>) with its weight, forward and backward, in one pass over
//! memory each. With r = 1 / sqrt(mean(x^2) + eps): y = r w x, and for the gradient g = w dy:
//! dx = r g - r^3 x mean(g x). Sums are F32 in lanes of fixed membership.

use std::ffi::{c_int, c_void};
use std::slice;

use llama_cpp_sys_2 as sys;

use super::math::dot;
use crate::ggml::Work;

/// Rows of a unit.
const UNIT: usize = 8;

/// Rows of the node, all of `width` values.
struct Rows {
    width: usize,
    /// Rows in dimensions 1 and 2.
    counts: [usize; 2],
}

impl Rows {
    fn of(dst: &sys::ggml_tensor) -> Rows {
        Rows { width: dst.ne[0] as usize, counts: [dst.ne[1] as usize, dst.ne[2] as usize] }
    }

    fn count(&self) -> usize {
        self.counts[0] * self.counts[1]
    }

    /// A row of a tensor that has as many.
    unsafe fn at<'a>(&self, tensor: &'a sys::ggml_tensor, row: usize) -> &'a [f32] {
        // SAFETY: the row exists; values of a row lie one after the other.
        unsafe { slice::from_raw_parts(self.place(tensor, row), self.width) }
    }

    fn place(&self, tensor: &sys::ggml_tensor, row: usize) -> *mut f32 {
        let (inner, outer) = (row % self.counts[0], row / self.counts[0]);
        tensor.data.cast::<u8>().wrapping_add(inner * tensor.nb[1] + outer * tensor.nb[2]).cast()
    }
}

/// Runs `row` for each row that this thread does, with its number and its place in the destination.
unsafe fn each_row<'a>(
    dst: *mut sys::ggml_tensor,
    nth: c_int,
    data: *mut c_void,
    row: impl Fn(&Rows, usize, &'a mut [f32]),
) {
    // SAFETY: ggml passes the node that it runs; units write rows of their own.
    unsafe {
        let rows = Rows::of(&*dst);
        for unit in Work::of(data).units(rows.count().div_ceil(UNIT), nth) {
            for index in unit * UNIT..rows.count().min((unit + 1) * UNIT) {
                row(&rows, index, slice::from_raw_parts_mut(rows.place(&*dst, index), rows.width));
            }
        }
    }
}

/// The number in the work's flags: eps.
unsafe fn eps(data: *mut c_void) -> f32 {
    // SAFETY: the caller passes on what ggml gave it.
    f32::from_bits(unsafe { Work::of(data) }.flags as u32)
}

/// ggml's entry. Operands: x, and the weight [width]; the destination gets y, shaped as x.
pub(super) unsafe extern "C" fn forward(dst: *mut sys::ggml_tensor, _ith: c_int, nth: c_int, data: *mut c_void) {
    // SAFETY: the node was made by `norm` from F32 tensors whose rows fit.
    unsafe {
        let (x, weight, eps) = (&*(*dst).src[0], &*(*dst).src[1], eps(data));
        each_row(dst, nth, data, |rows, row, out| {
            forward_row(rows.at(x, row), rows.at(weight, 0), eps, out);
        });
    }
}

/// ggml's entry. Operands: dy, x, the weight, and, if given, what dx is added to; the destination gets the sum.
pub(super) unsafe extern "C" fn backward(dst: *mut sys::ggml_tensor, _ith: c_int, nth: c_int, data: *mut c_void) {
    // SAFETY: the node was made by `norm_back` from F32 tensors of one shape, and the weight.
    unsafe {
        let [dy, x, weight] = [0, 1, 2].map(|index| &*(*dst).src[index]);
        let (eps, more) = (eps(data), (*dst).src[3].as_ref());
        each_row(dst, nth, data, |rows, row, out| {
            let more = more.map(|more| rows.at(more, row));
            backward_row(rows.at(dy, row), rows.at(x, row), rows.at(weight, 0), eps, more, out);
        });
    }
}

#[target_feature(enable = "avx2,fma")]
fn forward_row(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let factor = 1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * factor * weight;
    }
}

#[target_feature(enable = "avx2,fma")]
fn backward_row(dy: &[f32], x: &[f32], weight: &[f32], eps: f32, more: Option<&[f32]>, out: &mut [f32]) {
    for ((out, dy), weight) in out.iter_mut().zip(dy).zip(weight) {
        *out = dy * weight;
    }
    let factor = 1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt();
    let along = factor * factor * factor * dot(out, x) / x.len() as f32;
    match more {
        Some(more) => {
            for ((out, x), more) in out.iter_mut().zip(x).zip(more) {
                *out = out.mul_add(factor, *more) - x * along;
            }
        }
        None => {
            for (out, x) in out.iter_mut().zip(x) {
                *out = *out * factor - x * along;
            }
        }
    }
}
