//! A standard as a file, TOML or JSON: what a person writes, what `show` prints, what a declared file has. What is not known is refused
//! by name. Never here: asking the daemon.

use hone_protocol::dataset::{ChatMessage, Shape};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::guard::PiiKind;
use hone_protocol::standard::{Bounds, Checks, Criterion, StandardExample, StandardSpec};
use hone_protocol::value::Json;
use serde::{Deserialize, Serialize};

/// Points of a criterion where nothing else is said.
const SCALE: u32 = 5;

/// The fields of a standard, in the order in which they are written.
pub(super) const FIELDS: [&str; 6] = ["title", "shape", "about", "checks", "criteria", "examples"];

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct StandardFile {
    #[serde(skip_serializing_if = "String::is_empty")]
    title: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    shape: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    about: String,
    #[serde(skip_serializing_if = "ChecksFile::is_empty")]
    checks: ChecksFile,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    criteria: Vec<CriterionFile>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    examples: Vec<ExampleFile>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CriterionFile {
    name: String,
    #[serde(default)]
    about: String,
    #[serde(default = "one")]
    weight: u32,
    #[serde(default = "five")]
    scale: u32,
}

fn one() -> u32 {
    1
}

fn five() -> u32 {
    SCALE
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExampleFile {
    good: bool,
    #[serde(default)]
    reason: String,
    messages: Vec<MessageFile>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MessageFile {
    role: String,
    content: String,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ChecksFile {
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_chars: Option<BoundsFile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer_chars: Option<BoundsFile>,
    #[serde(skip_serializing_if = "Option::is_none")]
    turns: Option<BoundsFile>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    must_match: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    must_not_match: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "String::is_empty")]
    language: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    similarity_max_percent: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pii: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<bool>,
}

impl ChecksFile {
    fn is_empty(&self) -> bool {
        *self == ChecksFile::default()
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct BoundsFile {
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<u32>,
}

/// Reads a file, which is JSON when it begins with a brace.
pub(super) fn read(path: &str, text: &str) -> Result<StandardSpec, Failure> {
    let wrong = |place: String, message: String| {
        Failure::new(FailureCode::BadFile, message).at(place).hint(HintCode::CorrectFile)
    };
    let file: StandardFile = if text.trim_start().starts_with('{') {
        serde_json::from_str(text)
            .map_err(|error| wrong(format!("{path}:{}:{}", error.line(), error.column()), error.to_string()))?
    } else {
        toml::from_str(text).map_err(|error| {
            let before = text.get(..error.span().map_or(0, |span| span.start)).unwrap_or_default();
            wrong(format!("{path}:{}", before.matches('\n').count() + 1), error.message().to_owned())
        })?
    };
    file.spec().map_err(|message| wrong(path.to_owned(), message))
}

/// The file of a standard, as TOML.
pub(super) fn write(spec: &StandardSpec) -> String {
    toml::to_string(&StandardFile::of(spec)).unwrap_or_default()
}

/// The fields of a standard, each with its value as TOML on one line.
pub(super) fn fields(spec: &StandardSpec) -> Vec<(&'static str, String)> {
    let Ok(toml::Value::Table(mut table)) = toml::Value::try_from(StandardFile::of(spec)) else { return Vec::new() };
    FIELDS.into_iter().filter_map(|field| Some((field, table.remove(field)?.to_string()))).collect()
}

fn shape_of(word: &str) -> Option<Shape> {
    [Shape::Chat, Shape::Preference, Shape::Text, Shape::Prompt].into_iter().find(|shape| shape.word() == word)
}

impl StandardFile {
    /// What the file says.
    pub(super) fn spec(self) -> Result<StandardSpec, String> {
        let shape = match self.shape.as_str() {
            "" => Shape::Chat,
            word => shape_of(word)
                .ok_or_else(|| format!("shape: {word:?} is no shape; there are chat, preference, text, prompt"))?,
        };
        let bounds = |bounds: Option<BoundsFile>| {
            let BoundsFile { min, max } = bounds.unwrap_or_default();
            Bounds { min, max }
        };
        let checks = self.checks;
        let kind = |word: &String| {
            let known = PiiKind::ALL.map(PiiKind::word).join(", ");
            PiiKind::of(word)
                .ok_or_else(|| format!("checks.pii: {word:?} is no kind of personal data; there are {known}"))
        };
        let schema = match checks.schema {
            Some(serde_json::Value::String(text)) => {
                Some(serde_json::from_str(&text).map_err(|error| format!("checks.schema is no JSON: {error}"))?)
            }
            schema => schema,
        };
        let criterion = |c: CriterionFile| Criterion { name: c.name, about: c.about, weight: c.weight, scale: c.scale };
        let message = |m: MessageFile| ChatMessage { role: m.role, content: m.content };
        let example = |e: ExampleFile| StandardExample {
            messages: e.messages.into_iter().map(message).collect(),
            good: e.good,
            reason: e.reason,
        };
        Ok(StandardSpec {
            title: self.title,
            shape,
            about: self.about,
            criteria: self.criteria.into_iter().map(criterion).collect(),
            examples: self.examples.into_iter().map(example).collect(),
            checks: Checks {
                prompt_chars: bounds(checks.prompt_chars),
                answer_chars: bounds(checks.answer_chars),
                turns: bounds(checks.turns),
                must_match: checks.must_match,
                must_not_match: checks.must_not_match,
                schema: Json(schema.unwrap_or_default()),
                language: checks.language,
                similarity_max_percent: checks.similarity_max_percent,
                pii: checks.pii.iter().map(kind).collect::<Result<_, _>>()?,
                system: checks.system,
            },
        })
    }

    fn of(spec: &StandardSpec) -> StandardFile {
        let bounds = |b: Bounds| (!b.is_open()).then_some(BoundsFile { min: b.min, max: b.max });
        let checks = &spec.checks;
        let criterion = |c: &Criterion| CriterionFile {
            name: c.name.clone(),
            about: c.about.clone(),
            weight: c.weight,
            scale: c.scale,
        };
        let message = |m: &ChatMessage| MessageFile { role: m.role.clone(), content: m.content.clone() };
        let example = |e: &StandardExample| ExampleFile {
            good: e.good,
            reason: e.reason.clone(),
            messages: e.messages.iter().map(message).collect(),
        };
        StandardFile {
            title: spec.title.clone(),
            shape: spec.shape.word().to_owned(),
            about: spec.about.clone(),
            criteria: spec.criteria.iter().map(criterion).collect(),
            examples: spec.examples.iter().map(example).collect(),
            checks: ChecksFile {
                prompt_chars: bounds(checks.prompt_chars),
                answer_chars: bounds(checks.answer_chars),
                turns: bounds(checks.turns),
                must_match: checks.must_match.clone(),
                must_not_match: checks.must_not_match.clone(),
                // A schema may hold null, which TOML has not: so it is JSON in a text.
                schema: checks.schema().map(|schema| serde_json::Value::String(schema.0.to_string())),
                language: checks.language.clone(),
                similarity_max_percent: checks.similarity_max_percent,
                pii: checks.pii.iter().map(|kind| kind.word().to_owned()).collect(),
                system: checks.system,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_the_same() {
        let spec = crate::sample::standard().spec;
        assert_eq!(read("s.toml", &write(&spec)).unwrap(), spec);
        insta::assert_snapshot!("standard-file", write(&spec));
        let json = serde_json::to_string(&StandardFile::of(&spec)).unwrap();
        assert_eq!(read("s.json", &json).unwrap(), spec);
        let lines: String = fields(&spec).iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        assert_eq!(read("s.toml", &lines).unwrap(), spec, "each field on one line: {lines}");
        let bare = StandardSpec::new(Shape::Text);
        assert_eq!(write(&bare), "shape = \"text\"\n");
        assert_eq!(read("s.toml", "").unwrap(), StandardSpec::new(Shape::Chat));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let said = |text: &str| {
            let failure = read("s.toml", text).unwrap_err();
            format!("{} {}", failure.place, failure.message_en)
        };
        assert!(said("title = \"a\"\nshap = \"chat\"\n").starts_with("s.toml:2 unknown field `shap`"));
        assert_eq!(
            said("shape = \"poem\"\n"),
            "s.toml shape: \"poem\" is no shape; there are chat, preference, text, prompt"
        );
        assert!(said("[checks]\npii = [\"face\"]\n").contains("\"face\" is no kind of personal data"));
        assert!(said("[checks]\nschema = \"{\"\n").contains("checks.schema is no JSON"));
        assert!(said("{\"shape\": 3}").starts_with("s.toml:1:"));
    }
}
