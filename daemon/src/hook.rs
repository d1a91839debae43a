//! `honed hook-run` and `honed hook-post`: the children that tell of one alert. The first runs a person's command without a
//! network, the second has a network and runs nothing. Never here: which alert, when it is tried again.

use std::io::{Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::hook::{
    ALERT_HEADER, HookOutcome, HookTarget, HookTask, SIGNATURE_HEADER, TIMESTAMP_HEADER, WORDS_BYTES_MAX,
};
use hone_protocol::worker::{FromWorker, ToWorker};
use rustix::process::{Pid, Signal, kill_process_group};
use std::os::unix::process::CommandExt;

use crate::child::{self, Work};
use crate::fetch;
use crate::secret;

/// How often a command is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// The child's main. `posts` says which of both it is.
pub fn run(posts: bool) -> ExitCode {
    let channel = match child::start() {
        Ok(channel) => channel,
        Err(error) => {
            eprintln!("honed hook: {error}");
            return ExitCode::FAILURE;
        }
    };
    let answer = match channel.recv() {
        Some(ToWorker::Hook(task)) => {
            let work = channel.work();
            let done = match (&task.target, posts) {
                (HookTarget::Command(words), false) => command(&work, words, &task),
                (HookTarget::Webhook(url), true) => post(url, &task),
                _ => Err(Failure::new(FailureCode::BadFrame, "this child does not do that kind of hook")),
            };
            drop(work);
            done.map_or_else(FromWorker::Failed, FromWorker::Hooked)
        }
        Some(_) => FromWorker::Failed(Failure::new(FailureCode::BadFrame, "this child takes one hook")),
        None => return ExitCode::SUCCESS,
    };
    channel.send(&answer);
    ExitCode::SUCCESS
}

/// Runs a command in a group of its own, which ends with its deadline.
fn command(work: &Work<'_>, words: &[String], task: &HookTask) -> Result<HookOutcome, Failure> {
    let [program, arguments @ ..] = words else {
        return Err(Failure::new(FailureCode::BadFrame, "a command has a program"));
    };
    let failed = |words: String| Ok(HookOutcome { ok: false, status: None, words });
    let started = Command::new(program)
        .args(arguments)
        .env("HONE_ALERT", &task.alert)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => return failed(format!("{program} could not be started: {error}")),
    };
    let (stdin, body) = (child.stdin.take(), task.body.clone());
    // A command that reads nothing is no trouble; nor is one that reads slowly, until its deadline.
    std::thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(body.as_bytes())));
    let said = [child.stdout.take().map(keep_end), child.stderr.take().map(keep_end)];
    let until = Instant::now() + Duration::from_millis(task.timeout_ms.into());
    let ended = loop {
        work.tick();
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if Instant::now() < until => std::thread::sleep(LOOK),
            Ok(None) => break None,
            Err(error) => return failed(format!("{program}: {error}")),
        }
    };
    // What it started ends with it, and so do the ends of its pipes.
    if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
    let said: Vec<String> = said.into_iter().flatten().filter_map(|thread| thread.join().ok()).collect();
    let words = end_of(&said.concat());
    Ok(match ended {
        Some(status) => HookOutcome { ok: status.success(), status: status.code(), words },
        None => HookOutcome {
            ok: false,
            status: None,
            words: end_of(&format!("{words}\nended after {} ms", task.timeout_ms)),
        },
    })
}

/// Reads all that comes and keeps the end of it.
fn keep_end(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let (mut kept, mut piece) = (Vec::new(), [0; 4096]);
        while let Ok(count) = from.read(&mut piece)
            && count > 0
        {
            kept.extend_from_slice(&piece[..count]);
            let over = kept.len().saturating_sub(WORDS_BYTES_MAX);
            kept.drain(..over);
        }
        String::from_utf8_lossy(&kept).into_owned()
    })
}

/// The end of a text that may be kept.
fn end_of(text: &str) -> String {
    let mut begin = text.len().saturating_sub(WORDS_BYTES_MAX);
    while !text.is_char_boundary(begin) {
        begin += 1;
    }
    text[begin..].to_owned()
}

/// Posts the body with its signature. Redirects are not followed: the address is the one that a person wrote down.
fn post(url: &str, task: &HookTask) -> Result<HookOutcome, Failure> {
    let signed = format!("{}.{}", task.at_s, task.body);
    let signature = secret::hmac_hex(task.secret.as_bytes(), signed.as_bytes());
    let agent = fetch::agent(url.starts_with("https://"), Duration::from_millis(task.timeout_ms.into()))?;
    let answer = agent
        .post(url)
        .header("Content-Type", "application/json")
        .header(ALERT_HEADER, &task.alert)
        .header(TIMESTAMP_HEADER, task.at_s.to_string())
        .header(SIGNATURE_HEADER, format!("sha256={signature}"))
        .send(task.body.as_bytes());
    Ok(match answer {
        Ok(answer) => {
            let status = answer.status();
            let mut page = Vec::new();
            let _ = answer.into_body().into_reader().take(WORDS_BYTES_MAX as u64).read_to_end(&mut page);
            let words = end_of(&String::from_utf8_lossy(&page));
            HookOutcome { ok: status.is_success(), status: Some(status.as_u16().into()), words }
        }
        Err(error) => HookOutcome { ok: false, status: None, words: format!("the address cannot be reached: {error}") },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_what_was_said_is_kept_whole_characters_only() {
        assert_eq!(end_of("短"), "短");
        let long = "短".repeat(WORDS_BYTES_MAX);
        let end = end_of(&long);
        assert!(end.len() <= WORDS_BYTES_MAX && end.len() > WORDS_BYTES_MAX - 3 && end.ends_with('短'));
        let kept = keep_end(std::io::Cursor::new(vec![b'a'; 100_000])).join().unwrap();
        assert_eq!(kept.len(), WORDS_BYTES_MAX);
    }
}
