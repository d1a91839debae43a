//! The short forms of the area: bring a model in, point an alias, make another form of a version, write it for other programs,
//! make a version of a checkpoint; and what each one asks for when it is right. Never here: drawing, or the answers.

use std::sync::LazyLock;

use hone_protocol::convert::{Conversion, ExportFormat, WeightsFormat};
use hone_protocol::form::FieldKind;
use hone_protocol::id::JobId;
use hone_protocol::job::{JobSpec, RegisterSpec};
use hone_protocol::model::{EMBEDDER_NAME, Hub, HubSource, ModelSource, VersionView, Weights, WeightsAs};
use hone_protocol::request::Request;
use hone_protocol::train::{KeptCheckpoint, Register};

use super::super::tables::{dataset_names, service_names};
use super::super::{Deed, Desk, Errand, View};
use super::Models;
use crate::widgets::form::{Form, FormField, Rule, Stride};

/// Name that the starter is imported under.
pub(in crate::screens) const STARTER: &str = "starter";
const SOURCES: &[&str] = &["starter", "file", "file_in_place", "hub", "folder", "embedder"];

/// Words of all formats; the first is for merging only.
static FORMATS: LazyLock<Vec<&'static str>> = LazyLock::new(|| WeightsFormat::ALL.iter().map(|f| f.word()).collect());
/// What a model can be written as, and what an adapter can.
const MODEL_EXPORTS: &[&str] = &["gguf", "huggingface"];
const ADAPTER_EXPORTS: &[&str] = &["gguf", "peft"];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FormKind {
    Import,
    Alias,
    Merge,
    Quantize,
    Export,
    Register(JobId),
}

impl FormKind {
    /// Catalogue key of what it does; its fields' section too.
    pub(super) fn title(self) -> &'static str {
        match self {
            FormKind::Import => "models.import",
            FormKind::Alias => "models.alias",
            FormKind::Merge => "models.merge",
            FormKind::Quantize => "models.quantize",
            FormKind::Export => "models.export",
            FormKind::Register(_) => "models.register",
        }
    }
}

/// The name before the number.
fn model_of(version: &VersionView) -> &str {
    version.reference.split('@').next().unwrap_or_default()
}

impl Models {
    fn show(&mut self, kind: FormKind, fields: Vec<FormField>) -> &mut Form {
        &mut self.form.insert((kind, Form::new(fields))).1
    }

    pub(super) fn import_form(&mut self, path: &str) {
        let file = std::path::Path::new(path).file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        let name: String = if path.is_empty() { STARTER.to_owned() } else { as_name(file) };
        let source = if path.is_empty() { SOURCES[0] } else { SOURCES[1] };
        let section = FormKind::Import.title();
        let form = self.show(
            FormKind::Import,
            vec![
                FormField::text("source", section, "field.source", "field.source.about").of(
                    FieldKind::Choice(SOURCES),
                    Stride::Add(1.0),
                    source,
                ),
                FormField::text("path", section, "field.path", "field.model_path.about").filled(path, Vec::new()),
                FormField::text("name", section, "field.name", "field.model_name.about")
                    .rule(Rule::Name)
                    .filled(name, Vec::new()),
            ],
        );
        if !path.is_empty() {
            form.focus_on("name");
        }
    }

    pub(super) fn alias_form(&mut self, version: &VersionView, view: &View<'_>) {
        let record = view.mirror.models().iter().find(|m| m.record.name == model_of(version));
        let known = record.map(|m| m.record.aliases.iter().map(|a| a.name.clone()).collect()).unwrap_or_default();
        let versions = record.map(|m| m.live().rev().map(|v| v.reference.clone()).collect()).unwrap_or_default();
        let section = FormKind::Alias.title();
        self.show(
            FormKind::Alias,
            vec![
                FormField::text("alias", section, "field.alias", "field.alias.about")
                    .rule(Rule::Name)
                    .filled("stable", known),
                FormField::text("version", section, "word.version", "field.alias_version.about")
                    .rule(Rule::OneOf)
                    .filled(version.reference.clone(), versions),
            ],
        );
    }

    /// Merge or quantise.
    pub(super) fn convert_form(&mut self, kind: FormKind, version: &VersionView, view: &View<'_>) {
        let section = kind.title();
        let merges = kind == FormKind::Merge;
        let (formats, format) = if merges { (&FORMATS[..], "f16") } else { (&FORMATS[1..], "q8_0") };
        let rows = |key, label, about| {
            let field = FormField::text(key, section, label, about).rule(Rule::OneOfOrEmpty);
            field.filled("", dataset_names(view))
        };
        let mut fields = vec![
            fixed_version(section, version),
            FormField::text("format", section, "field.weights_format", "field.weights_format.about").of(
                FieldKind::Choice(formats),
                Stride::Add(1.0),
                format,
            ),
            FormField::text("name", section, "field.name", "field.model_name.about")
                .rule(Rule::Name)
                .filled(model_of(version), Vec::new()),
            rows("receipt_rows", "field.receipt_rows", "field.receipt_rows.about"),
        ];
        if !merges {
            fields.push(rows("imatrix_rows", "field.imatrix_rows", "field.imatrix_rows.about"));
        }
        let form = self.show(kind, fields);
        form.focus_on("format");
    }

    pub(super) fn export_form(&mut self, version: &VersionView) {
        let section = FormKind::Export.title();
        let adapter = matches!(version.record.weights, Weights::Adapter { .. });
        let formats = if adapter { ADAPTER_EXPORTS } else { MODEL_EXPORTS };
        let form = self.show(
            FormKind::Export,
            vec![
                fixed_version(section, version),
                FormField::text("format", section, "field.format", "field.export_format.about").of(
                    FieldKind::Choice(formats),
                    Stride::Add(1.0),
                    formats[0],
                ),
                FormField::text("path", section, "field.path", "field.export_path.about"),
            ],
        );
        form.focus_on("path");
    }

    /// Asks what is kept of a run, and shows the form meanwhile.
    pub(super) fn register_form(&mut self, run: JobId, desk: &mut Desk<'_>) {
        let view = &desk.view;
        let spec = view.mirror.job(run).and_then(|job| match &job.record.spec {
            JobSpec::Train(spec) => Some(spec),
            _ => None,
        });
        let wished = spec.and_then(|spec| spec.register.as_ref().map(|register| register.model.clone()));
        let rows = spec.map_or("", |spec| spec.dataset.split('@').next().unwrap_or_default());
        let model = wished.filter(|name| !name.is_empty()).unwrap_or_else(|| as_name(&format!("{rows}-tuned")));
        let known = view.mirror.models().iter().map(|m| m.record.name.clone()).collect();
        let section = FormKind::Register(run).title();
        let services = service_names(view);
        self.show(
            FormKind::Register(run),
            vec![
                FormField::text("step", section, "field.step", "field.step.about").rule(Rule::OneOf),
                FormField::text("model", section, "field.name", "field.model_name.about")
                    .rule(Rule::Name)
                    .filled(model, known),
                FormField::text("alias", section, "field.alias", "field.alias.about").rule(Rule::NameOrEmpty),
                FormField::text("publish", section, "field.then_publish", "field.then_publish.about")
                    .rule(Rule::NameOrEmpty)
                    .filled("", services),
            ],
        );
        desk.ask(Errand::Kept, Request::Checkpoints { job: run });
    }

    /// What is kept of the run of the form.
    pub(super) fn take_kept(&mut self, kept: &[KeptCheckpoint], view: &View<'_>) {
        let Some((FormKind::Register(_), form)) = &mut self.form else { return };
        let steps: Vec<String> = kept.iter().map(|checkpoint| checkpoint.step.to_string()).collect();
        match steps.first() {
            Some(newest) => form.set("step", newest.clone()),
            None => drop(form.remote.insert("step".into(), view.t("models.nothing_kept").to_owned())),
        }
        form.offer("step", steps);
    }

    pub(super) fn submit(&mut self, desk: &mut Desk<'_>) {
        let Some((kind, form)) = &mut self.form else { return };
        let text = |key: &str| form.value(key).to_owned();
        let format = || WeightsFormat::named(form.value("format")).unwrap_or(WeightsFormat::F16);
        let receipt_rows = || Some(text("receipt_rows")).filter(|rows| !rows.is_empty());
        let spec = match *kind {
            FormKind::Import => match source(form.value("source"), text("path")) {
                Ok(source) => {
                    // The name that the form began with is that of another model.
                    let own = if form.value("source") == "embedder" { EMBEDDER_NAME } else { STARTER };
                    let name = Some(text("name")).filter(|name| name != STARTER).unwrap_or_else(|| own.to_owned());
                    JobSpec::ImportModel { source, name }
                }
                Err(problem) => return refuse(form, problem, desk),
            },
            FormKind::Alias => {
                let version = text("version");
                let model = version.split('@').next().unwrap_or_default().to_owned();
                let request = Request::SetAlias { model, alias: text("alias"), version, past_gate: None };
                return desk.ask(Errand::Act(Deed::Alias), request);
            }
            FormKind::Merge => JobSpec::Convert(Conversion::Merge {
                version: text("version"),
                format: format(),
                name: text("name"),
                receipt_rows: receipt_rows(),
            }),
            FormKind::Quantize => JobSpec::Convert(Conversion::Quantize {
                version: text("version"),
                format: format(),
                name: text("name"),
                receipt_rows: receipt_rows(),
                imatrix_rows: Some(text("imatrix_rows")).filter(|rows| !rows.is_empty()),
            }),
            FormKind::Export if !form.value("path").starts_with('/') => return refuse(form, "form.absolute", desk),
            FormKind::Export => {
                let format = match form.value("format") {
                    "peft" => ExportFormat::Peft,
                    "huggingface" => ExportFormat::Huggingface,
                    _ => ExportFormat::Gguf,
                };
                JobSpec::Convert(Conversion::Export { version: text("version"), format, path: text("path") })
            }
            FormKind::Register(run) => {
                let register = Register { model: text("model"), alias: text("alias"), publish: text("publish") };
                JobSpec::Register(RegisterSpec { run, step: form.number("step"), register })
            }
        };
        desk.ask(Errand::Act(Deed::Submit), Request::Submit { spec, payer: None, pool: None });
    }
}

/// Says what is wrong with the path, and goes there.
fn refuse(form: &mut Form, problem: &'static str, desk: &Desk<'_>) {
    form.remote.insert("path".into(), desk.view.t(problem).to_owned());
    form.focus_on("path");
}

/// The version that a form is about.
fn fixed_version(section: &'static str, version: &VersionView) -> FormField {
    FormField::text("version", section, "word.version", "field.this_version.about")
        .rule(Rule::OneOf)
        .filled(version.reference.clone(), vec![version.reference.clone()])
}

/// What a choice and a typed path mean, or the key of the sentence on what is wrong.
fn source(word: &str, path: String) -> Result<ModelSource, &'static str> {
    match word {
        "starter" => Ok(ModelSource::Starter),
        "embedder" => Ok(ModelSource::embedder()),
        "hub" => HubSource::parse(path.trim(), Hub::Huggingface).map(ModelSource::Hub).ok_or("form.repository"),
        _ if !path.starts_with('/') => Err("form.absolute"),
        "folder" => Ok(ModelSource::Folder { path, weights: WeightsAs::AsStored }),
        _ => Ok(ModelSource::Path { path, in_place: word == "file_in_place" }),
    }
}

/// A text as a name: lower case, other characters as dashes.
pub(in crate::screens) fn as_name(text: &str) -> String {
    let lower = text.to_lowercase();
    let kept: String = lower
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' })
        .collect();
    kept.trim_matches(|c: char| !c.is_ascii_alphanumeric()).chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_of_the_import_form_is_a_source() {
        let of = |word: &str, path: &str| source(word, path.to_owned());
        assert!(matches!(of("starter", ""), Ok(ModelSource::Starter)));
        assert_eq!(of("embedder", ""), Ok(ModelSource::embedder()));
        assert!(matches!(of("file", "/m.gguf"), Ok(ModelSource::Path { in_place: false, .. })));
        assert!(matches!(of("file_in_place", "/m.gguf"), Ok(ModelSource::Path { in_place: true, .. })));
        assert!(matches!(of("folder", "/m"), Ok(ModelSource::Folder { .. })));
        assert!(matches!(of("hub", " modelscope:a/b:Q8_0 "), Ok(ModelSource::Hub(hub)) if hub.hub == Hub::Modelscope));
        assert_eq!(of("hub", "/m.gguf"), Err("form.repository"));
        assert_eq!(of("folder", "m"), Err("form.absolute"));
        assert_eq!(SOURCES.len(), 6);
        assert_eq!(FORMATS[0], "same");
    }
}
