//! Standards: what good data looks like. A shape, a rubric, examples and acceptance checks, shared by generation, labelling and
//! judges. Lives here: the words and their bounds. Never here: checking a row (the daemon does).

use serde::{Deserialize, Serialize};

use crate::dataset::{ChatMessage, Shape};
use crate::guard::PiiKind;
use crate::value::Json;

/// Standards of a store, removed ones included. More are refused.
pub const STANDARDS_MAX: usize = 1000;
/// Criteria of a rubric.
pub const CRITERIA_MAX: usize = 32;
/// Examples of a standard.
pub const EXAMPLES_MAX: usize = 200;
/// Regular expressions that must match, and as many that must not.
pub const EXPRESSIONS_MAX: usize = 32;
/// Longest regular expression in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 1024;
/// Largest standard in bytes, as it is on the wire.
pub const STANDARD_BYTES_MAX: usize = 1 << 20;
/// Most points of a criterion's scale.
pub const SCALE_MAX: u32 = 100;
/// Languages that an acceptance check can ask for.
pub const LANGUAGES: &[&str] = &["en", "zh", "ja", "ko", "ru", "ar", "th", "hi", "de", "fr", "es"];

/// What a standard says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StandardSpec {
    /// Free display title, may be empty.
    pub title: String,
    /// What rows are made of.
    pub shape: Shape,
    /// What the rows are about, in words; models and persons read it.
    pub about: String,
    /// The rubric.
    pub criteria: Vec<Criterion>,
    /// Good and bad examples.
    pub examples: Vec<StandardExample>,
    /// What a row must keep to.
    pub checks: Checks,
}

/// One criterion of a rubric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Criterion {
    /// Its name, for example `polite`: `[a-z0-9._-]`.
    pub name: String,
    /// What it means.
    pub about: String,
    /// How much it counts beside the others, from 1.
    pub weight: u32,
    /// Points are 1 to this number, 2 to [`SCALE_MAX`].
    pub scale: u32,
}

/// An example of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandardExample {
    /// The row's messages.
    pub messages: Vec<ChatMessage>,
    /// Whether it is as rows should be.
    pub good: bool,
    /// Why.
    pub reason: String,
}

/// Acceptance checks. What is `None` or empty asks for nothing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Checks {
    /// Characters of all that is asked: everything before the last answer.
    pub prompt_chars: Bounds,
    /// Characters of the answer: the last assistant turn, each answer of a pair, or the text of a text row.
    pub answer_chars: Bounds,
    /// Expressions that the answer must match, each of them.
    pub must_match: Vec<String>,
    /// Expressions that nothing in the row may match.
    pub must_not_match: Vec<String>,
    /// The answer is a JSON document of this schema; null for any text.
    pub schema: Json,
    /// One of [`LANGUAGES`] that all turns of persons and models are in; empty for any.
    pub language: String,
    /// Most percent of ROUGE-L to an example of the standard; none for no such check.
    pub similarity_max_percent: Option<u32>,
    /// Kinds of personal data that may not stand in a row.
    pub pii: Vec<PiiKind>,
    /// Turns of the person.
    pub turns: Bounds,
    /// Whether a system message must be there (`true`) or must not (`false`).
    pub system: Option<bool>,
}

/// From and to, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bounds {
    /// At least so many.
    pub min: Option<u32>,
    /// At most so many.
    pub max: Option<u32>,
}

/// A standard as it is stored: an edit makes a new number, and no number changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StandardRecord {
    /// Unique name, `[a-z0-9._-]`.
    pub name: String,
    /// 1, 2, 3… within the standard.
    pub number: u32,
    /// What it says.
    pub spec: StandardSpec,
    /// When it was set, Unix milliseconds.
    pub created_at_ms: i64,
    /// Who set it.
    pub created_by: String,
    /// When the standard was removed, Unix milliseconds; what was made to it still names it.
    pub removed_at_ms: Option<i64>,
}

/// A standard as lists show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StandardView {
    /// Its name.
    pub name: String,
    /// Versions, oldest first.
    pub versions: Vec<StandardRecord>,
}

/// A check that a row does not pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckFault {
    /// Which check, as [`Checks`] names it.
    pub check: String,
    /// Why, in English.
    pub reason: String,
}

/// A row of a dataset that does not pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultyRow {
    /// Its id.
    pub row_id: u64,
    /// The checks that it fails.
    pub faults: Vec<CheckFault>,
}

/// What a window of rows came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedRows {
    /// `name@number` of the standard.
    pub standard: String,
    /// Index behind the last row that was looked at.
    pub until: u64,
    /// Rows of the version in all.
    pub total: u64,
    /// Rows of the window that do not pass.
    pub faulty: Vec<FaultyRow>,
}

impl StandardRecord {
    /// `name@number`.
    pub fn reference(&self) -> String {
        format!("{}@{}", self.name, self.number)
    }
}

impl StandardSpec {
    /// A standard of a shape that asks for nothing yet.
    pub fn new(shape: Shape) -> StandardSpec {
        let (title, about) = (String::new(), String::new());
        StandardSpec { title, shape, about, criteria: Vec::new(), examples: Vec::new(), checks: Checks::default() }
    }

    /// The rubric's weighted mean of points, in percent of the way from 1 to the end of each scale; none where points are
    /// missing or outside their scale.
    pub fn percent(&self, points: impl Fn(&str) -> Option<u32>) -> Option<f64> {
        let mut sum = 0.0;
        let mut weights = 0.0;
        for criterion in &self.criteria {
            let given = points(&criterion.name).filter(|given| (1..=criterion.scale).contains(given))?;
            sum += f64::from(criterion.weight) * f64::from(given - 1) / f64::from(criterion.scale - 1);
            weights += f64::from(criterion.weight);
        }
        (weights > 0.0).then(|| 100.0 * sum / weights)
    }
}

impl Checks {
    /// The schema of answers, where there is one.
    pub fn schema(&self) -> Option<&Json> {
        Some(&self.schema).filter(|schema| !schema.0.is_null())
    }
}

impl Bounds {
    /// Whether a number is inside.
    pub fn holds(&self, number: usize) -> bool {
        self.min.is_none_or(|min| number >= min as usize) && self.max.is_none_or(|max| number <= max as usize)
    }

    /// In words: `1 to 5`, `at least 1`, `at most 5`.
    pub fn words(&self) -> String {
        match (self.min, self.max) {
            (Some(min), Some(max)) if min == max => format!("exactly {min}"),
            (Some(min), Some(max)) => format!("{min} to {max}"),
            (Some(min), None) => format!("at least {min}"),
            (None, Some(max)) => format!("at most {max}"),
            (None, None) => "any number".to_owned(),
        }
    }

    /// Whether it asks for nothing.
    pub fn is_open(&self) -> bool {
        self.min.is_none() && self.max.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_become_percent_of_the_way_along_each_scale() {
        let criterion =
            |name: &str, weight, scale| Criterion { name: name.into(), about: String::new(), weight, scale };
        let mut spec = StandardSpec::new(Shape::Chat);
        assert_eq!(spec.percent(|_| Some(1)), None, "no rubric, no judgement");
        spec.criteria = vec![criterion("true", 3, 5), criterion("kind", 1, 2)];
        let points = |a: u32, b: u32| spec.percent(move |name| Some(if name == "true" { a } else { b }));
        assert_eq!((points(1, 1), points(5, 2), points(3, 1)), (Some(0.0), Some(100.0), Some(37.5)));
        assert_eq!((points(6, 1), points(0, 1)), (None, None), "points outside the scale are no points");
    }

    #[test]
    fn bounds_include_their_ends() {
        let bounds = Bounds { min: Some(2), max: Some(3) };
        assert_eq!([1, 2, 3, 4].map(|n| bounds.holds(n)), [false, true, true, false]);
        assert!(Bounds::default().holds(0) && Bounds::default().is_open());
        assert_eq!(Bounds { min: Some(2), max: Some(2) }.words(), "exactly 2");
    }
}
