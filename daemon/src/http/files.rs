//! `/v1/files`: files of requests that an application uploads for its batches, and the answers that come of them. Bytes go
//! to disk as they come and leave as they are read; nothing here holds a file in memory. Lives here: the routes and their
//! bounds. Never here: what the lines of a file mean (`lines.rs`), who may see what (the desk).

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path as InPath, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use hone_protocol::batch::FileRecord;
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::id::{FileId, JobId};
use hone_protocol::job::{JobState, JobView};
use http_body::Frame;
use serde_json::{Value, json};

use super::desk::{Caller, Desk};
use super::failure::Refusal;
use super::{Limits, Room, json_response, lines, openai};
use crate::clock;

/// Largest file. A larger one is refused with 413.
pub(super) const FILE_BYTES_MAX: u64 = 200 << 20;
/// Files of one application. More are refused until one is deleted.
const FILES_MAX: usize = 500;
/// Bytes of all files of one application. More are refused until one is deleted.
const ALL_BYTES_MAX: u64 = 4 << 30;
/// Longest name of a file; the rest is cut.
const NAME_CHARS_MAX: usize = 128;
/// Longest text field of the form beside the file.
const FIELD_BYTES_MAX: usize = 256;
/// Bytes of a file that leave at once.
const PIECE_BYTES: usize = 64 << 10;
/// Answers that are read at once.
const ROWS: usize = 64;
/// Ends the name of a file that is not whole. What is left of one is removed at the next start.
const PARTIAL: &str = ".partial";

/// `POST /v1/files`.
pub(super) async fn create<D: Desk>(
    State(room): State<Room<D>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response<Body> {
    respond(upload(&room, &caller, request).await.map(|file| object(&file)))
}

/// `GET /v1/files`.
pub(super) async fn list<D: Desk>(State(room): State<Room<D>>, Extension(caller): Extension<Caller>) -> Response<Body> {
    let files: Vec<Value> = room.desk.files(&caller).iter().map(|file| object(file)).collect();
    json_response(openai::json(&json!({"object": "list", "data": files, "has_more": false})))
}

/// `GET /v1/files/{id}`.
pub(super) async fn retrieve<D: Desk>(
    State(room): State<Room<D>>,
    Extension(caller): Extension<Caller>,
    id: Result<InPath<String>, PathRejection>,
) -> Response<Body> {
    let found = find(&room.desk, &caller, id).and_then(|found| match found {
        Found::Uploaded(file) => Ok(object(&file)),
        Found::Made(made) => made.object(&room.desk),
    });
    respond(found)
}

/// `GET /v1/files/{id}/content`.
pub(super) async fn content<D: Desk>(
    State(room): State<Room<D>>,
    Extension(caller): Extension<Caller>,
    id: Result<InPath<String>, PathRejection>,
) -> Response<Body> {
    let body = find(&room.desk, &caller, id).and_then(|found| match found {
        Found::Uploaded(file) => stored(&room.desk.folder().join(file.id.to_string())),
        Found::Made(made) => Ok(made.content(room.desk)),
    });
    let mut response = match body {
        Ok(body) => Response::new(Body::new(body)),
        Err(refusal) => return refusal.into_response(),
    };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/jsonl"));
    response
}

/// `DELETE /v1/files/{id}`.
pub(super) async fn delete<D: Desk>(
    State(room): State<Room<D>>,
    Extension(caller): Extension<Caller>,
    id: Result<InPath<String>, PathRejection>,
) -> Response<Body> {
    let (shown, removed) = match find(&room.desk, &caller, id) {
        Ok(Found::Uploaded(file)) => (file.id.to_string(), room.desk.remove_file(&caller, file.id).await),
        Ok(Found::Made(made)) => (made.id(), room.desk.let_rows_go(made.job.record.id, made.failed).await),
        Err(refusal) => return refusal.into_response(),
    };
    let deleted = json!({"id": shown, "object": "file", "deleted": true});
    respond(removed.map(|()| deleted).map_err(Refusal::from))
}

pub(super) fn respond(answer: Result<Value, Refusal>) -> Response<Body> {
    match answer {
        Ok(value) => json_response(openai::json(&value)),
        Err(refusal) => refusal.into_response(),
    }
}

fn object(file: &FileRecord) -> Value {
    json!({
        "id": file.id,
        "object": "file",
        "bytes": file.size_bytes,
        "created_at": file.created_at_ms.div_euclid(1000),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
    })
}

/// A file by its id.
enum Found {
    Uploaded(Arc<FileRecord>),
    Made(Box<Made>),
}

/// The answers of a batch, or its failed lines, as a file. It is read out of the rows that are kept: nothing is written twice.
pub(super) struct Made {
    pub(super) job: JobView,
    pub(super) failed: bool,
}

/// The answer to an id that nothing of this application has.
pub(super) fn unknown(kind: &str, id: &str) -> Refusal {
    let shown: String = id.chars().take(64).collect();
    Refusal::param("id", "not_found", format!("there is no {kind} {shown:?}")).with_status(StatusCode::NOT_FOUND)
}

fn find<D: Desk>(desk: &D, caller: &Caller, id: Result<InPath<String>, PathRejection>) -> Result<Found, Refusal> {
    let id = id.map_or_else(|_| String::new(), |InPath(id)| id);
    if let Ok(wanted) = id.parse::<FileId>() {
        let file = desk.files(caller).into_iter().find(|file| file.id == wanted);
        return file.map(Found::Uploaded).ok_or_else(|| unknown("file", &id));
    }
    let made = desk.batches(caller).into_iter().flat_map(|job| Made::of(&job));
    made.into_iter()
        .find(|made| made.id() == id)
        .map(|made| Found::Made(Box::new(made)))
        .ok_or_else(|| unknown("file", &id))
}

impl Made {
    /// The files that a batch has: none before it has ended, none for what did not happen.
    pub(super) fn of(job: &JobView) -> Vec<Made> {
        let counts = job.record.batch.unwrap_or_default();
        let ended = job.record.state != JobState::Queued;
        let made = |failed: bool, lines: u64| (ended && lines > 0).then(|| Made { job: job.clone(), failed });
        made(false, counts.answered).into_iter().chain(made(true, counts.failed)).collect()
    }

    pub(super) fn id(&self) -> String {
        let word = if self.failed { "errors" } else { "output" };
        format!("file-{word}-{}", digits(self.job.record.id))
    }

    fn object<D: Desk>(&self, desk: &D) -> Result<Value, Refusal> {
        let (mut from, mut bytes) = (0, 0);
        loop {
            let rows = desk.rows(self.job.record.id, self.failed, from, ROWS).map_err(Refusal::from)?;
            let Some(last) = rows.last() else { break };
            from = last.row + 1;
            bytes += rows.iter().map(|row| lines::write(row).len()).sum::<usize>();
        }
        if from == 0 {
            return Err(unknown("file", &self.id()));
        }
        let at_ms = self.job.record.ended_at_ms.unwrap_or_default();
        let purpose = if self.failed { "batch_error" } else { "batch_output" };
        Ok(json!({
            "id": self.id(),
            "object": "file",
            "bytes": bytes,
            "created_at": at_ms.div_euclid(1000),
            "filename": format!("{}.jsonl", self.id()),
            "purpose": purpose,
            "status": "processed",
        }))
    }

    fn content<D: Desk>(self, desk: D) -> Pieces {
        let mut from = 0;
        Pieces(Box::new(move || {
            let rows = desk.rows(self.job.record.id, self.failed, from, ROWS).map_err(|error| error.to_string())?;
            let Some(last) = rows.last() else { return Ok(None) };
            from = last.row + 1;
            Ok(Some(rows.iter().flat_map(lines::write).collect::<Vec<u8>>().into()))
        }))
    }
}

/// The characters of a job's id that its batch and files share.
pub(super) fn digits(job: JobId) -> String {
    job.to_string().split_once('-').map_or(String::new(), |(_, digits)| digits.to_owned())
}

/// Makes the next piece of a body; none at its end.
type Next = Box<dyn FnMut() -> Result<Option<Bytes>, String> + Send>;

/// A body that is made piece by piece, each of them small, when the connection wants it.
struct Pieces(Next);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = String;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, String>>> {
        Poll::Ready((self.0)().transpose().map(|piece| piece.map(Frame::data)))
    }
}

fn stored(path: &Path) -> Result<Pieces, Refusal> {
    let mut file = std::fs::File::open(path).map_err(|error| Refusal::from(broken(&error)))?;
    Ok(Pieces(Box::new(move || {
        let mut piece = vec![0; PIECE_BYTES];
        let read = file.read(&mut piece).map_err(|error| error.to_string())?;
        piece.truncate(read);
        Ok((read > 0).then(|| piece.into()))
    })))
}

fn broken(error: &std::io::Error) -> Failure {
    let code = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => FailureCode::DiskFull,
        _ => FailureCode::FileUnreadable,
    };
    Failure::new(code, format!("the file cannot be kept: {error}"))
}

/// A file in the making; removed when it is dropped before it is whole.
struct Partial {
    path: PathBuf,
    file: std::fs::File,
    bytes: u64,
    name: String,
}

impl Partial {
    fn begin(folder: &Path, id: FileId, name: &str) -> std::io::Result<Partial> {
        let path = folder.join(format!("{id}{PARTIAL}"));
        let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path)?;
        let name = name.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect();
        Ok(Partial { path, file, bytes: 0, name })
    }

    fn take(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        self.bytes += piece.len() as u64;
        if self.bytes > FILE_BYTES_MAX {
            return Err(too_large());
        }
        self.file.write_all(piece).map_err(|error| Refusal::from(broken(&error)))
    }

    /// Makes it whole and durable under its own name.
    fn keep(&mut self, folder: &Path, id: FileId) -> std::io::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.path, folder.join(id.to_string()))?;
        std::fs::File::open(folder)?.sync_all()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Nothing is there any more when it was kept.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn too_large() -> Refusal {
    let message = format!("a file may have {FILE_BYTES_MAX} bytes; cut it into several batches");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
}

/// Reads the form: `purpose` and one `file`, whose bytes go to disk as they come.
async fn upload<D: Desk>(room: &Room<D>, caller: &Caller, request: Request) -> Result<FileRecord, Refusal> {
    let files = room.desk.files(caller);
    let held: u64 = files.iter().map(|file| file.size_bytes).sum();
    if files.len() >= FILES_MAX || held >= ALL_BYTES_MAX {
        let message = format!("this application has {} files of {held} bytes; delete some first", files.len());
        return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too_many_files", message));
    }
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    if announced.is_some_and(|bytes: u64| bytes > FILE_BYTES_MAX + (64 << 10)) {
        return Err(too_large());
    }
    let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let boundary = multer::parse_boundary(kind).map_err(|error| {
        let message = format!("send the file as multipart/form-data: {error}");
        Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    })?;
    let mut form = multer::Multipart::new(request.into_body().into_data_stream(), boundary);
    let folder = room.desk.folder();
    let id: FileId = clock::new_id();
    let (mut purpose, mut file) = (None, None);
    while let Some(mut field) = within(&room.limits, form.next_field()).await? {
        match field.name() {
            Some("file") if file.is_none() => {
                let name = field.file_name().unwrap_or("upload.jsonl").to_owned();
                let mut partial = Partial::begin(&folder, id, &name).map_err(|error| Refusal::from(broken(&error)))?;
                while let Some(piece) = within(&room.limits, field.chunk()).await? {
                    partial.take(&piece)?;
                }
                file = Some(partial);
            }
            name => {
                let is_purpose = name == Some("purpose");
                let mut text = Vec::new();
                while let Some(piece) = within(&room.limits, field.chunk()).await? {
                    text.extend_from_slice(&piece);
                    if text.len() > FIELD_BYTES_MAX {
                        return Err(Refusal::malformed(format!(
                            "a field of the form has more than {FIELD_BYTES_MAX} bytes"
                        )));
                    }
                }
                if is_purpose {
                    purpose = Some(String::from_utf8_lossy(&text).into_owned());
                }
            }
        }
    }
    let Some(mut file) = file else {
        return Err(Refusal::param("file", "missing_required_parameter", "file is missing"));
    };
    match purpose.as_deref() {
        Some("batch") => {}
        Some(_) => return Err(Refusal::param("purpose", "unsupported_value", "purpose must be \"batch\"")),
        None => return Err(Refusal::param("purpose", "missing_required_parameter", "purpose is missing")),
    }
    if file.bytes == 0 {
        return Err(Refusal::param("file", "invalid_value", "the file is empty"));
    }
    file.keep(&folder, id).map_err(|error| Refusal::from(broken(&error)))?;
    let record = FileRecord {
        id,
        application: caller.application,
        filename: file.name.clone(),
        purpose: "batch".into(),
        size_bytes: file.bytes,
        created_at_ms: clock::now_ms(),
    };
    room.desk.add_file(record.clone()).await.map_err(Refusal::from)?;
    Ok(record)
}

/// The next part of a form, within the time that a body may take for one.
async fn within<T>(limits: &Limits, part: impl Future<Output = Result<T, multer::Error>>) -> Result<T, Refusal> {
    match tokio::time::timeout(limits.body_idle, part).await {
        Ok(Ok(part)) => Ok(part),
        Ok(Err(error)) => Err(Refusal::malformed(format!("the form cannot be read: {error}"))),
        Err(_) => {
            let message = format!("no part of the body came for {} s", limits.body_idle.as_secs());
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message))
        }
    }
}
