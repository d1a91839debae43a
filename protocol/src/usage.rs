//! What was used and what it comes to: usage by day, service, user and key; computing time; invoices; statistics.
//! Never here: the ledger's rows of requests (see [`crate::application`]).

use serde::{Deserialize, Serialize};

use crate::application::Usage;
use crate::guard::GuardStats;
use crate::id::{ApplicationId, ComputeId, JobId, ServiceId};
use crate::log::FeedbackCounts;
use crate::service::Price;
use crate::train::TrainPlan;
use crate::value::Pico;

/// Micro-units of the store's currency for an hour of computing. Zero is a price; missing is not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ComputePrice {
    /// One core for an hour.
    pub core_hour_micros: Option<u64>,
    /// One GPU for an hour.
    pub gpu_hour_micros: Option<u64>,
}

impl ComputePrice {
    /// What so many milliseconds of a core and of a GPU cost, rounded once to a pico-unit, half up: milliseconds × micro-units
    /// per hour are `5/18` pico-units.
    pub fn amount(&self, core_ms: u64, gpu_ms: u64) -> Pico {
        let part = |ms: u64, micros: Option<u64>| i128::from(ms) * i128::from(micros.unwrap_or(0));
        let fine = part(core_ms, self.core_hour_micros) + part(gpu_ms, self.gpu_hour_micros);
        Pico((fine * 5 + 9) / 18)
    }

    /// What a training run may cost: its expected length times the cores that its form names, else all of the pool. None where
    /// there is no price or no known length.
    pub fn of_plan(&self, plan: &TrainPlan, threads: u32, pool_cores: u32) -> Option<Pico> {
        let cores = if threads == 0 { pool_cores } else { threads.min(pool_cores) };
        let core_ms = plan.duration_ms?.saturating_mul(u64::from(cores));
        self.is_set().then(|| self.amount(core_ms, 0))
    }

    /// Whether it says a price at all.
    pub fn is_set(&self) -> bool {
        self.core_hour_micros.is_some() || self.gpu_hour_micros.is_some()
    }
}

/// A row of the ledger: computing that somebody pays for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComputeRow {
    /// Identity.
    pub id: ComputeId,
    /// Who pays.
    pub application: ApplicationId,
    /// What was computed.
    pub what: ComputeWhat,
    /// Where.
    pub pool: String,
    /// When it began, Unix milliseconds.
    pub began_at_ms: i64,
    /// When it ended, Unix milliseconds. Its length is not the difference, because clocks are set; see `core_ms`.
    pub ended_at_ms: i64,
    /// Billing day `YYYY-MM-DD` in the store's zone, of the end.
    pub day: String,
    /// Milliseconds times cores that it held.
    pub core_ms: u64,
    /// Milliseconds times GPUs that it held.
    pub gpu_ms: u64,
    /// The price at the end.
    pub price: ComputePrice,
    /// What it costs, rounded once to a pico-unit.
    pub amount: Pico,
}

/// What was computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ComputeWhat {
    /// One attempt of a job, however it ended.
    Attempt {
        /// The job.
        job: JobId,
        /// Its kind.
        kind: String,
        /// Which attempt, from 1.
        attempt: u32,
    },
    /// A serving process.
    Serving {
        /// `name@number` of its base.
        version: String,
        /// For how long it was loaded, in milliseconds; only the time in which it answered counts as cores.
        loaded_ms: u64,
    },
}

impl ComputeWhat {
    /// The word of its line on an invoice: the kind of job, or `serving`.
    pub fn kind(&self) -> &str {
        match self {
            ComputeWhat::Attempt { kind, .. } => kind,
            ComputeWhat::Serving { .. } => "serving",
        }
    }
}

/// Sums over rows of computing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ComputeUsage {
    /// Rows.
    pub rows: u64,
    /// Milliseconds times cores.
    pub core_ms: u64,
    /// Milliseconds times GPUs.
    pub gpu_ms: u64,
    /// What they cost.
    pub amount: Pico,
}

impl ComputeUsage {
    /// Adds one row.
    pub fn add(&mut self, row: &ComputeRow) {
        self.merge(&ComputeUsage { rows: 1, core_ms: row.core_ms, gpu_ms: row.gpu_ms, amount: row.amount });
    }

    /// Adds other sums.
    pub fn merge(&mut self, other: &ComputeUsage) {
        self.rows += other.rows;
        self.core_ms += other.core_ms;
        self.gpu_ms += other.gpu_ms;
        self.amount = self.amount + other.amount;
    }
}

/// A row of the ledger: time for which a service was kept for an application.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReservedRow {
    /// Identity.
    pub id: ComputeId,
    /// Who pays: the application that it was reserved for.
    pub application: ApplicationId,
    /// The service.
    pub service: ServiceId,
    /// When it began, Unix milliseconds.
    pub began_at_ms: i64,
    /// When it ended, Unix milliseconds. Its length is not the difference, because clocks are set.
    pub ended_at_ms: i64,
    /// Billing day `YYYY-MM-DD` in the store's zone; no row crosses midnight.
    pub day: String,
    /// For how long, in milliseconds, by a clock that is never set.
    pub reserved_ms: u64,
    /// The price in that time: micro-units for an hour.
    pub hour_micros: u64,
    /// What it costs, rounded once to a pico-unit.
    pub amount: Pico,
}

/// What so many milliseconds cost at a price of an hour, rounded once to a pico-unit, half up.
pub fn reserved_amount(reserved_ms: u64, hour_micros: u64) -> Pico {
    let price = ComputePrice { core_hour_micros: Some(hour_micros), gpu_hour_micros: None };
    price.amount(reserved_ms, 0)
}

/// Sums over rows of reserved time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReservedUsage {
    /// Rows.
    pub rows: u64,
    /// Milliseconds.
    pub reserved_ms: u64,
    /// What they cost.
    pub amount: Pico,
}

impl ReservedUsage {
    /// Adds one row.
    pub fn add(&mut self, row: &ReservedRow) {
        self.merge(&ReservedUsage { rows: 1, reserved_ms: row.reserved_ms, amount: row.amount });
    }

    /// Adds other sums.
    pub fn merge(&mut self, other: &ReservedUsage) {
        self.rows += other.rows;
        self.reserved_ms += other.reserved_ms;
        self.amount = self.amount + other.amount;
    }
}

/// What usage is told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageBy {
    /// The billing day.
    Day,
    /// The application; only for the owner.
    Application,
    /// The service.
    Service,
    /// OpenAI `user`, as the application sent it.
    User,
    /// The key.
    Key,
}

/// Which usage is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UsageQuery {
    /// Name of the application; empty for all.
    pub application: String,
    /// Name of the service; empty for all.
    pub service: String,
    /// First billing day `YYYY-MM-DD`; empty for the first day of this month.
    pub from: String,
    /// Last billing day; empty for today.
    pub to: String,
    /// What lines are told apart by.
    pub by: Vec<UsageBy>,
    /// `next` of the page before; empty for the first page.
    pub after: String,
    /// Lines of a page, up to [`crate::request::ROWS_MAX`].
    pub count: u32,
}

/// A line of usage. What it is not told apart by is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UsageLine {
    /// The billing day.
    pub day: Option<String>,
    /// Name of the application.
    pub application: Option<String>,
    /// Name of the service.
    pub service: Option<String>,
    /// OpenAI `user`; empty where none was sent.
    pub user: Option<String>,
    /// The key; empty for requests over the socket.
    pub key: Option<String>,
    /// The sums.
    pub usage: Usage,
}

/// A page of usage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UsagePage {
    /// First billing day.
    pub from: String,
    /// Last billing day.
    pub to: String,
    /// The zone that days are of.
    pub zone: String,
    /// The currency.
    pub currency: String,
    /// The lines, in order.
    pub lines: Vec<UsageLine>,
    /// Where the next page begins; none for the last one.
    pub next: Option<String>,
    /// Sums of all pages.
    pub total: Usage,
    /// Computing of the same days; none where a service is named.
    pub compute: Option<ComputeUsage>,
    /// Reserved time of the same days, of the named service where one is named.
    pub reserved: ReservedUsage,
}

/// An invoice: what an application used in a month. Each line is rounded once, and the total is the sum of the lines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Invoice {
    /// Name of the application.
    pub application: String,
    /// `YYYY-MM`.
    pub month: String,
    /// The zone that days are of.
    pub zone: String,
    /// The currency.
    pub currency: String,
    /// Tokens, by service and price.
    pub tokens: Vec<TokenLine>,
    /// Computing, by kind of job and price.
    pub compute: Vec<ComputeLine>,
    /// Reserved time, by service and price.
    pub reserved: Vec<ReservedLine>,
    /// The exact sum.
    pub amount: Pico,
    /// The sum of the lines as they are rounded, in units.
    pub rounded: String,
}

/// A line of an invoice: one service at one price.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenLine {
    /// Name of the service.
    pub service: String,
    /// First day on which something was used at this price.
    pub from: String,
    /// The last.
    pub to: String,
    /// The price.
    pub price: Price,
    /// The sums.
    pub usage: Usage,
    /// The amount, rounded once, in units.
    pub rounded: String,
}

/// A line of an invoice: computing of one kind at one price.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComputeLine {
    /// The kind of job, or `serving`.
    pub kind: String,
    /// First day.
    pub from: String,
    /// Last day.
    pub to: String,
    /// The price.
    pub price: ComputePrice,
    /// The sums.
    pub usage: ComputeUsage,
    /// The amount, rounded once, in units.
    pub rounded: String,
}

/// A line of an invoice: one service that was reserved at one price.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReservedLine {
    /// Name of the service.
    pub service: String,
    /// First day.
    pub from: String,
    /// Last day.
    pub to: String,
    /// The price: micro-units for an hour.
    pub hour_micros: u64,
    /// The sums.
    pub usage: ReservedUsage,
    /// The amount, rounded once, in units.
    pub rounded: String,
}

/// Over which time statistics are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Span {
    /// The last 60 minutes.
    #[default]
    Hour,
    /// The last 24 hours.
    Day,
    /// The last 30 days.
    Month,
}

impl Span {
    /// Its length in milliseconds.
    pub fn ms(self) -> i64 {
        let hour = 3_600_000;
        match self {
            Span::Hour => hour,
            Span::Day => 24 * hour,
            Span::Month => 30 * 24 * hour,
        }
    }
}

/// How a service, or an application at it, did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceStats {
    /// Name of the service.
    pub service: String,
    /// Name of the application; none for all of them.
    pub application: Option<String>,
    /// The sums.
    pub usage: Usage,
    /// Middle and 95th percentile of the time to the end of complete answers, in milliseconds.
    pub total_ms: Option<(u32, u32)>,
    /// The same of the time to the first token.
    pub first_token_ms: Option<(u32, u32)>,
    /// Completion tokens per second after the first one, over all answers.
    pub tokens_per_s: Option<f64>,
    /// What people said of the answers.
    pub feedback: FeedbackCounts,
}

/// Statistics from the rows of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// Over which time.
    pub span: Span,
    /// By service, and by application at it.
    pub lines: Vec<ServiceStats>,
    /// Whether there were more rows than are read; then only the newest count.
    pub is_cut: bool,
    /// What guards found on the days of that time.
    pub guards: Vec<GuardStats>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_of_a_core_costs_its_price() {
        let price = ComputePrice { core_hour_micros: Some(50_000), gpu_hour_micros: Some(2_000_000) };
        assert_eq!(price.amount(3_600_000, 0), Pico(50_000 * 1_000_000));
        assert_eq!(price.amount(0, 1_800_000), Pico(1_000_000 * 1_000_000));
        // One millisecond at one micro-unit: 0.2777… pico-units.
        let tiny = ComputePrice { core_hour_micros: Some(1), gpu_hour_micros: None };
        assert_eq!((tiny.amount(1, 0), tiny.amount(2, 0), tiny.amount(18, 0)), (Pico(0), Pico(1), Pico(5)));
        assert_eq!(ComputePrice::default().amount(u64::MAX, u64::MAX), Pico(0));
        let most = ComputePrice { core_hour_micros: Some(u64::MAX), gpu_hour_micros: None };
        assert!(most.amount(u32::MAX.into(), 0).0 > 0);
    }
}
