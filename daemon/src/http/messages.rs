//! `POST /v1/messages` and `POST /v1/messages/count_tokens` of the Anthropic protocol, plain and streaming.
//! Lives here: their fields and shapes, errors included. Never here: counts (`answer.rs`).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::Response;
use axum::response::IntoResponse;
use hone_protocol::application::LedgerRow;
use hone_protocol::generate::{Call, Channel, ChatPrompt, Finish, Prompt, TokenChance, Tool, ToolChoice, Turn, Wish};
use hone_protocol::value::Json;
use serde_json::{Map, Value, json};

use super::answer::{self, Asked, Dialect, End, Gathered};
use super::desk::{Ask, Caller, Desk, Opening, Piece};
use super::failure::Refusal;
use super::fields::{self, COUNT_MAX, Fields, missing, out_of_range, shown, wrong_type};
use super::wire::Wire;
use super::{Room, conversation, json_response, models, read_body, sse};

/// Refused, unless they ask for nothing.
const UNSUPPORTED: &[&str] = &["mcp_servers", "container"];

/// The route.
pub(super) async fn create<D: Desk>(
    State(room): State<Room<D>>,
    Extension(caller): Extension<Caller>,
    Extension(wire): Extension<Arc<Wire>>,
    request: Request,
) -> Response<Body> {
    let made = async {
        let (ask, stream, ignored) = read(&read_body(request, &room.limits).await?)?;
        let stops = ask.wish.stop.clone();
        let dialect = |opening: &Opening| Messages::new(opening, stops);
        answer::answer(&room, &caller, wire, Asked { ask, stream, ignored, dialect }).await
    };
    made.await.unwrap_or_else(|refusal| refusal.anthropic().into_response())
}

/// Counts the tokens of a prompt; costs nothing.
pub(super) async fn count_tokens<D: Desk>(
    State(room): State<Room<D>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Response<Body> {
    let made = async {
        let mut fields = fields::read(&read_body(request, &room.limits).await?)?;
        let service = fields.model()?;
        let prompt = Prompt::Chat(Box::new(prompt(&mut fields)?));
        models::find(&room.desk.services(&caller), &service)?;
        let (tokens, _) = room.desk.spell(&caller, &service, prompt).await.map_err(Refusal::from)?;
        Ok(json_response(json!({"input_tokens": tokens.len()}).to_string().into_bytes()))
    };
    made.await.unwrap_or_else(|refusal: Refusal| refusal.anthropic().into_response())
}

/// What is asked, whether as a stream, and the fields that were not looked at.
fn read(body: &[u8]) -> Result<(Ask, bool, Vec<String>), Refusal> {
    let mut fields = fields::read(body)?;
    let service = fields.model()?;
    fields.refuse(UNSUPPORTED)?;
    let prompt = prompt(&mut fields)?;
    let Some(tokens_max) = fields.whole("max_tokens", 1, COUNT_MAX)? else { return Err(missing("max_tokens")) };
    let stop = fields.texts("stop_sequences")?;
    let user = match fields.take("metadata") {
        None => String::new(),
        Some(metadata) => metadata.get("user_id").and_then(Value::as_str).unwrap_or("").to_owned(),
    };
    fields::check_user(&user)?;
    if let Some(thinking) = fields.take("thinking")
        && thinking.get("type").is_none_or(|kind| kind != "disabled")
    {
        fields.ignore("thinking");
    }
    let stream = fields.flag("stream")?.unwrap_or(false);
    let wish = Wish { stop, ..fields.wish()? };
    let prompts = vec![Prompt::Chat(Box::new(prompt))];
    let ask = Ask {
        service,
        prompts,
        answers: 1,
        wish,
        tokens_max: Some(tokens_max as u32),
        user,
        metadata: Vec::new(),
        route: "/v1/messages",
    };
    Ok((ask, stream, fields.rest()))
}

fn prompt(fields: &mut Fields) -> Result<ChatPrompt, Refusal> {
    let mut turns = Vec::new();
    match fields.take("system") {
        None => {}
        Some(system) => turns.push(Turn {
            role: "system".into(),
            content: texts("system", &system)?,
            calls: Vec::new(),
            call_id: None,
        }),
    }
    let messages = match fields.take("messages") {
        Some(Value::Array(messages)) if messages.is_empty() => {
            return Err(out_of_range("messages", "messages is empty; send at least one message"));
        }
        Some(Value::Array(messages)) => messages,
        Some(_) => return Err(wrong_type("messages", "a list of messages")),
        None => return Err(missing("messages")),
    };
    for (index, message) in messages.iter().enumerate() {
        turn(&format!("messages[{index}]"), message, &mut turns)?;
    }
    let tools = tools(fields)?;
    let (tool_choice, parallel_calls) = tool_choice(fields, &tools)?;
    Ok(ChatPrompt { turns, tools, tool_choice, parallel_calls, variables: Json(Value::Object(Map::new())) })
}

/// One message becomes one turn, and one more for each result in it.
fn turn(place: &str, message: &Value, turns: &mut Vec<Turn>) -> Result<(), Refusal> {
    let role = match message.get("role").and_then(Value::as_str) {
        Some(role @ ("user" | "assistant")) => role,
        Some(role) => {
            let place = format!("{place}.role");
            return Err(out_of_range(&place, format!("{place} is {:?}; it must be user or assistant", shown(role))));
        }
        None => return Err(missing(format!("{place}.role"))),
    };
    let place = format!("{place}.content");
    let blocks = match message.get("content") {
        Some(text @ Value::String(_)) => vec![json!({"type": "text", "text": text})],
        Some(Value::Array(blocks)) if !blocks.is_empty() => blocks.clone(),
        _ => return Err(wrong_type(place, "a text or a list of blocks")),
    };
    let mut said = Turn { role: role.into(), content: String::new(), calls: Vec::new(), call_id: None };
    for (index, block) in blocks.iter().enumerate() {
        let place = format!("{place}[{index}]");
        let text = |name: &str| block.get(name).and_then(Value::as_str).unwrap_or("");
        match (block.get("type").and_then(Value::as_str), role) {
            (Some("text"), _) => {
                let gap = if said.content.is_empty() { "" } else { "\n" };
                said.content.push_str(gap);
                said.content.push_str(text("text"));
            }
            (Some("thinking" | "redacted_thinking"), "assistant") => {}
            (Some("tool_use"), "assistant") => {
                let arguments = block.get("input").cloned().unwrap_or(json!({}));
                conversation::check_name(&format!("{place}.name"), text("name"))?;
                said.calls.push(Call { id: text("id").into(), name: text("name").into(), arguments: Json(arguments) });
            }
            (Some("tool_result"), "user") => {
                let content = match block.get("content") {
                    None | Some(Value::Null) => String::new(),
                    Some(content) => texts(&format!("{place}.content"), content)?,
                };
                let call_id = Some(text("tool_use_id").to_owned());
                let result = Turn { role: "tool".into(), content, calls: Vec::new(), call_id };
                conversation::check_result(turns, &result, &format!("{place}.tool_use_id"))?;
                turns.push(result);
            }
            (kind, _) => {
                let message = format!("{place}.type is {:?}, which is not supported here", shown(kind.unwrap_or("")));
                return Err(Refusal::param(format!("{place}.type"), "unsupported_value", message));
            }
        }
    }
    if !said.content.is_empty() || !said.calls.is_empty() {
        turns.push(said);
    }
    Ok(())
}

/// A text, or text blocks.
fn texts(place: &str, content: &Value) -> Result<String, Refusal> {
    let blocks = match content {
        Value::String(text) => return Ok(text.clone()),
        Value::Array(blocks) => blocks,
        _ => return Err(wrong_type(place, "a text or a list of text blocks")),
    };
    let text =
        |block: &Value| match (block.get("type").and_then(Value::as_str), block.get("text").and_then(Value::as_str)) {
            (Some("text"), Some(text)) => Ok(text.to_owned()),
            _ => Err(Refusal::param(place, "unsupported_value", format!("{place}: only text blocks are supported"))),
        };
    Ok(blocks.iter().map(text).collect::<Result<Vec<_>, _>>()?.join("\n"))
}

fn tools(fields: &mut Fields) -> Result<Vec<Tool>, Refusal> {
    let tools = match fields.take("tools") {
        None => Vec::new(),
        Some(Value::Array(tools)) => tools,
        Some(_) => return Err(wrong_type("tools", "a list of tools")),
    };
    let read = |(index, tool): (usize, Value)| {
        let place = format!("tools[{index}]");
        match tool {
            Value::Object(tool) if tool.get("type").is_none_or(|kind| kind == "custom") => {
                conversation::tool(&place, tool, "input_schema")
            }
            _ => Err(Refusal::param(
                format!("{place}.type"),
                "unsupported_value",
                "only tools of your own are supported",
            )),
        }
    };
    conversation::check_tools(tools.into_iter().enumerate().map(read).collect::<Result<_, _>>()?)
}

fn tool_choice(fields: &mut Fields, tools: &[Tool]) -> Result<(ToolChoice, bool), Refusal> {
    let Some(choice) = fields.take("tool_choice") else { return Ok((ToolChoice::Auto, true)) };
    let parallel = choice.get("disable_parallel_tool_use").is_none_or(|disable| disable != true);
    let choice = match choice.get("type").and_then(Value::as_str) {
        Some("auto") => ToolChoice::Auto,
        Some("none") => ToolChoice::None,
        Some("any") if !tools.is_empty() => ToolChoice::Required,
        Some("tool") => conversation::named(choice.get("name").and_then(Value::as_str).unwrap_or("").into(), tools)?,
        _ => return Err(out_of_range("tool_choice", "tool_choice.type must be auto, any (with tools), tool or none")),
    };
    Ok((choice, parallel))
}

/// The dialect of the route.
struct Messages {
    id: String,
    model: String,
    /// The request's stop texts.
    stops: Vec<String>,
    /// Blocks of a stream so far: their kinds. The last is open.
    blocks: Vec<&'static str>,
}

const TEXT: &str = "text";
const THINKING: &str = "thinking";
const TOOL_USE: &str = "tool_use";

impl Messages {
    fn new(opening: &Opening, stops: Vec<String>) -> Messages {
        let id = opening.ledger.to_string();
        let id = id.rsplit('-').next().unwrap_or("").to_owned();
        Messages { id, model: opening.service.clone(), stops, blocks: Vec::new() }
    }

    fn message(&self, content: Vec<Value>, finish: Option<Finish>, usage: Value) -> Value {
        json!({
            "id": format!("msg_{}", self.id), "type": "message", "role": "assistant", "model": self.model,
            "content": content, "stop_reason": finish.map(stop_reason), "stop_sequence": self.stop_text(finish), "usage": usage,
        })
    }

    /// The stop text that ended the answer.
    fn stop_text(&self, finish: Option<Finish>) -> Option<&str> {
        let Some(Finish::StopText(index)) = finish else { return None };
        self.stops.get(index as usize).map(String::as_str)
    }

    fn call_id(&self, index: usize) -> String {
        format!("toolu_{}-{index}", self.id)
    }

    fn open(&mut self, kind: &'static str, block: Value) -> Vec<u8> {
        let mut frames = self.close();
        let index = self.blocks.len();
        self.blocks.push(kind);
        frames.extend(event("content_block_start", json!({"index": index, "content_block": block})));
        frames
    }

    fn close(&self) -> Vec<u8> {
        match self.blocks.len() {
            0 => Vec::new(),
            count => event("content_block_stop", json!({"index": count - 1})),
        }
    }
}

/// Cached tokens stand apart in this protocol.
fn usage(row: &LedgerRow) -> Value {
    json!({
        "input_tokens": row.prompt_tokens - row.cached_tokens.min(row.prompt_tokens),
        "cache_creation_input_tokens": 0, "cache_read_input_tokens": row.cached_tokens, "output_tokens": row.completion_tokens,
    })
}

fn stop_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Length => "max_tokens",
        Finish::Calls => "tool_use",
        Finish::StopText(_) => "stop_sequence",
        Finish::Stop | Finish::Cancelled => "end_turn",
        Finish::Filtered => "refusal",
    }
}

fn event(kind: &str, mut body: Value) -> Vec<u8> {
    body["type"] = kind.into();
    sse::named_event(kind, body.to_string().as_bytes())
}

impl Dialect for Messages {
    fn begin(&mut self) -> Vec<u8> {
        // How many tokens the prompt has is told with the end, when it is billed.
        let usage = json!({"input_tokens": 0, "output_tokens": 0});
        event("message_start", json!({"message": self.message(Vec::new(), None, usage)}))
    }

    fn echo(&mut self, _: u32, _: &str, _: Vec<TokenChance>) -> Vec<u8> {
        Vec::new()
    }

    fn piece(&mut self, piece: &Piece) -> Vec<u8> {
        let (kind, block, delta) = match &piece.channel {
            Channel::Call { name, .. } => {
                let id = self.call_id(self.blocks.len());
                return self.open(TOOL_USE, json!({"type": TOOL_USE, "id": id, "name": name, "input": {}}));
            }
            Channel::Text => {
                (TEXT, json!({"type": TEXT, "text": ""}), json!({"type": "text_delta", "text": piece.text}))
            }
            Channel::Reasoning => {
                let block = json!({"type": THINKING, "thinking": "", "signature": ""});
                (THINKING, block, json!({"type": "thinking_delta", "thinking": piece.text}))
            }
            Channel::Arguments { .. } => {
                (TOOL_USE, json!({}), json!({"type": "input_json_delta", "partial_json": piece.text}))
            }
        };
        let is_open = self.blocks.last() == Some(&kind);
        let mut frames = if is_open { Vec::new() } else { self.open(kind, block) };
        frames.extend(event("content_block_delta", json!({"index": self.blocks.len() - 1, "delta": delta})));
        frames
    }

    fn end(&mut self, ends: &[End], row: &LedgerRow) -> Vec<u8> {
        let mut frames = self.close();
        let finish = ends.first().map(|end| end.finish);
        let delta = json!({"stop_reason": finish.map(stop_reason), "stop_sequence": self.stop_text(finish)});
        frames.extend(event("message_delta", json!({"delta": delta, "usage": usage(row)})));
        frames.extend(event("message_stop", json!({})));
        frames
    }

    fn failure(&self, refusal: &Refusal) -> Vec<u8> {
        sse::named_event("error", refusal.anthropic_body().to_string().as_bytes())
    }

    fn whole(&self, choices: &[Gathered], row: &LedgerRow) -> Vec<u8> {
        let mut content = Vec::new();
        let finish = choices.first().and_then(|choice| choice.finish);
        for choice in choices {
            if !choice.reasoning.is_empty() {
                content.push(json!({"type": THINKING, "thinking": choice.reasoning, "signature": ""}));
            }
            if !choice.text.is_empty() {
                content.push(json!({"type": TEXT, "text": choice.text}));
            }
            for (name, arguments) in &choice.calls {
                // Of a call that was cut only the name is sure.
                let input = serde_json::from_str(arguments).unwrap_or(json!({}));
                let id = self.call_id(content.len());
                content.push(json!({"type": TOOL_USE, "id": id, "name": name, "input": input}));
            }
        }
        self.message(content, finish, usage(row)).to_string().into_bytes()
    }
}
