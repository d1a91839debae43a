//! Adding rows to the rows that a list of numbers names, several of which may name the same: the gradient of an embedding. Threads
//! share the width, so every value is summed by one of them, in the order of the list.

use std::ffi::{c_int, c_void};
use std::slice;

use llama_cpp_sys_2 as sys;

use crate::ggml::Work;

/// Values of a row that are done together.
const UNIT: usize = 64;

/// ggml's entry. Operands: the destination itself [width, rows], F32 [width, n], I32 [n] of rows.
pub(super) unsafe extern "C" fn add_rows(dst: *mut sys::ggml_tensor, _ith: c_int, nth: c_int, data: *mut c_void) {
    // SAFETY: the node was made by `add_rows` from tensors of these shapes; the numbers name rows, as the trainer has checked; units
    // write parts of rows of their own.
    unsafe {
        let (dst, work) = (&*dst, Work::of(data));
        let [source, numbers] = [1, 2].map(|index: usize| &*dst.src[index]);
        let (width, count) = (dst.ne[0] as usize, source.ne[1] as usize);
        let numbers = slice::from_raw_parts(numbers.data.cast::<i32>(), count);
        for unit in work.units(width.div_ceil(UNIT), nth) {
            let part = unit * UNIT..width.min((unit + 1) * UNIT);
            for (row, &number) in numbers.iter().enumerate() {
                let from = source.data.cast::<u8>().add(row * source.nb[1]).cast::<f32>().add(part.start);
                let to = dst.data.cast::<u8>().add(number as usize * dst.nb[1]).cast::<f32>().add(part.start);
                let from = slice::from_raw_parts(from, part.len());
                for (to, from) in slice::from_raw_parts_mut(to, part.len()).iter_mut().zip(from) {
                    *to += from;
                }
            }
        }
    }
}
