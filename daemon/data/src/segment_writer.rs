//! Writing segments: batches of rows into content-addressed Arrow files.
//! Lives here: where batches and segments end, the hashes, the footer. Never here: reading (see `segment`).

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use arrow::buffer::Buffer;
use arrow::error::ArrowError;
use arrow::ipc::convert::{IpcSchemaEncoder, metadata_to_fb};
use arrow::ipc::writer::StreamEncoder;
use arrow::ipc::{Block, FooterBuilder, MetadataVersion};
use flatbuffers::FlatBufferBuilder;
use hone_protocol::dataset::Segment;
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::value::Hash;
use sha2::{Digest, Sha256};

use super::columns::{Columns, Layout, Rows};
use super::complete::Complete;
use super::format::Turn;
use super::quick::Literal;
use super::segment::{BLOCKS_KEY, BlockNote, FIRST_ROW_KEY, segment_path};
use super::unwritable;

/// Most rows of a segment.
pub(super) const SEGMENT_ROWS_MAX: u64 = 50_000;
/// Most bytes of a segment; the next batch goes into another one.
pub(super) const SEGMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Most rows of a batch. A page decodes whole batches, so they are small.
pub(super) const BATCH_ROWS_MAX: usize = 4096;
/// A batch is closed with the row that takes it to so many bytes.
pub(super) const BATCH_BYTES_MAX: usize = 64 * 1024;
/// What the schema, the footer and the block headers of a segment may take.
const FRAME_SLACK_BYTES: u64 = 256 * 1024;
/// The magic of an Arrow file with its padding.
const HEAD: &[u8; 64] = b"ARROW1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// The end of the messages of an Arrow file.
const END_OF_STREAM: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
/// Full segments on their way to the disk at once; the writer waits for the oldest beyond them.
const CLOSING_MAX: usize = 4;
/// Stack of a thread that flushes a file.
const CLOSER_STACK_BYTES: usize = 128 * 1024;

/// A batch as it will stand in a file, hashed.
pub(super) struct Encoded {
    buffers: Vec<Buffer>,
    bytes: u64,
    rows: u64,
    sha256: Hash,
}

/// Makes batches of rows. Each thread of an import has its own.
pub(super) struct Encoder {
    stream: StreamEncoder,
    columns: Columns,
}

impl Encoder {
    pub(super) fn new() -> Result<Encoder, ArrowError> {
        let mut stream = StreamEncoder::try_new(Layout::Two.schema())?;
        // The first answer of the encoder has the schema too, which stands once in a file.
        stream.encode(&Columns::default().take()?)?;
        Ok(Encoder { stream, columns: Columns::default() })
    }

    /// Makes room for the rows of so many bytes of lines.
    pub(super) fn begin(&mut self, bytes: usize) {
        self.columns = Columns::with_room(bytes.min(BATCH_BYTES_MAX + BATCH_BYTES_MAX / 4));
    }

    /// Adds a row (see [`Columns::push`]), and says whether the batch is full.
    pub(super) fn push(
        &mut self,
        turns: &[Turn<'_>],
        content_sha256: &[u8; 32],
        original: &str,
        literals: &[Literal],
    ) -> bool {
        self.columns.push(turns, content_sha256, original, literals);
        self.is_full()
    }

    /// Adds a row as it stands in another batch, and says whether the batch is full.
    pub(super) fn copy(&mut self, rows: &Rows, index: usize) -> bool {
        self.columns.copy(rows, index);
        self.is_full()
    }

    fn is_full(&self) -> bool {
        self.columns.rows() >= BATCH_ROWS_MAX || self.columns.bytes() >= BATCH_BYTES_MAX
    }

    /// The batch so far; nothing when it is empty.
    pub(super) fn take(&mut self) -> Result<Option<Encoded>, ArrowError> {
        let rows = self.columns.rows() as u64;
        if rows == 0 {
            return Ok(None);
        }
        let buffers = self.stream.encode(&self.columns.take()?)?;
        let mut hash = Sha256::new();
        let mut bytes = 0;
        for buffer in &buffers {
            hash.update(buffer.as_slice());
            bytes += buffer.len() as u64;
        }
        Ok(Some(Encoded { buffers, bytes, rows, sha256: Hash(hash.finalize().into()) }))
    }
}

/// Writes rows into as many segments as they need.
pub(super) struct SegmentWriter {
    folder: PathBuf,
    next_row_id: u64,
    encoder: Encoder,
    open: Option<Open>,
    closing: Vec<JoinHandle<Result<(), Failure>>>,
    segments: Vec<Segment>,
}

struct Open {
    file: Complete,
    around: Sha256,
    bytes: u64,
    blocks: Vec<Block>,
    notes: Vec<BlockNote>,
    first_row_id: u64,
    rows: u64,
}

impl SegmentWriter {
    /// Segments go to `folder`; the first row gets that id, later ones count up.
    pub(super) fn new(folder: &Path, first_row_id: u64) -> Result<SegmentWriter, Failure> {
        let encoder = Encoder::new().map_err(|error| broken(folder, error))?;
        let (closing, segments) = (Vec::new(), Vec::new());
        Ok(SegmentWriter {
            folder: folder.to_owned(),
            next_row_id: first_row_id,
            encoder,
            open: None,
            closing,
            segments,
        })
    }

    /// Adds a row, and writes the batch if that filled it.
    #[cfg(test)]
    pub(super) fn push(
        &mut self,
        turns: &[Turn<'_>],
        content_sha256: &[u8; 32],
        original: &str,
    ) -> Result<(), Failure> {
        if self.encoder.push(turns, content_sha256, original, &[]) {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes what is left and hands over the segments, in the order of their rows.
    pub(super) fn finish(mut self) -> Result<Vec<Segment>, Failure> {
        self.flush()?;
        self.close()?;
        for closer in self.closing {
            joined(closer)?;
        }
        Ok(self.segments)
    }

    fn flush(&mut self) -> Result<(), Failure> {
        match self.encoder.take().map_err(|error| broken(&self.folder, error))? {
            Some(batch) => self.add(&batch),
            None => Ok(()),
        }
    }

    /// Adds a batch that was made elsewhere.
    pub(super) fn add(&mut self, batch: &Encoded) -> Result<(), Failure> {
        let full = self.open.as_ref().is_some_and(|open| {
            open.rows + batch.rows > SEGMENT_ROWS_MAX
                || open.bytes + batch.bytes + FRAME_SLACK_BYTES > SEGMENT_BYTES_MAX
        });
        if full {
            self.close()?;
        }
        let Some(next_row_id) = self.next_row_id.checked_add(batch.rows) else {
            return Err(Failure::field("first_row_id", "row ids beyond 64 bits would be needed"));
        };
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(Open::begin(&self.folder, self.next_row_id)?),
        };
        open.add(batch).map_err(|error| unwritable(&self.folder, &error))?;
        self.next_row_id = next_row_id;
        Ok(())
    }

    fn close(&mut self) -> Result<(), Failure> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let (segment, file) = open.finish(&self.folder)?;
        let path = segment_path(&self.folder, &segment.sha256);
        self.segments.push(segment);
        if self.closing.len() == CLOSING_MAX {
            joined(self.closing.remove(0))?;
        }
        // The disk takes a while over a full segment; the next one is made meanwhile.
        let keep = move || file.keep(&path).map_err(|error| unwritable(&path, &error));
        let closer = std::thread::Builder::new().stack_size(CLOSER_STACK_BYTES).spawn(keep);
        self.closing.push(closer.map_err(|error| unwritable(&self.folder, &error))?);
        Ok(())
    }
}

fn joined(closer: JoinHandle<Result<(), Failure>>) -> Result<(), Failure> {
    closer.join().unwrap_or_else(|_| Err(Failure::new(FailureCode::Internal, "a segment could not be closed")))
}

impl Open {
    fn begin(folder: &Path, first_row_id: u64) -> Result<Open, Failure> {
        let stream = StreamEncoder::try_new(Layout::Two.schema()).and_then(StreamEncoder::finish);
        let head: Vec<u8> = stream.map_err(|error| broken(folder, error))?.iter().flat_map(|b| b.to_vec()).collect();
        let unsaved = |error| unwritable(folder, &error);
        let file = Complete::create(folder).map_err(unsaved)?;
        let (blocks, notes) = (Vec::new(), Vec::new());
        let mut open = Open { file, around: Sha256::new(), bytes: 0, blocks, notes, first_row_id, rows: 0 };
        open.write(HEAD).map_err(unsaved)?;
        open.write(&head[..head.len() - END_OF_STREAM.len()]).map_err(unsaved)?;
        Ok(open)
    }

    /// Writes what is no block.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.around.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    fn add(&mut self, batch: &Encoded) -> std::io::Result<()> {
        // A message begins with a marker and the length of its header, which both belong to it.
        let mut start = batch.buffers.iter().flat_map(|buffer| buffer.as_slice()).skip(4);
        let length = [(); 4].map(|()| start.next().copied().unwrap_or_default());
        let header = i32::from_le_bytes(length) + 8;
        for buffer in &batch.buffers {
            self.file.write_all(buffer.as_slice())?;
        }
        self.blocks.push(Block::new(self.bytes as i64, header, batch.bytes as i64 - i64::from(header)));
        self.notes.push(BlockNote { rows: batch.rows, sha256: batch.sha256 });
        self.bytes += batch.bytes;
        self.rows += batch.rows;
        Ok(())
    }

    /// Writes the footer: the segment, and its file that is not named yet.
    fn finish(mut self, folder: &Path) -> Result<(Segment, Complete), Failure> {
        let notes: Vec<String> = self.notes.iter().map(BlockNote::to_string).collect();
        let footer = footer(&self.blocks, notes.join(" "), self.first_row_id);
        let length = (footer.len() as i32).to_le_bytes();
        for bytes in [&END_OF_STREAM[..], &footer, &length, b"ARROW1"] {
            self.write(bytes).map_err(|error| unwritable(folder, &error))?;
        }
        let sha256 = Hash(self.around.finalize().into());
        let segment = Segment { sha256, size_bytes: self.bytes, rows: self.rows, first_row_id: self.first_row_id };
        Ok((segment, self.file))
    }
}

fn footer(blocks: &[Block], notes: String, first_row_id: u64) -> Vec<u8> {
    let mut made = FlatBufferBuilder::new();
    let dictionaries = made.create_vector::<Block>(&[]);
    let blocks = made.create_vector(blocks);
    let schema = IpcSchemaEncoder::new().schema_to_fb_offset(&mut made, Layout::Two.schema());
    let metadata = [(BLOCKS_KEY.to_owned(), notes), (FIRST_ROW_KEY.to_owned(), first_row_id.to_string())];
    let metadata = metadata_to_fb(&mut made, &HashMap::from(metadata).into());
    let mut footer = FooterBuilder::new(&mut made);
    footer.add_version(MetadataVersion::V5);
    footer.add_schema(schema);
    footer.add_dictionaries(dictionaries);
    footer.add_recordBatches(blocks);
    footer.add_custom_metadata(metadata);
    let root = footer.finish();
    made.finish(root, None);
    made.finished_data().to_vec()
}

/// What arrow reports while writing is the disk's doing or a bug.
pub(super) fn broken(folder: &Path, error: ArrowError) -> Failure {
    match error {
        ArrowError::IoError(_, source) => unwritable(folder, &source),
        other => Failure::new(FailureCode::Internal, format!("a segment could not be made: {other}"))
            .at(folder.display().to_string())
            .hint(HintCode::ReportBug),
    }
}
