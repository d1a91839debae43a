//! Sums of matrix products. A panel of 16 outputs times a block of columns is done at a time, frozen terms as integers
//! (see `panels`), the others in F32; how is the instruction sets' own, in `product/`. Every output is summed by one
//! thread, in the order of terms and of the inner dimension, whatever the number of threads.

mod avx2;
mod avx512;

use std::ffi::{c_int, c_void};
use std::ptr;

use llama_cpp_sys_2 as sys;

use super::PANEL;
use super::panels::{BLOCK, Width};
use crate::ggml::Work;

/// The first operand is what the sum begins with (it may be the destination itself).
pub(super) const HAS_START: usize = 1;
/// Columns are stored [columns, inner] instead of [inner, columns].
pub(super) const TURNED: usize = 2;
/// Packed terms are multiplied by [`super::Isa::Avx512`].
pub(super) const AVX512: usize = 4;

/// Most terms of one operation: ggml allows ten operands.
const TERMS_MAX: usize = 4;
/// Fewest columns of a unit where there are more: below, fetching panels costs more than fetching columns.
const COLUMNS_MIN: usize = 36;
/// Unit of a unit's columns: a whole number of tiles, whatever multiplies.
const COLUMNS_STEP: usize = 12;
/// Bytes of columns that a unit works on: they stay in the second-level cache from panel to panel.
const COLUMN_BYTES: usize = 384 * 1024;
/// Most inner steps of a term that are done before other panels get their turn: so many of a panel and of a tile's columns
/// are in the first-level cache.
const ROUND: usize = 8 * BLOCK;
/// Units that each thread would do if all were equally fast.
const UNITS_PER_WORKER: usize = 16;

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
    /// Whether [`super::Isa::Avx512`] multiplies a packed term.
    wide_registers: bool,
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
    wide_registers: false,
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
                *source = source_of(dst, matrix, columns, place, flags);
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
    flags: usize,
) -> Source {
    let turned = flags & TURNED != 0;
    let packed = Width::ALL.into_iter().find(|width| width.kind() == matrix.type_);
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
        wide_registers: flags & AVX512 != 0,
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
        let columns_max = if sources[0].wide_registers { avx512::COLUMNS_MAX } else { avx2::COLUMNS_MAX };
        let most = (COLUMN_BYTES / bytes).clamp(COLUMNS_MIN, columns_max);
        let blocks = shape.columns.div_ceil(most);
        let columns = shape.columns.div_ceil(blocks).next_multiple_of(COLUMNS_STEP);
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
    let panel_of_columns = if sources[0].wide_registers { avx512::panel_of_columns } else { avx2::panel_of_columns };
    let out = Place { values: out, stride: shape.out_stride };
    for round in 0..rounds {
        let mut part = [NO_SOURCE; TERMS_MAX];
        for (part, source) in part.iter_mut().zip(sources) {
            let len = source.inner.div_ceil(rounds).next_multiple_of(BLOCK);
            let first = (round * len).min(source.inner);
            *part = Source { first, end: source.inner.min(first + len), ..*source };
        }
        let begin = if round == 0 { Place { values: begin.cast_mut(), stride: shape.begin_stride } } else { out };
        for panel in run * tiling.panels..shape.panels.min((run + 1) * tiling.panels) {
            // SAFETY: panel and columns lie inside the shape; `begin` is read only where it is given.
            unsafe { panel_of_columns(&part[..sources.len()], panel, columns.clone(), begin, out) };
        }
    }
}

/// Where the sums of all panels and columns are (null: zero, for what sums begin with), and the values from one column
/// to the next.
#[derive(Clone, Copy)]
struct Place {
    values: *mut f32,
    stride: usize,
}

impl Place {
    /// The 16 values of a panel and column; null if all is.
    fn at(self, panel: usize, column: usize) -> *mut f32 {
        if self.values.is_null() {
            return self.values;
        }
        self.values.wrapping_add(column * self.stride + panel * PANEL)
    }
}
