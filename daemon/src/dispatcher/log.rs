//! The request log's settings, and what people say of answers. Never here: entries, which are no facts of the store.

use std::sync::Arc;

use hone_protocol::failure::Failure;
use hone_protocol::log::{FeedbackRecord, LOG_DAYS_MAX, LOG_ENTRY_BYTES, LOG_FILES_BYTES, LogSettings};
use hone_protocol::request::Answer;
use tokio::sync::oneshot;

use super::Decider;
use super::effect::Effect;
use crate::store::{Table, codec, key};

/// Names the first setting that is out of its range.
fn check(log: &LogSettings) -> Result<(), Failure> {
    let outside = |field: &str, value: u64, least: u64, most: u64| {
        let message = format!("{field} is {value}; it must be between {least} and {most}");
        (!(least..=most).contains(&value)).then(|| Failure::field(field, message))
    };
    let (least, most) = LOG_FILES_BYTES;
    let (entry_least, entry_most) = LOG_ENTRY_BYTES;
    let entry_most = u64::from(entry_most).min(log.bytes_max / 8);
    let wrong = outside("share_percent", log.share_percent.into(), 1, 100)
        .or_else(|| outside("retention_days", log.retention_days.into(), 1, LOG_DAYS_MAX.into()))
        .or_else(|| outside("bytes_max", log.bytes_max, least, most))
        .or_else(|| outside("entry_bytes_max", log.entry_bytes_max.into(), entry_least.into(), entry_most));
    wrong.map_or(Ok(()), Err)
}

impl Decider {
    /// Turns the log of an application on or off. What is logged is let go by the same rules when it is off.
    pub(super) fn set_log(&mut self, name: &str, log: Option<LogSettings>) -> Result<Answer, Failure> {
        let mut application = (**self.state.application(name)?).clone();
        if let Some(log) = &log {
            check(log)?;
        }
        let off = |before: LogSettings| LogSettings { share_percent: 0, ..before };
        application.log = log.or_else(|| application.log.map(off));
        self.put_application(application);
        self.effects.push(Effect::SweepLog);
        Ok(Answer::Done)
    }

    pub(super) fn clear_log(&mut self, name: &str) -> Result<Answer, Failure> {
        let application = self.state.application(name)?.id;
        self.effects.push(Effect::ClearLog(application));
        Ok(Answer::Done)
    }

    /// Keeps what somebody says of an answer, in the place of what the same user said before.
    pub(super) fn keep_feedback(&mut self, mut record: FeedbackRecord, reply: oneshot::Sender<Result<(), Failure>>) {
        record.at_ms = self.now_ms;
        let at = key(&[record.application.bytes(), record.response.bytes(), record.feedback.user.as_bytes()]);
        self.writes.put(Table::Feedback, at, codec::record(&record));
        let counts = Arc::make_mut(&mut self.state.feedback_counts);
        counts.entry((record.service, record.application)).or_default().add(&record.feedback);
        self.effects.push(Effect::Heard(reply));
    }
}
