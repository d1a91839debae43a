//! The form that sends a dataset through a service. Never here: what becomes of the rows (the daemon's jobs do that).

use hone_protocol::batch::{BatchSpec, DatasetBatch};
use hone_protocol::form::FieldKind;
use hone_protocol::generate::{Format, Sampling};
use hone_protocol::job::JobSpec;

use crate::screens::View;
use crate::screens::models::as_name;
use crate::widgets::form::{Form, FormField, Rule, Stride};

/// The form for a dataset, with the first service filled in.
pub(super) fn form(view: &View<'_>, dataset: &str) -> Form {
    let services: Vec<String> = view.mirror.services().iter().map(|service| service.record.name.clone()).collect();
    let datasets: Vec<String> = view.mirror.datasets().iter().map(|d| d.record.name.clone()).collect();
    let payers: Vec<String> = view.mirror.applications().iter().map(|a| a.record.name.clone()).collect();
    let service = services.first().cloned().unwrap_or_default();
    let name = as_name(&format!("{dataset}-{service}"));
    let section = "datasets.through";
    Form::new(vec![
        FormField::text("dataset", section, "word.dataset", "field.batch_dataset.about")
            .rule(Rule::OneOf)
            .filled(dataset, datasets),
        FormField::text("service", section, "word.service", "field.batch_service.about")
            .rule(Rule::OneOf)
            .filled(service, services),
        FormField::text("name", section, "field.name", "field.data_name.about")
            .rule(Rule::Name)
            .filled(name, Vec::new()),
        FormField::text("system", section, "field.system", "field.batch_system.about"),
        FormField::text("tokens", section, "field.answer_tokens", "field.batch_tokens.about").of(
            FieldKind::Whole { low: 0, high: 1_000_000 },
            Stride::Add(64.0),
            "512",
        ),
        FormField::text("temperature", section, "field.temperature", "field.temperature.about").of(
            FieldKind::Real { low: 0.0, high: 2.0 },
            Stride::Add(0.1),
            "0",
        ),
        FormField::text("rows", section, "field.rows_max", "field.batch_rows.about").of(
            FieldKind::Whole { low: 0, high: 1_000_000_000 },
            Stride::Add(100.0),
            "0",
        ),
        FormField::text("payer", section, "batch.payer", "field.batch_payer.about")
            .rule(Rule::OneOf)
            .filled("owner", payers),
    ])
}

/// What the form asks for.
pub(super) fn spec(form: &Form) -> JobSpec {
    let sampling = Sampling { temperature: form.number("temperature").unwrap_or(0.0), ..Sampling::default() };
    JobSpec::Batch(BatchSpec::Dataset(Box::new(DatasetBatch {
        dataset: form.value("dataset").to_owned(),
        service: form.value("service").to_owned(),
        name: form.value("name").to_owned(),
        system: form.value("system").to_owned(),
        sampling,
        tokens_max: form.number("tokens").unwrap_or(512),
        format: Format::Text,
        payer: form.value("payer").to_owned(),
        rows_at_once: 0,
        rows_max: form.number("rows").unwrap_or(0),
    })))
}
