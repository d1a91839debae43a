//! The minijinja environment: Hugging Face's conventions, and bounds on time and size.
//!
//! What never lives here: knowledge of messages or tokens.

use std::io;

use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind, syntax::SyntaxConfig};

use super::{FUEL, OUTPUT_BYTES_MAX, RECURSION_MAX, TemplateError};

const NAME: &str = "chat";
/// Marks errors that a template raised itself, so that they are told as its own words.
const RAISED: &str = "\u{1}raised\u{1}";

pub(super) fn environment(source: &str) -> Result<Environment<'static>, TemplateError> {
    let mut env = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(|e| syntax_error(&e))?;
    env.set_syntax(syntax);
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(RECURSION_MAX);
    env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    env.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
    });
    env.add_function("strftime_now", strftime_now);
    env.add_filter("tojson", tojson);
    env.add_template_owned(NAME, without_generation_tags(source)).map_err(|e| syntax_error(&e))?;
    Ok(env)
}

pub(super) fn render(env: &Environment<'static>, context: Value) -> Result<String, TemplateError> {
    let template = env.get_template(NAME).map_err(|e| syntax_error(&e))?;
    let mut out = Bounded::default();
    let result = template.render_captured_to(context, &mut out);
    if out.full {
        return Err(TemplateError::OutputTooLong);
    }
    match result {
        Ok(_) => String::from_utf8(out.bytes)
            .map_err(|_| TemplateError::Render { line: 0, detail: "the rendering is no UTF-8".into() }),
        Err(e) => Err(render_error(&e)),
    }
}

fn syntax_error(error: &Error) -> TemplateError {
    TemplateError::Syntax { line: error.line().unwrap_or(0), detail: describe(error) }
}

fn render_error(error: &Error) -> TemplateError {
    // An error inside an included block or macro carries the first cause below it.
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(e) = cause {
        if let Some(e) = e.downcast_ref::<Error>() {
            if let Some(message) = e.detail().and_then(|d| d.split(RAISED).nth(1)) {
                return TemplateError::Raised { message: message.to_owned() };
            }
            if e.kind() == ErrorKind::OutOfFuel {
                return TemplateError::OutOfFuel;
            }
        }
        cause = e.source();
    }
    TemplateError::Render { line: error.line().unwrap_or(0), detail: describe(error) }
}

fn describe(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

/// A writer that fails once `OUTPUT_BYTES_MAX` is reached.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + data.len() > OUTPUT_BYTES_MAX {
            self.full = true;
            return Err(io::Error::other("rendering too long"));
        }
        self.bytes.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The time now, in UTC, by a `strftime` format. Templates print a date with it.
fn strftime_now(format: &str) -> Result<String, Error> {
    let now = jiff::Timestamp::now().to_zoned_datetime(jiff::tz::TimeZone::UTC);
    jiff::fmt::strtime::format(format, &now).map_err(|e| Error::new(ErrorKind::InvalidOperation, e.to_string()))
}

/// JSON as Python's `json.dumps` writes it with `ensure_ascii=False`: no escaping of HTML, `", "` and
/// `": "` between items, or indented.
fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let json = serde_json::to_value(value).map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))?;
    let mut out = String::new();
    write_json(&json, indent.map(|n| n.min(16)), 0, &mut out);
    Ok(out)
}

fn write_json(value: &serde_json::Value, indent: Option<usize>, depth: usize, out: &mut String) {
    use serde_json::Value as Json;
    let line = |depth: usize, out: &mut String| {
        if let Some(n) = indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', n * depth));
        }
    };
    let comma = if indent.is_some() { "," } else { ", " };
    match value {
        Json::Array(items) if !items.is_empty() => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i > 0 { comma } else { "" });
                line(depth + 1, out);
                write_json(item, indent, depth + 1, out);
            }
            line(depth, out);
            out.push(']');
        }
        Json::Object(items) if !items.is_empty() => {
            out.push('{');
            for (i, (key, item)) in items.iter().enumerate() {
                out.push_str(if i > 0 { comma } else { "" });
                line(depth + 1, out);
                out.push_str(&Json::String(key.clone()).to_string());
                out.push_str(": ");
                write_json(item, indent, depth + 1, out);
            }
            line(depth, out);
            out.push('}');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

/// `{% generation %}` marks the model's words for other trainers; here the segments say that. The
/// tags become `{% if true %}` and `{% endif %}`, which keeps their white-space rules.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let Some(end) = tag.find("%}") else {
            out.push_str(tag);
            return out;
        };
        let (tag, after) = tag.split_at(end + 2);
        let inner = &tag[2..tag.len() - 2];
        let word = inner.trim_matches(['-', '+']).trim();
        match word {
            "generation" => out.push_str(&tag.replacen(word, "if true", 1)),
            "endgeneration" => out.push_str(&tag.replacen(word, "endif", 1)),
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}
