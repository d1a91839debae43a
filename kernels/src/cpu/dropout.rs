//! Dropout (<https://jmlr.org/papers/v15/srivastava14a.html>): y = m x with m = 0 for a share p of all values and 1 / (1 - p) for the others.
//! m is a function of a seed, the number of the pass and the place of the value, so it is never in memory: the backward,
//! and a forward that is computed again, draw the same. Nothing here knows what is dropped where.

use std::ffi::{c_int, c_void};
use std::slice;

use llama_cpp_sys_2 as sys;

use crate::ggml::Work;
use crate::train::SplitMix;

/// Rows of a unit.
const UNIT: usize = 8;
/// Values that one random number decides about, 16 bits each.
const DRAWN: usize = 4;
/// A share of one.
const WHOLE: f32 = 65_536.0;

/// Share and seed as [`run`] takes them. The share is rounded to a 65,536th.
pub(super) fn flags(share: f32, seed: u64) -> usize {
    ((seed << 16) | u64::from((share * WHOLE).round() as u16)) as usize
}

/// ggml's entry. Operands: x [width, columns], whose columns lie one after the other, and the number of the pass as I32 [2].
pub(super) unsafe extern "C" fn run(dst: *mut sys::ggml_tensor, _ith: c_int, nth: c_int, data: *mut c_void) {
    // SAFETY: the node was made by `dropped` from tensors of these shapes, whose memory is allocated; units write rows of
    // their own.
    unsafe {
        let (dst, work) = (&*dst, Work::of(data));
        let (x, key) = (&*dst.src[0], slice::from_raw_parts((*dst.src[1]).data.cast::<u32>(), 2));
        let (width, columns) = (dst.ne[0] as usize, dst.ne[1] as usize);
        let (threshold, seed) = (work.flags as u16, work.flags as u64 >> 16);
        let pass = SplitMix::new(u64::from(key[0]) | u64::from(key[1]) << 32).next() ^ seed;
        let factor = 1.0 / (1.0 - f32::from(threshold) / WHOLE);
        for unit in work.units(columns.div_ceil(UNIT), nth) {
            for column in unit * UNIT..columns.min((unit + 1) * UNIT) {
                let from = x.data.cast::<u8>().add(column * x.nb[1]).cast::<f32>();
                let to = dst.data.cast::<u8>().add(column * dst.nb[1]).cast::<f32>();
                let (from, to) = (slice::from_raw_parts(from, width), slice::from_raw_parts_mut(to, width));
                let mut random = SplitMix::new(SplitMix::new(pass.wrapping_add(column as u64)).next());
                for (from, to) in from.chunks(DRAWN).zip(to.chunks_mut(DRAWN)) {
                    let drawn = random.next();
                    for (at, (from, to)) in from.iter().zip(to).enumerate() {
                        let kept = (drawn >> (16 * at)) as u16 >= threshold;
                        *to = if kept { from * factor } else { 0.0 };
                    }
                }
            }
        }
    }
}
