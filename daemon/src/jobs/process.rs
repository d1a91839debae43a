//! Send rows through a recipe: a child does the steps and writes what each dropped or changed, the daemon records the version.

use std::path::{Path, PathBuf};

use hone_protocol::dataset::Segment;
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::job::JobSpec;
use hone_protocol::paths::is_name;
use hone_protocol::recipe::{ProcessSpec, Processed, Recipe, StepOutcome};
use hone_protocol::worker::{FromWorker, ProcessTask, ToWorker};

use super::attempt::{Context, Stop, unexpected};
use super::{Kind, Work};
use crate::dispatcher::event::Produced;
use crate::sandbox::Paths;
use crate::state::{Need, State};
use crate::workers::process::Program;

pub(super) const KIND: Kind =
    Kind { word: "process", check, pin, memory: |_, _| Need::exactly(384 << 20), heavy: false, run };

/// Where ledgers of steps are, beside the segments: one folder for all versions, because a ledger serves each recipe that begins alike.
pub fn ledgers_folder(blobs: &Path) -> PathBuf {
    blobs.join("ledgers")
}

/// Segments of the datasets that steps look at, by the name that the steps have.
pub fn others_of(state: &State, recipe: &Recipe) -> Result<Vec<(String, Vec<Segment>)>, Failure> {
    let mut others: Vec<(String, Vec<Segment>)> = Vec::new();
    for (index, step) in recipe.steps.iter().enumerate() {
        for name in step.others() {
            if others.iter().all(|(known, _)| *known != name) {
                let version = state.dataset_version(&name);
                let version = version.map_err(|failure| failure.at(format!("steps[{index}].against")))?;
                others.push((name, version.segments.clone()));
            }
        }
    }
    Ok(others)
}

fn spec_of(spec: &JobSpec) -> Result<&ProcessSpec, Failure> {
    match spec {
        JobSpec::Process(spec) => Ok(spec),
        _ => Err(Failure::new(FailureCode::Internal, "not a recipe")),
    }
}

fn check(state: &State, spec: &JobSpec) -> Result<(), Failure> {
    let spec = spec_of(spec)?;
    if !is_name(&spec.name) {
        let message =
            format!("{:?} cannot be a name: use 1 to 64 of a-z 0-9 . _ - beginning with a letter or digit", spec.name);
        return Err(Failure::field("name", message).hint(HintCode::ChooseAnotherName));
    }
    state.dataset_version(&spec.source)?;
    spec.recipe.check()?;
    others_of(state, &spec.recipe).map(drop)
}

/// Exact versions, so that the job means the same after a restart, and so do its ledgers.
fn pin(state: &State, spec: JobSpec) -> Result<JobSpec, Failure> {
    let mut spec = spec_of(&spec)?.clone();
    spec.source = exact(state, &spec.source)?;
    for step in &mut spec.recipe.steps {
        let others = step.others();
        if !others.is_empty() {
            let exact: Vec<String> = others.iter().map(|name| exact(state, name)).collect::<Result<_, _>>()?;
            step.set("against", &exact.join(hone_protocol::form::BETWEEN_TEXTS));
        }
    }
    Ok(JobSpec::Process(Box::new(spec)))
}

/// `name@number` of what somebody wrote.
pub(super) fn exact(state: &State, written: &str) -> Result<String, Failure> {
    let version = state.dataset_version(written)?;
    let name = written.split_once('@').map_or(written, |(name, _)| name);
    Ok(format!("{name}@{}", version.number))
}

fn run(context: Context) -> Work {
    Box::pin(process(context))
}

async fn process(mut context: Context) -> Result<Produced, Stop> {
    let job = context.job.clone();
    let spec = spec_of(&job.spec)?;
    let source = context.state.dataset_version(&spec.source)?.clone();
    let licence = context.state.datasets.get(&source.dataset).map_or(String::new(), |dataset| dataset.licence.clone());
    let first_row_id = context.state.dataset(&spec.name).map_or(0, |dataset| dataset.next_row_id);
    let ledgers = ledgers_folder(&context.places.blobs);
    let made = tokio::fs::create_dir_all(&ledgers).await;
    made.map_err(|error| {
        let message = format!("{} cannot be made: {error}", ledgers.display());
        Failure::new(FailureCode::DiskFull, message).hint(HintCode::FreeDisk)
    })?;
    context.progress("phase.process", 0, 0).await;
    let recipe = if spec.recipe_name.is_empty() { "a recipe" } else { &spec.recipe_name };
    let task = ProcessTask {
        folder: context.places.blobs.display().to_string(),
        ledgers: ledgers.display().to_string(),
        segments: source.segments.clone(),
        source: format!("{} through {recipe}", spec.source),
        recipe: spec.recipe.clone(),
        others: others_of(&context.state, &spec.recipe)?,
        first_row_id,
    };
    let mut line = context.child(Program::Daemon("data"), Paths::none().write(&context.places.blobs)).await?;
    line.send(&ToWorker::Process(Box::new(task))).await?;
    match context.next(&mut line).await? {
        FromWorker::Processed { report, segments, steps } => {
            let rows: u64 = segments.iter().map(|segment| segment.rows).sum();
            let dropped = steps.iter().try_fold(0u64, |sum, step: &StepOutcome| sum.checked_add(step.dropped));
            let adds_up = report.read == source.rows
                && rows == report.kept
                && report.kept.checked_add(report.rejected) == Some(report.read)
                && dropped == Some(report.rejected)
                && steps.len() == spec.recipe.steps.len();
            if !adds_up {
                let message = "the counts of the recipe do not add up";
                return Err(Failure::new(FailureCode::BadFrame, message).hint(HintCode::ReportBug).into());
            }
            let processed = Processed {
                source: source.id,
                source_name: spec.source.clone(),
                recipe_name: spec.recipe_name.clone(),
                rows_in: report.read,
                rows_out: report.kept,
                steps,
            };
            let (lineage, responses, processed) = (None, Vec::new(), Some(Box::new(processed)));
            Ok(Produced::Dataset { report, segments, first_row_id, licence, lineage, responses, processed })
        }
        other => Err(unexpected(&other)),
    }
}
