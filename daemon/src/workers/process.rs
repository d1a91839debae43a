//! Starting and ending child processes. All are started by one thread that never ends, because the parent-death
//! signal that a child asks for follows the *thread* that started it. Each goes through the shim of `sandbox`, which
//! fences it. Never here: what a class of child may do, and which paths a job needs.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use tokio::sync::{oneshot, watch};

use super::memory::Watch;
use crate::child::ALLOCATOR;
use crate::fetch::place::HUB_VARIABLES;
use crate::pools::Cards;
use crate::sandbox::{self, Class, MISSING, Paths};

/// Starts that may wait for the spawner; a full queue makes the asking task wait.
const WAITING_MAX: usize = 64;
/// Sentences about missing layers that are kept; more are dropped.
const MISSING_MAX: usize = 16;
/// Bytes of a log that go into a failure.
const LOG_TAIL_BYTES: u64 = 8 * 1024;

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `hone-worker MODE`: ggml.
    Worker(&'static str),
    /// `honed MODE`: data, fetch, upstream.
    Daemon(&'static str),
}

impl Program {
    /// The class of its fence.
    pub fn class(self) -> Class {
        match self {
            Program::Worker("train" | "serve" | "convert" | "checkpoint") => Class::Compute,
            Program::Worker("from-folder") => Class::Writer,
            Program::Worker(_) => Class::Reader,
            Program::Daemon("fetch" | "hook-post") => Class::Fetch,
            Program::Daemon("hook-run") => Class::Tool,
            Program::Daemon("upstream") => Class::Upstream,
            Program::Daemon(_) => Class::Data,
        }
    }
}

/// A running child.
pub struct Process {
    /// Its process id.
    pub pid: u32,
    /// Looks at its memory.
    pub memory: Watch,
    /// Names the process even when its id is used again.
    handle: OwnedFd,
    exit: watch::Receiver<Option<ExitStatus>>,
    log: PathBuf,
}

struct Start {
    program: Program,
    paths: Paths,
    cards: Cards,
    log: PathBuf,
    answer: oneshot::Sender<std::io::Result<(Process, UnixStream)>>,
}

/// Asks the spawner thread for processes. Cheap to clone.
#[derive(Clone)]
pub struct Spawner {
    starts: mpsc::SyncSender<Start>,
    missing: Arc<Mutex<Vec<String>>>,
}

impl Spawner {
    /// Starts the spawner thread. It ends with the process. A compute worker may hold so much memory.
    pub fn start(memory_bytes_max: Option<u64>) -> std::io::Result<Spawner> {
        let (starts, queue) = mpsc::sync_channel::<Start>(WAITING_MAX);
        std::thread::Builder::new().name("spawner".into()).spawn(move || {
            for start in queue {
                let result = spawn(&start, memory_bytes_max);
                // An asker that went away drops the process, which ends when its fd 0 closes.
                let _ = start.answer.send(result);
            }
            // Every sender is gone: the daemon is ending. Stay until it has: see the file's header.
            loop {
                std::thread::park();
            }
        })?;
        Ok(Spawner { starts, missing: Arc::default() })
    }

    /// What the fences of the children so far lack on this system, each sentence once.
    pub fn missing(&self) -> Vec<String> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps what a child said that its fence lacks.
    pub fn note(&self, sandbox: &[String]) {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        for item in sandbox.iter().filter_map(|item| item.strip_prefix(MISSING)) {
            let sentence = format!("children of honed run without {item}");
            if missing.len() < MISSING_MAX && !missing.contains(&sentence) {
                missing.push(sentence);
            }
        }
    }

    /// Starts a child with its frames on fd 0 and its words at the end of `log`; beyond its class it may use `paths`, and of GPUs
    /// only `cards`.
    pub async fn spawn(
        &self,
        program: Program,
        paths: Paths,
        cards: Cards,
        log: &Path,
    ) -> Result<(Process, UnixStream), Failure> {
        let (answer, result) = oneshot::channel();
        let start = Start { program, paths, cards, log: log.to_owned(), answer };
        let starts = self.starts.clone();
        let sent = tokio::task::spawn_blocking(move || starts.send(start)).await;
        let failed = |reason: String| {
            Failure::new(FailureCode::WorkerDied, format!("{} could not be started: {reason}", name(program)))
                .hint(HintCode::ReadLog)
        };
        if !matches!(sent, Ok(Ok(()))) {
            return Err(failed("the daemon is ending".into()));
        }
        match result.await {
            Ok(Ok(started)) => Ok(started),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed("the spawner is gone".into())),
        }
    }
}

fn name(program: Program) -> String {
    match program {
        Program::Worker(mode) => format!("hone-worker {mode}"),
        Program::Daemon(mode) => format!("honed {mode}"),
    }
}

/// The program that runs here, to be started again. One that was replaced on the disk is another one now, which may speak otherwise.
fn own_program(own: PathBuf) -> std::io::Result<PathBuf> {
    if own.exists() {
        return Ok(own);
    }
    let message = "honed was replaced on the disk since it started; end it with `hone daemon stop`, and the next start is the new one";
    Err(std::io::Error::new(std::io::ErrorKind::NotFound, message))
}

fn path(program: Program) -> std::io::Result<(PathBuf, &'static str)> {
    let own = own_program(std::env::current_exe()?)?;
    match program {
        Program::Worker(mode) => {
            let beside = own.with_file_name("hone-worker");
            Ok((std::env::var_os("HONE_WORKER").map_or(beside, PathBuf::from), mode))
        }
        Program::Daemon(mode) => Ok((own, mode)),
    }
}

/// Where hone-worker looks for the modules that drive GPUs; `kernels/src/ggml/device.rs` has the same rule.
fn modules(worker: &Path, named: Option<OsString>) -> PathBuf {
    named.filter(|folder| !folder.is_empty()).map_or_else(|| worker.with_file_name("backends"), PathBuf::from)
}

/// What a child may know of our environment, and no more: no secret of the caller's shell gets there.
pub(crate) fn kept(program: Program) -> &'static [&'static str] {
    match program {
        Program::Daemon("fetch") => &[
            "PATH",
            "HOME",
            "LANG",
            "http_proxy",
            "https_proxy",
            "no_proxy",
            "HTTPS_PROXY",
            "HTTP_PROXY",
            "NO_PROXY",
            "SSL_CERT_FILE",
            "PIP_INDEX_URL",
            "PIP_CONFIG_FILE",
            "PIP_CACHE_DIR",
            "PIP_CERT",
            "XDG_CACHE_HOME",
            "XDG_CONFIG_HOME",
            "HONE_PYTHON",
        ],
        Program::Daemon("hook-post") => {
            &["LANG", "http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "SSL_CERT_FILE"]
        }
        Program::Daemon("hook-run") => &["PATH", "HOME", "LANG"],
        Program::Daemon("upstream") => &["PATH", "LANG", "SSL_CERT_FILE"],
        // Which cards there are, in what order, which of them to use, and which instructions.
        _ if program.class() == Class::Compute => &[
            "PATH",
            "LANG",
            "HONE_TEST_FAULT",
            "HONE_BACKENDS",
            "HONE_ISA",
            "HONE_DEVICE",
            "CUDA_VISIBLE_DEVICES",
            "CUDA_DEVICE_ORDER",
            "GGML_VK_VISIBLE_DEVICES",
        ],
        _ => &["PATH", "LANG", "HONE_TEST_FAULT"],
    }
}

/// What makes a child see these GPUs and no others.
fn show_cards(cards: &[String]) -> [(&'static str, String); 1] {
    match cards.is_empty() {
        true => [("HONE_DEVICE", "CPU".to_owned())],
        false => [("CUDA_VISIBLE_DEVICES", cards.join(","))],
    }
}

fn open_log(path: &Path) -> std::io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn spawn(start: &Start, memory_bytes_max: Option<u64>) -> std::io::Result<(Process, UnixStream)> {
    let (program, log) = (start.program, &start.log);
    let (ours, theirs) = UnixStream::pair()?;
    let words = open_log(log)?;
    let (path, mode) = path(program)?;
    let mut paths = start.paths.clone();
    if program.class() == Class::Compute {
        paths = paths.read(modules(&path, std::env::var_os("HONE_BACKENDS")));
    }
    let mut command = Command::new(own_program(std::env::current_exe()?)?);
    command
        .args(sandbox::arguments(program.class(), std::process::id(), &paths, &path, &[mode]))
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::from(words.try_clone()?))
        .stderr(Stdio::from(words))
        .current_dir("/")
        .process_group(0)
        .env_clear();
    if program.class() == Class::Data {
        command.env(ALLOCATOR.0, ALLOCATOR.1);
    }
    command.envs(kept(program).iter().filter_map(|word| Some((word, std::env::var_os(word)?))));
    if let (Class::Compute, Some(cards)) = (program.class(), &start.cards) {
        command.envs(show_cards(cards));
    }
    if program == Program::Daemon("fetch") {
        command.envs(HUB_VARIABLES.iter().filter_map(|word| Some((word, std::env::var_os(word)?))));
    }
    let mut child = command.spawn()?;
    let pid = child.id();
    let handle = Pid::from_raw(pid.cast_signed())
        .ok_or_else(|| std::io::Error::other("a process without an id"))
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).map_err(Into::into));
    let handle = match handle {
        Ok(handle) => handle,
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
    };
    let (told, exit) = watch::channel(None);
    std::thread::Builder::new().name(format!("reap-{pid}")).stack_size(64 * 1024).spawn(move || {
        let status = child.wait().unwrap_or_default();
        let _ = told.send(Some(status));
    })?;
    let memory_bytes_max = memory_bytes_max.filter(|_| program.class() == Class::Compute);
    Ok((Process { pid, memory: Watch::new(pid, memory_bytes_max), handle, exit, log: log.to_owned() }, ours))
}

impl Process {
    /// Ends it at once, and the programs that it started. Nothing happens when it has ended already.
    pub fn kill(&self) {
        // Until it is waited for, its number and that of its group are nobody else's.
        if self.exit.borrow().is_none()
            && let Some(group) = Pid::from_raw(self.pid.cast_signed())
        {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = pidfd_send_signal(&self.handle, Signal::KILL);
    }

    /// Waits for its end.
    pub async fn ended(&self) -> ExitStatus {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(status) => status.unwrap_or_default(),
            Err(_) => ExitStatus::default(),
        }
    }

    /// The failure of a child that ended without saying why: how it ended and its last words.
    pub async fn death(&self) -> Failure {
        let status = self.ended().await;
        let how = match (status.signal(), status.code()) {
            (Some(9), _) => "was killed (SIGKILL: by a person, or by the system when memory ran out)".to_owned(),
            (Some(6), _) => "aborted (SIGABRT)".to_owned(),
            (Some(11), _) => "crashed (SIGSEGV)".to_owned(),
            (Some(7), _) => "crashed (SIGBUS: a mapped file changed under it)".to_owned(),
            (Some(4), _) => "met an instruction this processor lacks (SIGILL): build hone on this machine".to_owned(),
            (Some(signal), _) => format!("was ended by signal {signal}"),
            (None, Some(code)) => format!("ended with status {code} and no reason"),
            (None, None) => "ended".to_owned(),
        };
        let tail = tail(&self.log, LOG_TAIL_BYTES);
        let last: Vec<&str> = tail.lines().rev().filter(|l| !l.trim().is_empty()).take(3).collect();
        let words = if last.is_empty() {
            String::new()
        } else {
            format!("; last words: {}", last.into_iter().rev().collect::<Vec<_>>().join(" | "))
        };
        Failure::new(FailureCode::WorkerDied, format!("the worker (pid {}) {how}{words}", self.pid))
            .at(self.log.display().to_string())
            .arg("pid", self.pid)
            .hint(HintCode::ReadLog)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last `bytes` of a file as text.
pub fn tail(path: &Path, bytes: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(bytes)))?;
        let mut tail = Vec::new();
        file.take(bytes).read_to_end(&mut tail)?;
        Ok(tail)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::place::SECRETS;

    #[test]
    fn a_program_that_was_replaced_is_not_started_as_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("honed");
        std::fs::write(&there, "").unwrap();
        assert_eq!(own_program(there.clone()).unwrap(), there);
        // What Linux calls a running program whose file is gone.
        let gone = folder.path().join("honed (deleted)");
        assert!(own_program(gone).unwrap_err().to_string().contains("hone daemon stop"));
    }

    #[test]
    fn only_what_computes_hears_of_cards() {
        for (program, told) in [
            (Program::Worker("serve"), true),
            (Program::Worker("train"), true),
            (Program::Worker("inspect"), false),
            (Program::Daemon("data"), false),
            (Program::Daemon("fetch"), false),
            (Program::Daemon("upstream"), false),
        ] {
            for word in ["HONE_DEVICE", "HONE_BACKENDS", "CUDA_VISIBLE_DEVICES", "GGML_VK_VISIBLE_DEVICES"] {
                assert_eq!(kept(program).contains(&word), told, "{program:?} {word}");
            }
        }
    }

    #[test]
    fn a_pool_without_cards_shows_none() {
        assert_eq!(show_cards(&[]), [("HONE_DEVICE", "CPU".to_owned())]);
        assert_eq!(show_cards(&["1".into(), "GPU-7".into()]), [("CUDA_VISIBLE_DEVICES", "1,GPU-7".to_owned())]);
    }

    #[test]
    fn tokens_of_hubs_reach_nobody_but_the_fetcher() {
        for program in [
            Program::Worker("serve"),
            Program::Worker("inspect"),
            Program::Worker("from-folder"),
            Program::Daemon("data"),
            Program::Daemon("upstream"),
        ] {
            assert!(SECRETS.iter().all(|secret| !kept(program).contains(secret)), "{program:?}");
        }
        assert!(SECRETS.iter().all(|secret| HUB_VARIABLES.contains(secret)));
    }

    #[test]
    fn modules_are_read_where_the_worker_looks_for_them() {
        let worker = Path::new("/opt/hone/hone-worker");
        assert_eq!(modules(worker, None), Path::new("/opt/hone/backends"));
        assert_eq!(modules(worker, Some("".into())), Path::new("/opt/hone/backends"));
        assert_eq!(modules(worker, Some("/srv/modules".into())), Path::new("/srv/modules"));
    }
}
