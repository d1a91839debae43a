//! The frames over fd 0 for a child that waits for many things at once. Never here: what frames mean.

use std::os::unix::net::UnixStream as StdStream;

use hone_protocol::worker::{FromWorker, ToWorker};
use hone_protocol::{frame, wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

/// Messages that are written together at most.
const TOGETHER_MAX: usize = 256;

/// The two halves of a line.
pub(super) fn open(socket: StdStream) -> std::io::Result<(Reader, Writer)> {
    socket.set_nonblocking(true)?;
    let (reader, writer) = UnixStream::from_std(socket)?.into_split();
    Ok((Reader { reader, buffer: Vec::with_capacity(64 * 1024), start: 0 }, Writer { writer }))
}

/// Reads messages. What was read of an unfinished one stays here, so a read may be given up at any time.
pub(super) struct Reader {
    reader: OwnedReadHalf,
    buffer: Vec<u8>,
    /// Where the next frame begins.
    start: usize,
}

impl Reader {
    /// The next message; none at the end of the line. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Option<ToWorker>, String> {
        loop {
            let rest = &self.buffer[self.start..];
            if let Some(header) = rest.first_chunk::<4>() {
                let length = frame::length(*header).map_err(|error| error.to_string())?;
                if let Some(payload) = rest.get(4..4 + length) {
                    let message = wire::decode(payload).map_err(|error| error.to_string())?;
                    self.start += 4 + length;
                    return Ok(Some(message));
                }
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            match self.reader.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return Ok(None),
                Ok(_) => {}
            }
        }
    }
}

/// Writes messages.
pub(super) struct Writer {
    writer: OwnedWriteHalf,
}

impl Writer {
    /// Writes what comes, as much at once as there is, until either side is gone.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<FromWorker>) {
        let (mut messages, mut bytes) = (Vec::with_capacity(TOGETHER_MAX), Vec::new());
        while queue.recv_many(&mut messages, TOGETHER_MAX).await > 0 {
            bytes.clear();
            for message in messages.drain(..) {
                match frame::frame(&wire::encode(&message)) {
                    Ok(frame) => bytes.extend_from_slice(&frame),
                    Err(error) => eprintln!("honed upstream: an answer does not fit a frame: {error}"),
                }
            }
            if self.writer.write_all(&bytes).await.is_err() {
                return;
            }
        }
    }
}
