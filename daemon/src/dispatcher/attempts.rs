//! Jobs from queued to done: the only place where a job's state changes.

use std::sync::Arc;

use hone_protocol::failure::{Failure, FailureCode, HintCode};
use hone_protocol::id::JobId;
use hone_protocol::job::*;
use hone_protocol::train::{SERIES, StepMetrics};
use hone_protocol::value::Metric;
use tokio::sync::oneshot;

use super::effect::{Effect, StopHow};
use super::event::{AttemptEnd, Fact};
use super::{Decider, Subject};
use crate::jobs;
use crate::state::Attempt;
use crate::store::{Sweep, Table, after, codec, key};

/// The key of a metric value.
pub(crate) fn metric_key(job: JobId, series: u8, step: u64) -> Vec<u8> {
    key(&[job.bytes(), &[series], &step.to_be_bytes()])
}

/// The key of what a run said after a step.
pub(crate) fn sample_key(job: JobId, step: u64) -> Vec<u8> {
    key(&[job.bytes(), &step.to_be_bytes()])
}

fn series(name: &str) -> u8 {
    SERIES.iter().position(|s| *s == name).unwrap_or_default() as u8
}

impl Decider {
    /// Changes a job and stores it.
    pub(crate) fn with_job(&mut self, id: JobId, change: impl FnOnce(&mut JobRecord)) {
        let jobs = Arc::make_mut(&mut self.state.jobs);
        let Some(record) = jobs.get_mut(&id) else { return };
        let record = Arc::make_mut(record);
        change(record);
        if record.state != JobState::Queued {
            self.queued.remove(&id);
        }
        self.writes.put(Table::Jobs, *id.bytes(), codec::record(&*record));
        self.dirty.insert(Subject::Job(id));
    }

    /// Adds a durable event to a job. Call it together with the change that it tells of.
    pub(crate) fn job_event(&mut self, id: JobId, kind: JobEventKind) {
        let at_ms = self.now_ms;
        let mut event = None;
        self.with_job(id, |job| {
            event = Some(JobEvent { seq: job.next_event_seq, at_ms, kind });
            job.next_event_seq += 1;
        });
        if let Some(event) = event {
            self.writes.put(Table::JobEvents, key(&[id.bytes(), &event.seq.to_be_bytes()]), codec::record(&event));
        }
    }

    /// Gives a job its end.
    pub(crate) fn end_job(&mut self, id: JobId, state: JobState) {
        let at_ms = self.now_ms;
        let kind = match &state {
            JobState::Queued => return,
            JobState::Succeeded(result) => JobEventKind::Succeeded(result.clone()),
            JobState::Failed(failure) => JobEventKind::Failed(failure.clone()),
            JobState::Cancelled => JobEventKind::Cancelled,
        };
        self.with_job(id, |job| {
            debug_assert_eq!(job.state, JobState::Queued, "a job ends once");
            job.state = state;
            job.wish = None;
            job.ended_at_ms = Some(at_ms);
        });
        self.job_event(id, kind);
        self.alert_end(id);
        let ended = self.state.jobs.get(&id).map(|j| &j.state);
        if !matches!(ended, Some(JobState::Failed(_))) {
            // A failed job keeps its folder: it may be resumed from its checkpoint.
            let keep_result = matches!(ended, Some(JobState::Succeeded(JobResult::Train(r))) if r.version.is_none());
            self.effects.push(Effect::CleanJob { job: id, keep_result });
        }
    }

    /// At start: a wish to cancel that was not carried out is carried out now.
    pub(super) fn resolve_wishes(&mut self) {
        let cancelled: Vec<JobId> = self
            .queued
            .iter()
            .copied()
            .filter(|id| self.state.jobs.get(id).is_some_and(|j| j.wish == Some(Wish::Cancel)))
            // What Slurm has must be ended there first.
            .filter(|id| !self.state.slurm.contains_key(id))
            .collect();
        for id in cancelled {
            self.end_job(id, JobState::Cancelled);
        }
    }

    /// Starts what may start, in the order of the line.
    pub(super) fn schedule(&mut self) {
        if self.state.stopping {
            return;
        }
        for id in self.line() {
            let Some(job) = self.state.jobs.get(&id).cloned() else { continue };
            if job.wish.is_some() {
                continue;
            }
            if job.barren >= BARREN_MAX {
                let failure = Failure::new(
                    FailureCode::Quarantined,
                    format!("{BARREN_MAX} attempts began without reaching a checkpoint; the job is set aside"),
                );
                self.end_job(id, JobState::Failed(failure.hint(HintCode::ReadLog)));
                continue;
            }
            // Idle services make room for work that lacks nothing else.
            if let Some(needed) = jobs::lacks_memory(&self.state, &job) {
                let pool = self.state.pool_of(&job).to_owned();
                self.make_room(&pool, needed);
            }
            if let Ok(memory_bytes) = jobs::admit(&self.state, &job) {
                self.start_attempt(id, memory_bytes);
            }
        }
    }

    fn start_attempt(&mut self, id: JobId, memory_bytes: u64) {
        let at_ms = self.now_ms;
        self.with_job(id, |job| {
            job.attempt += 1;
            job.barren += 1;
            job.started_at_ms.get_or_insert(at_ms);
        });
        let Some(job) = self.state.jobs.get(&id).cloned() else { return };
        let from_step = job.checkpoint.as_ref().map(|c| c.step);
        // What was measured after the checkpoint will be measured again: the last attempt wins.
        for number in 0..SERIES.len() as u8 {
            self.writes.sweeps.push(Sweep {
                table: Table::Metrics,
                from: metric_key(id, number, from_step.map_or(0, |s| s + 1)),
                to: after(&key(&[id.bytes(), &[number]])),
            });
        }
        let from = sample_key(id, from_step.map_or(0, |s| s + 1));
        self.writes.sweeps.push(Sweep { table: Table::Samples, from, to: after(&key(&[id.bytes()])) });
        self.job_event(id, JobEventKind::Started { attempt: job.attempt, from_step });
        let attempt = jobs::attempt_of(&self.state, &job, memory_bytes, (self.now_ms, self.steady_ms));
        self.begin_slurm(&job);
        self.touch_pools();
        Arc::make_mut(&mut self.state.attempts).insert(id, attempt);
        if let Some(job) = self.state.jobs.get(&id).cloned() {
            self.effects.push(Effect::StartAttempt(job));
        }
    }

    pub(super) fn is_current(&self, job: JobId, number: u32) -> bool {
        self.state.attempts.get(&job).is_some_and(|a| a.number == number)
    }

    /// Takes a report of a running attempt.
    pub(super) fn attempt_fact(&mut self, job: JobId, number: u32, fact: Fact, done: Option<oneshot::Sender<()>>) {
        if !self.is_current(job, number) {
            return;
        }
        match fact {
            Fact::Pid(pid) => self.with_attempt(job, |a| a.pid = pid),
            Fact::Progress(progress) => self.with_attempt(job, |a| a.progress = Some(progress)),
            Fact::Planned(plan) => {
                self.with_attempt(job, |a| {
                    a.plan = Some(plan);
                    a.memory_bytes = a.memory_bytes.max(plan.memory_bytes);
                });
                self.slurm_planned(job, plan);
                self.job_event(job, JobEventKind::Planned(plan));
            }
            Fact::Step(step) => self.step(job, &step),
            Fact::Evaluated { step, loss, preference, replay_loss } => {
                self.put_metric(job, "eval_loss", step, loss);
                if let Some(loss) = replay_loss {
                    self.put_metric(job, "replay_loss", step, loss);
                }
                if let Some(pairs) = preference {
                    self.put_metric(job, "eval_margin", step, pairs.margin);
                    self.put_metric(job, "eval_accuracy", step, pairs.accuracy);
                }
            }
            Fact::Sampled(sampled) => {
                self.writes.put(Table::Samples, sample_key(job, sampled.step), codec::record(&sampled));
            }
            Fact::Warned(warned) => self.job_event(job, JobEventKind::Warned(warned)),
            Fact::Checkpoint(checkpoint) => {
                let step = checkpoint.step;
                self.with_job(job, |job| {
                    job.checkpoint = Some(checkpoint);
                    job.strikes = 0;
                    job.barren = 0;
                });
                self.job_event(job, JobEventKind::Checkpointed { step });
            }
            Fact::Slurm(view) => self.slurm_said(job, view),
            Fact::At { position, fact } => {
                self.attempt_fact(job, number, *fact, None);
                self.slurm_taken(job, position);
            }
            Fact::BatchCounted(rows) => self.batch_counted(job, rows),
            Fact::Suggested(project, suggestions) => {
                // A project that was changed meanwhile takes what still fits it.
                if let Err(failure) = self.keep_suggested(&project, suggestions) {
                    eprintln!("honed: suggestions for {project} were not kept: {}", failure.message_en);
                }
            }
            Fact::Rejected(candidates) => self.keep_rejected(job, candidates),
            Fact::EvaluationRows(rows) => {
                for row in rows {
                    let id = jobs::evaluation_id(job);
                    let key = key(&[id.bytes(), &row.row_id.to_be_bytes()]);
                    self.writes.put(Table::EvaluationRows, key, codec::record(&row));
                }
                self.with_job(job, |job| {
                    job.strikes = 0;
                    job.barren = 0;
                });
            }
        }
        if let Some(done) = done {
            self.effects.push(Effect::Durable(done));
        }
    }

    pub(super) fn with_attempt(&mut self, job: JobId, change: impl FnOnce(&mut Attempt)) {
        if let Some(attempt) = Arc::make_mut(&mut self.state.attempts).get_mut(&job) {
            change(attempt);
            self.dirty.insert(Subject::Job(job));
        }
    }

    fn put_metric(&mut self, job: JobId, name: &str, step: u64, value: Metric) {
        self.writes.put(Table::Metrics, metric_key(job, series(name), step), value.value().to_le_bytes().to_vec());
    }

    fn step(&mut self, job: JobId, step: &StepMetrics) {
        self.put_metric(job, "loss", step.step, step.loss);
        self.put_metric(job, "grad_norm", step.step, step.grad_norm);
        self.put_metric(job, "learning_rate", step.step, step.learning_rate);
        let rate = if step.step_ms > 0.0 { step.tokens as f64 * 1000.0 / step.step_ms } else { 0.0 };
        self.put_metric(job, "tokens_per_s", step.step, rate.into());
        self.put_metric(job, "target_tokens", step.step, (step.target_tokens as f64).into());
        if let Some(pairs) = step.preference {
            self.put_metric(job, "margin", step.step, pairs.margin);
            self.put_metric(job, "accuracy", step.step, pairs.accuracy);
        }
        let (number, loss, step_ms) = (step.step, step.loss.value(), step.step_ms);
        self.with_attempt(job, |attempt| {
            let total = attempt.plan.map_or(0, |p| p.steps);
            let remaining = total.saturating_sub(number) as f64 * step_ms.clamp(0.0, 1e9);
            attempt.last_loss = Some(loss);
            attempt.progress = Some(Progress {
                phase: "phase.train".into(),
                done: number,
                total,
                remaining_ms: (total > 0).then_some(remaining as u64),
            });
        });
    }

    /// Takes the end of an attempt.
    pub(super) fn attempt_ended(&mut self, job: JobId, number: u32, end: AttemptEnd) {
        if !self.is_current(job, number) {
            return;
        }
        if let Some(attempt) = Arc::make_mut(&mut self.state.attempts).remove(&job) {
            self.touch_pools();
            let slurm = self.end_slurm(job);
            self.charge_attempt(job, &attempt, slurm.as_ref());
        }
        self.dirty.insert(Subject::Job(job));
        let wish = self.state.jobs.get(&job).and_then(|j| j.wish);
        match (end, wish) {
            // A wish to cancel that was acknowledged wins over any end, success included.
            (_, Some(Wish::Cancel)) => self.end_job(job, JobState::Cancelled),
            (AttemptEnd::Produced(produced), _) => self.produced(job, *produced),
            (AttemptEnd::Stopped, Some(Wish::Pause)) => self.job_event(job, JobEventKind::Paused),
            (AttemptEnd::Stopped, None) => {
                // The daemon is stopping: no attempt was wasted by the job's own fault.
                self.with_job(job, |j| j.barren = j.barren.saturating_sub(1));
                let failure =
                    Failure::new(FailureCode::Stopping, "the daemon stopped; the job goes on at the next start");
                self.job_event(job, JobEventKind::Interrupted(failure));
            }
            (AttemptEnd::Failed(failure), _) => self.attempt_failed(job, failure),
        }
    }

    fn attempt_failed(&mut self, job: JobId, failure: Failure) {
        let retried = matches!(
            failure.code,
            FailureCode::WorkerDied | FailureCode::WorkerSilent | FailureCode::Interrupted | FailureCode::BadFrame
        );
        if !retried {
            self.end_job(job, JobState::Failed(failure));
            return;
        }
        self.with_job(job, |j| j.strikes += 1);
        let strikes = self.state.jobs.get(&job).map_or(0, |j| j.strikes);
        if strikes >= STRIKES_MAX {
            let message = format!(
                "{STRIKES_MAX} workers died in a row; the job is set aside. The last one: {}",
                failure.message_en
            );
            let failure = Failure { code: FailureCode::Quarantined, message_en: message, ..failure };
            self.end_job(job, JobState::Failed(failure));
        } else {
            self.job_event(job, JobEventKind::Interrupted(failure));
        }
    }

    /// A person wishes a job to end.
    pub(super) fn cancel(&mut self, id: JobId) -> Result<(), Failure> {
        self.wish(id, Wish::Cancel)?;
        if self.state.attempts.contains_key(&id) {
            self.effects.push(Effect::StopAttempt(id, StopHow::Now));
        } else {
            self.end_job(id, JobState::Cancelled);
        }
        Ok(())
    }

    /// A person wishes a job to stop at a checkpoint.
    pub(super) fn pause(&mut self, id: JobId) -> Result<(), Failure> {
        self.wish(id, Wish::Pause)?;
        if self.state.attempts.contains_key(&id) {
            self.effects.push(Effect::StopAttempt(id, StopHow::AtCheckpoint));
        } else {
            self.job_event(id, JobEventKind::Paused);
        }
        Ok(())
    }

    fn wish(&mut self, id: JobId, wish: Wish) -> Result<(), Failure> {
        let job = self.state.job(id)?;
        if job.state != JobState::Queued {
            return Err(Failure::new(FailureCode::WrongState, "the job has ended already").at(id.to_string()));
        }
        if job.wish == Some(Wish::Cancel) && wish == Wish::Pause {
            return Err(Failure::new(FailureCode::WrongState, "the job is being cancelled").at(id.to_string()));
        }
        self.with_job(id, |job| job.wish = Some(wish));
        Ok(())
    }

    /// A person wishes a paused or failed job to go on from its checkpoint.
    pub(super) fn resume(&mut self, id: JobId) -> Result<(), Failure> {
        let job = self.state.job(id)?.clone();
        let paused = job.state == JobState::Queued && job.wish == Some(Wish::Pause);
        if !paused && !matches!(job.state, JobState::Failed(_)) {
            let message = "only a paused or failed job can go on";
            return Err(Failure::new(FailureCode::WrongState, message).at(id.to_string()));
        }
        // What it works on may have gone into the trash since it failed, and its pool may be gone.
        self.state.pool(self.state.pool_of(&job))?;
        job.spec.works_on().map(|reference| self.state.version(reference)).transpose()?;
        self.with_job(id, |job| {
            job.state = JobState::Queued;
            job.wish = None;
            job.ended_at_ms = None;
            job.strikes = 0;
            job.barren = 0;
        });
        self.queued.insert(id);
        self.job_event(id, JobEventKind::Resumed);
        Ok(())
    }
}
