//! Lines of a file of any size in bounded memory.
//! Lives here: finding line ends, the cap, byte offsets. Never here: what a line means.

use std::io::{self, BufRead};

/// The longest line that is read, in bytes, its end not counted. A longer one is skipped without being kept in
/// memory and reported as a rejection.
pub(super) const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a line is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'l> {
    /// Its bytes, without the line feed and without a carriage return before it.
    Bytes(&'l [u8]),
    /// It is longer than the cap.
    TooLong {
        /// Its length in bytes.
        bytes: u64,
    },
}

/// Reads lines. Each is in memory once, in a buffer that is used again.
#[derive(Debug)]
pub(super) struct Lines<R> {
    source: R,
    buffer: Vec<u8>,
    bytes_max: usize,
    number: u64,
    start: u64,
    next_start: u64,
}

impl<R: BufRead> Lines<R> {
    /// Lines of up to [`LINE_BYTES_MAX`] bytes.
    pub(super) fn new(source: R) -> Lines<R> {
        Lines::with_cap(source, LINE_BYTES_MAX)
    }

    fn with_cap(source: R, bytes_max: usize) -> Lines<R> {
        // Reserved at once, because doubling would hold up to three times the longest line. Memory that no line
        // reaches is never touched, so it costs nothing.
        Lines { source, buffer: Vec::with_capacity(bytes_max + 2), bytes_max, number: 0, start: 0, next_start: 0 }
    }

    /// The next line, or nothing at the end. A last line without a line end is a line; nothing after a last
    /// line end is none.
    pub(super) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.buffer.clear();
        self.start = self.next_start;
        let most = self.bytes_max as u64 + 2;
        let read = io::Read::take(&mut self.source, most).read_until(b'\n', &mut self.buffer)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        self.next_start += read as u64;
        let mut rest = 0;
        let mut ended = false;
        if self.buffer.last() == Some(&b'\n') {
            self.buffer.pop();
            ended = true;
        } else if read as u64 == most {
            rest = skip_line(&mut self.source)?;
            self.next_start += rest;
        }
        if ended && self.buffer.last() == Some(&b'\r') {
            self.buffer.pop();
        }
        if rest > 0 || self.buffer.len() > self.bytes_max {
            return Ok(Some(Line::TooLong { bytes: self.next_start - self.start }));
        }
        Ok(Some(Line::Bytes(&self.buffer)))
    }

    /// The bytes of the line that was read last.
    pub(super) fn line(&self) -> &[u8] {
        &self.buffer
    }

    /// The same, given away. The next line goes into a new buffer.
    pub(super) fn take_line(&mut self) -> Vec<u8> {
        std::mem::replace(&mut self.buffer, Vec::with_capacity(self.bytes_max + 2))
    }

    /// Number of the line that was read last, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Where in the file that line begins, in bytes.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Bytes read so far.
    pub(super) fn done(&self) -> u64 {
        self.next_start
    }
}

/// Reads past the next line feed and says how many bytes that was.
fn skip_line(source: &mut impl BufRead) -> io::Result<u64> {
    source.skip_until(b'\n').map(|bytes| bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8], cap: usize) -> Vec<(u64, u64, Result<Vec<u8>, u64>)> {
        let mut lines = Lines::with_cap(text, cap);
        let mut found = Vec::new();
        loop {
            let line = match lines.next().unwrap() {
                None => return found,
                Some(Line::Bytes(bytes)) => Ok(bytes.to_vec()),
                Some(Line::TooLong { bytes }) => Err(bytes),
            };
            found.push((lines.number(), lines.start(), line));
        }
    }

    #[test]
    fn line_ends_of_both_kinds_and_none_at_the_end() {
        let expected: Vec<_> = [(1, 0, "a"), (2, 2, "b"), (3, 5, ""), (4, 6, "c")]
            .map(|(n, at, text)| (n, at, Ok(text.as_bytes().to_vec())))
            .into();
        assert_eq!(all(b"a\nb\r\n\nc", 10), expected);
        assert_eq!(all(b"a\nb\r\n\nc\n", 10), expected);
        assert!(all(b"", 10).is_empty());
    }

    #[test]
    fn a_line_at_the_cap_is_read_and_one_beyond_is_skipped_whole() {
        assert_eq!(all(b"1234\r\n5\n", 4), [(1, 0, Ok(b"1234".to_vec())), (2, 6, Ok(b"5".to_vec()))]);
        assert_eq!(all(b"12345\n6\n", 4), [(1, 0, Err(6)), (2, 6, Ok(b"6".to_vec()))]);
        assert_eq!(all(b"1234567890\n6", 4), [(1, 0, Err(11)), (2, 11, Ok(b"6".to_vec()))]);
        assert_eq!(all(b"1234567890", 4), [(1, 0, Err(10))]);
        assert_eq!(all(b"123456", 4), [(1, 0, Err(6))]);
    }
}
