//! Reads the body of `POST /v1/chat/completions`: every field is taken, refused by name, or reported as ignored.
//! Lives here: the fields of the protocol, their ranges, their no-op values. Never here: who may ask, or answers.

use hone_protocol::dataset::ChatMessage;
use hone_protocol::worker::Sampling;
use serde_json::{Map, Value};

use super::desk::Ask;
use super::failure::Refusal;

/// Deepest nesting of the body. A deeper one is refused before it is parsed.
const DEPTH_MAX: usize = 64;
/// Messages of one request. More are refused.
const MESSAGES_MAX: usize = 4096;
/// Stop texts of one request. More are refused.
const STOP_MAX: usize = 4;
/// Longest stop text. The engine holds back what may become a stop text; a token has at least one byte, so with
/// this bound no piece carries 64 tokens that were held back, which the metering promise needs.
const STOP_BYTES_MAX: usize = 64;
/// Longest `user`, which stands on the ledger row. A longer one is refused.
const USER_BYTES_MAX: usize = 256;
/// Entries of `metadata`, and bytes of a name and of a value: OpenAI's own bounds.
const METADATA_MAX: usize = 16;
const METADATA_NAME_BYTES_MAX: usize = 64;
const METADATA_VALUE_BYTES_MAX: usize = 512;
/// Largest `top_k` and `max_tokens`: what the engine can count to.
const COUNT_MAX: u64 = i32::MAX as u64;
/// Names in the header of ignored fields, and bytes of each. The rest is counted.
const IGNORED_NAMES_MAX: usize = 16;
const IGNORED_NAME_BYTES_MAX: usize = 48;

/// A chat request that makes sense.
#[derive(Debug, PartialEq)]
pub(super) struct ChatRequest {
    /// What is asked.
    pub(super) ask: Ask,
    /// Answer in pieces.
    pub(super) stream: bool,
    /// With a usage chunk at the end.
    pub(super) include_usage: bool,
    /// Fields that were not looked at, in the order of the body.
    pub(super) ignored: Vec<String>,
}

/// Numbers with a range: name, least, most, whether the least itself is outside.
/// A test insists that [`Sampling::check`] draws the same lines.
const RANGES: &[(&str, f64, f64, bool)] = &[
    ("temperature", 0.0, 2.0, false),
    ("top_p", 0.0, 1.0, true),
    ("min_p", 0.0, 1.0, false),
    ("frequency_penalty", -2.0, 2.0, false),
    ("presence_penalty", -2.0, 2.0, false),
    ("repeat_penalty", 0.5, 2.0, false),
];

/// Fields that would change the answer and are not built yet: refused, unless they ask for nothing.
const UNSUPPORTED: &[&str] = &[
    "logprobs",
    "top_logprobs",
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "response_format",
    "logit_bias",
    "audio",
    "modalities",
    "prediction",
    "web_search_options",
];

/// The same for a message.
const UNSUPPORTED_IN_MESSAGE: &[&str] = &["tool_calls", "function_call", "tool_call_id", "audio"];

/// Reads the body.
pub(super) fn read(body: &[u8]) -> Result<ChatRequest, Refusal> {
    check_depth(body)?;
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| Refusal::malformed(format!("the body is not valid JSON: {error}")))?;
    let Value::Object(fields) = value else {
        return Err(Refusal::malformed("the body must be a JSON object"));
    };
    Reader { fields, ignored: Vec::new() }.request()
}

/// Refuses a nesting deeper than [`DEPTH_MAX`], without recursion.
fn check_depth(body: &[u8]) -> Result<(), Refusal> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for (place, byte) in body.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err(Refusal::malformed(format!("the body is nested deeper than {DEPTH_MAX} at byte {place}")));
        }
    }
    Ok(())
}

/// Takes fields out of the body one after the other; what is left is ignored and reported.
struct Reader {
    fields: Map<String, Value>,
    ignored: Vec<String>,
}

impl Reader {
    fn request(mut self) -> Result<ChatRequest, Refusal> {
        let service = match self.take("model") {
            Some(Value::String(name)) if !name.is_empty() => name,
            Some(_) => return Err(wrong_type("model", "the name of a model")),
            None => return Err(missing("model")),
        };
        let messages = self.messages()?;
        for field in UNSUPPORTED {
            if let Some(value) = self.take(field) {
                check_no_op(field, &value)?;
            }
        }
        if self.whole("n", 1, COUNT_MAX)?.is_some_and(|n| n != 1) {
            return Err(Refusal::param("n", "unsupported_value", "n must be 1: one answer per request"));
        }
        let sampling = self.sampling()?;
        let tokens_max = self.tokens_max()?;
        let stop = self.stop()?;
        let user = self.user()?;
        self.metadata()?;
        let stream = self.flag("stream")?.unwrap_or(false);
        let include_usage = self.stream_options(stream)?;
        let left = std::mem::take(&mut self.fields);
        self.ignored.extend(left.into_iter().map(|(name, _)| name));
        let ask = Ask { service, messages, sampling, tokens_max, stop, user };
        Ok(ChatRequest { ask, stream, include_usage, ignored: self.ignored })
    }

    /// The value of a field; null is as good as absent.
    fn take(&mut self, field: &str) -> Option<Value> {
        // A shift keeps the order of the others, which the report of ignored fields shows.
        self.fields.shift_remove(field).filter(|value| !value.is_null())
    }

    fn flag(&mut self, field: &'static str) -> Result<Option<bool>, Refusal> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(wrong_type(field, "true or false")),
        }
    }

    fn whole(&mut self, field: &'static str, least: u64, most: u64) -> Result<Option<u64>, Refusal> {
        let Some(value) = self.take(field) else {
            return Ok(None);
        };
        if !value.is_number() {
            return Err(wrong_type(field, "a whole number"));
        }
        match value.as_u64().filter(|number| (least..=most).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(out_of_range(
                field,
                format!("{field} is {value}; it must be a whole number from {least} to {most}"),
            )),
        }
    }

    fn number(&mut self, field: &'static str) -> Result<Option<f32>, Refusal> {
        let Some(value) = self.take(field) else {
            return Ok(None);
        };
        let Some(number) = value.as_f64() else {
            return Err(wrong_type(field, "a number"));
        };
        let (_, least, most, above) = RANGES
            .iter()
            .find(|(name, ..)| *name == field)
            .expect("number is called with names of RANGES only, which the test of ranges walks");
        let narrow = number as f32;
        // Judged again after rounding: a number just above zero may round to zero.
        let inside = |n: f64| (*least..=*most).contains(&n) && !(*above && n == *least);
        if inside(number) && inside(f64::from(narrow)) {
            return Ok(Some(narrow));
        }
        let least = if *above { format!("above {least}") } else { format!("at least {least}") };
        Err(out_of_range(field, format!("{field} is {value}; it must be {least} and at most {most}")))
    }

    fn sampling(&mut self) -> Result<Sampling, Refusal> {
        let plain = Sampling::default();
        let sampling = Sampling {
            temperature: self.number("temperature")?.unwrap_or(plain.temperature),
            top_p: self.number("top_p")?.unwrap_or(plain.top_p),
            top_k: self.whole("top_k", 0, COUNT_MAX)?.map_or(plain.top_k, |k| k as u32),
            min_p: self.number("min_p")?.unwrap_or(plain.min_p),
            frequency_penalty: self.number("frequency_penalty")?.unwrap_or(plain.frequency_penalty),
            presence_penalty: self.number("presence_penalty")?.unwrap_or(plain.presence_penalty),
            repeat_penalty: self.number("repeat_penalty")?.unwrap_or(plain.repeat_penalty),
            seed: self.seed()?,
        };
        // The daemon's own rule stays the last word.
        sampling.check().map_err(Refusal::from)?;
        Ok(sampling)
    }

    fn seed(&mut self) -> Result<Option<u64>, Refusal> {
        let Some(value) = self.take("seed") else {
            return Ok(None);
        };
        // Clients send signed numbers; the two's complement is as good a seed as any.
        match value.as_u64().or_else(|| value.as_i64().map(|seed| seed as u64)) {
            Some(seed) => Ok(Some(seed)),
            None if value.is_number() => {
                Err(out_of_range("seed", format!("seed is {value}; it must be a whole number of at most 64 bits")))
            }
            None => Err(wrong_type("seed", "a whole number")),
        }
    }

    fn tokens_max(&mut self) -> Result<Option<u32>, Refusal> {
        let old = self.whole("max_tokens", 1, COUNT_MAX)?;
        let new = self.whole("max_completion_tokens", 1, COUNT_MAX)?;
        if let (Some(old), Some(new)) = (old, new)
            && old != new
        {
            return Err(Refusal::param(
                "max_tokens",
                "invalid_value",
                format!("max_tokens is {old} and max_completion_tokens is {new}; they mean the same, so send one"),
            ));
        }
        Ok(new.or(old).map(|tokens| tokens as u32))
    }

    fn stop(&mut self) -> Result<Vec<String>, Refusal> {
        let texts = match self.take("stop") {
            None => return Ok(Vec::new()),
            Some(Value::String(text)) => vec![Value::String(text)],
            Some(Value::Array(texts)) => texts,
            Some(_) => return Err(wrong_type("stop", "a text or a list of texts")),
        };
        if texts.len() > STOP_MAX {
            return Err(out_of_range("stop", format!("stop has {} texts; at most {STOP_MAX} are taken", texts.len())));
        }
        let check = |(index, text): (usize, Value)| match text {
            Value::String(text) if (1..=STOP_BYTES_MAX).contains(&text.len()) => Ok(text),
            Value::String(text) => Err(out_of_range(
                format!("stop[{index}]"),
                format!("stop[{index}] has {} bytes; it must have 1 to {STOP_BYTES_MAX}", text.len()),
            )),
            _ => Err(wrong_type(format!("stop[{index}]"), "a text")),
        };
        texts.into_iter().enumerate().map(check).collect()
    }

    fn user(&mut self) -> Result<String, Refusal> {
        match self.take("user") {
            None => Ok(String::new()),
            Some(Value::String(user)) if user.len() > USER_BYTES_MAX => {
                Err(out_of_range("user", format!("user has {} bytes; at most {USER_BYTES_MAX} are taken", user.len())))
            }
            // It stands in reports on terminals.
            Some(Value::String(user)) if user.chars().any(char::is_control) => {
                Err(out_of_range("user", "user has control characters; leave them out"))
            }
            Some(Value::String(user)) => Ok(user),
            Some(_) => Err(wrong_type("user", "a text")),
        }
    }

    /// Checked, but not kept yet: so it is reported as ignored when there is something in it.
    fn metadata(&mut self) -> Result<(), Refusal> {
        let Some(value) = self.take("metadata") else {
            return Ok(());
        };
        let Value::Object(entries) = value else {
            return Err(wrong_type("metadata", "an object of texts"));
        };
        if entries.len() > METADATA_MAX {
            let message = format!("metadata has {} entries; at most {METADATA_MAX} are taken", entries.len());
            return Err(out_of_range("metadata", message));
        }
        for (name, value) in &entries {
            let place = format!("metadata.{}", shown(name));
            let Value::String(text) = value else {
                return Err(wrong_type(place, "a text"));
            };
            if name.len() > METADATA_NAME_BYTES_MAX || text.len() > METADATA_VALUE_BYTES_MAX {
                let message = format!(
                    "{place} is too long; names have at most {METADATA_NAME_BYTES_MAX} bytes and values {METADATA_VALUE_BYTES_MAX}"
                );
                return Err(out_of_range(place, message));
            }
        }
        if !entries.is_empty() {
            self.ignored.push("metadata".to_owned());
        }
        Ok(())
    }

    fn stream_options(&mut self, stream: bool) -> Result<bool, Refusal> {
        let options = match self.take("stream_options") {
            None => return Ok(false),
            Some(Value::Object(options)) => options,
            Some(_) => return Err(wrong_type("stream_options", "an object")),
        };
        if !stream {
            return Err(Refusal::param("stream_options", "invalid_value", "stream_options needs stream: true"));
        }
        let mut include_usage = false;
        for (name, value) in options {
            match (name.as_str(), value) {
                (_, Value::Null) => {}
                ("include_usage", Value::Bool(include)) => include_usage = include,
                ("include_usage", _) => return Err(wrong_type("stream_options.include_usage", "true or false")),
                _ => self.ignored.push(format!("stream_options.{name}")),
            }
        }
        Ok(include_usage)
    }

    fn messages(&mut self) -> Result<Vec<ChatMessage>, Refusal> {
        let messages = match self.take("messages") {
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
        messages.into_iter().enumerate().map(|(index, message)| self.message(index, message)).collect()
    }

    fn message(&mut self, index: usize, message: Value) -> Result<ChatMessage, Refusal> {
        let place = format!("messages[{index}]");
        let Value::Object(mut fields) = message else {
            return Err(wrong_type(place, "an object with role and content"));
        };
        let role = role(&place, fields.shift_remove("role"))?;
        for field in UNSUPPORTED_IN_MESSAGE {
            if let Some(value) = fields.shift_remove(*field) {
                check_no_op(&format!("{place}.{field}"), &value)?;
            }
        }
        let content = content(&place, fields.shift_remove("content"))?;
        // What a client keeps of our own answers and sends back says nothing.
        let left = fields.into_iter().filter(|(_, value)| !is_nothing(value));
        self.ignored.extend(left.map(|(name, _)| format!("{place}.{name}")));
        Ok(ChatMessage { role: role.to_owned(), content })
    }
}

fn role(place: &str, value: Option<Value>) -> Result<&'static str, Refusal> {
    let place = format!("{place}.role");
    match value {
        None | Some(Value::Null) => Err(missing(place)),
        Some(Value::String(role)) => match role.as_str() {
            "system" | "developer" => Ok("system"),
            "user" => Ok("user"),
            "assistant" => Ok("assistant"),
            "tool" | "function" => {
                Err(Refusal::param(place, "unsupported_value", format!("the role {role} is not supported yet")))
            }
            _ => {
                let message = format!(
                    "{place} is {:?}; it must be system, developer, user or assistant",
                    role.chars().take(32).collect::<String>()
                );
                Err(Refusal::param(place, "invalid_value", message))
            }
        },
        Some(_) => Err(wrong_type(place, "a text")),
    }
}

/// A text, or a list of text parts, which are joined by line ends.
fn content(place: &str, value: Option<Value>) -> Result<String, Refusal> {
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

/// Whether a value asks for nothing.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// Refuses a field that is not built yet, unless its value asks for what happens anyway.
fn check_no_op(field: &str, value: &Value) -> Result<(), Refusal> {
    let plain = match (field, value) {
        ("response_format", Value::Object(format)) => {
            format.len() == 1 && format.get("type") == Some(&Value::from("text"))
        }
        ("tool_choice" | "function_call", Value::String(choice)) => matches!(choice.as_str(), "none" | "auto"),
        ("modalities", Value::Array(list)) => list.iter().all(|kind| kind == "text"),
        ("top_logprobs", Value::Number(count)) => count.as_u64() == Some(0),
        _ => false,
    };
    if plain || is_nothing(value) {
        return Ok(());
    }
    Err(Refusal::param(field, "unsupported_parameter", format!("{field} is not supported yet; leave it out")))
}

fn missing(field: impl Into<String>) -> Refusal {
    let field = field.into();
    let message = format!("{field} is missing");
    Refusal::param(field, "missing_required_parameter", message)
}

fn wrong_type(field: impl Into<String>, expected: &str) -> Refusal {
    let field = field.into();
    let message = format!("{field} must be {expected}");
    Refusal::param(field, "invalid_type", message)
}

fn out_of_range(field: impl Into<String>, message: impl Into<String>) -> Refusal {
    Refusal::param(field, "invalid_value", message)
}

/// A name from outside in a form that headers and terminals can bear.
fn shown(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "_-.[]".contains(c) { c } else { '?' };
    name.chars().take(IGNORED_NAME_BYTES_MAX).map(plain).collect()
}

/// The value of the header `x-hone-ignored-fields`; none when nothing was ignored.
pub(super) fn ignored_header(ignored: &[String]) -> Option<String> {
    let mut names: Vec<String> = ignored.iter().take(IGNORED_NAMES_MAX).map(|name| shown(name)).collect();
    if ignored.len() > IGNORED_NAMES_MAX {
        names.push(format!("+{}", ignored.len() - IGNORED_NAMES_MAX));
    }
    (!names.is_empty()).then(|| names.join(","))
}

#[cfg(test)]
mod tests;
