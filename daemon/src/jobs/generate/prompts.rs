//! What is said to a service that writes rows, what its answers must look like, and how they become messages. Pure. Never here:
//! asking, checking rows against a standard.

use hone_protocol::dataset::{ChatMessage, Shape, TEXT};
use hone_protocol::generate::Format;
use hone_protocol::generation::{GenerateMethod, GenerateSpec};
use hone_protocol::standard::{Bounds, CheckFault, StandardSpec};
use hone_protocol::value::Json;
use serde_json::{Map, Value, json};

/// Longest text that a grammar counts; a longer one is only asked for in words.
const COUNTED_CHARS: u32 = 240;

/// What is asked of a service.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Question {
    /// What is sent.
    pub(super) messages: Vec<ChatMessage>,
    /// What the answer must look like.
    pub(super) format: Format,
}

pub(super) fn message(role: &str, content: impl Into<String>) -> ChatMessage {
    ChatMessage { role: role.to_owned(), content: content.into() }
}

fn fault(check: &str, reason: impl Into<String>) -> CheckFault {
    CheckFault { check: check.to_owned(), reason: reason.into() }
}

/// A text whose length a grammar keeps to.
fn text(bounds: &Bounds) -> Value {
    let mut schema = json!({"type": "string", "minLength": bounds.min.unwrap_or(1).clamp(1, COUNTED_CHARS)});
    let most = bounds.max.unwrap_or(COUNTED_CHARS);
    if most <= COUNTED_CHARS {
        schema["maxLength"] = json!(most.max(1));
    }
    schema
}

/// An object of exactly these fields.
fn object(fields: Vec<(String, Value)>) -> Format {
    let required: Vec<&String> = fields.iter().map(|(name, _)| name).collect();
    let required = json!(required);
    let properties: Map<String, Value> = fields.into_iter().collect();
    Format::Schema(Json(json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })))
}

fn language(standard: &StandardSpec) -> String {
    let name = match standard.checks.language.as_str() {
        "" => return String::new(),
        "en" => "English",
        "zh" => "Chinese",
        "ja" => "Japanese",
        "ko" => "Korean",
        "ru" => "Russian",
        "ar" => "Arabic",
        "th" => "Thai",
        "hi" => "Hindi",
        "de" => "German",
        "fr" => "French",
        "es" => "Spanish",
        other => other,
    };
    format!(" Write in {name}.")
}

/// The rubric in sentences.
fn rubric(standard: &StandardSpec) -> String {
    let line = |criterion: &hone_protocol::standard::Criterion| format!("\n- {}: {}", criterion.name, criterion.about);
    match standard.criteria.is_empty() {
        true => String::new(),
        false => format!("\nWhat good rows are:{}", standard.criteria.iter().map(line).collect::<String>()),
    }
}

fn system(standard: &StandardSpec) -> Option<ChatMessage> {
    let about = standard.about.trim();
    (!about.is_empty()).then(|| message("system", about))
}

fn is_text(standard: &StandardSpec) -> bool {
    standard.shape == Shape::Text
}

/// A new prompt, or a new text, in the manner of some others.
pub(super) fn invent(standard: &StandardSpec, examples: &[String]) -> Question {
    let (what, field) = if is_text(standard) { ("text", "text") } else { ("message that a person sends", "prompt") };
    let mut said = format!("Here are examples of a {what}:\n");
    for (at, example) in examples.iter().enumerate() {
        said.push_str(&format!("{}. {}\n", at + 1, example.trim()));
    }
    said.push_str(&format!(
        "\nWrite one new {what} that is about something else than all of these.{}",
        language(standard)
    ));
    let bounds = if is_text(standard) { standard.checks.answer_chars } else { standard.checks.prompt_chars };
    said.push_str(&rubric(standard));
    let messages = system(standard).into_iter().chain([message("user", said)]).collect();
    Question { messages, format: object(vec![(field.to_owned(), text(&bounds))]) }
}

/// The same in other words.
pub(super) fn paraphrase(standard: &StandardSpec, original: &str) -> Question {
    let field = if is_text(standard) { "text" } else { "prompt" };
    let said = format!("Say the following in other words and keep what it means.{}\n\n{original}", language(standard));
    let bounds = if is_text(standard) { standard.checks.answer_chars } else { standard.checks.prompt_chars };
    Question { messages: vec![message("user", said)], format: object(vec![(field.to_owned(), text(&bounds))]) }
}

/// The answer to a prompt: a conversation as the row will have it.
pub(super) fn answer(standard: &StandardSpec, asked: &[ChatMessage]) -> Question {
    let has_system = asked.iter().any(|message| message.role == "system");
    let own = system(standard).filter(|_| !has_system);
    let messages = own.into_iter().chain(asked.iter().cloned()).collect();
    let format = standard.checks.schema().cloned().map_or(Format::Text, Format::Schema);
    Question { messages, format }
}

/// A question and its answer out of a piece of text.
pub(super) fn out_of(standard: &StandardSpec, piece: &str) -> Question {
    let said = format!(
        "{piece}\n\nWrite one question that the text above answers, and the answer, using only what the text says.{}{}",
        language(standard),
        rubric(standard)
    );
    let fields = vec![
        ("question".to_owned(), text(&standard.checks.prompt_chars)),
        ("answer".to_owned(), text(&standard.checks.answer_chars)),
    ];
    Question { messages: system(standard).into_iter().chain([message("user", said)]).collect(), format: object(fields) }
}

/// A row in another language, message by message.
pub(super) fn translate(row: &[ChatMessage], into: &str) -> Question {
    let mut said = format!("Translate each of these texts into {into}:\n");
    let mut fields = Vec::new();
    for (at, one) in row.iter().enumerate() {
        said.push_str(&format!("\nm{}: {}\n", at + 1, one.content));
        fields.push((format!("m{}", at + 1), json!({"type": "string", "minLength": 1})));
    }
    Question { messages: vec![message("user", said)], format: object(fields) }
}

/// The points of a rubric for a row.
pub(super) fn judge(standard: &StandardSpec, row: &[ChatMessage]) -> Question {
    let mut said = format!("Judge this row of data.\n{}\n", standard.about.trim());
    for one in row {
        said.push_str(&format!("\n[{}]\n{}\n", one.role, one.content));
    }
    said.push_str("\nGive points for each:\n");
    let mut fields = Vec::new();
    for criterion in &standard.criteria {
        said.push_str(&format!("- {}: {} (1 worst, {} best)\n", criterion.name, criterion.about, criterion.scale));
        let points: Vec<u32> = (1..=criterion.scale).collect();
        fields.push((criterion.name.clone(), json!({"enum": points})));
    }
    Question { messages: vec![message("user", said)], format: object(fields) }
}

/// The row that a written answer makes of a source row: complete, or but for its answer.
pub(super) fn written(
    spec: &GenerateSpec,
    standard: &StandardSpec,
    source: &[ChatMessage],
    answer: &str,
) -> Result<Vec<ChatMessage>, CheckFault> {
    let value: Value =
        serde_json::from_str(answer).map_err(|error| fault("format", format!("the answer is no JSON: {error}")))?;
    let field = |name: &str| match value.get(name).and_then(Value::as_str).map(str::trim) {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err(fault("format", format!("{name} is missing or empty"))),
    };
    let opening = || match standard.checks.system {
        Some(true) => system(standard),
        _ => None,
    };
    match &spec.method {
        _ if is_text(standard) && !matches!(spec.method, GenerateMethod::Translate { .. }) => {
            Ok(vec![message(TEXT, field("text")?)])
        }
        GenerateMethod::Documents { .. } => {
            let turns = [message("user", field("question")?), message("assistant", field("answer")?)];
            Ok(opening().into_iter().chain(turns).collect())
        }
        GenerateMethod::Paraphrase => {
            let mut row = source.to_vec();
            let last = row.iter().rposition(|message| message.role == "user");
            let last = last.ok_or_else(|| fault("format", "the row has no turn of a person"))?;
            row[last].content = field("prompt")?;
            Ok(row)
        }
        GenerateMethod::Translate { .. } => {
            let one = |(at, before): (usize, &ChatMessage)| Ok(message(&before.role, field(&format!("m{}", at + 1))?));
            source.iter().enumerate().map(one).collect()
        }
        GenerateMethod::SelfInstruct | GenerateMethod::Answers => {
            Ok(opening().into_iter().chain([message("user", field("prompt")?)]).collect())
        }
    }
}

/// The percent of the rubric's points that a judgement gives.
pub(super) fn points(standard: &StandardSpec, judgement: &str) -> Result<f64, CheckFault> {
    let value: Value = serde_json::from_str(judgement).unwrap_or_default();
    let given = |name: &str| value.get(name).and_then(Value::as_u64).and_then(|points| u32::try_from(points).ok());
    standard.percent(given).ok_or_else(|| fault("judge", "the judge gave no points for each criterion"))
}

/// Pieces of a text of at most `size` characters that share `overlap`, cut behind a line, a sentence or a word where there is one in
/// the last half of a piece.
pub(super) fn pieces(text: &str, size: usize, overlap: usize) -> Vec<String> {
    let chars: Vec<char> = text.trim().chars().collect();
    let overlap = overlap.min(size / 2);
    let mut found = Vec::new();
    let mut from = 0;
    while from < chars.len() {
        let most = (from + size).min(chars.len());
        let cut = if most == chars.len() { most } else { cut_before(&chars[from..most]).map_or(most, |at| from + at) };
        let piece: String = chars[from..cut].iter().collect();
        if !piece.trim().is_empty() {
            found.push(piece.trim().to_owned());
        }
        if cut == chars.len() {
            break;
        }
        from = (cut - overlap.min(cut - from - 1)).max(from + 1);
    }
    found
}

/// Where a piece is best cut: behind the last of these in its last half.
fn cut_before(piece: &[char]) -> Option<usize> {
    let half = piece.len() / 2;
    let behind = |signs: &[char]| piece[half..].iter().rposition(|c| signs.contains(c)).map(|at| half + at + 1);
    behind(&['\n'])
        .or_else(|| behind(&['.', '!', '?', '。', '！', '？', ';', '；']))
        .or_else(|| behind(&[' ', '，', '、']))
}

#[cfg(test)]
mod tests {
    use hone_protocol::standard::Criterion;

    use super::*;

    fn spec(method: GenerateMethod) -> GenerateSpec {
        GenerateSpec {
            standard: "tone@1".into(),
            service: "desk".into(),
            name: "made".into(),
            method,
            source: String::new(),
            count: 3,
            seed: 1,
            temperature: 0.7,
            top_p: 1.0,
            tokens_max: 128,
            similarity_max_percent: 70,
            judge: String::new(),
            judge_least_percent: 0,
            requests_max: 0,
            total_tokens_max: 0,
            payer: "owner".into(),
            at_once: 0,
        }
    }

    fn row() -> Vec<ChatMessage> {
        vec![message("system", "s"), message("user", "When do you open?"), message("assistant", "At nine.")]
    }

    #[test]
    fn pieces_overlap_and_lose_nothing() {
        let text = "One sentence here. Another one follows it.\nA new line of words. And the end";
        let found = pieces(text, 30, 8);
        assert!(found.iter().all(|piece| piece.chars().count() <= 30), "{found:?}");
        assert_eq!(found[0], "One sentence here.");
        for word in text.split_whitespace() {
            assert!(found.iter().any(|piece| piece.contains(word)), "{word} is lost: {found:?}");
        }
        assert_eq!(pieces("短文。第二句。第三句。", 4, 0), ["短文。", "第二句。", "第三句。"]);
        assert_eq!(pieces("x", 10, 5), ["x"]);
        assert!(pieces("  ", 10, 5).is_empty());
        assert_eq!(pieces(&"a".repeat(100), 10, 9).concat().len() % 10, 0, "no cut is found, and it ends");
    }

    #[test]
    fn answers_become_rows_and_what_is_missing_is_named() {
        let chat = StandardSpec::new(Shape::Chat);
        let made = written(&spec(GenerateMethod::SelfInstruct), &chat, &[], "{\"prompt\": \" Hi \"}").unwrap();
        assert_eq!(made, [message("user", "Hi")]);
        let documents = spec(GenerateMethod::Documents { chunk_chars: 100, overlap_chars: 10 });
        let made = written(&documents, &chat, &[], "{\"question\": \"q\", \"answer\": \"a\"}").unwrap();
        assert_eq!(made, [message("user", "q"), message("assistant", "a")]);
        let made =
            written(&spec(GenerateMethod::Paraphrase), &chat, &row(), "{\"prompt\": \"Opening hours?\"}").unwrap();
        assert_eq!(made[1].content, "Opening hours?");
        assert_eq!(made[2], row()[2], "the answer stays");
        let translate = spec(GenerateMethod::Translate { language: "German".into() });
        let made = written(&translate, &chat, &row()[1..], "{\"m1\": \"Wann?\", \"m2\": \"Um neun.\"}").unwrap();
        assert_eq!(made, [message("user", "Wann?"), message("assistant", "Um neun.")]);
        let text = StandardSpec::new(Shape::Text);
        let made = written(&spec(GenerateMethod::SelfInstruct), &text, &[], "{\"text\": \"words\"}").unwrap();
        assert_eq!(made, [message(TEXT, "words")]);
        let cut = written(&spec(GenerateMethod::SelfInstruct), &chat, &[], "{\"prompt\": \"Hi").unwrap_err();
        assert!(cut.reason.contains("no JSON"), "{}", cut.reason);
        let missing = written(&documents, &chat, &[], "{\"question\": \"q\"}").unwrap_err();
        assert_eq!(missing.reason, "answer is missing or empty");
    }

    #[test]
    fn questions_hold_what_the_standard_says_and_grammars_keep_lengths() {
        let mut standard = StandardSpec::new(Shape::Chat);
        standard.about = "You are a polite shop.".into();
        standard.checks.language = "de".into();
        standard.checks.prompt_chars = Bounds { min: Some(10), max: Some(80) };
        standard.criteria = vec![Criterion { name: "kind".into(), about: "It is kind.".into(), weight: 1, scale: 3 }];
        let asked = invent(&standard, &["When do you open?".into()]);
        assert_eq!(asked.messages[0], message("system", "You are a polite shop."));
        let said = &asked.messages[1].content;
        assert!(
            said.contains("1. When do you open?") && said.contains("in German") && said.contains("kind: It is kind."),
            "{said}"
        );
        let Format::Schema(Json(schema)) = asked.format else { panic!("a schema") };
        assert_eq!(schema["properties"]["prompt"], json!({"type": "string", "minLength": 10, "maxLength": 80}));
        let Format::Schema(Json(schema)) = judge(&standard, &row()).format else { panic!("a schema") };
        assert_eq!(schema["properties"]["kind"], json!({"enum": [1, 2, 3]}));
        assert_eq!(points(&standard, "{\"kind\": 2}").unwrap(), 50.0);
        assert!(points(&standard, "{\"kind\": 9}").is_err() && points(&standard, "x").is_err());
        standard.checks.prompt_chars.max = Some(5000);
        let Format::Schema(Json(schema)) = invent(&standard, &[]).format else { panic!("a schema") };
        assert!(schema["properties"]["prompt"].get("maxLength").is_none(), "too long for a grammar to count");
        assert_eq!(answer(&standard, &row()[..2]).messages.len(), 2, "a row's own system message stays alone");
    }
}
