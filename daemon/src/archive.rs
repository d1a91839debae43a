//! Files of applications and their batches, as the endpoint asks for them: reads from the published state and the store, changes
//! through the dispatcher. Lives here too: which bytes on disk belong to no record. Never here: shapes of HTTP, asking lines.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hone_protocol::batch::{BatchRow, BatchSpec, FileBatch, FileRecord};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::id::{FileId, JobId};
use hone_protocol::job::{JobSpec, JobView};
use hone_protocol::request::{Answer, Request};
use tokio::sync::oneshot;

use crate::desk::ServiceDesk;
use crate::dispatcher::event::{Event, FileWish};
use crate::dispatcher::{batch_key, batch_prefix};
use crate::http::archive::Archive;
use crate::http::desk::Caller;
use crate::state::State;
use crate::store::{Table, after, codec};

/// Whether a batch is of a file.
fn is_of_file(spec: &JobSpec) -> bool {
    matches!(spec, JobSpec::Batch(BatchSpec::File(_)))
}

impl ServiceDesk {
    async fn file_wish(&self, wish: FileWish) -> Result<(), Failure> {
        let (reply, done) = oneshot::channel();
        self.events.post(Event::File { wish, reply }).await;
        done.await.unwrap_or_else(|_| Err(Failure::new(FailureCode::NotSaved, "the daemon is ending")))
    }

    /// A wish of an application, noted in the audit log under its name.
    async fn wish(&self, caller: &Caller, request: Request) -> Result<JobView, Failure> {
        let (reply, answered) = oneshot::channel();
        let person = format!("application {}", caller.application_name);
        self.events.post(Event::Request { person, once: None, request: Box::new(request), reply }).await;
        match answered.await {
            Ok(Ok(Answer::Job(view))) => Ok(*view),
            Ok(Ok(_)) => Err(Failure::new(FailureCode::Internal, "a wish for a job was answered with something else")),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(Failure::new(FailureCode::NotSaved, "the daemon is ending")),
        }
    }
}

impl Archive for ServiceDesk {
    fn folder(&self) -> PathBuf {
        self.places.files()
    }

    fn files(&self, caller: &Caller) -> Vec<Arc<FileRecord>> {
        let state = self.hub.state();
        state.files.values().rev().filter(|file| file.application == caller.application).cloned().collect()
    }

    async fn add_file(&self, file: FileRecord) -> Result<(), Failure> {
        self.file_wish(FileWish::Add(file)).await
    }

    async fn remove_file(&self, caller: &Caller, file: FileId) -> Result<(), Failure> {
        self.file_wish(FileWish::Remove { application: caller.application, file }).await
    }

    fn batches(&self, caller: &Caller) -> Vec<JobView> {
        let state = self.hub.state();
        let own = |job: &&Arc<hone_protocol::job::JobRecord>| job.payer == caller.application && is_of_file(&job.spec);
        state.jobs.values().rev().filter(own).filter_map(|job| state.job_view(job.id)).collect()
    }

    async fn submit(&self, caller: &Caller, batch: FileBatch) -> Result<JobView, Failure> {
        let spec = JobSpec::Batch(BatchSpec::File(batch));
        self.wish(caller, Request::Submit { spec, payer: None, pool: None }).await
    }

    async fn cancel(&self, caller: &Caller, job: JobId) -> Result<JobView, Failure> {
        self.wish(caller, Request::Cancel { job }).await
    }

    fn rows(&self, job: JobId, failed: bool, from_row: u64, count: usize) -> Result<Vec<BatchRow>, Failure> {
        let (from, to) = (batch_key(job, failed, from_row), after(&batch_prefix(job, failed)));
        let pairs = self.store.range(Table::BatchRows, &from, &to, false, count);
        pairs
            .and_then(|pairs| codec::read_all(Table::BatchRows, &pairs))
            .map_err(|error| Failure::new(FailureCode::Internal, error.to_string()))
    }

    async fn let_rows_go(&self, job: JobId, failed: bool) -> Result<(), Failure> {
        self.file_wish(FileWish::LetRowsGo { job, failed }).await
    }
}

/// At start: removes bytes that no record names, which is what a crash in the middle of an upload leaves.
pub(crate) fn sweep(folder: &Path, state: &State) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let known =
            name.to_str().and_then(|name| name.parse::<FileId>().ok()).is_some_and(|id| state.files.contains_key(&id));
        if !known {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
