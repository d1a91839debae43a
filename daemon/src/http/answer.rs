//! Answers of every route that generates, plain and streaming: asks the desk, hands the answer to the client, and keeps
//! the bill equal to what `write()` accepted. Lives here: the order of allow, write, delivered and close.
//! Never here: a ledger, a price, a shape of a protocol (see [`Dialect`]).

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, Response};
use hone_protocol::application::{LedgerRow, Outcome};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::generate::{Channel, Finish, TokenChance};

use super::desk::{AnswerStep, Answering, Ask, Caller, Desk, Opening, Piece};
use super::failure::Refusal;
use super::sse::{self, SseBody};
use super::wire::{Stalled, Wire};
use super::{Limits, RequestId, Room, fields, models, rate};

/// Names the fields of a request that were not looked at.
const IGNORED_FIELDS: HeaderName = HeaderName::from_static("x-hone-ignored-fields");

/// How a protocol writes an answer.
pub(super) trait Dialect: Send + Sync + 'static {
    /// Before the first piece of a stream. Frames here and below are whole SSE events; empty for none.
    fn begin(&mut self) -> Vec<u8>;
    /// The prompt, where it was wanted back.
    fn echo(&mut self, choice: u32, text: &str, chances: Vec<TokenChance>) -> Vec<u8>;
    /// A piece of a stream.
    fn piece(&mut self, piece: &Piece) -> Vec<u8>;
    /// The end of a stream, after its row was closed.
    fn end(&mut self, ends: &[End], row: &LedgerRow) -> Vec<u8>;
    /// An error in the middle of a stream, as one event.
    fn failure(&self, refusal: &Refusal) -> Vec<u8> {
        sse::event(&super::openai::json(&refusal.body())).to_vec()
    }
    /// A whole answer.
    fn whole(&self, choices: &[Gathered], row: &LedgerRow) -> Vec<u8>;
}

/// How one choice ended.
#[derive(Debug, Clone)]
pub(super) struct End {
    /// Which.
    pub(super) choice: u32,
    /// Why.
    pub(super) finish: Finish,
    /// Tokens that no piece told of.
    pub(super) chances: Vec<TokenChance>,
}

/// A whole choice.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// The prompt, where it was wanted back.
    pub(super) echo: String,
    /// The answer itself.
    pub(crate) text: String,
    /// What the model thought before.
    pub(super) reasoning: String,
    /// Names of called tools with their arguments.
    pub(super) calls: Vec<(String, String)>,
    /// Tokens of prompt and answer, where log-probabilities were wanted.
    pub(super) chances: Vec<TokenChance>,
    /// Tokens without text and the end mark.
    pub(super) end: Vec<TokenChance>,
    /// Why it ended.
    pub(crate) finish: Option<Finish>,
}

impl Gathered {
    /// Tokens of the answer, where log-probabilities were wanted.
    pub(crate) fn chances(&self) -> &[TokenChance] {
        &self.chances
    }

    fn take(&mut self, piece: Piece) {
        self.chances.extend(piece.chances);
        match piece.channel {
            Channel::Text => self.text.push_str(&piece.text),
            Channel::Reasoning => self.reasoning.push_str(&piece.text),
            Channel::Call { name, .. } => self.calls.push((name, String::new())),
            Channel::Arguments { index } => {
                if let Some((_, arguments)) = self.calls.get_mut(index as usize) {
                    arguments.push_str(&piece.text);
                }
            }
        }
    }
}

/// A request as a route has read it.
pub(super) struct Asked<F> {
    /// What is asked.
    pub(super) ask: Ask,
    /// Answer in pieces.
    pub(super) stream: bool,
    /// Fields that were not looked at.
    pub(super) ignored: Vec<String>,
    /// Makes the dialect that answers, once the row is open.
    pub(super) dialect: F,
}

/// Answers a request.
pub(super) async fn answer<D: Desk, T: Dialect>(
    room: &Room<D>,
    caller: &Caller,
    wire: Arc<Wire>,
    asked: Asked<impl FnOnce(&Opening) -> T>,
) -> Result<Response<Body>, Refusal> {
    let Asked { ask, stream: streams, ignored, dialect } = asked;
    models::find(&room.desk.services(caller), &ask.service)?;
    let choices = ask.choices();
    let answering = room.desk.begin(caller, ask).await.map_err(Refusal::from)?;
    let id = RequestId(answering.opening().ledger.to_string());
    let allowance = answering.opening().allowance;
    let dialect = dialect(answering.opening());
    let mut response = if streams {
        stream(answering, dialect, choices, wire, room.limits)
    } else {
        whole(answering, dialect, choices).await?
    };
    // The owner finds the request under this id in the ledger.
    response.extensions_mut().insert(id);
    rate::tell(allowance, response.headers_mut());
    note_ignored(&mut response, &ignored);
    Ok(response)
}

/// Says which fields were not looked at.
pub(super) fn note_ignored(response: &mut Response<Body>, ignored: &[String]) {
    if let Some(ignored) = fields::ignored_header(ignored).and_then(|names| HeaderValue::try_from(names).ok()) {
        response.headers_mut().insert(IGNORED_FIELDS, ignored);
    }
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
async fn whole<A: Answering, T: Dialect>(
    mut answering: A,
    dialect: T,
    choices: usize,
) -> Result<Response<Body>, Refusal> {
    let id = RequestId(answering.opening().ledger.to_string());
    let (gathered, tokens) = match gather(&mut answering, choices).await {
        Ok(gathered) => gathered,
        Err(failure) => {
            close(answering, Outcome::Failed, 0).await.map_err(Refusal::from)?;
            return Err(Refusal::from(failure).of(id));
        }
    };
    let row = close(answering, Outcome::Complete, tokens).await.map_err(|failure| Refusal::from(failure).of(id))?;
    Ok(super::json_response(dialect.whole(&gathered, &row)))
}

/// Everything that an answer says, and its tokens.
pub(crate) async fn gather<A: Answering>(answering: &mut A, choices: usize) -> Result<(Vec<Gathered>, u64), Failure> {
    let mut gathered: Vec<Gathered> = (0..choices).map(|_| Gathered::default()).collect();
    let mut tokens = 0;
    loop {
        match answering.next().await {
            AnswerStep::Echo { choice, text, chances } => {
                let choice = &mut gathered[choice as usize];
                choice.echo.push_str(&text);
                choice.chances.extend(chances);
            }
            AnswerStep::Piece(piece) => {
                if piece.says_something() {
                    tokens = piece.tokens;
                }
                gathered[piece.choice as usize].take(piece);
            }
            AnswerStep::Ended { finish: Finish::Cancelled, .. } => return Err(cancelled()),
            AnswerStep::Ended { choice, finish, end, .. } => {
                let choice = &mut gathered[choice as usize];
                (choice.finish, choice.end) = (Some(finish), end);
                if gathered.iter().all(|choice| choice.finish.is_some()) {
                    return Ok((gathered, tokens));
                }
            }
            AnswerStep::Counted { tokens: counted } => tokens = counted,
            AnswerStep::Failed(failure) => return Err(failure),
        }
    }
}

/// The answer in pieces. The headers leave now; the body makes the frames as the connection takes them.
fn stream<A: Answering, T: Dialect>(
    answering: A,
    dialect: T,
    choices: usize,
    wire: Arc<Wire>,
    limits: Limits,
) -> Response<Body> {
    let metered = Metered::new(answering, Arc::clone(&wire), limits.stall);
    let frames = Box::pin(frames(metered, dialect, choices, limits.keep_alive));
    let mut response = Response::new(Body::new(SseBody::new(wire, frames)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    // A proxy in front must not collect frames.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// Makes the frames of one stream. Every way out closes the row: the two ends here, a stalled client here,
/// a lost client by the drop of [`Metered`].
async fn frames<A: Answering, T: Dialect>(
    mut metered: Metered<A>,
    mut dialect: T,
    choices: usize,
    keep_alive: Duration,
) -> Result<(), Stalled> {
    let id = metered.answering().opening().ledger.to_string();
    match pieces(&mut metered, &mut dialect, choices, keep_alive).await {
        Ok(Ok(ends)) => match metered.close(Outcome::Complete).await {
            // The end of the answer, its usage and the end mark leave only now, after the durable commit.
            Ok((row, wire)) => {
                wire.offer(Bytes::from(dialect.end(&ends, &row)));
            }
            Err((failure, wire)) => offer_failure(&wire, &dialect, &id, failure),
        },
        Ok(Err(failure)) => match metered.close(Outcome::Failed).await {
            Ok((_, wire)) => offer_failure(&wire, &dialect, &id, failure),
            Err((closing, wire)) => offer_failure(&wire, &dialect, &id, closing),
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
fn offer_failure(wire: &Wire, dialect: &impl Dialect, id: &str, failure: Failure) {
    let refusal = Refusal::from(failure);
    if let Some(trouble) = refusal.trouble() {
        trouble.log(id);
    }
    wire.offer(Bytes::from(dialect.failure(&refusal)));
}

/// Hands out the pieces until every choice has ended or one failed.
async fn pieces<A: Answering>(
    metered: &mut Metered<A>,
    dialect: &mut impl Dialect,
    choices: usize,
    keep_alive: Duration,
) -> Result<Result<Vec<End>, Failure>, Stalled> {
    metered.write(dialect.begin(), 0).await?;
    let mut ends: Vec<End> = Vec::new();
    loop {
        match metered.next(keep_alive).await? {
            AnswerStep::Echo { choice, text, chances } => {
                let delivered = metered.delivered;
                metered.write(dialect.echo(choice, &text, chances), delivered).await?;
            }
            AnswerStep::Piece(piece) => {
                // Without bytes there is nothing that write() could accept.
                if piece.says_something() {
                    let frame = dialect.piece(&piece);
                    metered.answering().allow(piece.tokens).await;
                    metered.write(frame, piece.tokens).await?;
                }
            }
            AnswerStep::Ended { finish: Finish::Cancelled, .. } => return Ok(Err(cancelled())),
            AnswerStep::Ended { choice, finish, end, .. } => {
                ends.push(End { choice, finish, chances: end });
                if ends.len() == choices {
                    ends.sort_by_key(|end| end.choice);
                    return Ok(Ok(ends));
                }
            }
            // Every piece was accepted before the next was asked for.
            AnswerStep::Counted { tokens } => metered.delivered = tokens,
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
    async fn write(&mut self, frame: Vec<u8>, tokens: u64) -> Result<(), Stalled> {
        if frame.is_empty() {
            return Ok(());
        }
        let number = self.wire.offer(Bytes::from(frame));
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
