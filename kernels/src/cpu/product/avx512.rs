//! One panel for one block of columns on AVX-512: a tile's sums stay in registers while all terms run.

use std::arch::x86_64::_mm512_setzero_ps;
use std::ops::Range;
use std::ptr;

use super::super::avx2;
use super::super::avx512::{self, Columns, Packed, Plain, Sums, TILE};
use super::super::panels::{BLOCK, OCTET_BLOCK, Width};
use super::{Place, Source, TERMS_MAX};

/// Bytes that a cache fetches at a time.
const LINE: usize = 64;
/// Most columns of a unit.
pub(super) const COLUMNS_MAX: usize = 516;

/// One panel for one block of columns.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn panel_of_columns(
    sources: &[Source],
    panel: usize,
    columns: Range<usize>,
    begin: Place,
    out: Place,
) {
    let packed = sources.iter().any(|source| source.packed.is_some());
    // The next panel would come too late for its first tile: each tile of this one asks for a share.
    let mut ahead = [(ptr::null(), 0); TERMS_MAX];
    for (ahead, source) in ahead.iter_mut().zip(sources) {
        let begin = (panel + 1) * source.panel_bytes + source.first * source.matrix_step;
        let bytes = (source.end - source.first) * source.matrix_step;
        *ahead =
            (source.matrix.wrapping_add(begin), bytes.div_ceil(columns.len().div_ceil(TILE)).next_multiple_of(LINE));
    }
    let mut done = columns.start;
    let mut sums = [_mm512_setzero_ps(); TILE];
    while done < columns.end {
        // A last tile that is not whole computes columns before it again and keeps only its own. Where there are not
        // enough of them, F32 terms have tiles of every size, and of packed ones a column is computed twelve times.
        let (first, stride, own) = match columns.end - done {
            TILE.. => (done, 1, 0..TILE),
            rest if columns.end >= TILE => (columns.end - TILE, 1, TILE - rest..TILE),
            rest if !packed => (done, 1, 0..rest),
            _ => (done, 0, 0..1),
        };
        let count = if packed { TILE } else { columns.end.min(TILE) };
        // SAFETY: panel and columns lie inside the terms and inside the destination; `begin` is read only where it is
        // given. The features were detected before the node was made.
        unsafe {
            avx512::begin(&mut sums, begin.at(panel, first), begin.stride, own.clone());
            for (source, ahead) in sources.iter().zip(&mut ahead) {
                let values = source.columns.wrapping_add(first * source.column_bytes);
                let tile = Columns { values, stride: stride * source.column_bytes };
                match source.packed {
                    Some(width) => {
                        avx2::prefetch(ahead.0, ahead.1);
                        ahead.0 = ahead.0.wrapping_add(ahead.1);
                        add_packed(source, width, panel, tile, &mut sums)
                    }
                    None => add_plain(source, panel, tile, count, &mut sums),
                }
            }
            avx512::end(&sums, out.at(panel, first), out.stride, own.clone());
        }
        done += own.len();
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn add_packed(source: &Source, width: Width, panel: usize, columns: Columns, sums: &mut Sums) {
    let (block, first) = (source.first / width.block(), source.first * width.column_step());
    // SAFETY: panel and columns lie inside the term, whose steps from `first` on begin with a block.
    unsafe {
        let values = source.matrix.add(panel * source.panel_bytes);
        let scales: *const f32 = values.add(source.inner * source.matrix_step).cast();
        let of_blocks = size_of::<f32>() * block * width.column_scales();
        let term = Packed {
            panel: values.add(source.first * source.matrix_step),
            scales: scales.add(block * width.block_scales()),
            columns: Columns { values: columns.values.wrapping_add(first), ..columns },
            scales_at: source.inner * width.column_step() - first + of_blocks,
            steps: source.end - source.first,
        };
        match width {
            Width::Wide => avx512::words(&term, sums),
            Width::Octet => avx512::octets::<OCTET_BLOCK>(&term, sums),
            Width::LongOctet => avx512::octets::<BLOCK>(&term, sums),
            Width::Nibble => avx512::nibbles(&term, sums),
            Width::Narrow => unreachable!("narrow panels are for smaller registers"),
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn add_plain(source: &Source, panel: usize, columns: Columns, count: usize, sums: &mut Sums) {
    let step = size_of::<f32>() * source.step;
    // SAFETY: as in `add_packed`.
    unsafe {
        let term = Plain {
            matrix: source.matrix.add(panel * source.panel_bytes + source.first * source.matrix_step),
            matrix_step: source.matrix_step,
            columns: Columns { values: columns.values.wrapping_add(source.first * step), ..columns },
            step,
            steps: source.end - source.first,
        };
        if count < TILE { avx512::plain_some(&term, count, sums) } else { avx512::plain(&term, sums) }
    }
}
