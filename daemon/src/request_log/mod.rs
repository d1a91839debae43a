//! The request log: what applications asked and were answered, in files of their own beside the store, because it is big, is let go by
//! age and size, and must never make anybody wait. One thread writes; who offers an entry never waits and never fails: what does not
//! fit into the queue is not written, and counted. `files.rs` keeps the files of an application, `entry.rs` makes an entry
//! fit, `read.rs` reads pages, `rows.rs` makes rows. Never here: which requests are logged (the desk), a fact of the store.

mod entry;
mod files;
pub(crate) mod read;
pub(crate) mod rows;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hone_protocol::id::ApplicationId;
use hone_protocol::log::{LogEntry, LogSettings};
use tokio::sync::oneshot;

use crate::state::State;
use files::Files;

/// Entries that may wait to be written. More are dropped.
const WAITING_MAX: usize = 4096;
/// Bytes of text that may wait to be written. More are dropped.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Longest wait of a reader for what was offered before it.
const SETTLE: Duration = Duration::from_secs(5);
/// Folder below the state directory.
pub(crate) const FOLDER: &str = "request-log";

/// What the writing thread does.
enum Work {
    /// Write an entry.
    Write { application: ApplicationId, settings: LogSettings, entry: Box<LogEntry>, bytes: usize },
    /// Remove all of an application's.
    Clear(ApplicationId),
    /// Remove what is too old or too much.
    Sweep { now_ms: i64, settings: Vec<(ApplicationId, LogSettings)> },
    /// Say that everything before this is done.
    Settle(oneshot::Sender<()>),
}

struct Shared {
    work: SyncSender<Work>,
    waiting_bytes: AtomicUsize,
    dropped: Mutex<HashMap<ApplicationId, u64>>,
    folder: PathBuf,
}

/// The log. Cheap to clone.
#[derive(Clone)]
pub struct RequestLog(Arc<Shared>);

impl RequestLog {
    /// Starts the writing thread over a folder, which is made when something is written.
    pub fn start(folder: &Path) -> std::io::Result<RequestLog> {
        let (work, queue) = sync_channel(WAITING_MAX);
        let shared =
            Shared { work, waiting_bytes: AtomicUsize::new(0), dropped: Mutex::default(), folder: folder.to_owned() };
        let log = RequestLog(Arc::new(shared));
        let writer = Writer { folder: folder.to_owned(), all: HashMap::new(), complained: false };
        // The thread must not keep the queue's door open, or it would never end.
        let shared = Arc::downgrade(&log.0);
        std::thread::Builder::new().name("request-log".into()).spawn(move || writer.run(&queue, &shared))?;
        Ok(log)
    }

    /// The folder of an application's entries.
    pub(crate) fn folder(&self, application: ApplicationId) -> PathBuf {
        self.0.folder.join(application.to_string())
    }

    /// Offers an entry. Never waits.
    pub(crate) fn offer(&self, application: ApplicationId, settings: LogSettings, entry: LogEntry) {
        let bytes = entry::weight(&entry);
        let before = self.0.waiting_bytes.fetch_add(bytes, Ordering::AcqRel);
        let work = Work::Write { application, settings, entry: Box::new(entry), bytes };
        if before + bytes > WAITING_BYTES_MAX || self.0.work.try_send(work).is_err() {
            self.0.waiting_bytes.fetch_sub(bytes, Ordering::AcqRel);
            self.0.note_dropped(application);
        }
    }

    /// Removes all entries of an application, those that wait too.
    pub(crate) fn clear(&self, application: ApplicationId) {
        self.wish(Work::Clear(application));
    }

    /// Lets go what is too old or too much.
    pub(crate) fn sweep(&self, state: &State, now_ms: i64) {
        let settings = state.applications.values().filter_map(|a| Some((a.id, a.log?))).collect();
        self.wish(Work::Sweep { now_ms, settings });
    }

    /// A wish that must not be lost, from a thread that must not wait.
    fn wish(&self, work: Work) {
        if let Err(std::sync::mpsc::TrySendError::Full(work)) = self.0.work.try_send(work) {
            let door = self.0.work.clone();
            std::thread::spawn(move || drop(door.send(work)));
        }
    }

    /// Waits until what was offered before is written.
    pub(crate) async fn settled(&self) {
        let (done, settled) = oneshot::channel();
        self.wish(Work::Settle(done));
        let _ = tokio::time::timeout(SETTLE, settled).await;
    }

    /// Entries that were not written since the daemon started.
    pub(crate) fn dropped(&self, application: ApplicationId) -> u64 {
        lock(&self.0.dropped).get(&application).copied().unwrap_or(0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn note_dropped(&self, application: ApplicationId) {
        *lock(&self.dropped).entry(application).or_default() += 1;
    }
}

/// The writing thread.
struct Writer {
    folder: PathBuf,
    all: HashMap<ApplicationId, Files>,
    /// Whether the log of the daemon says already that something cannot be written.
    complained: bool,
}

impl Writer {
    fn run(mut self, queue: &Receiver<Work>, shared: &std::sync::Weak<Shared>) {
        for work in queue {
            match work {
                Work::Write { application, settings, entry, bytes } => {
                    let written = self.write(application, &settings, *entry);
                    let Some(shared) = shared.upgrade() else { return };
                    shared.waiting_bytes.fetch_sub(bytes, Ordering::AcqRel);
                    if let Err(error) = written {
                        shared.note_dropped(application);
                        self.complain(&error);
                    }
                }
                Work::Clear(application) => {
                    self.all.remove(&application);
                    let removed = std::fs::remove_dir_all(self.folder.join(application.to_string()));
                    match removed {
                        Err(error) if error.kind() != std::io::ErrorKind::NotFound => self.complain(&error),
                        _ => {}
                    }
                }
                Work::Sweep { now_ms, settings } => {
                    for (application, settings) in settings {
                        if let Err(error) = self.files(application).and_then(|files| files.sweep(&settings, now_ms)) {
                            self.complain(&error);
                        }
                    }
                }
                Work::Settle(done) => drop(done.send(())),
            }
        }
    }

    fn files(&mut self, application: ApplicationId) -> std::io::Result<&mut Files> {
        match self.all.entry(application) {
            std::collections::hash_map::Entry::Occupied(known) => Ok(known.into_mut()),
            std::collections::hash_map::Entry::Vacant(new) => {
                let files = Files::open(&self.folder.join(application.to_string()))?;
                Ok(new.insert(files))
            }
        }
    }

    fn write(&mut self, application: ApplicationId, settings: &LogSettings, entry: LogEntry) -> std::io::Result<()> {
        let at_ms = entry.at_ms;
        let line = entry::line(entry, settings);
        self.files(application)?.append(&line, at_ms, settings)
    }

    fn complain(&mut self, error: &std::io::Error) {
        if !std::mem::replace(&mut self.complained, true) {
            eprintln!("honed: a request could not be logged: {error}; requests are answered all the same");
        }
    }
}
