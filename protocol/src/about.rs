//! Small answers: how a chat ended, the daemon about itself, who did what. Never here: requests (`request`).

use serde::{Deserialize, Serialize};

use crate::event::Machine;
use crate::value::Pico;

/// How a chat answer ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatEnd {
    /// `stop` or `length`.
    pub finish: String,
    /// Prompt tokens, cached ones included.
    pub prompt_tokens: u64,
    /// Prompt tokens found in the cache.
    pub cached_tokens: u64,
    /// Completion tokens, as billed.
    pub completion_tokens: u64,
    /// Time to the first token in milliseconds.
    pub first_token_ms: u32,
    /// Time to the end in milliseconds.
    pub total_ms: u32,
    /// `name@number` of what answered.
    pub version: String,
    /// What it cost.
    pub amount: Pico,
}

/// The daemon about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of hone.
    pub version: String,
    /// Process id of honed.
    pub pid: u32,
    /// When it started, Unix milliseconds.
    pub started_at_ms: i64,
    /// The state directory.
    pub state_dir: String,
    /// The socket.
    pub socket: String,
    /// Where HTTP listens.
    pub http: Vec<String>,
    /// The machine.
    pub machine: Machine,
    /// What to know: a network home, a missing sandbox layer…, as English sentences.
    pub notes: Vec<String>,
    /// The billing zone (IANA) and currency.
    pub zone: String,
    /// The store's currency.
    pub currency: String,
}

/// One line of who did what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditRow {
    /// Its number.
    pub seq: u64,
    /// When, Unix milliseconds.
    pub at_ms: i64,
    /// Who.
    pub person: String,
    /// What kind of act: the request's name.
    pub verb: String,
    /// On what, by name or id.
    pub subject: String,
}
