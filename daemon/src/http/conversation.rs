//! Reads conversations of `POST /v1/chat/completions`: messages, tools, the choice among them, the wanted format.
//! Lives here: roles, contents, calls and their results. Never here: how a model is shown them (the worker renders).

use hone_protocol::generate::{Call, ChatPrompt, Format, TOOLS_MAX, Tool, ToolChoice, Turn};
use hone_protocol::value::Json;
use serde_json::{Map, Value};

use super::failure::Refusal;
use super::fields::{Fields, check_no_op, is_nothing, missing, out_of_range, shown, wrong_type};

/// Messages of one request. More are refused.
const MESSAGES_MAX: usize = 4096;
/// Longest name of a tool: OpenAI's own bound.
const TOOL_NAME_MAX: usize = 64;
/// Longest name that a client gives a call.
const CALL_ID_MAX: usize = 256;
/// Refused in a message, unless they ask for nothing.
const UNSUPPORTED_IN_MESSAGE: &[&str] = &["function_call", "audio"];

/// The conversation of a chat request.
pub(super) fn read(fields: &mut Fields) -> Result<ChatPrompt, Refusal> {
    let turns = messages(fields)?;
    let tools = tools(fields)?;
    let tool_choice = tool_choice(fields.take("tool_choice"), &tools)?;
    let parallel_calls = fields.flag("parallel_tool_calls")?.unwrap_or(true);
    let variables = match fields.take("chat_template_kwargs") {
        None => Value::Object(Map::new()),
        Some(variables @ Value::Object(_)) => variables,
        Some(_) => return Err(wrong_type("chat_template_kwargs", "an object")),
    };
    Ok(ChatPrompt { turns, tools, tool_choice, parallel_calls, variables: Json(variables) })
}

fn messages(fields: &mut Fields) -> Result<Vec<Turn>, Refusal> {
    let messages = match fields.take("messages") {
        Some(Value::Array(messages)) => messages,
        Some(_) => return Err(wrong_type("messages", "a list of messages")),
        None => return Err(missing("messages")),
    };
    if messages.is_empty() {
        return Err(out_of_range("messages", "messages is empty; send at least one message"));
    }
    if messages.len() > MESSAGES_MAX {
        let message = format!("messages has {} entries; at most {MESSAGES_MAX} are taken", messages.len());
        return Err(out_of_range("messages", message));
    }
    let mut turns: Vec<Turn> = Vec::with_capacity(messages.len());
    for (index, message) in messages.into_iter().enumerate() {
        let turn = turn(fields, &format!("messages[{index}]"), message)?;
        check_result(&turns, &turn, &format!("messages[{index}].tool_call_id"))?;
        turns.push(turn);
    }
    Ok(turns)
}

/// A result must belong to a call that was made before.
pub(super) fn check_result(before: &[Turn], turn: &Turn, place: &str) -> Result<(), Refusal> {
    let Some(id) = turn.call_id.as_ref() else { return Ok(()) };
    match before.iter().any(|turn| turn.calls.iter().any(|call| call.id == *id)) {
        true => Ok(()),
        false => Err(out_of_range(place, format!("{place} names a call that no message before it makes"))),
    }
}

fn turn(fields: &mut Fields, place: &str, message: Value) -> Result<Turn, Refusal> {
    let Value::Object(mut message) = message else {
        return Err(wrong_type(place, "an object with role and content"));
    };
    let role = role(place, message.shift_remove("role"))?;
    for field in UNSUPPORTED_IN_MESSAGE {
        if let Some(value) = message.shift_remove(*field) {
            check_no_op(&format!("{place}.{field}"), &value)?;
        }
    }
    let calls = match message.shift_remove("tool_calls").filter(|calls| !is_nothing(calls)) {
        None => Vec::new(),
        Some(_) if role != "assistant" => {
            return Err(out_of_range(format!("{place}.tool_calls"), "only messages of the assistant make calls"));
        }
        Some(calls) => read_calls(&format!("{place}.tool_calls"), calls)?,
    };
    let call_id = match (role, message.shift_remove("tool_call_id").filter(|id| !id.is_null())) {
        ("tool", Some(Value::String(id))) => Some(id),
        ("tool", None) => return Err(missing(format!("{place}.tool_call_id"))),
        ("tool", Some(_)) => return Err(wrong_type(format!("{place}.tool_call_id"), "a text")),
        (_, None) => None,
        (_, Some(_)) => {
            return Err(out_of_range(format!("{place}.tool_call_id"), "only messages of the role tool have it"));
        }
    };
    let content = match message.shift_remove("content") {
        None | Some(Value::Null) if !calls.is_empty() => String::new(),
        content => text_of(place, content)?,
    };
    // What a client keeps of our own answers and sends back says nothing.
    for (name, _) in message.into_iter().filter(|(_, value)| !is_nothing(value)) {
        fields.ignore(format!("{place}.{name}"));
    }
    Ok(Turn { role: role.to_owned(), content, calls, call_id })
}

fn role(place: &str, value: Option<Value>) -> Result<&'static str, Refusal> {
    let place = format!("{place}.role");
    match value {
        None | Some(Value::Null) => Err(missing(place)),
        Some(Value::String(role)) => match role.as_str() {
            "system" | "developer" => Ok("system"),
            "user" => Ok("user"),
            "assistant" => Ok("assistant"),
            "tool" => Ok("tool"),
            "function" => {
                Err(Refusal::param(place, "unsupported_value", "the role function is not supported; use tool"))
            }
            _ => {
                let message = format!(
                    "{place} is {:?}; it must be system, developer, user, assistant or tool",
                    role.chars().take(32).collect::<String>()
                );
                Err(Refusal::param(place, "invalid_value", message))
            }
        },
        Some(_) => Err(wrong_type(place, "a text")),
    }
}

/// A text, or a list of text parts, which are joined by line ends.
fn text_of(place: &str, value: Option<Value>) -> Result<String, Refusal> {
    let place = format!("{place}.content");
    let parts = match value {
        None | Some(Value::Null) => return Err(missing(place)),
        Some(Value::String(text)) => return Ok(text),
        Some(Value::Array(parts)) if !parts.is_empty() => parts,
        Some(_) => return Err(wrong_type(place, "a text or a list of text parts")),
    };
    let text = |(index, part): (usize, Value)| {
        let place = format!("{place}[{index}]");
        let Value::Object(mut part) = part else {
            return Err(wrong_type(place, "an object with type and text"));
        };
        match (part.shift_remove("type"), part.shift_remove("text")) {
            (Some(Value::String(kind)), Some(Value::String(text))) if kind == "text" => Ok(text),
            (Some(Value::String(kind)), _) if kind == "text" => Err(wrong_type(format!("{place}.text"), "a text")),
            (Some(Value::String(kind)), _) => Err(Refusal::param(
                format!("{place}.type"),
                "unsupported_value",
                format!(
                    "{place}.type is {:?}; only text parts are supported yet",
                    kind.chars().take(32).collect::<String>()
                ),
            )),
            _ => Err(missing(format!("{place}.type"))),
        }
    };
    let texts: Result<Vec<String>, Refusal> = parts.into_iter().enumerate().map(text).collect();
    Ok(texts?.join("\n"))
}

/// Calls that the assistant made, as a client sends them back.
fn read_calls(place: &str, calls: Value) -> Result<Vec<Call>, Refusal> {
    let Value::Array(calls) = calls else { return Err(wrong_type(place, "a list of calls")) };
    let read = |(index, call): (usize, Value)| {
        let place = format!("{place}[{index}]");
        let function = call.get("function").filter(|_| call.get("type").is_none_or(|kind| kind == "function"));
        let Some(Value::Object(function)) = function else {
            return Err(wrong_type(place, "a call of a function"));
        };
        let name = function.get("name").and_then(Value::as_str).unwrap_or("");
        let arguments = function.get("arguments").and_then(Value::as_str).unwrap_or("");
        self::call(&place, call.get("id").and_then(Value::as_str), name, arguments)
    };
    calls.into_iter().enumerate().map(read).collect()
}

/// A call with its arguments, which are a JSON object as text; no text is no arguments.
pub(super) fn call(place: &str, id: Option<&str>, name: &str, arguments: &str) -> Result<Call, Refusal> {
    let Some(id) = id.filter(|id| (1..=CALL_ID_MAX).contains(&id.len())) else {
        return Err(out_of_range(format!("{place}.id"), format!("a call has an id of 1 to {CALL_ID_MAX} bytes")));
    };
    check_name(&format!("{place}.function.name"), name)?;
    let arguments = if arguments.trim().is_empty() { "{}" } else { arguments };
    let arguments = match serde_json::from_str::<Value>(arguments) {
        Ok(arguments @ Value::Object(_)) => arguments,
        // What a model wrote and was cut off is still what it wrote.
        _ => Value::from(arguments),
    };
    Ok(Call { id: id.to_owned(), name: name.to_owned(), arguments: Json(arguments) })
}

/// A name that stands in grammars and tags.
pub(super) fn check_name(place: &str, name: &str) -> Result<(), Refusal> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if (1..=TOOL_NAME_MAX).contains(&name.len()) && name.chars().all(plain) {
        return Ok(());
    }
    let message =
        format!("{place} is {:?}; it must be 1 to {TOOL_NAME_MAX} of letters, digits, _, - and .", shown(name));
    Err(out_of_range(place, message))
}

fn tools(fields: &mut Fields) -> Result<Vec<Tool>, Refusal> {
    let tools = match fields.take("tools") {
        None => return Ok(Vec::new()),
        Some(Value::Array(tools)) => tools,
        Some(_) => return Err(wrong_type("tools", "a list of tools")),
    };
    let read = |(index, tool): (usize, Value)| {
        let place = format!("tools[{index}]");
        let Value::Object(mut tool) = tool else { return Err(wrong_type(place, "an object with type and function")) };
        match tool.get("type").and_then(Value::as_str) {
            Some("function") => {}
            Some(kind) => {
                let message = format!("{place}.type is {:?}; only function is supported", shown(kind));
                return Err(Refusal::param(format!("{place}.type"), "unsupported_value", message));
            }
            None => return Err(missing(format!("{place}.type"))),
        }
        match tool.shift_remove("function") {
            Some(Value::Object(function)) => self::tool(&format!("{place}.function"), function, "parameters"),
            Some(_) => Err(wrong_type(format!("{place}.function"), "an object")),
            None => Err(missing(format!("{place}.function"))),
        }
    };
    check_tools(tools.into_iter().enumerate().map(read).collect::<Result<_, _>>()?)
}

/// The bounds of a list of tools, and that no name is there twice.
pub(super) fn check_tools(tools: Vec<Tool>) -> Result<Vec<Tool>, Refusal> {
    if tools.len() > TOOLS_MAX {
        return Err(out_of_range("tools", format!("tools has {} entries; at most {TOOLS_MAX} are taken", tools.len())));
    }
    for (index, tool) in tools.iter().enumerate() {
        if tools[..index].iter().any(|other| other.name == tool.name) {
            return Err(out_of_range(format!("tools[{index}]"), format!("two tools have the name {}", tool.name)));
        }
    }
    Ok(tools)
}

/// One tool: name, description, schema of its arguments.
pub(super) fn tool(place: &str, mut function: Map<String, Value>, schema: &str) -> Result<Tool, Refusal> {
    let name = match function.shift_remove("name") {
        Some(Value::String(name)) => name,
        Some(_) => return Err(wrong_type(format!("{place}.name"), "a text")),
        None => return Err(missing(format!("{place}.name"))),
    };
    check_name(&format!("{place}.name"), &name)?;
    let description = match function.shift_remove("description") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text,
        Some(_) => return Err(wrong_type(format!("{place}.description"), "a text")),
    };
    let parameters = match function.shift_remove(schema) {
        None | Some(Value::Null) => Value::Null,
        Some(Value::Object(schema)) if schema.is_empty() => Value::Null,
        Some(schema @ Value::Object(_)) => schema,
        Some(_) => return Err(wrong_type(format!("{place}.{schema}"), "a JSON schema")),
    };
    let strict = matches!(function.shift_remove("strict"), Some(Value::Bool(true)));
    Ok(Tool { name, description, parameters: Json(parameters), strict })
}

fn tool_choice(value: Option<Value>, tools: &[Tool]) -> Result<ToolChoice, Refusal> {
    let name = match value {
        None => return Ok(ToolChoice::Auto),
        Some(Value::String(word)) => {
            return match word.as_str() {
                "auto" => Ok(ToolChoice::Auto),
                "none" => Ok(ToolChoice::None),
                "required" if !tools.is_empty() => Ok(ToolChoice::Required),
                "required" => Err(out_of_range("tool_choice", "tool_choice is required, but there are no tools")),
                _ => Err(out_of_range("tool_choice", "tool_choice must be auto, none, required or a function")),
            };
        }
        Some(choice) => match choice.pointer("/function/name").and_then(Value::as_str) {
            Some(name) => name.to_owned(),
            None => return Err(wrong_type("tool_choice", "auto, none, required or a function with its name")),
        },
    };
    named(name, tools)
}

/// The choice of one tool, which must be there.
pub(super) fn named(name: String, tools: &[Tool]) -> Result<ToolChoice, Refusal> {
    if tools.iter().any(|tool| tool.name == name) {
        return Ok(ToolChoice::Named(name));
    }
    Err(out_of_range("tool_choice", format!("tool_choice names {:?}, which is not among the tools", shown(&name))))
}

/// What the answer must look like.
pub(super) fn response_format(fields: &mut Fields) -> Result<Format, Refusal> {
    let format = match fields.take("response_format") {
        None => return Ok(Format::Text),
        Some(Value::Object(format)) => format,
        Some(_) => return Err(wrong_type("response_format", "an object with type")),
    };
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(Format::Text),
        Some("json_object") => Ok(Format::Object),
        Some("json_schema") => match format.get("json_schema").and_then(|named| named.get("schema")) {
            Some(schema @ (Value::Object(_) | Value::Bool(_))) => Ok(Format::Schema(Json(schema.clone()))),
            Some(_) => Err(wrong_type("response_format.json_schema.schema", "a JSON schema")),
            None => Err(missing("response_format.json_schema.schema")),
        },
        Some(_) => {
            Err(out_of_range("response_format.type", "response_format.type must be text, json_object or json_schema"))
        }
        None => Err(missing("response_format.type")),
    }
}
