//! Sums of matrix products for AVX2, FMA and F16C. A tile of 16 outputs times up to 6 columns stays in 12 registers
//! while all terms run through it: per step of the inner dimension two loads of the panel (converted from F16 when
//! packed), one broadcast per column, and twelve multiply-adds. Columns are read where they lie; only frozen matrices
//! are packed, once. Everything accumulates in F32, in the order of terms and of the inner dimension.

use std::arch::x86_64::{
    __m128i, __m256, _mm_loadu_si128, _mm256_broadcast_ss, _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_setzero_ps, _mm256_storeu_ps,
};
use std::ffi::{c_int, c_void};
use std::ptr;

use llama_cpp_sys_2 as sys;

use super::{PANEL, share};

/// The first operand is what the sum begins with (it may be the destination itself).
pub(super) const HAS_START: usize = 1;
/// Columns are stored [columns, inner] instead of [inner, columns].
pub(super) const TURNED: usize = 2;

/// Columns of a tile.
const TILE: usize = 6;
/// Most terms of one operation: ggml allows ten operands.
const TERMS_MAX: usize = 4;
/// Inner steps of all terms that are done in one go; a longer sum is cut into pieces of `PIECE`.
const WHOLE_MAX: usize = 2400;
/// Inner steps of a piece of a long sum: a panel's piece stays in the first-level cache.
const PIECE: usize = 512;
/// Columns worked on before the next ones are at least so many, however long: each panel read is used for all of them.
const COLUMNS_MIN: usize = 60;
/// Bytes of columns that are worked on before the next ones: they stay in the second-level cache.
const COLUMN_BYTES: usize = 160 * 1024;

/// A run of inner steps of one term, for one panel.
#[derive(Clone, Copy)]
struct Segment {
    /// Panel values of the first step: F16 when `packed`, else F32.
    matrix: *const u8,
    packed: bool,
    /// Bytes from one step to the next.
    matrix_step: usize,
    /// First column's value of the first step.
    columns: *const f32,
    /// Values from one step to the next.
    step: usize,
    /// Values from one column to the next.
    column_stride: usize,
    len: usize,
}

/// A term of the operation for one place of dimensions 2 and 3.
#[derive(Clone, Copy)]
struct Source {
    matrix: *const u8,
    packed: bool,
    panel_bytes: usize,
    matrix_step: usize,
    columns: *const f32,
    step: usize,
    column_stride: usize,
    inner: usize,
}

const NO_SOURCE: Source = Source {
    matrix: ptr::null(),
    packed: false,
    panel_bytes: 0,
    matrix_step: 0,
    columns: ptr::null(),
    step: 0,
    column_stride: 0,
    inner: 0,
};
const NO_SEGMENT: Segment = Segment {
    matrix: ptr::null(),
    packed: false,
    matrix_step: 0,
    columns: ptr::null(),
    step: 0,
    column_stride: 0,
    len: 0,
};

/// ggml's entry: worker `ith` of `nth` computes its share of the panels. `data` holds the flags.
pub(super) unsafe extern "C" fn run(dst: *mut sys::ggml_tensor, ith: c_int, nth: c_int, data: *mut c_void) {
    let flags = data as usize;
    // SAFETY: ggml passes the node it runs and its operands' memory is allocated; shapes were fixed when the node was
    // made from `sum_of_products`, `outer` or `add_outer`, whose callers pass matching shapes, all of F32 or packed F16.
    unsafe {
        let dst = &*dst;
        let first = usize::from(flags & HAS_START != 0);
        let terms = (TERMS_MAX * 2 - 1 + first).min(dst.src.len());
        let mut count = 0;
        while first + 2 * count < terms && !dst.src[first + 2 * count].is_null() {
            count += 1;
        }
        let start = if first == 1 { &*dst.src[0] } else { dst };
        for outer in 0..dst.ne[3] as usize {
            for middle in 0..dst.ne[2] as usize {
                let mut sources = [NO_SOURCE; TERMS_MAX];
                for (index, source) in sources[..count].iter_mut().enumerate() {
                    let matrix = &*dst.src[first + 2 * index];
                    let columns = &*dst.src[first + 2 * index + 1];
                    *source = source_of(dst, matrix, columns, [middle, outer], flags & TURNED != 0);
                }
                let out = at(dst, [middle, outer]).cast_mut();
                let begin = if first == 1 { at(start, [middle, outer]) } else { ptr::null() };
                let shape = Shape {
                    panels: dst.ne[0] as usize / PANEL,
                    columns: dst.ne[1] as usize,
                    out_stride: dst.nb[1] / size_of::<f32>(),
                    begin_stride: start.nb[1] / size_of::<f32>(),
                };
                multiply(&sources[..count], shape, begin, out, ith as usize, nth as usize);
            }
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
    let packed = matrix.type_ == sys::GGML_TYPE_F16;
    // Grouped heads: consecutive places share a matrix, or share columns.
    let shared = |tensor: &sys::ggml_tensor| {
        [place[0] * tensor.ne[2] as usize / dst.ne[2] as usize, place[1] * tensor.ne[3] as usize / dst.ne[3] as usize]
    };
    let stride = columns.nb[1] / size_of::<f32>();
    let (step, column_stride, inner) =
        if turned { (stride, 1, columns.ne[1] as usize) } else { (1, stride, columns.ne[0] as usize) };
    Source {
        // SAFETY: `shared` gives places of the tensor itself.
        matrix: unsafe { at(matrix, shared(matrix)).cast() },
        packed,
        panel_bytes: if packed { matrix.nb[1] } else { PANEL * size_of::<f32>() },
        matrix_step: if packed { PANEL * 2 } else { matrix.nb[1] },
        // SAFETY: as above.
        columns: unsafe { at(columns, shared(columns)) },
        step,
        column_stride,
        inner,
    }
}

#[derive(Clone, Copy)]
struct Shape {
    panels: usize,
    columns: usize,
    out_stride: usize,
    begin_stride: usize,
}

/// One worker's share: units are (block of columns, panel), the panel running fastest.
unsafe fn multiply(sources: &[Source], shape: Shape, begin: *const f32, out: *mut f32, worker: usize, workers: usize) {
    let inner: usize = sources.iter().map(|source| source.inner).sum();
    let piece = if inner <= WHOLE_MAX { inner } else { PIECE };
    let block = (COLUMN_BYTES / (size_of::<f32>() * piece) / TILE * TILE).max(COLUMNS_MIN);
    let units = share(shape.columns.div_ceil(block) * shape.panels, worker, workers);
    let mut unit = units.start;
    while unit < units.end {
        let panel_end = shape.panels.min(unit % shape.panels + units.end - unit);
        let panels = unit % shape.panels..panel_end;
        let from = unit / shape.panels * block;
        let columns = from..shape.columns.min(from + block);
        for first in (0..inner).step_by(piece) {
            // SAFETY: ranges lie inside the shape; `begin` is read only where it is given.
            unsafe {
                let begin = if first > 0 {
                    Begin(out.cast_const(), shape.out_stride)
                } else {
                    Begin(begin, shape.begin_stride)
                };
                strip(
                    sources,
                    first..inner.min(first + piece),
                    panels.clone(),
                    columns.clone(),
                    begin,
                    Out(out, shape.out_stride),
                );
            }
        }
        unit += panels.len();
    }
}

/// What the sums begin with (null: zero) and the values between columns.
#[derive(Clone, Copy)]
struct Begin(*const f32, usize);
/// Where the sums go, and the values between columns.
#[derive(Clone, Copy)]
struct Out(*mut f32, usize);

/// Some inner steps of some panels for some columns.
unsafe fn strip(
    sources: &[Source],
    steps: std::ops::Range<usize>,
    panels: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
    begin: Begin,
    out: Out,
) {
    for panel in panels {
        let mut segments = [NO_SEGMENT; TERMS_MAX];
        let mut count = 0;
        let mut offset = 0;
        for source in sources {
            let from = steps.start.clamp(offset, offset + source.inner) - offset;
            let to = steps.end.clamp(offset, offset + source.inner) - offset;
            offset += source.inner;
            if from < to {
                // SAFETY: panel and step lie inside the term's matrix and columns.
                segments[count] = unsafe {
                    Segment {
                        matrix: source.matrix.add(panel * source.panel_bytes + from * source.matrix_step),
                        packed: source.packed,
                        matrix_step: source.matrix_step,
                        columns: source.columns.add(from * source.step),
                        step: source.step,
                        column_stride: source.column_stride,
                        len: to - from,
                    }
                };
                count += 1;
            }
        }
        let mut column = columns.start;
        while column < columns.end {
            let width = TILE.min(columns.end - column);
            // SAFETY: the tile lies inside panel and columns; the features were detected before the node was made.
            unsafe {
                let begin = if begin.0.is_null() {
                    begin
                } else {
                    Begin(begin.0.add(column * begin.1 + panel * PANEL), begin.1)
                };
                let out = Out(out.0.add(column * out.1 + panel * PANEL), out.1);
                let segments = &segments[..count];
                match width {
                    1 => tile::<1>(segments, column, begin, out),
                    2 => tile::<2>(segments, column, begin, out),
                    3 => tile::<3>(segments, column, begin, out),
                    4 => tile::<4>(segments, column, begin, out),
                    5 => tile::<5>(segments, column, begin, out),
                    _ => tile::<6>(segments, column, begin, out),
                }
            }
            column += width;
        }
    }
}

/// 16 outputs of `N` columns.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile<const N: usize>(segments: &[Segment], column: usize, begin: Begin, out: Out) {
    // SAFETY: the caller gives segments, start and output that hold 16 values for each of the N columns.
    unsafe {
        let mut sums = [[_mm256_setzero_ps(); 2]; N];
        if !begin.0.is_null() {
            for (n, sum) in sums.iter_mut().enumerate() {
                *sum = [_mm256_loadu_ps(begin.0.add(n * begin.1)), _mm256_loadu_ps(begin.0.add(n * begin.1 + 8))];
            }
        }
        for segment in segments {
            let columns: [*const f32; N] =
                std::array::from_fn(|n| segment.columns.add((column + n) * segment.column_stride));
            match (segment.packed, segment.step) {
                (true, _) => packed_steps(segment, &columns, &mut sums),
                (false, 1) => plain_steps::<N, true>(segment, &columns, &mut sums),
                // Only turned columns have another step than 1, and a single turned column reads the same either way.
                (false, _) => plain_steps::<N, false>(segment, &columns, &mut sums),
            }
        }
        for (n, sum) in sums.iter().enumerate() {
            _mm256_storeu_ps(out.0.add(n * out.1), sum[0]);
            _mm256_storeu_ps(out.0.add(n * out.1 + 8), sum[1]);
        }
    }
}

/// Steps of a packed matrix; its columns are contiguous along the inner dimension.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn packed_steps<const N: usize>(segment: &Segment, columns: &[*const f32; N], sums: &mut [[__m256; 2]; N]) {
    let mut matrix: *const __m128i = segment.matrix.cast();
    let mut local = *sums;
    for step in 0..segment.len {
        // Addresses advance by pointer: checked index arithmetic would cost a third of the speed.
        // SAFETY: the panel has `len` runs of two vectors, the columns `len` values.
        unsafe {
            let low = _mm256_cvtph_ps(_mm_loadu_si128(matrix));
            let high = _mm256_cvtph_ps(_mm_loadu_si128(matrix.add(1)));
            matrix = matrix.add(2);
            for n in 0..N {
                let value = _mm256_broadcast_ss(&*columns[n].add(step));
                local[n] = [_mm256_fmadd_ps(low, value, local[n][0]), _mm256_fmadd_ps(high, value, local[n][1])];
            }
        }
    }
    *sums = local;
}

/// Steps of an F32 matrix whose outputs are contiguous.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn plain_steps<const N: usize, const CONTIGUOUS: bool>(
    segment: &Segment,
    columns: &[*const f32; N],
    sums: &mut [[__m256; 2]; N],
) {
    let mut local = *sums;
    let mut row: *const f32 = segment.matrix.cast();
    // Turned columns lie side by side, so one address serves the tile.
    let mut turned = columns[0];
    for step in 0..segment.len {
        // SAFETY: the matrix has `len` rows of 16 values from here on, the columns `len` values; the pointers are
        // not read after their last step.
        unsafe {
            let (low, high) = (_mm256_loadu_ps(row), _mm256_loadu_ps(row.add(8)));
            row = row.wrapping_byte_add(segment.matrix_step);
            for n in 0..N {
                let value = _mm256_broadcast_ss(&*if CONTIGUOUS { columns[n].add(step) } else { turned.add(n) });
                local[n] = [_mm256_fmadd_ps(low, value, local[n][0]), _mm256_fmadd_ps(high, value, local[n][1])];
            }
            turned = turned.wrapping_add(segment.step);
        }
    }
    *sums = local;
}
