//! `hone-worker train`: rows to tokens, steps, checkpoints, held-out loss, and the adapter.
//!
//! What never lives here: the mathematics (see `crate::train`), the queue, the store.
//!
//! A checkpoint is written when a stop is asked for, every `checkpoint_steps`, when
//! `checkpoint_interval_ms` have passed since the last one, and at the end. What lies in
//! `checkpoints/` beyond the step that is resumed was never accepted and is removed first.

use std::cell::Cell;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hone_protocol::failure::{Failure, FailureCode};
use hone_protocol::train as wire;
use hone_protocol::value::{Hash, Metric};
use hone_protocol::worker::{FromWorker, ToWorker, TrainTask};
use sha2::{Digest, Sha256};

use super::checkpoint::said;
use super::child::{Busy, Channel, held_bytes};
use super::rows::Renderer;
use super::sampler::Sampler;
use super::warnings::Warnings;
use super::{facts, wrong_task};
use crate::arch::Projection;
use crate::inspect;
use crate::serve::threads::physical_cores;
use crate::train::{
    LongRows, Objective, Plan, PreferenceMetrics, Schedule, StepOutcome, TokenRow, TrainError, TrainParams, Trainer,
    Tuning, preflight,
};
use crate::vocab::Vocab;

/// The result's name in the attempt's folder.
const RESULT: &str = "trained.gguf";
/// The best state so far of a run that may end early.
const BEST: &str = "best.gguf";
/// Steps whose mean loss stands for the run's result.
const LAST_STEPS: usize = 10;

pub(super) fn run(channel: &Channel) -> Result<(), Failure> {
    let Some(ToWorker::Train(task)) = channel.recv() else {
        return Err(wrong_task("train"));
    };
    let mut work = channel.work();
    work.progress("phase.tokenize", 0, 0);
    let path = Path::new(&task.model_path);
    let found = inspect::inspect(path).map_err(facts::of_inspect)?;
    let renderer = Renderer::new(&found, Vocab::load(path).map_err(facts::of_vocab)?);
    let window_tokens = task.params.sequence_tokens as usize;
    let mut read = |path: &str| renderer.read(Path::new(path), window_tokens, &mut work);
    let (mut rows, held_out) = (read(&task.rows_path)?, read(&task.held_out_path)?);
    rows.extend(read(&task.replay_path)?);
    let replay_held_out = read(&task.replay_held_out_path)?;
    let sampler = Sampler::new(&task, &renderer, facts::of_file(&found).context_tokens as usize)?;
    let params = TrainParams {
        memory_max_bytes: (task.memory_max_bytes > 0).then_some(task.memory_max_bytes),
        ..params(&task.params)
    };
    if task.plan_only {
        let plan = preflight(path, &rows, &params).map_err(facts::of_train)?;
        channel.send(&FromWorker::Planned(planned(&plan, held_out.len(), &params)));
        return Ok(());
    }
    work.progress("phase.load", 0, 0);
    let checkpoints = Path::new(&task.folder).join("checkpoints");
    clear_leftovers(&checkpoints, task.resume.as_ref().map(|(_, step)| *step))?;
    let trainer = match &task.resume {
        None => Trainer::new(path, rows, params.clone()),
        Some((folder, _)) => Trainer::resume(path, rows, params.clone(), Path::new(folder)),
    }
    .map_err(facts::of_train)?;
    if let Some(note) = trainer.resume_note() {
        eprintln!("hone-worker train: {note}");
    }
    let plan = trainer.plan();
    if plan.streamed || plan.recompute_every > 0 {
        eprintln!("hone-worker train: {}", tight(&plan, task.memory_max_bytes));
    }
    channel.send(&FromWorker::Planned(planned(&plan, held_out.len(), &params)));
    let saved_at = trainer.steps_done();
    Run {
        channel,
        task: &task,
        template_sha256: renderer.template_sha256().map(Hash),
        trainer,
        held_out,
        replay_held_out,
        checkpoints,
        saved_at,
        saved_time: Instant::now(),
        stop: Cell::new(false),
        sampler,
        warnings: Warnings::default(),
        tokens: 0,
        seconds: 0.0,
        peak_bytes: 0,
        last: VecDeque::new(),
    }
    .finish(&mut work)
}

struct Run<'c> {
    channel: &'c Channel,
    task: &'c TrainTask,
    template_sha256: Option<Hash>,
    trainer: Trainer,
    held_out: Vec<TokenRow>,
    replay_held_out: Vec<TokenRow>,
    checkpoints: PathBuf,
    /// Step of the newest checkpoint.
    saved_at: u64,
    saved_time: Instant,
    /// Whether the daemon asked to stop.
    stop: Cell<bool>,
    sampler: Option<Sampler>,
    warnings: Warnings,
    tokens: u64,
    seconds: f64,
    /// Most memory that was held after a step.
    peak_bytes: u64,
    /// Sum of loss and targets of the last steps.
    last: VecDeque<(f64, u64)>,
}

impl Run<'_> {
    fn finish(mut self, work: &mut Busy<'_>) -> Result<(), Failure> {
        let total = self.trainer.steps_total();
        if !self.prepare(work)? {
            self.channel.send(&FromWorker::Stopped);
            return Ok(());
        }
        if self.trainer.steps_done() == 0 {
            self.look(0, work)?;
        }
        loop {
            work.progress("phase.train", self.trainer.steps_done(), total);
            let (channel, stop, moving) = (self.channel, &self.stop, &*work);
            let asked = || {
                moving.tick();
                stop_asked(channel, stop)
            };
            let outcome = match asked() {
                true => StepOutcome::Stopped,
                false => self.trainer.step(&asked).map_err(facts::of_train)?,
            };
            match outcome {
                StepOutcome::Updated(step) => {
                    self.report(&step);
                    self.look(step.step, work)?;
                    if self.checkpoint_is_due(step.step) {
                        self.checkpoint(work)?;
                    }
                }
                StepOutcome::Stopped => {
                    self.checkpoint(work)?;
                    self.channel.send(&FromWorker::Stopped);
                    return Ok(());
                }
                StepOutcome::Finished => break,
            }
        }
        self.checkpoint(work)?;
        work.progress("phase.save", 0, 0);
        let kept_step = self.keep_result()?;
        let (loss, targets) = self.last.iter().fold((0.0, 0), |(loss, targets), (l, t)| (loss + l, targets + t));
        self.channel.send(&FromWorker::Trained {
            steps: self.trainer.steps_done(),
            kept_step,
            tokens: self.tokens,
            loss: Metric::from(loss / targets as f64),
            tokens_per_s: if self.seconds > 0.0 { self.tokens as f64 / self.seconds } else { 0.0 },
            duration_ms: (self.seconds * 1e3) as u64,
            peak_memory_bytes: self.peak_bytes.max(held_bytes()),
        });
        Ok(())
    }

    /// What the base makes of the rows, where the method compares with it; no when a stop was asked for.
    fn prepare(&mut self, work: &mut Busy<'_>) -> Result<bool, Failure> {
        work.progress("phase.reference", 0, 0);
        let (channel, stop, moving) = (self.channel, &self.stop, &*work);
        let asked = || {
            moving.tick();
            stop_asked(channel, stop)
        };
        self.trainer.prepare(&asked).map_err(facts::of_train)
    }

    /// Writes `trained.gguf`: the last state, or the best that an evaluation saw where the run may end early. Says of which step.
    fn keep_result(&self) -> Result<u64, Failure> {
        let folder = Path::new(&self.task.folder);
        let (result, best) = (folder.join(RESULT), folder.join(BEST));
        if let Some(step) = self.trainer.best_step() {
            // The best stays: an attempt that ends before it was told comes here again. A copy under another name first, so
            // that a file that a version shares is not written over.
            let copy = result.with_extension("next");
            std::fs::copy(&best, &copy).map_err(|e| unreadable(&best, &e))?;
            std::fs::rename(&copy, &result).map_err(|e| unreadable(&result, &e))?;
            return Ok(step);
        }
        self.save(&result)?;
        Ok(self.trainer.steps_done())
    }

    /// Writes the state as a GGUF file: an adapter, or a whole model.
    fn save(&self, path: &Path) -> Result<(), Failure> {
        let meta = |tuning| said(tuning, &self.task.name, self.task.model_sha256, self.template_sha256);
        let saved = match self.task.params.tuning {
            wire::Tuning::Full => self.trainer.save_model(path, &meta(Tuning::Full)),
            wire::Tuning::Lora => self.trainer.save_adapter(path, &self.task.name, &meta(Tuning::Lora)),
        };
        saved.map_err(facts::of_train)
    }

    fn report(&mut self, step: &crate::train::StepMetrics) {
        self.peak_bytes = self.peak_bytes.max(held_bytes());
        self.tokens += step.tokens;
        self.seconds += step.step_ms / 1e3;
        // Pairs weigh the same, tokens are counted.
        let weight = if step.preference.is_some() { 1 } else { step.target_tokens };
        self.last.push_back((step.loss * weight as f64, weight));
        if self.last.len() > LAST_STEPS {
            self.last.pop_front();
        }
        self.channel.send(&FromWorker::Step(wire::StepMetrics {
            step: step.step,
            loss: Metric::from(step.loss),
            grad_norm: Metric::from(step.grad_norm),
            learning_rate: Metric::from(f64::from(step.learning_rate)),
            tokens: step.tokens,
            target_tokens: step.target_tokens,
            epoch: step.epoch,
            step_ms: step.step_ms,
            preference: step.preference.map(preference),
        }));
        if let Some(warned) = self.warnings.see(step.step, step.loss) {
            self.channel.send(&FromWorker::Warned(warned));
        }
    }

    /// Held-out loss and answers to the fixed prompts, before the first step, every `evaluate_steps` and after the last step.
    fn look(&mut self, step: u64, work: &mut Busy<'_>) -> Result<(), Failure> {
        let every = self.task.params.evaluate_steps;
        let last = step == self.trainer.steps_total();
        if every == 0 || !(step.is_multiple_of(every) || last) {
            return Ok(());
        }
        self.sample(step, work)?;
        self.evaluate(step, work)
    }

    /// Answers to the fixed prompts, if there are any.
    fn sample(&mut self, step: u64, work: &mut Busy<'_>) -> Result<(), Failure> {
        let Some(mut sampler) = self.sampler.take() else { return Ok(()) };
        work.progress("phase.sample", 0, 0);
        let (channel, stop, moving) = (self.channel, &self.stop, &*work);
        let asked = || {
            moving.tick();
            stop_asked(channel, stop)
        };
        let answers = sampler.ask(|path| self.save(path), &asked)?;
        self.peak_bytes = self.peak_bytes.max(held_bytes());
        self.sampler = Some(sampler);
        if let Some(answers) = answers {
            self.channel.send(&FromWorker::Sampled(wire::Sampled { step, answers }));
        }
        Ok(())
    }

    /// Held-out loss, where there are rows for it.
    fn evaluate(&mut self, step: u64, work: &Busy<'_>) -> Result<(), Failure> {
        if self.held_out.is_empty() {
            return Ok(());
        }
        let (channel, stop) = (self.channel, &self.stop);
        let asked = || {
            work.tick();
            stop_asked(channel, stop)
        };
        let evaluation = self.trainer.evaluate(&self.held_out, &asked).map_err(facts::of_train)?;
        let Some(evaluation) = evaluation else { return Ok(()) };
        let replay_loss = match self.replay_held_out.is_empty() {
            true => None,
            false => match self.trainer.evaluate(&self.replay_held_out, &asked) {
                // What is mixed in is measured where it can be; that none of its rows fits a window ends no run.
                Err(TrainError::NoRows { .. }) => None,
                Err(error) => return Err(facts::of_train(error)),
                Ok(None) => return Ok(()),
                Ok(Some(replay)) => Some(Metric::from(replay.loss())),
            },
        };
        let (loss, preference) = (Metric::from(evaluation.loss()), evaluation.preference.map(preference));
        self.channel.send(&FromWorker::Evaluated { step, loss, preference, replay_loss });
        if let Some(warned) = self.warnings.see_held_out(step, evaluation.loss()) {
            self.channel.send(&FromWorker::Warned(warned));
        }
        if self.trainer.note_evaluation(evaluation.loss()) {
            // Complete under its name or absent, so that a crash leaves the one before.
            let best = Path::new(&self.task.folder).join(BEST);
            let next = best.with_extension("next");
            self.save(&next)?;
            std::fs::rename(&next, &best).map_err(|e| unreadable(&best, &e))?;
        }
        Ok(())
    }

    fn checkpoint_is_due(&self, step: u64) -> bool {
        let every = self.task.params.checkpoint_steps;
        let interval = Duration::from_millis(self.task.checkpoint_interval_ms);
        (every > 0 && step.is_multiple_of(every)) || (!interval.is_zero() && self.saved_time.elapsed() >= interval)
    }

    /// Writes a checkpoint of the present step, unless there is one, and reports it.
    fn checkpoint(&mut self, work: &mut Busy<'_>) -> Result<(), Failure> {
        let step = self.trainer.steps_done();
        if step == self.saved_at {
            return Ok(());
        }
        work.progress("phase.save", 0, 0);
        let folder = step.to_string();
        let path = self.checkpoints.join(&folder);
        self.trainer.checkpoint(&path).map_err(facts::of_train)?;
        let manifest = path.join("manifest.json");
        let bytes = std::fs::read(&manifest).map_err(|e| unreadable(&manifest, &e))?;
        self.saved_at = step;
        self.saved_time = Instant::now();
        self.channel.send(&FromWorker::Checkpointed {
            step,
            folder,
            manifest_sha256: Hash(Sha256::digest(&bytes).into()),
        });
        Ok(())
    }
}

/// Whether a stop was asked for, now or before. A trainer takes no other message.
fn stop_asked(channel: &Channel, stop: &Cell<bool>) -> bool {
    while let Some(message) = channel.try_recv() {
        match message {
            ToWorker::StopAtCheckpoint => stop.set(true),
            _ => eprintln!("hone-worker train: a message for another mode was passed over"),
        }
    }
    stop.get()
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(FailureCode::FileUnreadable, error.to_string()).at(path.display().to_string())
}

/// Removes checkpoints of steps after `kept`: the daemon never accepted them, and the run writes them
/// again. Makes the folder where it is missing.
fn clear_leftovers(folder: &Path, kept: Option<u64>) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).map_err(|e| unreadable(folder, &e))?;
    for entry in std::fs::read_dir(folder).map_err(|e| unreadable(folder, &e))? {
        let path = entry.map_err(|e| unreadable(folder, &e))?.path();
        let step = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse::<u64>().ok());
        // What is no step number is an unfinished checkpoint.
        if step.is_none_or(|step| kept.is_none_or(|kept| step > kept)) && path.is_dir() {
            std::fs::remove_dir_all(&path).map_err(|e| unreadable(&path, &e))?;
        }
    }
    Ok(())
}

fn params(wanted: &wire::TrainParams) -> TrainParams {
    TrainParams {
        objective: match wanted.method {
            wire::Method::Sft | wire::Method::Pretrain => Objective::Likelihood,
            wire::Method::Dpo => Objective::Dpo { beta: wanted.beta },
            wire::Method::Orpo => Objective::Orpo { beta: wanted.beta },
        },
        tuning: match wanted.tuning {
            wire::Tuning::Lora => Tuning::Lora,
            wire::Tuning::Full => Tuning::Full,
        },
        rank: wanted.rank,
        alpha: wanted.alpha,
        rank_stabilised: wanted.scaling == wire::Scaling::RootRank,
        dropout: wanted.dropout,
        decay_ratio: wanted.decay_ratio,
        patience: wanted.patience,
        rise_max: wanted.rise_max.unwrap_or(wire::RISE_MAX),
        targets: wanted.targets.iter().map(|t| projection(*t)).collect(),
        learning_rate: wanted.learning_rate,
        schedule: match wanted.schedule {
            wire::Schedule::Linear => Schedule::Linear,
            wire::Schedule::Cosine => Schedule::Cosine,
            wire::Schedule::Constant => Schedule::Constant,
            wire::Schedule::Wsd => Schedule::Wsd,
        },
        warmup_ratio: wanted.warmup_ratio,
        epochs: wanted.epochs,
        max_steps: (wanted.steps_max > 0).then_some(wanted.steps_max),
        sequence_tokens: wanted.sequence_tokens,
        batch_windows: wanted.batch_windows,
        accumulation: wanted.accumulation,
        weight_decay: wanted.weight_decay,
        clip_norm: wanted.clip_norm,
        seed: wanted.seed,
        threads: match wanted.threads {
            0 => physical_cores() as u32,
            threads => threads,
        },
        long_rows: match wanted.too_long {
            wire::TooLong::LeaveOut => LongRows::Refuse,
            wire::TooLong::Cut => LongRows::Cut,
        },
        ..TrainParams::default()
    }
}

fn preference(found: PreferenceMetrics) -> wire::PreferenceMetrics {
    wire::PreferenceMetrics { margin: Metric::from(found.margin), accuracy: Metric::from(found.accuracy) }
}

fn projection(target: wire::Target) -> Projection {
    match target {
        wire::Target::Q => Projection::Q,
        wire::Target::K => Projection::K,
        wire::Target::V => Projection::V,
        wire::Target::O => Projection::O,
        wire::Target::Gate => Projection::Gate,
        wire::Target::Up => Projection::Up,
        wire::Target::Down => Projection::Down,
    }
}

/// What a run does for want of memory.
fn tight(plan: &Plan, limit: u64) -> String {
    let streamed = plan.streamed.then(|| "forms of the weights are made anew in every pass".to_owned());
    let again = (plan.recompute_every > 0).then(|| {
        format!("activations of {} layers at a time exist, the others are computed again", plan.recompute_every)
    });
    let what: Vec<String> = streamed.into_iter().chain(again).collect();
    format!("to keep below {} MiB {}; the result is the same, the run takes longer", limit >> 20, what.join(", and "))
}

fn planned(plan: &Plan, held_out: usize, params: &TrainParams) -> wire::TrainPlan {
    wire::TrainPlan {
        duration_ms: plan.estimate_ms(params),
        rows: plan.rows as u64,
        rows_held_out: held_out as u64,
        tokens: plan.tokens,
        target_tokens: plan.targets,
        rows_left_out: plan.refused as u64,
        rows_cut: plan.cut as u64,
        rows_without_targets: plan.without_target as u64,
        windows: plan.epoch_passes,
        steps: plan.steps,
        memory_bytes: plan.memory.total(),
        streamed: plan.streamed,
        recompute_every: plan.recompute_every,
        checkpoint_bytes: plan.checkpoint_bytes,
        adapter_bytes: plan.adapter_bytes,
    }
}
