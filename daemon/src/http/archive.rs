//! What the HTTP room needs from the daemon for files and batches. An application sees its own and no others.
//! Lives here: the trait. Never here: a decision, bytes on disk, an OpenAI field.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use hone_protocol::batch::{BatchRow, FileBatch, FileRecord};
use hone_protocol::failure::Failure;
use hone_protocol::id::{FileId, JobId};
use hone_protocol::job::JobView;

use super::desk::Caller;

/// Files of requests, and the batches that answer them.
pub trait Archive {
    /// The folder of files; each has its id as its name.
    fn folder(&self) -> PathBuf;

    /// The files of the caller's application, newest first.
    fn files(&self, caller: &Caller) -> Vec<Arc<FileRecord>>;

    /// Records a file whose bytes are complete in the folder; returns when that is durable.
    fn add_file(&self, file: FileRecord) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Removes a file. Refused while a batch reads it.
    fn remove_file(&self, caller: &Caller, file: FileId) -> impl Future<Output = Result<(), Failure>> + Send;

    /// The batches of the caller's application, newest first.
    fn batches(&self, caller: &Caller) -> Vec<JobView>;

    /// Asks for a batch.
    fn submit(&self, caller: &Caller, batch: FileBatch) -> impl Future<Output = Result<JobView, Failure>> + Send;

    /// Ends a batch.
    fn cancel(&self, caller: &Caller, job: JobId) -> impl Future<Output = Result<JobView, Failure>> + Send;

    /// What became of the lines of a batch, by line: with an answer, or failed.
    fn rows(&self, job: JobId, failed: bool, from_row: u64, count: usize) -> Result<Vec<BatchRow>, Failure>;

    /// Lets the answers of a batch go, or its failed lines.
    fn let_rows_go(&self, job: JobId, failed: bool) -> impl Future<Output = Result<(), Failure>> + Send;
}
