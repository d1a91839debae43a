//! Alerts, and hooks that are told of them: a command, or an address that gets a POST.

use serde::{Deserialize, Serialize};

use crate::id::{AlertId, HookId};

/// Words of a program's output or a server's answer that are kept, in bytes.
pub const WORDS_BYTES_MAX: usize = 4096;
/// Longest time that a hook may take, in milliseconds.
pub const TIMEOUT_MS_MAX: u32 = 300_000;
/// The header that carries a body's signature: `sha256=` and the HMAC-SHA256 of `TIMESTAMP.BODY` in hexadecimal.
pub const SIGNATURE_HEADER: &str = "Hone-Signature";
/// The header that carries the time of the signature, Unix seconds.
pub const TIMESTAMP_HEADER: &str = "Hone-Timestamp";
/// The header that carries the alert's id, by which a receiver knows what it has seen already.
pub const ALERT_HEADER: &str = "Hone-Alert";

/// What can be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// A job ended well.
    JobSucceeded,
    /// A job failed.
    JobFailed,
    /// A job was cancelled.
    JobCancelled,
    /// A service's process ended by itself.
    ServiceDown,
    /// It answers again.
    ServiceUp,
    /// Many of a service's requests fail.
    ServiceErrors,
    /// An application used half, four fifths or all of its budget.
    BudgetCrossed,
    /// Little disk is left.
    DiskLow,
    /// A guard found something in a request or an answer.
    GuardHit,
    /// Somebody tries a hook.
    Test,
}

impl AlertKind {
    /// All of them with their words.
    pub const WORDS: [(AlertKind, &str); 10] = [
        (AlertKind::JobSucceeded, "job_succeeded"),
        (AlertKind::JobFailed, "job_failed"),
        (AlertKind::JobCancelled, "job_cancelled"),
        (AlertKind::ServiceDown, "service_down"),
        (AlertKind::ServiceUp, "service_up"),
        (AlertKind::ServiceErrors, "service_errors"),
        (AlertKind::BudgetCrossed, "budget_crossed"),
        (AlertKind::DiskLow, "disk_low"),
        (AlertKind::GuardHit, "guard_hit"),
        (AlertKind::Test, "test"),
    ];

    /// Its word.
    pub fn word(self) -> &'static str {
        AlertKind::WORDS.iter().find(|(kind, _)| *kind == self).map_or("", |(_, word)| word)
    }

    /// The kind of a word.
    pub fn named(word: &str) -> Option<AlertKind> {
        AlertKind::WORDS.iter().find(|(_, known)| *known == word).map(|(kind, _)| *kind)
    }

    /// Whether it is kept and shown although no hook asks for it.
    pub fn is_trouble(self) -> bool {
        !matches!(self, AlertKind::JobSucceeded | AlertKind::JobCancelled | AlertKind::GuardHit | AlertKind::Test)
    }
}

/// Something that happened and that somebody may want to be told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertRecord {
    /// Identity: the same in each try to deliver it.
    pub id: AlertId,
    /// What.
    pub kind: AlertKind,
    /// When, Unix milliseconds.
    pub at_ms: i64,
    /// Of what: the name of a service, an application or a guard, the id of a job.
    pub subject: String,
    /// A sentence in English.
    pub message: String,
    /// Named values.
    pub facts: Vec<(String, String)>,
}

/// Who is told, and of what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRecord {
    /// Identity.
    pub id: HookId,
    /// Unique name.
    pub name: String,
    /// Of what it is told.
    pub on: Vec<AlertKind>,
    /// How.
    pub target: HookTarget,
    /// How long one try may take, in milliseconds.
    pub timeout_ms: u32,
    /// When it was made, Unix milliseconds.
    pub created_at_ms: i64,
    /// Who made it.
    pub created_by: String,
    /// How the last try went.
    pub last: Option<HookTry>,
    /// Alerts that were delivered.
    pub delivered: u64,
    /// Alerts that were given up after the last try.
    pub given_up: u64,
    /// Alerts that were not queued, because too many waited.
    pub dropped: u64,
    /// Alerts that wait.
    pub waiting: u32,
}

/// How a hook is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookTarget {
    /// A program with its arguments; it reads the alert as JSON. It has no network.
    Command(Vec<String>),
    /// An address that gets the alert as JSON, signed.
    Webhook(String),
}

/// How a try went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookTry {
    /// Of which alert.
    pub alert: AlertId,
    /// When it ended, Unix milliseconds.
    pub at_ms: i64,
    /// Which try, from 1.
    pub number: u32,
    /// Whether it was delivered.
    pub ok: bool,
    /// Exit status or HTTP status.
    pub status: Option<i32>,
    /// The end of what the program or the server said.
    pub words: String,
    /// How long it took.
    pub ms: u64,
}

/// What `honed hook-run` and `honed hook-post` are to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookTask {
    /// How.
    pub target: HookTarget,
    /// The alert's id.
    pub alert: String,
    /// The body.
    pub body: String,
    /// What it is signed with; empty for commands.
    pub secret: String,
    /// Unix seconds.
    pub at_s: i64,
    /// How long it may take.
    pub timeout_ms: u32,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookOutcome {
    /// Whether it was delivered.
    pub ok: bool,
    /// Exit status or HTTP status.
    pub status: Option<i32>,
    /// The end of what was said.
    pub words: String,
}
