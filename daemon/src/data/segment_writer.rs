//! Writing segments: batches of rows into content-addressed Arrow files.
//! Lives here: where batches and segments end, the hashes, the footer. Never here: reading (see `segment`).

use std::borrow::Cow;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use arrow::error::ArrowError;
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{FileWriter, IpcWriteOptions};
use hone_protocol::dataset::Segment;
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::value::Hash;
use sha2::{Digest, Sha256};

use super::columns::{Columns, schema};
use super::complete::Complete;
use super::format::Turn;
use super::segment::{BLOCKS_KEY, BlockNote, segment_path};
use super::unwritable;

/// Most rows of a segment.
pub(super) const SEGMENT_ROWS_MAX: u64 = 50_000;
/// Most bytes of a segment; the next batch goes into another one.
pub(super) const SEGMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Most rows of a batch. A page decodes whole batches, so they are small.
const BATCH_ROWS_MAX: u64 = 512;
/// A batch is closed with the row that takes it to so many bytes, before compression.
const BATCH_BYTES_MAX: usize = 512 * 1024;
/// A batch of so many bytes is not compressed, and neither is the segment that it opens: compression would hold
/// it in memory once more, and only a few enormous rows make such a batch.
pub(super) const LARGE_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// What the schema, the footer and the block headers of a segment may take.
const FRAME_SLACK_BYTES: u64 = 64 * 1024;
/// Bytes gathered before a write.
const WRITE_BUFFER_BYTES: usize = 256 * 1024;

/// Writes rows into as many segments as they need.
pub(super) struct SegmentWriter {
    folder: PathBuf,
    next_row_id: u64,
    columns: Columns,
    open: Option<Open>,
    segments: Vec<Segment>,
}

struct Open {
    writer: FileWriter<Hashed>,
    notes: Vec<BlockNote>,
    first_row_id: u64,
    rows: u64,
    compressed: bool,
}

impl SegmentWriter {
    /// Segments go to `folder`; the first row gets that id, later ones count up.
    pub(super) fn new(folder: &Path, first_row_id: u64) -> SegmentWriter {
        SegmentWriter {
            folder: folder.to_owned(),
            next_row_id: first_row_id,
            columns: Columns::default(),
            open: None,
            segments: Vec::new(),
        }
    }

    /// Adds the messages of a row that takes so many bytes; [`SegmentWriter::push_original`] must follow.
    pub(super) fn push_messages(&mut self, turns: &[Turn<'_>], hash: &[u8; 32], bytes: usize) -> Result<(), Failure> {
        if bytes >= LARGE_BATCH_BYTES {
            // An enormous row has a batch of its own.
            self.flush()?;
        }
        self.columns.push_messages(turns, hash);
        Ok(())
    }

    /// Adds the original of that row, and writes the batch if that filled it. These are two steps so that the
    /// caller can let go of the parsed row before: of an enormous one, not two copies are held at a time.
    pub(super) fn push_original(&mut self, original: Cow<'_, str>) -> Result<(), Failure> {
        match original {
            Cow::Owned(text) if self.columns.rows() == 0 => self.columns.take_original(text),
            text => self.columns.push_original(&text),
        }
        let room = SEGMENT_ROWS_MAX - self.open.as_ref().map_or(0, |open| open.rows);
        let rows = self.columns.rows() as u64;
        if rows >= room.min(BATCH_ROWS_MAX) || self.columns.bytes() >= BATCH_BYTES_MAX {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes what is left and hands over the segments, in the order of their rows.
    pub(super) fn finish(mut self) -> Result<Vec<Segment>, Failure> {
        self.flush()?;
        self.close()?;
        Ok(self.segments)
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let rows = self.columns.rows() as u64;
        if rows == 0 {
            return Ok(());
        }
        let bytes = self.columns.bytes() as u64;
        let large = bytes >= LARGE_BATCH_BYTES as u64;
        let full = self.open.as_ref().is_some_and(|open| {
            open.compressed && large
                || open.rows + rows > SEGMENT_ROWS_MAX
                || open.writer.get_ref().bytes + bytes + FRAME_SLACK_BYTES > SEGMENT_BYTES_MAX
        });
        if full {
            self.close()?;
        }
        let first_row_id = self.next_row_id;
        let Some(next_row_id) = first_row_id.checked_add(rows) else {
            return Err(Failure::field("first_row_id", "row ids beyond 64 bits would be needed"));
        };
        let batch = self.columns.take(first_row_id).map_err(|error| broken(&self.folder, error))?;
        if self.open.is_none() {
            self.open =
                Some(Open::begin(&self.folder, first_row_id, !large).map_err(|error| broken(&self.folder, error))?);
        }
        if let Some(open) = &mut self.open {
            open.writer.write(&batch).map_err(|error| broken(&self.folder, error))?;
            let sha256 = open.writer.get_mut().block_hash();
            open.notes.push(BlockNote { rows, sha256 });
            open.rows += rows;
        }
        self.next_row_id = next_row_id;
        Ok(())
    }

    fn close(&mut self) -> Result<(), Failure> {
        if let Some(open) = self.open.take() {
            self.segments.push(open.finish(&self.folder)?);
        }
        Ok(())
    }
}

impl Open {
    fn begin(folder: &Path, first_row_id: u64, compressed: bool) -> Result<Open, ArrowError> {
        // LZ4 costs a page less than a millisecond and takes a third off typical chat rows.
        let compression = compressed.then_some(CompressionType::LZ4_FRAME);
        let options = IpcWriteOptions::default().try_with_compression(compression)?;
        let file = Hashed::new(Complete::create(folder)?);
        let mut writer = FileWriter::try_new_with_options(file, &schema(), options)?;
        writer.get_mut().block_hash();
        Ok(Open { writer, notes: Vec::new(), first_row_id, rows: 0, compressed })
    }

    fn finish(mut self, folder: &Path) -> Result<Segment, Failure> {
        let notes: Vec<String> = self.notes.iter().map(BlockNote::to_string).collect();
        self.writer.write_metadata(BLOCKS_KEY, notes.join(" "));
        // `finish` writes the footer; the file below it is flushed, named and flushed again.
        self.writer.finish().map_err(|error| broken(folder, error))?;
        let hashed = self.writer.into_inner().map_err(|error| broken(folder, error))?;
        let sha256 = Hash(hashed.whole.finalize().into());
        let path = segment_path(folder, &sha256);
        let file = hashed.file.into_inner().map_err(|error| unwritable(&path, error.error()))?;
        file.keep(&path).map_err(|error| unwritable(&path, &error))?;
        Ok(Segment { sha256, size_bytes: hashed.bytes, rows: self.rows, first_row_id: self.first_row_id })
    }
}

/// What arrow reports while writing is the disk's doing or a bug.
fn broken(folder: &Path, error: ArrowError) -> Failure {
    match error {
        ArrowError::IoError(_, source) => unwritable(folder, &source),
        other => Failure::new(FailureCode::Internal, format!("a segment could not be made: {other}"))
            .at(folder.display().to_string())
            .hint(HintCode::ReportBug),
    }
}

/// Hashes what passes on its way to the file: all of it, and each block by itself.
struct Hashed {
    file: BufWriter<Complete>,
    whole: Sha256,
    block: Sha256,
    bytes: u64,
}

impl Hashed {
    fn new(file: Complete) -> Hashed {
        Hashed {
            file: BufWriter::with_capacity(WRITE_BUFFER_BYTES, file),
            whole: Sha256::new(),
            block: Sha256::new(),
            bytes: 0,
        }
    }

    /// The hash of what passed since the last call.
    fn block_hash(&mut self) -> Hash {
        Hash(self.block.finalize_reset().into())
    }
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.whole.update(&bytes[..written]);
        self.block.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
