//! What is counted since the daemon started, for those who scrape it: outcomes, tokens, times. Never here: what is billed.

use hone_protocol::application::{LedgerRow, Outcome};
use hone_protocol::failure::FailureCode;

/// Upper bounds of the buckets of times, in milliseconds; one more holds what is longer.
pub(crate) const BOUNDS_MS: [u32; 14] =
    [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000];

/// How long things took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Histogram {
    /// How many were in each bucket.
    pub buckets: [u64; BOUNDS_MS.len() + 1],
    /// Sum in milliseconds.
    pub sum_ms: u64,
}

impl Histogram {
    fn add(&mut self, ms: Option<u32>) {
        let Some(ms) = ms else { return };
        let bucket = BOUNDS_MS.iter().position(|bound| ms <= *bound).unwrap_or(BOUNDS_MS.len());
        self.buckets[bucket] += 1;
        self.sum_ms += u64::from(ms);
    }
}

/// What was counted of an application at a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Requests by how they ended, in the order of [`Counts::ENDS`].
    pub ends: [u64; 6],
    /// Prompt tokens, cached ones included.
    pub prompt_tokens: u64,
    /// Prompt tokens found in the cache.
    pub cached_tokens: u64,
    /// Completion tokens.
    pub completion_tokens: u64,
    /// Time to the first token.
    pub first_token: Histogram,
    /// Time to the end.
    pub total: Histogram,
}

impl Counts {
    /// Words of how requests end; the last two were refused before they began.
    pub const ENDS: [&str; 6] =
        ["complete", "disconnected", "failed", "cut_by_restart", "limit_reached", "budget_spent"];

    /// Counts a closed row.
    pub fn closed(&mut self, row: &LedgerRow) {
        let end = match row.outcome {
            Outcome::Open | Outcome::Complete => 0,
            Outcome::Disconnected => 1,
            Outcome::Failed => 2,
            Outcome::CutByRestart => 3,
        };
        self.ends[end] += 1;
        self.prompt_tokens += row.prompt_tokens;
        self.cached_tokens += row.cached_tokens;
        self.completion_tokens += row.completion_tokens;
        self.first_token.add(row.first_token_ms);
        self.total.add(row.total_ms);
    }

    /// Counts a request that was refused before it began.
    pub fn refused(&mut self, why: FailureCode) {
        self.ends[if why == FailureCode::BudgetSpent { 5 } else { 4 }] += 1;
    }
}
