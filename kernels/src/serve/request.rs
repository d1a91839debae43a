//! What can be asked of the engine and what comes back.
//!
//! What never lives here: wire formats (the worker translates), scheduling.

use super::constraint::{BadGrammar, Limit};
use super::llama::LlamaError;
use super::sampling::{Chance, OutOfRange, Sampling};

/// Most stop strings in one request; more are refused.
pub const STOP_STRINGS_MAX: usize = 16;
/// Longest stop string in bytes; a longer one is refused.
pub const STOP_BYTES_MAX: usize = 256;

/// A wish to generate.
#[derive(Clone, Debug)]
pub struct GenRequest {
    /// Chosen by the caller; must not be in use.
    pub id: u64,
    /// The adapter to apply, or the bare model.
    pub adapter: Option<String>,
    /// The whole prompt.
    pub tokens: Vec<i32>,
    /// How tokens are picked.
    pub sampling: Sampling,
    /// Text that ends the generation and is not shown.
    pub stop: Vec<String>,
    /// Most tokens to sample. 0 only with `echo`.
    pub max_tokens: u32,
    /// What the answer must look like.
    pub limit: Option<Limit>,
    /// Tell how likely each token of the answer was, and so many of the likeliest in its place.
    pub chances: Option<usize>,
    /// With `chances`: tell the same of the prompt. Its cache is not used then, because what is cached has no logits.
    pub echo: bool,
    /// Cached prompts are shared only between requests whose scope is equal: a hash over
    /// application, adapter version and template.
    pub cache_scope: [u8; 32],
    /// Go on after an end token (for measuring). End tokens then count and show nothing.
    pub ignore_end: bool,
}

/// A wish to know how likely the model finds given tokens.
#[derive(Clone, Debug)]
pub struct ScoreRequest {
    /// Chosen by the caller; must not be in use.
    pub id: u64,
    /// The adapter to apply, or the bare model.
    pub adapter: Option<String>,
    /// The tokens.
    pub tokens: Vec<i32>,
    /// Which of them to score, as long as `tokens`. The first token has nothing before it and is
    /// never scored.
    pub trained: Vec<bool>,
}

/// Why a request was not taken. Nothing was computed for it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The prompt leaves no room for an answer.
    #[error(
        "the prompt has {prompt_tokens} tokens and the context holds {context_tokens}, of which at least one must be left for the answer\nhint: shorten the prompt or publish with a longer context"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Tokens a slot holds.
        context_tokens: usize,
    },
    /// A prompt without tokens, or nothing to score.
    #[error("the prompt has no tokens")]
    Empty,
    /// A token id outside the vocabulary.
    #[error("tokens[{index}] is {token}; the vocabulary has {vocab_size} tokens")]
    Token {
        /// Where.
        index: usize,
        /// The id.
        token: i32,
        /// Size of the vocabulary.
        vocab_size: usize,
    },
    /// A sampling parameter outside its range.
    #[error(transparent)]
    Sampling(#[from] OutOfRange),
    /// A grammar that cannot be used.
    #[error(transparent)]
    Grammar(#[from] BadGrammar),
    /// A bias on a token outside the vocabulary.
    #[error("logit_bias names token {token}; the vocabulary has {vocab_size} tokens")]
    Bias {
        /// The id.
        token: i32,
        /// Size of the vocabulary.
        vocab_size: usize,
    },
    /// `max_tokens` is 0.
    #[error("max_tokens must be at least 1")]
    MaxTokens,
    /// Too many, too long or empty stop strings.
    #[error(
        "stop must be at most {STOP_STRINGS_MAX} strings of 1 to {STOP_BYTES_MAX} bytes; stop[{index}] has {bytes}"
    )]
    Stop {
        /// The first wrong one.
        index: usize,
        /// Its length.
        bytes: usize,
    },
    /// `trained` is not as long as `tokens`.
    #[error("trained has {trained} entries and tokens has {tokens}")]
    Trained {
        /// Entries of `trained`.
        trained: usize,
        /// Entries of `tokens`.
        tokens: usize,
    },
    /// An encoder was asked to write.
    #[error("this model is an encoder: it makes embeddings and writes no text")]
    Encoder,
    /// An input for embedding that does not fit.
    #[error("input[{index}] has {tokens} tokens and {tokens_max} are allowed")]
    InputTooLong {
        /// Which input.
        index: usize,
        /// Its tokens.
        tokens: usize,
        /// Most tokens of one input.
        tokens_max: usize,
    },
    /// An input for embedding without tokens.
    #[error("input[{index}] has no tokens")]
    EmptyInput {
        /// Which input.
        index: usize,
    },
    /// There is no room for a context of embeddings.
    #[error("embeddings need a context of their own, which could not be made: {detail}")]
    NoContext {
        /// The engine's words.
        detail: String,
    },
    /// No adapter by that name was added.
    #[error("no adapter {name:?} was added to this engine")]
    UnknownAdapter {
        /// The name.
        name: String,
    },
    /// A request with this id is not finished.
    #[error("request {id} is already running")]
    IdInUse {
        /// The id.
        id: u64,
    },
    /// `waiting_max` requests wait already.
    #[error("{waiting} requests wait already\nhint: try again later")]
    QueueFull {
        /// How many wait.
        waiting: usize,
    },
}

/// Why the engine or one of its contexts could not be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// llama.cpp said no.
    #[error(transparent)]
    Llama(#[from] LlamaError),
    /// A parameter outside its range.
    #[error("{field} must be in [{low}, {high}], got {got}")]
    Params {
        /// Name of the field.
        field: &'static str,
        /// Least value.
        low: u64,
        /// Greatest value.
        high: u64,
        /// Value given.
        got: u64,
    },
    /// The adapter still has requests.
    #[error("adapter {name:?} has unfinished requests\nhint: cancel them first")]
    AdapterBusy {
        /// Its name.
        name: String,
    },
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Finish {
    /// The model ended its turn.
    End,
    /// A stop string was complete: which of the request's.
    StopString(usize),
    /// `max_tokens` were sampled.
    MaxTokens,
    /// The slot's context is full.
    ContextFull,
    /// The caller cancelled.
    Cancelled,
}

/// Times of one request, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Times {
    /// From submit to a slot.
    pub queue_ms: f64,
    /// From the slot to the first sampled token.
    pub prompt_ms: f64,
    /// From the first sampled token to the end.
    pub generate_ms: f64,
}

/// What the engine tells.
#[derive(Clone, Debug, PartialEq)]
pub enum EngineEvent {
    /// A generation got a slot.
    Started {
        /// The request.
        id: u64,
        /// Tokens of the prompt.
        prompt_tokens: u32,
        /// Of these, how many were in the cache already.
        cached_tokens: u32,
    },
    /// How likely the tokens of the prompt were: all but the first, which has nothing before it.
    Echoed {
        /// The request.
        id: u64,
        /// For each token from the second on.
        chances: Vec<Chance>,
    },
    /// Text of a generation.
    Piece {
        /// The request.
        id: u64,
        /// Whole characters, never empty.
        text: String,
        /// Sampled tokens up to the last one whose bytes are wholly contained in all text so far.
        tokens_total: u32,
        /// The tokens that became wholly part of the text with this piece, when `chances` was asked for.
        chances: Vec<Chance>,
    },
    /// The last word on a generation.
    Finished {
        /// The request.
        id: u64,
        /// Why it ended.
        finish: Finish,
        /// Tokens of the prompt.
        prompt_tokens: u32,
        /// Of these, how many were in the cache already.
        cached_tokens: u32,
        /// Tokens to bill: those wholly contained in the text that was emitted, and, unless it was
        /// cancelled or cut by a stop string, every sampled token. The end token is not counted.
        completion_tokens: u32,
        /// All tokens sampled, shown or not, the end token included: what the machine did.
        sampled_tokens: u32,
        /// Tokens that no piece told of, when `chances` was asked for: those without text, and the end token.
        end: Vec<Chance>,
        /// How long it took.
        times: Times,
    },
    /// The answer to a `ScoreRequest`.
    Scored {
        /// The request.
        id: u64,
        /// Sum of -ln p over the scored tokens.
        nll_sum: f64,
        /// How many tokens were scored.
        count: u32,
    },
    /// The first inputs of an `EmbedRequest` are being computed.
    EmbedStarted {
        /// The request.
        id: u64,
        /// Tokens of all its inputs.
        tokens: u32,
    },
    /// The vector of one input of an `EmbedRequest`.
    Embedded {
        /// The request.
        id: u64,
        /// Which input.
        index: u32,
        /// Its vector, of length 1.
        vector: Vec<f32>,
        /// Inputs that are still to come.
        left: u32,
    },
    /// The request cannot be finished; nothing more comes for it.
    Failed {
        /// The request.
        id: u64,
        /// What went wrong.
        error: String,
        /// Tokens emitted before, as in `Finished`.
        completion_tokens: u32,
    },
}
