//! Rows in and out: what `honed data` computes, in a child process because the files are a stranger's bytes.
//! Lives here: the reading of files of rows, the segment format (the only place that names arrow), pages of rows,
//! exports, presets, steps of recipes, facts, kinds of personal data. Never here: the store, processes, sockets, tokens, templates.
//!
//! Data flows: [`open`] → [`pieces`] → [`quick`] or [`json`] → [`mapping`] and [`format`] → [`columns`] → [`segment_writer`] (an import), and
//! [`segment`] → [`window`], [`search`] or [`export`] (everything else).

mod archive;
mod array;
mod canonical;
mod claims;
mod columns;
mod complete;
mod detect;
mod diff;
mod distinct;
mod export;
mod facts;
mod folder;
mod format;
mod import;
mod json;
mod labelled;
mod mapping;
pub mod near;
mod open;
mod ordered;
mod pick;
mod pieces;
pub mod pii;
mod preference;
mod presets;
mod prompted;
mod prose;
mod quick;
mod record_batches;
mod rows;
mod search;
mod segment;
mod segment_writer;
mod shingles;
mod spill;
mod steps;
mod table;
mod window;
mod words;
mod written;

#[cfg(test)]
mod tests;

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::worker::{FromWorker, ToWorker};

pub use canonical::content_sha256;
pub use complete::PARTIAL_SUFFIX;
pub use presets::write_preset;
pub use segment::segment_path;

/// What a session says to a request.
#[derive(Debug)]
pub enum Said {
    /// The answer; more requests may come.
    More(FromWorker),
    /// The answer to the one task of a child's life.
    Last(FromWorker),
}

/// A reader of datasets that keeps what it has opened.
#[derive(Default)]
pub struct Session {
    reader: window::Reader,
    differ: diff::Differ,
}

impl Session {
    /// Answers a request. `progress` hears of a long task: its phase, bytes or rows done, and in all.
    pub fn answer(&mut self, request: ToWorker, progress: &mut dyn FnMut(&str, u64, u64)) -> Said {
        Said::More(match request {
            ToWorker::Read(task) => window::answer(&mut self.reader, &task),
            ToWorker::PreviewRecipe(task) => {
                FromWorker::RecipePreviewed { request: task.request, preview: steps::preview(&task) }
            }
            ToWorker::Words { request, texts } => {
                FromWorker::Words { request, words: texts.iter().map(|text| words::begins(text)).collect() }
            }
            ToWorker::Diff(task) => diff::answer(&mut self.differ, &task),
            ToWorker::Ledger(task) => {
                let (entries, total) = match steps::page(&task) {
                    Ok((entries, total)) => (Ok(entries), total),
                    Err(failure) => (Err(failure), 0),
                };
                FromWorker::LedgerPage { request: task.request, entries, total }
            }
            task => return Said::Last(perform(&task, progress).unwrap_or_else(FromWorker::Failed)),
        })
    }
}

/// Does a task that is the whole life of a child.
fn perform(task: &ToWorker, progress: &mut dyn FnMut(&str, u64, u64)) -> Result<FromWorker, Failure> {
    match task {
        ToWorker::Process(task) => steps::process(task, &mut |done, total| progress("phase.process", done, total)),
        ToWorker::FindFacts(task) => facts::facts(task, &mut |done, total| progress("phase.facts", done, total))
            .map(|facts| FromWorker::FactsFound(Box::new(facts))),
        ToWorker::Import(task) => import::import(task, &mut |done, total| progress("phase.import", done, total))
            .and_then(import::Import::into_answer),
        ToWorker::Pick(task) => pick::pick(task, &mut |done, total| progress("phase.export", done, total)),
        ToWorker::WriteLabelled(task) => {
            labelled::write(task, &mut |done, total| progress("phase.export", done, total))
        }
        ToWorker::Export(task) => export::export(task, &mut |done, total| progress("phase.export", done, total))
            .map(|rows| FromWorker::Exported { rows }),
        ToWorker::Preview(task) => detect::preview(task).map(|made| FromWorker::Previewed(Box::new(made))),
        other => Err(not_ours(other)),
    }
}

fn not_ours(request: &ToWorker) -> Failure {
    let shown: String = format!("{request:?}").chars().take_while(|c| c.is_alphanumeric()).collect();
    Failure::new(
        FailureCode::InvalidRequest,
        format!(
            "{shown} is not a task of `honed data`; it knows Import, Preview, Read, Words, Diff, Pick, WriteLabelled, Export, Process, PreviewRecipe, Ledger and FindFacts"
        ),
    )
    .hint(HintCode::ReportBug)
}

/// How far a task is: bytes or rows done, and in all.
type Progress<'p> = &'p mut dyn FnMut(u64, u64);

/// A failure of reading a file.
fn unreadable(path: &std::path::Path, error: &std::io::Error) -> Failure {
    Failure::new(FailureCode::FileUnreadable, format!("{} cannot be read: {error}", path.display()))
        .at(path.display().to_string())
        .hint(HintCode::CorrectField)
}

/// A failure of writing a file, by what the system said.
fn unwritable(path: &std::path::Path, error: &std::io::Error) -> Failure {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let (code, hint) = match error.kind() {
        StorageFull | QuotaExceeded => (FailureCode::DiskFull, HintCode::FreeDisk),
        FileTooLarge => (FailureCode::LimitReached, HintCode::CorrectField),
        _ => (FailureCode::NotSaved, HintCode::TryAgain),
    };
    Failure::new(code, format!("{} cannot be written: {error}", path.display()))
        .at(path.display().to_string())
        .hint(hint)
}
