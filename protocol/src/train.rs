//! What a training run is asked to do, and what it reports.

use serde::{Deserialize, Serialize};

use crate::dataset::{Shape, Split};
use crate::id::VersionId;
use crate::value::Metric;

/// The four-part training form as data: basics, training, data, register.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainSpec {
    /// Basics: base model version, as `name`, `name@number` or `name:alias`.
    pub base: String,
    /// Training: how.
    pub params: TrainParams,
    /// Data: dataset version, as `name` or `name@number`.
    pub dataset: String,
    /// Data: which rows are held out.
    pub split: Split,
    /// Data: rows of a general set that are mixed in, so that what the base could do is not forgotten; `None` for none.
    pub replay: Option<Replay>,
    /// Data: prompts that are answered at each evaluation, 1 to [`SAMPLES_MAX`]; `None` for none.
    pub samples: Option<Vec<String>>,
    /// Register: what to make of the result; `None` leaves the run unregistered.
    pub register: Option<Register>,
    /// Data: whether the rows may be a draft that nobody has released; `None` for no.
    pub draft_consent: Option<bool>,
}

/// Most prompts that a run answers at its evaluations.
pub const SAMPLES_MAX: usize = 8;
/// Longest of these prompts, in bytes.
pub const SAMPLE_PROMPT_BYTES_MAX: usize = 2000;
/// Longest answer to one of them, in tokens.
pub const SAMPLE_TOKENS_MAX: u32 = 64;

/// Answers to a run's fixed prompts, in their order, as its state after a step gives them: the likeliest token each time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sampled {
    /// The step; 0 is before the first.
    pub step: u64,
    /// One for each prompt.
    pub answers: Vec<SampleAnswer>,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleAnswer {
    /// What was said.
    pub text: String,
    /// Whether the model ended it; if not, it was cut at [`SAMPLE_TOKENS_MAX`].
    pub ended: bool,
}

/// Something about a run that a person should look at; the run goes on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Warned {
    /// The step.
    pub step: u64,
    /// What is wrong.
    pub rule: WatchRule,
    /// What was seen.
    pub value: Metric,
    /// What it is compared with.
    pub against: Metric,
}

/// Rules by which a run is watched. Values that are no numbers, and a loss that rises by
/// [`rise_max`](TrainParams::rise_max), end it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WatchRule {
    /// The loss of one step is three times the median of the steps before.
    Spike,
    /// The held-out loss rose three times in a row.
    RisingEvalLoss,
}

impl WatchRule {
    /// Catalogue key of its sentence.
    pub fn key(self) -> &'static str {
        match self {
            WatchRule::Spike => "run.spike",
            WatchRule::RisingEvalLoss => "run.overfit",
        }
    }
}

/// Rows mixed in from another dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// Dataset version, as `name` or `name@number`; chat or text rows, whatever the run's own are.
    pub dataset: String,
    /// How many, as percent of the run's own training rows, 1 to 100.
    pub percent: u32,
}

/// Part four of the form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Register {
    /// Name of the model to add a version to; made if it is not there.
    pub model: String,
    /// Alias to move to the new version; empty for none.
    pub alias: String,
    /// Publish the new version as a service of this name; empty for no.
    pub publish: String,
}

/// How to train. Ranges and defaults are in [`crate::form`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainParams {
    /// What is learnt from the rows.
    pub method: Method,
    /// Which values are trained.
    pub tuning: Tuning,
    /// LoRA rank.
    pub rank: u32,
    /// LoRA alpha; the scale is alpha / rank.
    pub alpha: f32,
    /// What the scale is instead.
    pub scaling: Scaling,
    /// Share of what goes into the adapters that is dropped, 0 to 0.9.
    pub dropout: f32,
    /// DPO: how far the run may go from the base. ORPO: weight of the odds ratio.
    pub beta: f32,
    /// Which matrices get an adapter.
    pub targets: Vec<Target>,
    /// Highest learning rate.
    pub learning_rate: f32,
    /// How the rate fades.
    pub schedule: Schedule,
    /// With [`Schedule::Wsd`]: share of the steps over which the rate falls.
    pub decay_ratio: f32,
    /// Share of the steps over which the rate rises, 0 to 0.5.
    pub warmup_ratio: f32,
    /// Full passes over the rows.
    pub epochs: u32,
    /// Stop after this many steps, whatever the epochs say; 0 for no limit.
    pub steps_max: u64,
    /// Window length in tokens; longer rows are refused or cut as `too_long` says.
    pub sequence_tokens: u32,
    /// What happens to longer rows.
    pub too_long: TooLong,
    /// Windows in one forward and backward pass.
    pub batch_windows: u32,
    /// Passes before one update.
    pub accumulation: u32,
    /// Decoupled weight decay of AdamW.
    pub weight_decay: f32,
    /// Largest global norm of a gradient; 0 for no limit.
    pub clip_norm: f32,
    /// Steps between evaluations on held-out rows; 0 for none.
    pub evaluate_steps: u64,
    /// Evaluations in a row without a lower held-out loss after which the run ends and keeps its best state; 0 for never.
    pub patience: u32,
    /// Nats by which the mean loss of twenty steps may lie above its lowest before the run is ended as diverged; `None` for
    /// [`RISE_MAX`].
    pub rise_max: Option<f32>,
    /// Steps between checkpoints; 0 for by time alone (five minutes).
    pub checkpoint_steps: u64,
    /// Seed of data order and initialisation.
    pub seed: u64,
    /// Compute threads; 0 for the pool's cores.
    pub threads: u32,
}

/// Default of [`TrainParams::rise_max`]: twenty times the perplexity. A run that has gone wrong ends near the logarithm of the
/// vocabulary, around 10; rows alone never move a mean of twenty steps so far.
pub const RISE_MAX: f32 = 3.0;

/// What is learnt from the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Supervised fine-tuning: the assistant's turns of chat rows.
    Sft,
    /// Continued pre-training: every token of text rows.
    Pretrain,
    /// Direct preference optimisation: chosen before rejected answers, measured against the base.
    Dpo,
    /// Odds ratio preference optimisation: chosen answers are learnt, rejected ones made less likely, without a reference.
    Orpo,
}

impl Method {
    /// The shape that a dataset must have.
    pub fn shape(self) -> Shape {
        match self {
            Method::Sft => Shape::Chat,
            Method::Pretrain => Shape::Text,
            Method::Dpo | Method::Orpo => Shape::Preference,
        }
    }

    /// The word on the wire and in the form.
    pub fn word(self) -> &'static str {
        match self {
            Method::Sft => "sft",
            Method::Pretrain => "pretrain",
            Method::Dpo => "dpo",
            Method::Orpo => "orpo",
        }
    }
}

/// Which values are trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tuning {
    /// An adapter beside the base, which stays as it is.
    Lora,
    /// Every value of the model; the result is a model of its own.
    Full,
}

impl Tuning {
    /// The word on the wire and in the form.
    pub fn word(self) -> &'static str {
        match self {
            Tuning::Lora => "lora",
            Tuning::Full => "full",
        }
    }
}

/// What the adapter's output is multiplied by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// alpha / rank.
    Rank,
    /// alpha / sqrt(rank): rank-stabilised LoRA.
    RootRank,
}

/// A matrix of a transformer block that can carry an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Target {
    Q,
    K,
    V,
    O,
    Gate,
    Up,
    Down,
}

impl Target {
    /// All seven.
    pub const ALL: [Target; 7] = [Target::Q, Target::K, Target::V, Target::O, Target::Gate, Target::Up, Target::Down];

    /// The word on the wire and in the form.
    pub fn word(self) -> &'static str {
        match self {
            Target::Q => "q",
            Target::K => "k",
            Target::V => "v",
            Target::O => "o",
            Target::Gate => "gate",
            Target::Up => "up",
            Target::Down => "down",
        }
    }
}

/// How the learning rate fades after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Along a straight line to zero.
    Linear,
    /// Along half a cosine to zero.
    Cosine,
    /// Not at all.
    Constant,
    /// Not at all until the last part of the run, then along a straight line to zero: warm-up, stable, decay.
    Wsd,
}

/// What happens to rows that are longer than the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TooLong {
    /// They are left out and counted.
    LeaveOut,
    /// Their end is cut off, and they are counted.
    Cut,
}

/// What a run will do, known before the first step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainPlan {
    /// Rows that are trained on.
    pub rows: u64,
    /// Rows held out.
    pub rows_held_out: u64,
    /// Tokens of one epoch.
    pub tokens: u64,
    /// Of these, tokens that the loss is taken on.
    pub target_tokens: u64,
    /// Rows left out because they are too long.
    pub rows_left_out: u64,
    /// Rows whose end was cut off.
    pub rows_cut: u64,
    /// Rows left out because no token of them would be trained on.
    pub rows_without_targets: u64,
    /// Packed windows of one epoch.
    pub windows: u64,
    /// Update steps of the whole run.
    pub steps: u64,
    /// Estimated peak memory in bytes.
    pub memory_bytes: u64,
    /// Whether the forms of the weights are made anew in every pass, to fit into memory: the same result, slower.
    pub streamed: bool,
    /// Layers whose activations exist together, the others being computed again, to fit into memory: the same result, slower; 0: all.
    pub recompute_every: u32,
    /// Bytes of a checkpoint on disk.
    pub checkpoint_bytes: u64,
    /// Bytes of the finished adapter on disk.
    pub adapter_bytes: u64,
    /// Estimated time of the steps: by the rate of the newest run like it on this machine, before there is one by what its
    /// processor multiplies, which may be wrong by a factor of two.
    pub duration_ms: Option<u64>,
}

/// Checkpoints of a run that are kept whole, so that it can go on: the newest, and the one before in case it is damaged.
pub const CHECKPOINTS_KEPT: usize = 2;
/// Checkpoints before those whose values are kept, so that a version can be made of them.
pub const STATES_KEPT: u64 = 8;
/// Most bytes that those values take.
pub const STATES_BYTES_MAX: u64 = 1 << 30;
/// How long after its end something of a run is kept: 30 days.
pub const RUNS_KEPT_MS: i64 = 30 * 24 * 3600 * 1000;

/// Something of a run that a version can be made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptCheckpoint {
    /// The step.
    pub step: u64,
    /// Its size on disk in bytes.
    pub size_bytes: u64,
    /// Whether it is what the run ended with, not registered yet.
    pub result: bool,
}

impl TrainPlan {
    /// Bytes that the run may write: the checkpoints that are kept, the next one while it is written, values of earlier
    /// ones, and the adapter.
    pub fn disk_bytes(&self) -> u64 {
        // Values are a third of a checkpoint; two moments are the rest.
        let states = (STATES_KEPT * (self.checkpoint_bytes / 3)).min(STATES_BYTES_MAX);
        (CHECKPOINTS_KEPT as u64 + 1) * self.checkpoint_bytes + states + self.adapter_bytes
    }
}

/// What one step reports.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// The step, from 1.
    pub step: u64,
    /// Mean loss per target token, in nats; of a pair, with preferences.
    pub loss: Metric,
    /// Global norm of the gradient before clipping.
    pub grad_norm: Metric,
    /// Learning rate of this step.
    pub learning_rate: Metric,
    /// Real tokens of this step (padding not counted).
    pub tokens: u64,
    /// Of these, tokens that the loss is taken on.
    pub target_tokens: u64,
    /// Position in epochs.
    pub epoch: f64,
    /// Wall time in milliseconds.
    pub step_ms: f64,
    /// What pairs came to; none for other methods.
    pub preference: Option<PreferenceMetrics>,
}

/// What pairs of answers came to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PreferenceMetrics {
    /// Mean by which chosen answers are ahead: DPO's difference of rewards, ORPO's logarithm of the odds ratio.
    pub margin: Metric,
    /// Share of pairs whose chosen answer is ahead.
    pub accuracy: Metric,
}

/// Names of the series of a run, in the order of their numbers in the store. Never reorder.
pub const SERIES: [&str; 11] = [
    "loss",
    "grad_norm",
    "learning_rate",
    "tokens_per_s",
    "eval_loss",
    "target_tokens",
    "margin",
    "accuracy",
    "eval_margin",
    "eval_accuracy",
    "replay_loss",
];

/// One point of a series.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The step.
    pub step: u64,
    /// The value.
    pub value: Metric,
}

/// What a finished run made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainResult {
    /// Steps done.
    pub steps: u64,
    /// The step whose state was kept: the last, or the best where the run was to stop early.
    pub kept_step: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Mean loss of the last steps.
    pub loss: Metric,
    /// Tokens per second over the run, loading not counted.
    pub tokens_per_s: f64,
    /// Time of the steps since the last attempt began.
    pub duration_ms: Option<u64>,
    /// Most memory that the last attempt held.
    pub peak_memory_bytes: Option<u64>,
    /// The registered version.
    pub version: Option<VersionId>,
}

impl TrainParams {
    /// The alpha whose quotient by the rank is the adapter's scale, whatever the [`Scaling`].
    pub fn alpha_over_rank(&self) -> f32 {
        match self.scaling {
            Scaling::Rank => self.alpha,
            Scaling::RootRank => self.alpha * (self.rank as f32).sqrt(),
        }
    }
}

impl Default for TrainParams {
    fn default() -> Self {
        TrainParams {
            method: Method::Sft,
            tuning: Tuning::Lora,
            rank: 8,
            alpha: 16.0,
            scaling: Scaling::Rank,
            dropout: 0.0,
            beta: 0.1,
            targets: Target::ALL.to_vec(),
            learning_rate: 2e-4,
            schedule: Schedule::Cosine,
            decay_ratio: 0.2,
            warmup_ratio: 0.05,
            epochs: 2,
            steps_max: 0,
            sequence_tokens: 512,
            too_long: TooLong::LeaveOut,
            batch_windows: 1,
            accumulation: 1,
            weight_decay: 0.0,
            clip_norm: 1.0,
            evaluate_steps: 0,
            patience: 0,
            rise_max: None,
            checkpoint_steps: 0,
            seed: 42,
            threads: 0,
        }
    }
}
