//! A version of a dataset made of the labels of a project: the words on rows become a file, a child writes the rows with them, another
//! imports those. Never here: whose word counts (`labelling/made.rs`), the bytes of rows.

use std::fs::File;
use std::io::BufWriter;

use hone_protocol::dataset::{RowFormat, Shape};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::labelling::{LabelRecord, LabelledTask, ProjectRecord, Suggestion, Task};
use hone_protocol::worker::{FromWorker, ImportTask, ToWorker};

use super::attempt::{Context, Stop, unexpected};
use super::batch::unreadable;
use crate::dispatcher::event::{PickedPart, Produced};
use crate::labelling::{self, made};
use crate::sandbox::Paths;
use crate::state::State;
use crate::store::{Table, codec};
use crate::workers::process::Program;

/// What the rows of a project become: its ranks become pairs.
fn shape(state: &State, project: &ProjectRecord) -> Result<Shape, Failure> {
    let version = state.any_dataset_version(&project.spec.dataset)?;
    let own = state.datasets.get(&version.dataset).map_or(Shape::Chat, |dataset| dataset.shape);
    Ok(if project.spec.task == Task::Rank { Shape::Preference } else { own })
}

/// Refuses what would make no version.
pub(super) fn check(state: &State, name: &str, project: &str, least_percent: Option<u32>) -> Result<(), Failure> {
    let record = state.project(project)?;
    let counts = state.project_counts.get(project).cloned().unwrap_or_default();
    if counts.begun == 0 && (least_percent.is_none() || counts.suggested == 0) {
        let message = format!("nobody has decided a row of {project} yet");
        return Err(Failure::new(FailureCode::NoRows, message).at("source.project"));
    }
    if least_percent.is_some_and(|percent| percent > 100) {
        return Err(Failure::field("source.suggested_least_percent", "it must be between 0 and 100"));
    }
    let shape = shape(state, record)?;
    match state.dataset(name) {
        Some(known) if known.shape != shape => {
            let message = format!("{name} holds {} rows, and these would be {} rows", known.shape.word(), shape.word());
            Err(Failure::field("name", message).hint(HintCode::ChooseAnotherName))
        }
        _ => Ok(()),
    }
}

/// Makes the version.
pub(super) async fn import(
    context: &mut Context,
    name: &str,
    project: &str,
    (until, least_percent): (u64, Option<u32>),
) -> Result<Produced, Stop> {
    let record = context.state.project(project)?.clone();
    let version = context.state.any_dataset_version(&record.spec.dataset)?.clone();
    let folder = context.folder();
    let (labels, rows) = (folder.join("labels.jsonl"), folder.join("labelled.jsonl"));
    let made = {
        let mut all: Vec<LabelRecord> = labelling::labels(&context.store, project).map_err(unreadable)?;
        all.retain(|label| label.seq < until);
        let pairs = context.store.prefix(Table::Suggestions, &labelling::prefix(project)).map_err(unreadable)?;
        let suggestions: Vec<Suggestion> = codec::read_all(Table::Suggestions, &pairs).map_err(unreadable)?;
        let unsaved = |error: std::io::Error| {
            let message = format!("{}: {error}", labels.display());
            Failure::new(FailureCode::NotSaved, message).hint(HintCode::TryAgain)
        };
        let mut file = BufWriter::new(File::create(&labels).map_err(unsaved)?);
        let made = made::write(&record.spec, &all, &suggestions, least_percent, &mut file).map_err(unsaved)?;
        file.into_inner().map_err(|error| unsaved(error.into_error()))?;
        made
    };
    if made.rows == 0 {
        let message = format!("no row is left: {}", made.said(project));
        return Err(Failure::new(FailureCode::NoRows, message).at("source.project").into());
    }
    let task = LabelledTask {
        folder: context.places.blobs.display().to_string(),
        reference: record.spec.dataset.clone(),
        segments: version.segments.clone(),
        labels: labels.display().to_string(),
        project: project.to_owned(),
        path: rows.display().to_string(),
    };
    let paths = Paths::none().read(&context.places.blobs).write(&folder);
    let mut line = context.child(Program::Daemon("data"), paths).await?;
    line.send(&ToWorker::WriteLabelled(task)).await?;
    match context.next(&mut line).await? {
        FromWorker::Picked { .. } => {}
        other => return Err(unexpected(&other)),
    }
    let format = match shape(&context.state, &record)? {
        Shape::Preference => RowFormat::Preference,
        Shape::Text => RowFormat::Text,
        Shape::Prompt => RowFormat::Prompt,
        Shape::Chat => RowFormat::OpenAi,
    };
    let first_row_id = context.desk.hub.state().dataset(name).map_or(0, |dataset| dataset.next_row_id);
    let task = ImportTask {
        path: rows.display().to_string(),
        source: made.said(project),
        format,
        folder: context.places.blobs.display().to_string(),
        first_row_id,
    };
    let paths = Paths::none().read(&rows).write(&context.places.blobs);
    let mut line = context.child(Program::Daemon("data"), paths).await?;
    line.send(&ToWorker::Import(task)).await?;
    match context.next(&mut line).await? {
        FromWorker::Imported { report, segments } => {
            let part = PickedPart { name: name.to_owned(), report, segments, first_row_id };
            Ok(Produced::Picked { sources: vec![version.id], parts: vec![part] })
        }
        other => Err(unexpected(&other)),
    }
}
