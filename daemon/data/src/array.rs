//! A JSON array, or JSON values one after the other, as rows: each value is a row, on as many lines as it likes.
//! Lives here: where one value ends. Never here: whether it is right (see `json`).

use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;

use hone_protocol::failure::Failure;

use super::json::Fault;
use super::open::stopped;
use super::pieces::{Gather, LINE_BYTES_MAX, Piece, Pieces};

/// Reads the values of an array.
pub(super) struct ArrayPieces<R> {
    source: R,
    path: PathBuf,
    file: Option<Arc<str>>,
    line: u64,
    state: State,
    gather: Gather,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    /// Between values; whether they are in a list.
    Between {
        list: bool,
    },
    End,
}

impl<R: BufRead + Send> ArrayPieces<R> {
    pub(super) fn new(source: R, path: PathBuf, file: Option<Arc<str>>) -> ArrayPieces<R> {
        ArrayPieces { source, path, file, line: 1, state: State::Start, gather: Gather::default() }
    }

    fn peek(&mut self) -> std::io::Result<Option<u8>> {
        Ok(self.source.fill_buf()?.first().copied())
    }

    fn pass(&mut self, byte: u8) {
        self.line += u64::from(byte == b'\n');
        self.source.consume(1);
    }

    /// One step: the next value, or a mark between values.
    fn step(&mut self) -> std::io::Result<()> {
        let Some(byte) = self.peek()? else {
            if self.state == (State::Between { list: true }) {
                self.gather.fault(self.line, Fault::line("bad JSON: the file ends inside the list"));
            }
            self.state = State::End;
            return Ok(());
        };
        match (byte, self.state) {
            (b' ' | b'\t' | b'\r' | b'\n', _) | (0xef | 0xbb | 0xbf, State::Start) => self.pass(byte),
            (b'[', State::Start) => {
                self.pass(byte);
                self.state = State::Between { list: true };
            }
            (b',', State::Between { list: true }) => self.pass(byte),
            (b']', State::Between { list: true }) => {
                self.pass(byte);
                self.state = State::Between { list: false };
            }
            _ => {
                let line = self.line;
                let list = self.state == (State::Between { list: true });
                self.state = State::Between { list };
                match self.value(list)? {
                    Ok(text) => match std::str::from_utf8(text.trim_ascii()) {
                        Ok(text) => self.gather.push(line, text),
                        Err(error) => {
                            let reason = format!("invalid UTF-8 at byte {} of the value", error.valid_up_to());
                            self.gather.fault(line, Fault::line(reason));
                        }
                    },
                    Err(fault) => self.gather.fault(line, fault),
                }
            }
        }
        Ok(())
    }

    /// The text of one value, to the mark after it: a comma or the list's end, or the value's own end outside a list.
    fn value(&mut self, list: bool) -> std::io::Result<Result<Vec<u8>, Fault>> {
        let mut text = Vec::new();
        let (mut bytes, mut depth, mut quoted, mut escaped) = (0, 0usize, false, false);
        'value: loop {
            let buffer = self.source.fill_buf()?;
            if buffer.is_empty() {
                break;
            }
            let mut taken = 0;
            let mut ended = false;
            for byte in buffer {
                if quoted {
                    (quoted, escaped) = (*byte != b'"' || escaped, *byte == b'\\' && !escaped);
                } else {
                    match byte {
                        b'"' => quoted = true,
                        b'[' | b'{' => depth += 1,
                        b']' | b'}' if depth > 0 => {
                            depth -= 1;
                            if depth == 0 && !list {
                                taken += 1;
                                ended = true;
                                break;
                            }
                        }
                        b']' | b',' if depth == 0 && list => {
                            ended = true;
                            break;
                        }
                        b'\n' if depth == 0 && !list => {
                            ended = true;
                            break;
                        }
                        _ => {}
                    }
                }
                taken += 1;
            }
            self.line += memchr::memchr_iter(b'\n', &buffer[..taken]).count() as u64;
            if bytes + taken <= LINE_BYTES_MAX {
                text.extend_from_slice(&buffer[..taken]);
            }
            bytes += taken;
            self.source.consume(taken);
            if ended {
                break 'value;
            }
        }
        if bytes > LINE_BYTES_MAX {
            return Ok(Err(Fault::line(format!("the value has {bytes} bytes; at most {LINE_BYTES_MAX} are read"))));
        }
        Ok(Ok(text))
    }
}

impl<R: BufRead + Send> Pieces for ArrayPieces<R> {
    fn next(&mut self) -> Result<Option<Piece>, Failure> {
        while !self.gather.is_full() && self.state != State::End {
            self.step().map_err(|error| stopped(&self.path, &error))?;
        }
        Ok(self.gather.take(&self.file))
    }
}
