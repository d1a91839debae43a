//! The lines of OpenAI's batch files: a request in, a response or an error out. Each line is bounded JSON of a request, read by
//! what reads the same request on its own route. Lives here: both shapes. Never here: who asks, files, jobs.

use std::sync::Arc;

use axum::http::StatusCode;
use hone_protocol::application::LedgerRow;
use hone_protocol::batch::BatchRow;
use hone_protocol::failure::{Failure, FailureCode};
use serde_json::{Value, json};

use super::answer::{Dialect, Gathered};
use super::auth::BODY_BYTES_MAX;
use super::desk::{Ask, EmbedAsk, Opening, Vector};
use super::failure::Refusal;
use super::{ask, chat, completions, embeddings, fields, openai};

/// Routes whose requests a batch may hold.
pub(crate) const ENDPOINTS: &[&str] = &["/v1/chat/completions", "/v1/completions", "/v1/embeddings"];
/// Longest line in bytes: a body as its own route takes it, and what stands around it.
pub(crate) const LINE_BYTES_MAX: usize = BODY_BYTES_MAX + (4 << 10);
/// Longest `custom_id` in bytes.
const CUSTOM_ID_BYTES_MAX: usize = 256;

/// Most texts in one line of embeddings: its answer is kept as a whole.
const LINE_INPUTS_MAX: usize = 256;

/// Makes what is kept of an answer.
pub(crate) type Write = Arc<dyn Fn(&Opening, &[Gathered], &LedgerRow) -> Result<String, Failure> + Send + Sync>;
/// Makes what is kept of vectors.
pub(crate) type WriteVectors = Arc<dyn Fn(&Opening, &[Vector], &LedgerRow) -> Result<String, Failure> + Send + Sync>;

/// What a row of a batch asks, and what is kept of it.
#[derive(Clone)]
pub(crate) enum Wanted {
    /// An answer.
    Answer(Ask, Write),
    /// Vectors.
    Vectors(EmbedAsk, WriteVectors),
}

/// A line that makes sense.
pub(crate) struct Line {
    /// What the client named it.
    pub(crate) custom_id: String,
    body: Value,
    endpoint: &'static str,
}

/// What is wrong with a line, in one field or as a whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The field; empty for the whole line.
    pub(crate) field: &'static str,
    /// The sentence.
    pub(crate) reason: String,
}

/// Reads what stands around a request. `endpoint` is the batch's own.
pub(crate) fn read(line: &[u8], endpoint: &str) -> Result<Line, Fault> {
    let fault = |field, reason: String| Fault { field, reason };
    let endpoint = ENDPOINTS.iter().find(|known| **known == endpoint);
    let endpoint = endpoint.ok_or_else(|| fault("url", "the batch is of a route that is not there".into()))?;
    fields::check_depth(line).map_err(|refusal| fault("", refusal.message().to_owned()))?;
    let value: Value = serde_json::from_slice(line).map_err(|error| fault("", format!("no JSON: {error}")))?;
    let Value::Object(mut line) = value else { return Err(fault("", "no JSON object".into())) };
    let text = |value: Option<Value>| match value {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    let custom_id = text(line.remove("custom_id")).filter(|id| (1..=CUSTOM_ID_BYTES_MAX).contains(&id.len()));
    let custom_id = custom_id
        .ok_or_else(|| fault("custom_id", format!("custom_id must be a text of 1 to {CUSTOM_ID_BYTES_MAX} bytes")))?;
    if text(line.remove("method")).as_deref() != Some("POST") {
        return Err(fault("method", "method must be POST".into()));
    }
    match text(line.remove("url")) {
        Some(url) if url == *endpoint => {}
        Some(url) => {
            let shown: String = url.chars().take(64).collect();
            return Err(fault("url", format!("url is {shown:?}; the batch is of {endpoint}")));
        }
        None => return Err(fault("url", "url is missing".into())),
    }
    match line.remove("body") {
        Some(body @ Value::Object(_)) => Ok(Line { custom_id, body, endpoint }),
        _ => Err(fault("body", "body must be an object: the request".into())),
    }
}

impl Line {
    /// What the request asks, and what makes the body of its response. A refusal is the response of this line alone.
    pub(crate) fn wanted(&self) -> Result<Wanted, Failure> {
        self.read().map_err(|refusal| refusal.failure())
    }

    fn read(&self) -> Result<Wanted, Refusal> {
        let body = openai::json(&self.body);
        let (ask, stream, write): (Ask, bool, Write) = match self.endpoint {
            "/v1/embeddings" => return vectors(&body),
            "/v1/completions" => {
                let read = completions::read(&body)?;
                let (tells, choices) = (read.ask.wish.chances.is_some(), read.ask.choices());
                let write = move |opening: &Opening, gathered: &[Gathered], row: &LedgerRow| {
                    text(completions::whole(opening, tells, choices).whole(gathered, row))
                };
                (read.ask, read.stream, Arc::new(write))
            }
            _ => {
                let read = ask::read(&body)?;
                let (tells, answers) = (read.ask.wish.chances.is_some(), read.ask.answers);
                let write = move |opening: &Opening, gathered: &[Gathered], row: &LedgerRow| {
                    text(chat::whole(opening, tells, answers).whole(gathered, row))
                };
                (read.ask, read.stream, Arc::new(write))
            }
        };
        if stream {
            let message = "stream must be false: a batch has nobody who reads";
            return Err(Refusal::param("stream", "unsupported_value", message));
        }
        Ok(Wanted::Answer(ask, write))
    }
}

fn vectors(body: &[u8]) -> Result<Wanted, Refusal> {
    let read = embeddings::read(body)?;
    let inputs = read.ask.inputs.len();
    if inputs > LINE_INPUTS_MAX {
        let message = format!("input has {inputs} entries; a line of a batch takes at most {LINE_INPUTS_MAX}");
        return Err(Refusal::param("input", "invalid_value", message));
    }
    let base64 = read.base64;
    let write = move |opening: &Opening, vectors: &[Vector], row: &LedgerRow| {
        text(embeddings::whole(opening, vectors, row, base64))
    };
    Ok(Wanted::Vectors(read.ask, Arc::new(write)))
}

fn text(body: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(body).map_err(|error| Failure::new(FailureCode::Internal, error.to_string()))
}

/// The line that tells what became of a request.
pub(crate) fn write(row: &BatchRow) -> Vec<u8> {
    let request = row.ledger.map_or_else(|| format!("line-{}", row.row), |ledger| ledger.to_string());
    let (status, body) = match &row.answer {
        Ok(body) => (StatusCode::OK, serde_json::from_str(body).unwrap_or(Value::Null)),
        Err(failure) => {
            let refusal = Refusal::from(failure.clone());
            (refusal.status(), serde_json::to_value(refusal.body()).unwrap_or(Value::Null))
        }
    };
    let response = json!({"status_code": status.as_u16(), "request_id": request, "body": body});
    let line =
        json!({"id": format!("batch_{request}"), "custom_id": row.custom_id, "response": response, "error": null});
    let mut line = openai::json(&line);
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: &str = "/v1/chat/completions";

    fn fault(line: &Value) -> &'static str {
        read(line.to_string().as_bytes(), CHAT).err().unwrap().field
    }

    #[test]
    fn a_line_is_read_as_its_route_reads_it_and_each_fault_has_its_field() {
        let body = json!({"model": "base", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4});
        let good = json!({"custom_id": "a", "method": "POST", "url": CHAT, "body": body});
        let line = read(good.to_string().as_bytes(), CHAT).unwrap();
        let Wanted::Answer(ask, _) = line.wanted().unwrap() else { panic!("a chat is answered") };
        assert_eq!((line.custom_id.as_str(), ask.service.as_str(), ask.tokens_max), ("a", "base", Some(4)));
        let with = |field: &str, value: Value| {
            let mut line = good.clone();
            line[field] = value;
            line
        };
        assert_eq!(fault(&with("custom_id", json!(""))), "custom_id");
        assert_eq!(fault(&with("method", json!("GET"))), "method");
        assert_eq!(fault(&with("url", json!("/v1/completions"))), "url");
        assert_eq!(fault(&with("body", json!("x"))), "body");
        assert_eq!(fault(&json!([1])), "");
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert!(read(deep.as_bytes(), CHAT).err().unwrap().reason.contains("nested"));
        let mut streams = good.clone();
        streams["body"]["stream"] = json!(true);
        let refused = read(streams.to_string().as_bytes(), CHAT).unwrap().wanted().err().unwrap();
        assert_eq!((refused.code, refused.place.as_str()), (FailureCode::InvalidField, "stream"));
    }

    #[test]
    fn a_line_of_embeddings_asks_for_vectors_and_not_for_too_many() {
        let line = |input: Value| {
            let body = json!({"model": "vectors", "input": input, "encoding_format": "base64"});
            let line = json!({"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": body});
            read(line.to_string().as_bytes(), "/v1/embeddings").unwrap().wanted()
        };
        let Ok(Wanted::Vectors(ask, _)) = line(json!(["a", "b"])) else { panic!("texts have vectors") };
        assert_eq!((ask.service.as_str(), ask.inputs.len()), ("vectors", 2));
        let refused = line(json!(vec!["a"; LINE_INPUTS_MAX + 1])).err().unwrap();
        assert_eq!((refused.code, refused.place.as_str()), (FailureCode::InvalidField, "input"));
        assert_eq!(line(json!("")).err().unwrap().place, "input");
    }

    #[test]
    fn what_became_of_a_line_keeps_its_name_and_tells_the_status() {
        let failure = Failure::new(FailureCode::ContextExceeded, "the prompt has 900 tokens");
        let row = BatchRow {
            row: 3,
            custom_id: "c".into(),
            answer: Err(failure),
            finish: String::new(),
            version: String::new(),
            ledger: None,
            prompt_tokens: 0,
            cached_tokens: 0,
            completion_tokens: 0,
        };
        let line: Value = serde_json::from_slice(&write(&row)).unwrap();
        assert_eq!((&line["custom_id"], &line["response"]["status_code"]), (&json!("c"), &json!(400)));
        assert_eq!(line["response"]["body"]["error"]["code"], "context_length_exceeded");
        let answered = BatchRow { answer: Ok("{\"object\":\"chat.completion\"}".into()), ..row };
        let line: Value = serde_json::from_slice(&write(&answered)).unwrap();
        assert_eq!(line["response"]["body"]["object"], "chat.completion");
    }
}
