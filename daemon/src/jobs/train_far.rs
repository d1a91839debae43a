//! Train in a job of Slurm: what the trainer needs is brought into a folder of the shared disk, the job is submitted there and
//! followed as a trainer of this machine is, and what it makes is brought home. So whatever comes after an attempt finds what it
//! always finds. Lives here: what is brought where. Never here: following a trainer (`train`), Slurm's commands (`workers::slurm`).
//!
//! An attempt is submitted once: it is stored before anything is submitted, and looked for by its name before it is submitted again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::model::{VersionRecord, WeightsFile};
use hone_protocol::paths::{CHECKPOINTS, TRAINED};
use hone_protocol::pool::SlurmView;
use hone_protocol::train::{TrainResult, TrainSpec};
use hone_protocol::worker::ToWorker;

use super::attempt::{Context, Stop, wished};
use super::store_file;
use super::train::{self, RowFiles, Where};
use crate::dispatcher::event::Fact;
use crate::node::OUT;
use crate::pools::SlurmRun;
use crate::workers::far::{Far, write_wish};
use crate::workers::line::Line;
use crate::workers::{process, slurm};

/// Models that were brought to the shared disk, by their hash; each may be used by later runs.
const MODELS: &str = "hone-models";
/// The best state of a run that may end early.
const BEST: &str = "best.gguf";
/// How long until a controller that does not answer is asked again.
const AGAIN: Duration = Duration::from_secs(15);
/// Bytes of the job's words that are kept in the log of the hone job.
const LOG_BYTES_MAX: u64 = 64 * 1024;

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    let full = error.kind() == std::io::ErrorKind::StorageFull;
    let code = if full { FailureCode::DiskFull } else { FailureCode::FileUnreadable };
    let message = format!("the shared folder of the pool cannot be used: {error}");
    Failure::new(code, message).at(path.display().to_string())
}

async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Failure::new(FailureCode::Internal, error.to_string())))
}

/// The whole of a run's attempt in Slurm, up to a result that lies at home.
pub(super) async fn train(
    context: &mut Context,
    spec: &TrainSpec,
    base: &VersionRecord,
    model_path: &Path,
    run: Arc<SlurmRun>,
) -> Result<TrainResult, Stop> {
    let number = match run.view.number.as_str() {
        "" => submitted(context, spec, base, model_path, &run).await?,
        number => number.to_owned(),
    };
    let state = if run.view.state.is_empty() { "PENDING".to_owned() } else { run.view.state.clone() };
    let view = SlurmView { number, state, ..run.view.clone() };
    let run = SlurmRun { view, ..(*run).clone() };
    let (far, stream, mut news) = Far::follow(&run).map_err(|e| Failure::new(FailureCode::Internal, e.to_string()))?;
    let far = Arc::new(far);
    let mut line =
        Line::to(Arc::clone(&far), stream).map_err(|e| Failure::new(FailureCode::Internal, e.to_string()))?;
    // What Slurm says goes beside the frames: it is no part of them.
    let (events, job) = (context.events.clone(), context.job.clone());
    let told = tokio::spawn(async move {
        while let Some(view) = news.recv().await {
            let fact = Fact::Slurm(view);
            let event = crate::dispatcher::event::Event::Attempt { job: job.id, number: job.attempt, fact, done: None };
            events.post(event).await;
        }
    });
    context.far = Some(Arc::clone(&far));
    let followed = train::follow(context, &mut line, spec).await;
    if context.is_left() {
        return Err(Stop::Wished);
    }
    if followed.is_err() {
        far.end();
    }
    drop(line);
    let view = far.settle().await;
    context.far = None;
    drop(far);
    let _ = told.await;
    keep_words(context, &run);
    // What it cost is stored with what it came to.
    context.fact(Fact::Slurm(view)).await;
    let result = followed?;
    if spec.register.is_some() || result.steps > 0 {
        bring(Path::new(&run.folder).join(TRAINED), context.folder().join(TRAINED)).await?;
    }
    Ok(result)
}

/// The number of the attempt's job: one that was submitted before a crash, or a new one.
async fn submitted(
    context: &mut Context,
    spec: &TrainSpec,
    base: &VersionRecord,
    model_path: &Path,
    run: &SlurmRun,
) -> Result<String, Stop> {
    // Only an attempt of before a crash has a folder.
    let before = match Path::new(&run.folder).join(slurm::SCRIPT_NAME).exists() {
        true => answered(context, || slurm::find(run)).await?,
        false => None,
    };
    if let Some(view) = before {
        let number = view.number.clone();
        context.durable(Fact::Slurm(view)).await?;
        return Ok(number);
    }
    let rows = train::export_rows(context, spec).await?;
    context.progress("phase.submit", 0, 0).await;
    let model = bring_model(&run.place.folder, model_path, &base.file).await?;
    let place = Where { folder: PathBuf::from(&run.folder), rows: there(&rows, &run.folder), model: model.clone() };
    let task = ToWorker::Train(Box::new(train::task(context, spec, base, &place, false)));
    let threads = match &task {
        ToWorker::Train(task) => task.params.threads,
        _ => run.place.cores,
    };
    let (own, folder, homes) = (context.folder(), place.folder.clone(), rows.all());
    let checkpoint = context.job.checkpoint.as_ref().map(|checkpoint| checkpoint.folder.clone());
    aside(move || lay_out(&own, &folder, &homes, checkpoint.as_deref(), &task)).await?;
    let own = std::env::current_exe().map_err(|e| Failure::new(FailureCode::Internal, e.to_string()))?;
    let program = run.place.programs.as_ref().map_or(own, |folder| Path::new(folder).join("honed"));
    let number = loop {
        match slurm::submit(run, &program, &model, threads).await {
            Ok(number) => break number,
            // It may have been heard all the same: looked for by its name before it is said again.
            Err(failure) if failure.code == FailureCode::Interrupted => {
                told_to_wait(context, &failure).await?;
                if let Some(view) = answered(context, || slurm::find(run)).await? {
                    break view.number;
                }
            }
            Err(failure) => return Err(failure.into()),
        }
    };
    let view = SlurmView { number: number.clone(), state: "PENDING".into(), ..SlurmView::default() };
    context.durable(Fact::Slurm(view)).await?;
    Ok(number)
}

/// Asks until the controller answers or the attempt is to stop.
async fn answered<T, F: Future<Output = Result<T, Failure>>>(
    context: &mut Context,
    ask: impl Fn() -> F,
) -> Result<T, Stop> {
    loop {
        match ask().await {
            Err(failure) if failure.code == FailureCode::Interrupted => told_to_wait(context, &failure).await?,
            answer => return Ok(answer?),
        }
    }
}

async fn told_to_wait(context: &mut Context, failure: &Failure) -> Result<(), Stop> {
    eprintln!("honed: {}: {failure}; asked again in {} s", context.job.id, AGAIN.as_secs());
    tokio::select! {
        _ = wished(&mut context.stop) => Err(Stop::Wished),
        () = tokio::time::sleep(AGAIN) => Ok(()),
    }
}

/// The same files in another folder.
fn there(rows: &RowFiles, folder: &str) -> RowFiles {
    let of = |path: &Path| Path::new(folder).join(path.file_name().unwrap_or_default());
    RowFiles {
        train: of(&rows.train),
        held_out: of(&rows.held_out),
        replay: of(&rows.replay),
        replay_held_out: of(&rows.replay_held_out),
    }
}

/// Makes an attempt's folder complete: rows, the checkpoint to go on from, the task, and last what Slurm starts.
fn lay_out(
    own: &Path,
    folder: &Path,
    rows: &[PathBuf],
    checkpoint: Option<&str>,
    task: &ToWorker,
) -> Result<(), Failure> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let lay = || -> std::io::Result<()> {
        if let Err(error) = std::fs::remove_dir_all(folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error);
        }
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        for path in rows {
            store_file::copy(path, &folder.join(path.file_name().unwrap_or_default()))?;
        }
        let best = own.join(BEST);
        if best.is_file() {
            store_file::copy(&best, &folder.join(BEST))?;
        }
        if let Some(name) = checkpoint {
            copy_folder(&own.join(CHECKPOINTS).join(name), &folder.join(CHECKPOINTS).join(name))?;
        }
        write_wish(folder, task)?;
        let script = folder.join(slurm::SCRIPT_NAME);
        std::fs::write(&script, slurm::SCRIPT)?;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700))?;
        std::fs::File::open(&script)?.sync_all()?;
        std::fs::File::open(folder)?.sync_all()
    };
    lay().map_err(|error| unwritable(folder, &error))
}

/// A folder of files under another name: complete or absent afterwards.
fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    let partial = to.with_extension("partial");
    let _ = std::fs::remove_dir_all(&partial);
    std::fs::create_dir_all(&partial)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            store_file::copy(&entry.path(), &partial.join(entry.file_name()))?;
        }
    }
    std::fs::File::open(&partial)?.sync_all()?;
    let _ = std::fs::remove_dir_all(to);
    std::fs::rename(&partial, to)?;
    match to.parent() {
        Some(parent) => std::fs::File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// A model on the shared disk, under its hash; brought there by the first run that needs it.
async fn bring_model(shared: &str, path: &Path, file: &WeightsFile) -> Result<PathBuf, Failure> {
    let hex: String = file.sha256.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let target = Path::new(shared).join(MODELS).join(format!("{hex}.gguf"));
    let there = std::fs::metadata(&target).is_ok_and(|meta| meta.len() == file.size_bytes);
    if !there {
        bring(path.to_owned(), target.clone()).await?;
    }
    Ok(target)
}

/// Copies a file: complete or absent afterwards.
async fn bring(from: PathBuf, to: PathBuf) -> Result<(), Failure> {
    aside(move || {
        let copied = || -> std::io::Result<()> {
            let folder = to.parent().ok_or_else(|| std::io::Error::other("no folder"))?;
            std::fs::create_dir_all(folder)?;
            let partial = to.with_extension(format!("{}.partial", std::process::id()));
            let _ = std::fs::remove_file(&partial);
            store_file::copy(&from, &partial)?;
            std::fs::rename(&partial, &to)?;
            std::fs::File::open(folder)?.sync_all()
        };
        copied().map_err(|error| unwritable(&from, &error))
    })
    .await
}

/// Brings a reported checkpoint home, and the best state so far beside it. What is wrong with it is found where it is accepted.
pub(super) async fn bring_checkpoint(context: &Context, name: &str) -> Result<(), Failure> {
    let Some(run) = context.state.slurm.get(&context.job.id).cloned() else { return Ok(()) };
    let (there, home) = (PathBuf::from(&run.folder), context.folder());
    let name = name.to_owned();
    aside(move || {
        let (from, to) = (there.join(CHECKPOINTS).join(&name), home.join(CHECKPOINTS).join(&name));
        let copied = copy_folder(&from, &to).and_then(|()| match there.join(BEST).is_file() {
            true => {
                store_file::copy(&there.join(BEST), &home.join("best.next"))?;
                std::fs::rename(home.join("best.next"), home.join(BEST))
            }
            false => Ok(()),
        });
        copied.map_err(|error| unwritable(&from, &error))?;
        // What is home needs no second copy; the trainer goes on from what it holds in memory.
        for entry in std::fs::read_dir(there.join(CHECKPOINTS)).into_iter().flatten().flatten() {
            let step = |name: &str| name.parse::<u64>().ok();
            let older = entry.file_name().to_str().and_then(step).zip(step(&name)).is_some_and(|(a, b)| a < b);
            if older {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        Ok(())
    })
    .await
}

/// The last of what the job said is kept in the hone job's own log.
fn keep_words(context: &Context, run: &SlurmRun) {
    use std::io::Write;
    let words = process::tail(&Path::new(&run.folder).join(slurm::LOG_NAME), LOG_BYTES_MAX);
    let log = std::fs::OpenOptions::new().create(true).append(true).open(context.log());
    if let (Ok(mut log), false) = (log, words.trim().is_empty()) {
        // A log that cannot be written costs words.
        let _ = writeln!(log, "Slurm job {}:\n{}", run.view.number, words.trim_end());
    }
}

/// What ends a trainer in Slurm that nobody here asked to end: a time limit, or an operator.
pub(super) fn asked_elsewhere(context: &Context) -> Option<Failure> {
    let run = context.far.as_ref().and(context.state.slurm.get(&context.job.id))?;
    let begun = Path::new(&run.folder).join(OUT).exists();
    let message =
        "Slurm asked the job to end, as it does before a time limit; the run goes on from its checkpoint in a new job";
    begun.then(|| Failure::new(FailureCode::Interrupted, message).hint(HintCode::ReadLog))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempts_folder_is_complete_and_made_anew() {
        let home = tempfile::tempdir().unwrap();
        let shared = tempfile::tempdir().unwrap();
        let (own, folder) = (home.path(), shared.path().join("hone-x-1"));
        std::fs::create_dir_all(own.join(CHECKPOINTS).join("000004")).unwrap();
        std::fs::write(own.join(CHECKPOINTS).join("000004/manifest.json"), b"{}").unwrap();
        std::fs::write(own.join("rows.jsonl"), b"{}\n").unwrap();
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("out"), b"of before").unwrap();
        let rows = [own.join("rows.jsonl")];
        lay_out(own, &folder, &rows, Some("000004"), &ToWorker::StopAtCheckpoint).unwrap();
        let mut names: Vec<_> = std::fs::read_dir(&folder).unwrap().flatten().map(|e| e.file_name()).collect();
        names.sort();
        assert_eq!(names, ["checkpoints", "in", "rows.jsonl", "run.sh"]);
        assert_eq!(std::fs::read(folder.join(CHECKPOINTS).join("000004/manifest.json")).unwrap(), b"{}");
        assert!(!folder.join(CHECKPOINTS).join("000004.partial").exists());
        let missing = lay_out(own, &folder, &[own.join("nothing")], None, &ToWorker::StopAtCheckpoint).unwrap_err();
        assert!(missing.message_en.contains("shared folder"), "{missing}");
    }
}
