//! `/v1/batches`: OpenAI's batches over the jobs of kind `batch`. Lives here: the routes and the shape of a batch.
//! Never here: how lines are asked (`jobs/`), what they mean (`lines.rs`), files (`files.rs`).

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path as InPath, Query, Request, State};
use axum::http::Response;
use hone_protocol::batch::{BatchSpec, FileBatch};
use hone_protocol::failure::Failure;
use hone_protocol::id::FileId;
use hone_protocol::job::{JobSpec, JobState, JobView, Wish};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::desk::{Caller, Desk};
use super::failure::Refusal;
use super::fields::{self, missing, wrong_type};
use super::files::{Made, digits, respond, unknown};
use super::lines::ENDPOINTS;
use super::{Room, read_body};

/// Batches in one list, when the request does not say; and at most.
const LIST: usize = 20;
const LIST_MAX: usize = 100;
/// The one window that is taken; nothing depends on it.
const WINDOW: &str = "24h";
/// Seconds of it.
const WINDOW_S: i64 = 24 * 3600;
/// Prefix of a batch's id.
const PREFIX: &str = "batch_";

/// `POST /v1/batches`.
pub(super) async fn create<D: Desk>(
    State(room): State<Room<D>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response<Body> {
    respond(try_create(&room, &caller, request).await)
}

async fn try_create<D: Desk>(room: &Room<D>, caller: &Caller, request: Request) -> Result<Value, Refusal> {
    let mut fields = fields::read(&read_body(request, &room.limits).await?)?;
    let mut text = |name: &'static str| match fields.take(name) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(wrong_type(name, "a text")),
        None => Err(missing(name)),
    };
    let (input, endpoint, window) = (text("input_file_id")?, text("endpoint")?, text("completion_window")?);
    if !ENDPOINTS.contains(&endpoint.as_str()) {
        let message = format!("endpoint must be one of {}", ENDPOINTS.join(", "));
        return Err(Refusal::param("endpoint", "unsupported_value", message));
    }
    if window != WINDOW {
        let message = format!("completion_window must be {WINDOW:?}");
        return Err(Refusal::param("completion_window", "unsupported_value", message));
    }
    let metadata = fields.metadata()?;
    let known = room.desk.files(caller);
    let file = input.parse::<FileId>().ok().and_then(|id| known.into_iter().find(|file| file.id == id));
    let file = file.ok_or_else(|| unknown("file", &input))?;
    let batch = FileBatch {
        file: file.id,
        filename: file.filename.clone(),
        endpoint,
        payer: caller.application_name.clone(),
        metadata,
        window,
    };
    room.desk.submit(caller, batch).await.map(|job| object(&job)).map_err(Refusal::from)
}

/// What a list may be asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    limit: Option<usize>,
    after: Option<String>,
}

/// `GET /v1/batches`.
pub(super) async fn list<D: Desk>(
    State(room): State<Room<D>>,
    Extension(caller): Extension<Caller>,
    Query(page): Query<Page>,
) -> Response<Body> {
    let all = room.desk.batches(&caller);
    let from = match &page.after {
        Some(after) => all.iter().position(|job| id(job) == *after).map_or(all.len(), |at| at + 1),
        None => 0,
    };
    let limit = page.limit.unwrap_or(LIST).clamp(1, LIST_MAX);
    let rest = all.get(from..).unwrap_or_default();
    let shown: Vec<Value> = rest.iter().take(limit).map(object).collect();
    respond(Ok(json!({
        "object": "list",
        "first_id": shown.first().map(|batch| batch["id"].clone()),
        "last_id": shown.last().map(|batch| batch["id"].clone()),
        "has_more": rest.len() > limit,
        "data": shown,
    })))
}

/// `GET /v1/batches/{id}`.
pub(super) async fn retrieve<D: Desk>(
    State(room): State<Room<D>>,
    Extension(caller): Extension<Caller>,
    id: Result<InPath<String>, PathRejection>,
) -> Response<Body> {
    respond(find(&room.desk, &caller, id).map(|job| object(&job)))
}

/// `POST /v1/batches/{id}/cancel`.
pub(super) async fn cancel<D: Desk>(
    State(room): State<Room<D>>,
    Extension(caller): Extension<Caller>,
    id: Result<InPath<String>, PathRejection>,
) -> Response<Body> {
    let cancelled = match find(&room.desk, &caller, id) {
        // One that is being cancelled already is answered as it stands.
        Ok(job) if job.record.wish == Some(Wish::Cancel) => Ok(job),
        Ok(job) => room.desk.cancel(&caller, job.record.id).await.map_err(Refusal::from),
        Err(refusal) => Err(refusal),
    };
    respond(cancelled.map(|job| object(&job)))
}

fn id(job: &JobView) -> String {
    format!("{PREFIX}{}", digits(job.record.id))
}

fn find<D: Desk>(desk: &D, caller: &Caller, wanted: Result<InPath<String>, PathRejection>) -> Result<JobView, Refusal> {
    let wanted = wanted.map_or_else(|_| String::new(), |InPath(wanted)| wanted);
    let found = desk.batches(caller).into_iter().find(|job| id(job) == wanted);
    found.ok_or_else(|| unknown("batch", &wanted))
}

/// The word of the protocol for where a batch stands.
fn status(job: &JobView) -> &'static str {
    let counted = job.record.batch.is_some_and(|counts| counts.rows > 0);
    match (&job.record.state, job.record.wish) {
        (JobState::Succeeded(_), _) => "completed",
        (JobState::Failed(_), _) => "failed",
        (JobState::Cancelled, _) => "cancelled",
        (JobState::Queued, Some(Wish::Cancel)) => "cancelling",
        (JobState::Queued, _) if counted => "in_progress",
        (JobState::Queued, _) => "validating",
    }
}

/// A batch as the protocol shows it.
fn object(job: &JobView) -> Value {
    let record = &job.record;
    let JobSpec::Batch(BatchSpec::File(spec)) = &record.spec else { return Value::Null };
    let status = status(job);
    let seconds = |ms: Option<i64>| ms.map(|ms| ms.div_euclid(1000));
    let ended = |word: &str| (status == word).then(|| seconds(record.ended_at_ms)).flatten();
    let made = Made::of(job);
    let file = |failed: bool| made.iter().find(|one| one.failed == failed).map(Made::id);
    let counts = record.batch.unwrap_or_default();
    let created = record.created_at_ms.div_euclid(1000);
    let metadata: Map<String, Value> =
        spec.metadata.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
    let errors = match &record.state {
        JobState::Failed(failure) => json!({"object": "list", "data": errors(failure)}),
        _ => Value::Null,
    };
    json!({
        "id": id(job),
        "object": "batch",
        "endpoint": spec.endpoint,
        "errors": errors,
        "input_file_id": spec.file,
        "completion_window": spec.window,
        "status": status,
        "output_file_id": file(false),
        "error_file_id": file(true),
        "created_at": created,
        "in_progress_at": seconds(record.started_at_ms),
        "expires_at": created + WINDOW_S,
        "finalizing_at": ended("completed"),
        "completed_at": ended("completed"),
        "failed_at": ended("failed"),
        "expired_at": null,
        "cancelling_at": ended("cancelled"),
        "cancelled_at": ended("cancelled"),
        "request_counts": {"total": counts.rows, "completed": counts.answered, "failed": counts.failed},
        "usage": {
            "input_tokens": counts.prompt_tokens,
            "input_tokens_details": {"cached_tokens": counts.cached_tokens},
            "output_tokens": counts.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": counts.prompt_tokens + counts.completion_tokens,
        },
        "metadata": metadata,
    })
}

/// One entry for each line that was wrong; else one for the whole.
fn errors(failure: &Failure) -> Vec<Value> {
    let refusal = Refusal::from(failure.clone());
    let of_line = |(line, reason): &(String, String)| {
        let line: u64 = line.parse().ok()?;
        Some(json!({"code": "invalid_line", "line": line, "message": reason, "param": null}))
    };
    let lines: Vec<Value> = failure.args.iter().filter_map(of_line).collect();
    match lines.is_empty() {
        true => vec![json!({"code": refusal.code(), "line": null, "message": refusal.message(), "param": null})],
        false => lines,
    }
}
