//! The line to one child: frames over its fd 0, a check of its hello, and a limit on its silence. A child in a job of a cluster has
//! the same line, which never ends for silence: such a job may wait for days (see `far`).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::worker::{FromWorker, HEARTBEAT_MS, ToWorker};
use hone_protocol::{PROTOCOL, frame, wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::far::Far;
use super::process::{Process, Program, Spawner};
use crate::pools::Cards;
use crate::sandbox::Paths;

/// How long a child may take to say hello.
const HELLO_MS: u64 = 20_000;
/// How long a child with a task may be silent: three missed heartbeats.
pub const SILENCE_MS: u64 = 3 * HEARTBEAT_MS + 5_000;

/// What is at the other end.
pub enum Child {
    /// A process of this machine.
    Near(Process),
    /// A job of a cluster.
    Far(Arc<Far>),
}

impl Child {
    /// Ends it: a process at once, a job of a cluster soon.
    pub fn kill(&self) {
        match self {
            Child::Near(process) => process.kill(),
            Child::Far(far) => far.end(),
        }
    }

    /// Its process id here.
    pub fn pid(&self) -> Option<u32> {
        match self {
            Child::Near(process) => Some(process.pid),
            Child::Far(_) => None,
        }
    }

    /// The failure of one that ended without saying why.
    pub async fn death(&self) -> Failure {
        match self {
            Child::Near(process) => process.death().await,
            Child::Far(far) => far.death().await,
        }
    }

    /// The failure of one that holds too much memory; a cluster watches its own.
    pub fn look(&self) -> Option<Failure> {
        match self {
            Child::Near(process) => process.memory.look(),
            Child::Far(_) => None,
        }
    }

    /// Whether it has not begun yet.
    pub fn is_waiting(&self) -> bool {
        matches!(self, Child::Far(far) if far.is_waiting())
    }
}

/// A child and the line to it.
pub struct Line {
    /// The process.
    pub process: Child,
    reader: Frames,
    writer: OwnedWriteHalf,
    /// What the child said of its sandbox.
    pub sandbox: Vec<String>,
}

impl Line {
    /// Starts a child that may use `paths`, and takes its hello.
    pub async fn open(
        spawner: &Spawner,
        program: Program,
        paths: Paths,
        cards: Cards,
        log: &Path,
    ) -> Result<Line, Failure> {
        let (process, stream) = spawner.spawn(program, paths, cards, log).await?;
        let io = |e: std::io::Error| Failure::new(FailureCode::Internal, format!("no line to the worker: {e}"));
        stream.set_nonblocking(true).map_err(io)?;
        let (reader, writer) = UnixStream::from_std(stream).map_err(io)?.into_split();
        let process = Child::Near(process);
        let mut line = Line { process, reader: Frames::new(reader), writer, sandbox: Vec::new() };
        match tokio::time::timeout(Duration::from_millis(HELLO_MS), line.read()).await {
            Ok(Ok(FromWorker::Hello { protocol: PROTOCOL, sandbox, .. })) => {
                spawner.note(&sandbox);
                line.sandbox = sandbox;
                Ok(line)
            }
            Ok(Ok(FromWorker::Hello { protocol, version, .. })) => Err(mismatch(protocol, &version)),
            Ok(Ok(FromWorker::Failed(failure))) | Ok(Err(failure)) => Err(failure),
            Ok(Ok(_)) => Err(Failure::new(FailureCode::BadFrame, "the worker did not begin with a hello")),
            Err(_) => Err(silent(HELLO_MS)),
        }
    }

    /// The line to a job of a cluster that was submitted. Its hello comes when it begins.
    pub fn to(far: Arc<Far>, stream: std::os::unix::net::UnixStream) -> std::io::Result<Line> {
        stream.set_nonblocking(true)?;
        let (reader, writer) = UnixStream::from_std(stream)?.into_split();
        Ok(Line { process: Child::Far(far), reader: Frames::new(reader), writer, sandbox: Vec::new() })
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
        if let Child::Far(far) = &self.process {
            let far = Arc::clone(far);
            return self.recv_far(&far).await;
        }
        loop {
            match tokio::time::timeout(Duration::from_millis(SILENCE_MS), self.read()).await {
                Ok(Ok(FromWorker::Failed(failure))) | Ok(Err(failure)) => return Err(failure),
                Ok(Ok(message)) => {
                    if let Some(failure) = self.process.look() {
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

    /// The same from a job of a cluster. What was taken of its frames is noted as it is handed out, so that whoever stores what a
    /// message says can store how far that is.
    async fn recv_far(&mut self, far: &Far) -> Result<FromWorker, Failure> {
        loop {
            let message = self.read().await;
            far.taken(std::mem::take(&mut self.reader.taken));
            match message? {
                FromWorker::Hello { protocol: PROTOCOL, sandbox, .. } => self.sandbox = sandbox,
                FromWorker::Hello { protocol, version, .. } => return Err(mismatch(protocol, &version)),
                FromWorker::Failed(failure) => return Err(failure),
                FromWorker::Alive => {}
                message => return Ok(message),
            }
        }
    }

    /// Splits the line, for those who send and receive at once.
    pub fn split(self) -> (Child, LineReader, LineWriter) {
        (self.process, LineReader { reader: self.reader }, LineWriter { writer: self.writer })
    }

    async fn read(&mut self) -> Result<FromWorker, Failure> {
        match self.reader.next().await {
            Some(result) => result,
            None => Err(self.process.death().await),
        }
    }
}

fn mismatch(protocol: u16, version: &str) -> Failure {
    let message = format!("the worker is hone {version} with protocol {protocol}, this daemon has protocol {PROTOCOL}");
    Failure::new(FailureCode::VersionMismatch, message).hint(HintCode::Upgrade)
}

fn silent(ms: u64) -> Failure {
    Failure::new(FailureCode::WorkerSilent, format!("the worker said nothing for {} s and was ended", ms / 1000))
        .hint(HintCode::ReadLog)
}

/// Frames out of a stream. What was read of an unfinished frame stays here, so a read may be given up at any time.
struct Frames {
    reader: OwnedReadHalf,
    buffer: Vec<u8>,
    /// Bytes of the frames that were handed out.
    taken: u64,
}

impl Frames {
    fn new(reader: OwnedReadHalf) -> Frames {
        Frames { reader, buffer: Vec::with_capacity(64 * 1024), taken: 0 }
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
                // A long message is read in as few pieces as the system has it in.
                self.buffer.reserve((4 + length).saturating_sub(self.buffer.len()));
                if let Some(payload) = self.buffer.get(4..4 + length) {
                    let message = wire::decode(payload).map_err(|e| bad(e.to_string()));
                    self.buffer.drain(..4 + length);
                    self.taken += 4 + length as u64;
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
