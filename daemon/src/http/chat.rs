//! `POST /v1/chat/completions`, plain and streaming: the shapes of its answers.
//! Lives here: field names and their order. Never here: what comes in (`ask.rs`), counts (`answer.rs`).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::Response;
use axum::response::IntoResponse;
use hone_protocol::application::LedgerRow;
use hone_protocol::generate::{Channel, TokenChance};
use serde::Serialize;

use super::answer::{self, Asked, Dialect, End, Gathered};
use super::desk::{Caller, Desk, Opening, Piece};
use super::failure::Refusal;
use super::openai::{Head, Usage, json};
use super::wire::Wire;
use super::{Room, ask, read_body, sse};

/// The route.
pub(super) async fn complete<D: Desk>(
    State(room): State<Room<D>>,
    Extension(caller): Extension<Caller>,
    Extension(wire): Extension<Arc<Wire>>,
    request: Request,
) -> Response<Body> {
    match try_complete(&room, &caller, wire, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

async fn try_complete<D: Desk>(
    room: &Room<D>,
    caller: &Caller,
    wire: Arc<Wire>,
    request: Request,
) -> Result<Response<Body>, Refusal> {
    let chat = ask::read(&read_body(request, &room.limits).await?)?;
    let (stream, include_usage) = (chat.stream, chat.include_usage);
    let (answers, tells_chances) = (chat.ask.answers, chat.ask.wish.chances.is_some());
    let dialect = move |opening: &Opening| {
        let object = if stream { "chat.completion.chunk" } else { "chat.completion" };
        Chat { head: Head::new(opening, "chatcmpl", object), answers, include_usage, tells_chances }
    };
    answer::answer(room, caller, wire, Asked { ask: chat.ask, stream, ignored: chat.ignored, dialect }).await
}

/// The dialect of a whole answer.
pub(super) fn whole(opening: &Opening, tells_chances: bool, answers: u32) -> impl Dialect {
    Chat { head: Head::new(opening, "chatcmpl", "chat.completion"), answers, include_usage: false, tells_chances }
}

/// The dialect of the route.
#[derive(Debug)]
struct Chat {
    head: Head,
    answers: u32,
    include_usage: bool,
    tells_chances: bool,
}

#[derive(Debug, Serialize)]
struct Completion<'a> {
    #[serde(flatten)]
    head: &'a Head,
    choices: Vec<Choice<'a>>,
    usage: Usage,
}

#[derive(Debug, Serialize)]
struct Choice<'a> {
    index: usize,
    message: Message<'a>,
    logprobs: Option<LogProbs>,
    finish_reason: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Message<'a> {
    role: &'static str,
    /// Null beside calls.
    content: Option<&'a str>,
    refusal: Option<()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall<'a>>,
}

#[derive(Debug, Serialize)]
struct ToolCall<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    function: Function<'a>,
}

#[derive(Debug, Serialize)]
struct Function<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

/// Log-probabilities of an answer.
#[derive(Debug, Serialize)]
struct LogProbs {
    content: Vec<TokenLogProb>,
    refusal: Option<()>,
}

#[derive(Debug, Serialize)]
struct TokenLogProb {
    #[serde(flatten)]
    own: TokenShape,
    top_logprobs: Vec<TokenShape>,
}

#[derive(Debug, Serialize)]
struct TokenShape {
    token: String,
    logprob: f64,
    bytes: Vec<u8>,
}

impl TokenShape {
    fn new(bytes: &[u8], ln_p: f32) -> TokenShape {
        let token = String::from_utf8_lossy(bytes).into_owned();
        TokenShape { token, logprob: super::openai::logprob(ln_p), bytes: bytes.to_vec() }
    }
}

impl LogProbs {
    fn new(chances: &[TokenChance]) -> LogProbs {
        let one = |chance: &TokenChance| TokenLogProb {
            own: TokenShape::new(&chance.bytes.0, chance.ln_p.unwrap_or(0.0)),
            top_logprobs: chance.top.iter().map(|(_, bytes, ln_p)| TokenShape::new(&bytes.0, *ln_p)).collect(),
        };
        LogProbs { content: chances.iter().map(one).collect(), refusal: None }
    }
}

#[derive(Debug, Serialize)]
struct Chunk<'a> {
    #[serde(flatten)]
    head: &'a Head,
    choices: &'a [ChunkChoice<'a>],
    /// Absent when not asked for; null before the last chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

#[derive(Debug, Serialize)]
struct ChunkChoice<'a> {
    index: u32,
    delta: Delta<'a>,
    logprobs: Option<LogProbs>,
    finish_reason: Option<&'static str>,
}

#[derive(Debug, Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[ToolCall<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<Option<()>>,
}

impl Chat {
    /// Name of a call: unique over all requests.
    fn call_id(&self, choice: u32, index: u32) -> String {
        format!("call_{}-{choice}-{index}", self.head.short())
    }

    /// A piece of a call; its first has the name.
    fn call<'p>(&self, piece: &'p Piece, index: u32, name: Option<&'p str>) -> ToolCall<'p> {
        ToolCall {
            index: Some(index),
            id: name.map(|_| self.call_id(piece.choice, index)),
            kind: name.map(|_| "function"),
            function: Function { name, arguments: &piece.text },
        }
    }

    fn chunk(
        &self,
        index: u32,
        delta: Delta<'_>,
        logprobs: Option<LogProbs>,
        finish_reason: Option<&'static str>,
    ) -> Vec<u8> {
        let choices = [ChunkChoice { index, delta, logprobs, finish_reason }];
        let usage = self.include_usage.then_some(None);
        sse::event(&json(&Chunk { head: &self.head, choices: &choices, usage })).to_vec()
    }

    fn message<'a>(&self, choice: usize, gathered: &'a Gathered) -> Message<'a> {
        let call = |(index, (name, arguments)): (usize, &'a (String, String))| ToolCall {
            index: None,
            id: Some(self.call_id(choice as u32, index as u32)),
            kind: Some("function"),
            function: Function { name: Some(name), arguments },
        };
        let text = gathered.text.as_str();
        Message {
            role: "assistant",
            content: (gathered.calls.is_empty() || !text.is_empty()).then_some(text),
            refusal: None,
            reasoning_content: (!gathered.reasoning.is_empty()).then_some(&gathered.reasoning),
            tool_calls: gathered.calls.iter().enumerate().map(call).collect(),
        }
    }
}

impl Dialect for Chat {
    /// The first chunk of each choice: who speaks.
    fn begin(&mut self) -> Vec<u8> {
        let delta = || Delta { role: Some("assistant"), content: Some(""), refusal: Some(None), ..Delta::default() };
        (0..self.answers).flat_map(|choice| self.chunk(choice, delta(), None, None)).collect()
    }

    fn echo(&mut self, _: u32, _: &str, _: Vec<TokenChance>) -> Vec<u8> {
        Vec::new()
    }

    fn piece(&mut self, piece: &Piece) -> Vec<u8> {
        let delta = match &piece.channel {
            Channel::Call { index, name } => {
                Delta { tool_calls: Some([self.call(piece, *index, Some(name))]), ..Delta::default() }
            }
            _ if piece.text.is_empty() => return Vec::new(),
            Channel::Text => Delta { content: Some(&piece.text), ..Delta::default() },
            Channel::Reasoning => Delta { reasoning_content: Some(&piece.text), ..Delta::default() },
            Channel::Arguments { index } => {
                Delta { tool_calls: Some([self.call(piece, *index, None)]), ..Delta::default() }
            }
        };
        let logprobs = (self.tells_chances && piece.channel == Channel::Text).then(|| LogProbs::new(&piece.chances));
        self.chunk(piece.choice, delta, logprobs, None)
    }

    /// Why each choice ended, the usage when it was asked for, the end mark.
    fn end(&mut self, ends: &[End], row: &LedgerRow) -> Vec<u8> {
        let finish = |end: &End| self.chunk(end.choice, Delta::default(), None, Some(end.finish.word()));
        let mut frames: Vec<u8> = ends.iter().flat_map(finish).collect();
        if self.include_usage {
            let usage = Chunk { head: &self.head, choices: &[], usage: Some(Some(Usage::from(row))) };
            frames.extend_from_slice(&sse::event(&json(&usage)));
        }
        frames.extend_from_slice(sse::DONE);
        frames
    }

    fn whole(&self, choices: &[Gathered], row: &LedgerRow) -> Vec<u8> {
        let choice = |(index, gathered)| Choice {
            index,
            message: self.message(index, gathered),
            logprobs: self.tells_chances.then(|| LogProbs::new(&gathered.chances)),
            finish_reason: gathered.finish.map(|finish| finish.word()),
        };
        let choices = choices.iter().enumerate().map(choice).collect();
        json(&Completion { head: &self.head, choices, usage: Usage::from(row) })
    }
}
