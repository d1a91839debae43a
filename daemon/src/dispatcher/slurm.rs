//! Attempts that are jobs of Slurm: what must be stored so that a restart finds them again, and letting them go on when the daemon
//! stops. Never here: Slurm's commands (`workers::slurm`), following a job (`workers::far`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hone_protocol::id::JobId;
use hone_protocol::job::{JobEventKind, JobRecord, JobState, Wish};
use hone_protocol::pool::SlurmView;
use hone_protocol::train::TrainPlan;

use super::effect::{Effect, StopHow};
use super::{Decider, Subject};
use crate::jobs;
use crate::pools::SlurmRun;
use crate::state::Attempt;
use crate::store::{Table, codec};

impl Decider {
    fn put_slurm(&mut self, run: SlurmRun) {
        self.writes.put(Table::SlurmRuns, *run.job.bytes(), codec::record(&run));
        Arc::make_mut(&mut self.state.slurm).insert(run.job, Arc::new(run));
    }

    /// Notes before anything is submitted that it will be, and under which name.
    pub(super) fn begin_slurm(&mut self, job: &JobRecord) {
        let Some(place) = self.state.slurm_place(self.state.pool_of(job)).cloned() else { return };
        let folder = Path::new(&place.folder).join(format!("hone-{}-{}", job.id, job.attempt));
        self.put_slurm(SlurmRun {
            job: job.id,
            attempt: job.attempt,
            place,
            folder: folder.display().to_string(),
            position: 0,
            began_at_ms: self.now_ms,
            plan: None,
            view: SlurmView::default(),
        });
    }

    /// Slurm says something new.
    pub(super) fn slurm_said(&mut self, id: JobId, view: SlurmView) {
        let Some(run) = self.state.slurm.get(&id).cloned() else { return };
        if run.view == view {
            return;
        }
        // That it is about to end is told with its end.
        let is_told = view.state != "COMPLETING"
            && (&run.view.number, &run.view.state, &run.view.node) != (&view.number, &view.state, &view.node);
        self.put_slurm(SlurmRun { view: view.clone(), ..(*run).clone() });
        self.dirty.insert(Subject::Job(id));
        if is_told {
            self.job_event(id, JobEventKind::Slurm(view));
        }
    }

    /// The plan of a run is kept for after a restart.
    pub(super) fn slurm_planned(&mut self, id: JobId, plan: TrainPlan) {
        if let Some(run) = self.state.slurm.get(&id).cloned() {
            self.put_slurm(SlurmRun { plan: Some(plan), ..(*run).clone() });
        }
    }

    /// The facts of frames up to there are stored.
    pub(super) fn slurm_taken(&mut self, id: JobId, position: u64) {
        let Some(run) = self.state.slurm.get(&id).cloned() else { return };
        if position > run.position {
            self.put_slurm(SlurmRun { position, ..(*run).clone() });
        }
    }

    /// An attempt has ended: what Slurm said last, and nothing of it is kept. The folder goes with the commit.
    pub(super) fn end_slurm(&mut self, id: JobId) -> Option<SlurmView> {
        let run = Arc::make_mut(&mut self.state.slurm).remove(&id)?;
        self.writes.delete(Table::SlurmRuns, *id.bytes());
        self.effects.push(Effect::RemoveFarFolder(PathBuf::from(&run.folder)));
        Some(run.view.clone())
    }

    /// At start: jobs that Slurm has go on as the attempts that they were. A wish of before is passed on.
    pub(super) fn adopt_slurm(&mut self) {
        let runs: Vec<Arc<SlurmRun>> = self.state.slurm.values().cloned().collect();
        for run in runs {
            let job = self.state.jobs.get(&run.job).cloned();
            let Some(job) = job.filter(|job| job.state == JobState::Queued && job.attempt == run.attempt) else {
                self.end_slurm(run.job);
                continue;
            };
            let attempt = Attempt {
                began_at_ms: run.began_at_ms,
                plan: run.plan,
                ..jobs::attempt_of(&self.state, &job, 0, (self.now_ms, self.steady_ms))
            };
            Arc::make_mut(&mut self.state.attempts).insert(run.job, attempt);
            self.dirty.insert(Subject::Job(run.job));
            let wish = job.wish;
            self.effects.push(Effect::StartAttempt(job));
            match wish {
                Some(Wish::Cancel) => self.effects.push(Effect::StopAttempt(run.job, StopHow::Now)),
                Some(Wish::Pause) => self.effects.push(Effect::StopAttempt(run.job, StopHow::AtCheckpoint)),
                None => {}
            }
        }
    }

    /// The daemon stops: what was submitted goes on. Says whether this attempt does.
    pub(super) fn leave_slurm(&mut self, id: JobId) -> bool {
        let is_submitted = self.state.slurm.get(&id).is_some_and(|run| !run.view.number.is_empty());
        if is_submitted {
            Arc::make_mut(&mut self.state.attempts).remove(&id);
            self.effects.push(Effect::StopAttempt(id, StopHow::Leave));
        }
        is_submitted
    }
}
