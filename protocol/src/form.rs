//! The training form as static data: used by the screens, `--help` and the docs alike, so that a field is
//! described once. Never here: drawing, or the meaning of a value beyond its range.

mod fields;

use crate::dataset::Shape;
use crate::train::{Method, RISE_MAX, SAMPLE_PROMPT_BYTES_MAX, SAMPLES_MAX, TrainParams, TrainSpec, Tuning};

pub use fields::TRAIN_FORM;

/// Which part of the form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartOfForm {
    /// Name, base, method.
    Basics,
    /// How.
    Training,
    /// Rows.
    Data,
    /// What to make of the result.
    Register,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FieldKind {
    /// A name to type or choose.
    Text,
    /// A whole number within bounds.
    Whole {
        /// Lowest.
        low: u64,
        /// Highest.
        high: u64,
    },
    /// A number within bounds, stepped by a factor.
    Real {
        /// Lowest.
        low: f64,
        /// Highest.
        high: f64,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Any of these words, separated by commas.
    Several(&'static [&'static str]),
    /// Texts, separated by [`BETWEEN_TEXTS`]; a list in run files.
    Texts {
        /// Most of them.
        most: usize,
    },
}

impl FieldKind {
    /// Whether it is typed freely: it belongs to a run, not to a way of training.
    pub fn is_text(self) -> bool {
        matches!(self, FieldKind::Text | FieldKind::Texts { .. })
    }
}

/// What stands between the texts of one field.
pub const BETWEEN_TEXTS: &str = " | ";

/// The texts of a field; what is empty is none.
pub fn texts(written: &str) -> Vec<String> {
    written.split(BETWEEN_TEXTS.trim()).map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

/// Texts in both languages: English, Chinese.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Both {
    /// English.
    pub en: &'static str,
    /// Simplified Chinese.
    pub zh: &'static str,
}

/// One field.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Key in run files and on the command line.
    pub key: &'static str,
    /// Where it stands.
    pub part: PartOfForm,
    /// What it holds.
    pub kind: FieldKind,
    /// Its label.
    pub label: Both,
    /// What it is, in one sentence.
    pub about: Both,
    /// What too low does.
    pub too_low: Both,
    /// What too high does.
    pub too_high: Both,
    /// The default, as it is typed.
    pub default: &'static str,
    /// It means something only where each of these other fields has one of its values.
    pub only: &'static [(&'static str, &'static [&'static str])],
}

impl Field {
    /// Whether it means something beside the values of other fields.
    pub fn concerns<'v>(&self, value_of: impl Fn(&str) -> &'v str) -> bool {
        self.only.iter().all(|(key, values)| values.contains(&value_of(key)))
    }
}

/// A text in both languages.
pub const fn both(en: &'static str, zh: &'static str) -> Both {
    Both { en, zh }
}
const NONE: Both = both("", "");

/// Most compute threads that a run may ask for; it has no field in the form, 0 being right but for experiments.
pub const THREADS_MAX: u32 = 256;

/// Models with fewer weights take higher rates.
pub const SMALL_PARAMETERS: u64 = 500_000_000;

/// A default that depends on what is trained.
#[derive(Debug, Clone, Copy)]
pub struct DefaultFor {
    /// The field.
    pub key: &'static str,
    /// For these methods.
    pub methods: &'static [Method],
    /// For this tuning.
    pub tuning: Tuning,
    /// For models below [`SMALL_PARAMETERS`], or for the others; `None` for all.
    pub small: Option<bool>,
    /// The default, as it is typed.
    pub value: &'static str,
}

const fn default_if(
    key: &'static str,
    methods: &'static [Method],
    tuning: Tuning,
    small: Option<bool>,
    value: &'static str,
) -> DefaultFor {
    DefaultFor { key, methods, tuning, small, value }
}

/// Defaults that differ from a field's own; the first that fits counts. Pairs move a model faster than answers do, all of its
/// values faster than an adapter's.
pub const DEFAULTS: &[DefaultFor] = &[
    default_if("learning_rate", &[Method::Sft, Method::Pretrain], Tuning::Full, Some(true), "1e-4"),
    default_if("learning_rate", &[Method::Sft, Method::Pretrain], Tuning::Full, None, "2e-5"),
    default_if("learning_rate", &[Method::Sft], Tuning::Lora, Some(true), "1e-3"),
    default_if("learning_rate", &[Method::Pretrain], Tuning::Lora, Some(true), "5e-4"),
    default_if("learning_rate", &[Method::Dpo, Method::Orpo], Tuning::Lora, Some(true), "2e-4"),
    default_if("learning_rate", &[Method::Dpo, Method::Orpo], Tuning::Lora, None, "5e-5"),
    default_if("epochs", &[Method::Pretrain, Method::Dpo, Method::Orpo], Tuning::Lora, None, "1"),
    default_if("epochs", &[Method::Pretrain], Tuning::Full, None, "1"),
];

/// The default of a field for a method, a tuning and a model of so many weights, as far as that is known.
pub fn default_for(field: &Field, method: Method, tuning: Tuning, parameters: Option<u64>) -> &'static str {
    let small = parameters.map(|parameters| parameters < SMALL_PARAMETERS);
    let fits = |other: &&DefaultFor| {
        other.key == field.key
            && other.methods.contains(&method)
            && other.tuning == tuning
            && (other.small.is_none() || other.small == small)
    };
    DEFAULTS.iter().find(fits).map_or(field.default, |other| other.value)
}

/// Methods that people know and hone does not have, with what to do instead.
pub const ABSENT_METHODS: &[(&str, Both)] = &[
    (
        "grpo",
        both(
            "grpo scores answers while it trains, which is not there; with pairs of answers dpo or orpo learns preferences",
            "grpo 在训练中给回答打分，目前没有；有成对回答时可用 dpo 或 orpo 学习偏好",
        ),
    ),
    (
        "ppo",
        both(
            "ppo scores answers while it trains, which is not there; with pairs of answers dpo or orpo learns preferences",
            "ppo 在训练中给回答打分，目前没有；有成对回答时可用 dpo 或 orpo 学习偏好",
        ),
    ),
    (
        "kto",
        both(
            "kto learns from single judged answers, which is not there; with pairs of answers dpo or orpo learns preferences",
            "kto 从单个已评判的回答学习，目前没有；有成对回答时可用 dpo 或 orpo 学习偏好",
        ),
    ),
    (
        "vision",
        both(
            "training on pictures is not there; texts, chats and preferences are",
            "不能用图片训练；可用文本、对话和偏好",
        ),
    ),
    (
        "audio",
        both(
            "training on sound is not there; texts, chats and preferences are",
            "不能用声音训练；可用文本、对话和偏好",
        ),
    ),
];

/// The field of a key.
pub fn field(key: &str) -> Option<&'static Field> {
    TRAIN_FORM.iter().find(|f| f.key == key)
}

/// Checks a run's numbers against the form's ranges. Returns the key and an English sentence for the first that
/// is outside.
pub fn check(params: &TrainParams) -> Result<(), (&'static str, String)> {
    let values: [(&'static str, f64); 19] = [
        ("dropout", f64::from(params.dropout)),
        ("beta", f64::from(params.beta)),
        ("decay_ratio", f64::from(params.decay_ratio)),
        ("patience", f64::from(params.patience)),
        ("rank", f64::from(params.rank)),
        ("alpha", f64::from(params.alpha)),
        ("learning_rate", f64::from(params.learning_rate)),
        ("warmup_ratio", f64::from(params.warmup_ratio)),
        ("epochs", f64::from(params.epochs)),
        ("steps_max", params.steps_max as f64),
        ("sequence_tokens", f64::from(params.sequence_tokens)),
        ("batch_windows", f64::from(params.batch_windows)),
        ("accumulation", f64::from(params.accumulation)),
        ("weight_decay", f64::from(params.weight_decay)),
        ("clip_norm", f64::from(params.clip_norm)),
        ("evaluate_steps", params.evaluate_steps as f64),
        ("checkpoint_steps", params.checkpoint_steps as f64),
        ("seed", params.seed as f64),
        ("rise_max", f64::from(params.rise_max.unwrap_or(RISE_MAX))),
    ];
    for (key, value) in values {
        let (low, high) = match field(key).map(|f| f.kind) {
            Some(FieldKind::Whole { low, high }) => (low as f64, high as f64),
            // One part in a million of slack: f32 cannot hold 1e-2 exactly.
            Some(FieldKind::Real { low, high }) => (low * (1.0 - 1e-6), high * (1.0 + 1e-6)),
            _ => continue,
        };
        if !(low..=high).contains(&value) {
            return Err((key, format!("{key} is {value}; it must be between {low} and {high}")));
        }
    }
    if params.threads > THREADS_MAX {
        return Err(("threads", format!("threads is {}; it must be between 0 and {THREADS_MAX}", params.threads)));
    }
    let pairs = params.method.shape() == Shape::Preference;
    if params.tuning == Tuning::Full && pairs {
        return Err(("tuning", format!("{} trains adapters: the base must stay beside the run", params.method.word())));
    }
    if params.dropout > 0.0 && pairs {
        return Err((
            "dropout",
            format!("dropout must be 0 for {}: it would blur what is compared", params.method.word()),
        ));
    }
    if params.dropout > 0.0 && params.tuning == Tuning::Full {
        return Err(("dropout", "dropout is of adapters; it must be 0 where the whole model is trained".into()));
    }
    if params.patience > 0 && params.evaluate_steps == 0 {
        return Err(("patience", "patience counts looks at the held-out loss; set evaluate_steps above 0".into()));
    }
    if params.targets.is_empty() {
        return Err(("targets", "targets is empty; name at least one matrix".into()));
    }
    Ok(())
}

/// Checks the prompts that a run answers at its evaluations, as [`check`] does the numbers.
pub fn check_samples(spec: &TrainSpec) -> Result<(), (&'static str, String)> {
    let Some(samples) = &spec.samples else { return Ok(()) };
    let wrong = |message: String| Err(("samples", message));
    if !(1..=SAMPLES_MAX).contains(&samples.len()) {
        return wrong(format!("there are {} sample prompts; 1 to {SAMPLES_MAX} can be answered", samples.len()));
    }
    for (at, prompt) in samples.iter().enumerate() {
        if prompt.trim().is_empty() || prompt.len() > SAMPLE_PROMPT_BYTES_MAX {
            return wrong(format!(
                "sample prompt {} has {} bytes; it must have 1 to {SAMPLE_PROMPT_BYTES_MAX}",
                at + 1,
                prompt.trim().len()
            ));
        }
    }
    if spec.params.evaluate_steps == 0 {
        return wrong("sample prompts are answered at evaluations; set evaluate_steps above 0".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_inside_their_ranges_and_agree_with_the_form() {
        let params = TrainParams::default();
        assert_eq!(check(&params), Ok(()));
        for (key, value) in
            [("rank", params.rank), ("epochs", params.epochs), ("sequence_tokens", params.sequence_tokens)]
        {
            assert_eq!(field(key).unwrap().default, value.to_string(), "{key}");
        }
        let refused = |params: &TrainParams| check(params).unwrap_err().0;
        assert_eq!(refused(&TrainParams { learning_rate: 0.5, ..params.clone() }), "learning_rate");
        assert_eq!(refused(&TrainParams { threads: 257, ..params.clone() }), "threads");
        assert_eq!(refused(&TrainParams { tuning: Tuning::Full, dropout: 0.1, ..params.clone() }), "dropout");
        assert_eq!(refused(&TrainParams { patience: 2, ..params }), "patience");
    }

    #[test]
    fn the_first_default_that_fits_counts_and_is_inside_its_range() {
        let rate = field("learning_rate").unwrap();
        let of = |method, tuning, parameters| default_for(rate, method, tuning, parameters);
        assert_eq!(of(Method::Sft, Tuning::Lora, None), "2e-4");
        assert_eq!(of(Method::Sft, Tuning::Lora, Some(135_000_000)), "1e-3");
        assert_eq!(of(Method::Sft, Tuning::Lora, Some(7_000_000_000)), "2e-4");
        assert_eq!(of(Method::Dpo, Tuning::Lora, None), "5e-5");
        assert_eq!(of(Method::Pretrain, Tuning::Full, Some(135_000_000)), "1e-4");
        for other in DEFAULTS {
            let value: f64 = other.value.parse().unwrap();
            match field(other.key).unwrap().kind {
                FieldKind::Real { low, high } => assert!((low..=high).contains(&value), "{other:?}"),
                FieldKind::Whole { low, high } => assert!((low as f64..=high as f64).contains(&value), "{other:?}"),
                _ => panic!("{other:?}"),
            }
        }
        let Some(FieldKind::Choice(words)) = field("method").map(|f| f.kind) else { panic!() };
        assert!(ABSENT_METHODS.iter().all(|(word, _)| !words.contains(word)));
    }

    #[test]
    fn every_field_speaks_both_languages() {
        for field in TRAIN_FORM {
            assert!(!field.label.zh.is_empty() && !field.about.zh.is_empty(), "{}", field.key);
            assert_eq!(field.too_low.en.is_empty(), field.too_low.zh.is_empty(), "{}", field.key);
            assert_eq!(field.too_high.en.is_empty(), field.too_high.zh.is_empty(), "{}", field.key);
        }
    }
}
