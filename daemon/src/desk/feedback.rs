//! What people say of answers: for an application's own responses, by its key or by a person, whether the log is on or off. Never
//! here: shapes of HTTP, counting.

use hone_protocol::application::LedgerRow;
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::guard::PiiKind;
use hone_protocol::id::{ApplicationId, LedgerId};
use hone_protocol::log::{
    COMMENT_BYTES_MAX, CORRECTION_BYTES_MAX, FEEDBACK_USERS_MAX, Feedback, FeedbackRecord, response_id,
};
use tokio::sync::oneshot;

use super::{ServiceDesk, is_limited};
use crate::dispatcher::event::Event;
use crate::dispatcher::ledger_key;
use crate::http::desk::Caller;
use crate::request_log::read;
use crate::store::{Table, codec};
use hone_data::pii;

/// Longest name of a user.
const USER_BYTES_MAX: usize = 256;

fn check(feedback: &Feedback) -> Result<(), Failure> {
    if feedback.rating.is_none() && feedback.comment.trim().is_empty() && feedback.correction.trim().is_empty() {
        return Err(Failure::field("rating", "say at least one of rating, comment and correction"));
    }
    let bounds = [
        ("comment", feedback.comment.len(), COMMENT_BYTES_MAX),
        ("correction", feedback.correction.len(), CORRECTION_BYTES_MAX),
        ("user", feedback.user.len(), USER_BYTES_MAX),
    ];
    match bounds.into_iter().find(|(_, bytes, most)| bytes > most) {
        Some((field, bytes, most)) => {
            Err(Failure::field(field, format!("{field} has {bytes} bytes; at most {most} are taken")))
        }
        None => Ok(()),
    }
}

impl ServiceDesk {
    /// The ledger's row of a response, whoever's it is.
    fn row_of(&self, application: ApplicationId, response: LedgerId) -> Result<Option<LedgerRow>, Failure> {
        let key = ledger_key(application, response);
        let value = self.store.get(Table::Ledger, &key)?;
        value.map(|value| codec::read(Table::Ledger, &key, &value).map_err(Failure::from)).transpose()
    }

    /// The response that a text means, and whose it is.
    pub(crate) fn response(&self, text: &str) -> Result<(LedgerId, ApplicationId), Failure> {
        let unknown = || Failure::not_found("response", text);
        let response = response_id(text).ok_or_else(unknown)?;
        for application in self.hub.state().applications.keys() {
            if self.row_of(*application, response)?.is_some() {
                return Ok((response, *application));
            }
        }
        Err(unknown())
    }

    /// Keeps what somebody says of a response of the caller's application; returns when that is durable.
    pub(super) async fn keep_feedback(
        &self,
        caller: &Caller,
        text: &str,
        mut feedback: Feedback,
    ) -> Result<LedgerId, Failure> {
        check(&feedback)?;
        let state = self.hub.state();
        if caller.key.is_some() && is_limited(&state, caller) {
            self.knock(caller).await?;
        }
        let unknown = || Failure::not_found("response", text);
        let response = response_id(text).ok_or_else(unknown)?;
        let row = self.row_of(caller.application, response)?.ok_or_else(unknown)?;
        let known = read::feedback_of(&self.store, caller.application, response)?;
        if known.len() >= FEEDBACK_USERS_MAX && !known.iter().any(|record| record.feedback.user == feedback.user) {
            let message = format!("{FEEDBACK_USERS_MAX} users have said something of this response already");
            return Err(Failure::new(FailureCode::WrongState, message).at("user"));
        }
        let settings = state.applications.get(&caller.application).and_then(|application| application.log);
        if settings.is_some_and(|settings| settings.mask_pii) {
            pii::mask(&mut feedback.comment, &PiiKind::ALL);
            pii::mask(&mut feedback.correction, &PiiKind::ALL);
        }
        let record = FeedbackRecord {
            response,
            application: caller.application,
            service: row.service,
            version: state.version_reference(row.version),
            feedback,
            at_ms: 0,
        };
        let (reply, durable) = oneshot::channel();
        self.events.post(Event::Feedback { record: Box::new(record), reply }).await;
        let ending = || Err(Failure::new(FailureCode::NotSaved, "the daemon is ending"));
        durable.await.unwrap_or_else(|_| ending()).map(|()| response)
    }
}
