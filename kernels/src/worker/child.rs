//! The first acts of a worker, and its frames: a hello, and a thread each for reading, heartbeats and
//! the daemon's end.
//!
//! What never lives here: tasks, and the fence. `honed child` has put that up in this same process
//! before the worker began; the worker repeats what it was told of it.
//!
//! When the daemon goes away the worker ends, by the parent-death signal and, on systems without one
//! or where it was lost, because a thread of its own sees fd 0 hang up, even in the middle of a kernel.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::worker::{FromWorker, HEARTBEAT_MS, ToWorker};
use hone_protocol::{frame, wire};

/// The environment variable in which `honed child` says what it applied: items with `;` between them.
pub const SANDBOX_VARIABLE: &str = "HONE_SANDBOX";
/// Messages read ahead of the one in hand. At the bound the reading thread stands still, and the
/// daemon's writes with it, until the worker takes one.
pub const MESSAGES_WAITING_MAX: usize = 256;
/// A task that does not tick for so long is no longer reported alive. Generous, because one step of
/// training on a busy machine is one tick.
pub const STALL_MS: u64 = 300_000;
/// Least milliseconds between two progress messages of one phase.
pub const PROGRESS_INTERVAL_MS: u64 = 200;
/// Exit status of a worker whose peer sent bytes that are no message.
pub const EXIT_BAD_FRAME: i32 = 76;
/// Exit status of a worker whose peer went away. Nobody is left to read it but the system's log.
pub const EXIT_HANG_UP: i32 = 0;

/// Why a worker could not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A person started it by hand.
    #[error("this is an inner part of hone that only honed starts ({missing})\nhint: run `honed`")]
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
        source: io::Error,
    },
}

fn system(act: &'static str) -> impl FnOnce(rustix::io::Errno) -> StartError {
    move |e| StartError::System { act, source: e.into() }
}

/// Performs the first acts and says hello. Call it first in `main`, before any other thread exists.
pub fn start() -> Result<Channel, StartError> {
    let sandbox =
        std::env::var(SANDBOX_VARIABLE).map_err(|_| StartError::NotAChild { missing: "HONE_SANDBOX is not set" })?;
    survive_file_limit();
    let socket = take_socket()?;
    rustix::stdio::dup2_stdout(io::stderr()).map_err(system("stdout could not be joined to stderr"))?;
    let channel = Channel::over(socket, || leave(EXIT_HANG_UP))
        .map_err(|source| StartError::System { act: "the channel to the daemon could not be opened", source })?;
    channel.send(&FromWorker::Hello {
        protocol: hone_protocol::PROTOCOL,
        version: hone_protocol::VERSION.to_owned(),
        sandbox: sandbox.split(';').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect(),
    });
    Ok(channel)
}

unsafe extern "C" {
    /// `signal(2)`; std links the C library on every Unix.
    fn signal(number: i32, handler: usize) -> usize;
    /// `_exit(2)`.
    fn _exit(status: i32) -> !;
}

/// Ends at once, in the middle of whatever other threads compute: destructors of ggml and of drivers, which
/// `std::process::exit` would run beside them, take away what they stand on.
fn leave(status: i32) -> ! {
    // SAFETY: ends the process; nothing of ours has to be written first.
    unsafe { _exit(status) }
}

/// Makes a write beyond the file limit fail with an error instead of ending the process.
fn survive_file_limit() {
    const SIG_IGN: usize = 1;
    // SAFETY: ignoring a signal installs no handler; no other thread exists yet.
    unsafe {
        signal(rustix::process::Signal::XFSZ.as_raw(), SIG_IGN);
    }
}

/// Takes fd 0 over and leaves the null device in its place, so that no library can read frames.
fn take_socket() -> Result<UnixStream, StartError> {
    let own =
        io::stdin().as_fd().try_clone_to_owned().map_err(|_| StartError::NotAChild { missing: "fd 0 is closed" })?;
    let stream = UnixStream::from(own);
    if stream.peer_addr().is_err() {
        return Err(StartError::NotAChild { missing: "fd 0 is not the daemon's socket" });
    }
    let nothing = std::fs::File::open("/dev/null")
        .map_err(|source| StartError::System { act: "the null device could not be opened", source })?;
    rustix::stdio::dup2_stdin(nothing).map_err(system("fd 0 could not be replaced"))?;
    Ok(stream)
}

/// Refuses to compute on a processor that lacks what this binary was compiled for, which would
/// otherwise end in the middle of work with SIGILL.
pub fn check_processor() -> Result<(), Failure> {
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! missing {
            ($($feature:tt),*) => {
                [$((cfg!(target_feature = $feature) && !std::arch::is_x86_feature_detected!($feature))
                    .then_some($feature)),*]
            };
        }
        let missing = missing!("avx", "avx2", "fma", "f16c", "bmi2", "avx512f", "avx512bw", "avx512vl", "avx512vnni");
        let missing: Vec<&str> = missing.into_iter().flatten().collect();
        if !missing.is_empty() {
            let message = format!(
                "this build of hone is for a processor with {}; build it on this machine: make build",
                missing.join(", ")
            );
            return Err(Failure::new(FailureCode::Unsupported, message));
        }
    }
    Ok(())
}

/// The frames of a worker. Whoever holds the channel sends; one thread reads, one sends heartbeats,
/// one waits for the daemon's end.
pub struct Channel {
    shared: Arc<Shared>,
    messages: Receiver<ToWorker>,
}

struct Shared {
    writer: Mutex<UnixStream>,
    /// Rises while a task moves; heartbeats are sent while `busy`.
    ticks: AtomicU64,
    busy: AtomicBool,
    /// The thread that sends heartbeats; it sleeps while there is no work.
    heart: OnceLock<thread::Thread>,
    hang_up: Box<dyn Fn() + Send + Sync>,
}

impl Channel {
    /// Frames over a connected socket. `hang_up` is called when the peer is gone, from whichever
    /// thread noticed; a worker ends the process there.
    pub fn over(stream: UnixStream, hang_up: impl Fn() + Send + Sync + 'static) -> io::Result<Self> {
        let (reader, watched) = (stream.try_clone()?, stream.try_clone()?);
        let shared = Arc::new(Shared {
            writer: Mutex::new(stream),
            ticks: AtomicU64::new(0),
            busy: AtomicBool::new(false),
            heart: OnceLock::new(),
            hang_up: Box::new(hang_up),
        });
        let (queue, messages) = sync_channel(MESSAGES_WAITING_MAX);
        let named = |name: &str| thread::Builder::new().name(name.into()).stack_size(512 << 10);
        let reading = Arc::clone(&shared);
        named("frames").spawn(move || reading.read_all(reader, &queue))?;
        let watching = Arc::clone(&shared);
        named("hang-up").spawn(move || watching.wait_for_hang_up(&watched))?;
        let beating = Arc::downgrade(&shared);
        let heart = named("heartbeat").spawn(move || beat(&beating))?;
        // Set once, here.
        let _ = shared.heart.set(heart.thread().clone());
        Ok(Self { shared, messages })
    }

    /// Sends one message; waits while the daemon does not read. If the daemon is gone, the worker
    /// ends here.
    pub fn send(&self, message: &FromWorker) {
        self.shared.send(message);
    }

    /// Sends several messages in one write.
    pub fn send_all(&self, messages: &[FromWorker]) {
        let bytes: Vec<u8> = messages.iter().flat_map(encode).collect();
        if !bytes.is_empty() {
            self.shared.write(&bytes);
        }
    }

    /// The next message; `None` when the daemon has closed its side.
    pub fn recv(&self) -> Option<ToWorker> {
        self.messages.recv().ok()
    }

    /// The next message, if one comes within `patience`.
    pub fn recv_within(&self, patience: Duration) -> Option<ToWorker> {
        self.messages.recv_timeout(patience).ok()
    }

    /// A message that is there already.
    pub fn try_recv(&self) -> Option<ToWorker> {
        self.messages.try_recv().ok()
    }

    /// Begins a stretch of work: heartbeats are sent until the answer is dropped, as long as it ticks.
    pub fn work(&self) -> Busy<'_> {
        self.shared.ticks.fetch_add(1, Ordering::Relaxed);
        self.shared.busy.store(true, Ordering::Relaxed);
        self.shared.wake_heart();
        Busy { channel: self, phase: String::new(), told: Instant::now() }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // The heartbeat thread finds nothing to hold on to and ends.
        self.shared.wake_heart();
    }
}

/// Sends heartbeats while there is work that moves.
fn beat(channel: &Weak<Shared>) {
    let (mut seen, mut moved) = (0, Instant::now());
    loop {
        let Some(shared) = channel.upgrade() else {
            return;
        };
        let busy = shared.busy.load(Ordering::Relaxed);
        let ticks = shared.ticks.load(Ordering::Relaxed);
        if ticks != seen {
            (seen, moved) = (ticks, Instant::now());
        }
        if busy && moved.elapsed() < Duration::from_millis(STALL_MS) {
            shared.send(&FromWorker::Alive);
        }
        drop(shared);
        match busy {
            true => thread::park_timeout(Duration::from_millis(HEARTBEAT_MS / 2)),
            false => thread::park(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What the lock guards is whole between statements, even if a holder panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn encode(message: &FromWorker) -> Vec<u8> {
    frame::frame(&wire::encode(message)).unwrap_or_else(|error| {
        // Only a bug lets an answer outgrow a frame; the daemon hears that instead of silence.
        let message = format!("an answer does not fit a frame: {error}");
        let failure = Failure::new(FailureCode::Internal, message).hint(HintCode::ReportBug);
        frame::frame(&wire::encode(&FromWorker::Failed(failure))).expect("a short failure fits a frame")
    })
}

impl Shared {
    fn wake_heart(&self) {
        if let Some(heart) = self.heart.get() {
            heart.unpark();
        }
    }

    fn send(&self, message: &FromWorker) {
        self.write(&encode(message));
    }

    fn write(&self, bytes: &[u8]) {
        if lock(&self.writer).write_all(bytes).is_err() {
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
                    let failure = Failure::new(FailureCode::BadFrame, reason);
                    self.send(&FromWorker::Failed(failure.hint(HintCode::ReportBug)));
                    leave(EXIT_BAD_FRAME);
                }
            }
        }
    }

    /// Waits for the peer to close, without reading: the reading thread may stand still at its bound.
    fn wait_for_hang_up(&self, stream: &UnixStream) {
        use rustix::event::{PollFd, PollFlags, poll};
        #[cfg(target_os = "linux")]
        let wanted = PollFlags::RDHUP;
        #[cfg(not(target_os = "linux"))]
        let wanted = PollFlags::HUP;
        loop {
            let mut fds = [PollFd::new(stream, wanted)];
            match poll(&mut fds, None) {
                Ok(_) if fds[0].revents().intersects(wanted | PollFlags::HUP | PollFlags::ERR) => {
                    return (self.hang_up)();
                }
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

/// One message; nothing at the end of the stream, wherever it comes.
fn read_message(stream: &mut UnixStream) -> Result<Option<ToWorker>, String> {
    let mut header = [0; 4];
    if stream.read_exact(&mut header).is_err() {
        return Ok(None);
    }
    let length = frame::length(header).map_err(|e| e.to_string())?;
    // `take` and not a buffer of the announced length: memory follows the bytes that really come.
    let mut payload = Vec::new();
    match stream.take(length as u64).read_to_end(&mut payload) {
        Ok(read) if read == length => wire::decode(&payload).map(Some).map_err(|e| e.to_string()),
        _ => Ok(None),
    }
}

/// A stretch of work. While it lives and ticks, the daemon hears that the worker is alive.
pub struct Busy<'c> {
    channel: &'c Channel,
    phase: String,
    told: Instant,
}

impl Busy<'_> {
    /// The work has moved.
    pub fn tick(&self) {
        self.channel.shared.ticks.fetch_add(1, Ordering::Relaxed);
    }

    /// The work has moved that far. Told at once when the phase is new or done, else at most every
    /// `PROGRESS_INTERVAL_MS`.
    pub fn progress(&mut self, phase: &str, done: u64, total: u64) {
        self.tick();
        let waited = self.told.elapsed() >= Duration::from_millis(PROGRESS_INTERVAL_MS);
        if self.phase != phase || done == total || waited {
            phase.clone_into(&mut self.phase);
            self.told = Instant::now();
            self.channel.send(&FromWorker::Progress { phase: phase.to_owned(), done, total });
        }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.channel.shared.busy.store(false, Ordering::Relaxed);
    }
}

/// Resident bytes of this process; 0 where the system does not say.
pub fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    pages.map_or(0, |pages| pages * rustix::param::page_size() as u64)
}

/// Bytes that this process holds by itself; files that it maps are the system's to take back.
pub fn held_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut fields = text.split_whitespace().skip(1).map_while(|field| field.parse::<u64>().ok());
    match (fields.next(), fields.next()) {
        (Some(resident), Some(mapped)) => resident.saturating_sub(mapped) * rustix::param::page_size() as u64,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Channel, UnixStream, Receiver<()>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (told, gone) = sync_channel(8);
        let channel = Channel::over(ours, move || {
            let _ = told.try_send(());
        });
        (channel.unwrap(), theirs, gone)
    }

    fn read(stream: &mut UnixStream) -> FromWorker {
        let mut header = [0; 4];
        stream.read_exact(&mut header).unwrap();
        let mut payload = vec![0; frame::length(header).unwrap()];
        stream.read_exact(&mut payload).unwrap();
        wire::decode(&payload).unwrap()
    }

    #[test]
    fn messages_go_both_ways_in_order() {
        let (channel, mut peer, _gone) = pair();
        for request in 0..50 {
            let message = wire::encode(&ToWorker::CancelRequest { request });
            peer.write_all(&frame::frame(&message).unwrap()).unwrap();
        }
        for wanted in 0..50 {
            assert_eq!(channel.recv(), Some(ToWorker::CancelRequest { request: wanted }));
        }
        assert_eq!(channel.try_recv(), None);
        channel.send_all(&[FromWorker::Alive, FromWorker::Stopped]);
        assert_eq!((read(&mut peer), read(&mut peer)), (FromWorker::Alive, FromWorker::Stopped));
    }

    #[test]
    fn a_peer_that_closes_is_noticed_even_when_nobody_takes_messages() {
        let (channel, mut peer, gone) = pair();
        for request in 0..MESSAGES_WAITING_MAX as u64 + 20 {
            let message = wire::encode(&ToWorker::CancelRequest { request });
            peer.write_all(&frame::frame(&message).unwrap()).unwrap();
        }
        drop(peer);
        gone.recv_timeout(Duration::from_secs(30)).unwrap();
        drop(channel);
    }

    #[test]
    fn an_answer_that_outgrows_a_frame_becomes_a_failure() {
        let (channel, mut peer, _gone) = pair();
        let text = "x".repeat(frame::FRAME_BYTES_MAX + 1);
        let reader = thread::spawn(move || read(&mut peer));
        channel.send(&FromWorker::Piece {
            request: 1,
            channel: hone_protocol::generate::Channel::Text,
            text,
            tokens: 1,
            chances: Vec::new(),
        });
        assert!(matches!(reader.join().unwrap(), FromWorker::Failed(f) if f.code == FailureCode::Internal));
    }

    #[test]
    fn progress_is_told_when_the_phase_changes_and_at_its_end() {
        let (channel, mut peer, _gone) = pair();
        let mut work = channel.work();
        for done in 0..=100 {
            work.progress("phase.load", done, 100);
        }
        work.progress("phase.train", 0, 0);
        drop(work);
        channel.send(&FromWorker::Stopped);
        let mut seen = Vec::new();
        loop {
            match read(&mut peer) {
                FromWorker::Progress { phase, done, .. } => seen.push((phase, done)),
                FromWorker::Stopped => break,
                _ => {}
            }
        }
        assert!(seen.len() < 50, "{seen:?}");
        for wanted in [("phase.load", 0), ("phase.load", 100), ("phase.train", 0)] {
            assert!(seen.contains(&(wanted.0.to_owned(), wanted.1)), "{wanted:?}");
        }
    }

    #[test]
    fn memory_and_processor_are_known() {
        assert!(resident_bytes() > 1 << 20);
        check_processor().unwrap();
    }
}
