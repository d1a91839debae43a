//! Wishes that must not be lost: each is written to a file on this machine before it is sent, and struck out when the daemon has answered.
//! What a killed client left is sent again by the next one, under the same id, so that nothing happens twice. Never here: what is wished.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use hone_protocol::request::Request;
use serde::{Deserialize, Serialize};

/// The folder of such files below the client's state directory.
const FOLDER: &str = "unsent";
/// How a file of this folder ends.
const SUFFIX: &str = ".jsonl";

/// A wish that waits for its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    /// Makes a repetition harmless.
    pub(crate) once: String,
    /// Who wished it.
    pub(crate) person: String,
    /// The one project that their client was for; it is sent again by such a client only.
    pub(crate) project: Option<String>,
    /// What.
    pub(crate) request: Request,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Wished(Waiting),
    Done(String),
}

/// What waits, in the order in which it was wished, and the file that says so.
#[derive(Default)]
pub(crate) struct Journal {
    file: Option<(PathBuf, File)>,
    waiting: VecDeque<Waiting>,
    person: String,
    project: Option<String>,
    prefix: String,
    count: u64,
    /// Lines in the file; it is begun anew when nothing waits.
    lines: u64,
}

impl Journal {
    /// A journal below a state directory. It takes over what clients of the same person left that are gone. `shared` is the socket of
    /// somebody else's daemon, whose wishes are kept apart; `prefix` differs from client to client.
    pub(crate) fn open(
        state_dir: &str,
        shared: Option<&str>,
        (person, project): (&str, Option<&str>),
        prefix: String,
    ) -> std::io::Result<Journal> {
        let mut folder = Path::new(state_dir).join(FOLDER);
        if let Some(shared) = shared {
            folder.push(shared.replace('/', "_"));
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let own = folder.join(format!("{prefix}{SUFFIX}"));
        let file = loop {
            let file = OpenOptions::new().create(true).append(true).open(&own)?;
            file.lock()?;
            // A client that looked for leftovers just now may have taken the empty file for one.
            if fs::metadata(&own).is_ok_and(|there| file.metadata().is_ok_and(|held| held.ino() == there.ino())) {
                break file;
            }
        };
        let mut journal = Journal::default();
        journal.file = Some((own.clone(), file));
        journal.person = person.to_owned();
        journal.project = project.map(str::to_owned);
        journal.prefix = prefix;
        let mut left: Vec<PathBuf> = fs::read_dir(&folder)?.flatten().map(|entry| entry.path()).collect();
        left.sort();
        for path in left.iter().filter(|path| **path != own && path.to_string_lossy().ends_with(SUFFIX)) {
            // Whoever wrote it holds a lock on it until it is gone.
            let Ok(file) = File::open(path) else { continue };
            if file.try_lock().is_err() {
                continue;
            }
            let waits = waiting_in(&file);
            let ours = |waiting: &Waiting| waiting.person == person && waiting.project.as_deref() == project;
            if waits.iter().all(ours) {
                waits.into_iter().for_each(|waiting| journal.keep(waiting));
                let _ = fs::remove_file(path);
            }
        }
        Ok(journal)
    }

    fn write(&mut self, line: &Line) {
        let Some((_, file)) = &mut self.file else { return };
        let Ok(mut text) = serde_json::to_string(line) else { return };
        text.push('\n');
        // A full disk does not keep the wish from being sent.
        let _ = file.write_all(text.as_bytes());
        self.lines += 1;
    }

    fn keep(&mut self, waiting: Waiting) {
        self.write(&Line::Wished(waiting.clone()));
        self.waiting.push_back(waiting);
    }

    /// Keeps a wish; its id.
    pub(crate) fn wish(&mut self, request: Request) -> String {
        self.count += 1;
        let once = format!("{}-{}", self.prefix, self.count);
        self.keep(Waiting { once: once.clone(), person: self.person.clone(), project: self.project.clone(), request });
        once
    }

    /// The wish was answered.
    pub(crate) fn done(&mut self, once: &str) {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| waiting.once != once);
        if self.waiting.len() == before {
            return;
        }
        self.write(&Line::Done(once.to_owned()));
        if self.waiting.is_empty()
            && self.lines > 1_000
            && let Some((_, file)) = &self.file
        {
            let _ = file.set_len(0);
            self.lines = 0;
        }
    }

    /// What waits, in order.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.iter()
    }

    /// How much waits.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if let Some((path, _)) = self.file.take().filter(|_| self.waiting.is_empty()) {
            let _ = fs::remove_file(path);
        }
    }
}

/// What a file says that waits. A last line that was cut off by a crash was never sent.
fn waiting_in(file: &File) -> Vec<Waiting> {
    let mut waiting: Vec<Waiting> = Vec::new();
    for line in BufReader::new(file).lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(Line::Wished(wished)) => waiting.push(wished),
            Ok(Line::Done(once)) => waiting.retain(|waiting| waiting.once != once),
            Err(_) => {}
        }
    }
    waiting
}

#[cfg(test)]
mod tests {
    use hone_protocol::labelling::LabelRequest;

    use super::*;

    fn wish(row_id: u64) -> Request {
        Request::Labelling(LabelRequest::TakeBack { project: "tone".into(), row_id: Some(row_id) })
    }

    fn rows(journal: &Journal) -> Vec<Request> {
        journal.waiting().map(|waiting| waiting.request.clone()).collect()
    }

    #[test]
    fn what_a_killed_client_left_is_taken_over_once_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().to_str().unwrap();
        let mut first = Journal::open(state, None, ("ada", None), "a".into()).unwrap();
        let once = first.wish(wish(1));
        first.wish(wish(2));
        first.wish(wish(3));
        first.done(&once);
        // While it lives nobody takes its wishes.
        assert_eq!(Journal::open(state, None, ("ada", None), "b".into()).unwrap().len(), 0);
        // A kill leaves the file and lets the lock go.
        let (path, file) = first.file.take().unwrap();
        drop(file);
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"wished\":{\"once\":\"a-4\",").unwrap();
        assert_eq!(Journal::open(state, None, ("lin", None), "c".into()).unwrap().len(), 0, "another person's");
        let second = Journal::open(state, None, ("ada", None), "d".into()).unwrap();
        assert_eq!(rows(&second), [wish(2), wish(3)]);
        assert_eq!(second.waiting().next().unwrap().once, "a-2");
        assert!(!path.exists());
        assert_eq!(Journal::open(state, None, ("ada", None), "e".into()).unwrap().len(), 0);
    }

    #[test]
    fn a_file_without_anything_that_waits_goes_away() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().to_str().unwrap();
        let mut journal = Journal::open(state, None, ("ada", None), "a".into()).unwrap();
        for row in 0..2_000 {
            let once = journal.wish(wish(row));
            journal.done(&once);
        }
        let (path, _) = journal.file.as_ref().unwrap();
        let path = path.clone();
        assert!(fs::metadata(&path).unwrap().len() < 400_000);
        drop(journal);
        assert!(!path.exists());
    }
}
