//! The shapes of the OpenAI protocol that several routes share: models, usage, the head of an answer.
//! Lives here: field names and their order. Never here: a decision, a token count of our own.
//! Answers are in `chat.rs` and its neighbours, errors in `failure.rs`.

use hone_protocol::application::LedgerRow;
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
    kind: &'static str,
}

impl Model {
    pub(super) fn new(callable: &Callable) -> Model {
        Model {
            id: callable.name.clone(),
            object: "model",
            created: callable.created_at_ms.div_euclid(1000),
            owned_by: "hone",
            meta: ModelMeta {
                version: callable.version_reference.clone(),
                context_tokens: callable.context_tokens,
                kind: if callable.is_encoder { "embeddings" } else { "chat" },
            },
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
    /// Beyond the protocol: said where a server elsewhere told no counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    estimated: Option<bool>,
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
            estimated: row.is_estimate().then_some(true),
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
    pub(super) fn new(opening: &Opening, prefix: &str, object: &'static str) -> Head {
        Head {
            id: format!("{prefix}-{}", opening.ledger),
            object,
            created: opening.ledger.made_at_ms().div_euclid(1000),
            model: opening.service.clone(),
            system_fingerprint: opening.version_reference.clone(),
        }
    }

    /// The last part of the id: unique over all requests.
    pub(super) fn short(&self) -> &str {
        self.id.rsplit('-').next().unwrap_or(&self.id)
    }
}

/// A log-probability as JSON can have it: what is impossible has a very small one, as in OpenAI's own answers. Rounded
/// to what F32 says, so that equal ones are equal texts.
pub(super) fn logprob(ln_p: f32) -> f64 {
    f64::from(ln_p.max(-9999.0))
}
