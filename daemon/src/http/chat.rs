//! `POST /v1/chat/completions`, plain and streaming: asks the desk, hands the answer to the client, and keeps the
//! bill equal to what `write()` accepted. Lives here: the order of allow, write, delivered and close.
//! Never here: a ledger, a price, a shape of the protocol.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, Response};
use axum::response::IntoResponse;
use hone_protocol::application::{LedgerRow, Outcome};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::worker::Finish;

use super::desk::{AnswerStep, Answering, Caller, Desk, Opening};
use super::failure::Refusal;
use super::openai::{self, Chunks, Completion};
use super::sse::{self, SseBody};
use super::wire::{Stalled, Wire};
use super::{Limits, RequestId, Room, ask, models, read_body};

/// Names the fields of a request that were not looked at.
const IGNORED_FIELDS: HeaderName = HeaderName::from_static("x-hone-ignored-fields");

/// The route.
pub(super) async fn complete<D: Desk>(
    State(room): State<Room<D>>,
    Extension(caller): Extension<Caller>,
    Extension(wire): Extension<Arc<Wire>>,
    request: Request,
) -> Response<Body> {
    match answer(&room, &caller, wire, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

async fn answer<D: Desk>(
    room: &Room<D>,
    caller: &Caller,
    wire: Arc<Wire>,
    request: Request,
) -> Result<Response<Body>, Refusal> {
    let body = read_body(request, &room.limits).await?;
    let chat = ask::read(&body)?;
    drop(body);
    models::find(&room.desk.services(caller), &chat.ask.service)?;
    let answering = room.desk.begin(caller, chat.ask).await.map_err(Refusal::from)?;
    let opening = answering.opening().clone();
    let mut response = if chat.stream {
        stream(answering, &opening, chat.include_usage, wire, room.limits)
    } else {
        whole(answering, &opening).await.unwrap_or_else(Refusal::into_response)
    };
    // The owner finds the request under this id in the ledger.
    response.extensions_mut().insert(RequestId(opening.ledger.to_string()));
    if let Some(ignored) = ask::ignored_header(&chat.ignored).and_then(|names| HeaderValue::try_from(names).ok()) {
        response.headers_mut().insert(IGNORED_FIELDS, ignored);
    }
    Ok(response)
}

/// Closes the row in a task of its own, so that a client that leaves now cannot leave it open.
async fn close<A: Answering>(answering: A, outcome: Outcome, tokens: u64) -> Result<LedgerRow, Failure> {
    match tokio::spawn(answering.close(outcome, tokens)).await {
        Ok(closed) => closed,
        Err(_) => Err(Failure::new(FailureCode::Internal, "the closing of a ledger row panicked")),
    }
}

/// An answer that the server itself cut is no answer: the protocol has no word for it.
fn cancelled() -> Failure {
    Failure::new(FailureCode::ServiceUnavailable, "the answer was ended by the server")
}

/// The whole answer at once: the row is closed durably, then the answer leaves. When the client goes away before,
/// hyper drops this future and with it the answer, of which nothing was delivered.
async fn whole<A: Answering>(mut answering: A, opening: &Opening) -> Result<Response<Body>, Refusal> {
    let mut text = String::new();
    let mut sampled = 0;
    let ended = loop {
        match answering.next().await {
            AnswerStep::Piece { text: piece, tokens } => {
                if !piece.is_empty() {
                    text.push_str(&piece);
                    sampled = tokens;
                }
            }
            AnswerStep::Ended { finish: Finish::Cancelled, .. } => break Err(cancelled()),
            AnswerStep::Ended { finish, .. } => break Ok(finish),
            AnswerStep::Failed(failure) => break Err(failure),
        }
    };
    let finish = match ended {
        Ok(finish) => finish,
        Err(failure) => {
            close(answering, Outcome::Failed, 0).await.map_err(Refusal::from)?;
            return Err(Refusal::from(failure));
        }
    };
    let row = close(answering, Outcome::Complete, sampled).await.map_err(Refusal::from)?;
    let body = openai::json(&Completion::new(opening, &text, finish, &row));
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// The answer in pieces. The headers leave now; the body makes the frames as the connection takes them.
fn stream<A: Answering>(
    answering: A,
    opening: &Opening,
    include_usage: bool,
    wire: Arc<Wire>,
    limits: Limits,
) -> Response<Body> {
    let chunks = Chunks::new(opening, include_usage);
    let metered = Metered::new(answering, Arc::clone(&wire), limits.stall);
    let frames = Box::pin(frames(metered, chunks, limits.keep_alive));
    let mut response = Response::new(Body::new(SseBody::new(wire, frames)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    // A proxy in front must not collect frames.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// Makes the frames of one stream. Every way out closes the row: the two ends here, a stalled client here,
/// a lost client by the drop of [`Metered`].
async fn frames<A: Answering>(mut metered: Metered<A>, chunks: Chunks, keep_alive: Duration) -> Result<(), Stalled> {
    let id = metered.answering().opening().ledger.to_string();
    match pieces(&mut metered, &chunks, keep_alive).await {
        Ok(Ok(finish)) => match metered.close(Outcome::Complete).await {
            // The end of the answer, its usage and the end mark leave only now, after the durable commit.
            Ok((row, wire)) => {
                let mut events = vec![chunks.finish(finish)];
                events.extend(chunks.usage(&row));
                wire.offer(sse::last(&events));
            }
            Err((failure, wire)) => offer_failure(&wire, &id, failure),
        },
        Ok(Err(failure)) => match metered.close(Outcome::Failed).await {
            Ok((_, wire)) => offer_failure(&wire, &id, failure),
            Err((closing, wire)) => offer_failure(&wire, &id, closing),
        },
        Err(stalled) => {
            metered.wire.sever();
            // Whether or not it can be recorded now, the connection ends; an open row keeps its watermark.
            let _ = metered.close(Outcome::Disconnected).await;
            return Err(stalled);
        }
    }
    Ok(())
}

/// After the headers an error goes as a frame. No end mark follows: the answer is not complete.
fn offer_failure(wire: &Wire, id: &str, failure: Failure) {
    let refusal = Refusal::from(failure);
    if let Some(trouble) = refusal.trouble() {
        trouble.log(id);
    }
    wire.offer(sse::event(&openai::json(&refusal.body())));
}

/// Hands out the pieces until the answer ends or fails.
async fn pieces<A: Answering>(
    metered: &mut Metered<A>,
    chunks: &Chunks,
    keep_alive: Duration,
) -> Result<Result<Finish, Failure>, Stalled> {
    metered.write(sse::event(&chunks.role()), 0).await?;
    loop {
        match metered.next(keep_alive).await? {
            // Without bytes there is nothing that write() could accept.
            AnswerStep::Piece { text, .. } if text.is_empty() => {}
            AnswerStep::Piece { text, tokens } => {
                metered.answering().allow(tokens).await;
                metered.write(sse::event(&chunks.text(&text)), tokens).await?;
            }
            AnswerStep::Ended { finish: Finish::Cancelled, .. } => return Ok(Err(cancelled())),
            AnswerStep::Ended { finish, .. } => return Ok(Ok(finish)),
            AnswerStep::Failed(failure) => return Ok(Err(failure)),
        }
    }
}

/// An answer with the count of what `write()` accepted of it. When it is dropped, the desk has the last word of
/// the wire before the answer closes as disconnected.
struct Metered<A: Answering> {
    /// Gone once the row is being closed.
    answering: Option<A>,
    wire: Arc<Wire>,
    stall: Duration,
    /// The frame in doubt, and the tokens that are delivered when it is accepted.
    in_flight: Option<(u64, u64)>,
    /// Tokens whose bytes were accepted.
    delivered: u64,
}

impl<A: Answering> Metered<A> {
    fn new(answering: A, wire: Arc<Wire>, stall: Duration) -> Metered<A> {
        Metered { answering: Some(answering), wire, stall, in_flight: None, delivered: 0 }
    }

    fn answering(&mut self) -> &mut A {
        self.answering.as_mut().expect("an answer is taken out only by close, which takes the whole")
    }

    /// The next step; comments keep the connection alive while it takes long.
    async fn next(&mut self, keep_alive: Duration) -> Result<AnswerStep, Stalled> {
        let Metered { answering, wire, stall, .. } = self;
        let answering = answering.as_mut().expect("an answer is taken out only by close, which takes the whole");
        let mut step = pin!(answering.next());
        loop {
            if let Ok(step) = tokio::time::timeout(keep_alive, step.as_mut()).await {
                return Ok(step);
            }
            let comment = wire.offer(sse::KEEP_ALIVE);
            wire.accepted(comment, *stall).await?;
        }
    }

    /// Writes one frame and waits until it is accepted, so that one frame at most is ever in doubt.
    async fn write(&mut self, frame: Bytes, tokens: u64) -> Result<(), Stalled> {
        let number = self.wire.offer(frame);
        self.in_flight = Some((number, tokens.max(self.delivered)));
        let accepted = self.wire.accepted(number, self.stall).await;
        self.settle();
        accepted
    }

    /// Tells the desk about the frame in doubt if it was accepted.
    fn settle(&mut self) {
        if let Some((number, tokens)) = self.in_flight
            && self.wire.is_accepted(number)
        {
            self.in_flight = None;
            if let Some(answering) = self.answering.as_mut()
                && tokens > self.delivered
            {
                answering.delivered(tokens);
            }
            self.delivered = tokens;
        }
    }

    /// Closes the row with what was accepted.
    async fn close(mut self, outcome: Outcome) -> Result<(LedgerRow, Arc<Wire>), (Failure, Arc<Wire>)> {
        self.settle();
        let wire = Arc::clone(&self.wire);
        let Some(answering) = self.answering.take() else {
            return Err((Failure::new(FailureCode::Internal, "a ledger row was closed twice"), wire));
        };
        match close(answering, outcome, self.delivered).await {
            Ok(row) => Ok((row, wire)),
            Err(failure) => Err((failure, wire)),
        }
    }
}

impl<A: Answering> Drop for Metered<A> {
    fn drop(&mut self) {
        self.settle();
    }
}
