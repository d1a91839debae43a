//! `POST /v1/responses`, plain and streaming, without a memory: the whole conversation comes with each request.
//! Lives here: its fields and the shapes of its answers. Never here: counts (`answer.rs`), stored responses.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::Response;
use axum::response::IntoResponse;
use hone_protocol::application::LedgerRow;
use hone_protocol::generate::{Channel, ChatPrompt, Finish, Format, Prompt, TokenChance, Tool, ToolChoice, Turn, Wish};
use hone_protocol::value::Json;
use serde_json::{Map, Value, json};

use super::answer::{self, Asked, Dialect, End, Gathered};
use super::desk::{Ask, Caller, Desk, Opening, Piece};
use super::failure::Refusal;
use super::fields::{self, COUNT_MAX, Fields, missing, out_of_range, wrong_type};
use super::wire::Wire;
use super::{Room, conversation, read_body, sse};

/// Refused, unless they ask for nothing: they need a memory, or are not built.
const UNSUPPORTED: &[&str] = &["previous_response_id", "conversation", "background", "prompt"];

/// The route.
pub(super) async fn respond<D: Desk>(
    State(room): State<Room<D>>,
    Extension(caller): Extension<Caller>,
    Extension(wire): Extension<Arc<Wire>>,
    request: Request,
) -> Response<Body> {
    match try_respond(&room, &caller, wire, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

async fn try_respond<D: Desk>(
    room: &Room<D>,
    caller: &Caller,
    wire: Arc<Wire>,
    request: Request,
) -> Result<Response<Body>, Refusal> {
    let (ask, stream, shown, ignored) = read(&read_body(request, &room.limits).await?)?;
    let dialect = move |opening: &Opening| Responses::new(opening, shown);
    answer::answer(room, caller, wire, Asked { ask, stream, ignored, dialect }).await
}

/// What is asked, whether as a stream, what the response repeats of it, and the fields that were not looked at.
type Read = (Ask, bool, Map<String, Value>, Vec<String>);

fn read(body: &[u8]) -> Result<Read, Refusal> {
    let mut fields = fields::read(body)?;
    let service = fields.model()?;
    fields.refuse(UNSUPPORTED)?;
    let mut shown = Map::new();
    let turns = turns(&mut fields, &mut shown)?;
    let tools = tools(&mut fields, &mut shown)?;
    let tool_choice = tool_choice(&mut fields, &tools, &mut shown)?;
    let parallel_calls = fields.flag("parallel_tool_calls")?.unwrap_or(true);
    let format = format(&mut fields, &mut shown)?;
    let tokens_max = fields.whole("max_output_tokens", 1, COUNT_MAX)?.map(|tokens| tokens as u32);
    let wish = Wish { format, ..fields.wish()? };
    let wish = Wish { stop: fields.stop()?, ..wish };
    shown.insert("parallel_tool_calls".into(), parallel_calls.into());
    shown.insert("max_output_tokens".into(), json!(tokens_max));
    shown.insert("temperature".into(), json!(wish.sampling.temperature));
    shown.insert("top_p".into(), json!(wish.sampling.top_p));
    let user = fields.user()?;
    let metadata = fields.metadata()?;
    let stream = fields.flag("stream")?.unwrap_or(false);
    let variables = Json(Value::Object(Map::new()));
    let prompt = ChatPrompt { turns, tools, tool_choice, parallel_calls, variables };
    let ask = Ask {
        service,
        prompts: vec![Prompt::Chat(Box::new(prompt))],
        answers: 1,
        wish,
        tokens_max,
        user,
        metadata,
        route: "/v1/responses",
    };
    Ok((ask, stream, shown, fields.rest()))
}

/// `instructions` and `input`: a text, or a list of messages, calls and their results.
fn turns(fields: &mut Fields, shown: &mut Map<String, Value>) -> Result<Vec<Turn>, Refusal> {
    let turn = |role: &str, content: String| Turn { role: role.into(), content, calls: Vec::new(), call_id: None };
    let mut turns = Vec::new();
    let instructions = fields.take("instructions");
    shown.insert("instructions".into(), json!(instructions));
    match instructions {
        None => {}
        Some(Value::String(text)) => turns.push(turn("system", text)),
        Some(_) => return Err(wrong_type("instructions", "a text")),
    }
    let items = match fields.take("input") {
        None => return Err(missing("input")),
        Some(Value::String(text)) => {
            turns.push(turn("user", text));
            return Ok(turns);
        }
        Some(Value::Array(items)) if items.is_empty() => return Err(out_of_range("input", "input is empty")),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(wrong_type("input", "a text or a list of items")),
    };
    for (index, item) in items.iter().enumerate() {
        let place = format!("input[{index}]");
        let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or("");
        match item.get("type").and_then(Value::as_str) {
            None | Some("message") => {
                turns.push(turn(role(&place, text("role"))?, content(&place, item.get("content"))?))
            }
            Some("function_call") => {
                let call = conversation::call(&place, Some(text("call_id")), text("name"), text("arguments"))?;
                match turns.last_mut() {
                    // Text and calls of one answer come as several items.
                    Some(last) if last.role == "assistant" => last.calls.push(call),
                    _ => turns.push(Turn { calls: vec![call], ..turn("assistant", String::new()) }),
                }
            }
            Some("function_call_output") => {
                let result = Turn { call_id: Some(text("call_id").to_owned()), ..turn("tool", output(item)) };
                conversation::check_result(&turns, &result, &format!("{place}.call_id"))?;
                turns.push(result);
            }
            // What the model thought is not shown to it again.
            Some("reasoning") => {}
            Some(kind) => {
                let message = format!("{place}.type is {:?}, which is not supported", fields::shown(kind));
                return Err(Refusal::param(format!("{place}.type"), "unsupported_value", message));
            }
        }
    }
    Ok(turns)
}

fn output(item: &Value) -> String {
    match item.get("output") {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

fn role<'r>(place: &str, role: &'r str) -> Result<&'r str, Refusal> {
    match role {
        "system" | "developer" => Ok("system"),
        "user" | "assistant" => Ok(role),
        _ => {
            let place = format!("{place}.role");
            let message =
                format!("{place} is {:?}; it must be system, developer, user or assistant", fields::shown(role));
            Err(out_of_range(place, message))
        }
    }
}

fn content(place: &str, content: Option<&Value>) -> Result<String, Refusal> {
    let place = format!("{place}.content");
    let parts = match content {
        Some(Value::String(text)) => return Ok(text.clone()),
        Some(Value::Array(parts)) => parts,
        _ => return Err(wrong_type(place, "a text or a list of parts")),
    };
    let text = |part: &Value| match (part.get("type").and_then(Value::as_str), part.get("text").and_then(Value::as_str))
    {
        (Some("input_text" | "output_text"), Some(text)) => Ok(text.to_owned()),
        _ => Err(Refusal::param(
            place.clone(),
            "unsupported_value",
            format!("{place}: only text parts are supported yet"),
        )),
    };
    Ok(parts.iter().map(text).collect::<Result<Vec<_>, _>>()?.join("\n"))
}

fn tools(fields: &mut Fields, shown: &mut Map<String, Value>) -> Result<Vec<Tool>, Refusal> {
    let tools = match fields.take("tools") {
        None => Vec::new(),
        Some(Value::Array(tools)) => tools,
        Some(_) => return Err(wrong_type("tools", "a list of tools")),
    };
    shown.insert("tools".into(), Value::Array(tools.clone()));
    let read = |(index, tool): (usize, Value)| {
        let place = format!("tools[{index}]");
        match tool {
            Value::Object(tool) if tool.get("type").is_some_and(|kind| kind == "function") => {
                conversation::tool(&place, tool, "parameters")
            }
            _ => Err(Refusal::param(
                format!("{place}.type"),
                "unsupported_value",
                "only tools of type function are supported",
            )),
        }
    };
    conversation::check_tools(tools.into_iter().enumerate().map(read).collect::<Result<_, _>>()?)
}

fn tool_choice(fields: &mut Fields, tools: &[Tool], shown: &mut Map<String, Value>) -> Result<ToolChoice, Refusal> {
    let choice = fields.take("tool_choice").unwrap_or("auto".into());
    shown.insert("tool_choice".into(), choice.clone());
    match (choice.as_str(), choice.get("name").and_then(Value::as_str)) {
        (Some("auto"), _) => Ok(ToolChoice::Auto),
        (Some("none"), _) => Ok(ToolChoice::None),
        (Some("required"), _) if !tools.is_empty() => Ok(ToolChoice::Required),
        (None, Some(name)) => conversation::named(name.to_owned(), tools),
        _ => Err(out_of_range(
            "tool_choice",
            "tool_choice must be auto, none, required (with tools) or a function's name",
        )),
    }
}

fn format(fields: &mut Fields, shown: &mut Map<String, Value>) -> Result<Format, Refusal> {
    let text = fields.take("text").unwrap_or(json!({"format": {"type": "text"}}));
    shown.insert("text".into(), text.clone());
    match text.pointer("/format/type").and_then(Value::as_str) {
        None | Some("text") => Ok(Format::Text),
        Some("json_object") => Ok(Format::Object),
        Some("json_schema") => match text.pointer("/format/schema") {
            Some(schema @ Value::Object(_)) => Ok(Format::Schema(Json(schema.clone()))),
            _ => Err(missing("text.format.schema")),
        },
        Some(_) => Err(out_of_range("text.format.type", "text.format.type must be text, json_object or json_schema")),
    }
}

/// The dialect of the route.
struct Responses {
    id: String,
    model: String,
    version: String,
    created_at: i64,
    /// What the response repeats of the request.
    shown: Map<String, Value>,
    /// Items of a stream so far; the last is open.
    items: Vec<Item>,
    /// Number of the next event.
    sequence: u64,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Message,
    Reasoning,
    Call { name: String },
}

/// One item of the output.
#[derive(Debug, Clone)]
struct Item {
    kind: Kind,
    text: String,
}

impl Responses {
    fn new(opening: &Opening, shown: Map<String, Value>) -> Responses {
        let id = opening.ledger.to_string();
        Responses {
            id: id.rsplit('-').next().unwrap_or("").to_owned(),
            model: opening.service.clone(),
            version: opening.version_reference.clone(),
            created_at: opening.ledger.made_at_ms().div_euclid(1000),
            shown,
            items: Vec::new(),
            sequence: 0,
        }
    }

    fn item(&self, index: usize, item: &Item, status: &str) -> Value {
        let id = &self.id;
        match &item.kind {
            Kind::Message => {
                let content = if status == "in_progress" { json!([]) } else { json!([part(&item.text)]) };
                json!({"id": format!("msg_{id}-{index}"), "type": "message", "status": status, "role": "assistant", "content": content})
            }
            Kind::Reasoning => {
                let content = json!([{"type": "reasoning_text", "text": item.text}]);
                json!({"id": format!("rs_{id}-{index}"), "type": "reasoning", "summary": [], "content": content, "status": status})
            }
            Kind::Call { name } => json!({
                "id": format!("fc_{id}-{index}"), "type": "function_call", "status": status, "call_id": format!("call_{id}-{index}"),
                "name": name, "arguments": item.text,
            }),
        }
    }

    fn response(&self, status: &str, items: &[Item], finish: Option<Finish>, row: Option<&LedgerRow>) -> Value {
        let output: Vec<Value> = items.iter().enumerate().map(|(i, item)| self.item(i, item, "completed")).collect();
        let incomplete = finish.and_then(cut_by).map(|reason| json!({"reason": reason}));
        let usage = row.map(|row| {
            json!({
                "input_tokens": row.prompt_tokens, "input_tokens_details": {"cached_tokens": row.cached_tokens},
                "output_tokens": row.completion_tokens, "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": row.prompt_tokens + row.completion_tokens,
            })
        });
        let mut response = json!({
            "id": format!("resp_{}", self.id), "object": "response", "created_at": self.created_at, "status": status,
            "error": null, "incomplete_details": incomplete, "model": self.model, "output": output,
            "previous_response_id": null, "reasoning": {"effort": null, "summary": null}, "store": false,
            "truncation": "disabled", "metadata": {"version": self.version}, "usage": usage,
        });
        if let Value::Object(fields) = &mut response {
            fields.extend(self.shown.clone());
        }
        response
    }

    fn event(&mut self, kind: &str, mut body: Value) -> Vec<u8> {
        body["type"] = kind.into();
        body["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        sse::named_event(kind, body.to_string().as_bytes())
    }

    fn open(&mut self, kind: Kind) -> Vec<u8> {
        let mut frames = self.close();
        let index = self.items.len();
        let item = Item { kind, text: String::new() };
        let shape = self.item(index, &item, "in_progress");
        let id = shape["id"].clone();
        let is_message = item.kind == Kind::Message;
        self.items.push(item);
        frames.extend(self.event("response.output_item.added", json!({"output_index": index, "item": shape})));
        if is_message {
            let body = json!({"item_id": id, "output_index": index, "content_index": 0, "part": part("")});
            frames.extend(self.event("response.content_part.added", body));
        }
        frames
    }

    fn close(&mut self) -> Vec<u8> {
        let Some(item) = self.items.last().cloned() else { return Vec::new() };
        let index = self.items.len() - 1;
        let shape = self.item(index, &item, "completed");
        let id = shape["id"].clone();
        let mut frames = Vec::new();
        match item.kind {
            Kind::Message => {
                let body = json!({"item_id": id, "output_index": index, "content_index": 0, "text": item.text, "logprobs": []});
                frames.extend(self.event("response.output_text.done", body));
                let body = json!({"item_id": id, "output_index": index, "content_index": 0, "part": part(&item.text)});
                frames.extend(self.event("response.content_part.done", body));
            }
            Kind::Reasoning => {
                let body = json!({"item_id": id, "output_index": index, "content_index": 0, "text": item.text});
                frames.extend(self.event("response.reasoning_text.done", body));
            }
            Kind::Call { name } => {
                let body = json!({"item_id": id, "output_index": index, "name": name, "arguments": item.text});
                frames.extend(self.event("response.function_call_arguments.done", body));
            }
        }
        frames.extend(self.event("response.output_item.done", json!({"output_index": index, "item": shape})));
        frames
    }
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

/// `incomplete` when it was cut.
fn status(finish: Option<Finish>) -> &'static str {
    if finish.and_then(cut_by).is_some() { "incomplete" } else { "completed" }
}

/// What cut an answer, in the protocol's word.
fn cut_by(finish: Finish) -> Option<&'static str> {
    match finish {
        Finish::Length => Some("max_output_tokens"),
        Finish::Filtered => Some("content_filter"),
        _ => None,
    }
}

impl Dialect for Responses {
    fn begin(&mut self) -> Vec<u8> {
        let response = self.response("in_progress", &[], None, None);
        let mut frames = self.event("response.created", json!({"response": response.clone()}));
        frames.extend(self.event("response.in_progress", json!({"response": response})));
        frames
    }

    fn echo(&mut self, _: u32, _: &str, _: Vec<TokenChance>) -> Vec<u8> {
        Vec::new()
    }

    fn piece(&mut self, piece: &Piece) -> Vec<u8> {
        let (kind, event) = match &piece.channel {
            Channel::Text => (Kind::Message, "response.output_text.delta"),
            Channel::Reasoning => (Kind::Reasoning, "response.reasoning_text.delta"),
            Channel::Call { name, .. } => return self.open(Kind::Call { name: name.clone() }),
            Channel::Arguments { .. } => match self.items.last() {
                Some(Item { kind: kind @ Kind::Call { .. }, .. }) => {
                    (kind.clone(), "response.function_call_arguments.delta")
                }
                _ => return Vec::new(),
            },
        };
        let mut frames = match self.items.last() {
            Some(item) if item.kind == kind => Vec::new(),
            _ => self.open(kind),
        };
        let index = self.items.len() - 1;
        self.items[index].text.push_str(&piece.text);
        let id = self.item(index, &self.items[index], "in_progress")["id"].clone();
        let mut body = json!({"item_id": id, "output_index": index, "delta": piece.text});
        if !matches!(piece.channel, Channel::Arguments { .. }) {
            body["content_index"] = 0.into();
        }
        if piece.channel == Channel::Text {
            body["logprobs"] = json!([]);
        }
        frames.extend(self.event(event, body));
        frames
    }

    fn end(&mut self, ends: &[End], row: &LedgerRow) -> Vec<u8> {
        let mut frames = if self.items.is_empty() { self.open(Kind::Message) } else { Vec::new() };
        frames.extend(self.close());
        let finish = ends.first().map(|end| end.finish);
        let status = status(finish);
        let items = std::mem::take(&mut self.items);
        let response = self.response(status, &items, finish, Some(row));
        frames.extend(self.event(&format!("response.{status}"), json!({"response": response})));
        frames
    }

    fn failure(&self, refusal: &Refusal) -> Vec<u8> {
        let body = json!({"type": "error", "sequence_number": self.sequence, "code": refusal.code(), "message": refusal.message(), "param": null});
        sse::named_event("error", body.to_string().as_bytes())
    }

    fn whole(&self, choices: &[Gathered], row: &LedgerRow) -> Vec<u8> {
        let mut items = Vec::new();
        let finish = choices.first().and_then(|choice| choice.finish);
        for choice in choices {
            let mut add = |kind, text: &str| items.push(Item { kind, text: text.to_owned() });
            if !choice.reasoning.is_empty() {
                add(Kind::Reasoning, &choice.reasoning);
            }
            if !choice.text.is_empty() || choice.calls.is_empty() {
                add(Kind::Message, &choice.text);
            }
            for (name, arguments) in &choice.calls {
                add(Kind::Call { name: name.clone() }, arguments);
            }
        }
        self.response(status(finish), &items, finish, Some(row)).to_string().into_bytes()
    }
}
