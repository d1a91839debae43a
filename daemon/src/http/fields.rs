//! Reads the JSON bodies of requests field by field: every field is taken, refused by name, or reported as ignored.
//! Lives here: what all routes that generate share: bounds of the body, numbers and their ranges, sampling, stop texts,
//! the user. Never here: fields of one route, who may ask, answers.

use hone_protocol::generate::{LOGIT_BIAS_MAX, TOP_CHANCES_MAX, Wish};
use hone_protocol::worker::Sampling;
use serde_json::{Map, Value};

use super::failure::Refusal;

/// Deepest nesting of the body. A deeper one is refused before it is parsed.
const DEPTH_MAX: usize = 64;
/// Stop texts of one request. More are refused.
const STOP_MAX: usize = 16;
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
pub(super) const COUNT_MAX: u64 = i32::MAX as u64;
/// Names in the header of ignored fields, and bytes of each. The rest is counted.
const IGNORED_NAMES_MAX: usize = 16;
const IGNORED_NAME_BYTES_MAX: usize = 48;

/// Bytes of the body times the answers that are wanted. More are refused, because so much may wait for the worker.
const ANSWERS_BYTES_MAX: u64 = 16 << 20;
/// Answers that one request may ask for: `n`, times its prompts.
pub(super) const CHOICES_MAX: u64 = 128;

/// Numbers with a range: name, least, most, whether the least itself is outside.
/// A test insists that [`Sampling::check`] draws the same lines.
pub(super) const RANGES: &[(&str, f64, f64, bool)] = &[
    ("temperature", 0.0, 2.0, false),
    ("top_p", 0.0, 1.0, true),
    ("typical_p", 0.0, 1.0, true),
    ("min_p", 0.0, 1.0, false),
    ("frequency_penalty", -2.0, 2.0, false),
    ("presence_penalty", -2.0, 2.0, false),
    ("repeat_penalty", 0.5, 2.0, false),
];

/// Reads the body: an object.
pub(super) fn read(body: &[u8]) -> Result<Fields, Refusal> {
    check_depth(body)?;
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| Refusal::malformed(format!("the body is not valid JSON: {error}")))?;
    match value {
        Value::Object(fields) => Ok(Fields { fields, ignored: Vec::new(), bytes: body.len() as u64 }),
        _ => Err(Refusal::malformed("the body must be a JSON object")),
    }
}

/// Refuses a nesting deeper than [`DEPTH_MAX`], without recursion.
pub(super) fn check_depth(body: &[u8]) -> Result<(), Refusal> {
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
#[derive(Debug)]
pub(super) struct Fields {
    fields: Map<String, Value>,
    ignored: Vec<String>,
    /// Length of the whole body.
    bytes: u64,
}

impl Fields {
    /// The service that is asked.
    pub(super) fn model(&mut self) -> Result<String, Refusal> {
        match self.take("model") {
            Some(Value::String(name)) if !name.is_empty() => Ok(name),
            Some(_) => Err(wrong_type("model", "the name of a model")),
            None => Err(missing("model")),
        }
    }

    /// How many answers are wanted. Each of them takes the prompt to the worker once more.
    pub(super) fn answers(&mut self) -> Result<u32, Refusal> {
        let answers = self.whole("n", 1, CHOICES_MAX)?.unwrap_or(1);
        if answers * self.bytes > ANSWERS_BYTES_MAX {
            let message = format!("n is {answers}; for a body of {} bytes that is too many", self.bytes);
            return Err(out_of_range("n", message));
        }
        Ok(answers as u32)
    }

    /// Reports a field as not looked at.
    pub(super) fn ignore(&mut self, name: impl Into<String>) {
        self.ignored.push(name.into());
    }

    /// The names of all fields that were not looked at, in the order of the body.
    pub(super) fn rest(mut self) -> Vec<String> {
        self.ignored.extend(self.fields.into_iter().map(|(name, _)| name));
        self.ignored
    }

    /// Refuses fields that would change the answer and are not built, unless they ask for nothing.
    pub(super) fn refuse(&mut self, unsupported: &[&str]) -> Result<(), Refusal> {
        for field in unsupported {
            if let Some(value) = self.take(field) {
                check_no_op(field, &value)?;
            }
        }
        Ok(())
    }

    /// The value of a field; null is as good as absent.
    pub(super) fn take(&mut self, field: &str) -> Option<Value> {
        // A shift keeps the order of the others, which the report of ignored fields shows.
        self.fields.shift_remove(field).filter(|value| !value.is_null())
    }

    /// True or false.
    pub(super) fn flag(&mut self, field: &'static str) -> Result<Option<bool>, Refusal> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(wrong_type(field, "true or false")),
        }
    }

    /// A whole number of a range.
    pub(super) fn whole(&mut self, field: &'static str, least: u64, most: u64) -> Result<Option<u64>, Refusal> {
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

    /// How to choose tokens, and what else a wish has in every route.
    pub(super) fn wish(&mut self) -> Result<Wish, Refusal> {
        let sampling = self.sampling()?;
        let wish = Wish {
            sampling,
            typical_p: self.number("typical_p")?.unwrap_or(1.0),
            logit_bias: self.logit_bias()?,
            ignore_end: self.flag("ignore_eos")?.unwrap_or(false),
            ..Wish::default()
        };
        // The daemon's own rule stays the last word.
        wish.check().map_err(Refusal::from)?;
        Ok(wish)
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
        Ok(sampling)
    }

    /// Token ids with what is added to their logits.
    fn logit_bias(&mut self) -> Result<Vec<(i32, f32)>, Refusal> {
        let entries = match self.take("logit_bias") {
            None => return Ok(Vec::new()),
            Some(Value::Object(entries)) => entries,
            Some(_) => return Err(wrong_type("logit_bias", "an object of token ids with numbers")),
        };
        if entries.len() > LOGIT_BIAS_MAX {
            let message = format!("logit_bias has {} entries; at most {LOGIT_BIAS_MAX} are taken", entries.len());
            return Err(out_of_range("logit_bias", message));
        }
        let entry = |(token, bias): (&String, &Value)| {
            let place = format!("logit_bias.{}", shown(token));
            let Some(token) = token.parse::<i32>().ok().filter(|token| *token >= 0) else {
                return Err(out_of_range(place, "logit_bias names a token that is no token id"));
            };
            match bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias)) {
                Some(bias) => Ok((token, bias as f32)),
                None => {
                    Err(out_of_range(place, format!("logit_bias[{token}] is {bias}; it must be between -100 and 100")))
                }
            }
        };
        entries.iter().map(entry).collect()
    }

    /// How many of the likeliest tokens to tell beside each, as completions ask for it; none for no log-probabilities.
    pub(super) fn top(&mut self, field: &'static str) -> Result<Option<u32>, Refusal> {
        Ok(self.whole(field, 0, u64::from(TOP_CHANCES_MAX))?.map(|top| top as u32))
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

    /// Longest answer, from `least` on.
    pub(super) fn tokens_max(&mut self, least: u64) -> Result<Option<u32>, Refusal> {
        let old = self.whole("max_tokens", least, COUNT_MAX)?;
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

    /// Texts that end the answer.
    pub(super) fn stop(&mut self) -> Result<Vec<String>, Refusal> {
        self.texts("stop")
    }

    /// The same under another name.
    pub(super) fn texts(&mut self, field: &'static str) -> Result<Vec<String>, Refusal> {
        let texts = match self.take(field) {
            None => return Ok(Vec::new()),
            Some(Value::String(text)) => vec![Value::String(text)],
            Some(Value::Array(texts)) => texts,
            Some(_) => return Err(wrong_type(field, "a text or a list of texts")),
        };
        if texts.len() > STOP_MAX {
            return Err(out_of_range(
                field,
                format!("{field} has {} texts; at most {STOP_MAX} are taken", texts.len()),
            ));
        }
        let check = |(index, text): (usize, Value)| match text {
            Value::String(text) if (1..=STOP_BYTES_MAX).contains(&text.len()) => Ok(text),
            Value::String(text) => Err(out_of_range(
                format!("{field}[{index}]"),
                format!("{field}[{index}] has {} bytes; it must have 1 to {STOP_BYTES_MAX}", text.len()),
            )),
            _ => Err(wrong_type(format!("{field}[{index}]"), "a text")),
        };
        texts.into_iter().enumerate().map(check).collect()
    }

    /// Who is behind the request, for the ledger.
    pub(super) fn user(&mut self) -> Result<String, Refusal> {
        match self.take("user") {
            None => Ok(String::new()),
            Some(Value::String(user)) => check_user(&user).map(|()| user),
            Some(_) => Err(wrong_type("user", "a text")),
        }
    }

    /// Texts that stand on the row of the ledger.
    pub(super) fn metadata(&mut self) -> Result<Vec<(String, String)>, Refusal> {
        let Some(value) = self.take("metadata") else {
            return Ok(Vec::new());
        };
        let Value::Object(entries) = value else {
            return Err(wrong_type("metadata", "an object of texts"));
        };
        if entries.len() > METADATA_MAX {
            let message = format!("metadata has {} entries; at most {METADATA_MAX} are taken", entries.len());
            return Err(out_of_range("metadata", message));
        }
        let check = |(name, value): (String, Value)| {
            let place = format!("metadata.{}", shown(&name));
            let Value::String(text) = value else {
                return Err(wrong_type(place, "a text"));
            };
            if name.len() > METADATA_NAME_BYTES_MAX || text.len() > METADATA_VALUE_BYTES_MAX {
                let message = format!(
                    "{place} is too long; names have at most {METADATA_NAME_BYTES_MAX} bytes and values {METADATA_VALUE_BYTES_MAX}"
                );
                return Err(out_of_range(place, message));
            }
            // It stands in reports on terminals.
            if name.chars().chain(text.chars()).any(char::is_control) {
                return Err(out_of_range(&place, format!("{place} has control characters; leave them out")));
            }
            Ok((name, text))
        };
        entries.into_iter().map(check).collect()
    }

    /// Whether the usage ends the stream.
    pub(super) fn stream_options(&mut self, stream: bool) -> Result<bool, Refusal> {
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
}

/// Whether it may stand on a row of the ledger.
pub(super) fn check_user(user: &str) -> Result<(), Refusal> {
    if user.len() > USER_BYTES_MAX {
        let message = format!("user has {} bytes; at most {USER_BYTES_MAX} are taken", user.len());
        return Err(out_of_range("user", message));
    }
    // It stands in reports on terminals.
    match user.chars().any(char::is_control) {
        true => Err(out_of_range("user", "user has control characters; leave them out")),
        false => Ok(()),
    }
}

/// Whether a value asks for nothing.
pub(super) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// Refuses a field that is not built yet, unless its value asks for what happens anyway.
pub(super) fn check_no_op(field: &str, value: &Value) -> Result<(), Refusal> {
    let plain = match (field, value) {
        ("function_call", Value::String(choice)) => matches!(choice.as_str(), "none" | "auto"),
        ("modalities", Value::Array(list)) => list.iter().all(|kind| kind == "text"),
        _ => false,
    };
    if plain || is_nothing(value) {
        return Ok(());
    }
    Err(Refusal::param(field, "unsupported_parameter", format!("{field} is not supported yet; leave it out")))
}

pub(super) fn missing(field: impl Into<String>) -> Refusal {
    let field = field.into();
    let message = format!("{field} is missing");
    Refusal::param(field, "missing_required_parameter", message)
}

pub(super) fn wrong_type(field: impl Into<String>, expected: &str) -> Refusal {
    let field = field.into();
    let message = format!("{field} must be {expected}");
    Refusal::param(field, "invalid_type", message)
}

pub(super) fn out_of_range(field: impl Into<String>, message: impl Into<String>) -> Refusal {
    Refusal::param(field, "invalid_value", message)
}

/// A name from outside in a form that headers and terminals can bear.
pub(super) fn shown(name: &str) -> String {
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
