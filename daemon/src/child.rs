//! The first acts of every hidden child mode of honed (`honed data`, `honed fetch`, `honed upstream`), and the frames over fd 0.
//! Lives here: hello, heartbeats, the daemon's end. Never here: what a mode computes, anything that the daemon itself
//! runs, and the fence: the shim has put it up before the mode begins (see `sandbox`).
//!
//! What a child can rely on: when the daemon goes away the child ends, by the parent-death signal and, on systems
//! without one, because fd 0 hangs up. It may leave a temporary file (`*.partial`), never half a result.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::frame;
use hone_protocol::wire;
use hone_protocol::worker::{FromWorker, HEARTBEAT_MS, ToWorker};

use crate::sandbox;

/// What the daemon sets in the environment of `honed data` beside it: the C library gives blocks of 4 MiB and more
/// back to the system at once. Left alone it learns to keep them, and the longest lines would then cost a third
/// more memory than they take. Other C libraries ignore it.
pub const ALLOCATOR: (&str, &str) = ("MALLOC_MMAP_THRESHOLD_", "4194304");

/// Requests read ahead of the task in hand. One more waits in the socket: the reading thread then stands still,
/// and the daemon's writes with it, until the child takes a request.
pub const REQUESTS_WAITING_MAX: usize = 8;

/// A task that does not call [`Work::tick`] for so long is no longer reported alive. It is generous because one
/// `fsync` on a busy disk is one step.
pub const STALL_MS: u64 = 60_000;

/// Exit status of a child whose peer sent bytes that are no message.
pub const EXIT_BAD_FRAME: i32 = 76;

/// Exit status of a child whose peer went away. Nobody is left to read it but the system's log.
pub const EXIT_HANG_UP: i32 = 0;

/// Why a child mode could not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A person started it by hand.
    #[error("this is an inner part of honed that only the daemon starts ({missing}); run `honed` instead")]
    NotAChild {
        /// What a child would have.
        missing: &'static str,
    },
    /// The system refused one of the first acts.
    #[error("{act}: {source}")]
    System {
        /// Which.
        act: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Performs the first acts and says hello. Call it first in `main`, before any other thread exists.
pub fn start() -> Result<Channel, StartError> {
    let (socket, hello) = open()?;
    let channel = Channel::over(socket, || std::process::exit(EXIT_HANG_UP))
        .map_err(|source| StartError::System { act: "the channel to the daemon could not be opened", source })?;
    channel.send(&hello);
    Ok(channel)
}

/// Performs the first acts for a child with a line of its own: gives the socket, and the hello that is still to be said.
pub fn open() -> Result<(UnixStream, FromWorker), StartError> {
    let sandbox = sandbox::applied().ok_or(StartError::NotAChild { missing: "HONE_SANDBOX is not set" })?;
    survive_file_limit()?;
    let (protocol, version) = (hone_protocol::PROTOCOL, hone_protocol::VERSION.to_owned());
    Ok((own_socket()?, FromWorker::Hello { protocol, version, sandbox }))
}

/// Makes a write beyond the file limit fail with an error instead of ending the process.
///
/// The default of SIGXFSZ is to end it. Neither std nor rustix can safely ignore a signal, but any handler has
/// the same effect, and tokio can install one safely. It stays for the life of the process.
fn survive_file_limit() -> Result<(), StartError> {
    let failed = |source| StartError::System { act: "SIGXFSZ could not be caught", source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
    let _inside = runtime.enter();
    let kind = tokio::signal::unix::SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
    // The stream of its arrivals is not needed: the failed write tells the same.
    tokio::signal::unix::signal(kind).map(drop).map_err(failed)
}

fn own_socket() -> Result<UnixStream, StartError> {
    let duplicate = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|_| StartError::NotAChild { missing: "fd 0 is closed" })?;
    let stream = UnixStream::from(duplicate);
    match stream.peer_addr() {
        Ok(_) => Ok(stream),
        Err(_) => Err(StartError::NotAChild { missing: "fd 0 is not the daemon's socket" }),
    }
}

/// The frames of a child. One thread reads (and notices the hang-up even in the middle of a task), one sends
/// heartbeats, and whoever holds the channel sends.
#[derive(Debug)]
pub struct Channel {
    shared: Arc<Shared>,
    requests: Receiver<ToWorker>,
}

struct Shared {
    writer: Mutex<UnixStream>,
    task: Mutex<Option<Arc<AtomicU64>>>,
    task_changed: Condvar,
    hang_up: Box<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl Channel {
    /// Frames over a connected socket. `hang_up` is called when the peer is gone, from whichever thread noticed;
    /// a child ends the process there.
    pub fn over(stream: UnixStream, hang_up: impl Fn() + Send + Sync + 'static) -> std::io::Result<Channel> {
        let reader = stream.try_clone()?;
        let shared = Arc::new(Shared {
            writer: Mutex::new(stream),
            task: Mutex::new(None),
            task_changed: Condvar::new(),
            hang_up: Box::new(hang_up),
        });
        let (queue, requests) = sync_channel(REQUESTS_WAITING_MAX);
        let reading = Arc::clone(&shared);
        thread::Builder::new().name("frames".into()).stack_size(256 << 10).spawn(move || {
            reading.read_all(reader, &queue);
        })?;
        let beating = Arc::downgrade(&shared);
        thread::Builder::new().name("heartbeat".into()).stack_size(128 << 10).spawn(move || {
            while let Some(shared) = beating.upgrade() {
                shared.beat();
            }
        })?;
        Ok(Channel { shared, requests })
    }

    /// Sends one message; waits while the daemon does not read. If the daemon is gone, the child ends here.
    pub fn send(&self, message: &FromWorker) {
        self.shared.send(message);
    }

    /// The next request, or nothing when the daemon has closed its side.
    pub fn recv(&self) -> Option<ToWorker> {
        self.requests.recv().ok()
    }

    /// The next request, or nothing when none came in that time or the daemon has closed its side.
    pub fn recv_within(&self, patience: Duration) -> Option<ToWorker> {
        self.requests.recv_timeout(patience).ok()
    }

    /// Begins a task: heartbeats are sent until the answer is dropped, as long as the task ticks.
    pub fn work(&self) -> Work<'_> {
        let ticks = Arc::new(AtomicU64::new(0));
        *lock(&self.shared.task) = Some(Arc::clone(&ticks));
        self.shared.task_changed.notify_all();
        Work { channel: self, ticks, phase: String::new(), told: None }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // Wakes the heartbeat thread, which then finds nothing to hold on to.
        self.shared.task_changed.notify_all();
    }
}

impl Shared {
    fn send(&self, message: &FromWorker) {
        let bytes = match frame::frame(&wire::encode(message)) {
            Ok(bytes) => bytes,
            // Only a bug lets an answer outgrow a frame; the daemon hears that instead of silence.
            Err(error) => {
                let failure = Failure::new(FailureCode::Internal, format!("an answer does not fit a frame: {error}"))
                    .hint(HintCode::ReportBug);
                frame::frame(&wire::encode(&FromWorker::Failed(failure))).expect("a short failure fits a frame")
            }
        };
        if lock(&self.writer).write_all(&bytes).is_err() {
            (self.hang_up)();
        }
    }

    fn read_all(&self, mut stream: UnixStream, queue: &SyncSender<ToWorker>) {
        loop {
            match read_message(&mut stream) {
                Ok(Some(message)) => {
                    if queue.send(message).is_err() {
                        return;
                    }
                }
                Ok(None) => return (self.hang_up)(),
                Err(reason) => {
                    self.send(&FromWorker::Failed(
                        Failure::new(FailureCode::BadFrame, reason).hint(HintCode::ReportBug),
                    ));
                    std::process::exit(EXIT_BAD_FRAME);
                }
            }
        }
    }

    /// Waits for a task, then sends heartbeats until it ends or stalls.
    fn beat(&self) {
        let pause = Duration::from_millis(HEARTBEAT_MS / 2);
        let mut task = lock(&self.task);
        let Some(ticks) = task.clone() else {
            // The wait has a bound so that the thread notices when the channel is dropped.
            drop(self.task_changed.wait_timeout(task, pause).unwrap_or_else(PoisonError::into_inner));
            return;
        };
        let (mut seen, mut moved_at) = (ticks.load(Ordering::Relaxed), Instant::now());
        loop {
            task = self.task_changed.wait_timeout(task, pause).unwrap_or_else(PoisonError::into_inner).0;
            if !task.as_ref().is_some_and(|current| Arc::ptr_eq(current, &ticks)) {
                return;
            }
            let now = ticks.load(Ordering::Relaxed);
            if now != seen {
                (seen, moved_at) = (now, Instant::now());
            }
            if moved_at.elapsed() < Duration::from_millis(STALL_MS) {
                drop(task);
                self.send(&FromWorker::Alive);
                task = lock(&self.task);
            }
        }
    }
}

/// One message; nothing at an orderly end of the stream.
fn read_message(stream: &mut UnixStream) -> Result<Option<ToWorker>, String> {
    let mut header = [0; 4];
    match stream.read_exact(&mut header) {
        Ok(()) => {}
        // A peer that dies in the middle of a header is as gone as one that dies between frames.
        Err(_) => return Ok(None),
    }
    let length = frame::length(header).map_err(|e| e.to_string())?;
    // `take` and not a buffer of the announced length: memory follows the bytes that really come.
    let mut payload = Vec::new();
    match stream.take(length as u64).read_to_end(&mut payload) {
        Ok(read) if read == length => wire::decode(&payload).map(Some).map_err(|e| e.to_string()),
        _ => Ok(None),
    }
}

/// A lock that a panicking thread held is still good: what it guards is whole between statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Least milliseconds between two progress messages: at most five a second.
pub const PROGRESS_INTERVAL_MS: u64 = 200;

/// A task in hand. While it lives and ticks, the daemon hears that the child is alive.
#[derive(Debug)]
pub struct Work<'c> {
    channel: &'c Channel,
    ticks: Arc<AtomicU64>,
    phase: String,
    told: Option<Instant>,
}

impl Work<'_> {
    /// The task has moved.
    pub fn tick(&self) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }

    /// The task has moved that far. Told at once when the phase is new or done, else at most five times a second.
    pub fn progress(&mut self, phase: &str, done: u64, total: u64) {
        self.tick();
        let due = self.phase != phase
            || done == total
            || self.told.is_none_or(|at| at.elapsed() >= Duration::from_millis(PROGRESS_INTERVAL_MS));
        if due {
            phase.clone_into(&mut self.phase);
            self.told = Some(Instant::now());
            self.channel.send(&FromWorker::Progress { phase: phase.to_owned(), done, total });
        }
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        *lock(&self.channel.shared.task) = None;
        self.channel.shared.task_changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    fn pair() -> (Channel, UnixStream, Arc<AtomicBool>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let gone = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&gone);
        let channel = Channel::over(ours, move || told.store(true, Ordering::SeqCst)).unwrap();
        (channel, theirs, gone)
    }

    fn read(stream: &mut UnixStream) -> FromWorker {
        let mut header = [0; 4];
        stream.read_exact(&mut header).unwrap();
        let mut payload = vec![0; frame::length(header).unwrap()];
        stream.read_exact(&mut payload).unwrap();
        wire::decode(&payload).unwrap()
    }

    #[test]
    fn requests_come_in_order_and_end_with_the_peer() {
        let (channel, mut peer, gone) = pair();
        for request in 0..20 {
            let message = ToWorker::CancelRequest { request };
            peer.write_all(&frame::frame(&wire::encode(&message)).unwrap()).unwrap();
        }
        drop(peer);
        for request in 0..20 {
            assert_eq!(channel.recv(), Some(ToWorker::CancelRequest { request }));
        }
        assert_eq!(channel.recv(), None);
        assert!(gone.load(Ordering::SeqCst), "the hang-up was noticed");
    }

    #[test]
    fn a_task_that_ticks_is_reported_alive_and_progress_is_bounded() {
        let (channel, mut peer, _gone) = pair();
        let mut work = channel.work();
        work.progress("phase.import", 0, 10);
        for done in 1..10 {
            work.progress("phase.import", done, 10);
        }
        work.progress("phase.import", 10, 10);
        let begun = Instant::now();
        let first = read(&mut peer);
        assert_eq!(first, FromWorker::Progress { phase: "phase.import".into(), done: 0, total: 10 });
        // What is due by time alone depends on the machine; the last one always comes.
        while read(&mut peer) != (FromWorker::Progress { phase: "phase.import".into(), done: 10, total: 10 }) {}
        assert_eq!(read(&mut peer), FromWorker::Alive);
        assert!(begun.elapsed() < Duration::from_millis(HEARTBEAT_MS), "{:?}", begun.elapsed());
    }

    #[test]
    fn an_answer_beyond_a_frame_becomes_a_failure() {
        let (channel, mut peer, _gone) = pair();
        let text = "x".repeat(frame::FRAME_BYTES_MAX + 1);
        channel.send(&FromWorker::Echoed { request: 1, text, chances: Vec::new() });
        assert!(matches!(read(&mut peer), FromWorker::Failed(f) if f.code == FailureCode::Internal));
    }

    #[test]
    fn sending_to_a_peer_that_left_is_a_hang_up() {
        let (channel, peer, gone) = pair();
        drop(peer);
        channel.send(&FromWorker::Alive);
        assert!(gone.load(Ordering::SeqCst));
    }
}
