//! One file of a repository into a folder: `NAME.partial` grows, beside it `NAME.origin` says what it is a part of, and
//! at the end it is renamed. A cut, an ended child or a restart goes on where it was. Never here: which file.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::value::Hash;
use sha2::{Digest, Sha256};
use ureq::http::StatusCode;

use super::choose::Entry;
use super::http::{Answer, Client, Tries, Trouble, download_failed};
use crate::child::Work;

/// Bytes that are read at a time.
const BLOCK_BYTES: usize = 1 << 18;
/// Blocks that wait to be written; then the connection is not read.
const BLOCKS_WAITING_MAX: usize = 8;
/// Bytes that are left free on the disk.
const SPARE_BYTES: u64 = 64 << 20;

/// What is fetched.
pub(super) struct Wanted<'w> {
    /// Where from.
    pub(super) url: String,
    /// The file.
    pub(super) entry: &'w Entry,
    /// The commit that the hub must serve it from, where it names commits.
    pub(super) commit: Option<&'w str>,
    /// Name in the folder.
    pub(super) name: String,
    /// Bytes of all files, and those of the files before this one.
    pub(super) total: u64,
    /// Bytes of the files before this one.
    pub(super) before: u64,
}

/// A file that grows, and the hash of what it holds.
struct Partial {
    path: PathBuf,
    file: File,
    hasher: Sha256,
    have: u64,
}

/// Fetches one file whole; its size.
pub(super) fn download(
    client: &Client,
    work: &mut Work<'_>,
    folder: &Path,
    wanted: &Wanted<'_>,
) -> Result<u64, Failure> {
    let target = folder.join(&wanted.name);
    if let Ok(meta) = target.symlink_metadata() {
        // An earlier attempt finished it and checked its hash.
        return Ok(meta.len());
    }
    let mut partial = Partial::open(work, folder, wanted)?;
    let mut tries = Tries::new(client.patience);
    loop {
        work.progress("phase.fetch", wanted.before + partial.have, wanted.total);
        if wanted.entry.size == Some(partial.have) {
            break;
        }
        room(folder, wanted, partial.have)?;
        let before = partial.have;
        let result =
            client.get(work, &wanted.url, partial.have).and_then(|answer| partial.take(client, work, wanted, answer));
        match result {
            Ok(()) if wanted.entry.size.is_none_or(|size| size == partial.have) => break,
            Ok(()) => {}
            Err(trouble) => {
                if partial.have > before {
                    tries.progress();
                }
                tries.wait(work, trouble)?;
            }
        }
    }
    partial.finish(folder, wanted)
}

impl Partial {
    fn open(work: &Work<'_>, folder: &Path, wanted: &Wanted<'_>) -> Result<Partial, Failure> {
        let path = folder.join(format!("{}.partial", wanted.name));
        let origin = folder.join(format!("{}.origin", wanted.name));
        // Where it came from and which version: a part of anything else is worth nothing.
        let identity = format!("{}\n{}\n{:?}\n", wanted.entry.path, wanted.entry.identity, wanted.entry.size);
        let before = std::fs::read_to_string(&origin).ok();
        if before.as_ref().is_some_and(|before| *before != identity) {
            eprintln!("honed fetch: {} changed on the hub since its download began; it begins anew", wanted.entry.path);
        }
        if before.as_ref() != Some(&identity) {
            let _ = std::fs::remove_file(&path);
            std::fs::write(&origin, &identity).map_err(|error| unwritable(&error, &origin, wanted))?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.map_err(|error| unwritable(&error, &path, wanted))?;
        let mut partial = Partial { path, file, hasher: Sha256::new(), have: 0 };
        let mut block = vec![0; 1 << 20];
        let mut old = File::open(&partial.path).map_err(|error| unwritable(&error, &partial.path, wanted))?;
        // Only what is a file is gone on with.
        while old.metadata().is_ok_and(|meta| meta.is_file()) {
            match old.read(&mut block).map_err(|error| unwritable(&error, &partial.path, wanted))? {
                0 => break,
                count => partial.hashed(&block[..count]),
            }
            work.tick();
        }
        if wanted.entry.size.is_some_and(|size| size < partial.have) {
            partial.empty(wanted)?;
        }
        Ok(partial)
    }

    fn hashed(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.have += bytes.len() as u64;
    }

    fn empty(&mut self, wanted: &Wanted<'_>) -> Result<(), Failure> {
        self.file.set_len(0).map_err(|error| unwritable(&error, &self.path, wanted))?;
        (self.hasher, self.have) = (Sha256::new(), 0);
        Ok(())
    }

    /// Takes what an answer brings.
    fn take(
        &mut self,
        client: &Client,
        work: &mut Work<'_>,
        wanted: &Wanted<'_>,
        answer: Answer,
    ) -> Result<(), Trouble> {
        self.check(wanted, &answer)?;
        let (blocks, arrivals) = sync_channel::<std::io::Result<Vec<u8>>>(BLOCKS_WAITING_MAX);
        let mut body = answer.body.into_reader();
        // It reads in a thread of its own, so that a connection that stands still does not stop this one. When it is
        // given up, the thread ends with its next block, at the latest with the process.
        let reading = std::thread::Builder::new().name("body".into()).spawn(move || {
            loop {
                let mut block = vec![0; BLOCK_BYTES];
                let read = body.read(&mut block).map(|count| {
                    block.truncate(count);
                    block
                });
                let ended = read.as_ref().map_or(true, Vec::is_empty);
                if blocks.send(read).is_err() || ended {
                    return;
                }
            }
        });
        reading.map_err(|error| download_failed(format!("no thread could be started: {error}")))?;
        let mut moved = Instant::now();
        loop {
            match arrivals.recv_timeout(Duration::from_millis(200)) {
                Ok(Ok(block)) if block.is_empty() => return self.whole(wanted),
                Ok(Ok(block)) => {
                    self.append(wanted, &block)?;
                    moved = Instant::now();
                }
                Ok(Err(error)) => return Err(Trouble::Later(format!("{} was cut: {error}", wanted.entry.path), None)),
                Err(RecvTimeoutError::Timeout) if moved.elapsed() < client.patience.idle => {}
                Err(_) => {
                    let s = client.patience.idle.as_secs();
                    return Err(Trouble::Later(format!("nothing came of {} for {s} s", wanted.entry.path), None));
                }
            }
            work.progress("phase.fetch", wanted.before + self.have, wanted.total);
        }
    }

    /// Whether an answer is the wanted part of the wanted version.
    fn check(&mut self, wanted: &Wanted<'_>, answer: &Answer) -> Result<(), Trouble> {
        let path = &wanted.entry.path;
        if let (Some(commit), Some(served)) = (wanted.commit, answer.first("x-repo-commit"))
            && commit != served
        {
            return Err(changed(path, commit, served).into());
        }
        let etag = answer.first("x-linked-etag").map(|tag| tag.trim_start_matches("W/").trim_matches('"'));
        if let Some(served) =
            etag.filter(|served| !wanted.entry.identity.is_empty() && *served != wanted.entry.identity)
        {
            return Err(changed(path, &wanted.entry.identity, served).into());
        }
        if answer.status == StatusCode::PARTIAL_CONTENT {
            // `bytes FIRST-LAST/ALL`
            let range = answer.last("content-range").and_then(|range| range.strip_prefix("bytes "));
            let first = range.and_then(|r| r.split('-').next()?.parse::<u64>().ok());
            let all = range.and_then(|r| r.rsplit('/').next()?.parse::<u64>().ok());
            if first != Some(self.have) || (all.is_some() && wanted.entry.size.is_some() && all != wanted.entry.size) {
                let message = format!("the hub answered another part of {path} than was asked for");
                return Err(download_failed(message).into());
            }
        } else if self.have > 0 {
            eprintln!("honed fetch: the hub does not go on in the middle of {path}; it begins anew");
            self.empty(wanted)?;
        }
        Ok(())
    }

    fn append(&mut self, wanted: &Wanted<'_>, block: &[u8]) -> Result<(), Failure> {
        if wanted.entry.size.is_some_and(|size| self.have + block.len() as u64 > size) {
            let message = format!("the hub sends more of {} than it announced", wanted.entry.path);
            return Err(download_failed(message));
        }
        self.file.write_all(block).map_err(|error| unwritable(&error, &self.path, wanted))?;
        self.hashed(block);
        Ok(())
    }

    /// At an orderly end of an answer.
    fn whole(&self, wanted: &Wanted<'_>) -> Result<(), Trouble> {
        match wanted.entry.size {
            Some(size) if size != self.have => {
                let message = format!("{} was cut at {} of {size} bytes", wanted.entry.path, self.have);
                Err(Trouble::Later(message, None))
            }
            _ => Ok(()),
        }
    }

    fn finish(self, folder: &Path, wanted: &Wanted<'_>) -> Result<u64, Failure> {
        let found = Hash(self.hasher.finalize().into());
        if let Some(announced) = wanted.entry.sha256.filter(|announced| *announced != found) {
            let _ = std::fs::remove_file(&self.path);
            let message = format!(
                "{} has SHA-256 {found}, the hub announced {announced}; what came was removed, resume the job to fetch it anew",
                wanted.entry.path
            );
            return Err(Failure::new(FailureCode::HashMismatch, message).at(wanted.entry.path.clone()));
        }
        let done = self.file.sync_all().and_then(|()| std::fs::rename(&self.path, folder.join(&wanted.name)));
        done.map_err(|error| unwritable(&error, &self.path, wanted))?;
        let _ = std::fs::remove_file(folder.join(format!("{}.origin", wanted.name)));
        Ok(self.have)
    }
}

fn changed(path: &str, wanted: &str, served: &str) -> Failure {
    let message = format!(
        "{path} changed on the hub while it was fetched: {wanted} was wanted, {served} is served; resume the job to begin \
         with what is there now"
    );
    Failure::new(FailureCode::HashMismatch, message).at(path.to_owned())
}

/// Fails before the disk is full rather than after.
fn room(folder: &Path, wanted: &Wanted<'_>, have: u64) -> Result<(), Failure> {
    let Some(rest) = wanted.entry.size.map(|size| size.saturating_sub(have)) else { return Ok(()) };
    let Ok(space) = rustix::fs::statvfs(folder) else { return Ok(()) };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if free >= rest.saturating_add(SPARE_BYTES) {
        return Ok(());
    }
    let message = format!(
        "{} needs {} MiB more and {} MiB beside them, but {} MiB are free at {}; free space and resume the job",
        wanted.entry.path,
        rest >> 20,
        SPARE_BYTES >> 20,
        free >> 20,
        folder.display()
    );
    Err(Failure::new(FailureCode::DiskFull, message).hint(HintCode::FreeDisk))
}

fn unwritable(error: &std::io::Error, path: &Path, wanted: &Wanted<'_>) -> Failure {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let place = path.display().to_string();
    if matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge) {
        let message = format!(
            "the disk is full at {} of {}: {error}; free space and resume the job, it goes on there",
            place, wanted.entry.path
        );
        return Failure::new(FailureCode::DiskFull, message).at(place).hint(HintCode::FreeDisk);
    }
    Failure::new(FailureCode::FileUnreadable, format!("{place} cannot be written: {error}")).at(place)
}
