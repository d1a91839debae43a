//! What a service is asked about a row of a project, what its answer must look like, what it means, and how sure it is. Pure. Never here:
//! asking, storing.

use hone_protocol::dataset::{CHOSEN, ChatMessage, REJECTED, Row, TEXT};
use hone_protocol::generate::{Format, TokenChance};
use hone_protocol::labelling::{LabelName, LabelValue, PairAnswer, ProjectSpec, SPANS_MAX, Span, Task};
use hone_protocol::standard::StandardSpec;
use hone_protocol::value::Json;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Letters that stand for choices: what a service says is one token then, and its probability can be read.
const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// Likeliest tokens that are looked at in the place of a letter.
const LOOKED_AT: u32 = 20;
/// Characters of a message that are shown to a service.
const SHOWN_CHARS: usize = 8_000;

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Question {
    pub(super) messages: Vec<ChatMessage>,
    pub(super) format: Format,
    pub(super) tokens_max: u32,
    /// How many of the likeliest tokens are wanted beside each; none where the answer is no choice.
    pub(super) chances: Option<u32>,
}

/// What a service thinks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Thought {
    pub(super) value: LabelValue,
    pub(super) probability: Option<f32>,
}

/// Asks about the rows of a project.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    pub(super) task: Task,
    system: String,
}

impl Asker {
    pub(super) fn new(spec: &ProjectSpec, standard: Option<&StandardSpec>) -> Asker {
        let mut system = String::from("You label data. Judge what is shown, do not answer it.");
        for text in [standard.map_or("", |standard| standard.about.as_str()), spec.guide.as_str()] {
            if !text.trim().is_empty() {
                system.push_str(&format!("\n\n{}", text.trim()));
            }
        }
        for criterion in standard.iter().flat_map(|standard| &standard.criteria) {
            system.push_str(&format!("\n- {}: {}", criterion.name, criterion.about));
        }
        let question = match (&spec.task, spec.question.as_str()) {
            (_, question) if !question.is_empty() => question.to_owned(),
            (Task::Choice { .. }, _) => "Which label fits best?".to_owned(),
            (Task::Several { .. }, _) => "Which labels fit?".to_owned(),
            (Task::Span { .. }, _) => "Which parts of the text have a label?".to_owned(),
            (Task::Pair { .. }, _) => "Which answer is better?".to_owned(),
            (Task::Rating { scale }, _) => format!("How good is it, from 1 (worst) to {scale} (best)?"),
            (Task::Edit | Task::Rank, _) => "Write a better answer.".to_owned(),
        };
        system.push_str(&format!("\n\n{question}"));
        match &spec.task {
            Task::Choice { labels } if labels.len() <= LETTERS.len() => {
                for (letter, label) in LETTERS.chars().zip(labels) {
                    system.push_str(&format!("\n{letter}: {}", described(label)));
                }
                system.push_str("\nAnswer with one letter.");
            }
            Task::Choice { labels } | Task::Several { labels } | Task::Span { labels } => {
                for label in labels {
                    system.push_str(&format!("\n- {}", described(label)));
                }
            }
            Task::Pair { .. } => system.push_str("\nAnswer with A or B."),
            Task::Rating { scale } if *scale > 9 => {
                // Ten has two digits, and the probability of one token is wanted.
                for (letter, points) in LETTERS.chars().zip(1..=*scale) {
                    system.push_str(&format!("\n{letter}: {points} points"));
                }
                system.push_str("\nAnswer with one letter.");
            }
            Task::Rating { .. } => system.push_str("\nAnswer with one number."),
            Task::Edit | Task::Rank => system.push_str("\nAnswer with the text alone."),
        }
        Asker { task: spec.task.clone(), system }
    }

    /// What is asked about a row.
    pub(super) fn question(&self, row: &Row) -> Question {
        let message = |role: &str, content: String| ChatMessage { role: role.to_owned(), content };
        let messages = vec![message("system", self.system.clone()), message("user", shown(row))];
        let choices = |words: Vec<String>| Format::Schema(Json(json!({ "enum": words })));
        let (format, tokens_max, chances) = match &self.task {
            Task::Choice { .. } | Task::Pair { .. } | Task::Rating { .. } => {
                (choices(self.words()), 32, Some(LOOKED_AT))
            }
            Task::Several { labels } => {
                let names: Vec<&str> = labels.iter().map(|label| label.name.as_str()).collect();
                let schema = json!({
                    "type": "array", "items": {"enum": names}, "maxItems": labels.len()
                });
                (Format::Schema(Json(schema)), 16 * labels.len() as u32 + 16, None)
            }
            Task::Span { labels } => {
                let names: Vec<&str> = labels.iter().map(|label| label.name.as_str()).collect();
                let item = json!({
                    "type": "object",
                    "properties": {"text": {"type": "string"}, "label": {"enum": names}},
                    "required": ["text", "label"],
                    "additionalProperties": false,
                });
                (Format::Schema(Json(json!({"type": "array", "items": item, "maxItems": 20}))), 512, None)
            }
            Task::Edit | Task::Rank => (Format::Text, 512, None),
        };
        Question { messages, format, tokens_max, chances }
    }

    /// The words that an answer is one of, and what each means.
    fn words(&self) -> Vec<String> {
        match &self.task {
            Task::Choice { labels } if labels.len() > LETTERS.len() => labels.iter().map(|l| l.name.clone()).collect(),
            Task::Choice { labels } => LETTERS.chars().take(labels.len()).map(String::from).collect(),
            Task::Pair { .. } => vec!["A".into(), "B".into()],
            Task::Rating { scale } if *scale > 9 => LETTERS.chars().take(*scale as usize).map(String::from).collect(),
            Task::Rating { scale } => (1..=*scale).map(|points| points.to_string()).collect(),
            _ => Vec::new(),
        }
    }

    fn value_of(&self, at: usize) -> Option<LabelValue> {
        match &self.task {
            Task::Choice { labels } => Some(LabelValue::Labels(vec![labels.get(at)?.name.clone()])),
            Task::Pair { .. } => {
                let answer = if at == 0 { PairAnswer::First } else { PairAnswer::Second };
                Some(LabelValue::Pair { answer, reason: String::new(), is_swapped: false })
            }
            Task::Rating { .. } => Some(LabelValue::Points(at as u32 + 1)),
            _ => None,
        }
    }

    /// What an answer means.
    pub(super) fn thought(&self, row: &Row, text: &str, chances: &[TokenChance]) -> Result<Thought, String> {
        let unsure = |value| Thought { value, probability: None };
        match &self.task {
            Task::Choice { .. } | Task::Pair { .. } | Task::Rating { .. } => {
                let words = self.words();
                let said: Value = serde_json::from_str(text.trim()).unwrap_or_else(|_| Value::from(text.trim()));
                let said = said.as_str().map_or_else(|| said.to_string(), str::to_owned);
                let at = words.iter().position(|word| *word == said);
                let at = at.ok_or_else(|| format!("{said:?} is none of {}", words.join(", ")))?;
                let value = self.value_of(at).ok_or("the answer has no meaning")?;
                Ok(Thought { value, probability: sureness(&words, at, chances) })
            }
            Task::Several { labels } => {
                let names: Vec<String> = serde_json::from_str(text).map_err(|error| error.to_string())?;
                // As the project has them, each once.
                let names = labels.iter().map(|label| label.name.clone()).filter(|name| names.contains(name));
                Ok(unsure(LabelValue::Labels(names.collect())))
            }
            Task::Span { .. } => spans(row, text).map(|spans| unsure(LabelValue::Spans(spans))),
            Task::Edit | Task::Rank => match text.trim() {
                "" => Err("the answer is empty".to_owned()),
                text => Ok(unsure(LabelValue::Text(text.to_owned()))),
            },
        }
    }
}

fn described(label: &LabelName) -> String {
    match label.title.is_empty() || label.title == label.name {
        true => label.name.clone(),
        false => format!("{} ({})", label.name, label.title),
    }
}

/// A row as a service reads it.
fn shown(row: &Row) -> String {
    let name = |role: &str| match role {
        TEXT => "Text".to_owned(),
        CHOSEN => "Answer A".to_owned(),
        REJECTED => "Answer B".to_owned(),
        other => other.to_owned(),
    };
    let part = |message: &ChatMessage| {
        let text: String = message.content.chars().take(SHOWN_CHARS).collect();
        format!("{}:\n{text}", name(&message.role))
    };
    row.messages.iter().map(part).collect::<Vec<_>>().join("\n\n")
}

/// How sure the service was of a word: its share of the probability of all words in the place where they differ. None where the tokens do
/// not say it.
fn sureness(words: &[String], at: usize, chances: &[TokenChance]) -> Option<f32> {
    if words.iter().any(|word| word.chars().count() > 1) {
        return None;
    }
    let word = words.get(at)?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let chance =
        chances.iter().find(|chance| text(&chance.bytes.0).is_some_and(|token| token.contains(word.as_str())))?;
    let token = text(&chance.bytes.0)?;
    let before = token.split(word.as_str()).next()?.to_owned();
    let share = |other: &String| -> f64 {
        let begins = format!("{before}{other}");
        let own = (other == word).then_some(chance.ln_p).flatten().map(|ln_p| f64::from(ln_p).exp());
        let top = chance.top.iter().filter(|(id, bytes, _)| {
            *id != chance.token && text(&bytes.0).is_some_and(|token| token.trim_end_matches('"') == begins)
        });
        own.unwrap_or(0.0) + top.map(|(_, _, ln_p)| f64::from(*ln_p).exp()).sum::<f64>()
    };
    let all: f64 = words.iter().map(share).sum();
    (all > 0.0).then(|| (share(word) / all).clamp(0.0, 1.0) as f32)
}

/// Where the texts that a service named stand in the row. A text that is not there is left out; one that stands there several times is
/// marked where it was not yet.
fn spans(row: &Row, text: &str) -> Result<Vec<Span>, String> {
    #[derive(Deserialize)]
    struct Named {
        text: String,
        label: String,
    }
    let named: Vec<Named> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut spans: Vec<Span> = Vec::new();
    for one in named.into_iter().filter(|one| !one.text.is_empty()).take(SPANS_MAX) {
        let found = row.messages.iter().enumerate().find_map(|(message, content)| {
            content.content.match_indices(&one.text).find_map(|(at, _)| {
                let start = content.content[..at].chars().count() as u32;
                let end = start + one.text.chars().count() as u32;
                let span = Span { message: message as u32, start, end, label: one.label.clone() };
                let overlaps =
                    |other: &Span| other.message == span.message && other.start < span.end && span.start < other.end;
                (!spans.iter().any(overlaps)).then_some(span)
            })
        });
        spans.extend(found);
    }
    Ok(spans)
}

#[cfg(test)]
mod tests {
    use hone_protocol::value::{Bytes, Hash, JsonText};

    use super::*;

    fn labels(names: &[&str]) -> Vec<LabelName> {
        names.iter().map(|name| LabelName { name: (*name).into(), title: String::new(), keep: true }).collect()
    }

    fn asker(task: Task) -> Asker {
        let spec = ProjectSpec { guide: "Polite answers are good.".into(), ..crate::labelling::sample_spec(task) };
        Asker::new(&spec, None)
    }

    fn row(turns: &[(&str, &str)]) -> Row {
        let message = |(role, content): &(&str, &str)| ChatMessage { role: (*role).into(), content: (*content).into() };
        let messages = turns.iter().map(message).collect();
        Row { row_id: 1, messages, content_sha256: Hash([0; 32]), original: JsonText::new("{}") }
    }

    fn chance(bytes: &str, p: f32, top: &[(&str, f32)]) -> TokenChance {
        let top =
            top.iter().enumerate().map(|(id, (bytes, p))| (id as i32 + 10, Bytes(bytes.as_bytes().to_vec()), p.ln()));
        TokenChance { token: 9, bytes: Bytes(bytes.as_bytes().to_vec()), ln_p: Some(p.ln()), top: top.collect() }
    }

    #[test]
    fn a_choice_is_a_letter_and_its_probability_is_its_share_of_the_letters() {
        let asker = asker(Task::Choice { labels: labels(&["good", "bad"]) });
        let row = row(&[("user", "Hi"), ("assistant", "Hello")]);
        let question = asker.question(&row);
        assert!(
            question.messages[0]
                .content
                .contains("Polite answers are good.\n\nWhich label fits best?\nA: good\nB: bad")
        );
        assert_eq!(question.messages[1].content, "user:\nHi\n\nassistant:\nHello");
        let chances = [chance("\"", 0.9, &[]), chance("B", 0.3, &[("A", 0.1), ("x", 0.5), ("B\"", 0.1)])];
        let thought = asker.thought(&row, "\"B\"", &chances).unwrap();
        assert_eq!(thought.value, LabelValue::Labels(vec!["bad".into()]));
        assert!((thought.probability.unwrap() - 0.8).abs() < 1e-6);
        let joined = [chance("\"A", 0.6, &[("\"B", 0.2)])];
        assert!((asker.thought(&row, "\"A\"", &joined).unwrap().probability.unwrap() - 0.75).abs() < 1e-6);
        assert!(asker.thought(&row, "\"C\"", &[]).is_err());
        assert_eq!(asker.thought(&row, "\"A\"", &[]).unwrap().probability, None);
    }

    #[test]
    fn points_pairs_and_sets_are_read() {
        let rating = asker(Task::Rating { scale: 5 });
        let text = row(&[("text", "words")]);
        let chances = [chance("4", 0.5, &[("5", 0.5)])];
        let thought = rating.thought(&text, "\"4\"", &chances).unwrap();
        assert_eq!((thought.value, thought.probability), (LabelValue::Points(4), Some(0.5)));
        let ten = asker(Task::Rating { scale: 10 });
        let thought = ten.thought(&text, "\"J\"", &[chance("J", 0.5, &[("A", 0.5)])]).unwrap();
        assert_eq!((thought.value, thought.probability), (LabelValue::Points(10), Some(0.5)));
        let pair = asker(Task::Pair { reasons: Vec::new() });
        let thought = pair.thought(&text, "\"B\"", &[]).unwrap();
        assert!(matches!(thought.value, LabelValue::Pair { answer: PairAnswer::Second, .. }));
        let several = asker(Task::Several { labels: labels(&["x", "y"]) });
        let thought = several.thought(&text, r#"["y","y"]"#, &[]).unwrap();
        assert_eq!(thought.value, LabelValue::Labels(vec!["y".into()]));
    }

    #[test]
    fn named_texts_become_places_in_the_row() {
        let asker = asker(Task::Span { labels: labels(&["name"]) });
        let row = row(&[("user", "你好，我叫王小明"), ("assistant", "王小明您好，王小明")]);
        let said =
            r#"[{"text":"王小明","label":"name"},{"text":"王小明","label":"name"},{"text":"nobody","label":"name"}]"#;
        let LabelValue::Spans(spans) = asker.thought(&row, said, &[]).unwrap().value else { panic!("spans") };
        let at: Vec<(u32, u32, u32)> = spans.iter().map(|span| (span.message, span.start, span.end)).collect();
        assert_eq!(at, [(0, 5, 8), (1, 0, 3)]);
    }
}
