//! The quality receipt of a version that is being made: rows of a dataset are written out by a data child, and a
//! computing child measures the new file against what it was made from. Never here: the figures.

use std::path::Path;

use hone_protocol::convert::{ConvertWork, RECEIPT_ROWS_MAX, Receipt};
use hone_protocol::dataset::{ExportFormat, Part, Split};
use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::id::VersionId;
use hone_protocol::model::Weights;
use hone_protocol::worker::{ExportTask, FromWorker, ToWorker};

use super::attempt::{Context, Stop, unexpected};
use super::convert::{card, run_child, text, usable};
use crate::sandbox::Paths;
use crate::state::State;
use crate::workers::process::Program;

/// The rows must be there.
pub(super) fn check(state: &State, rows: Option<&str>) -> Result<(), Failure> {
    match rows {
        Some(rows) => state.dataset_version(rows).map(|_| ()),
        None => Ok(()),
    }
}

/// Their exact version.
pub(super) fn pin(state: &State, rows: &mut Option<String>) -> Result<(), Failure> {
    if let Some(rows) = rows {
        *rows = exact(state, rows)?;
    }
    Ok(())
}

/// `name@number` of rows.
pub(super) fn exact(state: &State, rows: &str) -> Result<String, Failure> {
    let version = state.dataset_version(rows)?;
    let name = state.datasets.get(&version.dataset).map_or("?", |d| d.name.as_str());
    Ok(format!("{name}@{}", version.number))
}

/// Measures the model in `path` against `parent`.
pub(super) async fn measure(
    context: &mut Context,
    path: &Path,
    parent: VersionId,
    rows: &str,
) -> Result<Receipt, Stop> {
    let state = context.state.clone();
    let missing = |id: &VersionId| Failure::not_found("version", &id.to_string());
    let version = state.versions.get(&parent).ok_or_else(|| missing(&parent))?;
    let base_id = state.base_of(version);
    let base = state.versions.get(&base_id).ok_or_else(|| missing(&base_id))?;
    let base_path = usable(context, base)?;
    let adapter = match version.weights {
        Weights::Adapter { .. } => Some(usable(context, version)?),
        Weights::Base => None,
    };
    let folder = context.folder().join("made");
    let rows_path = folder.join("rows.jsonl");
    export(context, rows, RECEIPT_ROWS_MAX, &folder, &rows_path).await?;
    let mut paths = Paths::none().read(path).read(&base_path);
    if let Some(adapter) = &adapter {
        paths = paths.read(adapter);
    }
    let work = ConvertWork::Measure {
        model_path: text(path),
        parent_path: text(&base_path),
        parent_adapter_path: adapter.as_deref().map(text),
        rows_path: text(&rows_path),
    };
    let about = card(&state, version, "", "");
    let told = run_child(context, work, paths, &folder, about).await?.receipt;
    let told = told.ok_or_else(|| Failure::new(FailureCode::BadFrame, "the worker measured nothing"))?;
    let numbers = [told.perplexity, told.parent_perplexity, told.mean_kl, told.same_greedy];
    if numbers.iter().any(|number| !number.is_finite()) {
        return Err(Failure::new(FailureCode::BadFrame, "the worker measured what is no number").into());
    }
    Ok(Receipt { dataset: rows.to_owned(), ..told })
}

/// Writes rows into `path` in `folder`, which is made if it is not there: the first `rows_max`, 0 for all.
pub(super) async fn export(
    context: &mut Context,
    rows: &str,
    rows_max: u64,
    folder: &Path,
    path: &Path,
) -> Result<(), Stop> {
    let version = context.state.dataset_version(rows)?.clone();
    let full = |e: std::io::Error| Failure::new(FailureCode::DiskFull, e.to_string()).at(text(folder));
    tokio::fs::create_dir_all(folder).await.map_err(full)?;
    context.progress("phase.export", 0, version.rows).await;
    let paths = Paths::none().read(&context.places.blobs).write(folder);
    let mut line = context.child(Program::Daemon("data"), paths).await?;
    let task = ExportTask {
        format: ExportFormat::Rows,
        folder: context.places.blobs.display().to_string(),
        segments: version.segments.clone(),
        split: Split { held_out_percent: 0, seed: 0 },
        part: Part::Train,
        rows_max,
        path: path.display().to_string(),
    };
    line.send(&ToWorker::Export(task)).await?;
    match context.next(&mut line).await? {
        FromWorker::Exported { rows: 0 } => {
            let message = format!("{rows} has no rows");
            Err(Failure::new(FailureCode::NoRows, message).at(rows).into())
        }
        FromWorker::Exported { .. } => Ok(()),
        other => Err(unexpected(&other)),
    }
}
