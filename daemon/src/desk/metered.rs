//! A metered request under way: what its row says, when it is marked, what a word of the worker is to the client. Never here: who
//! may ask, and how an answer begins (`desk`).

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use hone_protocol::application::{LedgerRow, Outcome, amount};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::generate::Finish;
use hone_protocol::id::LedgerId;
use hone_protocol::worker::FromWorker;
use tokio::sync::{mpsc, oneshot};

use super::batch::gave_way;
use super::gone;
use super::logging::Draft;
use crate::dispatcher::event::{Close, Event, Watermark};
use crate::dispatcher::{Allowance, Events};
use crate::guards::{Hits, Outward};
use crate::http::desk::{AnswerStep, Answering, Opening, Piece};
use crate::workers::serving::Serving;
use crate::workers::turns::{Spare, Urgent};

/// Tokens that may be written beyond what is durably billed.
const AHEAD_MAX: u64 = 64;
/// A watermark is asked for when so many tokens were delivered since the last one…
const MARK_TOKENS: u64 = 32;
/// …or at the beats of a clock that all streams share, so that the marks of all of them are one commit.
const MARK_MS: u64 = 250;

/// Why an answer may be computed now; held as long as it is.
pub(super) enum InTurn {
    /// Somebody waits for it.
    First { _turn: Urgent },
    /// It is a row of a batch, which gives way.
    Row(Spare),
}

/// A metered request under way: one row of the ledger, one or more answers.
pub struct Metered {
    pub(super) events: Events,
    pub(super) serving: Arc<Serving>,
    /// Number of the request of choice 0; the others follow.
    pub(super) first: u64,
    /// Answers to each prompt.
    pub(super) answers: u32,
    /// Tokens of each choice so far.
    pub(super) tokens: Vec<u32>,
    /// Tokens of the prompts that were begun, and those of them that were found in a cache, by choice; each prompt counts
    /// once, however many answers it has.
    pub(super) prompts: Vec<(u64, u64)>,
    /// Choices whose tokens nobody has counted who can: those of a server elsewhere, until it tells.
    pub(super) estimated: Vec<bool>,
    pub(super) words: mpsc::Receiver<FromWorker>,
    pub(super) opening: Opening,
    /// Prompts that the worker has not counted yet, where limits or a budget wait for that.
    pub(super) uncounted: Option<usize>,
    /// Most tokens of all answers.
    pub(super) answer_most: u64,
    /// The row as it was opened.
    pub(super) row: LedgerRow,
    pub(super) turn: InTurn,
    pub(super) mark: Arc<Watermark>,
    pub(super) delivered: u64,
    /// The highest watermark that was asked for.
    pub(super) asked: u64,
    pub(super) asked_at_beat: u64,
    pub(super) started: Instant,
    pub(super) first_token_ms: Option<u32>,
    pub(super) closed: bool,
    /// Steps that may be told.
    pub(super) steps: VecDeque<AnswerStep>,
    /// What guards found on the way in.
    pub(super) hits: Hits,
    /// Guards that look at what comes out.
    pub(super) outward: Option<Outward>,
    /// What becomes an entry of the log.
    pub(super) draft: Option<Draft>,
}

impl Metered {
    /// Waits until the row is durably open; a refusal ends the answer.
    pub(super) async fn opened(&mut self, open: oneshot::Receiver<Result<Allowance, Failure>>) -> Result<(), Failure> {
        match open.await {
            Ok(Ok(allowance)) => {
                self.opening.allowance = allowance;
                Ok(())
            }
            Ok(Err(failure)) => {
                self.closed = true;
                self.forget();
                Err(failure)
            }
            Err(_) => Err(Failure::new(FailureCode::Stopping, "the daemon is stopping")),
        }
    }

    pub(super) fn ledger(&self) -> LedgerId {
        self.opening.ledger
    }

    /// The next word of the worker; a row that must give way hears that instead.
    pub(super) async fn word(&mut self) -> Option<FromWorker> {
        match &self.turn {
            InTurn::First { .. } => self.words.recv().await,
            InTurn::Row(turn) => tokio::select! {
                biased;
                () = turn.taken() => Some(FromWorker::Refused { request: self.first, failure: gave_way() }),
                word = self.words.recv() => word,
            },
        }
    }

    /// How the ledger's row closes. Of a row of a batch nothing is billed but what is kept: see [`Metered::keep`].
    pub(super) fn close_of(&self, outcome: Outcome, tokens: u64) -> Close {
        if matches!(self.turn, InTurn::Row(_)) {
            return Close { prompt_tokens: 0, cached_tokens: 0, is_estimate: false, ..self.whole_close(outcome, 0) };
        }
        self.whole_close(outcome, tokens)
    }

    pub(super) fn whole_close(&self, outcome: Outcome, tokens: u64) -> Close {
        let (prompt_tokens, cached_tokens) = self.prompt_and_cached();
        Close {
            outcome,
            prompt_tokens,
            cached_tokens,
            completion_tokens: tokens,
            first_token_ms: self.first_token_ms,
            total_ms: self.started.elapsed().as_millis().min(u128::from(u32::MAX)) as u32,
            is_estimate: prompt_tokens + tokens > 0 && self.estimated.contains(&true),
        }
    }

    pub(super) fn prompt_and_cached(&self) -> (u64, u64) {
        self.prompts.iter().fold((0, 0), |(prompt, cached), of| (prompt + of.0, cached + of.1))
    }

    pub(super) fn mark_event(&mut self) -> Event {
        self.asked = self.delivered;
        self.asked_at_beat = beat();
        let (prompt_tokens, cached_tokens) = self.prompt_and_cached();
        Event::Watermark {
            id: self.ledger(),
            prompt_tokens,
            cached_tokens,
            tokens: self.delivered,
            mark: self.mark.clone(),
        }
    }

    pub(super) fn is_mark_due(&self) -> bool {
        let ahead = self.delivered - self.asked;
        ahead >= MARK_TOKENS || (ahead > 0 && self.asked_at_beat != beat())
    }

    /// Which choice a number is of. What comes from a child is not trusted.
    pub(super) fn choice(&self, request: u64) -> Option<usize> {
        let choice = usize::try_from(request.checked_sub(self.first)?).ok()?;
        (choice < self.tokens.len()).then_some(choice)
    }

    pub(super) fn note_begin(&mut self, word: &FromWorker) {
        if let FromWorker::Began { request, prompt_tokens, cached_tokens } = word
            && let Some(choice) = self.choice(*request)
            && self.note_prompt(choice, *prompt_tokens, *cached_tokens)
        {
            self.uncounted = self.uncounted.map(|left| left.saturating_sub(1));
        }
    }

    /// Tokens of a choice's prompt. `false` where another choice counts it.
    pub(super) fn note_prompt(&mut self, choice: usize, prompt_tokens: u32, cached_tokens: u32) -> bool {
        if !choice.is_multiple_of(self.answers as usize) {
            return false;
        }
        self.prompts[choice] = (u64::from(prompt_tokens), u64::from(cached_tokens.min(prompt_tokens)));
        true
    }

    /// Once all prompts are counted, says so: what was set aside for them was an estimate.
    pub(super) async fn tell_count(&mut self) {
        if self.uncounted == Some(0) {
            self.uncounted = None;
            let (id, prompt_tokens, answer_most) = (self.ledger(), self.prompt_and_cached().0, self.answer_most);
            self.events.post(Event::Counted { id, prompt_tokens, answer_most }).await;
        }
    }

    /// Tokens of all choices after one of them has so many.
    pub(super) fn count(&mut self, choice: usize, tokens: u32) -> u64 {
        self.tokens[choice] = self.tokens[choice].max(tokens);
        self.tokens.iter().map(|&tokens| u64::from(tokens)).sum()
    }

    pub(super) fn forget(&self) {
        for request in (self.first..).take(self.tokens.len()) {
            self.serving.forget(request);
        }
    }

    /// What a word of the worker is to the client; nothing for what only we look at.
    pub(super) fn step(&mut self, word: FromWorker) -> Option<AnswerStep> {
        match word {
            FromWorker::Began { .. } => {
                self.note_begin(&word);
                None
            }
            FromWorker::Echoed { request, text, chances } => {
                let choice = self.choice(request)? as u32;
                Some(AnswerStep::Echo { choice, text, chances })
            }
            FromWorker::Piece { request, channel, text, tokens, chances } => {
                let choice = self.choice(request)?;
                let tokens = self.count(choice, tokens);
                let elapsed = self.started.elapsed().as_millis().min(u128::from(u32::MAX)) as u32;
                self.first_token_ms.get_or_insert(elapsed);
                Some(AnswerStep::Piece(Piece { choice: choice as u32, channel, text, chances, tokens }))
            }
            FromWorker::Counted { request, prompt_tokens, cached_tokens, tokens } => {
                let choice = self.choice(request)?;
                self.note_prompt(choice, prompt_tokens, cached_tokens);
                self.estimated[choice] = false;
                self.tokens[choice] = tokens;
                Some(AnswerStep::Counted { tokens: self.count(choice, tokens) })
            }
            FromWorker::Ended { finish: Finish::Cancelled, .. } => {
                Some(AnswerStep::Failed(Failure::new(FailureCode::Interrupted, "the answer was cancelled")))
            }
            FromWorker::Ended { request, finish, tokens, end } => {
                let choice = self.choice(request)?;
                let tokens = self.count(choice, tokens);
                Some(AnswerStep::Ended { choice: choice as u32, finish, tokens, end })
            }
            FromWorker::Refused { failure, .. } => Some(AnswerStep::Failed(failure)),
            FromWorker::Prompted { prompt, .. } => {
                if let Some(draft) = &mut self.draft {
                    draft.note_prompt(prompt);
                }
                None
            }
            _ => None,
        }
    }

    /// What the ledger will say when the answer is kept with so many tokens.
    pub fn row_with(&self, tokens: u64) -> LedgerRow {
        let mut row = self.row.clone();
        (row.prompt_tokens, row.cached_tokens) = self.prompt_and_cached();
        row.completion_tokens = tokens;
        row.amount = amount(&row.price, row.prompt_tokens, row.cached_tokens, row.completion_tokens);
        row
    }

    /// Closes the row of an answer that never began.
    pub(super) async fn fail(mut self, failure: Failure) -> Failure {
        match self.finish(Outcome::Failed, 0).await {
            Ok(_) => failure,
            Err(unsaved) => unsaved,
        }
    }

    pub(super) async fn finish(&mut self, outcome: Outcome, tokens: u64) -> Result<LedgerRow, Failure> {
        self.closed = true;
        self.forget();
        let (reply, closed) = oneshot::channel();
        let close = self.close_of(outcome, tokens);
        self.events.post(Event::CloseRow { id: self.ledger(), close, reply }).await;
        let row = closed.await.unwrap_or_else(|_| Err(Failure::new(FailureCode::NotSaved, "the daemon is ending")))?;
        // What a row of a batch comes to is told when it is kept.
        if let InTurn::First { .. } = self.turn {
            self.after().settle(&self.events, &row).await;
        }
        Ok(row)
    }
}

/// Beats of [`MARK_MS`] since the first one was asked for.
pub(super) fn beat() -> u64 {
    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGUN.elapsed().as_millis() as u64 / MARK_MS
}

impl Answering for Metered {
    fn opening(&self) -> &Opening {
        &self.opening
    }

    async fn next(&mut self) -> AnswerStep {
        loop {
            if let Some(step) = self.steps.pop_front() {
                if let Some(draft) = &mut self.draft {
                    draft.note(&step);
                }
                return step;
            }
            if self.is_mark_due() {
                let event = self.mark_event();
                self.events.post(event).await;
            }
            let wait = Duration::from_millis(MARK_MS);
            let message = if self.delivered > self.asked {
                match tokio::time::timeout(wait, self.word()).await {
                    Ok(message) => message,
                    Err(_) => continue,
                }
            } else {
                self.word().await
            };
            let Some(word) = message else { return AnswerStep::Failed(gone()) };
            let step = self.step(word);
            self.tell_count().await;
            if let Some(step) = step {
                self.let_out(step);
            }
        }
    }

    fn delivered(&mut self, tokens: u64) {
        self.delivered = self.delivered.max(tokens);
    }

    async fn allow(&mut self, tokens: u64) {
        if self.is_mark_due() {
            let event = self.mark_event();
            self.events.post(event).await;
        }
        while tokens > self.mark.tokens() + AHEAD_MAX && self.mark.tokens() < self.delivered {
            if self.asked < self.delivered {
                let event = self.mark_event();
                self.events.post(event).await;
            }
            self.mark.reach(self.asked).await;
        }
    }

    async fn close(mut self, outcome: Outcome, tokens: u64) -> Result<LedgerRow, Failure> {
        self.finish(outcome, tokens).await
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        self.forget();
        let (reply, closed) = oneshot::channel();
        let (outcome, after) = match self.turn {
            InTurn::First { .. } => (Outcome::Disconnected, Some(self.after())),
            // A row of a batch has no client who could go away: it is put back.
            InTurn::Row(_) => (Outcome::Failed, None),
        };
        let close = self.close_of(outcome, self.delivered);
        let event = Event::CloseRow { id: self.ledger(), close, reply };
        let events = self.events.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                events.post(event).await;
                if let (Some(after), Ok(Ok(row))) = (after, closed.await) {
                    after.settle(&events, &row).await;
                }
            });
        }
    }
}
