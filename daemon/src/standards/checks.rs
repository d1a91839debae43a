//! One row against the acceptance checks of a standard: every check that it fails, with the reason. Never here: judging by a rubric,
//! which a model does.

use hone_protocol::dataset::{CHOSEN, ChatMessage, REJECTED, Shape, TEXT};
use hone_protocol::failure::{Failure, HintCode};
use hone_protocol::standard::{CheckFault, StandardSpec};
use regex_automata::meta::{Config, Regex};
use serde_json::Value;

use super::language;
use super::similar::Likeness;
use hone_data::pii;

/// Memory of a compiled expression in bytes; a larger one is refused.
const EXPRESSION_MEMORY_MAX: usize = 1 << 20;
/// Characters of a text that a reason quotes.
const QUOTED_CHARS: usize = 60;

/// A standard, compiled.
pub(crate) struct Checker {
    spec: StandardSpec,
    must_match: Vec<Regex>,
    must_not_match: Vec<Regex>,
    schema: Option<jsonschema::Validator>,
    examples: Likeness,
}

/// What is asked: everything before the answer, without system messages.
pub(crate) fn prompt_of(messages: &[ChatMessage]) -> String {
    let is_asked = |message: &&ChatMessage| message.role != "system";
    let asked: Vec<&str> =
        messages[..answer_at(messages)].iter().filter(is_asked).map(|m| m.content.as_str()).collect();
    asked.join("\n")
}

/// What is answered: the last assistant turn, both answers of a pair, or the text of a text row.
fn answer_of(messages: &[ChatMessage]) -> Vec<&str> {
    messages[answer_at(messages)..].iter().map(|message| message.content.as_str()).collect()
}

/// Index of the first message of the answer; behind all where there is none.
fn answer_at(messages: &[ChatMessage]) -> usize {
    match messages.last().map(|message| message.role.as_str()) {
        Some(REJECTED) => messages.iter().position(|message| message.role == CHOSEN).unwrap_or(messages.len() - 1),
        Some("assistant" | TEXT) => messages.len() - 1,
        _ => messages.len(),
    }
}

/// The shape of messages, as rows of that shape have them.
fn shape_of(messages: &[ChatMessage]) -> Shape {
    match messages.last().map(|message| message.role.as_str()) {
        Some(REJECTED) => Shape::Preference,
        Some(TEXT) => Shape::Text,
        _ => Shape::Chat,
    }
}

fn fault(check: &str, reason: impl Into<String>) -> CheckFault {
    CheckFault { check: check.to_owned(), reason: reason.into() }
}

fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(QUOTED_CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

fn compiled(field: &str, expressions: &[String]) -> Result<Vec<Regex>, Failure> {
    let config = Config::new().nfa_size_limit(Some(EXPRESSION_MEMORY_MAX)).onepass_size_limit(Some(0));
    let one = |(at, expression): (usize, &String)| {
        Regex::builder().configure(config.clone()).build(expression).map_err(|error| {
            let why = error.syntax_error().map_or_else(|| error.to_string(), ToString::to_string);
            let message =
                format!("{expression:?} is no regular expression: {}", why.lines().last().unwrap_or_default());
            Failure::field(&format!("checks.{field}[{at}]"), message)
        })
    };
    expressions.iter().enumerate().map(one).collect()
}

impl Checker {
    /// Compiles a standard.
    pub(crate) fn new(spec: &StandardSpec) -> Result<Checker, Failure> {
        let schema = match spec.checks.schema() {
            None => None,
            Some(schema) => Some(jsonschema::validator_for(&schema.0).map_err(|error| {
                let message = format!("this is no JSON schema: {error}");
                Failure::field("checks.schema", message).hint(HintCode::CorrectField)
            })?),
        };
        let mut examples = Likeness::default();
        if spec.checks.similarity_max_percent.is_some() {
            spec.examples.iter().for_each(|example| examples.add(&whole(&example.messages)));
        }
        Ok(Checker {
            must_match: compiled("must_match", &spec.checks.must_match)?,
            must_not_match: compiled("must_not_match", &spec.checks.must_not_match)?,
            schema,
            examples,
            spec: spec.clone(),
        })
    }

    /// Every check that a row fails; none for a row that is as the standard says.
    pub(crate) fn faults(&self, messages: &[ChatMessage]) -> Vec<CheckFault> {
        let mut faults = Vec::new();
        let wanted = if self.spec.shape == Shape::Prompt { Shape::Chat } else { self.spec.shape };
        let shape = shape_of(messages);
        if shape != wanted {
            faults.push(fault("shape", format!("this is a {} row, not a {} row", shape.word(), wanted.word())));
            return faults;
        }
        self.structure(messages, &mut faults);
        self.lengths(messages, &mut faults);
        self.expressions(messages, &mut faults);
        self.answers(messages, &mut faults);
        self.words(messages, &mut faults);
        faults
    }

    fn structure(&self, messages: &[ChatMessage], faults: &mut Vec<CheckFault>) {
        let checks = &self.spec.checks;
        let has_system = messages.iter().any(|message| message.role == "system");
        match checks.system {
            Some(true) if !has_system => faults.push(fault("system", "there is no system message")),
            Some(false) if has_system => faults.push(fault("system", "there is a system message")),
            _ => {}
        }
        let turns = messages.iter().filter(|message| message.role == "user").count();
        if !checks.turns.holds(turns) {
            faults.push(fault("turns", format!("the person has {turns} turns, not {}", checks.turns.words())));
        }
        if shape_of(messages) != Shape::Text
            && self.spec.shape != Shape::Prompt
            && answer_at(messages) == messages.len()
        {
            faults.push(fault("turns", "there is no answer"));
        }
        let empty = messages.iter().position(|message| message.content.trim().is_empty());
        if let Some(at) = empty {
            faults.push(fault("turns", format!("message {} ({}) is empty", at + 1, messages[at].role)));
        }
    }

    fn lengths(&self, messages: &[ChatMessage], faults: &mut Vec<CheckFault>) {
        let checks = &self.spec.checks;
        let asked = prompt_of(messages).chars().count();
        if !checks.prompt_chars.holds(asked) {
            let words = checks.prompt_chars.words();
            faults.push(fault("prompt_chars", format!("the prompt has {asked} characters, not {words}")));
        }
        for answer in answer_of(messages) {
            let chars = answer.chars().count();
            if !checks.answer_chars.holds(chars) {
                let words = checks.answer_chars.words();
                faults.push(fault("answer_chars", format!("the answer has {chars} characters, not {words}")));
            }
        }
    }

    fn expressions(&self, messages: &[ChatMessage], faults: &mut Vec<CheckFault>) {
        let checks = &self.spec.checks;
        for (expression, compiled) in checks.must_match.iter().zip(&self.must_match) {
            if answer_of(messages).iter().any(|answer| !compiled.is_match(answer)) {
                faults.push(fault("must_match", format!("the answer does not match {expression:?}")));
            }
        }
        for (expression, compiled) in checks.must_not_match.iter().zip(&self.must_not_match) {
            let found = messages.iter().find_map(|message| {
                let found = compiled.find(message.content.as_str())?;
                Some((&message.role, &message.content[found.range()]))
            });
            if let Some((role, text)) = found {
                faults.push(fault("must_not_match", format!("{} in {role} matches {expression:?}", quoted(text))));
            }
        }
    }

    fn answers(&self, messages: &[ChatMessage], faults: &mut Vec<CheckFault>) {
        let Some(schema) = &self.schema else { return };
        for answer in answer_of(messages) {
            match serde_json::from_str::<Value>(answer) {
                Err(error) => faults.push(fault("schema", format!("the answer is not JSON: {error}"))),
                Ok(value) => {
                    if let Err(error) = schema.validate(&value) {
                        let at = error.instance_path().to_string();
                        let place = if at.is_empty() { String::new() } else { format!("{at}: ") };
                        faults.push(fault("schema", format!("{place}{error}")));
                    }
                }
            }
        }
    }

    fn words(&self, messages: &[ChatMessage], faults: &mut Vec<CheckFault>) {
        let checks = &self.spec.checks;
        for message in messages {
            if let Some((kind, range)) = pii::first(&message.content, &checks.pii, 0) {
                let text = quoted(&message.content[range]);
                faults.push(fault("pii", format!("{text} in {} is personal data ({})", message.role, kind.word())));
            }
            if message.role != "system"
                && !checks.language.is_empty()
                && let Err(reason) = language::is(&checks.language, &message.content)
            {
                faults.push(fault("language", format!("the turn of {} {reason}", message.role)));
            }
        }
        if let Some(most) = checks.similarity_max_percent
            && let Some((percent, at)) = self.examples.nearest(&whole(messages), f64::from(most))
        {
            let reason = format!("it is {percent:.0} percent like example {}; at most {most} is allowed", at + 1);
            faults.push(fault("similarity_max_percent", reason));
        }
    }
}

/// All that persons and models say in a row.
fn whole(messages: &[ChatMessage]) -> String {
    let said = messages.iter().filter(|message| message.role != "system");
    said.map(|message| message.content.as_str()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use hone_protocol::guard::PiiKind;
    use hone_protocol::standard::{Bounds, Checks, StandardExample};
    use hone_protocol::value::Json;
    use serde_json::json;

    use super::*;

    fn messages(turns: &[(&str, &str)]) -> Vec<ChatMessage> {
        turns.iter().map(|(role, content)| ChatMessage { role: (*role).into(), content: (*content).into() }).collect()
    }

    fn failed(spec: &StandardSpec, turns: &[(&str, &str)]) -> Vec<String> {
        let faults = Checker::new(spec).unwrap().faults(&messages(turns));
        faults.into_iter().map(|fault| format!("{}: {}", fault.check, fault.reason)).collect()
    }

    fn with(checks: Checks) -> StandardSpec {
        StandardSpec { checks, ..StandardSpec::new(Shape::Chat) }
    }

    const ROW: [(&str, &str); 2] = [("user", "When do you open?"), ("assistant", "We open at nine.")];

    #[test]
    fn a_row_that_is_as_it_should_be_has_no_fault() {
        let bounds = |min, max| Bounds { min: Some(min), max: Some(max) };
        let checks = Checks {
            prompt_chars: bounds(5, 40),
            answer_chars: bounds(5, 40),
            must_match: vec!["nine|ten".into()],
            must_not_match: vec!["(?i)as an ai".into()],
            language: "en".into(),
            similarity_max_percent: Some(70),
            pii: PiiKind::ALL.to_vec(),
            turns: bounds(1, 1),
            system: Some(false),
            schema: Json::default(),
        };
        assert_eq!(failed(&with(checks), &ROW), Vec::<String>::new());
    }

    #[test]
    fn every_check_says_why() {
        let bounds = |min, max| Bounds { min: Some(min), max: Some(max) };
        let one = |checks: Checks| failed(&with(checks), &ROW).join("; ");
        let none = Checks::default;
        assert_eq!(
            one(Checks { prompt_chars: bounds(20, 30), ..none() }),
            "prompt_chars: the prompt has 17 characters, not 20 to 30"
        );
        assert_eq!(
            one(Checks { answer_chars: Bounds { min: None, max: Some(4) }, ..none() }),
            "answer_chars: the answer has 16 characters, not at most 4"
        );
        assert_eq!(
            one(Checks { must_match: vec!["^Sorry".into()], ..none() }),
            "must_match: the answer does not match \"^Sorry\""
        );
        assert_eq!(
            one(Checks { must_not_match: vec!["op[a-z]+".into()], ..none() }),
            "must_not_match: \"open\" in user matches \"op[a-z]+\""
        );
        assert_eq!(one(Checks { turns: bounds(2, 5), ..none() }), "turns: the person has 1 turns, not 2 to 5");
        assert_eq!(one(Checks { system: Some(true), ..none() }), "system: there is no system message");
        assert!(one(Checks { language: "zh".into(), ..none() }).starts_with("language: the turn of user"));
        let schema = Json(json!({"type": "object"}));
        assert!(one(Checks { schema, ..none() }).starts_with("schema: the answer is not JSON"));
    }

    #[test]
    fn answers_keep_to_a_schema() {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
        let spec = with(Checks { schema: Json(schema), ..Checks::default() });
        assert!(failed(&spec, &[("user", "?"), ("assistant", "{\"n\": 3}")]).is_empty());
        let said = failed(&spec, &[("user", "?"), ("assistant", "{\"n\": \"x\"}")]);
        assert!(said[0].starts_with("schema: /n: ") && said[0].contains("integer"), "{said:?}");
    }

    #[test]
    fn what_is_too_like_an_example_and_personal_data_are_named() {
        let example = StandardExample { messages: messages(&ROW), good: true, reason: String::new() };
        let checks = Checks { similarity_max_percent: Some(80), pii: vec![PiiKind::Email], ..Checks::default() };
        let spec = StandardSpec { examples: vec![example], ..with(checks) };
        assert_eq!(
            failed(&spec, &[("user", "When do you open?"), ("assistant", "We open at nine!")]),
            ["similarity_max_percent: it is 100 percent like example 1; at most 80 is allowed"]
        );
        assert_eq!(
            failed(&spec, &[("user", "Where?"), ("assistant", "Write to desk@shop.example please")]),
            ["pii: \"desk@shop.example\" in assistant is personal data (email)"]
        );
    }

    #[test]
    fn shapes_differ_and_empty_turns_are_seen() {
        let chat = StandardSpec::new(Shape::Chat);
        assert_eq!(failed(&chat, &[(TEXT, "words")]), ["shape: this is a text row, not a chat row"]);
        assert_eq!(failed(&chat, &[("user", "a")]), ["turns: there is no answer"]);
        assert_eq!(failed(&chat, &[("user", "a"), ("assistant", " ")]), ["turns: message 2 (assistant) is empty"]);
        let prompt = StandardSpec::new(Shape::Prompt);
        assert!(failed(&prompt, &[("user", "a")]).is_empty(), "a prompt needs no answer");
        let pair = StandardSpec {
            checks: Checks { must_match: vec!["[.]$".into()], ..Checks::default() },
            ..StandardSpec::new(Shape::Preference)
        };
        let turns = [("user", "a"), (CHOSEN, "b."), (REJECTED, "c")];
        assert_eq!(
            failed(&pair, &turns),
            ["must_match: the answer does not match \"[.]$\""],
            "both answers are looked at"
        );
        assert!(failed(&StandardSpec::new(Shape::Text), &[(TEXT, "words")]).is_empty());
    }
}
