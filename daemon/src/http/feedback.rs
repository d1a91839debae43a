//! `POST /v1/feedback`: what an application's user says of one of its answers. Lives here: its fields. Never here: whose answer it is.

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use hone_protocol::failure::FailureCode;
use hone_protocol::log::{Feedback, Rating};
use serde_json::{Value, json};

use super::desk::{Caller, Desk};
use super::failure::Refusal;
use super::fields::{self, Fields, missing, out_of_range, wrong_type};
use super::{Room, answer, json_response, read_body};

/// The route.
pub(super) async fn create<D: Desk>(
    State(room): State<Room<D>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response<Body> {
    match try_create(&room, &caller, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

async fn try_create<D: Desk>(room: &Room<D>, caller: &Caller, request: Request) -> Result<Response<Body>, Refusal> {
    let mut fields = fields::read(&read_body(request, &room.limits).await?)?;
    let (response, feedback) = read(&mut fields)?;
    let heard = room.desk.hear(caller, &response, feedback.clone()).await;
    let id = heard.map_err(|failure| match failure.code {
        FailureCode::NotFound => {
            let message = "there is no such response of this key's application; response_id is the id of its answer";
            Refusal::param("response_id", "response_not_found", message).with_status(StatusCode::NOT_FOUND)
        }
        _ => Refusal::from(failure),
    })?;
    let body = json!({
        "object": "feedback", "response_id": response, "request_id": id, "rating": feedback.rating,
        "comment": feedback.comment, "correction": feedback.correction, "user": feedback.user,
    });
    let mut answer = json_response(body.to_string().into_bytes());
    answer::note_ignored(&mut answer, &fields.rest());
    Ok(answer)
}

fn read(fields: &mut Fields) -> Result<(String, Feedback), Refusal> {
    let response =
        text(fields, "response_id")?.filter(|text| !text.is_empty()).ok_or_else(|| missing("response_id"))?;
    let rating = match fields.take("rating") {
        None => None,
        Some(Value::String(word)) if word == "up" => Some(Rating::Up),
        Some(Value::String(word)) if word == "down" => Some(Rating::Down),
        Some(_) => return Err(out_of_range("rating", "rating must be up or down")),
    };
    let comment = text(fields, "comment")?.unwrap_or_default();
    let correction = text(fields, "correction")?.unwrap_or_default();
    let user = fields.user()?;
    Ok((response, Feedback { rating, comment, correction, user }))
}

fn text(fields: &mut Fields, name: &'static str) -> Result<Option<String>, Refusal> {
    match fields.take(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong_type(name, "a text")),
    }
}
