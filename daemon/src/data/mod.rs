//! `honed data`: rows in and out, in a child process because the files are a stranger's bytes.
//! Lives here: the reading of files of rows, the segment format (the only place that names arrow), pages of rows,
//! exports, presets, steps of recipes, facts. Never here: the store, sockets, tokens, templates.
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
mod mapping;
pub mod near;
mod open;
mod ordered;
mod pick;
mod pieces;
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
mod written;

#[cfg(test)]
mod tests;

use std::process::ExitCode;
use std::time::Duration;

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::worker::{FromWorker, ToWorker};

use crate::child::{self, Channel};

pub use canonical::content_sha256;
pub use complete::PARTIAL_SUFFIX;
pub use presets::write_preset;
pub use segment::segment_path;

/// A reader that gets no request for so long ends by itself; the daemon starts another when it needs one.
pub const READER_IDLE: Duration = Duration::from_secs(300);

/// The child's main. Serves pages until idle; an import or an export is the one task of the child's life.
pub fn run() -> ExitCode {
    let channel = match child::start() {
        Ok(channel) => channel,
        Err(error) => {
            eprintln!("honed data: {error}");
            return ExitCode::FAILURE;
        }
    };
    serve(&channel);
    ExitCode::SUCCESS
}

fn serve(channel: &Channel) {
    let mut reader = window::Reader::default();
    let mut differ = diff::Differ::default();
    while let Some(request) = channel.recv_within(READER_IDLE) {
        let mut work = channel.work();
        let answer = match request {
            ToWorker::Read(task) => {
                let answer = window::answer(&mut reader, &task);
                drop(work);
                channel.send(&answer);
                continue;
            }
            ToWorker::PreviewRecipe(task) => {
                let answer = FromWorker::RecipePreviewed { request: task.request, preview: steps::preview(&task) };
                drop(work);
                channel.send(&answer);
                continue;
            }
            ToWorker::Diff(task) => {
                let answer = diff::answer(&mut differ, &task);
                drop(work);
                channel.send(&answer);
                continue;
            }
            ToWorker::Ledger(task) => {
                let (entries, total) = match steps::page(&task) {
                    Ok((entries, total)) => (Ok(entries), total),
                    Err(failure) => (Err(failure), 0),
                };
                drop(work);
                channel.send(&FromWorker::LedgerPage { request: task.request, entries, total });
                continue;
            }
            ToWorker::Process(task) => steps::process(&task, &mut |done, total| {
                work.progress("phase.process", done, total);
            }),
            ToWorker::FindFacts(task) => facts::facts(&task, &mut |done, total| {
                work.progress("phase.facts", done, total);
            })
            .map(|facts| FromWorker::FactsFound(Box::new(facts))),
            ToWorker::Import(task) => import::import(&task, &mut |done, total| {
                work.progress("phase.import", done, total);
            })
            .and_then(import::Import::into_answer),
            ToWorker::Pick(task) => pick::pick(&task, &mut |done, total| {
                work.progress("phase.export", done, total);
            }),
            ToWorker::Export(task) => export::export(&task, &mut |done, total| {
                work.progress("phase.export", done, total);
            })
            .map(|rows| FromWorker::Exported { rows }),
            ToWorker::Preview(task) => detect::preview(&task).map(|made| FromWorker::Previewed(Box::new(made))),
            other => Err(not_ours(&other)),
        };
        drop(work);
        channel.send(&answer.unwrap_or_else(FromWorker::Failed));
        return;
    }
}

fn not_ours(request: &ToWorker) -> Failure {
    let shown: String = format!("{request:?}").chars().take_while(|c| c.is_alphanumeric()).collect();
    Failure::new(
        FailureCode::InvalidRequest,
        format!(
            "{shown} is not a task of `honed data`; it knows Import, Preview, Read, Diff, Pick, Export, Process, PreviewRecipe, Ledger and FindFacts"
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
