//! What a server elsewhere does wrong, as failures that name it and say what to do. Its refusal of *our* key is never told
//! as a refusal of the client's. Never here: connections, and what answers mean.

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use serde_json::Value;

use crate::http::RETRY_AFTER_ARG;

/// Longest text of a server's own that goes into a failure, in characters.
const WORDS_MAX: usize = 400;
/// Longest wait that is passed on, in seconds.
const RETRY_AFTER_S_MAX: u64 = 3600;

/// The server that is spoken to, for its failures.
#[derive(Debug, Clone)]
pub(super) struct Named {
    /// The service.
    pub(super) service: String,
    /// The address, which only the owner reads.
    pub(super) url: String,
    /// The model.
    pub(super) model: String,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Trouble {
    /// No connection.
    Unreachable(String),
    /// Nothing came in time: what was waited for, and how long.
    Silent(&'static str, u64),
    /// The connection ended before the answer did.
    Cut,
    /// An answer that is none.
    Garbage(String),
    /// It broke an answer off with an error of its own.
    BrokenOff(String),
    /// Another status than success.
    Status {
        /// The status.
        status: u16,
        /// Seconds to wait, when it said so.
        retry_after_s: Option<u64>,
        /// Where a redirect leads.
        location: Option<String>,
        /// The body, as far as it was read.
        body: Vec<u8>,
    },
}

impl Named {
    fn failure(&self, code: FailureCode, what: &str) -> Failure {
        Failure::new(code, format!("the upstream of service {} {what}", self.service))
            .at(self.url.clone())
            .arg("service", &self.service)
    }

    /// The failure that a client is told.
    pub(super) fn tell(&self, trouble: Trouble) -> Failure {
        let busy = |what: String| self.failure(FailureCode::UpstreamUnavailable, &what).hint(HintCode::TryAgain);
        let failed = |what: String| self.failure(FailureCode::UpstreamFailed, &what);
        match trouble {
            Trouble::Unreachable(why) => busy(format!("cannot be reached ({})", words(&why))),
            Trouble::Silent(what, ms) => busy(format!("{what} within {} s", ms.div_ceil(1000))),
            Trouble::Cut => failed("ended the connection in the middle of the answer".into()).hint(HintCode::TryAgain),
            Trouble::Garbage(what) => failed(format!("answered what is no answer of the OpenAI protocol: {what}")),
            Trouble::BrokenOff(what) => failed(format!("broke the answer off: {}", words(&what))),
            Trouble::Status { status, retry_after_s, location, body } => {
                let said = said(&body);
                self.status(status, retry_after_s, location, &said.0, &said.1)
            }
        }
    }

    fn status(&self, status: u16, wait_s: Option<u64>, location: Option<String>, text: &str, code: &str) -> Failure {
        let failed = |what: String| self.failure(FailureCode::UpstreamFailed, &what).hint(HintCode::CheckUpstream);
        let told = if text.is_empty() { String::new() } else { format!(": {text}") };
        let is_spent = code == "insufficient_quota";
        match status {
            300..=399 => {
                let place = location.map_or_else(|| "another place".to_owned(), |place| words(&place));
                failed(format!("redirects to {place}, which is not followed, because its key is for one place only"))
            }
            401 | 403 => {
                failed("refuses the key that hone has for it; this is not about the key of the request".into())
            }
            402 => failed("has no money left for hone's account there (402)".into()),
            429 if is_spent => failed("has no quota left for hone's account there (429)".into()),
            404 | 405 => failed(format!("has no model {:?}, or not this route ({status}){told}", self.model)),
            408 | 429 | 502..=504 | 529 => {
                let what = match status {
                    429 => "is asked too much by hone (429)".to_owned(),
                    _ => format!("does not answer now ({status})"),
                };
                let failure = self.failure(FailureCode::UpstreamUnavailable, &what).hint(HintCode::TryAgain);
                match wait_s {
                    Some(seconds) => failure.arg(RETRY_AFTER_ARG, seconds.min(RETRY_AFTER_S_MAX)),
                    None => failure,
                }
            }
            400 | 413 | 422 => {
                let is_long = code == "context_length_exceeded" || text.to_ascii_lowercase().contains("context length");
                let code = if is_long { FailureCode::ContextExceeded } else { FailureCode::InvalidRequest };
                let message = format!("the upstream of service {} refuses the request ({status}){told}", self.service);
                Failure::new(code, message).arg("service", &self.service)
            }
            _ => self.failure(FailureCode::UpstreamFailed, &format!("failed with status {status}{told}")),
        }
    }
}

/// A text of a stranger's in a form that terminals and logs can bear.
pub(super) fn words(text: &str) -> String {
    let plain: String = text.chars().take(WORDS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.trim().to_owned()
}

/// Text and code of an error's body, in the shapes that servers use.
fn said(body: &[u8]) -> (String, String) {
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return (String::new(), String::new()) };
    let text = |value: &Value| value.as_str().map(words);
    let error = value.get("error").unwrap_or(&value);
    let message = text(error)
        .or_else(|| error.get("message").and_then(text))
        .or_else(|| value.get("detail").and_then(text))
        .unwrap_or_default();
    let code = error.get("code").and_then(text).or_else(|| error.get("type").and_then(text)).unwrap_or_default();
    (message, code)
}

/// The sentence of an error object in a stream.
pub(super) fn sentence(error: &Value) -> String {
    let text = error.as_str().or_else(|| error.get("message").and_then(Value::as_str));
    words(text.unwrap_or("it said no reason"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named() -> Named {
        Named { service: "desk".into(), url: "https://up.example/v1".into(), model: "m".into() }
    }

    fn status(status: u16, body: &str) -> Failure {
        let location = (status == 302).then(|| "https://evil.example/".to_owned());
        named().tell(Trouble::Status { status, retry_after_s: Some(7), location, body: body.into() })
    }

    #[test]
    fn every_status_has_its_failure() {
        use FailureCode::*;
        for (number, body, code, part) in [
            (302, "", UpstreamFailed, "redirects to https://evil.example/"),
            (400, r#"{"error":{"message":"bad tool"}}"#, InvalidRequest, "refuses the request (400): bad tool"),
            (400, r#"{"error":{"message":"x","code":"context_length_exceeded"}}"#, ContextExceeded, "x"),
            (400, r#"{"message":"maximum context length is 8"}"#, ContextExceeded, "is 8"),
            (
                401,
                r#"{"error":{"message":"Incorrect API key sk-abc"}}"#,
                UpstreamFailed,
                "the key that hone has for it",
            ),
            (403, "", UpstreamFailed, "the key that hone has for it"),
            (404, r#"{"error":"no such model"}"#, UpstreamFailed, "has no model \"m\""),
            (422, r#"{"detail":"top_k"}"#, InvalidRequest, "top_k"),
            (429, "", UpstreamUnavailable, "asked too much"),
            (429, r#"{"error":{"code":"insufficient_quota"}}"#, UpstreamFailed, "no quota left"),
            (500, "<html>", UpstreamFailed, "failed with status 500"),
            (503, "", UpstreamUnavailable, "does not answer now (503)"),
        ] {
            let failure = status(number, body);
            assert_eq!(failure.code, code, "{number} {body}");
            assert!(failure.message_en.contains(part), "{}", failure.message_en);
            assert!(failure.message_en.contains("service desk"), "{}", failure.message_en);
            assert_ne!(failure.code.http_status(), 401, "{number}");
        }
        assert!(!status(401, r#"{"error":{"message":"Incorrect API key sk-abc"}}"#).message_en.contains("sk-abc"));
        let wait = |failure: Failure| failure.args.into_iter().find(|(name, _)| name == RETRY_AFTER_ARG).map(|a| a.1);
        assert_eq!(wait(status(429, "")), Some("7".to_owned()));
        assert_eq!(wait(status(500, "")), None);
    }

    #[test]
    fn texts_of_strangers_are_cut_and_plain() {
        let long = format!("{{\"error\":\"\u{1b}[31m{}\"}}", "x".repeat(5000)).replace('\u{1b}', "\\u001b");
        let failure = status(400, &long);
        assert!(failure.message_en.len() < 600 && !failure.message_en.contains('\u{1b}'));
    }
}
