//! `POST /v1/completions`, plain and streaming: goes on from texts or tokens as they stand, with log-probabilities of
//! answer and prompt, as evaluation harnesses read them. Lives here: its fields and the shapes of its answers.
//! Never here: counts (`answer.rs`), a template.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::Response;
use axum::response::IntoResponse;
use hone_protocol::application::LedgerRow;
use hone_protocol::generate::{Channel, Prompt, TokenChance, Wish};
use serde::Serialize;
use serde_json::{Map, Value};

use super::answer::{self, Asked, Dialect, End, Gathered};
use super::desk::{Ask, Caller, Desk, Opening, Piece};
use super::failure::Refusal;
use super::fields::{self, CHOICES_MAX, Fields, missing, out_of_range, wrong_type};
use super::openai::{Head, Usage, json, logprob};
use super::wire::Wire;
use super::{Room, conversation, read_body, sse};

/// Longest answer in tokens when the request does not say: the protocol's own default.
const TOKENS_MAX: u32 = 16;
/// Refused, unless they ask for nothing.
const UNSUPPORTED: &[&str] = &["suffix", "best_of"];

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
    let read = read(&read_body(request, &room.limits).await?)?;
    let (include_usage, tells_chances) = (read.include_usage, read.ask.wish.chances.is_some());
    let choices = read.ask.choices();
    let dialect = move |opening: &Opening| Texts {
        head: Head::new(opening, "cmpl", "text_completion"),
        include_usage,
        tells_chances,
        offsets: vec![Offset::default(); choices],
    };
    let asked = Asked { ask: read.ask, stream: read.stream, ignored: read.ignored, dialect };
    answer::answer(room, caller, wire, asked).await
}

/// A request that makes sense.
#[derive(Debug)]
pub(super) struct TextRequest {
    pub(super) ask: Ask,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) ignored: Vec<String>,
}

/// Reads the body.
pub(super) fn read(body: &[u8]) -> Result<TextRequest, Refusal> {
    let mut fields = fields::read(body)?;
    let service = fields.model()?;
    let prompts = prompts(&mut fields)?;
    if fields.take("best_of").is_some_and(|best| best != 1) {
        return Err(Refusal::param("best_of", "unsupported_value", "best_of must be 1; use n and choose yourself"));
    }
    fields.refuse(UNSUPPORTED)?;
    let answers = fields.answers()?;
    if prompts.len() as u64 * u64::from(answers) > CHOICES_MAX {
        let message = format!("{} prompts with n {answers} are more than {CHOICES_MAX} answers", prompts.len());
        return Err(out_of_range("n", message));
    }
    let echo = fields.flag("echo")?.unwrap_or(false);
    let wish = Wish {
        chances: fields.top("logprobs")?,
        echo,
        format: conversation::response_format(&mut fields)?,
        ..fields.wish()?
    };
    let tokens_max = Some(fields.tokens_max(u64::from(!echo))?.unwrap_or(TOKENS_MAX));
    let wish = Wish { stop: fields.stop()?, ..wish };
    let user = fields.user()?;
    let metadata = fields.metadata()?;
    let stream = fields.flag("stream")?.unwrap_or(false);
    let include_usage = fields.stream_options(stream)?;
    let route = "/v1/completions";
    let ask = Ask { service, prompts, answers, wish, tokens_max, user, metadata, route };
    Ok(TextRequest { ask, stream, include_usage, ignored: fields.rest() })
}

/// A text, a list of texts, tokens, or a list of lists of tokens.
fn prompts(fields: &mut Fields) -> Result<Vec<Prompt>, Refusal> {
    let parse_special = fields.flag("parse_special")?.unwrap_or(false);
    let add_special = fields.flag("add_special_tokens")?.unwrap_or(true);
    let text = |text: String| Prompt::Text { text, parse_special, add_special };
    let Some(prompt) = fields.take("prompt") else { return Err(missing("prompt")) };
    let list = match prompt {
        Value::String(one) => return Ok(vec![text(one)]),
        Value::Array(list) if list.is_empty() => return Err(out_of_range("prompt", "prompt is empty")),
        Value::Array(list) => list,
        _ => return Err(wrong_type("prompt", "a text, texts, tokens or lists of tokens")),
    };
    if list[0].is_number() {
        return Ok(vec![Prompt::Tokens(tokens("prompt", &list)?)]);
    }
    if list.len() as u64 > CHOICES_MAX {
        return Err(out_of_range("prompt", format!("{} prompts; at most {CHOICES_MAX} are taken", list.len())));
    }
    let read = |(index, one): (usize, Value)| match one {
        Value::String(one) => Ok(text(one)),
        Value::Array(list) => Ok(Prompt::Tokens(tokens(&format!("prompt[{index}]"), &list)?)),
        _ => Err(wrong_type(format!("prompt[{index}]"), "a text or a list of tokens")),
    };
    list.into_iter().enumerate().map(read).collect()
}

/// A list of token ids. Whether they are of this model is the worker's to say.
pub(super) fn tokens(place: &str, list: &[Value]) -> Result<Vec<i32>, Refusal> {
    let token = |value: &Value| value.as_i64().and_then(|token| i32::try_from(token).ok()).filter(|token| *token >= 0);
    match list.iter().map(token).collect::<Option<Vec<i32>>>() {
        Some(tokens) if !tokens.is_empty() => Ok(tokens),
        Some(_) => Err(out_of_range(place, format!("{place} has no tokens"))),
        None => Err(wrong_type(place, "a list of token ids")),
    }
}

/// The dialect of a whole answer.
pub(super) fn whole(opening: &Opening, tells_chances: bool, choices: usize) -> impl Dialect {
    let head = Head::new(opening, "cmpl", "text_completion");
    Texts { head, include_usage: false, tells_chances, offsets: vec![Offset::default(); choices] }
}

/// The dialect of the route.
#[derive(Debug)]
struct Texts {
    head: Head,
    include_usage: bool,
    tells_chances: bool,
    /// Where the next token of each choice begins.
    offsets: Vec<Offset>,
}

/// Counts characters of text that comes in tokens, which need not end where characters do.
#[derive(Debug, Clone, Default)]
struct Offset {
    characters: usize,
    rest: Vec<u8>,
}

impl Offset {
    /// Where this token begins; goes on behind it.
    fn pass(&mut self, bytes: &[u8]) -> usize {
        let here = self.characters;
        self.rest.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.rest) {
            Ok(_) => self.rest.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => self.rest.len(),
        };
        let passed: Vec<u8> = self.rest.drain(..whole).collect();
        self.characters += String::from_utf8_lossy(&passed).chars().count();
        here
    }
}

#[derive(Debug, Serialize)]
struct Completion<'a> {
    #[serde(flatten)]
    head: &'a Head,
    choices: Vec<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

#[derive(Debug, Serialize)]
struct Choice<'a> {
    index: u32,
    text: &'a str,
    logprobs: Option<LogProbs>,
    finish_reason: Option<&'static str>,
}

#[derive(Debug, Default, Serialize)]
struct LogProbs {
    tokens: Vec<String>,
    token_logprobs: Vec<Option<f64>>,
    top_logprobs: Vec<Option<Map<String, Value>>>,
    text_offset: Vec<usize>,
}

impl LogProbs {
    fn new<'c>(chances: impl Iterator<Item = &'c TokenChance>, offset: &mut Offset) -> LogProbs {
        let mut all = LogProbs::default();
        for chance in chances {
            all.tokens.push(spelling(&chance.bytes.0));
            all.token_logprobs.push(chance.ln_p.map(logprob));
            all.text_offset.push(offset.pass(&chance.bytes.0));
            all.top_logprobs.push(chance.ln_p.map(|own| {
                let mut top: Map<String, Value> = Map::new();
                for (_, bytes, ln_p) in &chance.top {
                    // Of two tokens with one spelling the likelier stays.
                    top.entry(spelling(&bytes.0)).or_insert_with(|| logprob(*ln_p).into());
                }
                // As in the protocol, the token itself is among them.
                top.entry(spelling(&chance.bytes.0)).or_insert_with(|| logprob(own).into());
                top
            }));
        }
        all
    }
}

/// A token as text; bytes that are no whole characters are spelled as the protocol does.
fn spelling(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold("bytes:".to_owned(), |text, byte| format!("{text}\\x{byte:02x}")),
    }
}

impl Texts {
    fn chunk(&self, choice: Choice<'_>) -> Vec<u8> {
        let usage = self.include_usage.then_some(None);
        sse::event(&json(&Completion { head: &self.head, choices: vec![choice], usage })).to_vec()
    }

    fn logprobs(&mut self, choice: u32, chances: &[TokenChance]) -> Option<LogProbs> {
        let offset = &mut self.offsets[choice as usize];
        self.tells_chances.then(|| LogProbs::new(chances.iter(), offset))
    }
}

impl Dialect for Texts {
    fn begin(&mut self) -> Vec<u8> {
        Vec::new()
    }

    fn echo(&mut self, choice: u32, text: &str, chances: Vec<TokenChance>) -> Vec<u8> {
        let logprobs = self.logprobs(choice, &chances);
        self.chunk(Choice { index: choice, text, logprobs, finish_reason: None })
    }

    fn piece(&mut self, piece: &Piece) -> Vec<u8> {
        if piece.text.is_empty() || piece.channel != Channel::Text {
            return Vec::new();
        }
        let logprobs = self.logprobs(piece.choice, &piece.chances);
        self.chunk(Choice { index: piece.choice, text: &piece.text, logprobs, finish_reason: None })
    }

    fn end(&mut self, ends: &[End], row: &LedgerRow) -> Vec<u8> {
        let mut frames = Vec::new();
        for end in ends {
            let logprobs = self.logprobs(end.choice, &end.chances);
            let finish_reason = Some(end.finish.word());
            frames.extend(self.chunk(Choice { index: end.choice, text: "", logprobs, finish_reason }));
        }
        if self.include_usage {
            let usage = Completion { head: &self.head, choices: Vec::new(), usage: Some(Some(Usage::from(row))) };
            frames.extend_from_slice(&sse::event(&json(&usage)));
        }
        frames.extend_from_slice(sse::DONE);
        frames
    }

    fn whole(&self, choices: &[Gathered], row: &LedgerRow) -> Vec<u8> {
        let texts: Vec<String> = choices.iter().map(|choice| format!("{}{}", choice.echo, choice.text)).collect();
        let choice = |(index, (gathered, text))| {
            let gathered: &Gathered = gathered;
            let chances = gathered.chances.iter().chain(&gathered.end);
            Choice {
                index: index as u32,
                text,
                logprobs: self.tells_chances.then(|| LogProbs::new(chances, &mut Offset::default())),
                finish_reason: gathered.finish.map(|finish| finish.word()),
            }
        };
        let choices = choices.iter().zip(texts.iter().map(String::as_str)).enumerate().map(choice).collect();
        json(&Completion { head: &self.head, choices, usage: Some(Some(Usage::from(row))) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal(body: Value) -> String {
        let refusal = read(body.to_string().as_bytes()).expect_err(&body.to_string());
        refusal.message().to_owned()
    }

    #[test]
    fn prompts_have_four_forms() {
        let prompts =
            |prompt: Value| read(json!({"model": "m", "prompt": prompt}).to_string().as_bytes()).unwrap().ask.prompts;
        let text = |text: &str| Prompt::Text { text: text.into(), parse_special: false, add_special: true };
        assert_eq!(prompts(json!("a")), [text("a")]);
        assert_eq!(prompts(json!(["a", "b"])), [text("a"), text("b")]);
        assert_eq!(prompts(json!([5, 6])), [Prompt::Tokens(vec![5, 6])]);
        assert_eq!(prompts(json!([[5], [6, 7]])), [Prompt::Tokens(vec![5]), Prompt::Tokens(vec![6, 7])]);
        let plain = read(br#"{"model":"m","prompt":""}"#).unwrap();
        assert_eq!((plain.ask.tokens_max, plain.ask.answers, plain.ask.wish.echo), (Some(16), 1, false));
    }

    #[test]
    fn wrong_requests_are_named() {
        for (more, part) in [
            (json!({}), "prompt is missing"),
            (json!({"prompt": []}), "prompt is empty"),
            (json!({"prompt": [[]]}), "prompt[0] has no tokens"),
            (json!({"prompt": [1, "a"]}), "list of token ids"),
            (json!({"prompt": [-1]}), "list of token ids"),
            (json!({"prompt": {"a": 1}}), "prompt must be"),
            (json!({"prompt": "a", "max_tokens": 0}), "max_tokens is 0"),
            (json!({"prompt": "a", "logprobs": 21}), "logprobs is 21"),
            (json!({"prompt": "a", "suffix": "b"}), "suffix is not supported"),
            (json!({"prompt": "a", "best_of": 3}), "best_of must be 1"),
            (json!({"prompt": ["a", "b"], "n": 100}), "more than 128 answers"),
        ] {
            let mut body = json!({"model": "m"});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let message = refusal(body);
            assert!(message.contains(part), "{more}: {message}");
        }
        assert!(read(br#"{"model":"m","prompt":"a","max_tokens":0,"echo":true}"#).is_ok());
    }

    #[test]
    fn offsets_count_characters() {
        let mut offset = Offset::default();
        let tokens: [&[u8]; 5] = ["né".as_bytes(), &[0xE4, 0xBD], &[0xA0], b"a", &[0xFF]];
        assert_eq!(tokens.map(|token| offset.pass(token)), [0, 2, 2, 3, 4]);
        assert_eq!(spelling(&[0xE4]), "bytes:\\xe4");
    }
}
