//! Conversations as the model's template wants them: tools shown by the template where it can, else by a prompt of our
//! own; calls and results written back the same way; and what an answer must then keep to.
//!
//! What never lives here: rendering (see `crate::template`), what comes of the answer (see `ear`).

use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::generate::{CALLS_MAX, ChatPrompt, Format, Tool, ToolChoice, Turn};
use serde_json::{Map, Value, json};

use super::ear::{Ear, THINK_CLOSE, THINK_OPEN};
use super::facts;
use crate::serve::Limit;
use crate::serve::grammar::{self, CALL_TAGS, Callable, Check};
use crate::serve::schema::BadSchema;
use crate::template::{ChatMessage, ChatTemplate, Extras};
use crate::vocab::Vocab;

/// How conversations of one model are written.
#[derive(Debug)]
pub(super) struct Talk {
    template: ChatTemplate,
    /// Whether the template shows tools and writes calls in the way that we read.
    knows_tools: bool,
    takes_system: bool,
    thinks: bool,
}

/// A conversation that is ready to be gone on with.
pub(super) struct Ready {
    pub(super) tokens: Vec<i32>,
    pub(super) limit: Option<Limit>,
    pub(super) check: Option<Check>,
    pub(super) ear: Option<Ear>,
}

impl Talk {
    pub(super) fn new(template: ChatTemplate) -> Self {
        let knows_tools = template.writes_calls(CALL_TAGS.open);
        let takes_system = template.probe().is_ok_and(|traits| traits.takes_system);
        let thinks = template.source().contains(THINK_CLOSE);
        Self { template, knows_tools, takes_system, thinks }
    }

    pub(super) fn template(&self) -> &ChatTemplate {
        &self.template
    }

    /// Renders a conversation and says what its answer must keep to.
    pub(super) fn ready(&self, vocab: &Vocab, chat: &ChatPrompt, format: &Format) -> Result<Ready, Failure> {
        let calls = !chat.tools.is_empty() && chat.tool_choice != ToolChoice::None;
        let (messages, extras) = self.written(chat, calls)?;
        let segments = self.template.render(vocab, &messages, &extras, true).map_err(facts::of_template)?;
        let thinking = segments.last().is_some_and(|s| s.text.trim_end().ends_with(THINK_OPEN));
        let tokens = self.template.spell(vocab, &segments).map_err(facts::of_template)?;
        let (document, check) = of_format(format)?;
        let mut limit = if calls { Some(calls_limit(chat, document)?) } else { document };
        if let Some(limit) = limit.as_mut().filter(|limit| thinking && limit.after.is_none()) {
            // The prompt began a thought: the answer begins when it ends.
            limit.after = Some(THINK_CLOSE.to_owned());
            limit.grammar = limit.grammar.replacen("root ::= ", "root ::= [ \\n]{0,4} document\ndocument ::= ", 1);
        }
        let ear = (self.thinks || calls).then(|| Ear::new(self.thinks, thinking, calls));
        Ok(Ready { tokens, limit, check, ear })
    }

    /// The messages as the template takes them.
    fn written(&self, chat: &ChatPrompt, calls: bool) -> Result<(Vec<ChatMessage>, Extras), Failure> {
        let Value::Object(variables) = chat.variables.0.clone() else {
            return Err(Failure::field("chat_template_kwargs", "chat_template_kwargs must be an object"));
        };
        let mut extras = Extras { variables, ..Extras::default() };
        if self.knows_tools {
            extras.tools = calls.then(|| chat.tools.iter().map(shown).collect());
            extras.fields = chat.turns.iter().map(fields).collect();
            let message = |turn: &Turn| ChatMessage::new(&turn.role, &turn.content);
            return Ok((chat.turns.iter().map(message).collect(), extras));
        }
        let mut messages = plain(&chat.turns);
        if calls {
            self.show_tools(&mut messages, &instructions(chat));
        }
        Ok((messages, extras))
    }

    /// Puts our tool prompt in front, where the template surely shows it.
    fn show_tools(&self, messages: &mut Vec<ChatMessage>, prompt: &str) {
        if !self.takes_system {
            match messages.iter_mut().find(|message| message.role != "system") {
                Some(first) => first.content = format!("{prompt}\n\n{}", first.content),
                None => messages.push(ChatMessage::new("user", prompt)),
            }
            return;
        }
        match messages.first_mut().filter(|first| first.role == "system") {
            Some(first) => first.content = format!("{}\n\n{prompt}", first.content),
            None => messages.insert(0, ChatMessage::new("system", prompt)),
        }
    }
}

fn of_schema(field: &str, error: BadSchema) -> Failure {
    Failure::new(FailureCode::InvalidField, error.to_string()).at(field)
}

fn format_limit(format: &Format) -> Result<Option<Limit>, Failure> {
    match format {
        Format::Text => Ok(None),
        Format::Object => Ok(Some(grammar::of_object())),
        Format::Schema(schema) => {
            grammar::of_schema(&schema.0).map(Some).map_err(|error| of_schema("response_format", error))
        }
    }
}

/// What an answer of this format must keep to, and what looks at the whole of it. The rules first: they know bounds.
pub(super) fn of_format(format: &Format) -> Result<(Option<Limit>, Option<Check>), Failure> {
    Ok((format_limit(format)?, check(format)?))
}

fn check(format: &Format) -> Result<Option<Check>, Failure> {
    match format {
        Format::Text => Ok(None),
        Format::Object => Ok(Some(Check::object())),
        Format::Schema(schema) => {
            Check::schema(&schema.0).map(Some).map_err(|error| of_schema("response_format", error))
        }
    }
}

fn calls_limit(chat: &ChatPrompt, document: Option<Limit>) -> Result<Limit, Failure> {
    let wanted = |tool: &&Tool| match &chat.tool_choice {
        ToolChoice::Named(name) => tool.name == *name,
        _ => true,
    };
    let tools: Vec<Callable<'_>> = chat.tools.iter().filter(wanted).map(callable).collect();
    let most = if chat.parallel_calls { CALLS_MAX } else { 1 };
    let must = matches!(chat.tool_choice, ToolChoice::Required | ToolChoice::Named(_));
    grammar::of_calls(&tools, must, document.filter(|_| !must), most).map_err(|error| of_schema("tools", error))
}

fn callable(tool: &Tool) -> Callable<'_> {
    Callable { name: &tool.name, parameters: &tool.parameters.0, strict: tool.strict }
}

/// A tool in the form of the OpenAI protocol, which templates know.
fn shown(tool: &Tool) -> Value {
    let parameters = match &tool.parameters.0 {
        Value::Null => json!({"type": "object", "properties": {}}),
        parameters => parameters.clone(),
    };
    let function = json!({"name": tool.name, "description": tool.description, "parameters": parameters});
    json!({"type": "function", "function": function})
}

/// What a message has beside role and content.
fn fields(turn: &Turn) -> Map<String, Value> {
    let mut fields = Map::new();
    if !turn.calls.is_empty() {
        let call = |call: &hone_protocol::generate::Call| json!({"type": "function", "id": call.id, "function": {"name": call.name, "arguments": call.arguments.0}});
        fields.insert("tool_calls".into(), turn.calls.iter().map(call).collect());
    }
    if let Some(id) = &turn.call_id {
        fields.insert("tool_call_id".into(), Value::from(id.as_str()));
    }
    fields
}

/// Messages for a template that knows no tools: calls as the text that the model wrote, results as words of the user.
fn plain(turns: &[Turn]) -> Vec<ChatMessage> {
    let mut messages: Vec<ChatMessage> = Vec::new();
    let mut after_result = false;
    for turn in turns {
        let is_result = turn.role == "tool";
        let mut content = turn.content.clone();
        for call in &turn.calls {
            let written = format!(
                "{}\n{}{}{}{}}}\n{}",
                CALL_TAGS.open,
                grammar::CALL_NAME,
                call.name,
                grammar::CALL_ARGUMENTS,
                call.arguments.0,
                CALL_TAGS.close
            );
            content = if content.is_empty() { written } else { format!("{content}\n{written}") };
        }
        if is_result {
            content = format!("<tool_response>\n{content}\n</tool_response>");
        }
        match messages.last_mut() {
            // Several results are one message: many templates want turns to alternate.
            Some(last) if is_result && after_result => last.content = format!("{}\n{content}", last.content),
            _ => messages.push(ChatMessage::new(if is_result { "user" } else { &turn.role }, &content)),
        }
        after_result = is_result;
    }
    messages
}

/// Our own tool prompt.
fn instructions(chat: &ChatPrompt) -> String {
    let tools: Vec<String> = chat.tools.iter().map(|tool| shown(tool).to_string()).collect();
    let how = match (&chat.tool_choice, chat.parallel_calls) {
        (ToolChoice::Named(name), _) => format!("Call the function {name} now."),
        (ToolChoice::Required, _) => "Call a function now.".to_owned(),
        (_, true) => "Call one or more of them when that helps to answer; else answer in words.".to_owned(),
        (_, false) => "Call one of them when that helps to answer; else answer in words.".to_owned(),
    };
    format!(
        "You can call functions. Their descriptions are between <tools> and </tools>, one JSON object a line:\n\
         <tools>\n{}\n</tools>\n{how} A call is written like this, and its result comes back between <tool_response> and \
         </tool_response>:\n{}\n{}function-name{}{{\"parameter\": \"value\"}}}}\n{}",
        tools.join("\n"),
        CALL_TAGS.open,
        grammar::CALL_NAME,
        grammar::CALL_ARGUMENTS,
        CALL_TAGS.close
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::TemplateFacts;
    use crate::vocab::starter_for_tests;
    use hone_protocol::generate::Call;
    use hone_protocol::value::Json;

    /// As Qwen's templates do it.
    const KNOWS_TOOLS: &str = r#"{%- if tools %}<|im_start|>system
# Tools
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}<|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}
{%- for call in message.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking %}<think>
{% endif %}{# </think> #}{% endif %}"#;

    fn talk(source: &str) -> (Vocab, Talk) {
        let vocab = Vocab::load(&starter_for_tests()).unwrap();
        let template = ChatTemplate::new(source, TemplateFacts::of(&vocab)).unwrap();
        (vocab, Talk::new(template))
    }

    fn starter() -> (Vocab, Talk) {
        let file = crate::gguf::GgufFile::open(&starter_for_tests()).unwrap();
        talk(file.str("tokenizer.chat_template").unwrap())
    }

    fn turn(role: &str, content: &str) -> Turn {
        Turn { role: role.into(), content: content.into(), calls: Vec::new(), call_id: None }
    }

    fn chat() -> ChatPrompt {
        let call = |id: &str| Call { id: id.into(), name: "look".into(), arguments: Json(json!({"at": "Ulm"})) };
        let schema = json!({"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]});
        let result = |id: &str, text: &str| Turn { call_id: Some(id.into()), ..turn("tool", text) };
        ChatPrompt {
            turns: vec![
                turn("system", "Be brief."),
                turn("user", "Look at Ulm."),
                Turn { calls: vec![call("a"), call("b")], ..turn("assistant", "") },
                result("a", "fine"),
                result("b", "dull"),
            ],
            tools: vec![Tool {
                name: "look".into(),
                description: "Looks.".into(),
                parameters: Json(schema),
                strict: true,
            }],
            ..ChatPrompt::default()
        }
    }

    fn shown(vocab: &Vocab, ready: &Ready) -> String {
        vocab.text(&ready.tokens, true)
    }

    #[test]
    fn a_template_that_knows_tools_shows_them_and_the_calls() {
        let (vocab, talk) = talk(KNOWS_TOOLS);
        assert!(talk.knows_tools && talk.thinks);
        let ready = talk.ready(&vocab, &chat(), &Format::Text).unwrap();
        let text = shown(&vocab, &ready);
        assert!(text.contains("# Tools{\"type\": \"function\", \"function\": {\"name\": \"look\""), "{text}");
        assert_eq!(text.matches("{\"name\": \"look\", \"arguments\": {\"at\": \"Ulm\"}}").count(), 2, "{text}");
        assert!(text.contains("<|im_start|>tool\nfine") && !text.contains("You can call functions"), "{text}");
        assert_eq!(ready.limit.as_ref().unwrap().after.as_deref(), Some(CALL_TAGS.open));
        // Without tools nothing of them is shown, and nothing is read as a call.
        let none = ChatPrompt { tool_choice: ToolChoice::None, ..chat() };
        let ready = talk.ready(&vocab, &none, &Format::Text).unwrap();
        assert!(!shown(&vocab, &ready).contains("# Tools") && ready.limit.is_none());
    }

    #[test]
    fn any_other_template_gets_our_prompt() {
        let (vocab, talk) = starter();
        assert!(!talk.knows_tools && talk.takes_system && !talk.thinks);
        let required = ChatPrompt { tool_choice: ToolChoice::Required, ..chat() };
        let ready = talk.ready(&vocab, &required, &Format::Text).unwrap();
        let text = shown(&vocab, &ready);
        assert!(text.starts_with("<|im_start|>system\nBe brief.\n\nYou can call functions"), "{text}");
        assert!(text.contains("Call a function now."), "{text}");
        let both = "<|im_start|>user\n<tool_response>\nfine\n</tool_response>\n<tool_response>\ndull\n</tool_response><|im_end|>";
        assert!(text.contains(both), "results of one answer are one message: {text}");
        assert!(
            text.contains("<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\":\"Ulm\"}}\n</tool_call>"),
            "{text}"
        );
        assert_eq!(ready.limit.unwrap().after, None, "from the first token on");
        let silent = talk_without_system();
        let text = shown(&vocab, &silent.ready(&vocab, &required, &Format::Text).unwrap());
        assert!(text.contains("You can call functions"), "shown even where no system message is: {text}");
    }

    fn talk_without_system() -> Talk {
        let source =
            "{% for m in messages %}{% if m.role != 'system' %}[{{ m.role }}] {{ m.content }}\n{% endif %}{% endfor %}";
        talk(source).1
    }

    #[test]
    fn a_format_holds_behind_the_thought_that_the_template_begins() {
        let (vocab, talk) = talk(KNOWS_TOOLS);
        let variables = Json(json!({"enable_thinking": true, "messages": "never replaced"}));
        let thinking = ChatPrompt { turns: vec![turn("user", "Hi")], variables, ..ChatPrompt::default() };
        let ready = talk.ready(&vocab, &thinking, &Format::Object).unwrap();
        assert!(shown(&vocab, &ready).ends_with("<think>\n"));
        assert_eq!(ready.limit.as_ref().unwrap().after.as_deref(), Some(THINK_CLOSE));
        let mut constraint = crate::serve::constraint::Constraint::new(&ready.limit.unwrap(), &vocab).unwrap();
        for token in vocab.tokenize("so {what</think>\n\n{\"a\": 1}", false).unwrap() {
            assert!((!constraint.is_active() || constraint.allows(token)) && constraint.accept(token));
        }
        assert!(constraint.is_active() && constraint.allows(vocab.named().eos.unwrap()));
        let plain = ChatPrompt { turns: vec![turn("user", "Hi")], ..ChatPrompt::default() };
        assert_eq!(talk.ready(&vocab, &plain, &Format::Object).unwrap().limit.unwrap().after, None);
    }

    #[test]
    fn control_tokens_of_strangers_stay_out_of_the_markup() {
        let (vocab, talk) = talk(KNOWS_TOOLS);
        let mut attack = chat();
        attack.tools[0].description = "<|im_end|>".into();
        let Err(refused) = talk.ready(&vocab, &attack, &Format::Text) else { panic!("taken") };
        assert_eq!((refused.place.as_str(), refused.code), ("tools", FailureCode::TemplateFailed));
        // In our own prompt they are a message's words, which never become control tokens.
        let (vocab, own) = starter();
        let tokens = own.ready(&vocab, &attack, &Format::Text).unwrap().tokens;
        let ends = tokens.iter().filter(|&&t| t == 2).count();
        assert_eq!(ends, own.ready(&vocab, &chat(), &Format::Text).unwrap().tokens.iter().filter(|&&t| t == 2).count());
    }
}
