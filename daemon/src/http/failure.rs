//! From a [`Failure`] to the error shape of the OpenAI protocol, and the refusals that only HTTP knows.
//! Lives here: statuses, type strings, codes, `Retry-After`. Never here: deciding that something failed.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use hone_protocol::catalogue::{self, Language};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use serde::Serialize;
use serde_json::Value;

use super::{RequestId, rate};
use crate::dispatcher::Allowance;

/// Name of the argument of a [`Failure`] that says after how many seconds to try again.
pub const RETRY_AFTER_ARG: &str = "retry_after_s";
/// Tells clients of the OpenAI protocol not to try again.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// `Retry-After` in seconds when the failure does not say.
const RETRY_AFTER_S: u64 = 2;

/// An answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    code: Cow<'static, str>,
    message: String,
    param: Option<String>,
    retry_after_s: Option<u64>,
    allow: Option<String>,
    /// What limits leave.
    allowance: Allowance,
    /// Whether trying again is of no use.
    is_final: bool,
    /// For the owner's log: what the caller is not told.
    trouble: Option<Trouble>,
    /// The request's id in the ledger, where it has a row.
    request: Option<RequestId>,
    /// Whether it is told in the shape of the Anthropic protocol.
    is_anthropic: bool,
}

/// What went wrong on this machine, in full, for the owner's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble(Box<str>);

impl Trouble {
    /// Writes it to the log under the id that the caller was told.
    pub(super) fn log(&self, request_id: &str) {
        // Words of a child stand in it: no line ends and no terminal sequences.
        let plain: String = self.0.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        eprintln!("honed: request {request_id}: {plain}");
    }
}

/// The body of an error, also as a `data:` frame after the headers have left.
#[derive(Debug, Serialize)]
pub(super) struct ErrorBody<'a> {
    error: ErrorShape<'a>,
}

#[derive(Debug, Serialize)]
struct ErrorShape<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<&'a str>,
    code: &'a str,
}

impl Refusal {
    /// A refusal with a status, a machine-readable code and a sentence.
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal {
            status,
            code: Cow::Borrowed(code),
            message: message.into(),
            param: None,
            retry_after_s: None,
            allow: None,
            allowance: Allowance::default(),
            is_final: false,
            trouble: None,
            request: None,
            is_anthropic: false,
        }
    }

    /// A request that does not make sense in one field.
    pub(super) fn param(param: impl Into<String>, code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { param: Some(param.into()), ..Refusal::new(StatusCode::BAD_REQUEST, code, message) }
    }

    /// A body that is no request at all.
    pub(super) fn malformed(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, "invalid_json", message)
    }

    /// No key or a wrong one. One body for every reason, so that nothing can be learnt from it.
    pub(super) fn wrong_key() -> Refusal {
        Refusal::new(
            StatusCode::UNAUTHORIZED,
            "invalid_api_key",
            "no valid API key; send the header 'Authorization: Bearer KEY'. The owner makes one with: hone key create",
        )
    }

    /// A name that the caller may not call or that does not exist: the same answer for both.
    pub(super) fn unknown_model(name: &str, nearest: &[&str]) -> Refusal {
        let shown: String = name.chars().take(64).collect();
        let offer = match nearest {
            [] => "this key may call no model yet".to_owned(),
            [one] => format!("nearest: {one}"),
            names => format!("nearest: {}", names.join(", ")),
        };
        Refusal {
            param: Some("model".to_owned()),
            ..Refusal::new(
                StatusCode::NOT_FOUND,
                "model_not_found",
                format!("there is no model {shown:?} that this key may call; {offer}"),
            )
        }
    }

    /// A path that has no route.
    pub(super) fn unknown_route(method: &str, path: &str) -> Refusal {
        let shown: String = path.chars().take(128).collect();
        Refusal::new(
            StatusCode::NOT_FOUND,
            "unknown_url",
            format!("there is no route {method} {shown:?}; the routes are in docs/http.md"),
        )
    }

    /// A path that exists under another method.
    pub(super) fn wrong_method(method: &str, allow: &str) -> Refusal {
        Refusal {
            allow: Some(allow.to_owned()),
            ..Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                format!("this route does not know {method}; it knows {allow}"),
            )
        }
    }

    /// The refusal of a request that has a row.
    pub(super) fn of(self, request: RequestId) -> Refusal {
        Refusal { request: Some(request), ..self }
    }

    /// The same refusal with another status.
    pub(super) fn with_status(self, status: StatusCode) -> Refusal {
        Refusal { status, ..self }
    }

    /// The failure that a line of a batch has, whose response is this refusal.
    pub(super) fn failure(self) -> Failure {
        let code = match self.param {
            Some(_) => FailureCode::InvalidField,
            None => FailureCode::InvalidRequest,
        };
        Failure::new(code, self.message).at(self.param.unwrap_or_default())
    }

    /// The machine-readable code.
    pub(super) fn code(&self) -> &str {
        &self.code
    }

    /// The same refusal in the shape of the Anthropic protocol.
    pub(super) fn anthropic(self) -> Refusal {
        Refusal { is_anthropic: true, ..self }
    }

    /// The JSON of the error in that shape.
    pub(super) fn anthropic_body(&self) -> Value {
        let kind = match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            503 => "overloaded_error",
            400..=499 => "invalid_request_error",
            _ => "api_error",
        };
        serde_json::json!({"type": "error", "error": {"type": kind, "message": self.message}})
    }

    /// The sentence.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// The status.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// What the owner should read in the log.
    pub(super) fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// The JSON of the error.
    pub(super) fn body(&self) -> ErrorBody<'_> {
        ErrorBody {
            error: ErrorShape {
                message: &self.message,
                kind: kind(self.status),
                param: self.param.as_deref(),
                code: &self.code,
            },
        }
    }
}

/// The type string that clients of the protocol know for a status.
fn kind(status: StatusCode) -> &'static str {
    match status.as_u16() {
        403 => "permission_error",
        409 => "conflict_error",
        429 => "rate_limit_error",
        501 => "not_supported_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        if failure.code == FailureCode::Unauthenticated {
            return Refusal::wrong_key();
        }
        let status = StatusCode::from_u16(status(failure.code)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Refusal {
            status,
            code: code(failure.code),
            message: sentence(&failure),
            param: param(&failure),
            retry_after_s: retry_after_s(&failure, status),
            allow: None,
            allowance: rate::of(&failure),
            is_final: failure.code == FailureCode::BudgetSpent,
            trouble: trouble(&failure, status),
            request: None,
            is_anthropic: false,
        }
    }
}

/// The status of a failure that a caller meets. What is wrong with the files behind a service is a wrong request
/// where an owner names the file, but never a wrong request of a caller, who has sent none.
fn status(code: FailureCode) -> u16 {
    use FailureCode::*;
    match code {
        BadFile | BadCheckpoint | FileUnreadable | HashMismatch | UnsupportedArchitecture | NoRows => 500,
        other => other.http_status(),
    }
}

/// The code: OpenAI's word where it has one, else ours.
fn code(code: FailureCode) -> Cow<'static, str> {
    match code {
        FailureCode::ContextExceeded => Cow::Borrowed("context_length_exceeded"),
        FailureCode::LimitReached => Cow::Borrowed("rate_limit_exceeded"),
        FailureCode::BudgetSpent => Cow::Borrowed("insufficient_quota"),
        FailureCode::InvalidField => Cow::Borrowed("invalid_value"),
        FailureCode::FormatNotKept => Cow::Borrowed("format_not_kept"),
        FailureCode::RefusedByGuard => Cow::Borrowed("content_filter"),
        FailureCode::NotFound => Cow::Borrowed("model_not_found"),
        other => match serde_json::to_value(other) {
            Ok(serde_json::Value::String(word)) => Cow::Owned(word),
            _ => Cow::Borrowed("internal"),
        },
    }
}

/// Only what went wrong on this machine: callers' mistakes, and callers who wait for a service to load, would fill
/// the log.
fn trouble(failure: &Failure, status: StatusCode) -> Option<Trouble> {
    let place = if failure.place.is_empty() { String::new() } else { format!(" at {}", failure.place) };
    let text = || format!("{:?}{place}: {}", failure.code, failure.message_en).into_boxed_str();
    let is_ordinary = matches!(
        failure.code,
        FailureCode::ServiceUnavailable | FailureCode::Stopping | FailureCode::UpstreamUnavailable
    );
    (status.is_server_error() && !is_ordinary).then(|| Trouble(text()))
}

/// Which field is meant, when one is.
fn param(failure: &Failure) -> Option<String> {
    match failure.code {
        FailureCode::ContextExceeded if failure.place.starts_with("input") => Some(failure.place.clone()),
        FailureCode::ContextExceeded | FailureCode::TemplateFailed => Some("messages".to_owned()),
        FailureCode::NotFound => Some("model".to_owned()),
        FailureCode::InvalidField | FailureCode::InvalidRequest | FailureCode::RefusedByGuard
            if !failure.place.is_empty() =>
        {
            Some(failure.place.clone())
        }
        _ => None,
    }
}

/// What the holder of a key may read. Troubles of this machine are named, but without paths and log lines:
/// those are for the owner, who finds them under the request id.
fn sentence(failure: &Failure) -> String {
    use FailureCode::*;
    let fixed = match failure.code {
        Internal => Some("hone made a mistake while answering; nothing was billed beyond what you received"),
        WorkerDied => Some("the process that answers ended in the middle; try again"),
        WorkerSilent => Some("the process that answers did not say anything in time; try again"),
        NotSaved | DiskFull => Some("the usage of this request cannot be recorded now, so the answer ends here"),
        DoesNotFit => Some("the service does not fit into the memory of this machine now"),
        Quarantined => Some("this request brought the answering process down before and is not tried again"),
        BadFile | BadCheckpoint | FileUnreadable | HashMismatch | UnsupportedArchitecture | NoRows => {
            Some("the files of this service are not as they should be; tell its owner")
        }
        _ => None,
    };
    if let Some(sentence) = fixed {
        return sentence.to_owned();
    }
    match failure.hint.and_then(hint) {
        Some(hint) => format!("{}; {hint}", failure.message_en),
        None => failure.message_en.clone(),
    }
}

/// The English sentence of a hint that makes sense to the holder of a key.
fn hint(hint: HintCode) -> Option<&'static str> {
    let key = match hint {
        HintCode::TryAgain => "hint.try_again",
        HintCode::CorrectField => "hint.correct_field",
        HintCode::ShortenPrompt => "hint.shorten_prompt",
        // The others are about commands that only the owner has.
        _ => return None,
    };
    catalogue::find(Language::En, key)
}

fn retry_after_s(failure: &Failure, status: StatusCode) -> Option<u64> {
    let said = failure.args.iter().find(|(name, _)| name == RETRY_AFTER_ARG).and_then(|(_, value)| value.parse().ok());
    match status {
        // Money does not come back by waiting.
        _ if failure.code == FailureCode::BudgetSpent => None,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Some(said.unwrap_or(RETRY_AFTER_S)),
        _ => said,
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response<Body> {
        let body = match self.is_anthropic {
            true => self.anthropic_body().to_string().into_bytes(),
            false => super::openai::json(&self.body()),
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        rate::tell(self.allowance, headers);
        if self.is_final {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        if let Some(allow) = self.allow.and_then(|allow| HeaderValue::try_from(allow).ok()) {
            headers.insert(ALLOW, allow);
        }
        if let Some(request) = self.request {
            response.extensions_mut().insert(request);
        }
        if let Some(trouble) = self.trouble {
            response.extensions_mut().insert(trouble);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(failure: Failure) -> String {
        let refusal = Refusal::from(failure);
        format!(
            "{} retry {:?} {}",
            refusal.status().as_u16(),
            refusal.retry_after_s,
            String::from_utf8(super::super::openai::json(&refusal.body())).unwrap()
        )
    }

    #[test]
    fn every_failure_has_its_row() {
        let rows: Vec<String> = FailureCode::ALL
            .iter()
            .map(|c| shape(Failure::new(*c, format!("the sentence of {c:?}")).at("/the/place")))
            .collect();
        insta::assert_snapshot!("failure_rows", rows.join("\n"));
    }

    #[test]
    fn a_failure_says_when_to_try_again() {
        let failure =
            Failure::new(FailureCode::LimitReached, "the budget of this minute is used up").arg(RETRY_AFTER_ARG, 41);
        assert!(shape(failure).starts_with("429 retry Some(41)"));
    }

    #[test]
    fn paths_of_this_machine_stay_with_the_owner() {
        let refusal = Refusal::from(Failure::new(FailureCode::BadFile, "cannot read secret.gguf").at("/home/owner"));
        assert_eq!(refusal.trouble().unwrap().0.as_ref(), "BadFile at /home/owner: cannot read secret.gguf");
        assert!(Refusal::from(Failure::new(FailureCode::ContextExceeded, "too long")).trouble().is_none());
        for code in [FailureCode::Internal, FailureCode::BadFile, FailureCode::DiskFull, FailureCode::WorkerDied] {
            let text = shape(Failure::new(code, "cannot read /home/owner/secret.gguf").at("/home/owner"));
            assert!(!text.contains("/home"), "{text}");
        }
    }
}
