//! Starting `honed` when nothing answers: a detached process in a session of its own that outlives this one.
//! Never here: stopping it, or supervising it.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::paths;

use crate::link::{Link, Options, make_private_folder};

/// Longest wait for a fresh daemon to answer. Beyond it starting has failed, with the end of the log.
pub const START_WAIT: Duration = Duration::from_secs(10);
/// Longest wait for another process's daemon after ours has ended (it may have lost a race for the lock).
const RACE_WAIT: Duration = Duration::from_secs(2);
/// The first pause between two looks; each is half as long again, up to [`STEP_MAX`].
const STEP: Duration = Duration::from_millis(20);
/// The longest pause between two looks.
const STEP_MAX: Duration = Duration::from_millis(250);
/// How much of the log is shown when starting fails.
const LOG_LINES: usize = 12;
/// How much of the log is read for it, in bytes from its end.
const LOG_BYTES: u64 = 16 * 1024;

/// Connects to the daemon, starting one when nothing answers.
pub fn ensure_daemon(options: &Options) -> Result<Link, Failure> {
    ensure_daemon_with(options, &[])
}

/// Connects to the daemon, starting one with these flags of `hone daemon run` when nothing answers.
pub fn ensure_daemon_with(options: &Options, flags: &[String]) -> Result<Link, Failure> {
    if let Some(link) = Link::connect_once(options)? {
        return Ok(link);
    }
    make_private_folder(&options.state_dir)?;
    let log_path = format!("{}/{}", options.state_dir, paths::LOG);
    let log_start = fs::metadata(&log_path).map_or(0, |m| m.len());
    let mut child = spawn(options, flags, &log_path)?;
    let mut deadline = Instant::now() + START_WAIT;
    let mut ended = None;
    let mut step = STEP;
    loop {
        if let Some(link) = Link::connect_once(options)? {
            return Ok(link);
        }
        if ended.is_none() {
            ended = child.try_wait().ok().flatten();
            if ended.is_some() {
                deadline = deadline.min(Instant::now() + RACE_WAIT);
            }
        }
        if Instant::now() >= deadline {
            break;
        }
        std::thread::sleep(step);
        step = (step * 3 / 2).min(STEP_MAX);
    }
    let how = match ended {
        Some(status) => format!("the daemon ended at once ({status})"),
        None => format!("the daemon did not answer within {} s", START_WAIT.as_secs()),
    };
    let tail = log_tail(&log_path, log_start);
    let message =
        if tail.is_empty() { format!("{how}; its log is empty") } else { format!("{how}; its log says:\n{tail}") };
    Err(Failure::new(FailureCode::ServiceUnavailable, message).at(log_path))
}

/// Where `honed` is: beside this program.
pub fn daemon_program() -> Result<PathBuf, Failure> {
    beside("honed")
}

/// A program in the folder of this one, or in the folder above it (Cargo puts test programs one folder deeper).
fn beside(name: &str) -> Result<PathBuf, Failure> {
    let own = std::env::current_exe()
        .map_err(|e| Failure::new(FailureCode::FileUnreadable, format!("the program's own path is unknown: {e}")))?;
    let folders = own.ancestors().skip(1).take(2);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file()).ok_or_else(|| {
        Failure::new(FailureCode::NotFound, format!("{name} is missing; it must be in the same folder as hone"))
            .at(own.with_file_name(name).display().to_string())
    })
}

/// Starts `hone daemon run --new-session`, which begins a session of its own and becomes `honed`: a process
/// cannot ask for a new session between fork and exec without unsafe code.
fn spawn(options: &Options, flags: &[String], log_path: &str) -> Result<Child, Failure> {
    let unwritable = |e: std::io::Error| {
        Failure::new(FailureCode::FileUnreadable, format!("the daemon's log cannot be written: {e}")).at(log_path)
    };
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open(log_path).map_err(unwritable)?;
    let again = log.try_clone().map_err(unwritable)?;
    daemon_program()?;
    let hone = beside("hone")?;
    Command::new(&hone)
        .args(["daemon", "run", "--new-session"])
        .args(flags)
        .env("HONE_STATE", &options.state_dir)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(again)
        .spawn()
        .map_err(|e| {
            Failure::new(FailureCode::FileUnreadable, format!("the daemon cannot be started: {e}"))
                .at(hone.display().to_string())
        })
}

/// The last lines of a log, of what was written from `start` on.
pub(crate) fn log_tail(path: &str, start: u64) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        // A log shorter than before was begun anew.
        let start = if start > length { 0 } else { start };
        file.seek(SeekFrom::Start(start.max(length.saturating_sub(LOG_BYTES))))?;
        let mut bytes = Vec::new();
        file.take(LOG_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_last_lines_of_what_is_new() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("honed.log");
        let old = "old line\n";
        let new: String = (1..=20).map(|n| format!("line {n}\n\n")).collect();
        fs::write(&path, format!("{old}{new}")).unwrap();
        let path = path.to_str().unwrap();
        let tail = log_tail(path, old.len() as u64);
        assert_eq!(tail.lines().count(), LOG_LINES);
        assert_eq!(tail.lines().last(), Some("line 20"));
        assert!(log_tail(path, 1_000_000).ends_with("line 20"), "a log that was begun anew is read from its start");
        assert_eq!(log_tail("/nonexistent/honed.log", 0), "");
    }
}
