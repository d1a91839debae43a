//! Logging at the service desk: whether a request is logged, what of it is remembered while it is answered, and the entry that it
//! becomes when its row is closed. Never here: files.

use hone_protocol::application::{LedgerRow, Outcome};
use hone_protocol::generate::{Channel, Prompt, PromptText, Wish};
use hone_protocol::guard::GuardHit;
use hone_protocol::id::LedgerId;
use hone_protocol::log::{LogEntry, LogSettings, LoggedAnswer, is_sampled};

use super::{Metered, ServiceDesk};
use crate::clock;
use crate::dispatcher::Events;
use crate::dispatcher::event::{Close, Event};
use crate::http::desk::{AnswerStep, Ask, Caller, EmbedAsk};
use crate::request_log::{RequestLog, rows};
use crate::state::State;

/// A piece as it was told.
struct Told {
    choice: u32,
    channel: Channel,
    text: String,
    /// Tokens of all answers with it.
    tokens: u64,
}

/// What becomes an entry.
pub(super) struct Draft {
    log: RequestLog,
    settings: LogSettings,
    route: &'static str,
    prompts: Vec<Prompt>,
    answers: u32,
    tokens_max: Option<u32>,
    wish: Wish,
    rendered: Vec<PromptText>,
    told: Vec<Told>,
    finishes: Vec<&'static str>,
}

impl ServiceDesk {
    /// Whether a request is logged; then what of it is remembered.
    pub(super) fn draft(&self, state: &State, caller: &Caller, id: LedgerId, ask: &Ask) -> Option<Draft> {
        let settings = state.applications.get(&caller.application)?.log?;
        if !is_sampled(&rows::hash_of(id), settings.share_percent) {
            return None;
        }
        Some(Draft {
            log: self.log.clone(),
            settings,
            route: ask.route,
            prompts: ask.prompts.clone(),
            answers: ask.answers,
            tokens_max: ask.tokens_max,
            wish: ask.wish.clone(),
            rendered: Vec::new(),
            told: Vec::new(),
            finishes: vec![""; ask.choices()],
        })
    }
}

impl ServiceDesk {
    /// The same for texts that are embedded: there are no answers.
    pub(super) fn draft_embed(&self, state: &State, caller: &Caller, id: LedgerId, ask: &EmbedAsk) -> Option<Draft> {
        let settings = state.applications.get(&caller.application)?.log?;
        is_sampled(&rows::hash_of(id), settings.share_percent).then(|| Draft {
            log: self.log.clone(),
            settings,
            route: "/v1/embeddings",
            prompts: ask.inputs.clone(),
            answers: 0,
            tokens_max: None,
            wish: Wish::default(),
            rendered: Vec::new(),
            told: Vec::new(),
            finishes: Vec::new(),
        })
    }
}

impl Draft {
    /// What the model sees of a prompt.
    pub(super) fn note_prompt(&mut self, prompt: PromptText) {
        if self.rendered.len() < self.prompts.len() {
            self.rendered.push(prompt);
        }
    }

    /// A step that is told to whoever reads the answer.
    pub(super) fn note(&mut self, step: &AnswerStep) {
        match step {
            AnswerStep::Piece(piece) => self.told.push(Told {
                choice: piece.choice,
                channel: piece.channel.clone(),
                text: piece.text.clone(),
                tokens: piece.tokens,
            }),
            AnswerStep::Ended { choice, finish, .. } => {
                if let Some(finish_of) = self.finishes.get_mut(*choice as usize) {
                    *finish_of = finish.word();
                }
            }
            AnswerStep::Echo { .. } | AnswerStep::Counted { .. } | AnswerStep::Failed(_) => {}
        }
    }

    /// The answers as far as they were delivered: all of one that is complete, else what the bill has.
    fn answers(&mut self, row: &LedgerRow) -> Vec<LoggedAnswer> {
        let is_whole = row.outcome == Outcome::Complete;
        let finish = |word: &&str| LoggedAnswer { finish: (*word).to_owned(), ..LoggedAnswer::default() };
        let mut answers: Vec<LoggedAnswer> = self.finishes.iter().map(finish).collect();
        for told in std::mem::take(&mut self.told) {
            let Some(answer) = answers.get_mut(told.choice as usize) else { continue };
            if !is_whole && told.tokens > row.completion_tokens {
                continue;
            }
            match told.channel {
                Channel::Text => answer.text.push_str(&told.text),
                Channel::Reasoning => answer.reasoning.push_str(&told.text),
                Channel::Call { name, .. } => answer.calls.push((name, String::new())),
                Channel::Arguments { .. } => {
                    if let Some((_, arguments)) = answer.calls.last_mut() {
                        arguments.push_str(&told.text);
                    }
                }
            }
        }
        answers
    }

    /// Offers the entry of a request whose row is closed.
    pub(super) fn offer(mut self, row: &LedgerRow, service: &str, version: &str, guards: Vec<GuardHit>) {
        let answers = self.answers(row);
        let entry = LogEntry {
            id: row.id,
            opened_at_ms: row.opened_at_ms,
            at_ms: row.closed_at_ms.unwrap_or_else(clock::now_ms),
            key: row.key,
            service: service.to_owned(),
            version: version.to_owned(),
            route: self.route.to_owned(),
            outcome: row.outcome,
            prompts: self.prompts,
            answers_wanted: self.answers,
            tokens_max: self.tokens_max,
            wish: self.wish,
            rendered: self.rendered,
            answers,
            prompt_tokens: row.prompt_tokens,
            cached_tokens: row.cached_tokens,
            completion_tokens: row.completion_tokens,
            first_token_ms: row.first_token_ms,
            total_ms: row.total_ms,
            user: row.user.clone(),
            metadata: row.metadata.clone(),
            guards,
            masked: 0,
            cut_bytes: 0,
        };
        self.log.offer(row.application, self.settings, entry);
    }
}

/// What is left to do when the row of a request is closed: what guards found is counted, and the request logged.
pub(super) struct After {
    draft: Option<Draft>,
    hits: Vec<GuardHit>,
    service: String,
    version: String,
}

impl Metered {
    /// Takes it; nothing is left to do twice.
    pub(super) fn after(&mut self) -> After {
        let mut hits = self.hits.take();
        if let Some(outward) = &mut self.outward {
            hits.extend(outward.hits.take());
        }
        let (service, version) = (self.opening.service.clone(), self.opening.version_reference.clone());
        After { draft: self.draft.take(), hits, service, version }
    }

    /// The row of the ledger as it is closed with an answer that is kept.
    pub(super) fn closed_row(&self, close: &Close) -> LedgerRow {
        let mut row = self.row_with(close.completion_tokens);
        (row.outcome, row.closed_at_ms) = (close.outcome, Some(clock::now_ms()));
        (row.first_token_ms, row.total_ms) = (close.first_token_ms, Some(close.total_ms));
        row
    }
}

impl After {
    /// Does it. Never waits for the disk.
    pub(super) async fn settle(self, events: &Events, row: &LedgerRow) {
        let After { draft, hits, service, version } = self;
        if !hits.is_empty() {
            let hits = hits.clone();
            events.post(Event::Guarded { service: row.service, application: row.application, hits }).await;
        }
        if let Some(draft) = draft {
            draft.offer(row, &service, &version, hits);
        }
    }
}
