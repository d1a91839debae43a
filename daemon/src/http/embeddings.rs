//! `POST /v1/embeddings`: a vector for each text or list of tokens, as numbers or as base64. Lives here: its fields and the
//! shape of its answer. Never here: counts (the desk closes the row before this answers), what a model can do.

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::Response;
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hone_protocol::application::LedgerRow;
use hone_protocol::embed::INPUTS_MAX;
use hone_protocol::generate::Prompt;
use serde::Serialize;
use serde_json::Value;

use super::desk::{Caller, Desk, EmbedAsk, Opening, Vector};
use super::failure::Refusal;
use super::fields::{self, Fields, missing, out_of_range, wrong_type};
use super::openai::json;
use super::rate;
use super::{RequestId, Room, answer, completions, json_response, models, read_body};

/// The route.
pub(super) async fn embed<D: Desk>(
    State(room): State<Room<D>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response<Body> {
    match try_embed(&room, &caller, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

async fn try_embed<D: Desk>(room: &Room<D>, caller: &Caller, request: Request) -> Result<Response<Body>, Refusal> {
    let EmbedRequest { ask, base64, ignored } = read(&read_body(request, &room.limits).await?)?;
    models::find(&room.desk.services(caller), &ask.service)?;
    let made = room.desk.embed(caller, ask).await.map_err(Refusal::from)?;
    let mut response = json_response(whole(&made.opening, &made.vectors, &made.row, base64));
    // The owner finds the request under this id in the ledger.
    response.extensions_mut().insert(RequestId(made.opening.ledger.to_string()));
    rate::tell(made.opening.allowance, response.headers_mut());
    answer::note_ignored(&mut response, &ignored);
    Ok(response)
}

/// A request that makes sense.
#[derive(Debug)]
pub(super) struct EmbedRequest {
    /// What is asked.
    pub(super) ask: EmbedAsk,
    /// Whether vectors are told as base64.
    pub(super) base64: bool,
    ignored: Vec<String>,
}

/// The body of the response.
pub(super) fn whole(opening: &Opening, vectors: &[Vector], row: &LedgerRow, base64: bool) -> Vec<u8> {
    json(&Answer::new(opening, vectors, row, base64))
}

/// Reads the body of a request.
pub(super) fn read(body: &[u8]) -> Result<EmbedRequest, Refusal> {
    let mut fields = fields::read(body)?;
    let service = fields.model()?;
    let inputs = inputs(&mut fields)?;
    let base64 = match fields.take("encoding_format") {
        None => false,
        Some(Value::String(word)) if word == "float" => false,
        Some(Value::String(word)) if word == "base64" => true,
        Some(_) => return Err(out_of_range("encoding_format", "encoding_format must be float or base64")),
    };
    let dimensions = fields.whole("dimensions", 1, fields::COUNT_MAX)?.map(|count| count as u32);
    let cut = fields.flag("truncate")?.unwrap_or(false);
    let user = fields.user()?;
    let ask = EmbedAsk { service, inputs, dimensions, cut, user };
    Ok(EmbedRequest { ask, base64, ignored: fields.rest() })
}

/// A text, a list of texts, tokens, or a list of lists of tokens. A text gets the tokens around it that the model expects,
/// and the spelling of a control token in it is a text like any other; tokens are taken as they are.
fn inputs(fields: &mut Fields) -> Result<Vec<Prompt>, Refusal> {
    let text = |place: &str, text: String| match text.is_empty() {
        false => Ok(Prompt::Text { text, parse_special: false, add_special: true }),
        true => Err(out_of_range(place, format!("{place} is an empty text"))),
    };
    let list = match fields.take("input") {
        None => return Err(missing("input")),
        Some(Value::String(one)) => return Ok(vec![text("input", one)?]),
        Some(Value::Array(list)) if list.is_empty() => return Err(out_of_range("input", "input is an empty list")),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(wrong_type("input", "a text, texts, tokens or lists of tokens")),
    };
    if list[0].is_number() {
        return Ok(vec![Prompt::Tokens(completions::tokens("input", &list)?)]);
    }
    if list.len() > INPUTS_MAX {
        return Err(out_of_range("input", format!("input has {} entries; at most {INPUTS_MAX} are taken", list.len())));
    }
    let read = |(index, one): (usize, Value)| {
        let place = format!("input[{index}]");
        match one {
            Value::String(one) => text(&place, one),
            Value::Array(list) => Ok(Prompt::Tokens(completions::tokens(&place, &list)?)),
            _ => Err(wrong_type(place, "a text or a list of tokens")),
        }
    };
    list.into_iter().enumerate().map(read).collect()
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    object: &'static str,
    data: Vec<Item<'a>>,
    model: &'a str,
    usage: Usage,
}

#[derive(Debug, Serialize)]
struct Item<'a> {
    object: &'static str,
    index: usize,
    embedding: Values<'a>,
    /// Beyond the protocol: said of an input that was cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    truncated: Option<bool>,
}

/// Numbers, or their bytes (F32, the low byte first) in base64.
#[derive(Debug)]
enum Values<'a> {
    Numbers(&'a [f32]),
    Base64(String),
}

impl Serialize for Values<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Values::Numbers(numbers) => numbers.serialize(serializer),
            Values::Base64(text) => serializer.serialize_str(text),
        }
    }
}

/// Exactly what the closed ledger row says.
#[derive(Debug, Serialize)]
struct Usage {
    prompt_tokens: u64,
    total_tokens: u64,
}

impl<'a> Answer<'a> {
    fn new(opening: &'a Opening, vectors: &'a [Vector], row: &LedgerRow, base64: bool) -> Answer<'a> {
        let values = |numbers: &'a [f32]| match base64 {
            false => Values::Numbers(numbers),
            true => Values::Base64(
                STANDARD.encode(numbers.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>()),
            ),
        };
        let data = vectors.iter().enumerate().map(|(index, vector)| Item {
            object: "embedding",
            index,
            embedding: values(&vector.values),
            truncated: vector.was_cut.then_some(true),
        });
        Answer {
            object: "list",
            data: data.collect(),
            model: &opening.service,
            usage: Usage { prompt_tokens: row.prompt_tokens, total_tokens: row.prompt_tokens },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn inputs_have_four_forms() {
        let read = |input: Value| super::read(json!({"model": "m", "input": input}).to_string().as_bytes()).unwrap();
        let text = |text: &str| Prompt::Text { text: text.into(), parse_special: false, add_special: true };
        assert_eq!(read(json!("a")).ask.inputs, [text("a")]);
        assert_eq!(read(json!(["a", "b"])).ask.inputs, [text("a"), text("b")]);
        assert_eq!(read(json!([5, 6])).ask.inputs, [Prompt::Tokens(vec![5, 6])]);
        assert_eq!(read(json!([[5], [6, 7]])).ask.inputs, [Prompt::Tokens(vec![5]), Prompt::Tokens(vec![6, 7])]);
        let plain = read(json!("a"));
        assert!(!plain.base64 && !plain.ask.cut && plain.ask.dimensions.is_none());
    }

    #[test]
    fn wrong_requests_are_named() {
        let many = vec!["a"; INPUTS_MAX + 1];
        for (more, part) in [
            (json!({}), "input is missing"),
            (json!({"input": ""}), "input is an empty text"),
            (json!({"input": []}), "input is an empty list"),
            (json!({"input": ["a", ""]}), "input[1] is an empty text"),
            (json!({"input": [[]]}), "input[0] has no tokens"),
            (json!({"input": [1, "a"]}), "list of token ids"),
            (json!({"input": ["a", 1]}), "input[1] must be"),
            (json!({"input": {"a": 1}}), "input must be"),
            (json!({"input": many}), "at most 2048 are taken"),
            (json!({"input": "a", "encoding_format": "int8"}), "float or base64"),
            (json!({"input": "a", "dimensions": 0}), "dimensions is 0"),
            (json!({"input": "a", "truncate": "END"}), "truncate must be"),
            (json!({"input": "a", "user": 7}), "user must be"),
        ] {
            let mut body = json!({"model": "m"});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let message = read(body.to_string().as_bytes()).expect_err(part).message().to_owned();
            assert!(message.contains(part), "{part}: {message}");
        }
    }
}
