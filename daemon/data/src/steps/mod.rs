//! Steps of recipes: what they do to rows, and running them. Adding a step is its form in `protocol/src/recipe/forms.rs`, a function in
//! a file here, and a line in [`KINDS`].
//! Lives here: the table, and what all steps have in common. Never here: the format of segments, jobs.
//!
//! A step that looks at one row at a time is a [`RowStep`]; one that must see all rows before it can say which go is a [`SetStep`].
//! What a step did is its ledger (see [`ledger`]), which is also what is kept to not do it again (see [`run`]).

mod answers;
mod chinese;
mod clean;
mod convert;
mod duplicates;
mod filters;
mod item;
mod language;
mod ledger;
mod page;
mod preview;
mod privacy;
mod quality;
mod run;
mod sample;
mod source;
mod words;

use std::path::PathBuf;

use hone_protocol::failure::Failure;
use hone_protocol::recipe::{Settings, StepSpec};

pub(super) use duplicates::normalised;
pub(super) use item::{Item, Verdict, Why};
pub(super) use language::language;
pub(super) use page::page;
pub(super) use preview::preview;
pub(super) use privacy::kinds as private_kinds;
pub(super) use run::process;
pub(super) use source::Source;

/// A step that looks at one row.
pub(super) trait RowStep: Send + Sync {
    /// What it says of the row; a changed row is changed in place, its original too.
    fn apply(&self, item: &mut Item) -> Verdict;
}

/// A step that looks at all rows. It only drops.
pub(super) trait SetStep: Send + Sync {
    /// The rows that go, by place. `progress` is told the place of rows that were looked at.
    fn decide(&self, rows: &dyn Rows, progress: &mut dyn FnMut(u64)) -> Result<Vec<Dropped>, Failure>;
}

/// Rows in chunks that can be read in any order, from any thread.
pub(crate) trait Rows: Sync {
    fn chunks(&self) -> usize;
    fn read(&self, chunk: usize) -> Result<Vec<Item>, Failure>;
    /// The same for who does not look at originals: they may be empty.
    fn texts(&self, chunk: usize) -> Result<Vec<Item>, Failure> {
        self.read(chunk)
    }
    /// Where nameless files may go; without it all is held in memory.
    fn folder(&self) -> Option<PathBuf>;
}

/// A row that a [`SetStep`] drops.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Dropped {
    pub(super) index: u64,
    pub(super) row_id: u64,
    pub(super) why: Why,
}

/// Rows of another dataset that a step looks at.
pub(super) struct Other {
    pub(super) name: String,
    pub(super) rows: Box<dyn Rows + Send>,
}

type Others = Vec<Other>;

/// A step that is ready.
pub(super) enum Built {
    Row(Box<dyn RowStep>),
    Set(Box<dyn SetStep>),
}

impl Built {
    fn row(step: impl RowStep + 'static) -> Built {
        Built::Row(Box::new(step))
    }

    fn set(step: impl SetStep + 'static) -> Built {
        Built::Set(Box::new(step))
    }
}

type Build = fn(&Settings, Others) -> Result<Built, Failure>;

/// All steps by their word. A test compares it with the forms.
const KINDS: &[(&str, Build)] = &[
    ("unicode", |settings, _| Ok(clean::unicode(settings))),
    ("control", |settings, _| Ok(clean::control(settings))),
    ("spaces", |settings, _| Ok(clean::spaces(settings))),
    ("html", |settings, _| Ok(clean::html(settings))),
    ("boilerplate", |settings, _| Ok(clean::boilerplate(settings))),
    ("simplified", |settings, _| Ok(chinese::simplified(settings))),
    ("length", |settings, _| Ok(filters::length(settings))),
    ("turns", |settings, _| Ok(filters::turns(settings))),
    ("roles", |settings, _| Ok(filters::roles(settings))),
    ("answer", |settings, _| Ok(answers::answer(settings))),
    ("phrases", |settings, _| Ok(filters::phrases(settings))),
    ("regex", |settings, _| filters::regex(settings)),
    ("field", |settings, _| filters::field(settings)),
    ("characters", |settings, _| Ok(filters::characters(settings))),
    ("repetition", |settings, _| Ok(quality::repetition(settings))),
    ("words", |settings, _| Ok(quality::word_rules(settings))),
    ("lines", |settings, _| Ok(quality::line_rules(settings))),
    ("language", |settings, _| Ok(language::step(settings))),
    ("exact", |settings, others| Ok(duplicates::exact(settings, others))),
    ("near", |settings, others| Ok(duplicates::near(settings, others))),
    ("mask", |settings, _| Ok(privacy::mask(settings))),
    ("secrets", |settings, _| Ok(privacy::secrets(settings))),
    ("decontaminate", duplicates::decontaminate),
    ("sample", |settings, _| sample::sample(settings)),
    ("convert", |settings, _| Ok(convert::convert(settings))),
];

/// Makes a step of what somebody wrote; the failure names the setting.
pub(super) fn build(index: usize, spec: &StepSpec, others: Others) -> Result<Built, Failure> {
    let settings = spec.checked(index)?;
    let Some((_, build)) = KINDS.iter().find(|(word, _)| *word == spec.step) else {
        return Err(Failure::not_found("step", &spec.step));
    };
    build(&settings, others).map_err(|failure| {
        let place = format!("steps[{index}].{}", failure.place);
        failure.at(place)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use hone_protocol::recipe::STEPS;

    #[test]
    fn every_form_has_a_step_and_every_step_a_form() {
        let forms: Vec<&str> = STEPS.iter().map(|form| form.word).collect();
        let kinds: Vec<&str> = KINDS.iter().map(|(word, _)| *word).collect();
        assert_eq!(kinds, forms);
        for word in forms {
            let spec = StepSpec { step: word.into(), ..StepSpec::default() };
            // What needs a setting without which it means nothing says so by its place.
            if let Err(failure) = build(3, &spec, Vec::new()) {
                assert!(failure.place.starts_with("steps[3]."), "{word}: {failure}");
            }
        }
    }

    #[test]
    fn every_reason_has_words() {
        use hone_protocol::catalogue::{Language, find};
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/steps");
        let mut seen = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let Ok(source) = std::fs::read_to_string(file.unwrap().path()) else { continue };
            let source = source.split("#[cfg(test)]").next().unwrap_or_default();
            for call in ["Why::new(\"", "rewrite(\"", "found(\"", "below(\"", "above(\""] {
                // `not_found` is another function.
                let calls = source.match_indices(call).filter(|(at, _)| !source[..*at].ends_with("not_"));
                for reason in calls.filter_map(|(at, _)| source[at + call.len()..].split('"').next()) {
                    assert!(find(Language::Zh, &format!("reason.{reason}")).is_some(), "reason.{reason}");
                    seen += 1;
                }
            }
        }
        assert!(seen > 30, "{seen}");
    }

    pub(crate) fn spec(step: &str, settings: &[(&str, &str)]) -> StepSpec {
        let settings = settings.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        StepSpec { step: step.into(), settings, keep: Vec::new() }
    }

    pub(super) fn row_step(spec: &StepSpec) -> Box<dyn RowStep> {
        match build(0, spec, Vec::new()) {
            Ok(Built::Row(step)) => step,
            Ok(Built::Set(_)) => panic!("{} sees all rows", spec.step),
            Err(failure) => panic!("{failure}"),
        }
    }

    /// `reason value threshold` of what a step did to a row; empty when it did nothing.
    pub(super) fn reason(step: &str, settings: &[(&str, &str)], item: &mut Item) -> String {
        let short = |value: f64| (value * 1000.0).round() / 1000.0;
        match row_step(&spec(step, settings)).apply(item) {
            Verdict::Keep => String::new(),
            Verdict::Changed(why) | Verdict::Drop(why) => {
                format!("{} {} {}", why.reason, short(why.value), short(why.threshold))
            }
        }
    }

    /// Rows in memory.
    #[derive(Clone)]
    pub(super) struct Held {
        name: String,
        items: Vec<Item>,
    }

    impl Held {
        pub(super) fn named(name: &str, items: Vec<Item>) -> Held {
            Held { name: name.into(), items }
        }
    }

    impl Rows for Held {
        fn chunks(&self) -> usize {
            self.items.len().div_ceil(3)
        }
        fn read(&self, chunk: usize) -> Result<Vec<Item>, Failure> {
            Ok(self.items.chunks(3).nth(chunk).unwrap_or_default().to_vec())
        }
        fn folder(&self) -> Option<PathBuf> {
            None
        }
    }

    /// `row_id reason detail` of the rows that a step drops.
    pub(super) fn decided(step: &str, settings: &[(&str, &str)], items: Vec<Item>, others: &[Held]) -> Vec<String> {
        let others =
            others.iter().map(|held| Other { name: held.name.clone(), rows: Box::new(held.clone()) }).collect();
        let Ok(Built::Set(built)) = build(0, &spec(step, settings), others) else { panic!("{step} sees one row") };
        let dropped = built.decide(&Held::named("", items), &mut |_| {}).unwrap();
        dropped.iter().map(|one| format!("{} {} {}", one.row_id, one.why.reason, one.why.detail)).collect()
    }
}
