//! The checkpoints of a run on disk: which stay while it runs, what of them stays after its end, and when they go. Their
//! folder is the only record of them. Never here: accepting one, which is a fact, or reading one, which a child does.
//!
//! While it runs, the newest [`CHECKPOINTS_KEPT`] are whole, so that the run can go on from them. Of the ones before only the
//! values stay, which are enough to make a version: [`STATES_KEPT`] of them in [`STATES_BYTES_MAX`], the oldest go first. When
//! a run has ended and cannot go on, only values stay of all. After [`RUNS_KEPT_MS`] everything but the log goes.

use std::fs;
use std::path::{Path, PathBuf};

use hone_protocol::job::{JobRecord, JobResult, JobSpec, JobState};
use hone_protocol::paths::{CHECKPOINT_FILES, CHECKPOINTS, TRAINED};
use hone_protocol::train::{CHECKPOINTS_KEPT, KeptCheckpoint, RUNS_KEPT_MS, STATES_BYTES_MAX, STATES_KEPT};

use super::attempt::job_folder;
use crate::config::Places;
use crate::state::State;

/// Files of a run beside its log, its checkpoints and its result.
const WORK_FILES: [&str; 5] = ["rows.jsonl", "held-out.jsonl", "replay.jsonl", "replay-held-out.jsonl", "best.gguf"];
/// Folders of a job that only its work needs.
const WORK_FOLDERS: [&str; 1] = ["fetched"];

/// A checkpoint's folder.
struct Found {
    step: u64,
    path: PathBuf,
}

/// Complete checkpoints, the newest first. Names of folders are steps; the worker writes the manifest last.
fn found(folder: &Path) -> Vec<Found> {
    let entries = fs::read_dir(folder.join(CHECKPOINTS)).into_iter().flatten().flatten();
    let steps = entries.filter_map(|entry| {
        let step = entry.file_name().to_str()?.parse().ok()?;
        let path = entry.path();
        CHECKPOINT_FILES.iter().all(|name| path.join(name).is_file()).then_some(Found { step, path })
    });
    let mut found: Vec<Found> = steps.collect();
    found.sort_by_key(|checkpoint| std::cmp::Reverse(checkpoint.step));
    found
}

fn bytes(path: &Path) -> u64 {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

/// Takes from a checkpoint what only going on needs. Failing costs disk, nothing else.
fn keep_values(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if !CHECKPOINT_FILES.iter().any(|name| entry.file_name() == *name) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// After a checkpoint was accepted: removes what is not kept beside it. `accepted` is its step.
pub(super) fn prune(folder: &Path, accepted: u64) {
    let older = found(folder).into_iter().filter(|checkpoint| checkpoint.step < accepted);
    let (mut states, mut held) = (0, 0);
    for checkpoint in older.skip(CHECKPOINTS_KEPT - 1) {
        keep_values(&checkpoint.path);
        (states, held) = (states + 1, held + bytes(&checkpoint.path));
        if states > STATES_KEPT || held > STATES_BYTES_MAX {
            let _ = fs::remove_dir_all(&checkpoint.path);
        }
    }
}

/// After a job's end: removes what only its work needed. Values of its checkpoints stay, and its result where it did not become
/// a version.
pub(crate) fn clean(folder: &Path, keep_result: bool) {
    for checkpoint in found(folder) {
        keep_values(&checkpoint.path);
    }
    for name in WORK_FOLDERS {
        let _ = fs::remove_dir_all(folder.join(name));
    }
    for name in WORK_FILES {
        let _ = fs::remove_file(folder.join(name));
    }
    if !keep_result {
        let _ = fs::remove_file(folder.join(TRAINED));
    }
}

/// Removes what is left of runs that ended long ago.
pub(crate) fn sweep(places: &Places, state: &State, now_ms: i64) {
    let is_old = |job: &JobRecord| job.ended_at_ms.is_some_and(|at| at + RUNS_KEPT_MS <= now_ms);
    for job in state.jobs.values().filter(|job| matches!(job.spec, JobSpec::Train(_)) && is_old(job)) {
        let folder = job_folder(places, job.id);
        if folder.join(CHECKPOINTS).exists() || folder.join(TRAINED).exists() {
            let _ = fs::remove_dir_all(folder.join(CHECKPOINTS));
            clean(&folder, false);
        }
    }
}

/// What versions can be made of, the newest first.
pub(crate) fn list(places: &Places, run: &JobRecord) -> Vec<KeptCheckpoint> {
    let folder = job_folder(places, run.id);
    // A checkpoint beyond the accepted one is still being reported, or belongs to an attempt that was lost.
    let accepted = run.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.step);
    let result = result(&folder, run);
    let of_checkpoint = |checkpoint: Found| KeptCheckpoint {
        step: checkpoint.step,
        size_bytes: bytes(&checkpoint.path),
        result: false,
    };
    let mut kept: Vec<KeptCheckpoint> =
        found(&folder).into_iter().filter(|checkpoint| checkpoint.step <= accepted).map(of_checkpoint).collect();
    if let Some((step, path)) = result {
        kept.retain(|checkpoint| checkpoint.step != step);
        let size_bytes = path.metadata().map_or(0, |meta| meta.len());
        kept.push(KeptCheckpoint { step, size_bytes, result: true });
        kept.sort_by_key(|checkpoint| std::cmp::Reverse(checkpoint.step));
    }
    kept
}

/// The file that a run ended with, and its step, where it did not become a version.
fn result(folder: &Path, run: &JobRecord) -> Option<(u64, PathBuf)> {
    let JobState::Succeeded(JobResult::Train(result)) = &run.state else { return None };
    let path = folder.join(TRAINED);
    (result.version.is_none() && path.is_file()).then_some((result.kept_step, path))
}

/// What holds a step of a run.
pub(super) enum Holder {
    /// The run's own result.
    Result(PathBuf),
    /// A checkpoint's folder.
    Checkpoint(PathBuf),
}

/// Where a step of a run is kept.
pub(super) fn holder(places: &Places, run: &JobRecord, step: u64) -> Option<Holder> {
    let folder = job_folder(places, run.id);
    if let Some((_, path)) = result(&folder, run).filter(|(kept, _)| *kept == step) {
        return Some(Holder::Result(path));
    }
    let known = list(places, run).iter().any(|checkpoint| checkpoint.step == step);
    known.then(|| Holder::Checkpoint(folder.join(CHECKPOINTS).join(step.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, step: u64, values: usize) {
        let path = folder.join(CHECKPOINTS).join(step.to_string());
        fs::create_dir_all(&path).unwrap();
        for name in ["first_moment.f32", "second_moment.f32"] {
            fs::write(path.join(name), b"moments").unwrap();
        }
        fs::write(path.join(CHECKPOINT_FILES[0]), b"{}").unwrap();
        fs::File::create(path.join(CHECKPOINT_FILES[1])).unwrap().set_len(values as u64).unwrap();
    }

    fn steps(folder: &Path) -> Vec<u64> {
        found(folder).iter().map(|checkpoint| checkpoint.step).collect()
    }

    fn whole(folder: &Path) -> Vec<u64> {
        let is_whole = |checkpoint: &Found| checkpoint.path.join("first_moment.f32").exists();
        found(folder).iter().filter(|c| is_whole(c)).map(|c| c.step).collect()
    }

    #[test]
    fn the_newest_two_stay_whole_and_values_of_eight_before_them() {
        let folder = tempfile::tempdir().unwrap();
        for step in 1..=14 {
            write(folder.path(), step, 100);
            prune(folder.path(), step);
        }
        assert_eq!(steps(folder.path()), (5..=14).rev().collect::<Vec<u64>>());
        assert_eq!(whole(folder.path()), [14, 13]);
        // One that is written while another is accepted is not touched.
        write(folder.path(), 20, 100);
        prune(folder.path(), 14);
        assert_eq!(whole(folder.path()), [20, 14, 13]);
        fs::write(folder.path().join(TRAINED), b"GGUF").unwrap();
        clean(folder.path(), true);
        assert!(folder.path().join(TRAINED).exists() && whole(folder.path()).is_empty());
        assert_eq!(steps(folder.path()).len(), 11);
        clean(folder.path(), false);
        assert!(!folder.path().join(TRAINED).exists());
    }

    #[test]
    fn values_of_large_models_are_bounded_in_bytes() {
        let folder = tempfile::tempdir().unwrap();
        for step in 1..=5 {
            write(folder.path(), step, (STATES_BYTES_MAX / 2 - 10) as usize);
            prune(folder.path(), step);
        }
        assert_eq!(steps(folder.path()), [5, 4, 3, 2]);
    }
}
