//! Register: a kept checkpoint of a run, or the result of one that was not registered, becomes a version. Never here: which
//! checkpoints are kept (`kept`).

use std::path::PathBuf;

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::id::VersionId;
use hone_protocol::job::{JobRecord, JobResult, JobSpec, JobState, RegisterSpec};
use hone_protocol::paths::is_name;
use hone_protocol::train::{Register, TrainSpec, Tuning};
use hone_protocol::worker::{CheckpointTask, FromWorker, ToWorker};

use super::attempt::{Context, Stop, unexpected};
use super::kept::{self, Holder};
use super::train::weights_path;
use super::{Kind, Work, import_model, store_file};
use crate::clock::new_id;
use crate::dispatcher::event::Produced;
use crate::sandbox::Paths;
use crate::state::{Need, State};
use crate::workers::process::Program;

pub(super) const KIND: Kind = Kind { word: "register", check, pin, memory, heavy: false, run };

/// What a child holds beside the values: the model's vocabulary, and buffers.
const CHILD_BYTES: u64 = 256 << 20;
/// Bytes a value while a whole model is written: as read, as numbers, and as F16.
const BYTES_PER_VALUE: u64 = 10;

fn spec_of(spec: &JobSpec) -> Result<&RegisterSpec, Failure> {
    match spec {
        JobSpec::Register(spec) => Ok(spec),
        _ => Err(Failure::new(FailureCode::Internal, "not a registration")),
    }
}

/// The run, and what it was asked to do.
fn run_of<'s>(state: &'s State, spec: &RegisterSpec) -> Result<(&'s JobRecord, &'s TrainSpec), Failure> {
    let job = state.job(spec.run)?;
    match &job.spec {
        JobSpec::Train(train) => Ok((job, train)),
        _ => Err(Failure::field("run", format!("{} is no training run", job.id))),
    }
}

/// Names of part four of the form.
pub(super) fn check_names(register: &Register) -> Result<(), Failure> {
    for (field, name) in [("model", &register.model), ("publish", &register.publish), ("alias", &register.alias)] {
        if (field == "model" || !name.is_empty()) && !is_name(name) {
            let message = format!("{name:?} cannot be a name: use 1 to 64 of a-z 0-9 . _ -");
            return Err(Failure::field(field, message).hint(HintCode::ChooseAnotherName));
        }
    }
    Ok(())
}

fn check(state: &State, spec: &JobSpec) -> Result<(), Failure> {
    let spec = spec_of(spec)?;
    check_names(&spec.register)?;
    let (_, train) = run_of(state, spec)?;
    state.version(&train.base)?;
    step(state, spec).map(|_| ())
}

/// The wanted step; else that of the run's result, else of its newest checkpoint.
fn step(state: &State, spec: &RegisterSpec) -> Result<u64, Failure> {
    let (job, _) = run_of(state, spec)?;
    let newest = job.checkpoint.as_ref().map(|checkpoint| checkpoint.step);
    let own = match &job.state {
        JobState::Succeeded(JobResult::Train(result)) if result.version.is_none() => Some(result.kept_step),
        _ => newest,
    };
    spec.step.or(own).ok_or_else(|| {
        let message = format!("{} has no checkpoint yet, so there is nothing to make a version of", job.id);
        Failure::new(FailureCode::WrongState, message).at("run")
    })
}

fn pin(state: &State, spec: JobSpec) -> Result<JobSpec, Failure> {
    let spec = spec_of(&spec)?.clone();
    let step = step(state, &spec)?;
    Ok(JobSpec::Register(RegisterSpec { step: Some(step), ..spec }))
}

fn memory(state: &State, spec: &JobSpec) -> Need {
    let values = spec_of(spec).and_then(|spec| run_of(state, spec)).and_then(|(_, train)| match train.params.tuning {
        Tuning::Lora => Ok(0),
        Tuning::Full => Ok(state.version(&train.base)?.facts.parameters),
    });
    Need::exactly(CHILD_BYTES + BYTES_PER_VALUE * values.unwrap_or(0))
}

fn run(context: Context) -> Work {
    Box::pin(register(context))
}

async fn register(mut context: Context) -> Result<Produced, Stop> {
    let job = context.job.clone();
    let spec = spec_of(&job.spec)?;
    let (run, train) = run_of(&context.state, spec).map(|(run, train)| (run.clone(), train.clone()))?;
    let step = step(&context.state, spec)?;
    let scratch = context.folder().join("fetched");
    let path = match kept::holder(&context.places, &run, step) {
        Some(Holder::Result(path)) => path,
        Some(Holder::Checkpoint(folder)) => save(&mut context, &train, spec, folder, &scratch, step).await?,
        None => return Err(not_kept(&context, &run, step).into()),
    };
    let (facts, sha256) = import_model::inspect(&mut context, &path).await?;
    let version: VersionId = new_id();
    let (models, name) = (context.places.models.clone(), format!("{version}.gguf"));
    let file = tokio::task::spawn_blocking(move || store_file::bring(&path, &models, &name, sha256))
        .await
        .map_err(|e| Failure::new(FailureCode::Internal, e.to_string()))??;
    let _ = tokio::fs::remove_dir_all(&scratch).await;
    Ok(Produced::Registered { version, facts, file, step })
}

/// Lets a child write a checkpoint as a GGUF file.
async fn save(
    context: &mut Context,
    train: &TrainSpec,
    spec: &RegisterSpec,
    folder: PathBuf,
    scratch: &PathBuf,
    step: u64,
) -> Result<PathBuf, Stop> {
    let base = context.state.version(&train.base)?.clone();
    let model_path = weights_path(&context.places, &base);
    store_file::unchanged(&model_path, &base.file)?;
    let full = |e: std::io::Error| Failure::new(FailureCode::DiskFull, e.to_string()).at(scratch.display().to_string());
    tokio::fs::create_dir_all(scratch).await.map_err(full)?;
    let target = scratch.join("checkpoint.gguf");
    let paths = Paths::none().read(&model_path).read(&folder).write(scratch);
    let mut line = context.child(Program::Worker("checkpoint"), paths).await?;
    let task = CheckpointTask {
        folder: folder.display().to_string(),
        model_path: model_path.display().to_string(),
        model_sha256: base.file.sha256,
        name: spec.register.model.clone(),
        target: target.display().to_string(),
    };
    line.send(&ToWorker::SaveCheckpoint(task)).await?;
    match context.next(&mut line).await? {
        FromWorker::CheckpointSaved { step: saved } if saved == step => Ok(target),
        other => Err(unexpected(&other)),
    }
}

fn not_kept(context: &Context, run: &JobRecord, step: u64) -> Failure {
    let kept: Vec<String> = kept::list(&context.places, run).iter().map(|c| c.step.to_string()).collect();
    let message = match kept.is_empty() {
        true => format!("nothing of {} is kept any more: checkpoints go 30 days after the end of a run", run.id),
        false => format!("step {step} of {} is not kept; kept are {}", run.id, kept.join(", ")),
    };
    Failure::new(FailureCode::NotFound, message).at("step").arg("step", step)
}
