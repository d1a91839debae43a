//! The grammars of answers (any object, a schema, calls of tools), and the check of what came out against the schema
//! as it was given: the grammar is ours and may be wrong or narrower, so an answer is only good when an independent
//! reader of JSON Schema says so.
//!
//! What never lives here: how a schema becomes rules (see `schema`), tokens (see `constraint`).

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;

use super::constraint::Limit;
use super::pattern::quoted;
use super::schema::{self, BASE_RULES, BadSchema};

/// Most bytes that one regular expression of a schema may take as an automaton.
const AUTOMATON_BYTES_MAX: usize = 1 << 20;

/// Any JSON object.
pub fn of_object() -> Limit {
    Limit { grammar: format!("root ::= object\n{BASE_RULES}"), after: None }
}

/// A document of a schema.
pub fn of_schema(schema: &Value) -> Result<Limit, BadSchema> {
    let (rules, name) = schema::rules(schema, "s")?;
    Ok(Limit { grammar: format!("root ::= {name}\n{rules}{BASE_RULES}"), after: None })
}

/// How calls are written between two tags, as the templates of Qwen and Hermes do:
/// `<tool_call>\n{"name": NAME, "arguments": OBJECT}\n</tool_call>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallTags {
    /// Begins a call.
    pub open: &'static str,
    /// Ends it.
    pub close: &'static str,
}

/// The tags that we know, which are also those of our own tool prompt.
pub const CALL_TAGS: CallTags = CallTags { open: "<tool_call>", close: "</tool_call>" };
/// What stands before the name of a called tool.
pub const CALL_NAME: &str = "{\"name\": \"";
/// What stands between the name and the arguments.
pub const CALL_ARGUMENTS: &str = "\", \"arguments\": ";

/// A tool that may be called.
#[derive(Clone, Debug)]
pub struct Callable<'a> {
    /// Its name.
    pub name: &'a str,
    /// Schema of its arguments; null for none.
    pub parameters: &'a Value,
    /// Whether a schema that cannot be kept to is refused, not loosened to any object.
    pub strict: bool,
}

/// Calls of these tools: `at_once`; or instead of a `document`; or else after the first opening tag, and text before.
pub fn of_calls(
    tools: &[Callable<'_>],
    at_once: bool,
    document: Option<Limit>,
    calls_max: u32,
) -> Result<Limit, BadSchema> {
    let mut rules = String::new();
    let mut names = Vec::new();
    for (index, tool) in tools.iter().enumerate() {
        let arguments = arguments(tool, index, &mut rules)?;
        let begin = quoted(&format!("{CALL_NAME}{}{CALL_ARGUMENTS}", tool.name));
        rules.push_str(&format!("call-{index} ::= {begin} {arguments} \"}}\"\n"));
        names.push(format!("call-{index}"));
    }
    let open = quoted(CALL_TAGS.open);
    let close = quoted(CALL_TAGS.close);
    let later = !at_once && document.is_none();
    let begin = if later { "" } else { open.as_str() };
    let more = calls_max.saturating_sub(1);
    let calls = format!("{begin} inside (\"\\n\"? {open} inside){{0,{more}}}");
    let inside = format!("inside ::= \"\\n\"? ({}) \"\\n\"? {close}\n", names.join(" | "));
    let grammar = match document {
        None => format!("root ::= {calls}\n{inside}{rules}{BASE_RULES}"),
        Some(document) => {
            let document = document.grammar.replacen("root ::=", "document ::=", 1);
            format!("root ::= calls | document\ncalls ::= {calls}\n{inside}{rules}{document}")
        }
    };
    Ok(Limit { grammar, after: later.then(|| CALL_TAGS.open.to_owned()) })
}

/// The rule of a tool's arguments.
fn arguments(tool: &Callable<'_>, index: usize, rules: &mut String) -> Result<String, BadSchema> {
    if tool.parameters.is_null() {
        return Ok("\"{\" ws \"}\"".to_owned());
    }
    match schema::rules(tool.parameters, &format!("t{index}-")) {
        Ok((more, name)) => {
            rules.push_str(&more);
            Ok(name)
        }
        Err(error) if tool.strict => Err(BadSchema { place: format!("tool {} {}", tool.name, error.place), ..error }),
        Err(_) => Ok("object".to_owned()),
    }
}

/// Says of a whole answer whether it is what was asked for.
#[derive(Debug)]
pub struct Check {
    /// `None`: any object.
    validator: Option<Validator>,
}

impl Check {
    /// For any object.
    pub fn object() -> Self {
        Self { validator: None }
    }

    /// For a schema of draft 2020-12. Refers to nothing outside itself; regular expressions take linear time.
    pub fn schema(schema: &Value) -> Result<Self, BadSchema> {
        let patterns = PatternOptions::regex().size_limit(AUTOMATON_BYTES_MAX).dfa_size_limit(AUTOMATON_BYTES_MAX);
        let options = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .with_pattern_options(patterns)
            .should_validate_formats(true);
        match options.build(schema) {
            Ok(validator) => Ok(Self { validator: Some(validator) }),
            Err(error) => Err(BadSchema {
                place: format!("#{}", error.instance_path()),
                why: error.to_string().chars().take(300).collect(),
            }),
        }
    }

    /// What is wrong with an answer; `Ok` when nothing is.
    pub fn look(&self, answer: &str) -> Result<(), String> {
        let value: Value = serde_json::from_str(answer).map_err(|error| format!("it is not JSON: {error}"))?;
        match &self.validator {
            None if value.is_object() => Ok(()),
            None => Err("it is not an object".into()),
            Some(validator) => validator.validate(&value).map_err(|error| {
                let words: String = error.to_string().chars().take(300).collect();
                format!("at {:?}: {words}", error.instance_path().to_string())
            }),
        }
    }
}
