//! The draft of a training run: the form's fields made from the schema, presets as differences, and the way between
//! values as typed and a specification. Never here: drawing, or a range (those are the schema's).

use hone_protocol::dataset::Split;
use hone_protocol::form::{BETWEEN_TEXTS, DEFAULTS, PartOfForm, TRAIN_FORM, default_for, texts};
use hone_protocol::job::{JobSpec, ShownState};
use hone_protocol::train::{
    Method, RISE_MAX, Register, Replay, Scaling, Schedule, Target, TooLong, TrainParams, TrainSpec, Tuning,
};

use crate::screens::View;
use crate::widgets::form::{Form, FormField, Rule, Stride};
use crate::widgets::number::typed;

/// Seed of the split when nothing else is known. The command line has the same, so that a suite made there judges
/// rows that a run started here has not seen.
pub(crate) const SPLIT_SEED: u64 = 42;

/// Fields that rarely matter; they are behind "more".
const FOLDED: [&str; 19] = [
    "alpha",
    "scaling",
    "dropout",
    "decay_ratio",
    "patience",
    "samples",
    "rise_max",
    "replay",
    "replay_percent",
    "targets",
    "schedule",
    "warmup_ratio",
    "steps_max",
    "too_long",
    "accumulation",
    "weight_decay",
    "clip_norm",
    "seed",
    "checkpoint_steps",
];

/// A named set of values; what it does not name has its default.
pub(crate) struct Preset {
    /// Catalogue key of its name.
    pub(crate) name: &'static str,
    /// Field and value, as typed.
    pub(crate) values: &'static [(&'static str, &'static str)],
}

/// All presets; `p` goes through them. Meant for small models on a few cores: short windows, several at once.
pub(crate) const PRESETS: &[Preset] = &[
    Preset {
        name: "preset.balanced",
        values: &[("epochs", "2"), ("sequence_tokens", "128"), ("batch_windows", "4"), ("evaluate_steps", "20")],
    },
    Preset {
        name: "preset.quick",
        values: &[
            ("epochs", "1"),
            ("steps_max", "30"),
            ("sequence_tokens", "128"),
            ("batch_windows", "4"),
            ("evaluate_steps", "10"),
        ],
    },
    Preset {
        name: "preset.thorough",
        values: &[
            ("rank", "16"),
            ("alpha", "32"),
            ("epochs", "4"),
            ("sequence_tokens", "256"),
            ("batch_windows", "4"),
            ("evaluate_steps", "25"),
        ],
    },
    Preset {
        name: "preset.texts",
        values: &[
            ("method", "pretrain"),
            ("rank", "16"),
            ("alpha", "32"),
            ("sequence_tokens", "256"),
            ("batch_windows", "2"),
            ("evaluate_steps", "25"),
        ],
    },
    Preset {
        name: "preset.preferences",
        values: &[("method", "dpo"), ("sequence_tokens", "256"), ("batch_windows", "2"), ("evaluate_steps", "20")],
    },
    Preset {
        name: "preset.full",
        values: &[("tuning", "full"), ("sequence_tokens", "256"), ("batch_windows", "2"), ("evaluate_steps", "25")],
    },
    Preset { name: "preset.defaults", values: &[] },
];

/// The draft.
#[derive(Debug)]
pub(crate) struct Draft {
    /// The fields.
    pub(crate) form: Form,
    /// Index in [`PRESETS`].
    pub(crate) preset: usize,
    split_seed: u64,
    alias: String,
    threads: u32,
    /// Weights of the base, as far as they are known.
    parameters: Option<u64>,
}

fn section(part: PartOfForm) -> &'static str {
    match part {
        PartOfForm::Basics => "form.basics",
        PartOfForm::Training => "form.training",
        PartOfForm::Data => "form.data",
        PartOfForm::Register => "form.register",
    }
}

fn stride(key: &str) -> Stride {
    match key {
        "rank" | "alpha" | "sequence_tokens" | "batch_windows" | "accumulation" => Stride::Double,
        "learning_rate" => Stride::Decade,
        "warmup_ratio" | "weight_decay" | "dropout" | "decay_ratio" => Stride::Add(0.01),
        "beta" => Stride::Add(0.05),
        "held_out_percent" | "replay_percent" => Stride::Add(5.0),
        "evaluate_steps" | "checkpoint_steps" | "steps_max" => Stride::Add(10.0),
        "clip_norm" => Stride::Add(0.5),
        _ => Stride::Add(1.0),
    }
}

fn rule(key: &str) -> Rule {
    match key {
        "base" | "dataset" => Rule::OneOf,
        "replay" => Rule::OneOfOrEmpty,
        "model" | "publish" => Rule::NameOrEmpty,
        _ => Rule::Free,
    }
}

impl Default for Draft {
    fn default() -> Self {
        let fields = TRAIN_FORM.iter().map(|field| FormField {
            key: field.key,
            section: section(field.part),
            label: field.label,
            about: field.about,
            too_low: field.too_low,
            too_high: field.too_high,
            kind: field.kind,
            stride: stride(field.key),
            rule: rule(field.key),
            default: field.default.to_owned(),
            value: field.default.to_owned(),
            options: Vec::new(),
            last_good: String::new(),
            folded: FOLDED.contains(&field.key),
            only: field.only,
        });
        // Not of the run itself: where it computes, and who pays. They show where there is a choice.
        let around = [("pool", "field.pool", "field.pool.about"), ("payer", "field.payer", "field.payer.about")];
        let around = around.map(|(key, label, about)| FormField {
            folded: true,
            ..FormField::text(key, "form.around", label, about).rule(Rule::OneOfOrEmpty)
        });
        let mut draft = Draft {
            form: Form::new(fields.chain(around).collect()),
            preset: 0,
            split_seed: SPLIT_SEED,
            alias: String::new(),
            threads: 0,
            parameters: None,
        };
        draft.apply_preset(0);
        draft
    }
}

impl Draft {
    /// Sets the training values of a preset; base, data and names stay.
    pub(crate) fn apply_preset(&mut self, index: usize) {
        self.preset = index % PRESETS.len();
        for field in TRAIN_FORM.iter().filter(|f| !f.kind.is_text()) {
            self.form.set(field.key, field.default);
        }
        let values = PRESETS[self.preset].values;
        for (key, value) in values {
            self.form.set(key, *value);
        }
        self.renew_defaults();
        for field in self.form.fields.iter_mut().filter(|f| !f.kind.is_text()) {
            if values.iter().all(|(key, _)| *key != field.key) {
                field.value.clone_from(&field.default);
            }
        }
    }

    /// Takes the defaults of the chosen method, tuning and base; a value that was its field's default follows.
    fn renew_defaults(&mut self) {
        let (method, tuning) = (self.method(), self.tuning());
        for field in &mut self.form.fields {
            let Some(known) = TRAIN_FORM.iter().find(|known| known.key == field.key) else { continue };
            let default = default_for(known, method, tuning, self.parameters);
            if field.default != default {
                if field.value == field.default {
                    default.clone_into(&mut field.value);
                }
                default.clone_into(&mut field.default);
            }
        }
    }

    fn method(&self) -> Method {
        match self.form.value("method") {
            "pretrain" => Method::Pretrain,
            "dpo" => Method::Dpo,
            "orpo" => Method::Orpo,
            _ => Method::Sft,
        }
    }

    fn tuning(&self) -> Tuning {
        let concerns = self.form.fields.iter().any(|field| field.key == "tuning" && self.form.concerns(field));
        if concerns && self.form.value("tuning") == "full" { Tuning::Full } else { Tuning::Lora }
    }

    /// Fields whose value is not the preset's: key, the preset's value, the value.
    pub(crate) fn changes(&self) -> Vec<(&FormField, String)> {
        let of_preset = |field: &FormField| {
            let set = PRESETS[self.preset].values.iter().find(|(key, _)| *key == field.key);
            set.map_or_else(|| field.default.clone(), |(_, value)| (*value).to_owned())
        };
        let typed = self.form.fields.iter().filter(|f| !f.kind.is_text());
        typed
            .filter(|f| self.form.concerns(f))
            .map(|f| (f, of_preset(f)))
            .filter(|(f, preset)| f.value != *preset)
            .collect()
    }

    /// Fills in what is known: names to choose from, the only sensible values, what the last good run used.
    pub(crate) fn fill_in(&mut self, view: &View<'_>) {
        let bases: Vec<String> = crate::screens::base_names(view);
        let datasets: Vec<String> = view.mirror.datasets().iter().map(|d| d.record.name.clone()).collect();
        let models: Vec<String> = view.mirror.models().iter().map(|m| m.record.name.clone()).collect();
        if self.form.value("base").is_empty() {
            self.form.set("base", bases.last().cloned().unwrap_or_default());
        }
        if self.form.value("dataset").is_empty() {
            self.form.set("dataset", datasets.last().cloned().unwrap_or_default());
        }
        self.form.offer("base", bases);
        self.form.offer("pool", crate::screens::pool_names(view));
        self.form.offer("payer", view.mirror.applications().iter().map(|a| a.record.name.clone()).collect());
        let has_choice = view.mirror.pools().len() > 1;
        if let Some(field) = self.form.fields.iter_mut().find(|field| field.key == "pool") {
            field.folded = !has_choice;
        }
        self.parameters = parameters(view, self.form.value("base"));
        self.renew_defaults();
        let with_versions = view.mirror.datasets().iter().flat_map(|d| {
            let name = d.record.name.clone();
            std::iter::once(name.clone()).chain(d.versions.iter().rev().map(move |v| format!("{name}@{}", v.number)))
        });
        let with_versions: Vec<String> = with_versions.collect();
        self.form.offer("replay", with_versions.clone());
        self.form.offer("dataset", with_versions);
        self.form.offer("model", models);
        let last_good = view.mirror.runs().find(|r| r.shown == ShownState::Succeeded);
        if let Some(JobSpec::Train(spec)) = last_good.map(|r| &r.record.spec) {
            let used = values(spec);
            for field in &mut self.form.fields {
                if let Some((_, value)) = used.iter().find(|(key, _)| *key == field.key) {
                    field.last_good.clone_from(value);
                }
            }
        }
    }

    /// The pool that was chosen; none for `local`.
    pub(crate) fn pool(&self) -> Option<String> {
        Some(self.form.value("pool").to_owned()).filter(|pool| !pool.is_empty())
    }

    /// Who is to pay; none for the owner.
    pub(crate) fn payer(&self) -> Option<String> {
        Some(self.form.value("payer").to_owned()).filter(|payer| !payer.is_empty())
    }

    /// What the command line says of both.
    pub(crate) fn flags(&self) -> String {
        let flag =
            |name: &str, value: Option<String>| value.map_or(String::new(), |v| format!(" --{name} {}", quoted(&v)));
        flag("pool", self.pool()) + &flag("payer", self.payer())
    }

    /// Proposes a name for the result; only when the form is opened, because a name may be taken away on purpose.
    pub(crate) fn name_result(&mut self) {
        if self.form.value("model").is_empty() && !self.form.value("dataset").is_empty() {
            let plain = self.form.value("dataset").split('@').next().unwrap_or_default().to_owned();
            self.form.set("model", format!("{plain}-tuned"));
        }
    }

    /// Takes the settings of another run.
    pub(crate) fn copy_from(&mut self, spec: &TrainSpec) {
        for (key, value) in values(spec) {
            self.form.set(key, value);
        }
        self.split_seed = spec.split.seed;
        self.threads = spec.params.threads;
        self.alias = spec.register.as_ref().map(|r| r.alias.clone()).unwrap_or_default();
    }

    /// The specification, when every number is one. Ranges are the form's business.
    pub(crate) fn spec(&self) -> Option<TrainSpec> {
        let form = &self.form;
        // What the method has no use for stays as typed, for another method, and is not said.
        let concerns =
            |key: &str| form.fields.iter().find(|field| field.key == key).is_some_and(|field| form.concerns(field));
        let targets: Option<Vec<Target>> = form
            .value("targets")
            .split(',')
            .map(|word| Target::ALL.into_iter().find(|t| t.word() == word.trim()))
            .collect();
        let params = TrainParams {
            rank: form.number("rank")?,
            alpha: form.number("alpha")?,
            method: self.method(),
            tuning: self.tuning(),
            scaling: if form.value("scaling") == "root_rank" { Scaling::RootRank } else { Scaling::Rank },
            dropout: if concerns("dropout") { form.number("dropout")? } else { 0.0 },
            beta: if concerns("beta") { form.number("beta")? } else { TrainParams::default().beta },
            decay_ratio: form.number("decay_ratio")?,
            patience: form.number("patience")?,
            rise_max: Some(form.number("rise_max")?).filter(|rise| *rise != RISE_MAX),
            targets: targets?,
            learning_rate: form.number("learning_rate")?,
            schedule: match form.value("schedule") {
                "linear" => Schedule::Linear,
                "constant" => Schedule::Constant,
                "wsd" => Schedule::Wsd,
                _ => Schedule::Cosine,
            },
            warmup_ratio: form.number("warmup_ratio")?,
            epochs: form.number("epochs")?,
            steps_max: form.number("steps_max")?,
            sequence_tokens: form.number("sequence_tokens")?,
            too_long: if form.value("too_long") == "cut" { TooLong::Cut } else { TooLong::LeaveOut },
            batch_windows: form.number("batch_windows")?,
            accumulation: form.number("accumulation")?,
            weight_decay: form.number("weight_decay")?,
            clip_norm: form.number("clip_norm")?,
            evaluate_steps: form.number("evaluate_steps")?,
            checkpoint_steps: form.number("checkpoint_steps")?,
            seed: form.number("seed")?,
            threads: self.threads,
        };
        let register = (!form.value("model").is_empty()).then(|| Register {
            model: form.value("model").to_owned(),
            alias: self.alias.clone(),
            publish: form.value("publish").to_owned(),
        });
        Some(TrainSpec {
            base: form.value("base").to_owned(),
            params,
            dataset: form.value("dataset").to_owned(),
            replay: (concerns("replay") && !form.value("replay").is_empty()).then_some(Replay {
                dataset: form.value("replay").to_owned(),
                percent: form.number("replay_percent")?,
            }),
            samples: Some(texts(form.value("samples"))).filter(|samples| !samples.is_empty()),
            split: Split { held_out_percent: form.number("held_out_percent")?, seed: self.split_seed },
            register,
            draft_consent: None,
        })
    }
}

/// Weights of a model version, by `name`, `name@number` or `name:alias`.
fn parameters(view: &View<'_>, reference: &str) -> Option<u64> {
    let name = reference.split(['@', ':']).next().unwrap_or_default();
    let model = view.mirror.models().iter().find(|model| model.record.name == name)?;
    let version = model.versions.iter().find(|version| version.reference == reference).or(model.versions.last())?;
    Some(version.record.facts.parameters)
}

/// A specification as the form's values.
pub(crate) fn values(spec: &TrainSpec) -> Vec<(&'static str, String)> {
    let p = &spec.params;
    let real = |v: f32| typed(f64::from(v));
    let targets: Vec<&str> = p.targets.iter().map(|t| t.word()).collect();
    let schedule = match p.schedule {
        Schedule::Linear => "linear",
        Schedule::Cosine => "cosine",
        Schedule::Constant => "constant",
        Schedule::Wsd => "wsd",
    };
    let scaling = match p.scaling {
        Scaling::Rank => "rank",
        Scaling::RootRank => "root_rank",
    };
    let replay = spec.replay.clone().unwrap_or(Replay { dataset: String::new(), percent: 10 });
    let too_long = match p.too_long {
        TooLong::LeaveOut => "leave_out",
        TooLong::Cut => "cut",
    };
    let register = |f: fn(&Register) -> &String| spec.register.as_ref().map(|r| f(r).clone()).unwrap_or_default();
    vec![
        ("base", spec.base.clone()),
        ("method", p.method.word().to_owned()),
        ("tuning", p.tuning.word().to_owned()),
        ("beta", real(p.beta)),
        ("rank", p.rank.to_string()),
        ("alpha", real(p.alpha)),
        ("scaling", scaling.to_owned()),
        ("dropout", real(p.dropout)),
        ("targets", targets.join(",")),
        ("learning_rate", real(p.learning_rate)),
        ("schedule", schedule.to_owned()),
        ("warmup_ratio", real(p.warmup_ratio)),
        ("decay_ratio", real(p.decay_ratio)),
        ("epochs", p.epochs.to_string()),
        ("steps_max", p.steps_max.to_string()),
        ("sequence_tokens", p.sequence_tokens.to_string()),
        ("too_long", too_long.to_owned()),
        ("batch_windows", p.batch_windows.to_string()),
        ("accumulation", p.accumulation.to_string()),
        ("weight_decay", real(p.weight_decay)),
        ("clip_norm", real(p.clip_norm)),
        ("seed", p.seed.to_string()),
        ("dataset", spec.dataset.clone()),
        ("replay", replay.dataset),
        ("replay_percent", replay.percent.to_string()),
        ("held_out_percent", spec.split.held_out_percent.to_string()),
        ("evaluate_steps", p.evaluate_steps.to_string()),
        ("patience", p.patience.to_string()),
        ("samples", spec.samples.clone().unwrap_or_default().join(BETWEEN_TEXTS)),
        ("rise_max", real(p.rise_max.unwrap_or(RISE_MAX))),
        ("checkpoint_steps", p.checkpoint_steps.to_string()),
        ("model", register(|r| &r.model)),
        ("publish", register(|r| &r.publish)),
    ]
}

/// A text as a shell reads it back.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The command that does the same as the form. What the command line would take by itself is left out, but for what it takes
/// by the size of a model.
pub(crate) fn command(spec: &TrainSpec) -> String {
    let (method, tuning) = (spec.params.method, spec.params.tuning);
    let by_size = |key| DEFAULTS.iter().any(|other| other.key == key && other.small.is_some());
    let fields = values(spec);
    let mut out = "hone train start".to_owned();
    for (key, value) in fields {
        let default = TRAIN_FORM.iter().find(|f| f.key == key).map_or("", |f| default_for(f, method, tuning, None));
        if (value != default || by_size(key)) && !value.is_empty() {
            let value = if key == "samples" { quoted(&value) } else { value };
            out.push_str(&format!(" \\\n  --{} {value}", key.replace('_', "-")));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::Mirror;

    #[test]
    fn every_field_of_the_schema_reaches_the_specification_and_comes_back() {
        let mut mirror = Mirror::default();
        mirror.replace(crate::screens::sample::filled());
        let mut draft = Draft::default();
        draft.fill_in(&View::plain(&mirror));
        let spec = draft.spec().unwrap();
        let back = values(&spec);
        for field in TRAIN_FORM {
            let value = back.iter().find(|(key, _)| *key == field.key).map(|(_, v)| v.as_str());
            assert_eq!(value, Some(draft.form.value(field.key)), "{}", field.key);
        }
        let mut other = Draft::default();
        other.copy_from(&spec);
        assert_eq!(other.spec().unwrap(), spec);
    }

    #[test]
    fn what_was_not_typed_follows_the_method_and_the_size_of_the_base() {
        let mut mirror = Mirror::default();
        mirror.replace(crate::screens::sample::filled());
        let view = View::plain(&mirror);
        let mut draft = Draft::default();
        assert_eq!(draft.form.value("learning_rate"), "2e-4", "the size is not known yet");
        draft.fill_in(&view);
        assert_eq!(draft.form.value("learning_rate"), "1e-3");
        draft.form.set("method", "dpo");
        draft.fill_in(&view);
        assert_eq!((draft.form.value("learning_rate"), draft.form.value("epochs")), ("2e-4", "1"));
        draft.form.set("learning_rate", "7e-5");
        draft.form.set("method", "sft");
        draft.fill_in(&view);
        assert_eq!(draft.form.value("learning_rate"), "7e-5");
        let typed = draft.changes().into_iter().map(|(field, preset)| (field.key, preset)).collect::<Vec<_>>();
        assert_eq!(typed, [("learning_rate", "1e-3".to_owned())]);
    }

    #[test]
    fn every_preset_is_inside_the_ranges() {
        let mut mirror = Mirror::default();
        mirror.replace(crate::screens::sample::filled());
        let view = View::plain(&mirror);
        for (index, preset) in PRESETS.iter().enumerate() {
            let mut draft = Draft::default();
            draft.apply_preset(index);
            draft.fill_in(&view);
            assert_eq!(draft.form.problems(&view), 0, "{}", preset.name);
            assert!(hone_protocol::form::check(&draft.spec().unwrap().params).is_ok());
            assert!(draft.changes().is_empty());
        }
    }
}
