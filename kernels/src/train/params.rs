//! The settings of a training run, their limits, and the learning rate of each step as a pure function. Nothing here
//! reads files or touches ggml.

use serde::{Deserialize, Serialize};

use crate::arch::Projection;

/// Largest LoRA rank; a larger one is refused (it would no longer be low).
pub const RANK_MAX: u32 = 256;
/// Longest row in tokens; a longer setting is refused.
pub const SEQUENCE_TOKENS_MAX: u32 = 65_536;
/// Most rows of `sequence_tokens` tokens in one pass; a larger setting is refused.
pub const BATCH_WINDOWS_MAX: u32 = 1_024;
/// Most passes per update; a larger setting is refused.
pub const ACCUMULATION_MAX: u32 = 1_024;
/// Most epochs; a larger setting is refused.
pub const EPOCHS_MAX: u32 = 1_000;
/// Most threads; a larger setting is refused.
pub const THREADS_MAX: u32 = 256;
/// Largest dropout; a larger setting is refused.
pub const DROPOUT_MAX: f32 = 0.9;
/// Largest beta of preferences; a larger setting is refused.
pub const BETA_MAX: f32 = 10.0;

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// To zero in a straight line.
    Linear,
    /// To zero along half a cosine.
    Cosine,
    /// Not at all.
    Constant,
    /// Not at all until the last `decay_ratio` of the steps, then to zero in a straight line (warm-up, stable, decay;
    /// <https://arxiv.org/abs/2404.06395>).
    Wsd,
}

/// What a run makes smaller.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// The negative log-likelihood of the target tokens.
    Likelihood,
    /// Direct preference optimisation (<https://arxiv.org/abs/2305.18290>); rows come in pairs, chosen then rejected.
    Dpo {
        /// How far the run may go from the base: the factor on log-probability ratios.
        beta: f32,
    },
    /// Odds ratio preference optimisation (<https://arxiv.org/abs/2403.07691>); rows come in pairs, chosen then rejected.
    Orpo {
        /// Weight of the odds ratio beside the likelihood of chosen rows.
        beta: f32,
    },
}

/// Which values are trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tuning {
    /// Adapters beside frozen matrices; the result is an adapter.
    Lora,
    /// Every value of the model; the result is a model.
    Full,
}

impl Objective {
    /// Rows that are judged together.
    pub fn rows_per_group(self) -> usize {
        if self == Objective::Likelihood { 1 } else { 2 }
    }
}

/// What happens to a row that is longer than `sequence_tokens`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LongRows {
    /// It is left out and counted as refused.
    Refuse,
    /// Its first `sequence_tokens` tokens are kept and it is counted as cut.
    Cut,
}

/// How the frozen weights are kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weights {
    /// The fastest form for this CPU that fits.
    Auto,
    /// F32 copies of everything: the exact gradient of the dequantised model, slow and large; for checks.
    Exact,
    /// The file's own data, from which each product's form is made on the way: the least memory.
    Small,
}

/// Settings of a training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainParams {
    /// What is made smaller.
    pub objective: Objective,
    /// Which values are trained. With [`Tuning::Full`] what is about adapters counts for nothing.
    pub tuning: Tuning,
    /// Rank of the adapters.
    pub rank: u32,
    /// The adapter's output is multiplied by alpha / rank.
    pub alpha: f32,
    /// Instead by alpha / sqrt(rank), so that a high rank learns as fast as a low one (rsLoRA,
    /// <https://arxiv.org/abs/2312.03732>).
    pub rank_stabilised: bool,
    /// Share of what goes into the adapters that is set to zero, anew for every pass, 0 to below 1; the rest is made larger
    /// to make up for it. Not with pairs of rows, whose two passes would see different adapters.
    pub dropout: f32,
    /// Which matrices get an adapter.
    pub targets: Vec<Projection>,
    /// Peak learning rate of AdamW.
    pub learning_rate: f32,
    /// How it falls.
    pub schedule: Schedule,
    /// Share of all steps in which [`Schedule::Wsd`] falls, above 0 to 1.
    pub decay_ratio: f32,
    /// Share of all steps in which the rate climbs from zero to the peak, 0 to 1.
    pub warmup_ratio: f32,
    /// Passes over the rows.
    pub epochs: u32,
    /// Ends the run after so many updates; the schedule is laid over the shorter run.
    pub max_steps: Option<u64>,
    /// Longest row in tokens.
    pub sequence_tokens: u32,
    /// One pass computes `batch_windows * sequence_tokens` tokens, filled with as many rows as fit; twice as many where rows
    /// come in pairs.
    pub batch_windows: u32,
    /// Passes per update; the loss is the mean over the target tokens of all of them.
    pub accumulation: u32,
    /// AdamW's decoupled weight decay.
    pub weight_decay: f32,
    /// The gradient is scaled down to this Euclidean norm when it is longer; 0 switches clipping off.
    pub clip_norm: f32,
    /// Decides the adapters' first values and the order of rows.
    pub seed: u64,
    /// Threads that compute.
    pub threads: u32,
    /// 0 keeps all activations; k keeps every k-th layer's input and computes the rest again in the backward pass
    /// (less memory, up to a third more time, the same result); `None`: as `memory_max_bytes` allows.
    pub recompute_every: Option<u32>,
    /// Memory that weights, adapter and activations keep below together; `None`: as much as the fastest run takes.
    pub memory_max_bytes: Option<u64>,
    /// Evaluations in a row without a lower loss after which the run ends; 0: it goes on to its end.
    pub patience: u32,
    /// Nats by which the mean loss of the last steps may lie above its lowest before the run has diverged.
    pub rise_max: f32,
    /// What happens to rows longer than `sequence_tokens`.
    pub long_rows: LongRows,
    /// How the frozen weights are kept.
    pub weights: Weights,
}

impl Default for TrainParams {
    fn default() -> TrainParams {
        TrainParams {
            objective: Objective::Likelihood,
            tuning: Tuning::Lora,
            rank: 8,
            alpha: 16.0,
            rank_stabilised: false,
            dropout: 0.0,
            targets: Projection::ALL.to_vec(),
            learning_rate: 1e-3,
            schedule: Schedule::Linear,
            decay_ratio: 0.2,
            warmup_ratio: 0.05,
            epochs: 1,
            max_steps: None,
            sequence_tokens: 256,
            batch_windows: 2,
            accumulation: 1,
            weight_decay: 0.0,
            clip_norm: 1.0,
            seed: 1,
            threads: 2,
            recompute_every: None,
            memory_max_bytes: None,
            patience: 0,
            rise_max: 3.0,
            long_rows: LongRows::Refuse,
            weights: Weights::Auto,
        }
    }
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("setting {field}: {problem}")]
pub struct ParamsError {
    /// The field of [`TrainParams`].
    pub field: &'static str,
    /// What is wrong and what is possible.
    pub problem: String,
}

impl TrainParams {
    /// Checks every field against its limits; the error names the field.
    pub fn validate(&self) -> Result<(), ParamsError> {
        let fail = |field, problem: String| Err(ParamsError { field, problem });
        for (field, value, least, most) in [
            ("rank", self.rank, 1, RANK_MAX),
            ("epochs", self.epochs, 1, EPOCHS_MAX),
            ("sequence_tokens", self.sequence_tokens, 2, SEQUENCE_TOKENS_MAX),
            ("batch_windows", self.batch_windows, 1, BATCH_WINDOWS_MAX),
            ("accumulation", self.accumulation, 1, ACCUMULATION_MAX),
            ("threads", self.threads, 1, THREADS_MAX),
        ] {
            if value < least || value > most {
                return fail(field, format!("{value} is outside {least} to {most}"));
            }
        }
        for (field, value, most) in [
            ("alpha", self.alpha, 4096.0),
            ("learning_rate", self.learning_rate, 1.0),
            ("weight_decay", self.weight_decay, 1.0),
            ("clip_norm", self.clip_norm, 1e6),
            ("rise_max", self.rise_max, 1e6),
            ("warmup_ratio", self.warmup_ratio, 1.0),
            ("decay_ratio", self.decay_ratio, 1.0),
            ("dropout", self.dropout, DROPOUT_MAX),
        ] {
            if !(value >= 0.0 && value <= most) {
                return fail(field, format!("{value} is outside 0 to {most}"));
            }
        }
        if self.alpha == 0.0 {
            return fail("alpha", "0 would switch the adapter off".to_owned());
        }
        if self.learning_rate == 0.0 {
            return fail("learning_rate", "0 would learn nothing".to_owned());
        }
        if self.tuning == Tuning::Full {
            if self.objective != Objective::Likelihood {
                return fail("tuning", "pairs of rows train adapters: the base must stay beside the run".to_owned());
            }
            if self.dropout > 0.0 {
                return fail("dropout", "there are no adapters to drop the input of".to_owned());
            }
        }
        match self.objective {
            Objective::Dpo { beta } | Objective::Orpo { beta } => {
                if !(beta > 0.0 && beta <= BETA_MAX) {
                    return fail("beta", format!("{beta} is outside above 0 to {BETA_MAX}"));
                }
                if self.dropout > 0.0 {
                    return fail("dropout", "must be 0 for rows in pairs: it would blur what is compared".to_owned());
                }
            }
            Objective::Likelihood => {}
        }
        if self.schedule == Schedule::Wsd && self.decay_ratio == 0.0 {
            return fail("decay_ratio", "0 would never let the rate fall; choose constant for that".to_owned());
        }
        if self.max_steps == Some(0) {
            return fail("max_steps", "0 steps train nothing; leave it out for no limit".to_owned());
        }
        if self.recompute_every.is_some_and(|every| every as usize > crate::arch::LAYERS_MAX) {
            return fail("recompute_every", format!("0 to {} are possible", crate::arch::LAYERS_MAX));
        }
        if self.targets.is_empty() {
            return fail("targets", "choose at least one of q, k, v, o, gate, up, down".to_owned());
        }
        let repeated = self.targets.iter().enumerate().find(|(at, target)| self.targets[..*at].contains(target));
        if let Some((_, target)) = repeated {
            return fail("targets", format!("{} is listed twice", target.name()));
        }
        Ok(())
    }

    /// Tokens that one pass computes.
    pub fn batch_tokens(&self) -> usize {
        self.batch_windows as usize * self.sequence_tokens as usize * self.objective.rows_per_group()
    }

    /// Learning rate of update `step` (0-based) of `total`: it climbs linearly through the warm-up, whose last step
    /// has the peak, then falls as the schedule says; the last step's rate is still above zero.
    pub fn learning_rate_at(&self, step: u64, total: u64) -> f32 {
        let warmup = (f64::from(self.warmup_ratio) * total as f64).round() as u64;
        let peak = f64::from(self.learning_rate);
        if step < warmup {
            return (peak * (step + 1) as f64 / warmup as f64) as f32;
        }
        let rest = total.saturating_sub(warmup).max(1) as f64;
        let done = ((step - warmup) as f64 / rest).min(1.0);
        let factor = match self.schedule {
            Schedule::Constant => 1.0,
            Schedule::Linear => 1.0 - done,
            Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
            Schedule::Wsd => {
                let falling = (f64::from(self.decay_ratio) * total as f64).max(1.0);
                ((total - step) as f64 / falling).min(1.0)
            }
        };
        (peak * factor) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bad_field_is_named() {
        type Spoil = fn(&mut TrainParams);
        let cases: [(&str, Spoil); 14] = [
            ("dropout", |p| p.dropout = 0.95),
            ("dropout", |p| (p.objective, p.dropout) = (Objective::Dpo { beta: 0.1 }, 0.1)),
            ("beta", |p| p.objective = Objective::Orpo { beta: 0.0 }),
            ("decay_ratio", |p| (p.schedule, p.decay_ratio) = (Schedule::Wsd, 0.0)),
            ("rank", |p| p.rank = 0),
            ("alpha", |p| p.alpha = f32::NAN),
            ("learning_rate", |p| p.learning_rate = 0.0),
            ("warmup_ratio", |p| p.warmup_ratio = 1.5),
            ("epochs", |p| p.epochs = 0),
            ("max_steps", |p| p.max_steps = Some(0)),
            ("sequence_tokens", |p| p.sequence_tokens = 1),
            ("threads", |p| p.threads = 0),
            ("targets", |p| p.targets = vec![]),
            ("targets", |p| p.targets = vec![Projection::Q, Projection::Q]),
        ];
        for (field, spoil) in cases {
            let mut params = TrainParams::default();
            params.validate().unwrap();
            spoil(&mut params);
            assert_eq!(params.validate().unwrap_err().field, field);
        }
    }

    #[test]
    fn the_rate_climbs_and_falls() {
        let mut params = TrainParams { learning_rate: 1.0, warmup_ratio: 0.1, ..TrainParams::default() };
        let rates: Vec<f32> = (0..100).map(|step| params.learning_rate_at(step, 100)).collect();
        assert_eq!(rates[0], 0.1);
        assert_eq!(rates[9], 1.0);
        assert_eq!(rates[10], 1.0);
        assert!((rates[55] - 0.5).abs() < 1e-6 && rates[99] > 0.0);
        params.schedule = Schedule::Cosine;
        assert!((params.learning_rate_at(55, 100) - 0.5).abs() < 1e-6);
        params.schedule = Schedule::Constant;
        assert_eq!(params.learning_rate_at(99, 100), 1.0);
        (params.schedule, params.decay_ratio) = (Schedule::Wsd, 0.2);
        let rates: Vec<f32> = (0..100).map(|step| params.learning_rate_at(step, 100)).collect();
        assert_eq!((rates[0], rates[10], rates[80], rates[90], rates[99]), (0.1, 1.0, 1.0, 0.5, 0.05));
        params.warmup_ratio = 0.0;
        assert_eq!(params.learning_rate_at(0, 1), 1.0);
    }
}
