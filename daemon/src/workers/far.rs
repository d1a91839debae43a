//! A child in a job of Slurm, as the daemon sees it: a line that is two files of a shared folder, and a process that is a number.
//! One task keeps each: it carries the child's frames from its file into a socket whose other end job code reads as it reads any
//! child's, asks Slurm where the job stands, and ends it when that is wished. Never here: Slurm's commands (`slurm`), the relay on
//! the node (`crate::node`), what is submitted (jobs).
//!
//! Unlike a process of this machine it outlives the daemon: nothing is ended when this end of the line goes away.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::pool::SlurmView;
use hone_protocol::worker::ToWorker;
use hone_protocol::{frame, wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::slurm;
use crate::node::{IN, OUT};
use crate::pools::SlurmRun;

/// How often the child's file is looked at while it runs, and while it waits to begin.
const LOOK_MS: u64 = 200;
const LOOK_WAITING_MS: u64 = 1_000;
/// How often Slurm is asked: at first, and at most after a while without news. Sites ask people not to ask too often.
const ASK_MS: u64 = 1_000;
const ASK_MS_MAX: u64 = 20_000;
/// How long a job may take to end by itself after it was asked to.
const GRACE_MS: u64 = 10_000;
/// How long the last words of an ended job may take to come through the shared folder.
const DRAIN_MS: u64 = 4_000;
/// A running child that says nothing for so long is ended: heartbeats come every few seconds, network file systems show them within
/// a minute.
const SILENCE_MS: u64 = 10 * 60_000;
/// Bytes carried at once.
const CARRIED_BYTES_MAX: u64 = 1 << 20;
/// Views of the job that may wait to be told.
const VIEWS_MAX: usize = 16;
/// How long an ended job may take to be seen as ended.
const SETTLE_MS: u64 = 90_000;

/// What is wished of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wanted {
    /// That it goes on.
    Run,
    /// That it is seen to end soon.
    Watched,
    /// That it ends: first by itself, then by `scancel`.
    Ended,
}

/// What is known of the job.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    view: SlurmView,
    /// It has ended, and all that it said was carried.
    is_over: bool,
}

/// The job.
#[derive(Debug)]
pub struct Far {
    wanted: watch::Sender<Wanted>,
    seen: watch::Receiver<Seen>,
    folder: PathBuf,
    /// Bytes of the child's frames that were taken by whoever reads them.
    pub position: Arc<AtomicU64>,
}

impl Far {
    /// Follows a job that was submitted, from the frames on that are stored. The stream is the job code's end of the line; what Slurm
    /// says new of the job comes out of the channel.
    pub fn follow(run: &SlurmRun) -> std::io::Result<(Far, std::os::unix::net::UnixStream, mpsc::Receiver<SlurmView>)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let (wanted, wish) = watch::channel(Wanted::Run);
        let (told, seen) = watch::channel(Seen { view: run.view.clone(), is_over: false });
        let (views, news) = mpsc::channel(VIEWS_MAX);
        let folder = PathBuf::from(&run.folder);
        let keeper = Keeper {
            folder: folder.clone(),
            stream: Some(UnixStream::from_std(ours)?),
            carried: run.position,
            grew_at: Instant::now(),
            ended_at: None,
            gpus: slurm::gpus(&run.place),
            seen: told,
            views,
        };
        tokio::spawn(keeper.keep(wish));
        let position = Arc::new(AtomicU64::new(run.position));
        Ok((Far { wanted, seen, folder, position }, theirs, news))
    }

    /// Wishes that it ends.
    pub fn end(&self) {
        self.wanted.send_if_modified(|wanted| std::mem::replace(wanted, Wanted::Ended) != Wanted::Ended);
    }

    /// Whether it waits to begin.
    pub fn is_waiting(&self) -> bool {
        self.seen.borrow().view.state == "PENDING"
    }

    /// Why it ended, when its child did not say.
    pub async fn death(&self) -> Failure {
        let failure = slurm::ended(&self.over().await);
        let words = super::process::tail(&self.folder.join(slurm::LOG_NAME), 2048);
        let last: Vec<&str> = words.lines().rev().filter(|line| !line.trim().is_empty()).take(3).collect();
        if failure.code != FailureCode::WorkerDied || last.is_empty() {
            return failure;
        }
        let last = last.into_iter().rev().collect::<Vec<_>>().join(" | ");
        Failure { message_en: format!("{}; last words: {last}", failure.message_en), ..failure }
    }

    /// Waits until it has ended in Slurm, and says how; at most [`SETTLE_MS`].
    pub async fn settle(&self) -> SlurmView {
        self.wanted.send_if_modified(|wanted| {
            let before = *wanted;
            *wanted = before.max(Wanted::Watched);
            before != *wanted
        });
        match tokio::time::timeout(Duration::from_millis(SETTLE_MS), self.over()).await {
            Ok(view) => view,
            Err(_) => self.seen.borrow().view.clone(),
        }
    }

    async fn over(&self) -> SlurmView {
        let mut seen = self.seen.clone();
        match seen.wait_for(|seen| seen.is_over).await {
            Ok(seen) => seen.view.clone(),
            Err(_) => self.seen.borrow().view.clone(),
        }
    }

    /// Notes how far the frames were taken.
    pub fn taken(&self, bytes: u64) {
        self.position.fetch_add(bytes, Ordering::AcqRel);
    }
}

/// Writes a message for the child: durable before it is followed by anything.
pub fn write_wish(folder: &Path, message: &ToWorker) -> std::io::Result<()> {
    let bytes = frame::frame(&wire::encode(message)).map_err(std::io::Error::other)?;
    append(&folder.join(IN), &bytes)
}

fn append(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// What a file holds from `position` on, up to a bound.
fn fresh(path: &Path, position: u64) -> std::io::Result<Vec<u8>> {
    // Opened each time: a network file system looks for news only then.
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::Start(position))?;
    let mut bytes = Vec::new();
    file.take(CARRIED_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

async fn aside<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(std::io::Error::other("a thread panicked")))
}

/// Keeps one job.
struct Keeper {
    folder: PathBuf,
    /// None once job code has gone away or the last word was carried.
    stream: Option<UnixStream>,
    carried: u64,
    grew_at: Instant,
    ended_at: Option<Instant>,
    gpus: u32,
    seen: watch::Sender<Seen>,
    views: mpsc::Sender<SlurmView>,
}

impl Keeper {
    async fn keep(mut self, mut wish: watch::Receiver<Wanted>) {
        let (mut pause_ms, mut ask_at) = (ASK_MS, Instant::now());
        let mut end_by: Option<Instant> = None;
        loop {
            let wanted = *wish.borrow_and_update();
            if wanted == Wanted::Ended && end_by.is_none() {
                end_by = Some(self.ask_to_end().await);
            }
            if end_by.is_some_and(|by| by <= Instant::now()) && self.ended_at.is_none() {
                // Refused or unreachable: said again after another grace.
                let number = self.seen.borrow().view.number.clone();
                let _ = slurm::cancel(&number).await;
                end_by = Some(Instant::now() + Duration::from_millis(GRACE_MS));
                (pause_ms, ask_at) = (ASK_MS, Instant::now());
            }
            if ask_at <= Instant::now() && self.ended_at.is_none() {
                let has_news = self.ask().await;
                let is_hurried = has_news || wanted != Wanted::Run;
                pause_ms = if is_hurried { ASK_MS } else { (pause_ms * 3 / 2).min(ASK_MS_MAX) };
                ask_at = Instant::now() + Duration::from_millis(pause_ms);
            }
            self.carry().await;
            if self.is_drained() {
                self.stream = None;
                self.seen.send_modify(|seen| seen.is_over = true);
                return;
            }
            let look = if self.seen.borrow().view.state == "RUNNING" { LOOK_MS } else { LOOK_WAITING_MS };
            tokio::select! {
                changed = wish.changed() => {
                    // Nobody holds the job any more: it goes on without this daemon.
                    if changed.is_err() {
                        return;
                    }
                    ask_at = Instant::now();
                }
                () = tokio::time::sleep(Duration::from_millis(look)) => {}
                word = heard(&mut self.stream) => match word {
                    Some(bytes) => {
                        let path = self.folder.join(IN);
                        if let Err(error) = aside(move || append(&path, &bytes)).await {
                            eprintln!("honed: {}: {error}", self.folder.join(IN).display());
                        }
                    }
                    None => self.stream = None,
                },
            }
        }
    }

    /// Asks the child to end; says when Slurm is to end it. What waits has nothing to save.
    async fn ask_to_end(&mut self) -> Instant {
        if self.seen.borrow().view.state == "PENDING" {
            return Instant::now();
        }
        let folder = self.folder.clone();
        // A folder that cannot be written shortens the way to scancel, no more.
        let _ = aside(move || write_wish(&folder, &ToWorker::StopAtCheckpoint)).await;
        Instant::now() + Duration::from_millis(GRACE_MS)
    }

    /// Asks Slurm; says whether there was news.
    async fn ask(&mut self) -> bool {
        let before = self.seen.borrow().view.clone();
        // A controller that does not answer now is asked again; jobs do not depend on it.
        let Ok(mut view) = slurm::look(&before.number).await else { return false };
        view.gpus = self.gpus;
        if view.state == slurm::UNKNOWN {
            // What was seen of it before still counts.
            view = SlurmView { state: view.state, ..before.clone() };
        }
        if before.state == "PENDING" && view.state != "PENDING" {
            self.grew_at = Instant::now();
        }
        if view.state == "RUNNING" && self.grew_at.elapsed() > Duration::from_millis(SILENCE_MS) {
            let _ = slurm::cancel(&view.number).await;
            "NODE_FAIL".clone_into(&mut view.state);
            view.reason = format!("nothing was heard for {} min", SILENCE_MS / 60_000);
        }
        if slurm::is_over(&view.state) {
            self.ended_at = Some(Instant::now());
        }
        let has_news = (&before.state, &before.node, &before.reason) != (&view.state, &view.node, &view.reason);
        if has_news || self.ended_at.is_some() {
            // A reader that is behind gets the next one.
            let _ = self.views.try_send(view.clone());
        }
        self.seen.send_modify(|seen| seen.view = view);
        has_news
    }

    /// Carries what is new in the child's file.
    async fn carry(&mut self) {
        loop {
            if self.stream.is_none() {
                return;
            }
            let (path, position) = (self.folder.join(OUT), self.carried);
            let Ok(bytes) = aside(move || fresh(&path, position)).await else { return };
            if bytes.is_empty() {
                return;
            }
            self.grew_at = Instant::now();
            let sent = match &mut self.stream {
                Some(stream) => stream.write_all(&bytes).await,
                None => return,
            };
            match sent {
                Ok(()) => self.carried += bytes.len() as u64,
                Err(_) => self.stream = None,
            }
        }
    }

    /// Whether the job has ended and its last words had time to come.
    fn is_drained(&self) -> bool {
        let quiet = self.grew_at.elapsed() > Duration::from_millis(DRAIN_MS);
        let late = self.ended_at.is_some_and(|at| at.elapsed() > Duration::from_millis(DRAIN_MS));
        // Nobody listens: nothing has to come any more.
        self.ended_at.is_some() && (self.stream.is_none() || (late && quiet))
    }
}

/// What job code writes; none when it has gone away. Waits for ever when it had gone before.
async fn heard(stream: &mut Option<UnixStream>) -> Option<Vec<u8>> {
    let Some(stream) = stream else { return std::future::pending().await };
    let mut bytes = Vec::with_capacity(4096);
    match stream.read_buf(&mut bytes).await {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_grow_and_are_read_from_where_one_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(IN);
        assert!(fresh(&path, 0).is_err());
        write_wish(folder.path(), &ToWorker::StopAtCheckpoint).unwrap();
        let one = fresh(&path, 0).unwrap();
        write_wish(folder.path(), &ToWorker::StopAtCheckpoint).unwrap();
        assert_eq!(fresh(&path, one.len() as u64).unwrap(), one);
        assert_eq!(fresh(&path, 2 * one.len() as u64).unwrap(), b"");
    }
}
