//! The two ways to speak on the socket: frames of bincode after a hello, or lines of JSON. The first byte chooses.

use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::frame::{self, FRAME_BYTES_MAX};
use hone_protocol::request::{Down, Up};
use hone_protocol::wire;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    /// bincode behind a length.
    Frames,
    /// One JSON document a line.
    Lines,
}

/// Deepest nesting of a JSON line; serde_json's own limit is higher.
const DEPTH_MAX: usize = 64;

/// Reads requests off a stream.
pub(super) struct Reader<R> {
    codec: Codec,
    stream: R,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that hold no newline, so that a long line is searched once.
    searched: usize,
}

/// What came.
pub(super) enum Came {
    /// A request.
    Up(Up),
    /// Bytes that are no request; the connection can go on (lines) …
    Bad(Failure),
    /// … or cannot, because nobody knows where the next message begins.
    Lost(Failure),
    /// The end.
    End,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(super) fn new(codec: Codec, stream: R, buffer: Vec<u8>) -> Reader<R> {
        Reader { codec, stream, buffer, searched: 0 }
    }

    /// The next message. Cancel-safe: an unfinished one stays in the buffer.
    pub(super) async fn next(&mut self) -> Came {
        loop {
            let found = match self.codec {
                Codec::Frames => self.take_frame(),
                Codec::Lines => self.take_line(),
            };
            if let Some(came) = found {
                return came;
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return Came::End,
                Ok(_) => {}
            }
        }
    }

    fn take_frame(&mut self) -> Option<Came> {
        let header = self.buffer.first_chunk::<4>()?;
        let length = match frame::length(*header) {
            Ok(length) => length,
            Err(error) => return Some(Came::Lost(bad(error.to_string()))),
        };
        let payload = self.buffer.get(4..4 + length)?;
        let came = match wire::decode(payload) {
            Ok(up) => Came::Up(up),
            Err(error) => Came::Bad(bad(error.to_string())),
        };
        self.buffer.drain(..4 + length);
        Some(came)
    }

    fn take_line(&mut self) -> Option<Came> {
        loop {
            let Some(at) = self.buffer[self.searched..].iter().position(|b| *b == b'\n') else {
                self.searched = self.buffer.len();
                if self.searched > FRAME_BYTES_MAX {
                    return Some(Came::Lost(bad(format!("a line is longer than {FRAME_BYTES_MAX} bytes"))));
                }
                return None;
            };
            let line: Vec<u8> = self.buffer.drain(..=self.searched + at).collect();
            self.searched = 0;
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            return Some(match parse_line(&line) {
                Ok(up) => Came::Up(up),
                Err(reason) => Came::Bad(bad(reason)),
            });
        }
    }
}

fn bad(reason: String) -> Failure {
    Failure::new(FailureCode::BadFrame, reason)
}

fn parse_line(line: &[u8]) -> Result<Up, String> {
    let text = std::str::from_utf8(line).map_err(|e| format!("the line is not UTF-8 at byte {}", e.valid_up_to()))?;
    let mut depth = 0usize;
    let mut inside = false;
    let mut escaped = false;
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if inside => escaped = true,
            b'"' => inside = !inside,
            b'{' | b'[' if !inside => depth += 1,
            b'}' | b']' if !inside => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err(format!("the line nests deeper than {DEPTH_MAX}"));
        }
    }
    wire::decode_line(text).map_err(|e| e.to_string())
}

/// Encodes a message for a connection.
pub(super) fn encode(codec: Codec, down: &Down) -> Vec<u8> {
    match codec {
        Codec::Lines => wire::encode_line(down).into_bytes(),
        Codec::Frames => frame::frame(&wire::encode(down)).unwrap_or_else(|error| {
            // Every answer is windowed below the limit; if one is not, say so instead of going silent.
            let failure = Failure::new(FailureCode::Internal, error.to_string());
            let id = match down {
                Down::Answer { id, .. } | Down::Part { id, .. } => *id,
                _ => 0,
            };
            frame::frame(&wire::encode(&Down::Answer { id, answer: Err(failure) })).unwrap_or_default()
        }),
    }
}

/// Writes a message.
pub(super) async fn write<W: AsyncWrite + Unpin>(codec: Codec, stream: &mut W, down: &Down) -> std::io::Result<()> {
    stream.write_all(&encode(codec, down)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_and_frames_survive_bad_messages() {
        let lines = b"{\"ask\":{\"id\":1,\"once\":null,\"request\":\"status\"}}\n\n{nonsense\n{\"stop\":{\"id\":4}}\n";
        let mut reader = Reader::new(Codec::Lines, &lines[..], Vec::new());
        assert!(matches!(reader.next().await, Came::Up(Up::Ask { id: 1, .. })));
        assert!(matches!(reader.next().await, Came::Bad(_)));
        assert!(matches!(reader.next().await, Came::Up(Up::Stop { id: 4 })));
        assert!(matches!(reader.next().await, Came::End));
        let mut frames = frame::frame(&[255, 255]).unwrap();
        frames.extend(frame::frame(&wire::encode(&Up::Stop { id: 9 })).unwrap());
        frames.extend(u32::MAX.to_le_bytes());
        let mut reader = Reader::new(Codec::Frames, &frames[..], Vec::new());
        assert!(matches!(reader.next().await, Came::Bad(_)));
        assert!(matches!(reader.next().await, Came::Up(Up::Stop { id: 9 })));
        assert!(matches!(reader.next().await, Came::Lost(_)));
    }

    #[test]
    fn deep_lines_are_refused() {
        let line = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert!(parse_line(line.as_bytes()).unwrap_err().contains("deeper"));
        assert!(!parse_line(b"{\"a\":\"[[[[\"}").unwrap_err().contains("deeper"));
    }
}
