//! How services did, read out of rows of the ledger: requests, errors, times, rates. Never here: live gauges, what is billed.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use hone_protocol::application::{LedgerRow, Outcome, Usage};
use hone_protocol::failure::Failure;
use hone_protocol::guard::{GuardCounts, GuardStats};
use hone_protocol::id::{ApplicationId, ServiceId};
use hone_protocol::log::{FeedbackCounts, FeedbackRecord};
use hone_protocol::usage::{ServiceStats, Span, Stats};

use crate::clock;
use crate::dispatcher::guard_sum_parts;
use crate::state::State;
use crate::store::{Store, Table, after, codec, key};

/// Rows of one application that are looked at, the newest. More are not, and the answer says so.
const ROWS_LOOKED_AT: usize = 100_000;

/// Rows of one service, or of an application at it, in the making.
#[derive(Default)]
struct Heap {
    usage: Usage,
    total_ms: Vec<u32>,
    first_token_ms: Vec<u32>,
    /// Tokens after the first one, and the milliseconds that they took.
    rest: (u64, u64),
    feedback: FeedbackCounts,
}

impl Heap {
    fn add(&mut self, row: &LedgerRow) {
        self.usage.add(row);
        self.first_token_ms.extend(row.first_token_ms);
        if row.outcome == Outcome::Complete {
            self.total_ms.extend(row.total_ms);
        }
        if let (Some(first), Some(total)) = (row.first_token_ms, row.total_ms)
            && row.completion_tokens > 1
        {
            self.rest.0 += row.completion_tokens - 1;
            self.rest.1 += u64::from(total.saturating_sub(first));
        }
    }

    fn stats(self, service: String, application: Option<String>) -> ServiceStats {
        let (tokens, ms) = self.rest;
        ServiceStats {
            service,
            application,
            usage: self.usage,
            total_ms: percentiles(self.total_ms),
            first_token_ms: percentiles(self.first_token_ms),
            tokens_per_s: (ms > 0).then(|| tokens as f64 * 1000.0 / ms as f64),
            feedback: self.feedback,
        }
    }
}

/// The middle and the 95th percentile, by the nearest rank: a value that was there.
fn percentiles(mut values: Vec<u32>) -> Option<(u32, u32)> {
    values.sort_unstable();
    let at = |percent: usize| values.get((values.len() * percent).div_ceil(100).saturating_sub(1)).copied();
    Some((at(50)?, at(95)?))
}

/// How services did over a span that ends now.
pub(crate) fn read(store: &Store, state: &State, span: Span, now_ms: i64) -> Result<Stats, Failure> {
    let since_ms = now_ms - span.ms();
    // Identifiers begin with their time.
    let time = since_ms.max(0).to_be_bytes();
    let mut heaps: BTreeMap<(ServiceId, Option<ApplicationId>), Heap> = BTreeMap::new();
    let mut is_cut = false;
    for application in state.applications.keys() {
        let (from, to) = (key(&[application.bytes(), &time[2..]]), after(application.bytes()));
        let mut rows = 0;
        store.visit(Table::Ledger, (&from, &to), true, |key, value| {
            let row: LedgerRow = codec::read(Table::Ledger, key, value)?;
            rows += 1;
            if rows > ROWS_LOOKED_AT {
                is_cut = true;
                return Ok::<_, Failure>(ControlFlow::Break(()));
            }
            if row.closed_at_ms.is_some() {
                heaps.entry((row.service, None)).or_default().add(&row);
                heaps.entry((row.service, Some(*application))).or_default().add(&row);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        store.visit(Table::Feedback, (&from, &to), true, |key, value| {
            let record: FeedbackRecord = codec::read(Table::Feedback, key, value)?;
            for application in [None, Some(*application)] {
                heaps.entry((record.service, application)).or_default().feedback.add(&record.feedback);
            }
            Ok::<_, Failure>(ControlFlow::Continue(()))
        })?;
    }
    let name = |id: ApplicationId| state.applications.get(&id).map_or_else(|| id.to_string(), |a| a.name.clone());
    let line = |((service, application), heap): ((ServiceId, Option<ApplicationId>), Heap)| {
        heap.stats(state.service_name(service), application.map(name))
    };
    let mut lines: Vec<ServiceStats> = heaps.into_iter().map(line).collect();
    lines.sort_by(|a, b| (&a.service, &a.application).cmp(&(&b.service, &b.application)));
    let guards = guards(store, state, since_ms)?;
    Ok(Stats { span, lines, is_cut, guards })
}

/// What guards found on the days since a moment.
fn guards(store: &Store, state: &State, since_ms: i64) -> Result<Vec<GuardStats>, Failure> {
    let since = clock::day(since_ms, &state.fixed.zone);
    let mut sums: BTreeMap<(String, String, String), GuardCounts> = BTreeMap::new();
    store.visit(Table::GuardSums, (&[], &[u8::MAX; 64]), false, |key, value| {
        let counts: GuardCounts = codec::read(Table::GuardSums, key, value)?;
        if let Some((guard, _, service, application)) = guard_sum_parts(key).filter(|(_, day, ..)| *day >= since) {
            let application = state.applications.get(&application).map_or_else(String::new, |a| a.name.clone());
            sums.entry((guard, state.service_name(service), application)).or_default().merge(&counts);
        }
        Ok::<_, Failure>(ControlFlow::Continue(()))
    })?;
    let line = |((guard, service, application), counts)| GuardStats { guard, service, application, counts };
    Ok(sums.into_iter().map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_there() {
        assert_eq!(percentiles(Vec::new()), None);
        assert_eq!(percentiles(vec![7]), Some((7, 7)));
        assert_eq!(percentiles((1..=100).rev().collect()), Some((50, 95)));
        assert_eq!(percentiles(vec![1, 2, 3, 1000]), Some((2, 1000)));
    }
}
