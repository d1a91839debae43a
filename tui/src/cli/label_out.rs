//! `hone label make`, `suggest`, `export` and `import`: what becomes of labels, and what comes in. Never here: the files of other tools
//! (`label_files.rs`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read as _, Write as _};

use clap::Args;
use hone_protocol::dataset::{DatasetSource, RowFormat};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::job::JobSpec;
use hone_protocol::labelling::{
    DECISIONS_MAX, Decision, How, LabelAnswer, LabelRecord, LabelRequest, ProjectView, SUGGESTIONS_MAX, SuggestSpec,
    Suggestion, Task,
};
use hone_protocol::request::{ROWS_MAX, Request};

use super::context::Context;
use super::label::{ask, odd, project, rows};
use super::label_files::{self, LabelFormat, Labelled};
use super::{dataset, job, wait};
use crate::link::Link;
use crate::print::{self, Outcome};

/// Largest file of labels that is read.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// Rows that are written at once.
const PAGE: usize = 500;

/// Make the next version of a dataset of the labels.
///
/// A row's word is what was settled, else what most persons said; rows that they disagree on, and rows with a label that is not kept, are
/// left out and counted. Edits and orders change the rows; all other labels stand in the field `labels` of the row, under the project's name.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  hone label make tone\n  hone label make tone --name support-good --suggested-least-percent 95"
)]
pub(super) struct Make {
    /// Name of the project.
    project: String,
    /// NAME of the dataset that gets the version [default: the one that was labelled].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Rows that nobody decided become rows as suggested, where the suggestion is at least so sure.
    #[arg(long, value_name = "PERCENT")]
    suggested_least_percent: Option<u32>,
    /// Do not wait.
    #[arg(long)]
    detach: bool,
}

impl Make {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let view = project(&mut link, &self.project)?;
        let own = view.record.spec.dataset.split('@').next().unwrap_or_default();
        let name = self.name.unwrap_or_else(|| match view.record.spec.task {
            Task::Rank => format!("{own}-ranked"),
            _ => own.to_owned(),
        });
        let source = DatasetSource::Labels {
            project: self.project,
            until: 0,
            suggested_least_percent: self.suggested_least_percent,
        };
        let spec = JobSpec::ImportDataset { source, name: name.clone(), format: RowFormat::Detect };
        dataset::bring_in(context, &name, spec, self.detach)
    }
}

/// Let a service suggest labels for the rows that have none. Nothing counts until a person takes it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone label suggest tone --service starter --rows-max 200")]
pub(super) struct Suggest {
    /// Name of the project.
    project: String,
    /// Name of the service.
    #[arg(long, value_name = "SERVICE")]
    service: String,
    /// At most so many rows, in the order of the project; 0 for all.
    #[arg(long, value_name = "N", default_value_t = 0)]
    rows_max: u64,
    /// Rows at once; 0 for as many as the service has slots.
    #[arg(long, value_name = "N", default_value_t = 0)]
    at_once: u32,
    /// Do not wait.
    #[arg(long)]
    detach: bool,
}

impl Suggest {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let payer = context.payer.clone().unwrap_or_else(|| "owner".to_owned());
        let (project, service, rows_max, at_once) = (self.project, self.service, self.rows_max, self.at_once);
        let spec = JobSpec::Suggest(SuggestSpec { project, service, payer, at_once, rows_max });
        let mut link = context.link()?;
        let Some((view, _)) = wait::submit(context, &mut link, "suggest", spec, self.detach)? else { return Ok(()) };
        if context.json {
            return print::json(&view);
        }
        print::out(&job::details(context.language, &view))
    }
}

/// Write labels with their rows into a file of another tool: hone, label-studio, argilla or doccano.
///
/// Beside a file for Label Studio or Argilla stands FILE.config, the settings that make its interface.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone label export tone tone.json --format label-studio")]
pub(super) struct Export {
    /// Name of the project.
    project: String,
    /// The file, which must not be there yet.
    file: String,
    /// hone, label-studio, argilla or doccano.
    #[arg(long, value_name = "FORMAT", default_value = "hone", value_parser = ["hone", "label-studio", "argilla", "doccano"])]
    format: String,
    /// Only rows that have a label; otherwise those with a suggestion come, too.
    #[arg(long)]
    labelled: bool,
}

fn format(word: &str) -> LabelFormat {
    LabelFormat::ALL.into_iter().find(|format| format.word() == word).unwrap_or(LabelFormat::Hone)
}

/// All labels that stand, by row.
fn all_labels(link: &mut Link, project: &str) -> Result<BTreeMap<u64, Vec<LabelRecord>>, Failure> {
    let mut labels: BTreeMap<u64, Vec<LabelRecord>> = BTreeMap::new();
    let mut before = None;
    loop {
        let (project, person) = (project.to_owned(), String::new());
        let request =
            LabelRequest::Labels { project, person, row_id: None, before, taken_back: false, count: ROWS_MAX };
        let page = match ask(link, request)? {
            LabelAnswer::Labels(page) => page,
            other => return Err(odd(other)),
        };
        let Some(last) = page.last() else { return Ok(labels) };
        before = Some(last.seq);
        for label in page {
            labels.entry(label.decision.row_id).or_default().push(label);
        }
    }
}

/// Ids of all rows that have a suggestion.
fn suggested(link: &mut Link, project: &str) -> Result<Vec<u64>, Failure> {
    let (mut ids, mut from) = (Vec::new(), 0);
    loop {
        let request = LabelRequest::Suggestions { project: project.to_owned(), from, count: ROWS_MAX };
        let page = match ask(link, request)? {
            LabelAnswer::Suggestions(page) => page,
            other => return Err(odd(other)),
        };
        let Some(last) = page.last() else { return Ok(ids) };
        from = last.row_id + 1;
        ids.extend(page.into_iter().map(|suggestion| suggestion.row_id));
    }
}

impl Export {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let view = project(&mut link, &self.project)?;
        let mut labels = all_labels(&mut link, &self.project)?;
        labels.values_mut().for_each(|labels| labels.sort_by_key(|label| label.seq));
        let mut ids: Vec<u64> = labels.keys().copied().collect();
        if !self.labelled {
            ids.extend(suggested(&mut link, &self.project)?);
            ids.sort_unstable();
            ids.dedup();
        }
        if ids.is_empty() {
            let message = format!("{} has no label yet", self.project);
            return Err(Failure::new(FailureCode::NoRows, message).at("project").into());
        }
        let written = self.write(&mut link, &view, &mut labels, &ids)?;
        if let Some(config) = label_files::config(format(&self.format), &view) {
            let path = format!("{}.config", self.file);
            std::fs::write(&path, config).map_err(|error| unwritable(&path, &error))?;
            context.say("cli.config_written", &[("path", &path)]);
        }
        if context.json {
            return print::json(&serde_json::json!({ "rows": written, "path": self.file }));
        }
        context.say("cli.labels_written", &[("rows", &written.to_string()), ("path", &self.file)]);
        Ok(())
    }

    fn write(
        &self,
        link: &mut Link,
        view: &ProjectView,
        labels: &mut BTreeMap<u64, Vec<LabelRecord>>,
        ids: &[u64],
    ) -> Result<u64, Failure> {
        let format = format(&self.format);
        let unsaid = |message: String| Failure::field("format", message);
        let file = File::options().write(true).create_new(true).open(&self.file);
        let mut file = BufWriter::new(file.map_err(|error| unwritable(&self.file, &error))?);
        let mut put = |text: &str| file.write_all(text.as_bytes()).map_err(|error| unwritable(&self.file, &error));
        put(label_files::begin(format))?;
        let (mut written, mut first) = (0, true);
        let mut left = ids;
        while !left.is_empty() {
            let page = rows(link, &self.project, left[..left.len().min(PAGE)].to_vec())?;
            let Some(last) = page.last().map(|row| row.row.row_id) else { break };
            left = left.iter().position(|id| *id == last).map_or(&[], |at| &left[at + 1..]);
            let page: Vec<Labelled> = page
                .into_iter()
                .map(|row| Labelled {
                    labels: labels.remove(&row.row.row_id).unwrap_or_default(),
                    row: row.row,
                    suggestion: row.suggestion,
                })
                .collect();
            written += page.len() as u64;
            let text = label_files::write(format, view, &page).map_err(unsaid)?;
            if text.is_empty() {
                continue;
            }
            if !std::mem::take(&mut first) {
                put(label_files::joiner(format))?;
            }
            put(&text)?;
        }
        put(label_files::end(format))?;
        file.flush().map_err(|error| unwritable(&self.file, &error))?;
        Ok(written)
    }
}

fn unwritable(path: &str, error: &std::io::Error) -> Failure {
    Failure::new(FailureCode::NotSaved, format!("{path} cannot be written: {error}")).at(path)
}

/// Read labels and suggestions out of a file of another tool. Each label keeps the person that the file names.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hone label import tone tone.json --format label-studio")]
pub(super) struct Import {
    /// Name of the project.
    project: String,
    /// The file.
    file: String,
    /// hone, label-studio, argilla or doccano.
    #[arg(long, value_name = "FORMAT", default_value = "hone", value_parser = ["hone", "label-studio", "argilla", "doccano"])]
    format: String,
}

impl Import {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let mut link = context.link()?;
        let task = project(&mut link, &self.project)?.record.spec.task;
        let wrong = |message: String| {
            Failure::new(FailureCode::BadFile, message).at(self.file.as_str()).hint(HintCode::CorrectFile)
        };
        let mut text = String::new();
        let file = File::open(&self.file).map_err(|error| wrong(format!("{} cannot be read: {error}", self.file)))?;
        let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
        read.map_err(|error| wrong(format!("{} cannot be read: {error}", self.file)))?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(wrong(format!("the file has more than {FILE_BYTES_MAX} bytes")).into());
        }
        let read = label_files::read(format(&self.format), &task, &text).map_err(wrong)?;
        let mut by_person: BTreeMap<String, Vec<Decision>> = BTreeMap::new();
        let labels = read.decisions.len();
        for one in read.decisions {
            // What was settled elsewhere is settled here; everything else came out of a file.
            let how = if one.decision.how == How::Final { How::Final } else { How::Imported };
            by_person.entry(one.person).or_default().push(Decision { how, ..one.decision });
        }
        let persons = by_person.keys().cloned().collect::<Vec<_>>().join(", ");
        // One part of the typed idempotency key for each piece: they are different acts.
        let mut part = 0;
        for (person, decisions) in by_person {
            for chunk in decisions.chunks(DECISIONS_MAX) {
                part += 1;
                let (project, decisions) = (self.project.clone(), chunk.to_vec());
                let request = LabelRequest::Decide { project, person: Some(person.clone()), decisions };
                context.change(&mut link, &format!("labels-{part}"), Request::Labelling(request))?;
            }
        }
        let suggestions = read.suggestions.len();
        suggest(context, &mut link, &self.project, &read.suggestions)?;
        if context.json {
            return print::json(
                &serde_json::json!({"labels": labels, "suggestions": suggestions, "without": read.without}),
            );
        }
        let counts = [labels.to_string(), suggestions.to_string(), read.without.to_string()];
        let args = [
            ("labels", counts[0].as_str()),
            ("persons", &persons),
            ("suggestions", &counts[1]),
            ("without", &counts[2]),
        ];
        context.say("cli.labels_read", &args);
        Ok(())
    }
}

fn suggest(context: &Context, link: &mut Link, project: &str, suggestions: &[Suggestion]) -> Result<(), Failure> {
    for (part, chunk) in suggestions.chunks(SUGGESTIONS_MAX).enumerate() {
        let request = LabelRequest::Suggest { project: project.to_owned(), suggestions: chunk.to_vec() };
        context.change(link, &format!("suggestions-{part}"), Request::Labelling(request))?;
    }
    Ok(())
}
