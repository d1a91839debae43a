//! Requests as a server elsewhere understands them: what was asked here, in the OpenAI protocol's fields. What the protocol
//! has no field for is refused by name, never left out. Fields that hold what the protocol does anyway are not sent, because
//! some servers refuse fields that they do not know. Never here: connections, answers.

use hone_protocol::embed::EmbedTask;
use hone_protocol::failure::Failure;
use hone_protocol::generate::{ChatPrompt, Format, Prompt, Sampling, Tool, ToolChoice, Turn, Wish};
use hone_protocol::worker::GenerateTask;
use serde_json::{Map, Value, json};

/// Characters in a token, of texts in Latin letters.
const ASCII_PER_TOKEN: usize = 4;
/// Tokens of markup that a message brings.
const MARKUP_TOKENS: usize = 4;

/// Which route answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// `/chat/completions`.
    Chat,
    /// `/completions`.
    Text,
}

impl Route {
    /// Below the address.
    pub(super) fn path(self) -> &'static str {
        match self {
            Route::Chat => "/chat/completions",
            Route::Text => "/completions",
        }
    }
}

/// What a server does not take as others do; learnt from its refusals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Quirks {
    /// It refuses `stream_options`, so its counts are not asked for.
    pub(super) no_stream_options: bool,
    /// It wants `max_completion_tokens`.
    pub(super) new_length: bool,
}

impl Quirks {
    /// What a refusal teaches; nothing where it is about something else.
    pub(super) fn learn(self, status: u16, body: &[u8]) -> Option<Quirks> {
        let text = String::from_utf8_lossy(body);
        let learnt = match (status, &*text) {
            (400 | 422, text) if text.contains("max_completion_tokens") => Quirks { new_length: true, ..self },
            (400 | 422, text) if text.contains("stream_options") => Quirks { no_stream_options: true, ..self },
            _ => return None,
        };
        (learnt != self).then_some(learnt)
    }
}

fn no_word(field: &str) -> Failure {
    Failure::field(field, format!("{field} cannot be passed on to the upstream of this service; leave it out"))
}

/// The body of a request for an answer.
pub(super) fn generate(task: &GenerateTask, model: &str, quirks: Quirks) -> Result<(Route, Value), Failure> {
    let wish = &task.wish;
    if wish.echo {
        return Err(no_word("echo"));
    }
    let mut body = Map::new();
    body.insert("model".into(), model.into());
    let route = match &task.prompt {
        Prompt::Chat(chat) => {
            conversation(chat, &mut body);
            Route::Chat
        }
        Prompt::Text { parse_special: true, .. } => return Err(no_word("parse_special")),
        Prompt::Text { add_special: false, .. } => return Err(no_word("add_special_tokens")),
        Prompt::Text { text, .. } => {
            body.insert("prompt".into(), text.as_str().into());
            Route::Text
        }
        Prompt::Tokens(tokens) => {
            body.insert("prompt".into(), json!(tokens));
            Route::Text
        }
    };
    body.insert("stream".into(), true.into());
    if !quirks.no_stream_options {
        body.insert("stream_options".into(), json!({"include_usage": true}));
    }
    if wish.tokens_max != u32::MAX {
        let field = if quirks.new_length && route == Route::Chat { "max_completion_tokens" } else { "max_tokens" };
        body.insert(field.into(), wish.tokens_max.into());
    }
    sampling(wish, &mut body);
    match (route, wish.chances) {
        (_, None) => {}
        (Route::Text, Some(top)) => drop(body.insert("logprobs".into(), top.into())),
        (Route::Chat, Some(top)) => {
            body.insert("logprobs".into(), true.into());
            if top > 0 {
                body.insert("top_logprobs".into(), top.into());
            }
        }
    }
    match &wish.format {
        Format::Text => {}
        Format::Object => drop(body.insert("response_format".into(), json!({"type": "json_object"}))),
        Format::Schema(schema) => {
            let named = json!({"name": "answer", "strict": true, "schema": schema.0});
            body.insert("response_format".into(), json!({"type": "json_schema", "json_schema": named}));
        }
    }
    Ok((route, Value::Object(body)))
}

/// How tokens are chosen: what differs from what the protocol does anyway.
fn sampling(wish: &Wish, body: &mut Map<String, Value>) {
    let (ours, plain) = (&wish.sampling, Sampling::default());
    let numbers = [
        ("temperature", ours.temperature, plain.temperature),
        ("top_p", ours.top_p, plain.top_p),
        ("min_p", ours.min_p, plain.min_p),
        ("frequency_penalty", ours.frequency_penalty, plain.frequency_penalty),
        ("presence_penalty", ours.presence_penalty, plain.presence_penalty),
        // Two names of one thing: llama.cpp and hone say the first, vLLM the second.
        ("repeat_penalty", ours.repeat_penalty, plain.repeat_penalty),
        ("repetition_penalty", ours.repeat_penalty, plain.repeat_penalty),
        ("typical_p", wish.typical_p, Wish::default().typical_p),
    ];
    for (field, value, default) in numbers {
        if value != default {
            body.insert(field.into(), number(value));
        }
    }
    if ours.top_k > 0 {
        body.insert("top_k".into(), ours.top_k.into());
    }
    if let Some(seed) = ours.seed {
        // The protocol's seed is signed.
        body.insert("seed".into(), (seed as i64).into());
    }
    if !wish.stop.is_empty() {
        body.insert("stop".into(), json!(wish.stop));
    }
    if !wish.logit_bias.is_empty() {
        let entries = wish.logit_bias.iter().map(|(token, bias)| (token.to_string(), number(*bias)));
        body.insert("logit_bias".into(), Value::Object(entries.collect()));
    }
    if wish.ignore_end {
        body.insert("ignore_eos".into(), true.into());
    }
}

/// As short as it was typed: 0.7 and not 0.699999988079071.
fn number(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

fn conversation(chat: &ChatPrompt, body: &mut Map<String, Value>) {
    body.insert("messages".into(), chat.turns.iter().map(message).collect());
    if !chat.tools.is_empty() {
        body.insert("tools".into(), chat.tools.iter().map(tool).collect());
        if !chat.parallel_calls {
            body.insert("parallel_tool_calls".into(), false.into());
        }
        let choice = match &chat.tool_choice {
            ToolChoice::Auto => None,
            ToolChoice::None => Some("none".into()),
            ToolChoice::Required => Some("required".into()),
            ToolChoice::Named(name) => Some(json!({"type": "function", "function": {"name": name}})),
        };
        body.extend(choice.map(|choice| ("tool_choice".to_owned(), choice)));
    }
    if chat.variables.0.as_object().is_some_and(|variables| !variables.is_empty()) {
        body.insert("chat_template_kwargs".into(), chat.variables.0.clone());
    }
}

fn message(turn: &Turn) -> Value {
    let mut message = Map::new();
    message.insert("role".into(), turn.role.as_str().into());
    let content =
        if turn.content.is_empty() && !turn.calls.is_empty() { Value::Null } else { turn.content.as_str().into() };
    message.insert("content".into(), content);
    if !turn.calls.is_empty() {
        let call = |call: &hone_protocol::generate::Call| {
            // What a model wrote and was cut off travels as the text that it is.
            let arguments = call.arguments.0.as_str().map_or_else(|| call.arguments.0.to_string(), str::to_owned);
            json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
        };
        message.insert("tool_calls".into(), turn.calls.iter().map(call).collect());
    }
    if let Some(id) = &turn.call_id {
        message.insert("tool_call_id".into(), id.as_str().into());
    }
    Value::Object(message)
}

fn tool(tool: &Tool) -> Value {
    let mut function = Map::new();
    function.insert("name".into(), tool.name.as_str().into());
    if !tool.description.is_empty() {
        function.insert("description".into(), tool.description.as_str().into());
    }
    if !tool.parameters.0.is_null() {
        function.insert("parameters".into(), tool.parameters.0.clone());
    }
    if tool.strict {
        function.insert("strict".into(), true.into());
    }
    json!({"type": "function", "function": function})
}

/// The body of a request for vectors.
pub(super) fn embed(task: &EmbedTask, model: &str) -> Result<Value, Failure> {
    let input = |prompt: &Prompt| match prompt {
        Prompt::Text { text, .. } => Ok(Value::from(text.as_str())),
        Prompt::Tokens(tokens) => Ok(json!(tokens)),
        Prompt::Chat(_) => Err(Failure::field("input", "a conversation cannot be embedded; send texts or tokens")),
    };
    let inputs = task.inputs.iter().map(input).collect::<Result<Vec<Value>, Failure>>()?;
    let mut body = json!({"model": model, "input": inputs, "encoding_format": "float"});
    if let Some(dimensions) = task.dimensions {
        body["dimensions"] = dimensions.into();
    }
    Ok(body)
}

/// How many tokens a prompt may have, where nobody who can counts them.
pub(super) fn estimate(prompt: &Prompt) -> u32 {
    let of = |text: &str| {
        let ascii = text.bytes().filter(u8::is_ascii).count();
        ascii.div_ceil(ASCII_PER_TOKEN) + text.chars().count() - ascii
    };
    let tokens = match prompt {
        Prompt::Tokens(tokens) => tokens.len(),
        Prompt::Text { text, .. } => of(text),
        Prompt::Chat(chat) => {
            let turns = chat.turns.iter().map(|turn| {
                let calls = turn.calls.iter().map(|call| of(&call.name) + of(&call.arguments.0.to_string()));
                MARKUP_TOKENS + of(&turn.content) + calls.sum::<usize>()
            });
            let tools = chat.tools.iter().map(|tool| of(&self::tool(tool).to_string()));
            turns.chain(tools).sum()
        }
    };
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use hone_protocol::dataset::ChatMessage;
    use hone_protocol::generate::Call;
    use hone_protocol::value::{Hash, Json};

    use super::*;

    fn task(prompt: Prompt, wish: Wish) -> GenerateTask {
        GenerateTask {
            request: 1,
            adapter: None,
            prompt,
            wish,
            scope: Hash([0; 32]),
            turn: hone_protocol::generate::Share { owner: 0, weight: 1 },
        }
    }

    fn hello() -> Prompt {
        Prompt::chat(vec![ChatMessage { role: "user".into(), content: "hello".into() }])
    }

    #[test]
    fn a_plain_request_is_as_short_as_it_was() {
        let (route, body) = generate(&task(hello(), Wish::default()), "m", Quirks::default()).unwrap();
        assert_eq!(route, Route::Chat);
        let plain = json!({"model": "m", "messages": [{"role": "user", "content": "hello"}], "stream": true,
            "stream_options": {"include_usage": true}});
        assert_eq!(body, plain);
    }

    #[test]
    fn everything_that_can_be_asked_is_passed_on() {
        let sampling = Sampling {
            temperature: 0.7,
            top_p: 0.9,
            top_k: 40,
            min_p: 0.05,
            frequency_penalty: 0.5,
            presence_penalty: -0.5,
            repeat_penalty: 1.1,
            seed: Some(u64::MAX),
        };
        let wish = Wish {
            tokens_max: 20,
            sampling,
            typical_p: 0.5,
            logit_bias: vec![(7, -100.0)],
            stop: vec!["x".into()],
            format: Format::Schema(Json(json!({"type": "object"}))),
            chances: Some(2),
            echo: false,
            ignore_end: true,
            tell_prompt: false,
        };
        let call = Call { id: "c1".into(), name: "look".into(), arguments: Json(json!({"a": 1})) };
        let turn = |role: &str, content: &str| Turn {
            role: role.into(),
            content: content.into(),
            calls: Vec::new(),
            call_id: None,
        };
        let chat = ChatPrompt {
            turns: vec![
                turn("user", "q"),
                Turn { calls: vec![call], ..turn("assistant", "") },
                Turn { call_id: Some("c1".into()), ..turn("tool", "found") },
            ],
            tools: vec![Tool {
                name: "look".into(),
                description: "looks".into(),
                parameters: Json(json!({"type": "object"})),
                strict: true,
            }],
            tool_choice: ToolChoice::Named("look".into()),
            parallel_calls: false,
            variables: Json(json!({"enable_thinking": false})),
        };
        let quirks = Quirks { no_stream_options: true, new_length: true };
        let (_, body) = generate(&task(Prompt::Chat(Box::new(chat)), wish), "m", quirks).unwrap();
        insta::assert_snapshot!("everything_passed_on", serde_json::to_string_pretty(&body).unwrap());
    }

    #[test]
    fn what_has_no_word_is_refused_by_name() {
        let text = |parse_special, add_special| Prompt::Text { text: "a".into(), parse_special, add_special };
        let echo = Wish { echo: true, ..Wish::default() };
        for (prompt, wish, field) in [
            (hello(), echo, "echo"),
            (text(true, true), Wish::default(), "parse_special"),
            (text(false, false), Wish::default(), "add_special_tokens"),
        ] {
            let failure = generate(&task(prompt, wish), "m", Quirks::default()).unwrap_err();
            assert_eq!(failure.place, field);
        }
        let (route, body) = generate(&task(text(false, true), Wish::default()), "m", Quirks::default()).unwrap();
        assert_eq!((route, &body["prompt"]), (Route::Text, &json!("a")));
        let (_, body) = generate(&task(Prompt::Tokens(vec![1, 2]), Wish::default()), "m", Quirks::default()).unwrap();
        assert_eq!(body["prompt"], json!([1, 2]));
    }

    #[test]
    fn refusals_teach() {
        let plain = Quirks::default();
        let learn = |quirks: Quirks, body: &str| quirks.learn(400, body.as_bytes());
        let new = learn(plain, "Use 'max_completion_tokens' instead").unwrap();
        assert!(new.new_length && learn(new, "Use 'max_completion_tokens' instead").is_none());
        assert!(learn(new, "unknown field stream_options").unwrap().no_stream_options);
        assert_eq!(learn(plain, "something else"), None);
        assert_eq!(plain.learn(500, b"stream_options"), None);
    }

    #[test]
    fn estimates_count_letters_and_signs() {
        let text = |text: &str| Prompt::Text { text: text.into(), parse_special: false, add_special: true };
        assert_eq!(estimate(&text("twelve chars")), 3);
        assert_eq!(estimate(&text("你好")), 2);
        assert_eq!(estimate(&Prompt::Tokens(vec![1; 9])), 9);
        assert_eq!(estimate(&hello()), 6);
    }
}
