//! Rows into a file: one part of a split, in any of the formats, complete or absent.
//! Lives here: that task. Never here: which rows are held out (see `hone_protocol::dataset::Split`), formats (see `written`).

use std::io::BufWriter;
use std::path::Path;

use hone_protocol::failure::Failure;
use hone_protocol::worker::ExportTask;

use super::complete::Complete;
use super::segment::SegmentFile;
use super::window::{check_segments, check_split};
use super::written::Out;
use super::{Progress, unwritable};

/// Bytes gathered before a write.
const WRITE_BUFFER_BYTES: usize = 256 * 1024;

/// Writes the rows and says how many. Every segment that is used is proved by its hash first. Progress counts the
/// rows of the version that were gone through.
pub(super) fn export(task: &ExportTask, progress: Progress<'_>) -> Result<u64, Failure> {
    check_split(&task.split)?;
    check_segments(&task.segments)?;
    let path = Path::new(&task.path);
    let folder = path.parent().filter(|folder| path.is_absolute() && folder.is_dir()).ok_or_else(|| {
        Failure::field("path", format!("{} is not an absolute path in a folder that exists", path.display()))
    })?;
    let failed = |error: std::io::Error| unwritable(path, &error);
    let file = BufWriter::with_capacity(WRITE_BUFFER_BYTES, Complete::create(folder).map_err(failed)?);
    let mut out = Out::new(task.format, file, path)?;
    let total = task.segments.iter().map(|segment| segment.rows).sum();
    let (mut gone, mut written) = (0, 0);
    'segments: for segment in &task.segments {
        let source = SegmentFile::open(Path::new(&task.folder), segment)?;
        source.prove(|_| progress(gone, total))?;
        for block in 0..source.blocks() {
            let ids = |span: std::ops::Range<u64>| span.map(|index| (index, segment.first_row_id + index));
            let span = source.span(block);
            if ids(span.clone()).any(|(_, id)| task.split.includes(task.part, id)) {
                let rows = source.read(block)?;
                for (index, id) in ids(span.clone()) {
                    if !task.split.includes(task.part, id) {
                        continue;
                    }
                    if task.rows_max != 0 && written == task.rows_max {
                        break 'segments;
                    }
                    let row = rows.row((index - span.start) as usize).map_err(|reason| source.damaged(&reason))?;
                    out.row(&row)?;
                    written += 1;
                }
            }
            progress(gone + span.end, total);
        }
        gone += segment.rows;
    }
    let file = out.finish()?.into_inner().map_err(|error| unwritable(path, error.error()))?;
    file.keep(path).map_err(failed)?;
    progress(total, total);
    Ok(written)
}
