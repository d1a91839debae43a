//! A run: load, step, save. The graph and all memory of a step are made when the run is made; a step takes
//! none. Which rows a step sees is a pure function of settings and step number, so the step number is the whole cursor.
//!
//! Loss of a step: the mean negative log-likelihood over the target tokens of all its passes together, or the mean over its
//! pairs of rows. Every target, or pair, weighs the same, so a pass with few counts for few, whatever the accumulation.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use sha2::{Digest, Sha256};

use crate::arch::{self, Arch, Config};
use crate::ggml::Backend;
use crate::gguf::{GgufError, GgufFile, GgufWriter};

use super::batch::Inputs;
use super::blocks::{Mode, Pass, PassSpec};
use super::checkpoint::{self, Identity, State};
use super::divergence::{Rise, Watch};
use super::lora::{Lora, LoraLayout};
use super::measure::{Comparison, Kernel, ProductsGraph};
use super::memory::{self, Arrangement};
use super::packing::{self, MicroBatch, Prepared, TokenRow};
use super::params::{Objective, TrainParams, Tuning};
use super::patience::Patience;
use super::plan::{MemoryBytes, Plan, admit, plan_of};
use super::preference::{Answer, Pairs, PreferenceMetrics};
use super::saved;
use super::stream::Stream;
use super::weights::{ModelWeights, WholeModel};
use super::{TrainError, hex};

/// Bytes of the model file that are hashed at a time.
const HASH_BUFFER_BYTES: usize = 1 << 20;

/// Weight of every target while gradients flow back; the update divides by it and by the number of targets. Products
/// with F16 copies round what flows through them to F16, whose smallest normal number is 6e-5: with the mean's weight
/// of one over thousands of targets most of a gradient would fall below it.
const GRADIENT_SCALE: f32 = 256.0;

/// What one update did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepMetrics {
    /// The update, 1-based.
    pub step: u64,
    /// Mean negative log-likelihood per target token, or mean loss per pair, before the update.
    pub loss: f64,
    /// Euclidean norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Rate used.
    pub learning_rate: f32,
    /// Tokens of rows computed (padding is not counted).
    pub tokens: u64,
    /// Targets among them.
    pub target_tokens: u64,
    /// Passes over the rows so far, with fraction.
    pub epoch: f64,
    /// Wall time.
    pub step_ms: f64,
    /// `tokens` per second of wall time.
    pub tokens_per_s: f64,
    /// What pairs came to, before the update.
    pub preference: Option<PreferenceMetrics>,
}

/// How a call of [`Trainer::step`] ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StepOutcome {
    /// An update was made.
    Updated(StepMetrics),
    /// The stop check asked to stop; nothing was updated and the step will be repeated.
    Stopped,
    /// All updates had been made before, or the run was out of patience.
    Finished,
}

/// A training run.
pub struct Trainer {
    pub(super) params: TrainParams,
    pub(super) rows: Vec<TokenRow>,
    pub(super) prepared: Prepared,
    pub(super) stream: Stream,
    pub(super) identity: Identity,
    pub(super) steps_done: u64,
    pub(super) watch: Watch,
    pub(super) patience: Patience,
    pub(super) note: Option<String>,
    pub(super) file: GgufFile,
    pub(super) arch: &'static Arch,
    pub(super) config: Config,
    pub(super) arrangement: Arrangement,
    pub(super) pass: Pass,
    /// The same without gradients, where pairs are judged before their gradient.
    pub(super) score: Option<Pass>,
    /// What the base makes of each row, by its place among them; empty until it was asked for.
    pub(super) reference: Vec<f64>,
    /// The same of the rows that were evaluated last, with their hash.
    pub(super) held_out_reference: Option<(String, Vec<f64>)>,
    pub(super) inputs: Inputs,
    pub(super) lora: Lora,
    pub(super) weights: ModelWeights,
    pub(super) backend: Backend,
}

impl Trainer {
    /// Loads the model and prepares everything for the first step.
    pub fn new(model_path: &Path, rows: Vec<TokenRow>, params: TrainParams) -> Result<Trainer, TrainError> {
        params.validate()?;
        let file = GgufFile::open(model_path)?;
        let (arch, config) = arch::recognise(&file)?;
        let prepared = admit(&rows, &params, &config)?;
        let stream = Stream::new(prepared.documents.clone(), &params);
        let backend = Backend::cpu(params.threads as usize)?;
        let layout = match params.tuning {
            Tuning::Lora => LoraLayout::new(&config, &params),
            Tuning::Full => LoraLayout::full(&file, &config),
        };
        let arrangement = memory::arrange(&backend, &file, &config, &layout, stream.shape, &params)?;
        let form = arrangement.form;
        let lora = Lora::new(&backend, layout, params.seed)?;
        // Queries' norms have the most rows.
        let rows_max = stream.shape.tokens * config.heads;
        let whole = (params.tuning == Tuning::Full).then_some(WholeModel { lora: &lora, rows_max });
        // Hashing the file and building the copies both want its bytes; together they read it once from disk.
        let (model_sha256, weights) = thread::scope(|scope| {
            let hash = scope.spawn(|| file_sha256(&file.path));
            let weights = ModelWeights::load(&backend, &file, &config, form, whole, params.threads as usize);
            (hash.join().expect("hashing does not panic"), weights)
        });
        let (model_sha256, weights) = (model_sha256?, weights?);
        let identity = Identity { model_sha256, rows_sha256: packing::rows_sha256(&rows), kernel_path: form.name() };
        let inputs = Inputs::new(&backend, &config, stream.shape, form.ours().is_none())?;
        let spec = PassSpec {
            config: &config,
            weights: &weights,
            lora: &lora,
            inputs: &inputs,
            shape: stream.shape,
            mode: Mode::Train,
            recompute_every: arrangement.recompute_every,
            dropout: (params.dropout > 0.0).then_some((params.dropout, params.seed)),
        };
        let pass = Pass::new(&backend, &spec)?;
        let scored = params.objective != Objective::Likelihood;
        let score = scored.then(|| Pass::new(&backend, &PassSpec { mode: Mode::Evaluate, ..spec })).transpose()?;
        Ok(Trainer {
            params,
            rows,
            prepared,
            stream,
            identity,
            steps_done: 0,
            watch: Watch::default(),
            patience: Patience::default(),
            note: None,
            file,
            arch,
            config,
            arrangement,
            pass,
            score,
            reference: Vec::new(),
            held_out_reference: None,
            inputs,
            lora,
            weights,
            backend,
        })
    }

    /// Continues from the checkpoint in `dir`, which must be of the same model, rows and settings (threads may
    /// differ). At equal threads on the same kind of CPU the continued run is bit-identical to an uninterrupted one;
    /// otherwise [`Trainer::resume_note`] says what differs.
    pub fn resume(
        model_path: &Path,
        rows: Vec<TokenRow>,
        params: TrainParams,
        dir: &Path,
    ) -> Result<Trainer, TrainError> {
        let mut trainer = Trainer::new(model_path, rows, params)?;
        let loaded = checkpoint::read(dir, &trainer.params, &trainer.identity, trainer.lora.layout.padded())?;
        trainer.lora.values.write(&loaded.state.values);
        trainer.lora.first_moment.write(&loaded.state.first_moment);
        trainer.lora.second_moment.write(&loaded.state.second_moment);
        trainer.steps_done = loaded.state.steps_done;
        trainer.watch = loaded.state.watch;
        trainer.patience = loaded.state.patience;
        trainer.note = loaded.note;
        Ok(trainer)
    }

    /// Why a resumed run may differ in the last bits from an uninterrupted one; `None` when it will not.
    pub fn resume_note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Updates in the whole run.
    pub fn steps_total(&self) -> u64 {
        self.stream.steps
    }

    /// Updates made so far.
    pub fn steps_done(&self) -> u64 {
        self.steps_done
    }

    /// Takes the loss of an evaluation after the last update into account; says whether the state is now the one to keep: the
    /// lowest loss so far of a run that may end early.
    pub fn note_evaluation(&mut self, loss: f64) -> bool {
        self.patience.see(self.steps_done, loss) && self.params.patience > 0
    }

    /// The step of the state to keep, where that need not be the last.
    pub fn best_step(&self) -> Option<u64> {
        self.patience.best_step().filter(|_| self.params.patience > 0)
    }

    /// SHA-256 of the model file.
    pub fn model_sha256(&self) -> &str {
        &self.identity.model_sha256
    }

    /// What the run does and the memory that it has taken.
    pub fn plan(&self) -> Plan {
        let memory = MemoryBytes {
            weights: self.weights.bytes() as u64,
            adapter: self.lora.bytes() as u64,
            activations: (self.pass.bytes() + self.score.as_ref().map_or(0, Pass::bytes) + self.inputs.bytes()) as u64,
        };
        let (layout, arrangement) = (&self.lora.layout, &self.arrangement);
        plan_of(&self.config, &self.params, &self.prepared, &self.stream, layout, arrangement, memory)
    }

    /// One update. `stop` is asked before every pass; when it says yes, nothing is updated.
    pub fn step(&mut self, stop: &dyn Fn() -> bool) -> Result<StepOutcome, TrainError> {
        if self.steps_done == self.stream.steps || self.patience.ended(self.params.patience) {
            return Ok(StepOutcome::Finished);
        }
        if !self.prepare(stop)? {
            return Ok(StepOutcome::Stopped);
        }
        let started = Instant::now();
        let first = self.steps_done * u64::from(self.params.accumulation);
        let passes = first..(first + u64::from(self.params.accumulation)).min(self.stream.passes);
        let Some(sums) = self.accumulate(passes.clone(), stop)? else { return Ok(StepOutcome::Stopped) };
        let step = self.steps_done + 1;
        let loss = sums.mean_loss();
        self.require_finite(step, "the loss", loss)?;
        let mean = 1.0 / (f64::from(GRADIENT_SCALE) * sums.weight() as f64);
        let grad_norm = self.lora.gradient_norm() * mean;
        self.require_finite(step, "the gradient norm", grad_norm)?;
        if let Some(Rise { mean, lowest }) = self.watch.see(loss, sums.weight(), f64::from(self.params.rise_max)) {
            return Err(TrainError::Diverged { step: self.steps_done, mean, lowest });
        }
        let learning_rate = self.params.learning_rate_at(self.steps_done, self.stream.steps);
        self.lora.update(&self.backend, step, learning_rate, &self.params, grad_norm, mean)?;
        self.steps_done = step;
        let seconds = started.elapsed().as_secs_f64();
        Ok(StepOutcome::Updated(StepMetrics {
            step,
            loss,
            grad_norm,
            learning_rate,
            tokens: sums.tokens,
            target_tokens: sums.targets,
            epoch: self.stream.epochs_done(passes.end),
            step_ms: seconds * 1e3,
            tokens_per_s: sums.tokens as f64 / seconds,
            preference: sums.pairs.metrics(),
        }))
    }

    /// Losses and the gradient of some passes; every target, or pair, weighs `GRADIENT_SCALE`.
    fn accumulate(
        &mut self,
        passes: std::ops::Range<u64>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Sums>, TrainError> {
        let mut sums = Sums::default();
        let shape = self.stream.shape;
        self.lora.gradient.clear();
        for index in passes {
            if stop() {
                return Ok(None);
            }
            let batch = self.stream.pass(index);
            sums.targets += batch.targets as u64;
            sums.tokens += batch.tokens as u64;
            self.inputs.fill(&self.rows, batch, &self.config, shape, GRADIENT_SCALE, index);
            if let Some(score) = &self.score {
                score.compute(&self.backend)?;
                let judged = judge(self.params.objective, batch, &mut self.inputs, &self.reference, &mut sums.pairs);
                self.inputs.weigh(batch, |row| GRADIENT_SCALE * judged[&row] as f32);
            }
            self.pass.compute(&self.backend)?;
            sums.loss += self.inputs.target_losses(batch.targets).sum::<f64>();
        }
        Ok(Some(sums))
    }

    fn require_finite(&self, step: u64, what: &'static str, value: f64) -> Result<(), TrainError> {
        if value.is_finite() { Ok(()) } else { Err(TrainError::NotFinite { step, what, value }) }
    }

    /// Writes the run's state into the new folder `dir`: afterwards it is complete there or absent.
    pub fn checkpoint(&self, dir: &Path) -> Result<(), TrainError> {
        let state = State {
            steps_done: self.steps_done,
            steps_total: self.stream.steps,
            watch: self.watch.clone(),
            patience: self.patience.clone(),
            values: self.lora.values.to_vec(),
            first_moment: self.lora.first_moment.to_vec(),
            second_moment: self.lora.second_moment.to_vec(),
        };
        Ok(checkpoint::write(dir, &self.params, &self.identity, &state)?)
    }

    /// Writes the trained model as a GGUF file with the metadata of the one that the run began from, matrices in F16; `meta`
    /// replaces and adds entries. Only where the whole model is trained.
    pub fn save_model(&self, path: &Path, meta: &[(String, String)]) -> Result<(), TrainError> {
        Ok(saved::model(&self.file, &self.lora.layout, &self.lora.values.to_vec(), meta).write(path)?)
    }

    /// Writes the adapter as a GGUF file that llama.cpp loads over the same base. `meta` adds entries, for instance
    /// `hone.base.sha256` and `hone.template.sha256`.
    pub fn save_adapter(&self, path: &Path, name: &str, meta: &[(String, String)]) -> Result<(), TrainError> {
        let values = self.lora.values.to_vec();
        Ok(saved::adapter(&self.lora.layout, &values, self.arch.name, name, meta).write(path)?)
    }

    /// Writes the gradient of the last step, in any scale, as [`Trainer::save_adapter`] writes the values.
    pub fn save_gradient(&self, path: &Path) -> Result<(), TrainError> {
        let mut writer = GgufWriter::new();
        self.lora.layout.describe_values(&self.lora.gradient.to_vec(), &mut writer);
        Ok(writer.write(path)?)
    }

    /// The rows of every step of the run, by their place among those given.
    pub fn row_order(&mut self) -> Vec<Vec<usize>> {
        let per_step = u64::from(self.params.accumulation);
        let rows_of = |stream: &mut Stream, pass| -> Vec<usize> {
            stream.pass(pass).pieces.iter().map(|piece| piece.document.row).collect()
        };
        (0..self.stream.steps)
            .map(|step| {
                let passes = step * per_step..((step + 1) * per_step).min(self.stream.passes);
                passes.flat_map(|pass| rows_of(&mut self.stream, pass)).collect()
            })
            .collect()
    }

    /// Makes `samples` updates after one that is not timed, and after each times the frozen products of one pass alone,
    /// by the run's own kernel and by ggml's; alternating, so that a slow spell of the machine falls on all of them.
    pub fn compare_with_products(&mut self, samples: usize) -> Result<Comparison, TrainError> {
        let graph = |kernel| ProductsGraph::new(&self.backend, &self.config, &self.weights, self.stream.shape, kernel);
        let (own, ggml) = (graph(Kernel::Own)?, graph(Kernel::GgmlF16)?);
        let mut comparison = Comparison { flop: own.flop(), ..Comparison::default() };
        for sample in 0..=samples {
            let outcome = self.step(&|| false)?;
            let (own_s, ggml_s) = (own.time(&self.backend)?, ggml.time(&self.backend)?);
            if let (StepOutcome::Updated(metrics), true) = (outcome, sample > 0) {
                comparison.tokens = metrics.tokens;
                comparison.step_s.push(metrics.step_ms / 1e3);
                comparison.own_s.push(own_s);
                comparison.ggml_s.push(ggml_s);
            }
        }
        Ok(comparison)
    }

    /// Wall time of one pass by operation, in seconds with the number of nodes, longest first. Nodes run one by one,
    /// which adds the waking of the threads to each.
    pub fn time_operations(&self) -> Result<Vec<(String, f64, usize)>, TrainError> {
        let mut sums: Vec<(String, f64, usize)> = Vec::new();
        for (name, seconds) in self.pass.time_nodes(&self.backend)? {
            match sums.iter_mut().find(|(known, ..)| *known == name) {
                Some((_, sum, count)) => (*sum, *count) = (*sum + seconds, *count + 1),
                None => sums.push((name, seconds, 1)),
            }
        }
        sums.sort_by(|a, b| b.1.total_cmp(&a.1));
        Ok(sums)
    }

    /// Where the model's header was read from.
    pub fn model_path(&self) -> &PathBuf {
        &self.file.path
    }

    #[cfg(test)]
    pub(super) fn parts(&mut self) -> (&mut Lora, &Config) {
        (&mut self.lora, &self.config)
    }

    /// Loss and gradient of the first step, without an update.
    #[cfg(test)]
    pub(super) fn loss_and_gradient(&mut self) -> (f64, Vec<f32>) {
        assert!(self.prepare(&|| false).unwrap());
        let last = u64::from(self.params.accumulation).min(self.stream.passes);
        let sums = self.accumulate(0..last, &|| false).unwrap().unwrap();
        let mean = 1.0 / (GRADIENT_SCALE * sums.weight() as f32);
        let gradient = self.lora.gradient.to_vec::<f32>();
        (sums.mean_loss(), gradient.into_iter().map(|value| value * mean).collect())
    }
}

#[derive(Default)]
struct Sums {
    loss: f64,
    targets: u64,
    tokens: u64,
    pairs: Pairs,
}

impl Sums {
    /// What the step's mean is over: pairs, or else targets.
    fn weight(&self) -> u64 {
        if self.pairs.count > 0 { self.pairs.count } else { self.targets }
    }

    fn mean_loss(&self) -> f64 {
        let sum = if self.pairs.count > 0 { self.pairs.loss } else { self.loss };
        sum / self.weight() as f64
    }
}

/// Judges the pairs of a pass that was scored: the weight of the targets of each row.
fn judge(
    objective: Objective,
    batch: &MicroBatch,
    inputs: &mut Inputs,
    reference: &[f64],
    pairs: &mut Pairs,
) -> HashMap<usize, f64> {
    let mut losses = inputs.target_losses(batch.targets);
    let mut weights = HashMap::new();
    for pair in batch.pieces.chunks_exact(2) {
        let rows = [pair[0].document, pair[1].document];
        let answers = rows.map(|document| Answer {
            log_prob: -losses.by_ref().take(document.targets).sum::<f64>(),
            targets: document.targets as u64,
        });
        let base = rows.map(|document| reference.get(document.row).copied().unwrap_or(0.0));
        let judged = objective.judge(answers, base);
        weights.extend(rows.map(|document| document.row).into_iter().zip(judged.weights));
        pairs.add(judged);
    }
    weights
}

fn file_sha256(path: &Path) -> Result<String, GgufError> {
    use std::io::Read;
    let io = |source| GgufError::Io { action: "read", path: path.to_owned(), source };
    let mut file = File::open(path).map_err(io)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; HASH_BUFFER_BYTES];
    loop {
        let read = file.read(&mut buffer).map_err(io)?;
        if read == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..read]);
    }
}
