//! The talk as code: the request that a column would make, for clients and tools. Never here: how they write it
//! (`hone_protocol::snippet`), or a real key; each reads it from the environment.

use hone_protocol::dataset::ChatMessage;
use hone_protocol::generate::Format;
use hone_protocol::snippet::{Call, KEY_VARIABLE, Tool, snippet};
use ratatui::layout::Rect;
use serde_json::{Map, Value, json};

use super::settings::Asked;
use crate::screens::View;
use crate::screens::howto::endpoint;
use crate::theme::Token;
use crate::widgets::canvas::{Canvas, piece};
use crate::widgets::page::Page;
use crate::widgets::text::clean;

/// In the order of the tabs.
pub(super) const LANGUAGES: [Tool; 4] = [Tool::Curl, Tool::Python, Tool::JavaScript, Tool::Litellm];

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

/// The fields of the request, without what is as it would be anyway.
fn body(asked: &Asked, messages: &[ChatMessage]) -> Map<String, Value> {
    let s = &asked.sampling;
    let mut body = Map::new();
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
    body.insert("stream".into(), true.into());
    body
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

impl Code {
    /// The code of a request in the chosen language.
    pub(super) fn write(&mut self, view: &View<'_>, asked: &Asked, messages: &[ChatMessage]) {
        let call = Call { service: &asked.service, secret: None, body: body(asked, messages) };
        self.text = snippet(LANGUAGES[self.language], &endpoint(view), &call).unwrap_or_default();
        self.scroll = 0;
    }

    pub(super) fn draw(&mut self, canvas: &mut Canvas<'_>, area: Rect, view: &View<'_>) {
        let mut tabs = vec![piece(format!("{}  ", view.t("chat.as_code")), Token::Heading)];
        for (n, language) in LANGUAGES.iter().enumerate() {
            let chosen = n == self.language;
            let title = language.title();
            let label = if chosen { format!("[{title}] ") } else { format!(" {title}  ") };
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

    #[test]
    fn what_is_plain_is_left_out() {
        let message = |role: &str, content: &str| ChatMessage { role: role.into(), content: content.into() };
        let talk = [message("system", "Say 'no'."), message("user", "Where?")];
        let mut asked = Asked { service: "desk".into(), ..Asked::default() };
        asked.sampling.temperature = 0.7;
        let plain = body(&asked, &talk);
        let keys: Vec<_> = plain.keys().cloned().collect();
        assert_eq!(keys, ["messages", "temperature", "max_tokens", "stream"]);
        assert_eq!(plain["temperature"].to_string(), "0.7");
        asked.sampling.min_p = 0.05;
        asked.format = Format::Schema(hone_protocol::value::Json(json!({ "type": "object" })));
        let body = body(&asked, &talk);
        assert_eq!(body["min_p"].to_string(), "0.05");
        assert_eq!(body["response_format"]["json_schema"]["strict"], true);
    }
}
