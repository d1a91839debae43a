//! One panel for one block of columns on AVX2: sums stay in the first-level cache while all terms run through them. A
//! piece of a narrow panel, or of one of nibbles, is widened once and used for the whole block.

use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr;

use super::super::PANEL;
use super::super::avx2::{self, PackedTile, PlainRun, TILE};
use super::super::panels::Width;
use super::{Place, Source};

/// Most columns of a unit: their sums and a piece of a panel fill two thirds of the first-level cache.
pub(super) const COLUMNS_MAX: usize = 192;
/// Bytes of panels that are fetched ahead while a tile is computed.
const AHEAD: usize = 512;
/// Bytes that a piece of a panel has at most when widened.
const PIECE_BYTES: usize = 8192;

/// One panel for one block of columns.
pub(super) unsafe fn panel_of_columns(
    sources: &[Source],
    panel: usize,
    columns: Range<usize>,
    begin: Place,
    out: Place,
) {
    let mut memory: MaybeUninit<[f32; PANEL * (COLUMNS_MAX + TILE)]> = MaybeUninit::uninit();
    let sums: *mut f32 = memory.as_mut_ptr().cast();
    // SAFETY: a block has at most COLUMNS_MAX columns, a last tile may write TILE more; begin and out have 16 values
    // at every place of the panel, and terms match the shape.
    unsafe {
        if begin.values.is_null() {
            ptr::write_bytes(sums, 0, PANEL * (columns.len() + TILE));
        } else {
            for (at, column) in columns.clone().enumerate() {
                ptr::copy_nonoverlapping(begin.at(panel, column), sums.add(at * PANEL), PANEL);
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
            ptr::copy_nonoverlapping(sums.add(at * PANEL), out.at(panel, column), PANEL);
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
                Width::Octet | Width::LongOctet => unreachable!("octets are for wider registers"),
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
