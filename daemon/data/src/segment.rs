//! Reading one segment: its footer, its blocks, its hashes.
//! Lives here: the layout of a segment file and the proof that it is whole. Never here: which rows are wanted
//! (see `window`, `export`).
//!
//! A segment is an Arrow IPC file. Its footer notes the rows and the SHA-256 of each block, so that a page proves the few blocks it shows
//! without reading the whole file. Its name is the SHA-256 of all that is no block, the footer with those hashes included (in the layout
//! of before: of all its bytes), so that whoever opens it has proved what the blocks must be.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::buffer::Buffer;
use arrow::ipc::convert::try_fb_to_schema;
use arrow::ipc::reader::{FileDecoder, read_footer_length};
use arrow::ipc::{Block, root_as_footer};
use hone_protocol::dataset::Segment;
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::value::Hash;
use sha2::{Digest, Sha256};

use super::columns::{Layout, Rows};
use super::segment_writer::{SEGMENT_BYTES_MAX, SEGMENT_ROWS_MAX};
use super::unreadable;

/// The key of the notes in the footer.
pub(super) const BLOCKS_KEY: &str = "hone.blocks";
/// The key of the id of the first row; the others count up from it.
pub(super) const FIRST_ROW_KEY: &str = "hone.first_row_id";
/// The largest footer that is read; one of a full segment has some 20 KiB.
const FOOTER_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Footer length and magic at the end of an Arrow file.
const TRAILER_BYTES: usize = 10;
/// Bytes read at once when a whole file is hashed.
const HASH_BUFFER_BYTES: usize = 256 * 1024;

/// The file of a segment.
pub fn segment_path(folder: &Path, sha256: &Hash) -> PathBuf {
    folder.join(format!("{sha256}.arrow"))
}

/// What the footer says of one block, written `ROWS:SHA256`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockNote {
    /// Rows in it.
    pub(super) rows: u64,
    /// Hash of its bytes, header and padding included.
    pub(super) sha256: Hash,
}

impl fmt::Display for BlockNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.rows, self.sha256)
    }
}

impl BlockNote {
    fn parse(text: &str) -> Option<BlockNote> {
        let (rows, sha256) = text.split_once(':')?;
        Some(BlockNote { rows: rows.parse().ok()?, sha256: Hash::from_hex(sha256)? })
    }
}

/// An open segment. Nothing of it is trusted before it is checked.
pub(super) struct SegmentFile {
    path: PathBuf,
    file: File,
    segment: Segment,
    decoder: FileDecoder,
    layout: Layout,
    blocks: Vec<PlacedBlock>,
}

/// What a footer says.
struct Footer {
    decoder: FileDecoder,
    layout: Layout,
    first_row_id: Option<u64>,
    blocks: Vec<PlacedBlock>,
}

struct PlacedBlock {
    place: Block,
    /// Index of its first row in the segment.
    start: u64,
    note: BlockNote,
}

impl SegmentFile {
    /// Opens a segment and reads its footer.
    pub(super) fn open(folder: &Path, segment: &Segment) -> Result<SegmentFile, Failure> {
        let path = segment_path(folder, &segment.sha256);
        let file = File::open(&path).map_err(|error| unreadable(&path, &error))?;
        let size = file.metadata().map_err(|error| unreadable(&path, &error))?.len();
        if size != segment.size_bytes {
            return Err(damaged(&path, &format!("it has {size} bytes, not {}", segment.size_bytes)));
        }
        let footer = read_footer(&file, size).map_err(|reason| damaged(&path, &reason))?;
        let Footer { decoder, layout, first_row_id, blocks } =
            parse_footer(&footer, size).map_err(|reason| damaged(&path, &reason))?;
        let rows: u64 = blocks.iter().map(|block| block.note.rows).sum();
        if rows != segment.rows {
            return Err(damaged(&path, &format!("it has {rows} rows, not {}", segment.rows)));
        }
        let opened = SegmentFile { path, file, segment: segment.clone(), decoder, layout, blocks };
        if layout == Layout::Two {
            opened.prove_around(size)?;
            if first_row_id != Some(segment.first_row_id) {
                return Err(opened.damaged("its row ids are not those of the version"));
            }
        }
        Ok(opened)
    }

    /// What it should be.
    pub(super) fn segment(&self) -> &Segment {
        &self.segment
    }

    /// How many blocks it has.
    pub(super) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// The block that holds a row, and the index of the block's first row. `row` counts from 0 in the segment.
    pub(super) fn block_of(&self, row: u64) -> Option<(usize, u64)> {
        let block = self.blocks.partition_point(|block| block.start <= row).checked_sub(1)?;
        (row < self.segment.rows).then(|| (block, self.blocks[block].start))
    }

    /// Rows of a block, as `[first, after the last)` counted in the segment.
    pub(super) fn span(&self, block: usize) -> std::ops::Range<u64> {
        let block = &self.blocks[block];
        block.start..block.start + block.note.rows
    }

    /// Reads, proves and decodes a block.
    pub(super) fn read(&self, block: usize) -> Result<Rows, Failure> {
        let bytes = self.block(block)?;
        let PlacedBlock { place, note, .. } = &self.blocks[block];
        if Hash(Sha256::digest(&bytes).into()) != note.sha256 {
            return Err(self.damaged(&format!("block {block} at byte {} does not match its hash", place.offset())));
        }
        self.decode(block, bytes)
    }

    /// Reads and decodes a block without a look at its hash, for a search: what it finds is read again before it is shown.
    pub(super) fn skim(&self, block: usize) -> Result<Rows, Failure> {
        self.decode(block, self.block(block)?)
    }

    fn block(&self, block: usize) -> Result<Vec<u8>, Failure> {
        let place = &self.blocks[block].place;
        // Both were checked against the size of the file when the footer was read.
        let mut bytes = vec![0; block_bytes(place) as usize];
        self.file.read_exact_at(&mut bytes, place.offset() as u64).map_err(|error| unreadable(&self.path, &error))?;
        Ok(bytes)
    }

    fn decode(&self, block: usize, bytes: Vec<u8>) -> Result<Rows, Failure> {
        let PlacedBlock { place, start, note } = &self.blocks[block];
        let batch = self
            .decoder
            .read_record_batch(place, &Buffer::from_vec(bytes))
            .map_err(|error| self.damaged(&format!("block {block}: {error}")))?
            .ok_or_else(|| self.damaged(&format!("block {block} holds no rows")))?;
        let first = self.segment.first_row_id + start;
        let rows = Rows::new(&batch, self.layout, first).map_err(|reason| self.damaged(&reason))?;
        if rows.len() as u64 != note.rows {
            return Err(self.damaged(&format!("block {block} has {} rows, not {}", rows.len(), note.rows)));
        }
        Ok(rows)
    }

    /// Proves all that is no block by the name.
    fn prove_around(&self, size: u64) -> Result<(), Failure> {
        let place = |block: Option<&PlacedBlock>| block.map(|block| block.place);
        let (Some(first), Some(last)) = (place(self.blocks.first()), place(self.blocks.last())) else {
            return Err(self.damaged("it has no blocks"));
        };
        let mut at = first.offset() as u64;
        for PlacedBlock { place, .. } in &self.blocks {
            if place.offset() as u64 != at {
                return Err(self.damaged("its blocks do not follow each other"));
            }
            at += block_bytes(place);
        }
        let (head, tail) = (first.offset() as u64, last.offset() as u64 + block_bytes(&last));
        if head + (size - tail) > FOOTER_BYTES_MAX {
            return Err(self.damaged("too much stands around its blocks"));
        }
        let mut hash = Sha256::new();
        for (from, to) in [(0, head), (tail, size)] {
            let mut bytes = vec![0; (to - from) as usize];
            self.file.read_exact_at(&mut bytes, from).map_err(|error| unreadable(&self.path, &error))?;
            hash.update(&bytes);
        }
        self.named(Hash(hash.finalize().into()))
    }

    fn named(&self, found: Hash) -> Result<(), Failure> {
        if found == self.segment.sha256 {
            return Ok(());
        }
        Err(self.damaged(&format!("its SHA-256 is {found}")))
    }

    /// Proves a file of the layout of before by its name; one of today is proved as it is opened and its blocks are read. `tick` is
    /// called as bytes are read.
    pub(super) fn prove(&self, mut tick: impl FnMut(u64)) -> Result<(), Failure> {
        if self.layout == Layout::Two {
            return Ok(());
        }
        let mut hash = Sha256::new();
        let mut buffer = vec![0; HASH_BUFFER_BYTES];
        let mut done = 0;
        loop {
            let read = self.file.read_at(&mut buffer, done).map_err(|error| unreadable(&self.path, &error))?;
            if read == 0 {
                break;
            }
            hash.update(&buffer[..read]);
            done += read as u64;
            tick(done);
        }
        self.named(Hash(hash.finalize().into()))
    }

    /// A failure that names the file.
    pub(super) fn damaged(&self, reason: &str) -> Failure {
        damaged(&self.path, reason)
    }
}

fn damaged(path: &Path, reason: &str) -> Failure {
    Failure::new(
        FailureCode::BadFile,
        format!(
            "the segment {} is damaged: {reason}; restore it from a backup or import its rows again",
            path.display()
        ),
    )
    .at(path.display().to_string())
    .hint(HintCode::CorrectFile)
}

fn read_footer(file: &File, size: u64) -> Result<Vec<u8>, String> {
    let mut trailer = [0; TRAILER_BYTES];
    let end = size.checked_sub(TRAILER_BYTES as u64).ok_or("it is too short for an Arrow file")?;
    file.read_exact_at(&mut trailer, end).map_err(|error| error.to_string())?;
    let length = read_footer_length(trailer).map_err(|error| error.to_string())? as u64;
    if length > FOOTER_BYTES_MAX || length > end {
        return Err(format!("its footer claims {length} bytes"));
    }
    let mut footer = vec![0; length as usize];
    file.read_exact_at(&mut footer, end - length).map_err(|error| error.to_string())?;
    Ok(footer)
}

fn parse_footer(bytes: &[u8], size: u64) -> Result<Footer, String> {
    let footer = root_as_footer(bytes).map_err(|error| format!("its footer cannot be read: {error}"))?;
    let found = footer.schema().ok_or("its footer has no schema")?;
    let found = Arc::new(try_fb_to_schema(found).map_err(|error| error.to_string())?);
    let layout = Layout::of(&found).ok_or("its columns are not those of a segment of this version of hone")?;
    let noted = |key: &str| footer.custom_metadata()?.iter().find(|entry| entry.key() == Some(key))?.value();
    let notes: Option<Vec<BlockNote>> =
        noted(BLOCKS_KEY).and_then(|text| text.split(' ').map(BlockNote::parse).collect());
    let first_row_id = noted(FIRST_ROW_KEY).and_then(|text| text.parse().ok());
    let notes = notes.ok_or("its footer has no hashes of blocks")?;
    let places = footer.recordBatches().ok_or("its footer names no blocks")?;
    if places.len() != notes.len() {
        return Err(format!("its footer has {} blocks and {} hashes", places.len(), notes.len()));
    }
    let mut blocks = Vec::with_capacity(notes.len());
    let mut start = 0;
    for (place, note) in places.iter().zip(notes) {
        let inside = place.offset() >= 0
            && place.metaDataLength() >= 0
            && (0..=SEGMENT_BYTES_MAX as i64).contains(&place.bodyLength())
            && (place.offset() as u64).checked_add(block_bytes(place)).is_some_and(|end| end <= size);
        if !inside || note.rows > SEGMENT_ROWS_MAX {
            return Err(format!("its footer places a block outside the file, at byte {}", place.offset()));
        }
        blocks.push(PlacedBlock { place: *place, start, note });
        start += note.rows;
    }
    Ok(Footer { decoder: FileDecoder::new(found, footer.version()), layout, first_row_id, blocks })
}

fn block_bytes(block: &Block) -> u64 {
    block.metaDataLength() as u64 + block.bodyLength() as u64
}
