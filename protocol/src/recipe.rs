//! Recipes: ordered steps that rows go through, what came of each, and the form of each step as static data: used by the screens, the
//! command line, the docs and the child that computes, so that a threshold is described once. Never here: computing, files.

mod forms;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::dataset::{ChatMessage, Shape};
use crate::failure::{Failure, HintCode};
use crate::form::{BETWEEN_TEXTS, Both, FieldKind, texts};
use crate::id::DatasetVersionId;
use crate::value::Hash;

pub use forms::{PRESETS, STEPS};

/// Most steps of a recipe.
pub const STEPS_MAX: usize = 64;
/// Most rows that a step is told to keep.
pub const KEPT_ROWS_MAX: usize = 100_000;
/// Most rows before and after in one preview.
pub const PREVIEW_ROWS_MAX: u32 = 50;
/// Most bytes of one setting.
pub const SETTING_BYTES_MAX: usize = 64 * 1024;

/// Steps in order.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Recipe {
    /// The steps.
    pub steps: Vec<StepSpec>,
}

/// One step as somebody wrote it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StepSpec {
    /// Which: a word of [`STEPS`].
    pub step: String,
    /// Settings that are not the defaults, as they are typed.
    pub settings: Vec<(String, String)>,
    /// Ids of rows that this step must not drop: rows that somebody rescued.
    pub keep: Vec<u64>,
}

/// A dataset version through a recipe into a version of a dataset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// `name` or `name@number`.
    pub source: String,
    /// Name of the dataset to add a version to; made if it is not there.
    pub name: String,
    /// Name of the recipe, for people; may be empty.
    pub recipe_name: String,
    /// The steps.
    pub recipe: Recipe,
}

/// What made a dataset version of another one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Processed {
    /// The version that went in.
    pub source: DatasetVersionId,
    /// Its name as it was written: `name@number`.
    pub source_name: String,
    /// Name of the recipe; may be empty.
    pub recipe_name: String,
    /// Rows that went in.
    pub rows_in: u64,
    /// Rows that came out.
    pub rows_out: u64,
    /// What each step did.
    pub steps: Vec<StepOutcome>,
}

/// What a step did to the rows that reached it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepOutcome {
    /// The step, with every setting that it worked with.
    pub spec: StepSpec,
    /// Name of its ledger: the hash of the rows that went in, the steps before and the settings.
    pub ledger: Hash,
    /// Whether it was known from an earlier run.
    pub cached: bool,
    /// Rows dropped.
    pub dropped: u64,
    /// Rows changed.
    pub changed: u64,
    /// Rows by reason, most first.
    pub reasons: Vec<(String, u64)>,
}

/// One row that a step dropped or changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// Id of the row in the version that went in.
    pub row_id: u64,
    /// What was done.
    pub act: LedgerAct,
    /// Why: a word such as `too_short`.
    pub reason: String,
    /// What was measured.
    pub value: f64,
    /// What it was measured against.
    pub threshold: f64,
    /// More to say, for example which row it repeats; may be empty.
    pub detail: String,
    /// The row as it reached the step, cut where it is long.
    pub before: Vec<ChatMessage>,
    /// The row as it left the step; empty when it was dropped.
    pub after: Vec<ChatMessage>,
}

/// What a step does to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LedgerAct {
    /// It is not in the version that came out.
    Dropped,
    /// Its content is another.
    Changed,
}

/// A row of a preview.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreviewRow {
    /// Its id.
    pub row_id: u64,
    /// Before the first step, cut where it is long.
    pub before: Vec<ChatMessage>,
    /// After the last one; empty when a step dropped it.
    pub after: Vec<ChatMessage>,
    /// Index of each step that dropped or changed it, what it did, and why.
    pub acts: Vec<(u32, LedgerAct, String)>,
}

/// What a recipe would do to the first rows of a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preview {
    /// Rows, those that something happens to first.
    pub rows: Vec<PreviewRow>,
    /// Rows that were looked at.
    pub looked_at: u64,
    /// Dropped and changed rows of these, for each step.
    pub counts: Vec<(u64, u64)>,
}

/// Facts of a dataset version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatasetFacts {
    /// Rows.
    pub rows: u64,
    /// Characters of all messages.
    pub characters: u64,
    /// Messages.
    pub messages: u64,
    /// Tokens of a model, and `name@number` of the model; none when no model was chosen.
    pub tokens: Option<(u64, String)>,
    /// Rows of up to 2^n characters, for each n, the first with up to 16.
    pub lengths: Vec<u64>,
    /// Characters of a row at the middle, at 95 and at 99 percent, and of the longest.
    pub length_marks: [u64; 4],
    /// Rows by language code, most first; `?` where none was recognised.
    pub languages: Vec<(String, u64)>,
    /// Rows by number of messages, the last for that many and more.
    pub turns: Vec<u64>,
    /// Rows that repeat an earlier one but for case and white space.
    pub exact_duplicates: u64,
    /// Rows that are nearly an earlier one.
    pub near_duplicates: u64,
    /// Rows with secrets or personal data, by kind.
    pub private: Vec<(String, u64)>,
}

/// What a family of steps is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Text is made clean.
    Clean,
    /// Rows are dropped by a measure.
    Filter,
    /// Rows are dropped because of others.
    Duplicates,
    /// What must not be in a training set.
    Privacy,
    /// Rows are drawn.
    Sample,
    /// Rows take another form.
    Convert,
}

/// The form of a step.
#[derive(Debug, Clone, Copy)]
pub struct StepForm {
    /// Its word.
    pub word: &'static str,
    /// What it is about.
    pub family: Family,
    /// Its label.
    pub label: Both,
    /// What it does, in one sentence.
    pub about: Both,
    /// Its settings.
    pub fields: &'static [StepField],
}

/// A setting of a step.
#[derive(Debug, Clone, Copy)]
pub struct StepField {
    /// Its key.
    pub key: &'static str,
    /// What it holds.
    pub kind: FieldKind,
    /// Its label.
    pub label: Both,
    /// What it is, in one sentence.
    pub about: Both,
    /// The default, as it is typed.
    pub default: &'static str,
}

/// A recipe that comes with hone.
#[derive(Debug, Clone, Copy)]
pub struct RecipePreset {
    /// Its name.
    pub name: &'static str,
    /// For rows of this shape.
    pub shape: Shape,
    /// What it does.
    pub about: Both,
    /// Steps with the settings that are not the defaults.
    pub steps: &'static [(&'static str, &'static [(&'static str, &'static str)])],
}

/// The form of a step.
pub fn step_form(word: &str) -> Option<&'static StepForm> {
    STEPS.iter().find(|form| form.word == word)
}

/// A recipe that comes with hone.
pub fn preset(name: &str) -> Option<Recipe> {
    PRESETS.iter().find(|preset| preset.name == name).map(RecipePreset::recipe)
}

impl RecipePreset {
    /// Its steps.
    pub fn recipe(&self) -> Recipe {
        let own = |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let step = |(word, pairs): &(&str, &[(&str, &str)])| StepSpec {
            step: (*word).to_owned(),
            settings: own(pairs),
            keep: Vec::new(),
        };
        Recipe { steps: self.steps.iter().map(step).collect() }
    }
}

/// Every setting of a step, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings(BTreeMap<&'static str, String>);

impl Settings {
    /// A setting as it is typed; empty for a key that the step does not have.
    pub fn text(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    /// A number.
    pub fn real(&self, key: &str) -> f64 {
        self.text(key).parse().unwrap_or(0.0)
    }

    /// A whole number.
    pub fn whole(&self, key: &str) -> u64 {
        self.text(key).parse().unwrap_or(0)
    }

    /// Whether a choice between yes and no is yes.
    pub fn yes(&self, key: &str) -> bool {
        self.text(key) == "yes"
    }

    /// Several texts.
    pub fn texts(&self, key: &str) -> Vec<String> {
        texts(self.text(key))
    }

    /// Words separated by commas.
    pub fn words(&self, key: &str) -> Vec<String> {
        let words = self.text(key).split(',').map(str::trim);
        words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }
}

impl StepSpec {
    /// Every setting of the step with its value, or what is wrong: `place` is `steps[2].min`.
    pub fn checked(&self, index: usize) -> Result<Settings, Failure> {
        let Some(form) = step_form(&self.step) else {
            let known: Vec<&str> = STEPS.iter().map(|form| form.word).collect();
            let message = format!("there is no step {:?}; there are {}", self.step, known.join(", "));
            return Err(Failure::field(&format!("steps[{index}].step"), message));
        };
        let place = |key: &str| format!("steps[{index}].{key}");
        if self.keep.len() > KEPT_ROWS_MAX {
            return Err(Failure::field(&place("keep"), format!("{} rows; at most {KEPT_ROWS_MAX}", self.keep.len())));
        }
        let mut values = BTreeMap::new();
        for field in form.fields {
            let value = self.settings.iter().rev().find(|(key, _)| key == field.key);
            let value = value.map_or(field.default, |(_, value)| value.as_str());
            field
                .check(value)
                .map_err(|reason| Failure::field(&place(field.key), format!("{}: {reason}", form.word)))?;
            values.insert(field.key, value.to_owned());
        }
        if let Some((key, _)) = self.settings.iter().find(|(key, _)| !values.contains_key(key.as_str())) {
            let known: Vec<&str> = form.fields.iter().map(|field| field.key).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let message = format!("the step {} has no setting {key:?}; it has {known}", form.word);
            return Err(Failure::field(&place(key), message).hint(HintCode::CorrectField));
        }
        Ok(Settings(values))
    }

    /// The step with every setting written out. What is wrong stays as it is.
    pub fn effective(&self) -> StepSpec {
        let settings = match self.checked(0) {
            Ok(Settings(values)) => values.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
            Err(_) => self.settings.clone(),
        };
        let mut keep = self.keep.clone();
        keep.sort_unstable();
        keep.dedup();
        StepSpec { step: self.step.clone(), settings, keep }
    }

    /// Sets one value.
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.retain(|(known, _)| known != key);
        self.settings.push((key.to_owned(), value.to_owned()));
    }

    /// The datasets that the step looks at beside the rows: `name` or `name@number`.
    pub fn others(&self) -> Vec<String> {
        let written = self.settings.iter().rev().find(|(key, _)| key == "against");
        written.map(|(_, value)| texts(value)).unwrap_or_default()
    }
}

impl StepField {
    /// What is wrong with a value, if anything.
    pub fn check(&self, value: &str) -> Result<(), String> {
        if value.len() > SETTING_BYTES_MAX {
            return Err(format!("{} has {} bytes; at most {SETTING_BYTES_MAX}", self.key, value.len()));
        }
        match self.kind {
            FieldKind::Text => Ok(()),
            FieldKind::Texts { most } if texts(value).len() > most => {
                Err(format!("{} has {} texts; at most {most}", self.key, texts(value).len()))
            }
            FieldKind::Texts { .. } => Ok(()),
            FieldKind::Whole { low, high } => match value.parse::<u64>() {
                Ok(number) if (low..=high).contains(&number) => Ok(()),
                _ => Err(format!("{} is {value:?}; it must be a whole number from {low} to {high}", self.key)),
            },
            FieldKind::Real { low, high } => match value.parse::<f64>() {
                Ok(number) if (low..=high).contains(&number) => Ok(()),
                _ => Err(format!("{} is {value:?}; it must be a number from {low} to {high}", self.key)),
            },
            FieldKind::Choice(words) if words.contains(&value) => Ok(()),
            FieldKind::Choice(words) => {
                Err(format!("{} is {value:?}; it must be one of {}", self.key, words.join(", ")))
            }
            FieldKind::Several(words) => {
                match value.split(',').map(str::trim).find(|word| !word.is_empty() && !words.contains(word)) {
                    None => Ok(()),
                    Some(other) => Err(format!("{} has {other:?}; there are {}", self.key, words.join(", "))),
                }
            }
        }
    }
}

impl Recipe {
    /// Refuses what no run could do, naming the setting.
    pub fn check(&self) -> Result<(), Failure> {
        if self.steps.is_empty() || self.steps.len() > STEPS_MAX {
            let message = format!("{} steps; a recipe has 1 to {STEPS_MAX}", self.steps.len());
            return Err(Failure::field("steps", message));
        }
        self.steps.iter().enumerate().try_for_each(|(index, step)| step.checked(index).map(drop))
    }

    /// As people write it in a file: `{"steps": [{"step": "length", "min": 10}]}`.
    pub fn to_json(&self) -> Value {
        let step = |spec: &StepSpec| {
            let mut fields = Map::new();
            fields.insert("step".into(), spec.step.clone().into());
            let form = step_form(&spec.step);
            // In the order of the form, so that a recipe is always written alike.
            let place = |key: &str| form.and_then(|form| form.fields.iter().position(|field| field.key == key));
            let mut settings: Vec<_> = spec.settings.iter().collect();
            settings.sort_by_key(|(key, _)| place(key));
            for (key, value) in settings {
                let kind = form.and_then(|form| form.fields.iter().find(|field| field.key == key)).map(|f| f.kind);
                fields.insert(key.clone(), written(kind, value));
            }
            if !spec.keep.is_empty() {
                fields.insert("keep".into(), spec.keep.clone().into());
            }
            Value::Object(fields)
        };
        let mut recipe = Map::new();
        recipe.insert("steps".into(), self.steps.iter().map(step).collect());
        Value::Object(recipe)
    }

    /// Reads that form, and checks it.
    pub fn from_json(value: &Value) -> Result<Recipe, Failure> {
        let Some(Value::Array(steps)) = value.get("steps") else {
            return Err(Failure::field("steps", "a recipe has a list `steps`, each with a `step` and its settings"));
        };
        let steps = steps.iter().enumerate().map(|(index, step)| step_of(index, step)).collect::<Result<_, _>>()?;
        let recipe = Recipe { steps };
        recipe.check()?;
        Ok(recipe)
    }
}

fn written(kind: Option<FieldKind>, value: &str) -> Value {
    match kind {
        Some(FieldKind::Whole { .. } | FieldKind::Real { .. }) => {
            serde_json::from_str::<serde_json::Number>(value).map_or_else(|_| value.into(), Value::Number)
        }
        Some(FieldKind::Texts { .. }) => texts(value).into(),
        _ => value.into(),
    }
}

fn step_of(index: usize, step: &Value) -> Result<StepSpec, Failure> {
    let bad = |key: &str, message: &str| Err(Failure::field(&format!("steps[{index}].{key}"), message.to_owned()));
    let Value::Object(fields) = step else { return bad("step", "a step is a table with a `step` and its settings") };
    let mut spec = StepSpec::default();
    for (key, value) in fields {
        match (key.as_str(), value) {
            ("step", Value::String(word)) => spec.step.clone_from(word),
            ("keep", Value::Array(rows)) => match rows.iter().map(Value::as_u64).collect() {
                Some(rows) => spec.keep = rows,
                None => return bad("keep", "a list of row ids"),
            },
            (_, Value::String(text)) => spec.set(key, text),
            (_, Value::Bool(yes)) => spec.set(key, if *yes { "yes" } else { "no" }),
            (_, Value::Number(number)) => spec.set(key, &number.to_string()),
            (_, Value::Array(texts)) => match texts.iter().map(Value::as_str).collect::<Option<Vec<_>>>() {
                Some(texts) => {
                    let form = step_form(&spec.step).and_then(|form| form.fields.iter().find(|f| f.key == key));
                    let commas = form.is_some_and(|field| !matches!(field.kind, FieldKind::Texts { .. }));
                    spec.set(key, &texts.join(if commas { "," } else { BETWEEN_TEXTS }));
                }
                None => return bad(key, "a list of texts"),
            },
            _ => return bad(key, "a text, a number, true, false, or a list of texts"),
        }
    }
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_speaks_both_languages_and_its_defaults_are_in_range() {
        for (n, form) in STEPS.iter().enumerate() {
            assert!(STEPS[..n].iter().all(|other| other.word != form.word), "{}", form.word);
            for said in [form.label, form.about] {
                assert!(!said.en.is_empty() && !said.zh.is_empty(), "{}", form.word);
            }
            for (n, field) in form.fields.iter().enumerate() {
                assert!(form.fields[..n].iter().all(|other| other.key != field.key), "{}.{}", form.word, field.key);
                assert!(!["step", "keep"].contains(&field.key), "{} takes a word of the file", form.word);
                assert_eq!(field.check(field.default), Ok(()), "{}.{}", form.word, field.key);
                for said in [field.label, field.about] {
                    assert!(!said.en.is_empty() && !said.zh.is_empty(), "{}.{}", form.word, field.key);
                }
            }
        }
        for preset in PRESETS {
            preset.recipe().check().unwrap();
        }
    }

    #[test]
    fn a_recipe_reads_as_it_was_written() {
        for preset in PRESETS {
            let mut recipe = preset.recipe();
            recipe.steps[0].keep = vec![3, 8];
            assert_eq!(Recipe::from_json(&recipe.to_json()).unwrap(), recipe, "{}", preset.name);
        }
        let text = r#"{"steps":[{"step":"length","min":12,"of":"answer"},{"step":"phrases","list":["a b","c"],"built_in":"none"}]}"#;
        let recipe = Recipe::from_json(&serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!(recipe.steps[0].checked(0).unwrap().whole("min"), 12);
        assert_eq!(recipe.steps[1].checked(1).unwrap().texts("list"), ["a b", "c"]);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_place() {
        for (text, place) in [
            (r#"{"steps":[]}"#, "steps"),
            (r#"{}"#, "steps"),
            (r#"{"steps":[{"step":"fly"}]}"#, "steps[0].step"),
            (r#"{"steps":[{"step":"length","min":-1}]}"#, "steps[0].min"),
            (r#"{"steps":[{"step":"control"},{"step":"near","threshold":2}]}"#, "steps[1].threshold"),
            (r#"{"steps":[{"step":"length","least":1}]}"#, "steps[0].least"),
            (r#"{"steps":[{"step":"length","of":"all"}]}"#, "steps[0].of"),
            (r#"{"steps":[{"step":"length","keep":["a"]}]}"#, "steps[0].keep"),
        ] {
            let failure = Recipe::from_json(&serde_json::from_str(text).unwrap()).unwrap_err();
            assert_eq!(failure.place, place, "{text}: {failure}");
        }
    }

    fn range(kind: FieldKind) -> String {
        match kind {
            FieldKind::Text => String::new(),
            FieldKind::Texts { most } => format!("<= {most}"),
            FieldKind::Whole { low, high } => format!("{low} – {high}"),
            FieldKind::Real { low, high } => format!("{low} – {high}"),
            FieldKind::Choice(words) => words.join(", "),
            FieldKind::Several(words) => words.join(", "),
        }
    }

    /// The page of all steps, as `docs/` holds it.
    fn page(chinese: bool) -> String {
        let of = |both: Both| if chinese { both.zh } else { both.en };
        let mut page = match chinese {
            false => {
                "# Steps\n\nAll steps of [recipes](recipes.md) with their settings, ranges and defaults.\n".to_owned()
            }
            true => "# 处理步骤\n\n[数据配方](recipes.md)的全部步骤，以及它们的设置、范围与默认值。\n".to_owned(),
        };
        for form in STEPS {
            page.push_str(&format!("\n## {} (`{}`)\n\n{}\n", of(form.label), form.word, of(form.about)));
            if form.fields.is_empty() {
                continue;
            }
            page.push_str(match chinese {
                false => "\n| setting | range | default | what it is |\n| --- | --- | --- | --- |\n",
                true => "\n| 设置 | 范围 | 默认 | 说明 |\n| --- | --- | --- | --- |\n",
            });
            for field in form.fields {
                let about = of(field.about).replace('|', "\\|");
                page.push_str(&format!("| `{}` | {} | {} | {about} |\n", field.key, range(field.kind), field.default));
            }
        }
        page
    }

    #[test]
    fn the_page_of_steps_is_what_the_forms_say() {
        let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
        for (chinese, path) in [(false, "steps.md"), (true, "zh/steps.md")] {
            let path = format!("{docs}/{path}");
            let page = page(chinese);
            if std::env::var_os("HONE_WRITE_DOCS").is_some() {
                std::fs::write(&path, &page).unwrap();
            }
            let held = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(held == page, "{path} is old; HONE_WRITE_DOCS=1 cargo test -p hone-protocol writes it anew");
        }
    }
}
