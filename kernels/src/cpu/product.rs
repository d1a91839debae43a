//! Sums of matrix products. A panel of 16 outputs times a block of columns is done at a time: its sums stay in the
//! first-level cache while all terms run through them, frozen terms as integers (see `panels`), the others in
//! F32. A piece of a narrow panel, or of one of nibbles, is widened once and used for the whole block of columns. Every output is summed by
//! one thread, in the order of terms and of the inner dimension, whatever the number of threads.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr;

use llama_cpp_sys_2 as sys;

use super::PANEL;
use super::avx2::{self, PackedTile, PlainRun, TILE};
use super::panels::{BLOCK, Width};
use crate::ggml::Work;

/// The first operand is what the sum begins with (it may be the destination itself).
pub(super) const HAS_START: usize = 1;
/// Columns are stored [columns, inner] instead of [inner, columns].
pub(super) const TURNED: usize = 2;

/// Most terms of one operation: ggml allows ten operands.
const TERMS_MAX: usize = 4;
/// Most columns of a unit: their sums and a piece of a panel fill two thirds of the first-level cache.
const COLUMNS_MAX: usize = 192;
/// Fewest columns of a unit where there are more: below, fetching panels costs more than fetching columns.
const COLUMNS_MIN: usize = 6 * TILE;
/// Bytes of columns that a unit works on: they stay in the second-level cache from panel to panel.
const COLUMN_BYTES: usize = 256 * 1024;
/// Most inner steps of a term that are done before other panels get their turn.
const ROUND: usize = 32 * BLOCK;
/// Units that each thread would do if all were equally fast.
const UNITS_PER_WORKER: usize = 16;
/// Bytes of panels that are fetched ahead while a tile is computed.
const AHEAD: usize = 512;
/// Bytes that a piece of a panel has at most when widened.
const PIECE_BYTES: usize = 8192;

/// A term of the operation for one place of dimensions 2 and 3.
#[derive(Clone, Copy)]
struct Source {
    /// A packed panel, or F32 rows of outputs.
    matrix: *const u8,
    /// How the panels hold their values; `None` for F32 rows.
    packed: Option<Width>,
    /// Bytes from one panel to the next.
    panel_bytes: usize,
    /// Bytes from one inner step to the next.
    matrix_step: usize,
    columns: *const u8,
    /// F32 values from one inner step to the next.
    step: usize,
    /// Bytes from one column to the next.
    column_bytes: usize,
    inner: usize,
    /// The steps to do: from here, a whole number of blocks,
    first: usize,
    /// to here.
    end: usize,
}

const NO_SOURCE: Source = Source {
    matrix: ptr::null(),
    packed: None,
    panel_bytes: 0,
    matrix_step: 0,
    columns: ptr::null(),
    step: 0,
    column_bytes: 0,
    inner: 0,
    first: 0,
    end: 0,
};

/// ggml's entry. The work's flags say what the operands are.
pub(super) unsafe extern "C" fn run(dst: *mut sys::ggml_tensor, _ith: c_int, nth: c_int, data: *mut c_void) {
    // SAFETY: ggml passes the node it runs and its operands' memory is allocated; shapes were fixed when the node was
    // made from `sum_of_products` or `add_outer`, whose callers pass matching shapes, all of F32 or packed.
    unsafe {
        let (dst, work) = (&*dst, Work::of(data));
        let flags = work.flags;
        let first = usize::from(flags & HAS_START != 0);
        let terms = (TERMS_MAX * 2 - 1 + first).min(dst.src.len());
        let mut count = 0;
        while first + 2 * count < terms && !dst.src[first + 2 * count].is_null() {
            count += 1;
        }
        let start = if first == 1 { &*dst.src[0] } else { dst };
        let shape = Shape {
            panels: dst.ne[0] as usize / PANEL,
            columns: dst.ne[1] as usize,
            out_stride: dst.nb[1] / size_of::<f32>(),
            begin_stride: start.nb[1] / size_of::<f32>(),
        };
        let sources_at = |place: [usize; 2]| {
            let mut sources = [NO_SOURCE; TERMS_MAX];
            for (index, source) in sources[..count].iter_mut().enumerate() {
                let [matrix, columns] = [0, 1].map(|operand| &*dst.src[first + 2 * index + operand]);
                *source = source_of(dst, matrix, columns, place, flags & TURNED != 0);
            }
            sources
        };
        let places = (dst.ne[2] * dst.ne[3]) as usize;
        let tiling = Tiling::of(&sources_at([0, 0])[..count], shape, places * nth as usize);
        for unit in work.units(places * tiling.units(shape), nth) {
            let (place, unit) = (unit / tiling.units(shape), unit % tiling.units(shape));
            let place = [place % dst.ne[2] as usize, place / dst.ne[2] as usize];
            let begin = if first == 1 { at(start, place) } else { ptr::null() };
            multiply(&sources_at(place)[..count], shape, tiling, unit, begin, at(dst, place).cast_mut());
        }
    }
}

/// Address of a tensor's data at places of dimensions 2 and 3, repeated when the tensor has fewer.
unsafe fn at(tensor: &sys::ggml_tensor, place: [usize; 2]) -> *const f32 {
    // SAFETY: the offset lies inside the tensor: `place` is below its (repeated) dimensions.
    unsafe { tensor.data.cast::<u8>().add(place[0] * tensor.nb[2] + place[1] * tensor.nb[3]).cast() }
}

unsafe fn source_of(
    dst: &sys::ggml_tensor,
    matrix: &sys::ggml_tensor,
    columns: &sys::ggml_tensor,
    place: [usize; 2],
    turned: bool,
) -> Source {
    let packed = match matrix.type_ {
        sys::GGML_TYPE_I16 => Some(Width::Wide),
        sys::GGML_TYPE_I8 => Some(Width::Narrow),
        sys::GGML_TYPE_I32 => Some(Width::Nibble),
        _ => None,
    };
    // Grouped heads: consecutive places share a matrix, or share columns.
    let shared = |tensor: &sys::ggml_tensor| {
        [place[0] * tensor.ne[2] as usize / dst.ne[2] as usize, place[1] * tensor.ne[3] as usize / dst.ne[3] as usize]
    };
    let (stride, inner, count) = (columns.nb[1], columns.ne[0] as usize, columns.ne[1] as usize);
    let (step, column_bytes, inner) = match (packed, turned) {
        (Some(width), _) => (1, stride, width.inner_of_column(inner)),
        (None, true) => (stride / size_of::<f32>(), size_of::<f32>(), count),
        (None, false) => (1, stride, inner),
    };
    Source {
        // SAFETY: `shared` gives places of the tensor itself.
        matrix: unsafe { at(matrix, shared(matrix)).cast() },
        packed,
        panel_bytes: if packed.is_some() { matrix.nb[1] } else { PANEL * size_of::<f32>() },
        matrix_step: packed.map_or(matrix.nb[1], Width::step_bytes),
        // SAFETY: as above.
        columns: unsafe { at(columns, shared(columns)).cast() },
        step,
        column_bytes,
        inner,
        first: 0,
        end: inner,
    }
}

#[derive(Clone, Copy)]
struct Shape {
    panels: usize,
    columns: usize,
    out_stride: usize,
    begin_stride: usize,
}

/// How the output is cut into units of work: a run of panels for a block of columns.
#[derive(Clone, Copy)]
struct Tiling {
    /// Columns of a block.
    columns: usize,
    blocks: usize,
    /// Panels of a run.
    panels: usize,
}

impl Tiling {
    fn of(sources: &[Source], shape: Shape, workers: usize) -> Tiling {
        let bytes = |source: &Source| source.packed.unwrap_or(Width::Wide).column_bytes(source.inner.min(ROUND));
        let bytes: usize = sources.iter().map(bytes).sum();
        let most = (COLUMN_BYTES / bytes).clamp(COLUMNS_MIN, COLUMNS_MAX);
        let blocks = shape.columns.div_ceil(most);
        let columns = shape.columns.div_ceil(blocks).next_multiple_of(TILE);
        let panels = (shape.panels * blocks).div_ceil(UNITS_PER_WORKER * workers).max(1);
        Tiling { columns, blocks, panels }
    }

    fn units(self, shape: Shape) -> usize {
        self.blocks * shape.panels.div_ceil(self.panels)
    }
}

/// One unit. Units with the same block of columns follow each other, so that it stays in cache; long sums are done in
/// rounds, each of which continues from the destination.
unsafe fn multiply(sources: &[Source], shape: Shape, tiling: Tiling, unit: usize, begin: *const f32, out: *mut f32) {
    let runs = shape.panels.div_ceil(tiling.panels);
    let (block, run) = (unit / runs, unit % runs);
    let columns = (block * tiling.columns).min(shape.columns)..shape.columns.min((block + 1) * tiling.columns);
    let rounds = sources.iter().map(|source| source.inner.div_ceil(ROUND)).max().unwrap_or(0);
    for round in 0..rounds {
        let mut part = [NO_SOURCE; TERMS_MAX];
        for (part, source) in part.iter_mut().zip(sources) {
            let first = (round * ROUND).min(source.inner);
            *part = Source { first, end: source.inner.min(first + ROUND), ..*source };
        }
        let begin = match round {
            0 => Begin { values: begin, stride: shape.begin_stride },
            _ => Begin { values: out, stride: shape.out_stride },
        };
        for panel in run * tiling.panels..shape.panels.min((run + 1) * tiling.panels) {
            // SAFETY: panel and columns lie inside the shape; `begin` is read only where it is given.
            unsafe { panel_of_columns(&part[..sources.len()], panel, columns.clone(), begin, out, shape.out_stride) };
        }
    }
}

/// What sums begin with (null: zero), and the values from one column to the next.
#[derive(Clone, Copy)]
struct Begin {
    values: *const f32,
    stride: usize,
}

/// One panel for one block of columns.
unsafe fn panel_of_columns(
    sources: &[Source],
    panel: usize,
    columns: Range<usize>,
    begin: Begin,
    out: *mut f32,
    out_stride: usize,
) {
    let mut memory: MaybeUninit<[f32; PANEL * (COLUMNS_MAX + TILE)]> = MaybeUninit::uninit();
    let sums: *mut f32 = memory.as_mut_ptr().cast();
    let place = |column: usize, stride: usize| column * stride + panel * PANEL;
    // SAFETY: a block has at most COLUMNS_MAX columns, a last tile may write TILE more; begin and out have 16 values
    // at every place of the panel, and terms match the shape.
    unsafe {
        if begin.values.is_null() {
            ptr::write_bytes(sums, 0, PANEL * (columns.len() + TILE));
        } else {
            for (at, column) in columns.clone().enumerate() {
                let values = begin.values.add(place(column, begin.stride));
                ptr::copy_nonoverlapping(values, sums.add(at * PANEL), PANEL);
            }
            ptr::write_bytes(sums.add(PANEL * columns.len()), 0, PANEL * TILE);
        }
        for source in sources {
            match source.packed {
                Some(width) => add_packed(source, width, panel, columns.clone(), sums),
                None => add_plain(source, panel, columns.clone(), sums),
            }
        }
        for (at, column) in columns.enumerate() {
            ptr::copy_nonoverlapping(sums.add(at * PANEL), out.add(place(column, out_stride)), PANEL);
        }
    }
}

/// `sums` += a packed term.
unsafe fn add_packed(source: &Source, width: Width, panel: usize, columns: Range<usize>, sums: *mut f32) {
    let mut memory: MaybeUninit<[i16; PIECE_BYTES / 2]> = MaybeUninit::uninit();
    let widened: *mut i16 = memory.as_mut_ptr().cast();
    // A widened step has as many bytes as the columns' values times the panel.
    let most = PIECE_BYTES / (PANEL * width.column_step());
    // SAFETY: panel and columns lie inside the term; pieces begin with a block and lie inside the inner dimension. The
    // features were detected before the node was made.
    unsafe {
        let values = source.matrix.add(panel * source.panel_bytes);
        let scales: *const f32 = values.add(source.inner * source.matrix_step).cast();
        for first in (source.first..source.end).step_by(most) {
            let (steps, block) = (most.min(source.end - first), first / width.block());
            let piece = values.add(first * source.matrix_step);
            let behind = piece.wrapping_add(steps * source.matrix_step);
            let piece = match width {
                Width::Wide => piece,
                Width::Narrow => avx2::widen(piece.cast(), widened, steps * PANEL),
                Width::Nibble => avx2::split(piece, widened.cast(), steps * source.matrix_step),
            };
            let scales = scales.add(block * width.block_scales());
            for (index, column) in columns.clone().step_by(TILE).enumerate() {
                // Behind the last column the tile repeats it, into sums that nothing reads.
                let stored: [*const u8; TILE] = std::array::from_fn(|n| {
                    source.columns.add((column + n).min(columns.end - 1) * source.column_bytes)
                });
                // While a tile is computed, a share of what comes behind this piece is fetched.
                if index * AHEAD < most * source.matrix_step {
                    avx2::prefetch(behind.wrapping_add(index * AHEAD), AHEAD);
                }
                let scales_at = source.inner * width.column_step();
                let tile = PackedTile {
                    columns: stored.map(|column| column.add(first * width.column_step())),
                    column_scales: stored
                        .map(|column| column.add(scales_at).cast::<f32>().add(block * width.column_scales())),
                };
                let sums = sums.add(index * TILE * PANEL);
                match width {
                    Width::Nibble => avx2::nibbles(piece, scales, &tile, steps, sums),
                    _ => avx2::packed(piece, scales, &tile, steps, sums),
                }
            }
        }
    }
}

/// `sums` += an F32 term.
unsafe fn add_plain(source: &Source, panel: usize, columns: Range<usize>, sums: *mut f32) {
    for (index, column) in columns.clone().step_by(TILE).enumerate() {
        // SAFETY: as in `add_packed`.
        unsafe {
            let run = PlainRun {
                matrix: source.matrix.add(panel * source.panel_bytes + source.first * source.matrix_step).cast(),
                matrix_step: source.matrix_step,
                columns: source.columns.add(column * source.column_bytes).cast::<f32>().add(source.first * source.step),
                step: source.step,
                column_stride: source.column_bytes / size_of::<f32>(),
                len: source.end - source.first,
            };
            avx2::plain(&run, TILE.min(columns.end - column), sums.add(index * TILE * PANEL));
        }
    }
}
