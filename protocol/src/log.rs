//! The request log of an application: what was asked and what was answered, in full, where its owner has turned that on; and what
//! people say of answers. Never here: files, which request is logged.

use serde::{Deserialize, Serialize};

use crate::application::Outcome;
use crate::dataset::Shape;
use crate::generate::{Prompt, PromptText, Wish};
use crate::guard::GuardHit;
use crate::id::{ApplicationId, KeyId, LedgerId, ServiceId};
use crate::value::Hash;

/// Smallest and largest log of an application in bytes.
pub const LOG_FILES_BYTES: (u64, u64) = (1 << 20, 1 << 40);
/// Smallest and largest entry in bytes; an eighth of the whole log at most.
pub const LOG_ENTRY_BYTES: (u32, u32) = (1 << 10, 1 << 20);
/// Longest time that entries are kept, in days.
pub const LOG_DAYS_MAX: u32 = 3650;
/// Characters of a message and of an answer in a line of the list.
pub const LOG_SHOWN_CHARS: usize = 200;
/// Rows that one job makes of a log, at most.
pub const LOG_ROWS_MAX: usize = 20_000;
/// Longest comment on an answer, in bytes.
pub const COMMENT_BYTES_MAX: usize = 4 << 10;
/// Longest correction of an answer, in bytes.
pub const CORRECTION_BYTES_MAX: usize = 64 << 10;
/// Users who may say something of one answer.
pub const FEEDBACK_USERS_MAX: usize = 64;

/// How much of an application's requests is kept, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSettings {
    /// Percent of the requests, 1 to 100. Which ones follows from their ids alone.
    pub share_percent: u32,
    /// Days after which an entry is no longer shown.
    pub retention_days: u32,
    /// Whether personal data is masked before it is written.
    pub mask_pii: bool,
    /// Bytes of all entries; beyond it the oldest go.
    pub bytes_max: u64,
    /// Bytes of one entry; what is beyond is cut, and the entry says so.
    pub entry_bytes_max: u32,
}

impl Default for LogSettings {
    fn default() -> LogSettings {
        LogSettings {
            share_percent: 100,
            retention_days: 30,
            mask_pii: false,
            bytes_max: 256 << 20,
            entry_bytes_max: 256 << 10,
        }
    }
}

/// One logged request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogEntry {
    /// The response's id: its row in the ledger.
    pub id: LedgerId,
    /// When it was opened, Unix milliseconds.
    pub opened_at_ms: i64,
    /// When it was closed.
    pub at_ms: i64,
    /// With which key; none for the socket.
    pub key: Option<KeyId>,
    /// Name of the service.
    pub service: String,
    /// `name@number` of what answered.
    pub version: String,
    /// The route, `batch` or `socket`.
    pub route: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What it went on from, as it was sent, after guards.
    pub prompts: Vec<Prompt>,
    /// Answers to each of them.
    pub answers_wanted: u32,
    /// Longest answer that was asked for.
    pub tokens_max: Option<u32>,
    /// How it was asked.
    pub wish: Wish,
    /// What the model saw of each prompt: the template applied.
    pub rendered: Vec<PromptText>,
    /// The answers as they were delivered.
    pub answers: Vec<LoggedAnswer>,
    /// Prompt tokens, cached ones included.
    pub prompt_tokens: u64,
    /// Prompt tokens found in the cache.
    pub cached_tokens: u64,
    /// Completion tokens, as billed.
    pub completion_tokens: u64,
    /// Time to the first token in milliseconds.
    pub first_token_ms: Option<u32>,
    /// Time to the end in milliseconds.
    pub total_ms: Option<u32>,
    /// OpenAI `user`, may be empty.
    pub user: String,
    /// OpenAI `metadata`.
    pub metadata: Vec<(String, String)>,
    /// What guards found.
    pub guards: Vec<GuardHit>,
    /// Pieces of personal data that were masked before it was written.
    pub masked: u64,
    /// Bytes of texts that were cut because the entry was too long; 0 for a whole one.
    pub cut_bytes: u64,
}

/// One answer of a logged request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LoggedAnswer {
    /// Why it ended, in the word of the OpenAI protocol; empty when it did not.
    pub finish: String,
    /// What the model thought before.
    pub reasoning: String,
    /// The answer itself.
    pub text: String,
    /// Names of called tools with their arguments.
    pub calls: Vec<(String, String)>,
}

/// Which entries are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogQuery {
    /// Name of the application.
    pub application: String,
    /// Name of the service; empty for all.
    pub service: String,
    /// OpenAI `user`; empty for all.
    pub user: String,
    /// Closed at or after this moment, Unix milliseconds.
    pub since_ms: Option<i64>,
    /// Closed before this moment.
    pub until_ms: Option<i64>,
    /// Part of the response's id; empty for all.
    pub id: String,
    /// Part of a message or answer, whatever its case; empty for all.
    pub text: String,
    /// What was said of it.
    pub feedback: Option<FeedbackFilter>,
    /// `next` of the page before; empty for the first page.
    pub after: String,
    /// Lines of a page, up to [`crate::request::ROWS_MAX`].
    pub count: u32,
}

/// What was said of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedbackFilter {
    /// Anything.
    Any,
    /// More good than bad.
    Up,
    /// More bad than good.
    Down,
    /// A better answer.
    Corrected,
    /// Nothing.
    None,
}

/// An entry as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// The response's id.
    pub id: LedgerId,
    /// When it was closed, Unix milliseconds.
    pub at_ms: i64,
    /// Name of the service.
    pub service: String,
    /// `name@number` of what answered.
    pub version: String,
    /// OpenAI `user`, may be empty.
    pub user: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why its first answer ended.
    pub finish: String,
    /// Prompt tokens.
    pub prompt_tokens: u64,
    /// Completion tokens.
    pub completion_tokens: u64,
    /// Time to the end in milliseconds.
    pub total_ms: Option<u32>,
    /// The beginning of the last message.
    pub asked: String,
    /// The beginning of the first answer.
    pub answered: String,
    /// People who said that it is good, and bad.
    pub ratings: (u32, u32),
    /// Whether somebody wrote a better answer.
    pub is_corrected: bool,
    /// Matches of guards.
    pub guarded: u64,
    /// Bytes that were cut.
    pub cut_bytes: u64,
}

/// A page of a log, the newest entry first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogPage {
    /// The entries.
    pub lines: Vec<LogLine>,
    /// Where the next page begins; none for the last one.
    pub next: Option<String>,
    /// Bytes of the whole log.
    pub bytes: u64,
    /// Entries that were not written since the daemon started, because the disk was too slow or full.
    pub dropped: u64,
}

/// An entry with what people said of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogDetail {
    /// Name of the application.
    pub application: String,
    /// The entry; none where the request was not logged.
    pub entry: Option<LogEntry>,
    /// What people said.
    pub feedback: Vec<FeedbackRecord>,
}

/// Whether an answer is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rating {
    /// It is.
    Up,
    /// It is not.
    Down,
}

impl Rating {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Rating::Up => "up",
            Rating::Down => "down",
        }
    }
}

/// What somebody says of an answer. At least one of rating, comment and correction is there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Feedback {
    /// Whether it is good.
    pub rating: Option<Rating>,
    /// In words, may be empty.
    pub comment: String,
    /// A better answer, may be empty.
    pub correction: String,
    /// Who, as the application names them; may be empty. What the same user says later replaces this.
    pub user: String,
}

/// What somebody said of an answer, with the facts of its row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedbackRecord {
    /// The response.
    pub response: LedgerId,
    /// Whose it is.
    pub application: ApplicationId,
    /// What was called.
    pub service: ServiceId,
    /// `name@number` of what answered.
    pub version: String,
    /// What was said.
    pub feedback: Feedback,
    /// When, Unix milliseconds.
    pub at_ms: i64,
}

/// What people said of the answers of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FeedbackCounts {
    /// Said to be good.
    pub up: u64,
    /// Said to be bad.
    pub down: u64,
    /// With a better answer.
    pub corrections: u64,
}

impl FeedbackCounts {
    /// Adds one.
    pub fn add(&mut self, feedback: &Feedback) {
        match feedback.rating {
            Some(Rating::Up) => self.up += 1,
            Some(Rating::Down) => self.down += 1,
            None => {}
        }
        self.corrections += u64::from(!feedback.correction.is_empty());
    }

    /// Whether there are more good than bad words; none where there are as many.
    pub fn rating(&self) -> Option<Rating> {
        match self.up.cmp(&self.down) {
            std::cmp::Ordering::Greater => Some(Rating::Up),
            std::cmp::Ordering::Less => Some(Rating::Down),
            std::cmp::Ordering::Equal => None,
        }
    }
}

/// Which rows to make of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSelection {
    /// Which entries; its page is not looked at.
    pub query: LogQuery,
    /// Only these; empty for all that the query fits.
    pub ids: Vec<LedgerId>,
    /// Chats, or preferences.
    pub shape: Shape,
}

/// Whether a request is logged where so many percent are. It follows from the id alone: the same for ever.
pub fn is_sampled(hash: &Hash, share_percent: u32) -> bool {
    let number = hash.0[..8].iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    number % 100 < u64::from(share_percent)
}

/// The row in the ledger that a response's id means, in any of the forms in which clients are told it.
pub fn response_id(text: &str) -> Option<LedgerId> {
    let digits = text.rsplit(['-', '_']).next()?;
    format!("req-{digits}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_response_s_id_means_its_row() {
        let id = LedgerId::from_bytes([7; 16]);
        let digits = id.to_string().trim_start_matches("req-").to_owned();
        for text in
            [format!("chatcmpl-{id}"), format!("resp_{digits}"), format!("msg_{digits}"), id.to_string(), digits]
        {
            assert_eq!(response_id(&text), Some(id), "{text}");
        }
        assert_eq!(response_id("chatcmpl-abc"), None);
    }

    #[test]
    fn a_share_is_of_the_ids_alone() {
        let all: Vec<Hash> = (0..20_000_u64)
            .map(|n| {
                // Bytes as a hash has them: well mixed.
                let mixed = n
                    .wrapping_add(1)
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    .rotate_left(31)
                    .wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let mut bytes = [0; 32];
                bytes[..8].copy_from_slice(&mixed.to_be_bytes());
                Hash(bytes)
            })
            .collect();
        let share = |percent| all.iter().filter(|hash| is_sampled(hash, percent)).count();
        assert_eq!((share(0), share(100)), (0, all.len()));
        assert!((4_600..5_400).contains(&share(25)), "{}", share(25));
        // What a smaller share has, a larger one has too.
        assert!(all.iter().filter(|hash| is_sampled(hash, 10)).all(|hash| is_sampled(hash, 11)));
    }
}
