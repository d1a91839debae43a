//! Rows out of a log: chats whose answer is what was delivered or the correction of it, and pairs of a better and a worse answer. Each
//! row says which response of which version it is of. Never here: bringing them into a dataset (a job does).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use hone_protocol::application::Outcome;
use hone_protocol::dataset::Shape;
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::generate::{Prompt, Turn};
use hone_protocol::id::{ApplicationId, LedgerId};
use hone_protocol::log::{FeedbackRecord, LOG_ROWS_MAX, LogEntry, LogSelection, LogSettings, Rating};
use hone_protocol::value::Hash;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::read::{Sieve, counts, feedback_of, lines, parts};
use crate::store::{Store, Table, after, key};

/// Bytes of rated answers that wait for another answer to the same prompt. Past it no more are compared.
const WAITING_BYTES_MAX: usize = 256 << 20;

/// The key that says that a response is in a dataset already. A dataset's name holds no zero byte.
pub(crate) fn logged_key(dataset: &str, response: LedgerId) -> Vec<u8> {
    key(&[dataset.as_bytes(), &[0], response.bytes()])
}

/// Responses that rows of a dataset were made of.
fn made(store: &Store, dataset: &str) -> Result<HashSet<LedgerId>, Failure> {
    let prefix = key(&[dataset.as_bytes(), &[0]]);
    let pairs = store.range(Table::LoggedRows, &prefix, &after(&prefix), false, usize::MAX)?;
    let id = |key: &[u8]| Some(LedgerId::from_bytes(key.get(prefix.len()..)?.try_into().ok()?));
    Ok(pairs.iter().filter_map(|(key, _)| id(key)).collect())
}

/// What was made: the responses that rows are of, and a sentence about the rest.
pub(crate) struct Made {
    /// The responses.
    pub(crate) responses: Vec<LedgerId>,
    /// What it is, in words.
    pub(crate) said: String,
}

/// Where a log is.
pub(crate) struct Shelf<'s> {
    pub(crate) store: &'s Store,
    pub(crate) folder: PathBuf,
    pub(crate) application: ApplicationId,
    pub(crate) settings: Option<LogSettings>,
}

/// A rated answer that waits for another one to the same prompt.
struct Rated {
    id: LedgerId,
    text: String,
    facts: Value,
    turns: Vec<Value>,
}

/// Rows in the making.
struct Maker<W> {
    to: W,
    shape: Shape,
    dataset_has: HashSet<LedgerId>,
    responses: Vec<LedgerId>,
    rows: usize,
    /// Why entries made no row, and how many.
    left: std::collections::BTreeMap<&'static str, u64>,
    /// Good and bad answers by the hash of what they answer.
    rated: HashMap<[u8; 32], [Vec<Rated>; 2]>,
    waiting_bytes: usize,
    versions: BTreeSet<String>,
}

/// Why an entry makes no row, in words.
const IN_ALREADY: &str = "in the dataset already";
const CUT: &str = "cut";
const NO_CHAT: &str = "no chats, or with calls of tools";
const SEVERAL: &str = "with several answers";
const NOT_WHOLE: &str = "not answered to the end";
const BAD: &str = "said to be bad without a correction";
const NO_PAIR: &str = "without a correction and without a better or worse answer to the same prompt";
const TOO_MANY: &str = "too many at once";

/// The turns of a chat; nothing where it has calls, or does not end with a user.
fn turns(entry: &LogEntry) -> Option<Vec<Value>> {
    let [Prompt::Chat(chat)] = entry.prompts.as_slice() else { return None };
    let plain = |turn: &Turn| turn.calls.is_empty() && matches!(turn.role.as_str(), "system" | "user" | "assistant");
    let good =
        chat.tools.is_empty() && chat.turns.iter().all(plain) && chat.turns.last().is_some_and(|t| t.role == "user");
    good.then(|| chat.turns.iter().map(|turn| json!({"role": turn.role, "content": turn.content})).collect())
}

/// The newest correction.
fn correction(feedback: &[FeedbackRecord]) -> Option<&FeedbackRecord> {
    let corrected = feedback.iter().filter(|record| !record.feedback.correction.trim().is_empty());
    corrected.max_by_key(|record| record.at_ms)
}

/// What a row says about where it is from.
fn facts(entry: &LogEntry, feedback: &[FeedbackRecord]) -> Value {
    let counts = counts(feedback);
    json!({
        "response": entry.id, "service": entry.service, "version": entry.version, "at_ms": entry.at_ms,
        "up": counts.up, "down": counts.down,
    })
}

impl<W: Write> Maker<W> {
    fn skip(&mut self, why: &'static str) {
        *self.left.entry(why).or_default() += 1;
    }

    fn write(&mut self, row: &Value, responses: &[LedgerId]) -> std::io::Result<()> {
        self.rows += 1;
        self.responses.extend(responses);
        writeln!(self.to, "{row}")
    }

    fn take(&mut self, entry: &LogEntry, feedback: &[FeedbackRecord]) -> std::io::Result<()> {
        if self.dataset_has.contains(&entry.id) {
            self.skip(IN_ALREADY);
            return Ok(());
        }
        if self.rows >= LOG_ROWS_MAX {
            self.skip(TOO_MANY);
            return Ok(());
        }
        if entry.cut_bytes > 0 {
            self.skip(CUT);
            return Ok(());
        }
        let Some(turns) = turns(entry) else {
            self.skip(NO_CHAT);
            return Ok(());
        };
        let [answer] = entry.answers.as_slice() else {
            self.skip(SEVERAL);
            return Ok(());
        };
        if !answer.calls.is_empty() {
            self.skip(NO_CHAT);
            return Ok(());
        }
        let is_whole = entry.outcome == Outcome::Complete && answer.finish == "stop" && !answer.text.trim().is_empty();
        let corrected = correction(feedback);
        match (self.shape, corrected) {
            (Shape::Preference, Some(better)) if !answer.text.trim().is_empty() => {
                let better = better.feedback.correction.clone();
                if better == answer.text {
                    self.skip(NO_PAIR);
                    return Ok(());
                }
                let source = json!({"rejected": facts(entry, feedback), "chosen": "correction"});
                let row = json!({"prompt": turns, "chosen": better, "rejected": answer.text, "log": source});
                self.versions.insert(entry.version.clone());
                self.write(&row, &[entry.id])
            }
            (Shape::Preference, _) => {
                match counts(feedback).rating().filter(|_| is_whole) {
                    Some(rating) => self.wait(entry, feedback, turns, &answer.text, rating),
                    None => self.skip(NO_PAIR),
                }
                Ok(())
            }
            (_, None) if !is_whole => {
                self.skip(NOT_WHOLE);
                Ok(())
            }
            (_, None) if counts(feedback).rating() == Some(Rating::Down) => {
                self.skip(BAD);
                Ok(())
            }
            (_, corrected) => {
                let text = corrected.map_or(&answer.text, |record| &record.feedback.correction);
                let mut messages = turns;
                messages.push(json!({"role": "assistant", "content": text}));
                let mut source = facts(entry, feedback);
                source["is_corrected"] = corrected.is_some().into();
                self.versions.insert(entry.version.clone());
                self.write(&json!({"messages": messages, "log": source}), &[entry.id])
            }
        }
    }

    /// Keeps a rated answer for another one to the same prompt.
    fn wait(&mut self, entry: &LogEntry, feedback: &[FeedbackRecord], turns: Vec<Value>, text: &str, rating: Rating) {
        let asked = Value::Array(turns.clone()).to_string();
        self.waiting_bytes += asked.len() + text.len();
        if self.waiting_bytes > WAITING_BYTES_MAX {
            self.skip(TOO_MANY);
            return;
        }
        let hash = Sha256::digest(asked.as_bytes()).into();
        let rated = Rated { id: entry.id, text: text.to_owned(), facts: facts(entry, feedback), turns };
        self.versions.insert(entry.version.clone());
        self.rated.entry(hash).or_default()[usize::from(rating == Rating::Down)].push(rated);
    }

    /// Each good answer beside a bad one to the same prompt, one by one.
    fn pair(&mut self) -> std::io::Result<()> {
        let mut all: Vec<_> = std::mem::take(&mut self.rated).into_iter().collect();
        all.sort_by_key(|(hash, _)| *hash);
        for (_, [good, bad]) in all {
            let mut bad = bad.into_iter();
            for better in good {
                let Some(worse) = bad.by_ref().find(|worse| worse.text != better.text) else {
                    self.skip(NO_PAIR);
                    continue;
                };
                if self.rows >= LOG_ROWS_MAX {
                    self.skip(TOO_MANY);
                    continue;
                }
                let source = json!({"chosen": better.facts, "rejected": worse.facts});
                let row = json!({"prompt": better.turns, "chosen": better.text, "rejected": worse.text, "log": source});
                self.write(&row, &[better.id, worse.id])?;
            }
            bad.for_each(|_| self.skip(NO_PAIR));
        }
        Ok(())
    }
}

/// Writes the rows of a selection as lines, the oldest entry first.
pub(crate) fn write(
    shelf: &Shelf<'_>,
    selection: &LogSelection,
    dataset: &str,
    path: &Path,
    now_ms: i64,
) -> Result<Made, Failure> {
    let unsaved = |error: std::io::Error| {
        Failure::new(FailureCode::NotSaved, format!("{}: {error}", path.display())).hint(HintCode::TryAgain)
    };
    let file = std::fs::File::create(path).map_err(unsaved)?;
    let mut maker = Maker {
        to: std::io::BufWriter::new(file),
        shape: selection.shape,
        dataset_has: made(shelf.store, dataset)?,
        responses: Vec::new(),
        rows: 0,
        left: Default::default(),
        rated: HashMap::new(),
        waiting_bytes: 0,
        versions: BTreeSet::new(),
    };
    let sieve = Sieve::new(&selection.query, shelf.settings.as_ref(), now_ms);
    for part in parts(&shelf.folder)?.iter().filter(|part| !sieve.skips(part)) {
        for (_, entry) in lines(&shelf.folder, part)? {
            let is_chosen = selection.ids.is_empty() || selection.ids.contains(&entry.id);
            if !is_chosen || !sieve.fits(&entry) {
                continue;
            }
            let feedback = feedback_of(shelf.store, shelf.application, entry.id)?;
            if sieve.is_said(&counts(&feedback)) {
                maker.take(&entry, &feedback).map_err(unsaved)?;
            }
        }
    }
    maker.pair().map_err(unsaved)?;
    maker.to.flush().map_err(unsaved)?;
    let left: Vec<String> = maker.left.iter().map(|(why, count)| format!("{count} {why}")).collect();
    let left = if left.is_empty() { String::new() } else { format!("; left out: {}", left.join(", ")) };
    let application = &selection.query.application;
    if maker.rows == 0 {
        let message = format!("nothing in the log of {application} makes a row{left}");
        return Err(Failure::new(FailureCode::NoRows, message).at("source"));
    }
    let versions: Vec<String> = maker.versions.into_iter().collect();
    let said = format!("log of {application}: {} rows on {}{left}", maker.rows, versions.join(", "));
    Ok(Made { responses: maker.responses, said })
}

/// The hash that says whether a request is logged.
pub(crate) fn hash_of(response: LedgerId) -> Hash {
    Hash(Sha256::digest(response.bytes()).into())
}
