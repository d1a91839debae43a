//! The shapes of the OpenAI protocol that leave the daemon: models, chat answers, chunks, usage.
//! Lives here: field names and their order. Never here: a decision, a token count of our own.
//! What comes in is read in `ask.rs`, errors are in `failure.rs`.

use hone_protocol::application::LedgerRow;
use hone_protocol::worker::Finish;
use serde::Serialize;

use super::desk::{Callable, Opening};

/// The JSON of one of these shapes.
pub(super) fn json<T: Serialize>(shape: &T) -> Vec<u8> {
    serde_json::to_vec(shape).expect("the shapes have text keys and finite numbers only, so they have a JSON form")
}

/// `GET /v1/models`.
#[derive(Debug, Serialize)]
pub(super) struct ModelList {
    object: &'static str,
    data: Vec<Model>,
}

impl ModelList {
    pub(super) fn new(callables: &[Callable]) -> ModelList {
        ModelList { object: "list", data: callables.iter().map(Model::new).collect() }
    }
}

/// `GET /v1/models/{id}`.
#[derive(Debug, Serialize)]
pub(super) struct Model {
    id: String,
    object: &'static str,
    /// Unix seconds.
    created: i64,
    owned_by: &'static str,
    /// Beyond the protocol: what answers under this name.
    meta: ModelMeta,
}

#[derive(Debug, Serialize)]
struct ModelMeta {
    version: String,
    context_tokens: u32,
}

impl Model {
    pub(super) fn new(callable: &Callable) -> Model {
        Model {
            id: callable.name.clone(),
            object: "model",
            created: callable.created_at_ms.div_euclid(1000),
            owned_by: "hone",
            meta: ModelMeta { version: callable.version_reference.clone(), context_tokens: callable.context_tokens },
        }
    }
}

/// What was used: exactly what the closed ledger row says.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptTokensDetails,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct PromptTokensDetails {
    cached_tokens: u64,
}

impl From<&LedgerRow> for Usage {
    fn from(row: &LedgerRow) -> Usage {
        Usage {
            prompt_tokens: row.prompt_tokens,
            completion_tokens: row.completion_tokens,
            total_tokens: row.prompt_tokens.saturating_add(row.completion_tokens),
            prompt_tokens_details: PromptTokensDetails { cached_tokens: row.cached_tokens },
        }
    }
}

/// What all objects of one answer say about it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Head {
    id: String,
    object: &'static str,
    /// Unix seconds: when the ledger row was opened.
    created: i64,
    model: String,
    /// What answered: `name@number` of the version.
    system_fingerprint: String,
}

impl Head {
    fn new(opening: &Opening, object: &'static str) -> Head {
        Head {
            id: format!("chatcmpl-{}", opening.ledger),
            object,
            created: opening.ledger.made_at_ms().div_euclid(1000),
            model: opening.service.clone(),
            system_fingerprint: opening.version_reference.clone(),
        }
    }
}

/// A whole answer.
#[derive(Debug, Serialize)]
pub(super) struct Completion<'a> {
    #[serde(flatten)]
    head: Head,
    choices: [Choice<'a>; 1],
    usage: Usage,
}

#[derive(Debug, Serialize)]
struct Choice<'a> {
    index: u32,
    message: Message<'a>,
    logprobs: Option<()>,
    finish_reason: &'static str,
}

#[derive(Debug, Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
    refusal: Option<()>,
}

impl<'a> Completion<'a> {
    pub(super) fn new(opening: &Opening, text: &'a str, finish: Finish, row: &LedgerRow) -> Completion<'a> {
        let message = Message { role: "assistant", content: text, refusal: None };
        Completion {
            head: Head::new(opening, "chat.completion"),
            choices: [Choice { index: 0, message, logprobs: None, finish_reason: finish.word() }],
            usage: Usage::from(row),
        }
    }
}

/// Makes the chunks of one streamed answer.
#[derive(Debug)]
pub(super) struct Chunks {
    head: Head,
    include_usage: bool,
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
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

#[derive(Debug, Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<Option<()>>,
}

impl Chunks {
    pub(super) fn new(opening: &Opening, include_usage: bool) -> Chunks {
        Chunks { head: Head::new(opening, "chat.completion.chunk"), include_usage }
    }

    fn chunk(&self, delta: Delta<'_>, finish_reason: Option<&'static str>) -> Vec<u8> {
        let choices = [ChunkChoice { index: 0, delta, logprobs: None, finish_reason }];
        json(&Chunk { head: &self.head, choices: &choices, usage: self.include_usage.then_some(None) })
    }

    /// The first chunk: who speaks.
    pub(super) fn role(&self) -> Vec<u8> {
        self.chunk(Delta { role: Some("assistant"), content: Some(""), refusal: Some(None) }, None)
    }

    /// A piece of the answer.
    pub(super) fn text(&self, text: &str) -> Vec<u8> {
        self.chunk(Delta { content: Some(text), ..Delta::default() }, None)
    }

    /// The last chunk with a choice: why the answer ended.
    pub(super) fn finish(&self, finish: Finish) -> Vec<u8> {
        self.chunk(Delta::default(), Some(finish.word()))
    }

    /// The usage chunk, when the client asked for it.
    pub(super) fn usage(&self, row: &LedgerRow) -> Option<Vec<u8>> {
        let chunk = Chunk { head: &self.head, choices: &[], usage: Some(Some(Usage::from(row))) };
        self.include_usage.then(|| json(&chunk))
    }
}
