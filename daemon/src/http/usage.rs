//! `GET /v1/usage` and `GET /metrics`: what was used, for the application that used it, and what is counted, for the owner.
//! Lives here: parameters and field names. Never here: a sum.

use axum::body::Body;
use axum::extract::{Extension, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use hone_protocol::application::Usage;
use hone_protocol::failure::FailureCode;
use hone_protocol::request::ROWS_MAX;
use hone_protocol::usage::{UsageBy, UsageLine, UsagePage, UsageQuery};
use serde_json::{Value, json};

use super::desk::{Caller, Desk};
use super::failure::Refusal;
use super::{Room, json_response};
use crate::state::OWNER;

/// Lines of a page when no limit is named.
const LINES: u32 = 100;
/// Parameters of `GET /v1/usage`. Another one is refused.
pub(super) const PARAMETERS: [&str; 6] = ["from", "to", "service", "group_by", "limit", "page"];

/// `GET /v1/usage`.
pub(super) async fn usage<D: Desk>(
    State(room): State<Room<D>>,
    Extension(caller): Extension<Caller>,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Response<Body> {
    let made = async {
        let query = read(&caller, parameters)?;
        let page = room.desk.usage(query).await.map_err(refusal)?;
        Ok(json_response(shape(&caller, &page).to_string().into_bytes()))
    };
    made.await.unwrap_or_else(|refusal: Refusal| refusal.into_response())
}

/// What is not found is a service or a day, not a model.
fn refusal(failure: hone_protocol::failure::Failure) -> Refusal {
    match failure.code {
        FailureCode::NotFound | FailureCode::InvalidField => {
            let param = if failure.place.is_empty() { "service" } else { failure.place.as_str() };
            // The socket's words for two of them.
            let param = match param {
                "by" => "group_by",
                "after" => "page",
                param => param,
            };
            Refusal::param(param.to_owned(), "invalid_value", failure.message_en)
        }
        _ => Refusal::from(failure),
    }
}

fn read(caller: &Caller, parameters: Vec<(String, String)>) -> Result<UsageQuery, Refusal> {
    let application = caller.application_name.clone();
    let mut query = UsageQuery { application, count: LINES, by: vec![UsageBy::Day], ..UsageQuery::default() };
    for (name, value) in parameters {
        match name.as_str() {
            "from" => query.from = value,
            "to" => query.to = value,
            "service" => query.service = value,
            "page" => query.after = value,
            "group_by" => {
                query.by = value.split(',').filter(|word| !word.is_empty()).map(by).collect::<Result<_, _>>()?
            }
            "limit" => match value.parse() {
                Ok(count @ 1..=ROWS_MAX) => query.count = count,
                _ => {
                    let message = format!("limit must be a whole number from 1 to {ROWS_MAX}");
                    return Err(Refusal::param("limit", "invalid_value", message));
                }
            },
            _ => {
                let message = format!("there is no such parameter; there are {}", PARAMETERS.join(", "));
                return Err(Refusal::param(super::fields::shown(&name), "unknown_parameter", message));
            }
        }
    }
    Ok(query)
}

fn by(word: &str) -> Result<UsageBy, Refusal> {
    match word {
        "day" => Ok(UsageBy::Day),
        "service" => Ok(UsageBy::Service),
        "user" => Ok(UsageBy::User),
        "key" => Ok(UsageBy::Key),
        _ => Err(Refusal::param("group_by", "invalid_value", "group_by is a list of day, service, user and key")),
    }
}

fn shape(caller: &Caller, page: &UsagePage) -> Value {
    let compute = page.compute.map(|compute| {
        json!({
            "core_ms": compute.core_ms, "gpu_ms": compute.gpu_ms,
            "amount": compute.amount.rounded(), "amount_pico": compute.amount,
        })
    });
    let reserved = json!({
        "reserved_ms": page.reserved.reserved_ms,
        "amount": page.reserved.amount.rounded(), "amount_pico": page.reserved.amount,
    });
    json!({
        "object": "usage", "application": caller.application_name,
        "from": page.from, "to": page.to, "zone": page.zone, "currency": page.currency,
        "data": page.lines.iter().map(line).collect::<Vec<_>>(),
        "total": sums(&page.total), "compute": compute, "reserved": reserved,
        "has_more": page.next.is_some(), "next_page": page.next,
    })
}

fn line(line: &UsageLine) -> Value {
    let mut shape = sums(&line.usage);
    let names = [("day", &line.day), ("service", &line.service), ("user", &line.user), ("key", &line.key)];
    for (name, value) in names {
        if let Some(value) = value {
            shape[name] = json!(value);
        }
    }
    shape
}

fn sums(usage: &Usage) -> Value {
    json!({
        "requests": usage.requests, "errors": usage.errors,
        "input_tokens": usage.prompt_tokens, "cached_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "amount": usage.amount.rounded(), "amount_pico": usage.amount,
    })
}

/// `GET /metrics`. What all applications do is for nobody but the owner.
pub(super) async fn metrics<D: Desk>(
    State(room): State<Room<D>>,
    Extension(caller): Extension<Caller>,
) -> Response<Body> {
    if caller.application_name != OWNER {
        let message = "only keys of the application owner may read this; make one with: hone key create owner";
        return Refusal::new(StatusCode::FORBIDDEN, "forbidden", message).into_response();
    }
    let mut response = Response::new(Body::from(room.desk.metrics()));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
