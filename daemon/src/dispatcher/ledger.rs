//! The ledger: rows open before the first byte, their watermarks, their close. Integers only.

use std::sync::Arc;

use hone_protocol::application::{LedgerRow, Outcome, Usage, amount};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::id::{ApplicationId, LedgerId};
use tokio::sync::oneshot;

use super::effect::Effect;
use super::event::{Close, Watermark};
use super::{Decider, Subject};
use crate::store::{Store, StoreError, Table, codec, key};

/// The key of a ledger row.
pub(crate) fn ledger_key(application: ApplicationId, id: LedgerId) -> Vec<u8> {
    key(&[application.bytes(), id.bytes()])
}

impl Decider {
    /// Opens a row.
    pub(super) fn open_row(&mut self, row: LedgerRow, reply: oneshot::Sender<Result<(), Failure>>) {
        if self.state.stopping {
            let _ = reply.send(Err(Failure::new(FailureCode::Stopping, "the daemon is stopping")));
            return;
        }
        self.put_row(&row);
        self.writes.put(Table::OpenRows, *row.id.bytes(), row.application.bytes().to_vec());
        Arc::make_mut(&mut self.state.open_rows).insert(row.id, row);
        self.effects.push(Effect::Opened(reply));
    }

    fn put_row(&mut self, row: &LedgerRow) {
        self.writes.put(Table::Ledger, ledger_key(row.application, row.id), codec::row(row));
    }

    fn change_open_row(&mut self, id: LedgerId, change: impl FnOnce(&mut LedgerRow)) -> Option<LedgerRow> {
        let row = Arc::make_mut(&mut self.state.open_rows).get_mut(&id)?;
        change(row);
        row.amount = amount(&row.price, row.prompt_tokens, row.cached_tokens, row.completion_tokens);
        let row = row.clone();
        self.put_row(&row);
        Some(row)
    }

    /// Raises what is billed of an open row.
    pub(super) fn watermark(
        &mut self,
        id: LedgerId,
        prompt_tokens: u64,
        cached_tokens: u64,
        tokens: u64,
        mark: Arc<Watermark>,
    ) {
        let changed = self.change_open_row(id, |row| {
            row.prompt_tokens = prompt_tokens;
            row.cached_tokens = cached_tokens;
            row.completion_tokens = row.completion_tokens.max(tokens);
        });
        if changed.is_some() {
            self.effects.push(Effect::Marked(mark, tokens));
        }
    }

    /// Closes a row: its last word, the sums, and the reply commit together.
    pub(super) fn close_row(&mut self, id: LedgerId, close: Close, reply: oneshot::Sender<Result<LedgerRow, Failure>>) {
        let closed_at_ms = self.now_ms;
        let row = self.change_open_row(id, |row| {
            row.closed_at_ms = Some(closed_at_ms);
            row.outcome = close.outcome;
            row.prompt_tokens = close.prompt_tokens;
            row.cached_tokens = close.cached_tokens;
            row.completion_tokens = close.completion_tokens;
            row.first_token_ms = close.first_token_ms;
        });
        match row {
            Some(row) => {
                let service = row.service;
                self.settle(&row);
                *Arc::make_mut(&mut self.state.service_requests).entry(service).or_default() += 1;
                self.dirty.insert(Subject::Service(service));
                self.effects.push(Effect::Closed(reply, Box::new(row)));
            }
            None => {
                let _ = reply.send(Err(Failure::not_found("open ledger row", &id.to_string())));
            }
        }
    }

    /// Moves a closed row from the open ones into the sums.
    fn settle(&mut self, row: &LedgerRow) {
        Arc::make_mut(&mut self.state.open_rows).remove(&row.id);
        self.writes.delete(Table::OpenRows, *row.id.bytes());
        Arc::make_mut(&mut self.state.usage).entry(row.application).or_default().add(row);
        let day = key(&[row.application.bytes(), row.day.as_bytes(), row.service.bytes()]);
        let sum = self.usage_days.entry(day.clone()).or_default();
        sum.add(row);
        let sum: Usage = *sum;
        self.writes.put(Table::UsageDays, day, codec::row(&sum));
        self.dirty.insert(Subject::Application(row.application));
    }

    /// At start: rows that were open when the daemon ended are closed at their last watermark.
    pub(super) fn close_cut_rows(&mut self, store: &Store) -> Result<(), StoreError> {
        for (key, value) in store.prefix(Table::UsageDays, b"")? {
            let sum = codec::read(Table::UsageDays, &key, &value)?;
            self.usage_days.insert(key, sum);
        }
        for (id, application) in store.prefix(Table::OpenRows, b"")? {
            let ledger_key = [application.as_slice(), id.as_slice()].concat();
            let Some(value) = store.get(Table::Ledger, &ledger_key)? else {
                self.writes.delete(Table::OpenRows, id);
                continue;
            };
            let mut row: LedgerRow = codec::read(Table::Ledger, &ledger_key, &value)?;
            row.closed_at_ms = Some(self.now_ms);
            row.outcome = Outcome::CutByRestart;
            row.amount = amount(&row.price, row.prompt_tokens, row.cached_tokens, row.completion_tokens);
            self.put_row(&row);
            self.settle(&row);
        }
        Ok(())
    }
}
