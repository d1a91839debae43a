//! Rows of batches at the service desk: what is kept of an answer, and its bill, in one transaction. Never here: when a row's turn
//! comes (`workers/turns.rs`).

use hone_protocol::application::Outcome;
use hone_protocol::batch::BatchRow;
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::id::JobId;
use tokio::sync::oneshot;

use super::{Metered, ServiceDesk};
use crate::dispatcher::Events;
use crate::dispatcher::event::{Close, Event, KeptRow};

/// Why a row of a batch was put back.
pub(super) fn gave_way() -> Failure {
    Failure::new(FailureCode::Overloaded, "the row gave way to somebody who waits for an answer")
}

/// How fast a batch is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    /// Tokens per second, prompts and answers.
    pub tokens_per_s: f64,
    /// Remaining milliseconds, estimated.
    pub remaining_ms: Option<u64>,
}

impl ServiceDesk {
    /// Keeps a row of a batch that was refused before anything was metered.
    pub async fn keep_refused(&self, job: JobId, attempt: u32, row: BatchRow, pace: Pace) -> Result<(), Failure> {
        post_row(&self.events, job, attempt, row, None, pace).await
    }
}

async fn post_row(
    events: &Events,
    job: JobId,
    attempt: u32,
    row: BatchRow,
    close: Option<Close>,
    pace: Pace,
) -> Result<(), Failure> {
    let (done, durable) = oneshot::channel();
    let kept = KeptRow { row, close, tokens_per_s: pace.tokens_per_s, remaining_ms: pace.remaining_ms };
    events.post(Event::BatchRow { job, number: attempt, kept: Box::new(kept), done }).await;
    durable.await.map_err(|_| Failure::new(FailureCode::Interrupted, "the daemon no longer takes rows of this attempt"))
}

impl Metered {
    /// Keeps the row of a batch and closes the ledger's row in one transaction; returns after it. `done` is the row but for
    /// what is counted.
    pub async fn keep(
        mut self,
        job: JobId,
        attempt: u32,
        done: BatchRow,
        tokens: u64,
        pace: Pace,
    ) -> Result<(), Failure> {
        self.closed = true;
        self.forget();
        let outcome = if done.answer.is_ok() { Outcome::Complete } else { Outcome::Failed };
        let close = self.whole_close(outcome, tokens);
        let row = BatchRow {
            version: self.opening.version_reference.clone(),
            ledger: Some(self.ledger()),
            prompt_tokens: close.prompt_tokens,
            cached_tokens: close.cached_tokens,
            completion_tokens: tokens,
            ..done
        };
        let after = self.after();
        let ledger = self.closed_row(&close);
        post_row(&self.events, job, attempt, row, Some(close), pace).await?;
        after.settle(&self.events, &ledger).await;
        Ok(())
    }
}
