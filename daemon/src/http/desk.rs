//! What the HTTP room needs from the rest of the daemon: who calls, what may be called, and one metered answer.
//! Lives here: the two traits and their plain data. Never here: a decision, a bill, an OpenAI field.

use std::future::Future;

use hone_protocol::application::{LedgerRow, Outcome};
use hone_protocol::failure::Failure;
use hone_protocol::generate::{Channel, Finish, Prompt, TokenChance, TokenizerFacts, Wish};
use hone_protocol::id::{ApplicationId, KeyId, LedgerId};
use hone_protocol::log::Feedback;
use hone_protocol::usage::{UsagePage, UsageQuery};
use hone_protocol::value::Bytes;

pub use super::archive::Archive;
use crate::dispatcher::Allowance;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who pays.
    pub application: ApplicationId,
    /// Its name.
    pub application_name: String,
    /// With which key; none for the socket.
    pub key: Option<KeyId>,
}

/// A service that a caller may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callable {
    /// What `model` says in a request.
    pub name: String,
    /// When the service was made, Unix milliseconds.
    pub created_at_ms: i64,
    /// `name@number` of what it serves.
    pub version_reference: String,
    /// Context of one request, in tokens.
    pub context_tokens: u32,
    /// Whether it is meant to be on; one that is off is not listed, and asking it says so.
    pub wanted: bool,
    /// Whether it makes embeddings and nothing else.
    pub is_encoder: bool,
}

/// What a caller asks. Every number in it is inside its range.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// Name of the service.
    pub service: String,
    /// What to go on from; never empty.
    pub prompts: Vec<Prompt>,
    /// Answers to each of them, from 1.
    pub answers: u32,
    /// How, but for `tokens_max`, which is below.
    pub wish: Wish,
    /// Longest answer in tokens; none for as long as the context allows.
    pub tokens_max: Option<u32>,
    /// OpenAI `user`, may be empty: a dimension of the ledger.
    pub user: String,
    /// OpenAI `metadata`: stands on the row.
    pub metadata: Vec<(String, String)>,
    /// The route that it came by, `batch` or `socket`: for the log.
    pub route: &'static str,
}

impl Ask {
    /// Answers in all. Answer `a` to prompt `p` is the choice `p * answers + a`.
    pub fn choices(&self) -> usize {
        self.prompts.len() * self.answers as usize
    }
}

/// What is known when an answer begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The ledger row, durably open.
    pub ledger: LedgerId,
    /// Name of the service that answers.
    pub service: String,
    /// `name@number` of what answers.
    pub version_reference: String,
    /// What the limits of the application leave.
    pub allowance: Allowance,
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// Which answer of the request.
    pub choice: u32,
    /// What it is a piece of.
    pub channel: Channel,
    /// Whole characters, no part of a stop text.
    pub text: String,
    /// The tokens that became wholly part of the text, when log-probabilities are wanted.
    pub chances: Vec<TokenChance>,
    /// Tokens of all answers of the request, of each those up to the last one that is wholly inside its text so far.
    pub tokens: u64,
}

impl Piece {
    /// Whether the client gets anything with it. What it does not get it does not pay.
    pub fn says_something(&self) -> bool {
        !self.text.is_empty() || matches!(self.channel, Channel::Call { .. })
    }
}

/// One step of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum AnswerStep {
    /// The prompt, or a part of it, as the request wanted it back.
    Echo {
        /// Which answer of the request.
        choice: u32,
        /// Its text.
        text: String,
        /// Its tokens, when log-probabilities are wanted.
        chances: Vec<TokenChance>,
    },
    /// Text.
    Piece(Piece),
    /// One answer of the request is complete.
    Ended {
        /// Which.
        choice: u32,
        /// Why.
        finish: Finish,
        /// Tokens of all answers so far, end marks not counted.
        tokens: u64,
        /// Tokens that no piece told of, when log-probabilities are wanted.
        end: Vec<TokenChance>,
    },
    /// The request failed; nothing follows.
    Failed(Failure),
    /// A server elsewhere has counted one answer by itself: tokens of all answers as they now are, of which every piece is
    /// out. Without it the numbers of pieces stand.
    Counted {
        /// Tokens of all answers.
        tokens: u64,
    },
}

/// What a caller wants vectors of.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbedAsk {
    /// Name of the service.
    pub service: String,
    /// Texts or tokens; never empty.
    pub inputs: Vec<Prompt>,
    /// Numbers that each vector is to have; none for as many as the model gives.
    pub dimensions: Option<u32>,
    /// Whether inputs that are too long are cut; else they are refused.
    pub cut: bool,
    /// OpenAI `user`, may be empty: a dimension of the ledger.
    pub user: String,
}

/// The vector of one input.
#[derive(Debug, Clone, PartialEq)]
pub struct Vector {
    /// Its numbers; its length is 1.
    pub values: Vec<f32>,
    /// Whether the input was cut.
    pub was_cut: bool,
}

/// All vectors of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// What was known when the row was opened.
    pub opening: Opening,
    /// One for each input, in their order.
    pub vectors: Vec<Vector>,
    /// The row, durably closed.
    pub row: LedgerRow,
}

/// The service desk of the daemon, as HTTP sees it.
pub trait Desk: Archive + Clone + Send + Sync + 'static {
    /// A metered answer.
    type Answering: Answering;

    /// Whose key this is. Constant time inside; every wrong, revoked or unknown key is the same
    /// [`FailureCode::Unauthenticated`](hone_protocol::failure::FailureCode::Unauthenticated).
    fn authenticate(&self, bearer: &str) -> Result<Caller, Failure>;

    /// What the caller may call, in the order to show it.
    fn services(&self, caller: &Caller) -> Vec<Callable>;

    /// The tokens of a prompt as a service sees it, and the bytes of each. Costs nothing.
    fn spell(
        &self,
        caller: &Caller,
        service: &str,
        prompt: Prompt,
    ) -> impl Future<Output = Result<(Vec<i32>, Vec<Bytes>), Failure>> + Send;

    /// What tokenizers of clients ask of a service.
    fn tokenizer(&self, caller: &Caller, service: &str)
    -> impl Future<Output = Result<TokenizerFacts, Failure>> + Send;

    /// Opens a ledger row durably, makes the vectors and closes it. Dropping the future (the client went away while it
    /// waited) must end what was begun and close the row.
    fn embed(&self, caller: &Caller, ask: EmbedAsk) -> impl Future<Output = Result<Embedded, Failure>> + Send;

    /// What was used; `application` in the query is the caller's own.
    fn usage(&self, query: UsageQuery) -> impl Future<Output = Result<UsagePage, Failure>> + Send;

    /// Everything that is counted, in the text format of Prometheus.
    fn metrics(&self) -> String;

    /// Keeps what somebody says of a response of the caller's application, and gives its row's id. Another's response is
    /// [`FailureCode::NotFound`](hone_protocol::failure::FailureCode::NotFound).
    fn hear(
        &self,
        caller: &Caller,
        response: &str,
        feedback: Feedback,
    ) -> impl Future<Output = Result<LedgerId, Failure>> + Send;

    /// Opens a ledger row durably and begins to answer. Dropping the future (the client went away while it
    /// waited) must end what was begun and close a row that was opened.
    fn begin(&self, caller: &Caller, ask: Ask) -> impl Future<Output = Result<Self::Answering, Failure>> + Send;
}

/// One answer under way. Dropping it cancels the generation and closes its row as
/// [`Outcome::Disconnected`] with the count of the last [`Answering::delivered`].
pub trait Answering: Send + 'static {
    /// What was known at its beginning.
    fn opening(&self) -> &Opening;

    /// The next step.
    fn next(&mut self) -> impl Future<Output = AnswerStep> + Send;

    /// Tells that `write()` has accepted the bytes of everything up to `tokens`. The desk commits the
    /// watermark itself, every 250 ms or 64 tokens.
    fn delivered(&mut self, tokens: u64);

    /// Waits until writing up to `tokens` keeps written − durably billed ≤ 64. Returns as soon as all that was
    /// delivered is durable, because then nothing is left to wait for.
    fn allow(&mut self, tokens: u64) -> impl Future<Output = ()> + Send;

    /// Closes the row; returns it after the durable commit.
    fn close(self, outcome: Outcome, tokens: u64) -> impl Future<Output = Result<LedgerRow, Failure>> + Send;
}
