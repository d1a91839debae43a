//! Parquet and Arrow files as rows: each record is an object of its columns.
//! Lives here: those two readers within bounds. Never here: what columns mean.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader};
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use hone_protocol::failure::Failure;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::claims;
use super::json::Fault;
use super::open::{bad, open_file};
use super::pieces::{Gather, LINE_BYTES_MAX, Piece, Pieces};
use super::unreadable;

/// Records decoded at once.
const BATCH_ROWS: usize = 256;
/// The largest column of a row group, unpacked: its pages are in memory one at a time, and a page may be all of it.
const COLUMN_BYTES_MAX: i64 = 256 << 20;
/// Columns that are read.
const COLUMNS_MAX: usize = 1024;

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

struct BatchPieces {
    batches: Batches,
    path: PathBuf,
    file: Option<Arc<str>>,
    row: u64,
    gather: Gather,
    ended: bool,
    done: Arc<AtomicU64>,
    rows_bytes: f64,
}

/// The rows of a Parquet file.
pub(super) fn parquet(path: &Path, file: Option<Arc<str>>, done: &Arc<AtomicU64>) -> Result<Box<dyn Pieces>, Failure> {
    let made = guarded(path, || {
        let builder =
            ParquetRecordBatchReaderBuilder::try_new(open_file(path)?).map_err(|error| damaged(path, &error))?;
        check_columns(path, builder.schema().fields().len())?;
        let metadata = builder.metadata().clone();
        for (index, group) in metadata.row_groups().iter().enumerate() {
            for column in group.columns() {
                if column.uncompressed_size() > COLUMN_BYTES_MAX || column.uncompressed_size() < 0 {
                    let reason = format!(
                        "has a column of {} bytes in row group {index}; at most {COLUMN_BYTES_MAX} are read, write smaller row groups",
                        column.uncompressed_size()
                    );
                    return Err(bad(path, &reason));
                }
            }
        }
        let rows = metadata.file_metadata().num_rows();
        let reader = builder.with_batch_size(BATCH_ROWS).build().map_err(|error| damaged(path, &error))?;
        Ok((Box::new(reader) as Batches, rows))
    })?;
    Ok(pieces(path, file, done, made))
}

/// The rows of an Arrow file or stream.
pub(super) fn arrow(path: &Path, file: Option<Arc<str>>, done: &Arc<AtomicU64>) -> Result<Box<dyn Pieces>, Failure> {
    let made = guarded(path, || {
        let open = || open_file(path);
        claims::check(&open()?).map_err(|reason| damaged(path, &reason))?;
        let batches: Batches = match FileReader::try_new(std::io::BufReader::new(open()?), None) {
            Ok(reader) => {
                check_columns(path, reader.schema().fields().len())?;
                Box::new(reader)
            }
            Err(error) => match StreamReader::try_new(std::io::BufReader::new(open()?), None) {
                Ok(reader) => {
                    check_columns(path, reader.schema().fields().len())?;
                    Box::new(reader)
                }
                Err(_) => return Err(damaged(path, &error)),
            },
        };
        Ok((batches, 0))
    })?;
    Ok(pieces(path, file, done, made))
}

fn pieces(
    path: &Path,
    file: Option<Arc<str>>,
    done: &Arc<AtomicU64>,
    (batches, rows): (Batches, i64),
) -> Box<dyn Pieces> {
    let size = std::fs::metadata(path).map_or(0, |facts| facts.len());
    let rows_bytes = if rows > 0 { size as f64 / rows as f64 } else { 0.0 };
    let (path, done) = (path.to_owned(), done.clone());
    Box::new(BatchPieces { batches, path, file, row: 0, gather: Gather::default(), ended: false, done, rows_bytes })
}

fn check_columns(path: &Path, columns: usize) -> Result<(), Failure> {
    if columns <= COLUMNS_MAX {
        return Ok(());
    }
    Err(bad(path, &format!("has {columns} columns; at most {COLUMNS_MAX} are read")))
}

fn damaged(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    bad(path, &format!("is damaged: {error}"))
}

/// The readers of these formats may panic at what no writer makes.
fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(bad(path, "is damaged: its reader gave up")))
}

impl BatchPieces {
    fn add(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        let failed = |error: ArrowError| bad(&self.path, &format!("has a column that cannot be read: {error}"));
        let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
        writer.write(batch).map_err(failed)?;
        writer.finish().map_err(failed)?;
        for line in writer.into_inner().split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            self.row += 1;
            match std::str::from_utf8(line) {
                Ok(text) if text.len() <= LINE_BYTES_MAX => self.gather.push(self.row, text),
                Ok(text) => self.gather.fault(self.row, super::rows::too_long(text.len() as u64)),
                Err(_) => self.gather.fault(self.row, Fault::line("invalid UTF-8")),
            }
        }
        self.done.fetch_add((batch.num_rows() as f64 * self.rows_bytes) as u64, Ordering::Relaxed);
        Ok(())
    }
}

impl Pieces for BatchPieces {
    fn next(&mut self) -> Result<Option<Piece>, Failure> {
        while !self.gather.is_full() && !self.ended {
            let path = self.path.clone();
            let batch = guarded(&path, || match self.batches.next() {
                None => Ok(None),
                Some(Ok(batch)) => Ok(Some(batch)),
                Some(Err(ArrowError::IoError(_, error))) => Err(unreadable(&path, &error)),
                Some(Err(error)) => Err(damaged(&path, &error)),
            })?;
            match batch {
                Some(batch) => guarded(&path, || self.add(&batch))?,
                None => self.ended = true,
            }
        }
        Ok(self.gather.take(&self.file))
    }
}
