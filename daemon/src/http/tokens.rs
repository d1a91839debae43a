//! `POST /tokenize`, `POST /detokenize` and `GET /tokenizer_info`: the model's own tokens, in the shapes that evaluation
//! harnesses read (vLLM's). They cost nothing. Never here: a tokenizer.

use axum::body::Body;
use axum::extract::{Extension, Query, Request, State};
use axum::http::Response;
use axum::response::IntoResponse;
use hone_protocol::generate::Prompt;
use serde::Serialize;
use serde_json::Value;

use super::desk::{Callable, Caller, Desk};
use super::failure::Refusal;
use super::fields::{self, Fields, missing, wrong_type};
use super::openai::json;
use super::{Room, completions, conversation, json_response, models, read_body};

/// Asks by its name, or the only one there is.
fn service<D: Desk>(room: &Room<D>, caller: &Caller, name: Option<String>) -> Result<Callable, Refusal> {
    let services = room.desk.services(caller);
    match name {
        Some(name) => models::find(&services, &name).cloned(),
        None => models::only(&services).cloned(),
    }
}

fn respond(made: Result<Vec<u8>, Refusal>) -> Response<Body> {
    match made {
        Ok(json) => json_response(json),
        Err(refusal) => refusal.into_response(),
    }
}

fn name(fields: &mut Fields) -> Result<Option<String>, Refusal> {
    match fields.take("model") {
        None => Ok(None),
        Some(Value::String(name)) => Ok(Some(name)),
        Some(_) => Err(wrong_type("model", "the name of a model")),
    }
}

#[derive(Debug, Serialize)]
struct Tokens {
    count: usize,
    max_model_len: u32,
    tokens: Vec<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_strs: Option<Vec<String>>,
}

/// The tokens of a text (`prompt`) or of a conversation (`messages`).
pub(super) async fn tokenize<D: Desk>(
    State(room): State<Room<D>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response<Body> {
    respond(try_tokenize(&room, &caller, request).await)
}

async fn try_tokenize<D: Desk>(room: &Room<D>, caller: &Caller, request: Request) -> Result<Vec<u8>, Refusal> {
    let mut fields = fields::read(&read_body(request, &room.limits).await?)?;
    let service = service(room, caller, name(&mut fields)?)?;
    let add_special = fields.flag("add_special_tokens")?.unwrap_or(true);
    // Spellings of control tokens are control tokens here, as harnesses expect: nobody's words are at stake.
    let parse_special = fields.flag("parse_special")?.unwrap_or(true);
    let spelled = fields.flag("return_token_strs")?.unwrap_or(false);
    let prompt = match fields.take("prompt") {
        Some(Value::String(text)) => Prompt::Text { text, parse_special, add_special },
        Some(_) => return Err(wrong_type("prompt", "a text")),
        None => Prompt::Chat(Box::new(conversation::read(&mut fields)?)),
    };
    let (tokens, pieces) = room.desk.spell(caller, &service.name, prompt).await.map_err(Refusal::from)?;
    let token_strs = spelled.then(|| pieces.iter().map(|b| String::from_utf8_lossy(&b.0).into_owned()).collect());
    Ok(json(&Tokens { count: tokens.len(), max_model_len: service.context_tokens, tokens, token_strs }))
}

#[derive(Debug, Serialize)]
struct Text {
    prompt: String,
}

/// The text of tokens.
pub(super) async fn detokenize<D: Desk>(
    State(room): State<Room<D>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response<Body> {
    respond(try_detokenize(&room, &caller, request).await)
}

async fn try_detokenize<D: Desk>(room: &Room<D>, caller: &Caller, request: Request) -> Result<Vec<u8>, Refusal> {
    let mut fields = fields::read(&read_body(request, &room.limits).await?)?;
    let service = service(room, caller, name(&mut fields)?)?;
    let tokens = match fields.take("tokens") {
        Some(Value::Array(list)) if list.is_empty() => return Ok(json(&Text { prompt: String::new() })),
        Some(Value::Array(list)) => completions::tokens("tokens", &list)?,
        Some(_) => return Err(wrong_type("tokens", "a list of token ids")),
        None => return Err(missing("tokens")),
    };
    let prompt = Prompt::Tokens(tokens);
    let (_, pieces) = room.desk.spell(caller, &service.name, prompt).await.map_err(Refusal::from)?;
    let bytes: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.0).collect();
    Ok(json(&Text { prompt: String::from_utf8_lossy(&bytes).into_owned() }))
}

#[derive(Debug, Serialize)]
struct Info {
    tokenizer_class: &'static str,
    bos_token: Option<String>,
    eos_token: Option<String>,
    pad_token: Option<String>,
    add_bos_token: bool,
    vocab_size: u32,
    model_max_length: u32,
    chat_template: Option<String>,
}

/// What is in the address: `?model=NAME`.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Which {
    model: Option<String>,
}

/// Special tokens and chat template.
pub(super) async fn tokenizer_info<D: Desk>(
    State(room): State<Room<D>>,
    Extension(caller): Extension<Caller>,
    Query(which): Query<Which>,
) -> Response<Body> {
    respond(info(&room, &caller, which.model).await)
}

async fn info<D: Desk>(room: &Room<D>, caller: &Caller, name: Option<String>) -> Result<Vec<u8>, Refusal> {
    let service = service(room, caller, name)?;
    let facts = room.desk.tokenizer(caller, &service.name).await.map_err(Refusal::from)?;
    let some = |text: String| (!text.is_empty()).then_some(text);
    Ok(json(&Info {
        tokenizer_class: "hone",
        bos_token: some(facts.bos),
        eos_token: some(facts.eos),
        pad_token: some(facts.pad),
        add_bos_token: facts.adds_bos,
        vocab_size: facts.vocabulary,
        model_max_length: service.context_tokens,
        chat_template: some(facts.chat_template),
    }))
}
