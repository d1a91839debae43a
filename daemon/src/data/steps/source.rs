//! The rows of a version as they are after some steps: the segments, and the ledgers of these steps.
//! Lives here: reading both. Never here: what a step decides.

use std::path::{Path, PathBuf};

use hone_protocol::dataset::Segment;
use hone_protocol::failure::Failure;
use hone_protocol::recipe::LedgerAct;

use super::item::Item;
use super::ledger::Ledger;
use super::{Other, Rows};
use crate::data::segment::SegmentFile;
use crate::data::window::check_segments;

/// A version.
pub(in crate::data) struct Source {
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

impl Source {
    /// Opens the segments; `folder` is where nameless files may go.
    pub(in crate::data) fn open(blobs: &Path, segments: &[Segment], folder: Option<&Path>) -> Result<Source, Failure> {
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
    pub(in crate::data) fn rows(&self) -> u64 {
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

    /// Rows of a chunk as they were imported.
    fn plain(&self, chunk: usize) -> Result<Vec<Item>, Failure> {
        let Chunk { file, block, place, .. } = self.chunks[chunk];
        let file = &self.files[file];
        let rows = file.read(block)?;
        Ok((0..rows.len())
            .zip(place..)
            .map(|(at, index)| {
                let (row_id, messages, original) = rows.plain(at);
                Item { index, row_id, messages, original: original.into_owned() }
            })
            .collect())
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

    /// Lets the ledgers have their effect on rows of a span of places.
    fn done(&self, mut items: Vec<Item>, places: std::ops::Range<u64>) -> Result<Vec<Item>, Failure> {
        for ledger in &self.done {
            let mut entries = ledger.of(places.clone())?.into_iter().peekable();
            let mut left = Vec::with_capacity(items.len());
            for mut item in items {
                while entries.next_if(|(place, _)| *place < item.index).is_some() {}
                match entries.next_if(|(place, _)| *place == item.index) {
                    None => left.push(item),
                    Some((_, line)) if line.act == LedgerAct::Changed => {
                        (item.messages, item.original) = (line.messages, line.original);
                        left.push(item);
                    }
                    Some(_) => {}
                }
            }
            items = left;
        }
        Ok(items)
    }
}

impl Rows for Source {
    fn chunks(&self) -> usize {
        self.chunks.len()
    }

    fn read(&self, chunk: usize) -> Result<Vec<Item>, Failure> {
        let Chunk { place, rows, .. } = self.chunks[chunk];
        self.done(self.plain(chunk)?, place..place + rows)
    }

    fn folder(&self) -> Option<PathBuf> {
        self.folder.clone()
    }
}
