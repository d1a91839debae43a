//! Services: what can be called. Pools: where they run. Prices.

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::id::{ServiceId, VersionId};

/// A published version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// Identity.
    pub id: ServiceId,
    /// Unique name: what `model` says in a request.
    pub name: String,
    /// What it serves.
    pub version: VersionId,
    /// Where it runs.
    pub pool: String,
    /// Sequences at once.
    pub slots: u32,
    /// Context of each, in tokens.
    pub context_tokens: u32,
    /// What a token costs.
    pub price: Price,
    /// Whether it is wanted: a durable wish, not whether it runs.
    pub wanted: bool,
    /// How long it stays loaded while nobody asks; `Keep::Ready` when nothing was said.
    pub keep: Option<Keep>,
    /// The alias of the version's model that it follows; none when it was published by number.
    pub follows: Option<String>,
    /// When it was made, Unix milliseconds.
    pub created_at_ms: i64,
    /// Who made it.
    pub created_by: String,
}

/// How long an idle service stays loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// Loaded from the start; while idle it makes room when a job or another service needs the memory, and the next
    /// request loads it again.
    #[default]
    Ready,
    /// Never unloaded.
    Pinned,
    /// Loaded by a request, and unloaded after so many minutes without one or when its memory is needed.
    Minutes(u32),
}

/// Micro-units of the store's currency per 1,000,000 tokens. Zero is a price; missing is not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Price {
    /// Prompt tokens that were computed.
    pub input_micros: Option<u64>,
    /// Prompt tokens that were found in the cache; the input price when missing.
    pub cached_micros: Option<u64>,
    /// Completion tokens.
    pub output_micros: Option<u64>,
}

/// Whether a service answers now. Never stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// Not wanted.
    Off,
    /// Not loaded; the next request loads it.
    Asleep,
    /// Its worker is loading.
    Starting,
    /// It answers.
    On,
    /// Its worker ended; the next try comes at the given time.
    Waiting {
        /// Unix milliseconds of the next try.
        retry_at_ms: i64,
        /// Why it ended.
        failure: Failure,
    },
    /// It was tried too often.
    Failed {
        /// Why it ended the last time.
        failure: Failure,
    },
}

/// What a service that follows an alias is on its way to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Moving {
    /// The version.
    pub version: VersionId,
    /// `name@number` of it.
    pub version_reference: String,
    /// Why it cannot be loaded; the version before answers meanwhile.
    pub failure: Option<Failure>,
}

/// A service as lists show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceView {
    /// The record.
    pub record: ServiceRecord,
    /// `name@number` of what it serves.
    pub version_reference: String,
    /// Whether it answers.
    pub state: ServiceState,
    /// Requests being answered now.
    pub active: u32,
    /// Requests waiting for a slot.
    pub waiting: u32,
    /// Times its worker was started again since the daemon started.
    pub restarts: u32,
    /// Requests closed since the daemon started.
    pub requests: u64,
    /// Resident memory of its worker in bytes; services of one base share a worker.
    pub memory_bytes: u64,
    /// Whether its model is an encoder: it makes embeddings and nothing else.
    pub is_encoder: bool,
    /// The version that is to take over, while it does not answer yet.
    pub moving: Option<Moving>,
}
