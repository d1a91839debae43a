//! `honed node FOLDER MODEL`: a compute child on a machine that the daemon cannot reach. What the child says is appended to a file
//! of the shared folder, what is said to it is read out of another. Lives here: that relay, on the node. Never here: submitting it
//! (`workers::slurm`), the daemon's end of the files (`workers::far`), and what the child computes.
//!
//! Both files hold frames as a socket would, and only ever grow. A file may end in the middle of a frame when a machine dies;
//! whoever reads waits for the rest, which then never comes. What a checkpoint hangs on is made durable before it is seen.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::worker::{FromWorker, ToWorker};
use hone_protocol::{frame, wire};

use crate::sandbox::{self, Class, Paths};
use crate::workers::process::{Program, kept};

/// Frames from the child.
pub const OUT: &str = "out";
/// Frames to the child.
pub const IN: &str = "in";
/// How often the file of wishes is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Exit status when an attempt was begun before: Slurm started the job a second time, which hone does itself.
const EXIT_BEGUN: u8 = 3;

/// The mode's main, with what follows `honed node`.
pub fn run(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let (Some(folder), Some(model)) = (arguments.next(), arguments.next()) else {
        eprintln!("this is an inner part of honed that a Slurm job starts; run `honed` instead");
        return ExitCode::from(sandbox::EXIT_REFUSED);
    };
    match relay(&PathBuf::from(folder), &PathBuf::from(model)) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("honed node: {error}");
            ExitCode::FAILURE
        }
    }
}

fn relay(folder: &Path, model: &Path) -> std::io::Result<u8> {
    let out = OpenOptions::new().create_new(true).append(true).mode(0o600).open(folder.join(OUT));
    let out = match out {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            eprintln!("honed node: this attempt has begun already; hone goes on with a new one");
            return Ok(EXIT_BEGUN);
        }
        out => out?,
    };
    let (ours, theirs) = UnixStream::pair()?;
    let own = std::env::current_exe()?;
    let worker = std::env::var_os("HONE_WORKER").map_or_else(|| own.with_file_name("hone-worker"), PathBuf::from);
    let paths = Paths::none().read(model).read(worker.with_file_name("backends")).write(folder);
    let program = Program::Worker("train");
    let mut child = {
        let mut command = Command::new(&own);
        command
            .args(sandbox::arguments(Class::Compute, std::process::id(), &paths, &worker, &["train"]))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .current_dir("/")
            .env_clear()
            .envs(kept(program).iter().filter_map(|word| Some((word, std::env::var_os(word)?))));
        // Dropped with its copy of the child's socket: when the child ends, the line does.
        command.spawn()?
    };
    let writer = Arc::new(Mutex::new(ours.try_clone()?));
    let is_over = Arc::new(AtomicBool::new(false));
    ask_at_signal(Arc::clone(&writer))?;
    let wishes = {
        let (writer, is_over, path) = (Arc::clone(&writer), Arc::clone(&is_over), folder.join(IN));
        std::thread::Builder::new().name("wishes".into()).spawn(move || pass_wishes(&path, &writer, &is_over))?
    };
    let frames = std::thread::Builder::new().name("frames".into()).spawn(move || pass_frames(ours, out))?;
    let status = child.wait()?;
    let passed = frames.join().unwrap_or_else(|_| Err(std::io::Error::other("the relay panicked")));
    is_over.store(true, Ordering::Release);
    let _ = wishes.join();
    let (mut out, has_ended) = passed?;
    if !has_ended {
        append(&mut out, &FromWorker::Failed(death(status)), true)?;
    }
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

fn death(status: ExitStatus) -> Failure {
    let how = match (status.signal(), status.code()) {
        (Some(9), _) => "was killed (SIGKILL: by a person, or by the system when memory ran out)".to_owned(),
        (Some(signal), _) => format!("was ended by signal {signal}"),
        (None, code) => format!("ended with status {} and no reason", code.unwrap_or_default()),
    };
    Failure::new(FailureCode::WorkerDied, format!("the worker on the node {how}")).hint(HintCode::ReadLog)
}

fn append(out: &mut File, message: &FromWorker, durable: bool) -> std::io::Result<()> {
    let bytes = frame::frame(&wire::encode(message)).map_err(std::io::Error::other)?;
    out.write_all(&bytes)?;
    if durable { out.sync_data() } else { Ok(()) }
}

/// What the child says goes into the file, frame by frame. Says whether the child said how it ended.
fn pass_frames(mut stream: UnixStream, mut out: File) -> std::io::Result<(File, bool)> {
    let mut has_ended = false;
    loop {
        let mut header = [0; 4];
        if stream.read_exact(&mut header).is_err() {
            return Ok((out, has_ended));
        }
        let length = frame::length(header).map_err(std::io::Error::other)?;
        let mut payload = Vec::new();
        if (&mut stream).take(length as u64).read_to_end(&mut payload)? < length {
            return Ok((out, has_ended));
        }
        let message = wire::decode(&payload).ok();
        let is_end = matches!(message, Some(FromWorker::Trained { .. } | FromWorker::Stopped | FromWorker::Failed(_)));
        has_ended |= is_end;
        out.write_all(&[header.as_slice(), &payload].concat())?;
        if is_end || matches!(message, Some(FromWorker::Checkpointed { .. })) {
            out.sync_data()?;
        }
    }
}

/// What is written for the child goes to it, whole frames only.
fn pass_wishes(path: &Path, writer: &Mutex<UnixStream>, is_over: &AtomicBool) {
    let mut taken = 0;
    while !is_over.load(Ordering::Acquire) {
        // Opened each time: a network file system looks for news only then.
        let fresh = File::open(path).and_then(|mut file| {
            file.seek(SeekFrom::Start(taken))?;
            let mut fresh = Vec::new();
            file.read_to_end(&mut fresh)?;
            Ok(fresh)
        });
        let fresh = fresh.unwrap_or_default();
        let whole = whole_frames(&fresh);
        if whole > 0 {
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            if writer.write_all(&fresh[..whole]).is_err() {
                return;
            }
            taken += whole as u64;
        }
        std::thread::park_timeout(LOOK);
    }
}

/// Bytes at the beginning that are whole frames.
fn whole_frames(bytes: &[u8]) -> usize {
    let mut whole = 0;
    while let Some(header) = bytes[whole..].first_chunk::<4>() {
        match frame::length(*header) {
            Ok(length) if bytes.len() - whole >= 4 + length => whole += 4 + length,
            _ => break,
        }
    }
    whole
}

/// Slurm announces a time limit with SIGTERM: the child writes a checkpoint and ends.
fn ask_at_signal(writer: Arc<Mutex<UnixStream>>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let inside = runtime.enter();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    drop(inside);
    let ask = frame::frame(&wire::encode(&ToWorker::StopAtCheckpoint)).map_err(std::io::Error::other)?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            if terminate.recv().await.is_some() {
                // A child that is gone needs no wish.
                let _ = writer.lock().unwrap_or_else(PoisonError::into_inner).write_all(&ask);
            }
        });
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_frame_is_not_passed_on() {
        let one = frame::frame(&wire::encode(&ToWorker::StopAtCheckpoint)).unwrap();
        let two = [one.clone(), one.clone()].concat();
        for cut in 0..=two.len() {
            let expected = cut / one.len() * one.len();
            assert_eq!(whole_frames(&two[..cut]), expected, "{cut}");
        }
        assert_eq!(whole_frames(&[0xff; 64]), 0, "what is no frame is nobody's");
    }

    #[test]
    fn what_a_child_says_is_in_the_file_and_its_end_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(OUT);
        for (said, ended) in [(vec![FromWorker::Alive], false), (vec![FromWorker::Alive, FromWorker::Stopped], true)] {
            let (mut child, ours) = UnixStream::pair().unwrap();
            let file = File::create(&path).unwrap();
            let mut bytes: Vec<u8> =
                said.iter().flat_map(|message| frame::frame(&wire::encode(message)).unwrap()).collect();
            let whole = bytes.len();
            bytes.extend([9, 0, 0]);
            child.write_all(&bytes).unwrap();
            drop(child);
            assert_eq!(pass_frames(ours, file).unwrap().1, ended);
            assert_eq!(std::fs::read(&path).unwrap(), bytes[..whole], "the cut end is left out");
        }
    }
}
