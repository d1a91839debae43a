//! The line to one child: frames over its fd 0, a check of its hello, and a limit on its silence.

use std::path::Path;
use std::time::Duration;

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::worker::{FromWorker, HEARTBEAT_MS, ToWorker};
use hone_protocol::{PROTOCOL, frame, wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::process::{Process, Program, Spawner};
use crate::sandbox::Paths;

/// How long a child may take to say hello.
const HELLO_MS: u64 = 20_000;
/// How long a child with a task may be silent: three missed heartbeats.
pub const SILENCE_MS: u64 = 3 * HEARTBEAT_MS + 5_000;

/// A child and the line to it.
pub struct Line {
    /// The process.
    pub process: Process,
    reader: Frames,
    writer: OwnedWriteHalf,
    /// What the child said of its sandbox.
    pub sandbox: Vec<String>,
}

impl Line {
    /// Starts a child that may use `paths`, and takes its hello.
    pub async fn open(spawner: &Spawner, program: Program, paths: Paths, log: &Path) -> Result<Line, Failure> {
        let (process, stream) = spawner.spawn(program, paths, log).await?;
        let io = |e: std::io::Error| Failure::new(FailureCode::Internal, format!("no line to the worker: {e}"));
        stream.set_nonblocking(true).map_err(io)?;
        let (reader, writer) = UnixStream::from_std(stream).map_err(io)?.into_split();
        let mut line = Line { process, reader: Frames::new(reader), writer, sandbox: Vec::new() };
        match tokio::time::timeout(Duration::from_millis(HELLO_MS), line.read()).await {
            Ok(Ok(FromWorker::Hello { protocol: PROTOCOL, sandbox, .. })) => {
                spawner.note(&sandbox);
                line.sandbox = sandbox;
                Ok(line)
            }
            Ok(Ok(FromWorker::Hello { protocol, version, .. })) => Err(Failure::new(
                FailureCode::VersionMismatch,
                format!("the worker is hone {version} with protocol {protocol}, this daemon has protocol {PROTOCOL}"),
            )
            .hint(HintCode::Upgrade)),
            Ok(Ok(FromWorker::Failed(failure))) | Ok(Err(failure)) => Err(failure),
            Ok(Ok(_)) => Err(Failure::new(FailureCode::BadFrame, "the worker did not begin with a hello")),
            Err(_) => Err(silent(HELLO_MS)),
        }
    }

    /// Sends a message.
    pub async fn send(&mut self, message: &ToWorker) -> Result<(), Failure> {
        let bytes = frame::frame(&wire::encode(message))
            .map_err(|e| Failure::new(FailureCode::InvalidRequest, e.to_string()))?;
        match self.writer.write_all(&bytes).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.process.death().await),
        }
    }

    /// The next message that is not a heartbeat. A child that is silent too long, or holds too much memory, is ended.
    /// Cancel-safe.
    pub async fn recv(&mut self) -> Result<FromWorker, Failure> {
        loop {
            match tokio::time::timeout(Duration::from_millis(SILENCE_MS), self.read()).await {
                Ok(Ok(FromWorker::Failed(failure))) | Ok(Err(failure)) => return Err(failure),
                Ok(Ok(message)) => {
                    if let Some(failure) = self.process.memory.look() {
                        self.process.kill();
                        return Err(failure);
                    }
                    if message != FromWorker::Alive {
                        return Ok(message);
                    }
                }
                Err(_) => {
                    self.process.kill();
                    return Err(silent(SILENCE_MS));
                }
            }
        }
    }

    /// Splits the line, for those who send and receive at once.
    pub fn split(self) -> (Process, LineReader, LineWriter) {
        (self.process, LineReader { reader: self.reader }, LineWriter { writer: self.writer })
    }

    async fn read(&mut self) -> Result<FromWorker, Failure> {
        match self.reader.next().await {
            Some(result) => result,
            None => Err(self.process.death().await),
        }
    }
}

fn silent(ms: u64) -> Failure {
    Failure::new(FailureCode::WorkerSilent, format!("the worker said nothing for {} s and was ended", ms / 1000))
        .hint(HintCode::ReadLog)
}

/// Frames out of a stream. What was read of an unfinished frame stays here, so a read may be given up at any time.
struct Frames {
    reader: OwnedReadHalf,
    buffer: Vec<u8>,
}

impl Frames {
    fn new(reader: OwnedReadHalf) -> Frames {
        Frames { reader, buffer: Vec::with_capacity(64 * 1024) }
    }

    /// The next message; `None` at the end of the line.
    async fn next(&mut self) -> Option<Result<FromWorker, Failure>> {
        let bad = |reason: String| Failure::new(FailureCode::BadFrame, format!("from the worker: {reason}"));
        loop {
            if let Some(header) = self.buffer.first_chunk::<4>() {
                let length = match frame::length(*header) {
                    Ok(length) => length,
                    Err(error) => return Some(Err(bad(error.to_string()))),
                };
                if let Some(payload) = self.buffer.get(4..4 + length) {
                    let message = wire::decode(payload).map_err(|e| bad(e.to_string()));
                    self.buffer.drain(..4 + length);
                    return Some(message);
                }
            }
            match self.reader.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}

/// The reading half.
pub struct LineReader {
    reader: Frames,
}

impl LineReader {
    /// The next message, heartbeats included; `None` at the end of the line. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Result<FromWorker, Failure>> {
        self.reader.next().await
    }
}

/// The writing half.
pub struct LineWriter {
    writer: OwnedWriteHalf,
}

impl LineWriter {
    /// Sends a message; `false` when the child is gone.
    pub async fn send(&mut self, message: &ToWorker) -> bool {
        match frame::frame(&wire::encode(message)) {
            Ok(bytes) => self.writer.write_all(&bytes).await.is_ok(),
            Err(_) => false,
        }
    }
}
