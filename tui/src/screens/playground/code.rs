//! The talk as code: the request that a column would make, for curl, Python and JavaScript. Never here: a real key; each reads
//! it from the environment.

use hone_protocol::dataset::ChatMessage;
use hone_protocol::generate::Format;
use ratatui::layout::Rect;
use serde_json::{Map, Value, json};

use super::settings::Asked;
use crate::screens::View;
use crate::screens::howto::{KEY_VARIABLE, base_address};
use crate::theme::Token;
use crate::widgets::canvas::{Canvas, piece};
use crate::widgets::page::Page;
use crate::widgets::text::clean;

/// The languages, in the order of the tabs.
pub(super) const LANGUAGES: [&str; 3] = ["curl", "Python", "JavaScript"];
/// Fields that the OpenAI protocol does not know; its Python client sends them only as an extra body.
const EXTRA: [&str; 4] = ["top_k", "min_p", "typical_p", "repeat_penalty"];

/// The code that is shown.
#[derive(Default)]
pub(super) struct Code {
    pub(super) language: usize,
    pub(super) scroll: usize,
    /// The text of the chosen language.
    pub(super) text: String,
}

/// The shortest decimal that is the same single-precision number.
fn short(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

/// The body of the request, without what is as it would be anyway.
pub(super) fn body(asked: &Asked, messages: &[ChatMessage]) -> Value {
    let s = &asked.sampling;
    let mut body = Map::new();
    body.insert("model".into(), asked.service.as_str().into());
    body.insert("messages".into(), json!(messages));
    body.insert("temperature".into(), short(s.temperature));
    let unless = |value: f32, plain: f32| (value != plain).then(|| short(value));
    let parts = [
        ("top_p", unless(s.top_p, 1.0)),
        ("frequency_penalty", unless(s.frequency_penalty, 0.0)),
        ("presence_penalty", unless(s.presence_penalty, 0.0)),
        ("max_tokens", Some(asked.tokens_max.into())),
        ("seed", s.seed.map(Value::from)),
        ("stop", (!asked.stop.is_empty()).then(|| json!(asked.stop))),
        ("response_format", format(&asked.format)),
        ("top_k", (s.top_k > 0).then(|| s.top_k.into())),
        ("min_p", unless(s.min_p, 0.0)),
        ("typical_p", unless(asked.typical_p, 1.0)),
        ("repeat_penalty", unless(s.repeat_penalty, 1.0)),
    ];
    body.extend(parts.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
    Value::Object(body)
}

fn format(format: &Format) -> Option<Value> {
    match format {
        Format::Text => None,
        Format::Object => Some(json!({ "type": "json_object" })),
        Format::Schema(schema) => {
            let schema = json!({ "name": "answer", "strict": true, "schema": schema.0 });
            Some(json!({ "type": "json_schema", "json_schema": schema }))
        }
    }
}

/// Code that makes the request and prints the answer as it comes.
pub(super) fn snippet(language: &str, base: &str, body: &Value) -> String {
    match language {
        "Python" => python(base, body),
        "JavaScript" => javascript(base, body),
        _ => curl(base, body),
    }
}

fn curl(base: &str, body: &Value) -> String {
    let mut body = body.clone();
    body["stream"] = true.into();
    // A shell reads nothing inside a quoted here-document; JSON has no line that is the end mark alone.
    format!(
        "curl -N {base}/v1/chat/completions \\\n  -H \"Authorization: Bearer ${KEY_VARIABLE}\" \\\n  \
         -H 'Content-Type: application/json' \\\n  -d @- <<'JSON'\n{body:#}\nJSON\n"
    )
}

fn python(base: &str, body: &Value) -> String {
    let (own, extra): (Vec<_>, Vec<_>) = fields(body).partition(|(key, _)| !EXTRA.contains(&key.as_str()));
    let mut arguments: String = own.iter().map(|(key, value)| format!("    {key}={},\n", literal(value, 4))).collect();
    if !extra.is_empty() {
        let extra = Value::Object(extra.into_iter().collect());
        arguments.push_str(&format!("    extra_body={},\n", literal(&extra, 4)));
    }
    format!(
        "import os\nfrom openai import OpenAI\n\nclient = OpenAI(base_url=\"{base}/v1\", api_key=os.environ[\"{KEY_VARIABLE}\"])\n\
         stream = client.chat.completions.create(\n{arguments}    stream=True,\n)\nfor part in stream:\n    if part.choices:\n        \
         print(part.choices[0].delta.content or \"\", end=\"\", flush=True)\n"
    )
}

fn javascript(base: &str, body: &Value) -> String {
    let mut body = body.clone();
    body["stream"] = true.into();
    format!(
        "import OpenAI from \"openai\";\n\nconst client = new OpenAI({{ baseURL: \"{base}/v1\", apiKey: process.env.{KEY_VARIABLE} }});\n\
         const stream = await client.chat.completions.create({body:#});\nfor await (const part of stream) {{\n  \
         process.stdout.write(part.choices[0]?.delta?.content ?? \"\");\n}}\n"
    )
}

fn fields(body: &Value) -> impl Iterator<Item = (String, Value)> {
    body.as_object().cloned().unwrap_or_default().into_iter()
}

/// A value as Python writes it.
fn literal(value: &Value, margin: usize) -> String {
    let (inner, outer) = (" ".repeat(margin + 4), " ".repeat(margin));
    match value {
        Value::Null => "None".into(),
        Value::Bool(yes) => if *yes { "True" } else { "False" }.into(),
        Value::Array(items) if !items.is_empty() => {
            let items: String = items.iter().map(|v| format!("{inner}{},\n", literal(v, margin + 4))).collect();
            format!("[\n{items}{outer}]")
        }
        Value::Object(items) if !items.is_empty() => {
            let item = |(key, v): (&String, &Value)| {
                format!("{inner}{}: {},\n", Value::from(key.as_str()), literal(v, margin + 4))
            };
            format!("{{\n{}{outer}}}", items.iter().map(item).collect::<String>())
        }
        // A JSON string or number is one of Python too.
        other => other.to_string(),
    }
}

impl Code {
    /// The code of a request in the chosen language.
    pub(super) fn write(&mut self, view: &View<'_>, asked: &Asked, messages: &[ChatMessage]) {
        self.text = snippet(LANGUAGES[self.language], &base_address(view), &body(asked, messages));
        self.scroll = 0;
    }

    pub(super) fn draw(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        let mut tabs = vec![piece(format!("{}  ", view.t("chat.as_code")), Token::Heading)];
        for (n, language) in LANGUAGES.iter().enumerate() {
            let chosen = n == self.language;
            let label = if chosen { format!("[{language}] ") } else { format!(" {language}  ") };
            tabs.push(piece(label, if chosen { Token::Accent } else { Token::Muted }));
        }
        canvas.pieces(area.x, area.y, area.width, &tabs);
        let mut page = Page::new();
        page.text(view.fill("chat.code_key", &[("variable", KEY_VARIABLE)]), Token::Muted).blank();
        for line in clean(&self.text).lines() {
            let content = line.trim_start_matches(' ');
            page.indented(content, Token::Text, (line.len() - content.len()) as u16);
        }
        let below = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
        page.draw(canvas, below, &mut self.scroll);
        canvas.cursor_at(area.x, area.y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk() -> Vec<ChatMessage> {
        let message = |role: &str, content: &str| ChatMessage { role: role.into(), content: content.into() };
        vec![message("system", "Say 'no'."), message("user", "Where's \"it\"?\nJSON 包裹 $HOME `x` \\")]
    }

    #[test]
    fn what_is_plain_is_left_out_and_no_key_is_ever_in_it() {
        let mut asked = Asked { service: "desk".into(), ..Asked::default() };
        asked.sampling.temperature = 0.7;
        let plain = body(&asked, &talk());
        let keys: Vec<_> = plain.as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys.len(), 4, "{keys:?}");
        assert_eq!(plain["temperature"].to_string(), "0.7");
        asked.sampling.min_p = 0.05;
        asked.format = Format::Schema(hone_protocol::value::Json(json!({ "type": "object" })));
        let body = body(&asked, &talk());
        for language in LANGUAGES {
            let text = snippet(language, "http://127.0.0.1:8080", &body);
            assert!(text.contains(KEY_VARIABLE) && text.contains("http://127.0.0.1:8080/v1"), "{text}");
            assert!(text.contains("min_p") && text.contains("json_schema"), "{text}");
        }
        let curl = snippet("curl", "http://x", &body);
        let sent = curl.split_once("<<'JSON'\n").unwrap().1.strip_suffix("\nJSON\n").unwrap();
        let sent: Value = serde_json::from_str(sent).unwrap();
        assert_eq!((&sent["messages"], &sent["stream"]), (&json!(talk()), &json!(true)));
        let javascript = snippet("JavaScript", "http://x", &body);
        let object = javascript.split_once("create(").unwrap().1.split_once(");\nfor").unwrap().0;
        assert_eq!(serde_json::from_str::<Value>(object).unwrap()["messages"], json!(talk()));
        let python = snippet("Python", "http://x", &body);
        assert!(python.contains("extra_body={\n        \"min_p\": 0.05,\n    }"), "{python}");
        assert!(python.contains("\"strict\": True"), "{python}");
    }
}
