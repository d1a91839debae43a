//! The rows of a version as they are after some steps: the segments, and the ledgers of these steps.
//! Lives here: reading both. Never here: what a step decides.

use std::path::{Path, PathBuf};

use hone_protocol::dataset::{ChatMessage, Segment};
use hone_protocol::failure::Failure;
use hone_protocol::recipe::LedgerAct;

use super::item::Item;
use super::ledger::Ledger;
use super::{Other, Rows};
use crate::columns::Rows as Block;
use crate::segment::SegmentFile;
use crate::window::check_segments;

/// A version.
pub(crate) struct Source {
    files: Vec<SegmentFile>,
    chunks: Vec<Chunk>,
    rows: u64,
    /// Ledgers of the steps that were done, in order.
    done: Vec<Ledger>,
    folder: Option<PathBuf>,
}

/// One block of a segment.
struct Chunk {
    file: usize,
    block: usize,
    /// Place of its first row in the version.
    place: u64,
    rows: u64,
}

/// The rows of a block, and what is left of each after some steps.
pub(super) struct Chunked {
    /// Place of the first one in the version.
    pub(super) place: u64,
    pub(super) rows: Block,
    pub(super) left: Vec<Left>,
}

/// What steps left of a row.
pub(super) enum Left {
    AsItWas,
    /// Its messages and its original are others now.
    Changed(Vec<ChatMessage>, String),
    Gone,
}

impl Source {
    /// Opens the segments; `folder` is where nameless files may go.
    pub(crate) fn open(blobs: &Path, segments: &[Segment], folder: Option<&Path>) -> Result<Source, Failure> {
        check_segments(segments)?;
        let mut source = Source {
            files: Vec::new(),
            chunks: Vec::new(),
            rows: 0,
            done: Vec::new(),
            folder: folder.map(Path::to_owned),
        };
        for segment in segments {
            let file = SegmentFile::open(blobs, segment)?;
            for block in 0..file.blocks() {
                let span = file.span(block);
                let rows = span.end - span.start;
                source.chunks.push(Chunk { file: source.files.len(), block, place: source.rows, rows });
                source.rows += rows;
            }
            source.files.push(file);
        }
        Ok(source)
    }

    /// Other datasets that a step looks at, at most so many rows of each; 0 for all.
    pub(super) fn others(
        blobs: &Path,
        others: &[(String, Vec<Segment>)],
        rows_max: u64,
    ) -> Result<Vec<Other>, Failure> {
        let open = |(name, segments): &(String, Vec<Segment>)| {
            let mut rows = Source::open(blobs, segments, None)?;
            if rows_max > 0 {
                rows.chunks.retain(|chunk| chunk.place < rows_max);
            }
            Ok(Other { name: name.clone(), rows: Box::new(rows) })
        };
        others.iter().map(open).collect()
    }

    /// Rows that go in.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// From now on rows are as they are after one step more.
    pub(super) fn after(&mut self, ledger: Ledger) {
        self.done.push(ledger);
    }

    /// The chunk that holds a place.
    pub(super) fn chunk_of(&self, place: u64) -> Option<usize> {
        let chunk = self.chunks.partition_point(|chunk| chunk.place <= place).checked_sub(1)?;
        (place < self.rows).then_some(chunk)
    }

    /// What is left of the rows of a chunk after the steps that were done.
    pub(super) fn left(&self, chunk: usize) -> Result<Chunked, Failure> {
        let Chunk { file, block, place, rows: count } = self.chunks[chunk];
        let rows = self.files[file].read(block)?;
        let mut left: Vec<Left> = (0..rows.len()).map(|_| Left::AsItWas).collect();
        for ledger in &self.done {
            for (at, line) in ledger.of(place..place + count)? {
                match left.get_mut((at - place) as usize) {
                    None | Some(Left::Gone) => {}
                    Some(one) if line.act == LedgerAct::Changed => *one = Left::Changed(line.messages, line.original),
                    Some(one) => *one = Left::Gone,
                }
            }
        }
        Ok(Chunked { place, rows, left })
    }

    fn items(&self, chunk: usize, with_originals: bool) -> Result<Vec<Item>, Failure> {
        let Chunked { place, rows, left } = self.left(chunk)?;
        let item = |(at, left): (usize, Left)| {
            let (row_id, index) = (rows.row_id(at), place + at as u64);
            let (messages, original) = match left {
                Left::AsItWas if with_originals => {
                    let (_, messages, original) = rows.plain(at);
                    (messages, original.into_owned())
                }
                Left::AsItWas => (rows.owned_messages(at), String::new()),
                Left::Changed(messages, original) => (messages, original),
                Left::Gone => return None,
            };
            Some(Item { index, row_id, messages, original })
        };
        Ok(left.into_iter().enumerate().filter_map(item).collect())
    }

    /// Rows at these places, in order, as they are after the steps that were done; none where one of them dropped it.
    pub(super) fn rows_at(&self, places: impl Iterator<Item = u64>) -> Result<Vec<Option<Item>>, Failure> {
        let mut rows = Vec::new();
        let mut held: Option<(usize, Vec<Item>)> = None;
        for place in places {
            let Some(chunk) = self.chunk_of(place) else {
                rows.push(None);
                continue;
            };
            if held.as_ref().is_none_or(|(known, _)| *known != chunk) {
                held = Some((chunk, self.read(chunk)?));
            }
            let items = held.as_ref().map_or(&[][..], |(_, items)| items);
            let at = items.binary_search_by_key(&place, |item| item.index).ok();
            rows.push(at.map(|at| items[at].clone()));
        }
        Ok(rows)
    }
}

impl Rows for Source {
    fn chunks(&self) -> usize {
        self.chunks.len()
    }

    fn read(&self, chunk: usize) -> Result<Vec<Item>, Failure> {
        self.items(chunk, true)
    }

    fn texts(&self, chunk: usize) -> Result<Vec<Item>, Failure> {
        self.items(chunk, false)
    }

    fn folder(&self) -> Option<PathBuf> {
        self.folder.clone()
    }
}
