//! Rows of batches: kept, counted and billed in one transaction, so that what is kept is billed and what is billed is kept. And
//! the records of files that batches read.
//! Never here: which row is asked next, or how.

use std::sync::Arc;

use hone_protocol::application::Outcome;
use hone_protocol::batch::{BatchCounts, BatchRow, BatchSpec};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::id::{ApplicationId, FileId, JobId, LedgerId};
use hone_protocol::job::{JobRecord, JobSpec, JobState, Progress};
use tokio::sync::oneshot;

use super::Decider;
use super::effect::Effect;
use super::event::{Close, FileWish, KeptRow};
use crate::store::{Sweep, Table, after, codec, key};

/// The prefix of the rows of a batch that have answers, or of those that failed.
pub(crate) fn batch_prefix(job: JobId, failed: bool) -> Vec<u8> {
    key(&[job.bytes(), &[u8::from(failed)]])
}

/// The key of a row of a batch.
pub(crate) fn batch_key(job: JobId, failed: bool, row: u64) -> Vec<u8> {
    key(&[&batch_prefix(job, failed), &row.to_be_bytes()])
}

impl Decider {
    /// Keeps a row, counts it and closes the row of the ledger that it is billed by. What an older attempt reports is billed
    /// nothing, because its answer is not kept.
    pub(super) fn keep_batch_row(&mut self, job: JobId, number: u32, kept: KeptRow, done: oneshot::Sender<()>) {
        let KeptRow { row, close, tokens_per_s, remaining_ms } = kept;
        if !self.is_current(job, number) {
            if let Some(id) = row.ledger {
                self.close_unbilled(id);
            }
            return;
        }
        if let (Some(id), Some(close)) = (row.ledger, close) {
            self.close_row(id, close, oneshot::channel().0);
        }
        self.writes.put(Table::BatchRows, batch_key(job, row.answer.is_err(), row.row), codec::record(&row));
        let mut counts = BatchCounts::default();
        self.with_job(job, |job| {
            counts = counted(job.batch.unwrap_or_default(), &row);
            job.batch = Some(counts);
            job.strikes = 0;
            job.barren = 0;
        });
        let generates = self.state.jobs.get(&job).is_some_and(|job| matches!(job.spec, JobSpec::Generate(_)));
        self.with_attempt(job, |attempt| {
            let done = counts.answered + counts.failed;
            let phase = if generates { "phase.generate" } else { "phase.batch" }.to_owned();
            attempt.progress = Some(Progress { phase, done, total: counts.rows, remaining_ms });
            attempt.tokens_per_s = Some(tokens_per_s);
        });
        self.effects.push(Effect::Durable(done));
    }

    fn close_unbilled(&mut self, id: LedgerId) {
        let close = Close {
            outcome: Outcome::Failed,
            prompt_tokens: 0,
            cached_tokens: 0,
            completion_tokens: 0,
            first_token_ms: None,
            total_ms: 0,
            is_estimate: false,
        };
        self.close_row(id, close, oneshot::channel().0);
    }

    /// Notes how many rows there are.
    pub(super) fn batch_counted(&mut self, job: JobId, rows: u64) {
        self.with_job(job, |job| job.batch = Some(BatchCounts { rows, ..job.batch.unwrap_or_default() }));
    }

    /// Removes rows of one kind. Rows with answers go when they have become rows of a dataset; those that failed stay then, because
    /// nothing else has all of them.
    pub(super) fn let_rows_go(&mut self, job: JobId, failed: bool) {
        let from = batch_prefix(job, failed);
        let to = after(&from);
        self.writes.sweeps.push(Sweep { table: Table::BatchRows, from, to });
    }
}

impl Decider {
    /// What an application wishes of its files.
    pub(super) fn file_wish(&mut self, wish: FileWish, reply: oneshot::Sender<Result<(), Failure>>) {
        let done = match wish {
            _ if self.state.stopping => Err(Failure::new(FailureCode::Stopping, "the daemon is stopping")),
            FileWish::Add(file) => {
                self.writes.put(Table::Files, *file.id.bytes(), codec::record(&file));
                Arc::make_mut(&mut self.state.files).insert(file.id, Arc::new(file));
                Ok(())
            }
            FileWish::Remove { application, file } => self.remove_upload(application, file),
            FileWish::LetRowsGo { job, failed } => {
                self.let_rows_go(job, failed);
                Ok(())
            }
        };
        match done {
            Ok(()) => self.effects.push(Effect::FileDone(reply)),
            Err(failure) => drop(reply.send(Err(failure))),
        }
    }

    fn remove_upload(&mut self, application: ApplicationId, file: FileId) -> Result<(), Failure> {
        let own = self.state.files.get(&file).filter(|known| known.application == application);
        own.ok_or_else(|| Failure::not_found("file", &file.to_string()))?;
        let reads = |job: &JobRecord| match &job.spec {
            JobSpec::Batch(BatchSpec::File(batch)) => batch.file == file && job.state == JobState::Queued,
            _ => false,
        };
        if let Some(job) = self.state.jobs.values().find(|job| reads(job)) {
            let message = format!("{} reads the file; cancel it first", job.id);
            return Err(Failure::new(FailureCode::InUse, message).at(file.to_string()));
        }
        Arc::make_mut(&mut self.state.files).remove(&file);
        self.writes.delete(Table::Files, *file.bytes());
        self.effects.push(Effect::RemoveFile(file));
        Ok(())
    }
}

fn counted(counts: BatchCounts, row: &BatchRow) -> BatchCounts {
    let failed = u64::from(row.answer.is_err());
    BatchCounts {
        answered: counts.answered + 1 - failed,
        failed: counts.failed + failed,
        prompt_tokens: counts.prompt_tokens + row.prompt_tokens,
        cached_tokens: counts.cached_tokens + row.cached_tokens,
        completion_tokens: counts.completion_tokens + row.completion_tokens,
        ..counts
    }
}
