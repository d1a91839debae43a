//! The settings of the playground: fields with their explanations, presets, and what each column asks with. The form shows
//! the focused column; the other columns' values wait beside it. Never here: asking, or what a service does with a value.

use std::collections::BTreeMap;

use hone_protocol::form::{FieldKind, texts};
use hone_protocol::generate::{Format, TOP_CHANCES_MAX};
use hone_protocol::judgement::CONTENDERS_MAX;
use hone_protocol::value::Json;
use hone_protocol::worker::Sampling;
use serde::{Deserialize, Serialize};

use crate::screens::View;
use crate::widgets::form::{Form, FormField, Rule, Stride};

/// Columns at most.
pub(super) const COLUMNS_MAX: usize = CONTENDERS_MAX;
/// Stop texts at most.
const STOPS_MAX: usize = 4;
/// Fields that each column has for itself; the others are the talk's.
const OF_COLUMN: [&str; 15] = [
    "service",
    "preset",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "repeat",
    "frequency",
    "presence",
    "tokens",
    "seed",
    "stop",
    "format",
    "schema",
];
/// Fields that a preset says something about.
pub(super) const OF_PRESET: [&str; 12] = [
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "repeat",
    "frequency",
    "presence",
    "tokens",
    "stop",
    "format",
    "schema",
];

/// Fields that rarely matter; they are behind "more".
const FOLDED: [&str; 7] = ["top_k", "typical_p", "repeat", "frequency", "presence", "seed", "stop"];

/// A named set of values; what it does not name has its default.
pub(super) struct Preset {
    pub(super) name: &'static str,
    values: &'static [(&'static str, &'static str)],
}

/// The presets that come with hone.
pub(super) const PRESETS: [Preset; 5] = [
    Preset { name: "balanced", values: &[] },
    Preset { name: "exact", values: &[("temperature", "0"), ("top_p", "1")] },
    Preset { name: "creative", values: &[("temperature", "1.1"), ("top_p", "0.98"), ("min_p", "0.05")] },
    Preset { name: "json", values: &[("temperature", "0"), ("top_p", "1"), ("format", "object")] },
    Preset { name: "long", values: &[("temperature", "0.8"), ("repeat", "1.05"), ("tokens", "1024")] },
];

/// How one column asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Asked {
    pub(super) service: String,
    pub(super) sampling: Sampling,
    pub(super) tokens_max: u32,
    pub(super) typical_p: f32,
    pub(super) stop: Vec<String>,
    pub(super) format: Format,
}

impl Default for Asked {
    fn default() -> Self {
        Asked {
            service: String::new(),
            sampling: Sampling::default(),
            tokens_max: 256,
            typical_p: 1.0,
            stop: Vec::new(),
            format: Format::Text,
        }
    }
}

/// The form and the columns.
pub(super) struct Settings {
    pub(super) form: Form,
    /// Values of each column; those of the focused one are in the form and old here.
    columns: Vec<BTreeMap<&'static str, String>>,
    /// The focused column.
    pub(super) column: usize,
}

fn fields() -> Vec<FormField> {
    let fold = |field: FormField| FormField { folded: FOLDED.contains(&field.key), ..field };
    all_fields().into_iter().map(fold).collect()
}

fn all_fields() -> Vec<FormField> {
    let (who, section, compare) = ("chat.who", "chat.settings", "chat.compare");
    let real = |low, high| FieldKind::Real { low, high };
    let whole = |low, high| FieldKind::Whole { low, high };
    let number = |key, label, about, kind, step, default: &str| {
        FormField::text(key, section, label, about).of(kind, Stride::Add(step), default)
    };
    let text = FormField::text;
    let schema_only: &[(&str, &[&str])] = &[("format", &["schema"])];
    vec![
        text("service", who, "word.service", "field.chat_service.about").rule(Rule::OneOf),
        text("system", who, "field.system", "field.system.about"),
        text("preset", section, "field.preset", "field.preset.about"),
        number("temperature", "field.temperature", "field.temperature.about", real(0.0, 2.0), 0.1, "0.7")
            .ends("field.temperature.low", "field.temperature.high"),
        number("top_p", "field.top_p", "field.top_p.about", real(0.01, 1.0), 0.05, "0.95")
            .ends("field.top_p.low", "field.top_p.high"),
        number("top_k", "field.top_k", "field.top_k.about", whole(0, 1000), 10.0, "0")
            .ends("field.top_k.low", "field.top_k.high"),
        number("min_p", "field.min_p", "field.min_p.about", real(0.0, 1.0), 0.05, "0")
            .ends("field.min_p.low", "field.min_p.high"),
        number("typical_p", "field.typical_p", "field.typical_p.about", real(0.01, 1.0), 0.05, "1")
            .ends("field.typical_p.low", "field.typical_p.high"),
        number("repeat", "field.repeat", "field.repeat.about", real(0.5, 2.0), 0.05, "1")
            .ends("field.repeat.low", "field.repeat.high"),
        number("frequency", "field.frequency", "field.frequency.about", real(-2.0, 2.0), 0.1, "0")
            .ends("field.frequency.low", "field.frequency.high"),
        number("presence", "field.presence", "field.presence.about", real(-2.0, 2.0), 0.1, "0")
            .ends("field.presence.low", "field.presence.high"),
        number("tokens", "field.tokens", "field.tokens.about", whole(1, 32_768), 64.0, "256")
            .ends("field.tokens.low", "field.tokens.high"),
        text("seed", section, "field.seed", "field.seed.about").rule(Rule::WholeOrEmpty),
        text("stop", section, "field.stop", "field.stop.about").of(
            FieldKind::Texts { most: STOPS_MAX },
            Stride::Add(1.0),
            "",
        ),
        text("format", section, "field.answer_format", "field.answer_format.about").of(
            FieldKind::Choice(&["text", "object", "schema"]),
            Stride::Add(1.0),
            "text",
        ),
        FormField { only: schema_only, ..text("schema", section, "field.schema", "field.schema.about") }
            .rule(Rule::Schema),
        text("chances", compare, "field.chances", "field.chances.about")
            .of(whole(0, u64::from(TOP_CHANCES_MAX)), Stride::Add(1.0), "0")
            .ends("field.chances.low", "field.chances.high"),
        text("blind", compare, "field.blind", "field.blind.about").of(
            FieldKind::Choice(&["off", "on"]),
            Stride::Add(1.0),
            "off",
        ),
        text("verdicts", compare, "field.verdicts", "field.verdicts.about").rule(Rule::NameOrEmpty),
    ]
}

impl Default for Settings {
    fn default() -> Self {
        let mut settings = Settings { form: Form::new(fields()), columns: vec![BTreeMap::new()], column: 0 };
        settings.form.set("preset", PRESETS[0].name);
        settings.put_by();
        settings
    }
}

impl Settings {
    /// How many columns there are.
    pub(super) fn count(&self) -> usize {
        self.columns.len()
    }

    /// A value of the talk.
    pub(super) fn value(&self, key: &str) -> &str {
        self.form.value(key)
    }

    /// A value of a column.
    pub(super) fn of(&self, column: usize, key: &str) -> &str {
        match column == self.column {
            true => self.form.value(key),
            false => self.columns.get(column).and_then(|values| values.get(key)).map_or("", |value| value.trim()),
        }
    }

    /// Copies the form's values into the focused column.
    fn put_by(&mut self) {
        let values = OF_COLUMN.iter().map(|key| (*key, self.form.value(key).to_owned())).collect();
        self.columns[self.column] = values;
    }

    /// Shows another column in the form.
    pub(super) fn focus(&mut self, column: usize) {
        self.put_by();
        self.column = column.min(self.columns.len() - 1);
        self.show();
    }

    fn show(&mut self) {
        for (key, value) in self.columns[self.column].clone() {
            self.form.set(key, value);
        }
    }

    /// Adds a column with the values of the focused one, and focuses it; false when there are as many as can be. The new
    /// one asks the next service that there is.
    pub(super) fn add(&mut self, services: &[String]) -> bool {
        if self.columns.len() == COLUMNS_MAX {
            return false;
        }
        self.put_by();
        let mut values = self.columns[self.column].clone();
        let taken: Vec<String> = (0..self.columns.len()).map(|c| self.of(c, "service").to_owned()).collect();
        if let Some(other) = services.iter().find(|name| !taken.contains(name)) {
            values.insert("service", other.clone());
        }
        self.columns.push(values);
        self.column = self.columns.len() - 1;
        self.show();
        true
    }

    /// Takes the focused column away; false when it is the only one.
    pub(super) fn drop_column(&mut self) -> bool {
        if self.columns.len() == 1 {
            return false;
        }
        self.columns.remove(self.column);
        self.column = self.column.min(self.columns.len() - 1);
        self.show();
        true
    }

    /// How a column asks; none while a number is none. A fixed seed moves on with each try.
    pub(super) fn asked(&self, column: usize, tries: u64) -> Option<Asked> {
        let real = |key: &str| self.of(column, key).parse::<f32>().ok();
        let format = match self.of(column, "format") {
            "object" => Format::Object,
            "schema" => Format::Schema(Json(serde_json::from_str(self.of(column, "schema")).ok()?)),
            _ => Format::Text,
        };
        Some(Asked {
            service: self.of(column, "service").to_owned(),
            sampling: Sampling {
                temperature: real("temperature")?,
                top_p: real("top_p")?,
                top_k: self.of(column, "top_k").parse().ok()?,
                min_p: real("min_p")?,
                frequency_penalty: real("frequency")?,
                presence_penalty: real("presence")?,
                repeat_penalty: real("repeat")?,
                seed: self.of(column, "seed").parse::<u64>().ok().map(|seed| seed.wrapping_add(tries)),
            },
            tokens_max: self.of(column, "tokens").parse().ok()?,
            typical_p: real("typical_p")?,
            stop: texts(self.of(column, "stop")),
            format,
        })
    }

    /// Takes a preset that comes with hone; false when there is none of that name.
    pub(super) fn apply(&mut self, name: &str) -> bool {
        let Some(preset) = PRESETS.iter().find(|preset| preset.name == name) else { return false };
        let defaults: Vec<(&str, String)> = self
            .form
            .fields
            .iter()
            .filter(|f| OF_PRESET.contains(&f.key))
            .map(|f| (f.key, f.default.clone()))
            .collect();
        for (key, value) in defaults {
            self.form.set(key, value);
        }
        for (key, value) in preset.values {
            self.form.set(key, *value);
        }
        self.form.set("preset", name);
        true
    }

    /// What a preset of one's own holds: the values of the focused column.
    pub(super) fn preset_values(&self) -> serde_json::Value {
        OF_PRESET.iter().map(|key| ((*key).to_owned(), serde_json::Value::from(self.form.value(key)))).collect()
    }

    /// Takes values that were kept; what they do not name stays.
    pub(super) fn take(&mut self, values: &serde_json::Value) {
        for key in OF_COLUMN.iter().chain(&["system"]) {
            if let Some(value) = values.get(*key).and_then(|value| value.as_str()) {
                self.form.set(key, value);
            }
        }
    }

    /// The values of all columns and the system prompt, to be kept with a talk.
    pub(super) fn keep(&self) -> serde_json::Value {
        let column = |column: usize| -> serde_json::Value {
            OF_COLUMN.iter().map(|key| ((*key).to_owned(), serde_json::Value::from(self.of(column, key)))).collect()
        };
        let columns: Vec<_> = (0..self.count()).map(column).collect();
        serde_json::json!({ "system": self.value("system"), "columns": columns })
    }

    /// Takes back what [`Settings::keep`] gave.
    pub(super) fn restore(&mut self, kept: &serde_json::Value) {
        let columns = kept["columns"].as_array().map_or(&[] as &[_], |columns| columns);
        let values = |column: &serde_json::Value| {
            let text = |key: &&'static str| Some((*key, column.get(*key)?.as_str()?.to_owned()));
            OF_COLUMN.iter().filter_map(text).collect()
        };
        self.columns = columns.iter().take(COLUMNS_MAX).map(values).collect();
        if self.columns.is_empty() {
            self.columns.push(BTreeMap::new());
        }
        self.column = 0;
        self.show();
        self.form.set("system", kept["system"].as_str().unwrap_or_default());
    }

    /// How many fields of all columns are wrong. The form tells of the focused one only.
    pub(super) fn problems(&mut self, view: &View<'_>) -> usize {
        let here = self.column;
        for column in 0..self.count() {
            self.focus(column);
            let wrong = self.form.problems(view);
            if wrong > 0 {
                return wrong;
            }
        }
        self.focus(here);
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_column_has_its_own_values_and_the_talk_one_system_prompt() {
        let mut settings = Settings::default();
        settings.form.set("service", "desk");
        settings.form.set("system", "Be kind.");
        assert!(settings.add(&["desk".into(), "base".into()]));
        assert!(settings.apply("creative"));
        assert_eq!((settings.of(0, "temperature"), settings.of(1, "temperature")), ("0.7", "1.1"));
        assert_eq!((settings.of(0, "service"), settings.of(1, "service")), ("desk", "base"));
        settings.focus(0);
        assert_eq!((settings.of(0, "temperature"), settings.of(1, "temperature")), ("0.7", "1.1"));
        let kept = settings.keep();
        let mut other = Settings::default();
        other.restore(&kept);
        assert_eq!(other.keep(), kept);
        assert!(settings.drop_column() && !settings.drop_column());
        assert_eq!(settings.of(0, "service"), "base");
    }

    #[test]
    fn a_fixed_seed_moves_on_with_each_try_and_a_bad_schema_asks_nothing() {
        let mut settings = Settings::default();
        assert_eq!(settings.asked(0, 2).unwrap().sampling.seed, None);
        settings.form.set("seed", "7");
        assert_eq!(settings.asked(0, 2).unwrap().sampling.seed, Some(9));
        settings.form.set("stop", "END | ###");
        assert_eq!(settings.asked(0, 0).unwrap().stop, ["END", "###"]);
        settings.form.set("format", "schema");
        settings.form.set("schema", "{");
        assert!(settings.asked(0, 0).is_none());
    }

    #[test]
    fn presets_of_hone_are_within_the_ranges_of_their_fields() {
        let mirror = crate::mirror::Mirror::default();
        let view = View::plain(&mirror);
        for preset in &PRESETS {
            let mut settings = Settings::default();
            assert!(settings.apply(preset.name));
            // Without services none is chosen: that one field is wrong whatever the preset.
            assert_eq!(settings.form.problems(&view), 1, "{}", preset.name);
        }
    }
}
