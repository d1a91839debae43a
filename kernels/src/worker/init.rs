//! A new model from nothing, as part of `hone-worker convert`: texts of rows go to the tokenizer's training one at a time, and
//! no more of them than memory has room for. Never here: how tokens are learnt or weights are drawn (`crate::convert::init`).

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use hone_protocol::convert::{ConvertTask, ConvertWork, TokensFile, WeightsFormat};
use hone_protocol::dataset::Row;
use hone_protocol::failure::{Failure, FailureCode};

use super::child::Busy;
use super::convert::of_convert;
use super::rows::Lines;
use super::wrong_task;
use crate::convert::init::{Init, Tokens, init, tokenizer};
use crate::convert::merge::Store;

/// Bytes of rows that tokens are learnt from. Of more, every so many-th row is taken: the crate keeps some tens of bytes for each
/// byte of words that it has not seen before, which in Chinese are whole clauses.
const TEXT_BYTES_MAX: u64 = 16 << 20;
/// How often at least the daemon hears that the work lives.
const PATIENCE: Duration = Duration::from_millis(500);

/// Makes `target`; the answer are sentences on what a person should know.
pub(super) fn make(task: &ConvertTask, target: &Path, busy: &mut Busy<'_>) -> Result<Vec<String>, Failure> {
    let ConvertWork::Init { blueprint, tokens, format, seed } = &task.work else {
        return Err(wrong_task("convert"));
    };
    let folder = Path::new(&task.folder);
    let mut warnings = Vec::new();
    let tokens = match tokens {
        TokensFile::Of { path } => Tokens::Of(Path::new(path)),
        TokensFile::Learn { rows_path, vocabulary } => {
            let learnt = learn(folder, Path::new(rows_path), *vocabulary, busy)?;
            if learnt < *vocabulary {
                warnings.push(format!("the texts gave {learnt} tokens, {vocabulary} were asked for"));
            }
            Tokens::Learnt(learnt)
        }
    };
    let store = match format {
        WeightsFormat::F32 => Store::F32,
        WeightsFormat::Bf16 => Store::Bf16,
        _ => Store::F16,
    };
    let (name, source) = (task.card.name.as_str(), task.card.source.as_str());
    let plan = Init { blueprint, name, source, store, seed: *seed, folder, target };
    init(&plan, tokens, &mut |done, total| busy.progress("phase.init", done, total)).map_err(of_convert)?;
    Ok(warnings)
}

fn learn(folder: &Path, rows: &Path, vocabulary: u32, busy: &mut Busy<'_>) -> Result<u32, Failure> {
    let lines = Lines::open(rows)?;
    let total = lines.total;
    let read = AtomicU64::new(0);
    thread::scope(|scope| {
        let running = scope.spawn(|| {
            let mut failed = None;
            let texts = Texts { lines, credit: 0, waiting: Vec::new(), read: &read, failed: &mut failed };
            let learnt = tokenizer::learn(folder, texts, vocabulary).map_err(of_convert);
            failed.map_or(learnt, Err)
        });
        while !running.is_finished() {
            busy.progress("phase.learn_tokens", read.load(Ordering::Relaxed), total);
            thread::park_timeout(PATIENCE);
        }
        running
            .join()
            .unwrap_or_else(|_| Err(Failure::new(FailureCode::Internal, "the tokenizer's training broke off")))
    })
}

/// The texts of some rows.
struct Texts<'a> {
    lines: Lines<'a>,
    /// Bytes that may be taken, in units of the file's size.
    credit: u64,
    waiting: Vec<String>,
    read: &'a AtomicU64,
    /// What ended them early.
    failed: &'a mut Option<Failure>,
}

impl Texts<'_> {
    /// Whether a row of so many bytes is among those that are taken, which are evenly spread over the file.
    fn wants(&mut self, bytes: u64) -> bool {
        self.credit = self.credit.saturating_add(bytes.saturating_mul(TEXT_BYTES_MAX));
        let price = bytes.saturating_mul(self.lines.total);
        let taken = self.lines.total <= TEXT_BYTES_MAX || self.credit >= price;
        self.credit = self.credit.saturating_sub(if taken { price } else { 0 });
        taken
    }
}

impl Iterator for Texts<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        loop {
            if let Some(text) = self.waiting.pop() {
                return Some(text);
            }
            let before = self.lines.done;
            let row: Row = match self.lines.next()? {
                Ok(row) => row,
                Err(failure) => {
                    *self.failed = Some(failure);
                    return None;
                }
            };
            self.read.store(self.lines.done, Ordering::Relaxed);
            if self.wants(self.lines.done - before) {
                self.waiting.extend(row.messages.into_iter().rev().map(|message| message.content));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_rows_an_even_part_is_taken() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("rows.jsonl");
        std::fs::write(&path, "").unwrap();
        let mut lines = Lines::open(&path).unwrap();
        lines.total = 3 * TEXT_BYTES_MAX;
        let (read, mut failed) = (AtomicU64::new(0), None);
        let mut texts = Texts { lines, credit: 0, waiting: Vec::new(), read: &read, failed: &mut failed };
        let taken: Vec<bool> = (0..9).map(|_| texts.wants(1_000)).collect();
        assert_eq!(taken, [false, false, true].repeat(3));
        texts.lines.total = TEXT_BYTES_MAX;
        assert!(texts.wants(1 << 40));
    }
}
