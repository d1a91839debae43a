//! The two directions of a connection: frames read and frames written, each usable on a thread of its own. Never here:
//! what a message means.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::frame;
use hone_protocol::hello::{HEADER_BYTES, Hello, HelloError};
use hone_protocol::request::{Down, Up};
use hone_protocol::wire;
use interprocess::local_socket::Stream;
use interprocess::local_socket::prelude::*;

use super::LinkError;

/// Bytes asked of the socket at once.
const READ_BYTES: usize = 64 * 1024;

/// The receiving direction.
#[derive(Debug)]
pub struct LinkReader {
    pub(super) stream: Arc<Stream>,
    /// Bytes that came and are not yet a whole message; at most one frame and one read.
    pub(super) buffer: Vec<u8>,
}

impl LinkReader {
    /// The next message. Blocks until it is there, the connection ends, or the set time passes; after
    /// [`LinkError::TimedOut`] reading may go on.
    pub fn read(&mut self) -> Result<Down, LinkError> {
        let header = self.need(4)?;
        let length = frame::length([header[0], header[1], header[2], header[3]])?;
        let message = wire::decode(&self.need(4 + length)?[4..])?;
        self.buffer.drain(..4 + length);
        Ok(message)
    }

    /// How long [`LinkReader::read`] waits for bytes; none waits for ever.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> Result<(), LinkError> {
        Ok(self.stream.set_recv_timeout(timeout)?)
    }

    pub(super) fn hello(&mut self) -> Result<Hello, HandshakeError> {
        let mut header = [0; HEADER_BYTES];
        header.copy_from_slice(self.need(HEADER_BYTES)?);
        let (hello, length) = Hello::from_header(&header)?;
        let hello = hello.with_text(&self.need(HEADER_BYTES + length)?[HEADER_BYTES..])?;
        self.buffer.drain(..HEADER_BYTES + length);
        Ok(hello)
    }

    /// The first `count` bytes of what came, reading until they are there.
    fn need(&mut self, count: usize) -> Result<&[u8], LinkError> {
        while self.buffer.len() < count {
            let had = self.buffer.len();
            self.buffer.resize(had + READ_BYTES, 0);
            let got = (&*self.stream).read(&mut self.buffer[had..]);
            self.buffer.truncate(had + *got.as_ref().unwrap_or(&0));
            match got {
                Ok(0) if had == 0 => return Err(LinkError::Closed),
                Ok(0) => return Err(LinkError::Cut { got: had }),
                Ok(_) => {}
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Err(LinkError::TimedOut),
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe if had == 0 => {
                        return Err(LinkError::Closed);
                    }
                    io::ErrorKind::ConnectionReset => return Err(LinkError::Cut { got: had }),
                    _ => return Err(LinkError::Io(error)),
                },
            }
        }
        Ok(&self.buffer[..count])
    }
}

/// The sending direction. Cheap to clone; messages of several clones never mix when each `send` is one thread's.
#[derive(Debug, Clone)]
pub struct LinkWriter {
    pub(super) stream: Arc<Stream>,
}

impl LinkWriter {
    /// Sends one message. Blocks while the daemon's receive buffer is full.
    pub fn send(&self, up: &Up) -> Result<(), LinkError> {
        self.write(&frame::frame(&wire::encode(up))?)
    }

    /// Ends both directions, so that a reader on another thread returns.
    pub fn close(&self) {
        use std::os::fd::AsFd;
        let Stream::UdSocket(socket) = &*self.stream;
        // An error here means that the peer was faster; the connection is over either way.
        let _ = rustix::net::shutdown(socket.as_fd(), rustix::net::Shutdown::Both);
    }

    pub(super) fn write(&self, bytes: &[u8]) -> Result<(), LinkError> {
        (&*self.stream).write_all(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => LinkError::Closed,
            _ => LinkError::Io(error),
        })
    }
}

/// Why the first message did not come.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("{0}")]
    Link(#[from] LinkError),
    #[error("{0}")]
    Hello(#[from] HelloError),
}

impl HandshakeError {
    pub(super) fn into_failure(self, place: &str) -> Failure {
        match self {
            HandshakeError::Link(error) => error.into_failure(place),
            HandshakeError::Hello(error) => {
                Failure::new(FailureCode::VersionMismatch, error.to_string()).at(place).hint(HintCode::Upgrade)
            }
        }
    }
}
