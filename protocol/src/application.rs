//! Applications, their keys, the ledger and bills.

use serde::{Deserialize, Serialize};

use crate::id::{ApplicationId, KeyId, LedgerId, ServiceId, VersionId};
use crate::log::LogSettings;
use crate::pool::Priority;
use crate::service::Price;
use crate::usage::{ComputeUsage, ReservedUsage};
use crate::value::{Hash, Pico};

/// Who calls and who pays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApplicationRecord {
    /// Identity.
    pub id: ApplicationId,
    /// Unique name, `[a-z0-9._-]`; `owner` is always there and pays for jobs.
    pub name: String,
    /// Free display title, may be empty.
    pub title: String,
    /// What it may call.
    pub services: Services,
    /// How much it may ask for at a time; `None` for no limits.
    pub limits: Option<Limits>,
    /// How much it may spend; `None` for any amount.
    pub budget: Option<Budget>,
    /// Whether its requests are logged, and how; `None` for not at all.
    pub log: Option<LogSettings>,
    /// Who goes first where applications wait for the same thing; `normal` when nothing was said.
    pub priority: Option<Priority>,
    /// When it was made, Unix milliseconds.
    pub created_at_ms: i64,
    /// Who made it.
    pub created_by: String,
}

/// How much an application may ask for at a time. Each is derived from the ledger, so a restart refills none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Requests begun in any 60 seconds.
    pub requests_per_minute: Option<u64>,
    /// Tokens, of prompts and answers, of requests begun in any 60 seconds. While a request is open the most that it may become
    /// counts.
    pub tokens_per_minute: Option<u64>,
    /// Requests open at a time.
    pub parallel: Option<u64>,
}

/// How much an application may spend. What open requests may come to is set aside, so that no budget is overrun; of a prompt that
/// is not tokenised yet that is an estimate, half its bytes and what templates add.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// So much in each calendar month of the store's zone.
    Monthly {
        /// The amount.
        amount: Pico,
    },
    /// What was paid in, and no more.
    Prepaid {
        /// All that was paid in.
        paid: Pico,
        /// What had been used when prepaying began.
        used_before: Pico,
    },
}

/// Which budget an application is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetKind {
    /// None: it may spend any amount.
    None,
    /// So much in each calendar month.
    Monthly(Pico),
    /// What is paid in, from now on; what was paid in before stays.
    Prepaid,
}

/// A payment of an application.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Payment {
    /// Whose.
    pub application: ApplicationId,
    /// When, Unix milliseconds.
    pub at_ms: i64,
    /// How much; negative to take back.
    pub amount: Pico,
    /// What for, may be empty.
    pub note: String,
    /// Who entered it.
    pub person: String,
}

/// What an application may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Services {
    /// Every service, also later ones.
    All,
    /// These.
    Listed(Vec<ServiceId>),
}

/// An API key. The secret itself is shown once and never stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// Identity; its 26 characters are the middle part of the key's text.
    pub id: KeyId,
    /// Whose it is.
    pub application: ApplicationId,
    /// SHA-256 of the whole key text.
    pub sha256: Hash,
    /// What the person calls it, may be empty.
    pub label: String,
    /// When it was made, Unix milliseconds.
    pub created_at_ms: i64,
    /// When it was revoked; requests fail from then on.
    pub revoked_at_ms: Option<i64>,
    /// When it ends by itself.
    pub expires_at_ms: Option<i64>,
    /// When it was used last, to the minute.
    pub last_used_at_ms: Option<i64>,
}

impl KeyRecord {
    /// Whether it opens anything at a time.
    pub fn is_live(&self, now_ms: i64) -> bool {
        self.revoked_at_ms.is_none() && self.expires_at_ms.is_none_or(|end| now_ms < end)
    }
}

/// A row of the ledger: one metered request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerRow {
    /// Identity, and the `id` that the client was told (without its prefix).
    pub id: LedgerId,
    /// Who pays.
    pub application: ApplicationId,
    /// With which key; none for the socket.
    pub key: Option<KeyId>,
    /// What was called.
    pub service: ServiceId,
    /// What answered.
    pub version: VersionId,
    /// Opened, Unix milliseconds.
    pub opened_at_ms: i64,
    /// Billing day `YYYY-MM-DD` in the store's zone.
    pub day: String,
    /// Closed, Unix milliseconds; open rows carry a watermark.
    pub closed_at_ms: Option<i64>,
    /// How it ended.
    pub outcome: Outcome,
    /// Prompt tokens, cached ones included.
    pub prompt_tokens: u64,
    /// Prompt tokens found in the cache.
    pub cached_tokens: u64,
    /// Tokens sampled up to the last one whose bytes were written.
    pub completion_tokens: u64,
    /// The price at the time of opening.
    pub price: Price,
    /// What it costs: tokens × price, never rounded.
    pub amount: Pico,
    /// OpenAI `user`, may be empty.
    pub user: String,
    /// OpenAI `metadata`, as it was sent.
    pub metadata: Vec<(String, String)>,
    /// Time to the first token in milliseconds, when there was one.
    pub first_token_ms: Option<u32>,
    /// Time to the end in milliseconds, by a clock that is never set; none for rows that a restart cut.
    pub total_ms: Option<u32>,
}

/// The entry of a row's metadata that says so where its tokens are an estimate.
const ESTIMATED: (&str, &str) = ("hone.tokens", "estimated");

impl LedgerRow {
    /// Says that its tokens are an estimate, because a server elsewhere told none.
    pub fn note_estimate(&mut self) {
        if !self.is_estimate() {
            self.metadata.push((ESTIMATED.0.to_owned(), ESTIMATED.1.to_owned()));
        }
    }

    /// Whether its tokens are an estimate.
    pub fn is_estimate(&self) -> bool {
        self.metadata.iter().any(|(name, value)| (name.as_str(), value.as_str()) == ESTIMATED)
    }
}

/// How a metered request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Still being answered.
    Open,
    /// Answered to its end.
    Complete,
    /// The client went away.
    Disconnected,
    /// The worker failed.
    Failed,
    /// The daemon ended in the middle; closed at the last watermark by the next start.
    CutByRestart,
}

impl Outcome {
    /// Whether it ended by a fault of this side.
    pub fn is_error(self) -> bool {
        matches!(self, Outcome::Failed | Outcome::CutByRestart)
    }
}

/// Computes what tokens cost. Pico-units: tokens × micro-units per million tokens, exactly.
pub fn amount(price: &Price, prompt_tokens: u64, cached_tokens: u64, completion_tokens: u64) -> Pico {
    let micros = |price: Option<u64>| i128::from(price.unwrap_or(0));
    let input = micros(price.input_micros);
    let cached = price.cached_micros.map_or(input, i128::from);
    let fresh = i128::from(prompt_tokens.saturating_sub(cached_tokens));
    // micro-units per 1e6 tokens = pico-units per token.
    Pico(
        fresh * input
            + i128::from(cached_tokens) * cached
            + i128::from(completion_tokens) * micros(price.output_micros),
    )
}

/// An application as lists show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApplicationView {
    /// The record.
    pub record: ApplicationRecord,
    /// Names of the services it may call.
    pub services: Vec<String>,
    /// Its keys, secrets unknown.
    pub keys: Vec<KeyRecord>,
    /// Usage of all time.
    pub usage: Usage,
    /// Computing of all time.
    pub compute: ComputeUsage,
    /// Reserved time of all time.
    pub reserved: ReservedUsage,
    /// What is left of its budget, what open requests may come to set aside; `None` without a budget.
    pub left: Option<Pico>,
}

/// Sums over ledger rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Rows, open ones included.
    pub requests: u64,
    /// Prompt tokens, cached ones included.
    pub prompt_tokens: u64,
    /// Prompt tokens found in the cache.
    pub cached_tokens: u64,
    /// Completion tokens.
    pub completion_tokens: u64,
    /// What they cost.
    pub amount: Pico,
    /// Rows that failed here or were cut by a restart.
    pub errors: u64,
}

impl Usage {
    /// Adds one ledger row.
    pub fn add(&mut self, row: &LedgerRow) {
        self.merge(&Usage {
            requests: 1,
            prompt_tokens: row.prompt_tokens,
            cached_tokens: row.cached_tokens,
            completion_tokens: row.completion_tokens,
            amount: row.amount,
            errors: u64::from(row.outcome.is_error()),
        });
    }

    /// Adds other sums.
    pub fn merge(&mut self, other: &Usage) {
        self.requests += other.requests;
        self.prompt_tokens += other.prompt_tokens;
        self.cached_tokens += other.cached_tokens;
        self.completion_tokens += other.completion_tokens;
        self.amount = self.amount + other.amount;
        self.errors += other.errors;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_times_price_is_exact_and_zero_is_not_missing() {
        let price = Price { input_micros: Some(1_500_000), cached_micros: Some(0), output_micros: Some(3_000_000) };
        assert_eq!(amount(&price, 100, 40, 10), Pico(60 * 1_500_000 + 10 * 3_000_000));
        let no_cached_price = Price { cached_micros: None, ..price };
        assert_eq!(amount(&no_cached_price, 100, 40, 0), Pico(100 * 1_500_000));
        assert_eq!(amount(&Price::default(), u64::MAX, 0, u64::MAX), Pico(0));
    }
}
