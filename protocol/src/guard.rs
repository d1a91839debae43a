//! Guards: what must not pass into a service or out of it, and what happens to it. Never here: looking for it (the daemon does).

use serde::{Deserialize, Serialize};

/// Guards of a store. More are refused.
pub const GUARDS_MAX: usize = 64;
/// Words of a guard, and bytes of each.
pub const WORDS_MAX: usize = 2000;
/// Longest word in bytes.
pub const WORD_BYTES_MAX: usize = 256;
/// Regular expressions of a guard.
pub const PATTERNS_MAX: usize = 32;
/// Longest regular expression in bytes.
pub const PATTERN_BYTES_MAX: usize = 1024;
/// How far a match of a regular expression is followed from its beginning, in bytes. One that could be longer is one that ends
/// here: so no more than this is ever held back from a stream.
pub const WINDOW_BYTES: usize = 1024;
/// Longest text that a guard is tried on.
pub const TRIAL_BYTES_MAX: usize = 1 << 20;

/// What becomes of a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardAct {
    /// A mark stands in its place.
    Mask,
    /// The request is refused before anything is computed, or the answer ends in front of it.
    Refuse,
    /// It passes and is counted.
    Flag,
}

impl GuardAct {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            GuardAct::Mask => "mask",
            GuardAct::Refuse => "refuse",
            GuardAct::Flag => "flag",
        }
    }
}

/// Which way a text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardSide {
    /// Into the service.
    Input,
    /// Out of it.
    Output,
}

/// A kind of personal data that is told from other texts by its form and, where it has one, its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PiiKind {
    /// An e-mail address.
    Email,
    /// A telephone number: international, North American or Chinese.
    Phone,
    /// A number of a payment card: brand, length and Luhn digit are right.
    Card,
    /// An IBAN: country, length and check digits are right.
    Iban,
    /// A Chinese resident identity number: province, date and check digit are right.
    ChineseId,
    /// An IPv4 address.
    Ipv4,
}

impl PiiKind {
    /// All of them.
    pub const ALL: [PiiKind; 6] =
        [PiiKind::Email, PiiKind::Phone, PiiKind::Card, PiiKind::Iban, PiiKind::ChineseId, PiiKind::Ipv4];

    /// The word on the wire and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            PiiKind::Email => "email",
            PiiKind::Phone => "phone",
            PiiKind::Card => "card",
            PiiKind::Iban => "iban",
            PiiKind::ChineseId => "chinese_id",
            PiiKind::Ipv4 => "ipv4",
        }
    }

    /// The kind of a word.
    pub fn of(word: &str) -> Option<PiiKind> {
        PiiKind::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// What stands in its place where it is masked.
    pub fn mask(self) -> &'static str {
        match self {
            PiiKind::Email => "[EMAIL]",
            PiiKind::Phone => "[PHONE]",
            PiiKind::Card => "[CARD]",
            PiiKind::Iban => "[IBAN]",
            PiiKind::ChineseId => "[ID]",
            PiiKind::Ipv4 => "[IP]",
        }
    }
}

/// What stands in the place of a masked word or match of a regular expression.
pub const MASK: &str = "[MASKED]";

/// What a guard does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardSpec {
    /// Words and phrases, whatever their case. One that begins or ends with a Latin letter or a digit matches only whole words.
    pub words: Vec<String>,
    /// Regular expressions, in the syntax of Rust's regex crate.
    pub patterns: Vec<String>,
    /// Kinds of personal data.
    pub kinds: Vec<PiiKind>,
    /// Whether it looks at what goes in.
    pub input: bool,
    /// Whether it looks at what comes out.
    pub output: bool,
    /// What becomes of a match.
    pub act: GuardAct,
    /// Names of services that it stands at; empty for all.
    pub services: Vec<String>,
    /// Names of applications that it is for; empty for all.
    pub applications: Vec<String>,
}

/// A guard as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardRecord {
    /// Unique name, `[a-z0-9._-]`.
    pub name: String,
    /// What it does.
    pub spec: GuardSpec,
    /// When it was set last, Unix milliseconds.
    pub changed_at_ms: i64,
    /// Who set it.
    pub changed_by: String,
}

/// What a guard found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GuardCounts {
    /// Matches in what went in.
    pub input: u64,
    /// Matches in what came out.
    pub output: u64,
    /// Of these, requests that were refused and answers that were ended.
    pub refused: u64,
}

impl GuardCounts {
    /// Adds others.
    pub fn merge(&mut self, other: &GuardCounts) {
        self.input += other.input;
        self.output += other.output;
        self.refused += other.refused;
    }

    /// Adds what one request met.
    pub fn add(&mut self, hit: &GuardHit) {
        match hit.side {
            GuardSide::Input => self.input += hit.matches,
            GuardSide::Output => self.output += hit.matches,
        }
        if hit.act == GuardAct::Refuse {
            self.refused += 1;
        }
    }
}

/// What a guard found in one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardHit {
    /// Its name.
    pub guard: String,
    /// Where.
    pub side: GuardSide,
    /// What it did.
    pub act: GuardAct,
    /// Matches.
    pub matches: u64,
}

/// A guard as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardView {
    /// The record.
    pub record: GuardRecord,
    /// What it found, of all time.
    pub counts: GuardCounts,
}

/// What a guard found at a service in texts of an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardStats {
    /// Its name.
    pub guard: String,
    /// Name of the service.
    pub service: String,
    /// Name of the application.
    pub application: String,
    /// What it found.
    pub counts: GuardCounts,
}

/// What a guard would do to a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardTrial {
    /// What would pass: masked, or cut in front of what it refuses.
    pub passes: String,
    /// Whether it would refuse.
    pub refused: bool,
    /// Each match: its first byte, the first byte after it, and what it matches: `word`, `pattern` or a kind.
    pub matches: Vec<(u64, u64, String)>,
}
