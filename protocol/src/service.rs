//! Services: what can be called. Pools: where they run. Prices.

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::id::{ApplicationId, ServiceId, VersionId};
use crate::upstream::Upstream;

/// A published version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// Identity.
    pub id: ServiceId,
    /// Unique name: what `model` says in a request.
    pub name: String,
    /// What it serves; of an upstream a name for its address, model and key, made anew when one of them changes.
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
    /// For whom it is kept, and for how much; none where nobody reserved it.
    pub reserved: Option<Reserved>,
    /// The alias of the version's model that it follows; none when it was published by number.
    pub follows: Option<String>,
    /// When it was made, Unix milliseconds.
    pub created_at_ms: i64,
    /// Who made it.
    pub created_by: String,
    /// The server elsewhere that answers; none where a version does.
    pub upstream: Option<Upstream>,
}

/// A reservation of a service: it costs by the hour while the service is on, whether it is asked or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserved {
    /// Who pays.
    pub application: ApplicationId,
    /// Micro-units of the store's currency for an hour.
    pub hour_micros: u64,
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
    /// `name@number` of what it serves; `upstream:MODEL` where a server elsewhere answers.
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
    /// What its worker's memory is for; none before it said so.
    pub memory: Option<ServingMemory>,
    /// The version that is to take over, while it does not answer yet.
    pub moving: Option<Moving>,
    /// What is wrong with its upstream; none while that answers.
    pub trouble: Option<Failure>,
}

/// What the memory of a serving process is for, as it counts by itself. The system counts pages: a cache takes them as it is
/// used, and weights are pages of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServingMemory {
    /// Tensors of the base.
    pub weights_bytes: u64,
    /// Contexts, that of the bare base and one for each adapter in use.
    pub contexts: Vec<ContextMemory>,
}

/// What one context of a serving process holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextMemory {
    /// The adapter's version; none for the bare base.
    pub adapter: Option<VersionId>,
    /// The adapter's file.
    pub adapter_bytes: u64,
    /// Keys and values of the tokens that its slots hold, those of ended answers included: they are what prompts find again.
    pub cache_bytes: u64,
    /// Keys and values of full slots.
    pub cache_bytes_max: u64,
}
