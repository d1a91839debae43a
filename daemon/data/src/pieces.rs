//! A file of rows in pieces that threads can work on apart.
//! Lives here: what a piece is, and lines of a stream cut into pieces. Never here: what a row means.
//!
//! Where pieces end depends on the bytes alone, not on threads or on how much a read gave, so that a file always makes the same segments.

use std::io::{self, Read};
use std::sync::Arc;

use hone_protocol::failure::Failure;

use super::json::Fault;

/// The longest row that is read, in bytes. A longer one is skipped without being kept in memory and reported as a rejection.
pub(super) const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of lines in one piece, unless one line has more.
pub(super) const PIECE_BYTES: usize = 1024 * 1024;

/// Rows that belong together in order.
#[derive(Debug)]
pub(super) struct Piece {
    /// The file among several; rejections in it name it.
    pub(super) file: Option<Arc<str>>,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) enum Body {
    /// Whole lines, not looked at yet.
    Lines {
        bytes: Vec<u8>,
        /// Where they begin in the file, in bytes.
        start: u64,
    },
    /// Rows that a reader of some format made: JSON objects, one after the other.
    Rows { text: String, rows: Vec<Made> },
    /// The whole of a line that is too long.
    TooLong { bytes: u64 },
}

/// One row of a piece.
#[derive(Debug)]
pub(super) struct Made {
    /// Its line in the file, or its number where the file has no lines.
    pub(super) line: u64,
    /// Where its text ends in the piece, or what is wrong with it.
    pub(super) end: Result<usize, Fault>,
}

/// Where pieces come from.
pub(super) trait Pieces: Send {
    /// The next piece, or nothing at the end.
    fn next(&mut self) -> Result<Option<Piece>, Failure>;
}

/// Gathers made rows into pieces of a good size.
#[derive(Debug, Default)]
pub(super) struct Gather {
    text: String,
    rows: Vec<Made>,
}

/// Rows in one piece at most.
const MADE_ROWS_MAX: usize = 4096;

impl Gather {
    pub(super) fn push(&mut self, line: u64, text: &str) {
        self.text.push_str(text);
        self.rows.push(Made { line, end: Ok(self.text.len()) });
    }

    pub(super) fn fault(&mut self, line: u64, fault: Fault) {
        self.rows.push(Made { line, end: Err(fault) });
    }

    pub(super) fn is_full(&self) -> bool {
        self.text.len() >= PIECE_BYTES || self.rows.len() >= MADE_ROWS_MAX
    }

    /// What was gathered, if anything.
    pub(super) fn take(&mut self, file: &Option<Arc<str>>) -> Option<Piece> {
        let Gather { text, rows } = std::mem::take(self);
        (!rows.is_empty()).then(|| Piece { file: file.clone(), body: Body::Rows { text, rows } })
    }
}

/// The lines of a stream.
pub(super) struct LinePieces<R> {
    source: R,
    file: Option<Arc<str>>,
    /// What was read after the last line end.
    rest: Vec<u8>,
    start: u64,
    piece_bytes: usize,
    line_bytes_max: usize,
    ended: bool,
}

impl<R: Read + Send> LinePieces<R> {
    pub(super) fn new(source: R, file: Option<Arc<str>>) -> LinePieces<R> {
        LinePieces {
            source,
            file,
            rest: Vec::new(),
            start: 0,
            piece_bytes: PIECE_BYTES,
            line_bytes_max: LINE_BYTES_MAX,
            ended: false,
        }
    }

    /// The next body; see [`Pieces::next`].
    pub(super) fn read(&mut self) -> io::Result<Option<Body>> {
        let mut bytes = Vec::with_capacity(self.piece_bytes.max(self.rest.len()) + 4096);
        bytes.append(&mut self.rest);
        let mut searched = 0;
        let cut = loop {
            // The last line end within the first piece, else the first one after it.
            let within = bytes.len().min(self.piece_bytes);
            if let Some(end) = memchr::memrchr(b'\n', &bytes[searched.min(within)..within]) {
                if bytes.len() >= self.piece_bytes || self.ended {
                    break searched.min(within) + end + 1;
                }
            } else if bytes.len() > self.piece_bytes {
                let from = searched.max(within);
                match memchr::memchr(b'\n', &bytes[from..]) {
                    Some(end) => break from + end + 1,
                    None => searched = bytes.len(),
                }
            }
            if self.ended {
                break bytes.len();
            }
            // A carriage return and a line feed may follow a line of the full length.
            if searched > self.line_bytes_max + 1 {
                return self.skip(bytes.len() as u64).map(Some);
            }
            let wanted = if bytes.len() < self.piece_bytes { self.piece_bytes - bytes.len() } else { self.piece_bytes };
            let read = (&mut self.source).take(wanted as u64).read_to_end(&mut bytes)?;
            self.ended = read < wanted;
        };
        self.rest.extend_from_slice(&bytes[cut..]);
        bytes.truncate(cut);
        let start = self.start;
        self.start += cut as u64;
        Ok((!bytes.is_empty()).then_some(Body::Lines { bytes, start }))
    }

    /// Reads past the end of a line that is too long, of which so many bytes were read.
    fn skip(&mut self, read: u64) -> io::Result<Body> {
        let mut length = read;
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let read = loop {
                match self.source.read(&mut chunk) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other?,
                }
            };
            if read == 0 {
                self.ended = true;
                break;
            }
            if let Some(end) = memchr::memchr(b'\n', &chunk[..read]) {
                length += end as u64 + 1;
                self.rest.extend_from_slice(&chunk[end + 1..read]);
                break;
            }
            length += read as u64;
        }
        self.start += length;
        Ok(Body::TooLong { bytes: length })
    }

    pub(super) fn file(&self) -> &Option<Arc<str>> {
        &self.file
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gives a few bytes at a time.
    struct Drops<'b>(&'b [u8], usize);

    impl Read for Drops<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = buffer.len().min(self.1);
            self.0.read(&mut buffer[..most])
        }
    }

    fn pieces(text: &[u8], piece_bytes: usize, cap: usize, drops: usize) -> Vec<Result<(Vec<u8>, u64), u64>> {
        let mut lines = LinePieces::new(Drops(text, drops), None);
        (lines.piece_bytes, lines.line_bytes_max) = (piece_bytes, cap);
        let mut found = Vec::new();
        while let Some(body) = lines.read().unwrap() {
            found.push(match body {
                Body::Lines { bytes, start } => Ok((bytes, start)),
                Body::TooLong { bytes } => Err(bytes),
                Body::Rows { .. } => unreachable!("lines are not made"),
            });
        }
        found
    }

    #[test]
    fn a_line_beyond_the_cap_is_skipped_whole() {
        let long = |count: usize| [vec![b'x'; count], b"\n5\n".to_vec()].concat();
        let found = pieces(&long(100), 8, 20, 7);
        assert_eq!(found, [Err(101), Ok((b"5\n".to_vec(), 101))]);
        assert_eq!(pieces(&[b'x'; 100], 8, 20, 64), [Err(100)]);
        assert_eq!(pieces(b"", 8, 20, 1), []);
    }

    proptest! {
        #[test]
        fn pieces_are_the_lines_however_they_are_read(
            lines in prop::collection::vec("[a-z]{0,12}", 0..40), end in any::<bool>(), size in 1usize..64, drops in 1usize..50,
        ) {
            let mut text = lines.join("\n");
            text.push_str(if end { "\n" } else { "" });
            let found = pieces(text.as_bytes(), size, 1000, drops);
            prop_assert_eq!(&found, &pieces(text.as_bytes(), size, 1000, 1 << 20), "cuts do not depend on reads");
            let mut at = 0;
            for (index, piece) in found.iter().enumerate() {
                let (bytes, start) = piece.as_ref().unwrap();
                prop_assert_eq!(*start, at);
                at += bytes.len() as u64;
                prop_assert!(bytes.ends_with(b"\n") || index + 1 == found.len());
            }
            let whole: Vec<u8> = found.iter().flat_map(|piece| piece.as_ref().unwrap().0.clone()).collect();
            prop_assert_eq!(whole, text.into_bytes());
        }
    }
}
