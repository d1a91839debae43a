//! Training runs as people write them: a TOML file, flags, or both, checked field by field against the form.
//! Never here: what a field means, which is in `protocol::form`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use hone_protocol::catalogue::Language;
use hone_protocol::dataset::Split;
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::form::{self, Both, Field, FieldKind, PartOfForm, TRAIN_FORM};
use hone_protocol::model::ModelView;
use hone_protocol::train::{Method, Register, Replay, TrainParams, TrainSpec, Tuning};
use serde_json::{Value, json};

use super::dataset::{HELD_OUT_PERCENT, SPLIT_SEED};

/// Keys beside the form's: they have no field there, and are text or whole numbers.
const BESIDE_THE_FORM: [&str; 3] = ["alias", "split_seed", "threads"];
/// Share of mixed-in rows when none is written.
const REPLAY_PERCENT: u32 = 10;
/// Tables of a run file; they only group, a key means the same in each and outside.
const TABLES: [&str; 4] = ["basics", "training", "data", "register"];

/// A value as it was written, with where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    pub text: String,
    pub place: String,
}

/// Values by key.
pub(super) type Values = BTreeMap<String, Written>;

/// Flags as the form has them: `learning_rate` is `--learning-rate`.
static FLAGS: LazyLock<Vec<String>> = LazyLock::new(|| TRAIN_FORM.iter().map(|f| f.key.replace('_', "-")).collect());

/// One flag for each field of the training form.
#[derive(Debug, Clone, Default)]
pub(super) struct FormFlags {
    pub values: Values,
}

impl Args for FormFlags {
    fn augment_args(command: Command) -> Command {
        TRAIN_FORM.iter().zip(FLAGS.iter()).fold(command, |command, (field, flag)| {
            let arg = Arg::new(field.key)
                .long(flag.as_str())
                .alias(field.key)
                .value_name(value_name(field.kind))
                // A negative number is a value out of range, not another flag.
                .allow_hyphen_values(matches!(field.kind, FieldKind::Whole { .. } | FieldKind::Real { .. }))
                .help(help(field, Language::En))
                .help_heading(heading(field.part));
            command.arg(arg)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for FormFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = FormFlags::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for (field, flag) in TRAIN_FORM.iter().zip(FLAGS.iter()) {
            if let Some(text) = matches.get_one::<String>(field.key) {
                let written = Written { text: text.clone(), place: format!("--{flag}") };
                self.values.insert(field.key.to_owned(), written);
            }
        }
        Ok(())
    }
}

fn value_name(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::Text => "NAME",
        FieldKind::Texts { .. } => "TEXTS",
        FieldKind::Whole { .. } => "N",
        FieldKind::Real { .. } => "X",
        FieldKind::Choice(_) => "WORD",
        FieldKind::Several(_) => "WORDS",
    }
}

/// The help of a field: what it is, its range, its default.
pub(super) fn help(field: &Field, language: Language) -> String {
    let (colon, range_word, default_word, by_method) = match language {
        Language::En => (": ", "range", "default", ", or what fits the method and the model's size"),
        Language::Zh => ("：", "范围", "默认", "，或适合方法与模型大小的值"),
    };
    let range = match field.kind {
        FieldKind::Text | FieldKind::Texts { .. } => String::new(),
        FieldKind::Whole { low, high: u64::MAX } => format!(" [{range_word}{colon}{low}..]"),
        FieldKind::Whole { low, high } => format!(" [{range_word}{colon}{low}..{high}]"),
        FieldKind::Real { low, high } => format!(" [{range_word}{colon}{low}..{high}]"),
        FieldKind::Choice(words) | FieldKind::Several(words) => format!(" [{}]", words.join("|")),
    };
    let others = form::DEFAULTS.iter().filter(|other| other.key == field.key && other.value != field.default);
    let more = if others.count() > 0 { by_method } else { "" };
    let default = match field.default {
        "" => String::new(),
        default => format!(" [{default_word}{colon}{default}{more}]"),
    };
    format!("{}{range}{default}", say(field.about, language))
}

/// The heading of a part of the form, in English; `tree` translates headings.
fn heading(part: PartOfForm) -> &'static str {
    match part {
        PartOfForm::Basics => "Basics",
        PartOfForm::Training => "Training",
        PartOfForm::Data => "Data",
        PartOfForm::Register => "Register",
    }
}

fn say(both: Both, language: Language) -> &'static str {
    match language {
        Language::En => both.en,
        Language::Zh => both.zh,
    }
}

/// Reads a run file. Keys stand at the top or in one of the tables of the form; each value keeps its line.
pub(super) fn read(path: &str) -> Result<Values, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::new(FailureCode::FileUnreadable, format!("the run file cannot be read: {e}")).at(path))?;
    parse(path, &text)
}

fn parse(path: &str, text: &str) -> Result<Values, Failure> {
    let line = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
    let bad = |at: usize, message: String| {
        Failure::new(FailureCode::InvalidField, message).at(format!("{path}:{}", line(at))).hint(HintCode::CorrectField)
    };
    let table = toml::de::DeTable::parse(text)
        .map_err(|e| bad(e.span().map_or(0, |span| span.start), e.message().to_owned()))?;
    // The parser keeps keys by name; people read, and are told of mistakes, by line.
    let mut entries = Vec::new();
    for (key, value) in table.get_ref() {
        match value.get_ref() {
            toml::de::DeValue::Table(inner) if TABLES.contains(&key.get_ref().as_ref()) => entries.extend(inner),
            _ => entries.push((key, value)),
        }
    }
    entries.sort_by_key(|(key, _)| key.span().start);
    let mut values = Values::new();
    for (key, value) in entries {
        let name = key.get_ref().as_ref();
        let at = key.span().start;
        if form::field(name).is_none() && !BESIDE_THE_FORM.contains(&name) {
            return Err(bad(at, format!("{name:?} is no field of the training form; the fields are {}", all_keys())));
        }
        let between = match form::field(name).map(|field| field.kind) {
            Some(FieldKind::Texts { .. }) => form::BETWEEN_TEXTS,
            _ => ",",
        };
        let text = scalar(value.get_ref(), between)
            .ok_or_else(|| bad(at, format!("{name} must be a text, a number, or a list of texts")))?;
        let place = format!("{path}:{}: {name}", line(at));
        if values.insert(name.to_owned(), Written { text, place }).is_some() {
            return Err(bad(at, format!("{name} stands twice")));
        }
    }
    Ok(values)
}

fn all_keys() -> String {
    TRAIN_FORM.iter().map(|f| f.key).chain(BESIDE_THE_FORM).collect::<Vec<_>>().join(", ")
}

/// A value as text; what a list holds is joined by `between`.
fn scalar(value: &toml::de::DeValue<'_>, between: &str) -> Option<String> {
    use toml::de::DeValue;
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => {
            // Hexadecimal and underscores are TOML's; the form reads plain digits.
            i128::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok().map(|n| n.to_string())
        }
        DeValue::Float(number) => Some(number.as_str().replace('_', "")),
        DeValue::Array(items) => {
            let words: Option<Vec<String>> = items.iter().map(|item| scalar(item.get_ref(), between)).collect();
            words.map(|words| words.join(between))
        }
        DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

/// The specification that the values stand for; fields that are not written have the defaults of method, tuning and a model of
/// so many weights.
pub(super) fn spec(values: &Values, parameters: Option<u64>) -> Result<TrainSpec, Failure> {
    let text = |key: &str| values.get(key).map_or("", |w| w.text.trim()).to_owned();
    for key in ["base", "dataset"] {
        if text(key).is_empty() {
            return Err(Failure::field(key, format!("{key} is missing; a training run needs --base and --dataset")));
        }
    }
    let mut params = serde_json::to_value(TrainParams::default()).unwrap_or_else(|_| json!({}));
    for (key, default) in defaults(values, parameters)? {
        if let Some(slot) = params.get_mut(key) {
            *slot = value(key, &Written { text: default.to_owned(), place: key.to_owned() })?;
        }
    }
    let mut split = Split { held_out_percent: HELD_OUT_PERCENT, seed: SPLIT_SEED };
    let mut percent = REPLAY_PERCENT;
    let mut samples: Option<Vec<String>> = None;
    for (key, written) in values {
        let value = value(key, written)?;
        match key.as_str() {
            "held_out_percent" => {
                split.held_out_percent = value.as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
            }
            "replay_percent" => percent = value.as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
            "samples" => samples = serde_json::from_value(value).ok().filter(|texts: &Vec<String>| !texts.is_empty()),
            "split_seed" => split.seed = value.as_u64().unwrap_or(SPLIT_SEED),
            _ => {
                if let Some(slot) = params.get_mut(key) {
                    *slot = value;
                }
            }
        }
    }
    let params: TrainParams = serde_json::from_value(params)
        .map_err(|e| Failure::new(FailureCode::InvalidField, e.to_string()).hint(HintCode::CorrectField))?;
    let refused = |(key, message): (&'static str, String)| {
        let place = values.get(key).map_or_else(|| key.to_owned(), |w| w.place.clone());
        Failure::field(key, message).at(place)
    };
    form::check(&params).map_err(refused)?;
    let register = match text("model") {
        model if model.is_empty() => {
            if let Some(written) =
                ["publish", "alias"].iter().find_map(|k| values.get(*k)).filter(|w| !w.text.is_empty())
            {
                let message = "only a registered version can be published or get an alias; say --model NAME too";
                return Err(Failure::field("model", message).at(written.place.clone()));
            }
            None
        }
        model => Some(Register { model, alias: text("alias"), publish: text("publish") }),
    };
    let replay = Some(text("replay")).filter(|name| !name.is_empty()).map(|dataset| Replay { dataset, percent });
    if let (None, Some(written)) = (&replay, values.get("replay_percent")) {
        let message = "nothing is mixed in; name a dataset with --replay NAME too";
        return Err(Failure::field("replay", message).at(written.place.clone()));
    }
    let (base, dataset) = (text("base"), text("dataset"));
    let spec = TrainSpec { base, params, dataset, split, replay, samples, register, draft_consent: None };
    form::check_samples(&spec).map_err(refused)?;
    Ok(spec)
}

/// Weights of the base that the values name, by `name`, `name@number` or `name:alias`; `None` where it is not known.
pub(super) fn base_parameters(values: &Values, models: &[ModelView]) -> Option<u64> {
    let reference = values.get("base")?.text.trim();
    let name = reference.split(['@', ':']).next().unwrap_or_default();
    let model = models.iter().find(|model| model.record.name == name)?;
    let version = model.versions.iter().find(|version| version.reference == reference).or(model.versions.last())?;
    Some(version.record.facts.parameters)
}

/// Why a method that people know is not there.
fn absent(word: &str) -> Option<&'static str> {
    form::ABSENT_METHODS.iter().find(|(known, _)| *known == word).map(|(_, why)| why.en)
}

/// Defaults that depend on what is trained.
fn defaults(values: &Values, parameters: Option<u64>) -> Result<Vec<(&'static str, &'static str)>, Failure> {
    let typed = |key: &str| values.get(key).map(|written| value(key, written)).transpose();
    let method = typed("method")?.and_then(|word| serde_json::from_value(word).ok()).unwrap_or(Method::Sft);
    let tuning = typed("tuning")?.and_then(|word| serde_json::from_value(word).ok()).unwrap_or(Tuning::Lora);
    let keys = form::DEFAULTS.iter().filter_map(|other| form::field(other.key));
    Ok(keys.map(|field| (field.key, form::default_for(field, method, tuning, parameters))).collect())
}

/// One value, checked against its field's kind and range.
fn value(key: &str, written: &Written) -> Result<Value, Failure> {
    let text = written.text.trim();
    let wrong = |message: String| Failure::field(key, message).at(written.place.clone());
    let kind = form::field(key).map_or_else(
        || match key {
            "threads" => FieldKind::Whole { low: 0, high: 1024 },
            "split_seed" => FieldKind::Whole { low: 0, high: u64::MAX },
            _ => FieldKind::Text,
        },
        |field| field.kind,
    );
    match kind {
        FieldKind::Text => Ok(json!(text)),
        FieldKind::Texts { .. } => Ok(json!(form::texts(text))),
        FieldKind::Whole { low, high } => match text.parse::<u64>() {
            Ok(number) if (low..=high).contains(&number) => Ok(json!(number)),
            Ok(number) => Err(wrong(format!("{key} is {number}; it must be between {low} and {high}"))),
            Err(_) => Err(wrong(format!("{key} is {text:?}; it must be a whole number between {low} and {high}"))),
        },
        FieldKind::Real { low, high } => match text.parse::<f64>() {
            Ok(number) if (low..=high).contains(&number) => Ok(json!(number)),
            Ok(number) => Err(wrong(format!("{key} is {number}; it must be between {low} and {high}"))),
            Err(_) => Err(wrong(format!("{key} is {text:?}; it must be a number between {low} and {high}"))),
        },
        FieldKind::Choice(words) if words.contains(&text) => Ok(json!(text)),
        FieldKind::Choice(_) if key == "method" && absent(text).is_some() => {
            Err(wrong(absent(text).unwrap_or_default().to_owned()))
        }
        FieldKind::Choice(words) => Err(wrong(format!("{key} is {text:?}; it must be one of {}", words.join(", ")))),
        FieldKind::Several(words) => {
            let chosen: Vec<&str> = text.split(',').map(str::trim).filter(|w| !w.is_empty()).collect();
            match chosen.iter().find(|word| !words.contains(word)) {
                Some(word) => Err(wrong(format!("{key} has {word:?}; it may have {}", words.join(", ")))),
                None => Ok(json!(chosen)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hone_protocol::train::{Schedule, Target};

    fn written(pairs: &[(&str, &str)]) -> Values {
        pairs
            .iter()
            .map(|(key, text)| ((*key).into(), Written { text: (*text).into(), place: format!("--{key}") }))
            .collect()
    }

    #[test]
    fn a_run_file_and_its_tables() {
        let file = "base = \"smol\"\ndataset = \"desk@2\"\n\n[training]\nrank = 0x10\nlearning_rate = 1e-3\n\
                    targets = [\"q\", \"v\"]\nschedule = \"linear\"\n[register]\nmodel = \"support\"\nalias = \"live\"\n";
        let spec = spec(&parse("run.toml", file).unwrap(), None).unwrap();
        assert_eq!((spec.base.as_str(), spec.dataset.as_str()), ("smol", "desk@2"));
        assert_eq!((spec.params.rank, spec.params.schedule), (16, Schedule::Linear));
        assert_eq!(spec.params.targets, [Target::Q, Target::V]);
        assert!((spec.params.learning_rate - 1e-3).abs() < 1e-9);
        assert_eq!(spec.split, Split { held_out_percent: 15, seed: 42 });
        assert_eq!(
            spec.register.unwrap(),
            Register { model: "support".into(), alias: "live".into(), publish: String::new() }
        );
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (text, place, part) in [
            ("rank = 8\nranks = 8\n", "run.toml:2", "no field"),
            ("a = \n", "run.toml:1", ""),
            ("rank = true\n", "run.toml:1", "must be a text"),
            ("[training]\nrank = 8\n[data]\nrank = 9\n", "run.toml:4", "twice"),
        ] {
            let failure = parse("run.toml", text).unwrap_err();
            assert_eq!(failure.place, place, "{text}");
            assert!(failure.message_en.contains(part), "{text}: {}", failure.message_en);
        }
        let values = parse("run.toml", "base='a'\ndataset='b'\nrank = 999\n").unwrap();
        let failure = spec(&values, None).unwrap_err();
        assert_eq!((failure.place.as_str(), failure.code), ("run.toml:3: rank", FailureCode::InvalidField));
    }

    #[test]
    fn values_out_of_range_or_kind_are_refused() {
        for (key, text) in [
            ("rank", "0"),
            ("rank", "-1"),
            ("rank", "x"),
            ("learning_rate", "NaN"),
            ("learning_rate", "1"),
            ("schedule", "step"),
            ("targets", "q,x"),
            ("targets", ""),
            ("held_out_percent", "91"),
            ("publish", "svc"),
        ] {
            let values = written(&[("base", "a"), ("dataset", "b"), (key, text)]);
            assert_eq!(spec(&values, None).unwrap_err().code, FailureCode::InvalidField, "{key}={text}");
        }
        assert!(spec(&written(&[("base", "a")]), None).unwrap_err().message_en.contains("dataset is missing"));
    }

    #[test]
    fn defaults_follow_method_tuning_and_size_and_absent_methods_are_explained() {
        let rate = |pairs: &[(&str, &str)], parameters| {
            let mut all = vec![("base", "a"), ("dataset", "b")];
            all.extend(pairs);
            let params = spec(&written(&all), parameters).unwrap().params;
            (params.learning_rate, params.epochs)
        };
        assert_eq!(rate(&[], None), (2e-4, 2));
        assert_eq!(rate(&[], Some(135_000_000)), (1e-3, 2));
        assert_eq!(rate(&[("method", "dpo")], Some(8_000_000_000)), (5e-5, 1));
        assert_eq!(rate(&[("method", "dpo"), ("learning_rate", "3e-4"), ("epochs", "3")], None), (3e-4, 3));
        assert_eq!(rate(&[("tuning", "full")], Some(8_000_000_000)), (2e-5, 2));
        let grpo = spec(&written(&[("base", "a"), ("dataset", "b"), ("method", "grpo")]), None).unwrap_err();
        assert!(grpo.message_en.contains("dpo or orpo learns preferences"), "{grpo}");
    }

    /// A field that is added to the form without a home here would be dropped in silence.
    #[test]
    fn every_field_of_the_form_reaches_the_specification() {
        let other = |field: &Field| match field.kind {
            FieldKind::Text | FieldKind::Texts { .. } => "other".to_owned(),
            FieldKind::Whole { low, .. } => (low + 2).to_string(),
            FieldKind::Real { high, .. } => (high / 2.0).to_string(),
            FieldKind::Choice(words) => words.iter().find(|w| **w != field.default).unwrap().to_string(),
            FieldKind::Several(words) => words[0].to_owned(),
        };
        let basic = [("base", "a"), ("dataset", "b"), ("model", "m"), ("replay", "r"), ("evaluate_steps", "5")];
        let default = spec(&written(&basic), None).unwrap();
        for (key, text) in TRAIN_FORM.iter().map(|f| (f.key, other(f))).chain(BESIDE_THE_FORM.map(|k| (k, "7".into())))
        {
            let mut values = written(&basic);
            values.extend(written(&[(key, &text)]));
            assert_ne!(spec(&values, None).unwrap(), default, "{key}={text}");
        }
    }
}
