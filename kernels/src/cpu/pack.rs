//! From the rows of a model file, in whatever type they are stored, to panels, forward or transposed: once at load, or
//! each time a product needs them, which costs a part of the product and saves holding them. A piece of 256 columns
//! is decoded at a time, so it stays in the second-level cache. Formats are in `panels`.

use std::ffi::{c_int, c_void};
use std::slice;

use llama_cpp_sys_2 as sys;

use crate::ggml::{self, Type, Work};

use super::panels::{BLOCK, NIBBLE_BLOCK, SCALES_BYTES, Width, pack_block};
use super::{PANEL, nibbles};

/// Columns that are decoded together: a whole number of blocks of every storage type and of panels.
const PIECE: usize = 256;

/// A matrix [input, output] as a file stores it, and the panels wanted of it.
#[derive(Clone, Copy)]
pub(crate) struct Packing {
    pub(crate) kind: Type,
    pub(crate) input: usize,
    pub(crate) output: usize,
    pub(crate) width: Width,
    /// Whether the panels are of W^T: outputs and inner steps exchanged.
    pub(crate) transposed: bool,
}

/// A thread's memory for packing.
pub(crate) struct Scratch {
    decoded: [f32; BLOCK * PIECE],
    turned: [f32; BLOCK * PANEL],
    numbers: [u8; BLOCK * PANEL * 2],
    scales: [u8; 2 * SCALES_BYTES],
}

impl Scratch {
    pub(crate) const fn new() -> Scratch {
        Scratch {
            decoded: [0.0; BLOCK * PIECE],
            turned: [0.0; BLOCK * PANEL],
            numbers: [0; BLOCK * PANEL * 2],
            scales: [0; 2 * SCALES_BYTES],
        }
    }
}

impl Packing {
    /// Rows that are packed together: one panel's, or whole blocks.
    pub(crate) fn unit(&self) -> usize {
        if self.transposed { BLOCK } else { PANEL }
    }

    /// Packs the unit that begins with row `first`, whose rows as stored are `stored`. Bytes and their place in the
    /// packed form go to `sink`.
    pub(crate) fn pack(&self, stored: &[u8], first: usize, scratch: &mut Scratch, sink: impl FnMut(usize, &[u8])) {
        if self.width == Width::Nibble {
            self.pack_nibbles(stored, first, sink);
        } else {
            self.pack_rounded(stored, first, scratch, sink);
        }
    }

    /// The numbers, scales and minima of one panel's rows, as they are.
    fn pack_nibbles(&self, stored: &[u8], first: usize, mut sink: impl FnMut(usize, &[u8])) {
        let row_bytes = ggml::row_bytes(self.kind, self.input);
        assert!(first.is_multiple_of(PANEL) && stored.len() == PANEL * row_bytes, "a panel");
        for block in 0..self.input / NIBBLE_BLOCK {
            let mut numbers = [0u8; NIBBLE_BLOCK * PANEL / 2];
            let mut scales = [0f32; 2 * PANEL];
            for (output, row) in stored.chunks_exact(row_bytes).enumerate() {
                let (values, scale, minimum) = nibbles::block(self.kind, row, block);
                (scales[output], scales[PANEL + output]) = (scale, minimum);
                for (eight, values) in numbers.chunks_exact_mut(4 * PANEL).zip(values.chunks_exact(8)) {
                    for (number, at) in eight[4 * output..][..4].iter_mut().zip(0..) {
                        *number = values[at] | values[at + 4] << 4;
                    }
                }
            }
            let (numbers_at, scales_at) = self.width.block_places(self.input, first / PANEL, block);
            sink(numbers_at, &numbers);
            sink(scales_at, scales.map(f32::to_le_bytes).as_flattened());
        }
    }

    fn pack_rounded(&self, stored: &[u8], first: usize, scratch: &mut Scratch, mut sink: impl FnMut(usize, &[u8])) {
        let row_bytes = ggml::row_bytes(self.kind, self.input);
        let rows = stored.len() / row_bytes;
        assert!(first.is_multiple_of(self.unit()) && rows <= self.unit() && rows.is_multiple_of(2), "whole units");
        for column in (0..self.input).step_by(PIECE) {
            let columns = PIECE.min(self.input - column);
            let begin = ggml::row_bytes(self.kind, column);
            for (row, values) in stored.chunks_exact(row_bytes).zip(scratch.decoded.chunks_exact_mut(columns)) {
                ggml::decode(self.kind, &row[begin..][..ggml::row_bytes(self.kind, columns)], values);
            }
            let (step, inner) = if self.transposed { (PANEL, self.output) } else { (BLOCK, self.input) };
            for at in (0..columns).step_by(step) {
                let turned = &mut scratch.turned;
                let (steps, panel, block) = if self.transposed {
                    for (row, out) in
                        scratch.decoded.chunks_exact(columns).zip(turned.chunks_exact_mut(PANEL)).take(rows)
                    {
                        out.copy_from_slice(&row[at..][..PANEL]);
                    }
                    (rows, (column + at) / PANEL, first / self.width.block())
                } else {
                    let steps = BLOCK.min(columns - at);
                    turn(&scratch.decoded, columns, at, &mut turned[..steps * PANEL]);
                    (steps, first / PANEL, (column + at) / self.width.block())
                };
                let blocks = turned[..steps * PANEL].chunks(self.width.block() * PANEL);
                for (index, values) in blocks.enumerate() {
                    let numbers = &mut scratch.numbers[..values.len() / PANEL * self.width.step_bytes()];
                    let scales = &mut scratch.scales[..self.width.block_scales() * size_of::<f32>()];
                    pack_block(self.width, values, numbers, scales);
                    let (numbers_at, scales_at) = self.width.block_places(inner, panel, block + index);
                    sink(numbers_at, numbers);
                    sink(scales_at, scales);
                }
            }
        }
    }
}

/// Columns from `at` on of 16 rows of `columns` values -> for each column its 16 values.
fn turn(rows: &[f32], columns: usize, at: usize, out: &mut [f32]) {
    for (row, values) in rows.chunks_exact(columns).take(PANEL).enumerate() {
        for (out, value) in out.chunks_exact_mut(PANEL).zip(&values[at..]) {
            out[row] = *value;
        }
    }
}

/// Beside the number of a width in the flags of [`run`]: panels are of the transposed matrix.
pub(super) const TRANSPOSED: usize = 1 << 8;

/// ggml's entry. Operand: the matrix as the file stores it; the destination has the packed form of the width
/// that the work's flags name (`packed`).
pub(super) unsafe extern "C" fn run(dst: *mut sys::ggml_tensor, _ith: c_int, nth: c_int, data: *mut c_void) {
    // SAFETY: the node was made by `packed` from a contiguous matrix whose type can be decoded, and its destination
    // has the bytes of the packed form; workers pack units whose places do not overlap.
    unsafe {
        let (dst, matrix, work) = (&*dst, &*(*dst).src[0], Work::of(data));
        let packing = Packing {
            kind: matrix.type_,
            input: matrix.ne[0] as usize,
            output: matrix.ne[1] as usize,
            width: Width::ALL[work.flags & !TRANSPOSED],
            transposed: work.flags & TRANSPOSED != 0,
        };
        let mut scratch = Scratch::new();
        for unit in work.units(packing.output.div_ceil(packing.unit()), nth) {
            let first = unit * packing.unit();
            let rows = packing.unit().min(packing.output - first);
            let stored = slice::from_raw_parts(matrix.data.cast::<u8>().add(first * matrix.nb[1]), rows * matrix.nb[1]);
            packing.pack(stored, first, &mut scratch, |place, bytes| {
                dst.data.cast::<u8>().add(place).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            });
        }
    }
}
