//! The ledger: rows open before the first byte, their watermarks, their close. Integers only.

use std::collections::BTreeMap;
use std::sync::Arc;

use hone_protocol::application::{ApplicationRecord, Budget, LedgerRow, Limits, Outcome, amount};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::id::{ApplicationId, LedgerId};
use hone_protocol::value::Pico;
use tokio::sync::oneshot;

use super::effect::Effect;
use super::event::{Close, Watermark};
use super::limits::{Allowance, WINDOW_MS, Wanted};
use super::{Decider, Subject};
use crate::clock::{self, Moment};
use crate::store::{Store, StoreError, Table, after, codec, key};

/// Bytes of `YYYY-MM`.
const MONTH_BYTES: usize = 7;
/// Requests of one application that are recalled at start; more in a minute than this machine answers.
const RECALLED_MAX: usize = 100_000;
/// Where the store keeps when the wall's clock was set.
const CLOCK: &[u8] = b"clock";
/// The latest time that an identifier can begin with.
const ID_MS_MAX: i64 = (1 << 48) - 1;

/// The key of a ledger row.
pub(crate) fn ledger_key(application: ApplicationId, id: LedgerId) -> Vec<u8> {
    key(&[application.bytes(), id.bytes()])
}

impl Decider {
    /// Opens a row, if the limits and the budget of its application let it begin.
    pub(super) fn open_row(
        &mut self,
        mut row: LedgerRow,
        (prompt_most, answer_most): (u64, u64),
        reply: oneshot::Sender<Result<Allowance, Failure>>,
    ) {
        if self.state.stopping {
            let _ = reply.send(Err(Failure::new(FailureCode::Stopping, "the daemon is stopping")));
            return;
        }
        let wanted = Wanted {
            tokens: prompt_most.saturating_add(answer_most),
            cost: amount(&row.price, prompt_most, 0, answer_most),
        };
        if let Err(refused) = self.admit(row.application, wanted) {
            self.note_refusal(&row, refused.code);
            let _ = reply.send(Err(self.allowance(row.application).told(refused)));
            return;
        }
        // The one clock that decides says when a row is of which day.
        row.opened_at_ms = self.now_ms;
        row.day = clock::day(self.now_ms, &self.state.fixed.zone);
        self.begins.begin(row.application, row.id, self.steady_ms, wanted);
        if let Some(key) = row.key {
            self.note_use(key);
        }
        self.publish_left(row.application);
        self.put_row(&row);
        self.writes.put(Table::OpenRows, *row.id.bytes(), row.application.bytes().to_vec());
        let allowance = self.allowance(row.application);
        Arc::make_mut(&mut self.state.open_rows).insert(row.id, row);
        self.effects.push(Effect::Opened(reply, allowance));
    }

    fn allowance(&self, application: ApplicationId) -> Allowance {
        let limits = self.state.applications.get(&application).and_then(|a| a.limits);
        limits.map_or(Allowance::default(), |limits| self.begins.allowance(application, limits, self.steady_ms))
    }

    /// What was set aside for a prompt by estimate is set aside exactly. Nothing is refused any more: the request has begun.
    pub(super) fn counted(&mut self, id: LedgerId, prompt_tokens: u64, answer_most: u64) {
        let Some(row) = self.state.open_rows.get(&id) else { return };
        let wanted = Wanted {
            tokens: prompt_tokens.saturating_add(answer_most),
            cost: amount(&row.price, prompt_tokens, 0, answer_most),
        };
        let application = row.application;
        self.begins.correct(application, id, wanted);
        self.publish_left(application);
    }

    /// Whether an application may ask for something that costs nothing.
    pub(super) fn knock(&mut self, application: ApplicationId) -> Result<(), Failure> {
        let limits = self.state.applications.get(&application).and_then(|a| a.limits);
        let Some(requests_per_minute) = limits.and_then(|limits| limits.requests_per_minute) else { return Ok(()) };
        let requests = Limits { requests_per_minute: Some(requests_per_minute), ..Limits::default() };
        let nothing = Wanted { tokens: 0, cost: Pico(0) };
        let admitted = self.begins.admit(application, requests, None, nothing, self.steady_ms);
        admitted.map_err(|refused| self.allowance(application).told(refused))?;
        let id = clock::new_id();
        self.begins.begin(application, id, self.steady_ms, nothing);
        self.begins.end(application, id, 0);
        Ok(())
    }

    /// Counts a closed row for whoever watches this process; the sums are the truth.
    fn note_closed(&mut self, row: &LedgerRow) {
        let counts = Arc::make_mut(&mut self.state.counts);
        counts.entry((row.service, row.application)).or_default().closed(row);
    }

    fn note_refusal(&mut self, row: &LedgerRow, why: FailureCode) {
        let counts = Arc::make_mut(&mut self.state.counts);
        counts.entry((row.service, row.application)).or_default().refused(why);
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
            row.total_ms = Some(close.total_ms);
            if close.is_estimate {
                row.note_estimate();
            }
        });
        match row {
            Some(row) => {
                let service = row.service;
                self.settle(&row);
                self.used(service);
                *Arc::make_mut(&mut self.state.service_requests).entry(service).or_default() += 1;
                self.dirty.insert(Subject::Service(service));
                self.effects.push(Effect::Closed(reply, Box::new(row)));
            }
            None => {
                let _ = reply.send(Err(Failure::not_found("open ledger row", &id.to_string())));
            }
        }
    }

    fn admit(&mut self, application: ApplicationId, wanted: Wanted) -> Result<(), Failure> {
        let Some(record) = self.state.applications.get(&application).cloned() else { return Ok(()) };
        if record.limits.is_none() && record.budget.is_none() {
            return Ok(());
        }
        let left = self.budget_left(&record);
        self.begins.admit(application, record.limits.unwrap_or_default(), left, wanted, self.steady_ms)
    }

    /// What the budget of an application leaves, but for what is open; `None` without a budget.
    pub(super) fn budget_left(&self, application: &ApplicationRecord) -> Option<Pico> {
        match application.budget? {
            Budget::Prepaid { paid, used_before } => Some(paid - (self.spent(application.id) - used_before)),
            Budget::Monthly { amount } => {
                let day = clock::day(self.now_ms, &self.state.fixed.zone);
                Some(amount - self.sums.spent(application.id, day.get(..MONTH_BYTES)?))
            }
        }
    }

    /// What an application spent of all time, on tokens, computing and reserved time.
    pub(super) fn spent(&self, application: ApplicationId) -> Pico {
        let tokens = self.state.usage.get(&application).map_or(Pico(0), |usage| usage.amount);
        let compute = self.state.compute.get(&application).map_or(Pico(0), |usage| usage.amount);
        tokens + compute + self.state.reserved.get(&application).map_or(Pico(0), |usage| usage.amount)
    }

    /// What is left of an application's budget, for whoever looks.
    pub(super) fn publish_left(&mut self, application: ApplicationId) {
        let Some(record) = self.state.applications.get(&application).cloned() else { return };
        let left = self.budget_left(&record);
        self.note_budget(&record, left);
        let left = left.map(|left| left - self.begins.reserved(application));
        if left.is_none() && !self.state.budgets_left.contains_key(&application) {
            return;
        }
        let all = Arc::make_mut(&mut self.state.budgets_left);
        match left {
            Some(left) => all.insert(application, left),
            None => all.remove(&application),
        };
        self.dirty.insert(Subject::Application(application));
    }

    /// At start: requests of the last minute count for limits as if the daemon had not ended, by the clock that nobody sets where
    /// the machine was not booted since, else by the wall's.
    pub(super) fn recall_begins(&mut self, store: &Store) -> Result<(), StoreError> {
        if let Some(value) = store.get(Table::Meta, CLOCK)? {
            self.marks = codec::read(Table::Meta, CLOCK, &value)?;
        }
        let is_known = self.marks.are_of(self.state.fixed.boot, self.steady_ms);
        let walls = match is_known {
            true => self.marks.walls(self.steady_ms),
            false => vec![(self.now_ms - WINDOW_MS, i64::MAX)],
        };
        for application in self.state.applications.keys().copied().collect::<Vec<_>>() {
            let mut rows: BTreeMap<LedgerId, LedgerRow> = BTreeMap::new();
            for &(from_ms, to_ms) in &walls {
                // Identifiers begin with their time, which is that of the asking and so never later than the row's.
                let at = |ms: i64| key(&[application.bytes(), &ms.clamp(0, ID_MS_MAX).to_be_bytes()[2..]]);
                let (from, to) = (at(from_ms), after(&at(to_ms)));
                for (key, value) in store.range(Table::Ledger, &from, &to, false, RECALLED_MAX)? {
                    let row: LedgerRow = codec::read(Table::Ledger, &key, &value)?;
                    rows.insert(row.id, row);
                }
            }
            let at_ms = |row: &LedgerRow| match is_known {
                true => self.marks.latest(row.opened_at_ms, self.steady_ms),
                // As long ago as the wall's clock says, and never in the future, where a clock that was set back would see it.
                false => Some(self.steady_ms - (self.now_ms - row.opened_at_ms).max(0)),
            };
            let mut begun: Vec<(i64, LedgerRow)> =
                rows.into_values().filter_map(|row| Some((at_ms(&row)?, row))).collect();
            begun.sort_by_key(|(at_ms, row)| (*at_ms, row.id));
            for (at_ms, row) in begun {
                let tokens = row.prompt_tokens + row.completion_tokens;
                self.begins.begin(application, row.id, at_ms, Wanted { tokens, cost: Pico(0) });
                self.begins.end(application, row.id, tokens);
            }
            self.publish_left(application);
        }
        Ok(())
    }

    /// Keeps when the wall's clock was set.
    pub(super) fn note_clocks(&mut self) {
        let now = Moment { wall_ms: self.now_ms, steady_ms: self.steady_ms };
        if self.marks.note(self.state.fixed.boot, now) {
            self.writes.put(Table::Meta, CLOCK, codec::record(&self.marks));
        }
    }

    /// Moves a closed row from the open ones into the sums.
    fn settle(&mut self, row: &LedgerRow) {
        self.begins.end(row.application, row.id, row.prompt_tokens + row.completion_tokens);
        Arc::make_mut(&mut self.state.open_rows).remove(&row.id);
        self.note_end_of(row.version);
        self.writes.delete(Table::OpenRows, *row.id.bytes());
        Arc::make_mut(&mut self.state.usage).entry(row.application).or_default().add(row);
        self.sums.add(row, &mut self.writes);
        self.note_closed(row);
        self.alert_outcome(row);
        self.publish_left(row.application);
        self.dirty.insert(Subject::Application(row.application));
    }

    /// At start: rows that were open when the daemon ended are closed at their last watermark.
    pub(super) fn close_cut_rows(&mut self, store: &Store) -> Result<(), StoreError> {
        for (id, application) in store.prefix(Table::OpenRows, b"")? {
            let ledger_key = [application.as_slice(), id.as_slice()].concat();
            let Some(value) = store.get(Table::Ledger, &ledger_key)? else {
                self.writes.delete(Table::OpenRows, id);
                continue;
            };
            let mut row: LedgerRow = codec::read(Table::Ledger, &ledger_key, &value)?;
            row.closed_at_ms = Some(self.now_ms);
            row.outcome = Outcome::CutByRestart;
            if self.state.upstream_service(row.version).is_some() {
                row.note_estimate();
            }
            row.amount = amount(&row.price, row.prompt_tokens, row.cached_tokens, row.completion_tokens);
            self.put_row(&row);
            self.settle(&row);
        }
        Ok(())
    }
}
