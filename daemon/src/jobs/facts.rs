//! Find facts of a dataset version: a child of rows looks at them, and the tokenizer of a model counts where one was chosen.

use hone_protocol::dataset::{Part, Segment, Split};
use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::job::{FactsSpec, JobSpec};
use hone_protocol::worker::{FactsTask, FromWorker, ReadTask, Select, ToWorker};

use super::attempt::{Context, Stop, unexpected};
use super::process::exact;
use super::train::weights_path;
use super::{Kind, Work};
use crate::dispatcher::event::Produced;
use crate::sandbox::Paths;
use crate::state::{Need, State};
use crate::workers::process::Program;

pub(super) const KIND: Kind =
    Kind { word: "facts", check, pin, memory: |_, _| Need::exactly(384 << 20), heavy: false, run };

/// Rows that are read at once.
const WINDOW: u32 = 200;

fn spec_of(spec: &JobSpec) -> Result<&FactsSpec, Failure> {
    match spec {
        JobSpec::Facts(spec) => Ok(spec),
        _ => Err(Failure::new(FailureCode::Internal, "not a wish for facts")),
    }
}

fn check(state: &State, spec: &JobSpec) -> Result<(), Failure> {
    let spec = spec_of(spec)?;
    state.dataset_version(&spec.dataset)?;
    match &spec.model {
        Some(model) => state.version(model).map(drop),
        None => Ok(()),
    }
}

fn pin(state: &State, spec: JobSpec) -> Result<JobSpec, Failure> {
    let spec = spec_of(&spec)?;
    let model = match &spec.model {
        Some(model) => Some(state.version_reference(state.version(model)?.id)),
        None => None,
    };
    Ok(JobSpec::Facts(FactsSpec { dataset: exact(state, &spec.dataset)?, model }))
}

fn run(context: Context) -> Work {
    Box::pin(facts(context))
}

async fn facts(mut context: Context) -> Result<Produced, Stop> {
    let job = context.job.clone();
    let spec = spec_of(&job.spec)?;
    let version = context.state.dataset_version(&spec.dataset)?.clone();
    let task = FactsTask {
        folder: context.places.blobs.display().to_string(),
        scratch: context.folder().display().to_string(),
        segments: version.segments.clone(),
    };
    let paths = Paths::none().read(&context.places.blobs).write(context.folder());
    let mut line = context.child(Program::Daemon("data"), paths).await?;
    line.send(&ToWorker::FindFacts(task)).await?;
    let mut facts = match context.next(&mut line).await? {
        FromWorker::FactsFound(facts) if facts.rows == version.rows => facts,
        FromWorker::FactsFound(_) => {
            let message = "the facts are not of as many rows as the version has";
            return Err(Failure::new(FailureCode::BadFrame, message).hint(HintCode::ReportBug).into());
        }
        other => return Err(unexpected(&other)),
    };
    if let Some(model) = &spec.model {
        facts.tokens = Some((tokens(&mut context, &version.segments, version.rows, model).await?, model.clone()));
    }
    Ok(Produced::Facts(version.id, facts))
}

/// The tokens of all rows as the model's template and vocabulary make them.
async fn tokens(context: &mut Context, segments: &[Segment], rows: u64, model: &str) -> Result<u64, Stop> {
    let state = context.state.clone();
    let base = state.base_of(state.version(model)?);
    let base = state.versions.get(&base).ok_or_else(|| Failure::not_found("version", model))?;
    let path = weights_path(&context.places, base).display().to_string();
    let mut renderer = context.child(Program::Worker("tokenize"), Paths::none().read(&path)).await?;
    renderer.send(&ToWorker::Tokenize { model_path: path }).await?;
    match context.next(&mut renderer).await? {
        FromWorker::Ready { .. } => {}
        other => return Err(unexpected(&other)),
    }
    let mut reader = context.child(Program::Daemon("data"), Paths::none().read(&context.places.blobs)).await?;
    let (mut tokens, mut done) = (0, 0);
    while done < rows {
        let all = Split { held_out_percent: 0, seed: 0 };
        let select = Select::Window { offset: done, count: WINDOW, split: all, part: Part::All };
        let folder = context.places.blobs.display().to_string();
        reader.send(&ToWorker::Read(ReadTask { request: done, folder, segments: segments.to_vec(), select })).await?;
        let window = match context.next(&mut reader).await? {
            FromWorker::Window { rows, .. } => rows?,
            other => return Err(unexpected(&other)),
        };
        if window.is_empty() {
            return Err(Failure::new(FailureCode::BadFrame, "the reader has fewer rows than the version").into());
        }
        for row in window {
            renderer.send(&ToWorker::Render { request: done, row }).await?;
            match context.next(&mut renderer).await? {
                FromWorker::Rendered { row, .. } => tokens += row?.tokens.len() as u64,
                other => return Err(unexpected(&other)),
            }
            done += 1;
        }
        context.progress("phase.tokenize", done, rows).await;
    }
    Ok(tokens)
}
