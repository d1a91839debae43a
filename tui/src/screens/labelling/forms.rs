//! The form of a project, and what it says. Never here: asking.

use hone_protocol::form::FieldKind;
use hone_protocol::labelling::{Order, PERSONS_MAX, ProjectSpec, ProjectView, RATING_MAX, REPEAT_PERCENT_MAX, Task};

use crate::draft::SPLIT_SEED;
use crate::labels;
use crate::screens::View;
use crate::screens::tables::dataset_names;
use crate::widgets::form::{Form, FormField, Rule, Stride};

const ORDERS: &[&str] = &["file", "random", "unsure"];
/// Tasks that have labels.
const LABELLED: &[(&str, &[&str])] = &[("task", &["choice", "several", "span"])];

/// The form of a project; of a new one over a dataset where there is none yet.
pub(super) fn project_form(
    view: &View<'_>,
    project: Option<&ProjectView>,
    dataset: &str,
    standards: &[String],
) -> Form {
    let section = "labelling.project";
    let text = |key, label, about| FormField::text(key, section, label, about);
    let whole = |key, label, about, low, high, default: &str| {
        FormField::text(key, section, label, about).of(FieldKind::Whole { low, high }, Stride::Add(1.0), default)
    };
    let mut labels = text("labels", "labelling.labels", "field.labels.about");
    labels.only = LABELLED;
    let mut reasons = text("reasons", "labelling.reasons", "field.label_reasons.about");
    reasons.only = &[("task", &["pair"])];
    let mut scale = whole("scale", "labelling.scale", "field.label_scale.about", 2, u64::from(RATING_MAX), "5");
    scale.only = &[("task", &["rating"])];
    let datasets = dataset_names(view);
    let dataset = if dataset.is_empty() { datasets.last().cloned().unwrap_or_default() } else { dataset.to_owned() };
    let name =
        if dataset.is_empty() { String::new() } else { format!("{}-labels", dataset.split('@').next().unwrap_or("")) };
    let mut form = Form::new(vec![
        text("name", "field.name", "field.project_name.about").rule(Rule::Name).filled(name, Vec::new()),
        text("dataset", "word.dataset", "field.project_dataset.about").filled(dataset, datasets),
        text("task", "labelling.task", "field.label_task.about").of(
            FieldKind::Choice(labels::KINDS),
            Stride::Add(1.0),
            labels::KINDS[0],
        ),
        labels,
        reasons,
        scale,
        text("question", "labelling.question", "field.label_question.about"),
        text("standard", "word.standard", "field.label_standard.about")
            .rule(Rule::OneOfOrEmpty)
            .filled("", standards.to_vec()),
        text("guide", "labelling.guide", "field.label_guide.about"),
        text("order", "labelling.order", "field.label_order.about").of(
            FieldKind::Choice(ORDERS),
            Stride::Add(1.0),
            ORDERS[0],
        ),
        whole("persons", "labelling.persons", "field.label_persons.about", 1, u64::from(PERSONS_MAX), "1"),
        whole(
            "repeat_percent",
            "labelling.repeats",
            "field.label_repeats.about",
            0,
            u64::from(REPEAT_PERCENT_MAX),
            "5",
        ),
        text("rows_max", "field.rows_max", "field.label_rows_max.about").of(
            FieldKind::Whole { low: 0, high: 2_000_000 },
            Stride::Add(100.0),
            "0",
        ),
    ]);
    form.set("labels", "good, -bad");
    if let Some(project) = project {
        let spec = &project.record.spec;
        form.set("name", project.record.name.clone());
        form.set("dataset", spec.dataset.clone());
        form.set("task", spec.task.word());
        form.set("labels", labels::typed(spec.task.labels()));
        match &spec.task {
            Task::Pair { reasons } => form.set("reasons", reasons.join(", ")),
            Task::Rating { scale } => form.set("scale", scale.to_string()),
            _ => {}
        }
        form.set("question", spec.question.clone());
        form.set("standard", spec.standard.clone().unwrap_or_default());
        // A standard in use is named with its number; it is an option as it is.
        let mut options = standards.to_vec();
        options.extend(spec.standard.clone());
        form.offer("standard", options);
        form.set("guide", spec.guide.clone());
        form.set("order", spec.order.word());
        form.set("persons", spec.persons.to_string());
        form.set("repeat_percent", spec.repeat_percent.to_string());
        form.set("rows_max", spec.rows_max.to_string());
    }
    form
}

/// What the form says; the seed stays that of the project where there is one.
pub(super) fn project_spec(form: &Form, before: Option<&ProjectView>) -> Option<ProjectSpec> {
    let text = |key| form.value(key).to_owned();
    let order =
        Order::ALL.into_iter().find(|(word, _)| *word == form.value("order")).map_or(Order::File, |(_, order)| order);
    Some(ProjectSpec {
        title: before.map_or(String::new(), |before| before.record.spec.title.clone()),
        dataset: text("dataset"),
        standard: Some(text("standard")).filter(|standard| !standard.is_empty()),
        question: text("question"),
        task: labels::task(
            form.value("task"),
            form.value("labels"),
            form.value("reasons"),
            form.number("scale").unwrap_or(5),
        )?,
        guide: text("guide"),
        order,
        seed: before.map_or(SPLIT_SEED, |before| before.record.spec.seed),
        repeat_percent: form.number("repeat_percent").unwrap_or(0),
        persons: form.number("persons").unwrap_or(1),
        rows_max: form.number("rows_max").unwrap_or(0),
    })
}
