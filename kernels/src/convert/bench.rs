//! One format of a model on this machine: its size, how fast an adapter trains over it, how fast it is served, and how near it is
//! to its source. Never here: which formats, and what follows from the figures.

use std::path::Path;
use std::time::Instant;

use super::receipt::{Receipt, Side, measure};
use super::{ConvertError, refuse};
use crate::gguf::GgufFile;
use crate::serve::{Engine, EngineParams, GenRequest, Sampling};
use crate::train::{LongRows, StepOutcome, TokenRow, TrainError, TrainParams, Trainer};

/// Timed steps of training, after one that is not timed.
const STEPS: u64 = 3;
/// Longest row in training.
const TRAIN_ROW_TOKENS: u32 = 256;
/// Rows of that length in a pass.
const TRAIN_WINDOWS: u32 = 2;
/// Prompt whose speed is taken.
const PROMPT_TOKENS: usize = 256;
/// Answer whose speed is taken.
const ANSWER_TOKENS: u32 = 48;
/// Requests of each kind; the median counts.
const ROUNDS: usize = 3;
/// Tokens that a slot holds.
const CONTEXT_TOKENS: u32 = 512;

/// What is measured.
#[derive(Debug)]
pub struct Bench<'a> {
    /// GGUF file in the format.
    pub model: &'a Path,
    /// GGUF file that it was made from.
    pub source: &'a Path,
    /// Rows to train on and to compare on.
    pub rows: &'a [TokenRow],
    /// Compute threads, at least one.
    pub threads: usize,
    /// Memory that training keeps below; `None` for no limit.
    pub memory_max_bytes: Option<u64>,
}

/// What was measured. Speeds are tokens a second.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// Of a LoRA step at the default settings, or why there is none.
    pub train: Result<f64, String>,
    /// Of a prompt.
    pub prefill: f64,
    /// Of an answer.
    pub decode: f64,
    /// On the rows.
    pub receipt: Receipt,
}

/// Measures. `alive` is called while it goes on, with what is being done: a key of the catalogue.
pub fn bench(task: &Bench<'_>, alive: &mut dyn FnMut(&str)) -> Result<Figures, ConvertError> {
    alive("phase.train");
    let train = train(task, alive).map_err(|error| error.to_string());
    alive("phase.bench_serve");
    let (prefill, decode) = serve(task, alive)?;
    alive("phase.receipt");
    let side = |model| Side { model, adapter: None };
    // It is not timed; ggml's threads wait for each other busily, and one core is left to whoever else computes.
    let threads = task.threads.saturating_sub(1).max(1);
    let receipt = measure(side(task.model), side(task.source), task.rows, threads, &mut |_, _| {
        alive("phase.receipt");
    })?;
    Ok(Figures { train, prefill, decode, receipt })
}

/// Tokens of rows a second over the timed steps.
fn train(task: &Bench<'_>, alive: &mut dyn FnMut(&str)) -> Result<f64, TrainError> {
    let params = TrainParams {
        sequence_tokens: TRAIN_ROW_TOKENS,
        batch_windows: TRAIN_WINDOWS,
        long_rows: LongRows::Cut,
        threads: task.threads as u32,
        max_steps: Some(STEPS + 1),
        // As many as the fewest rows need.
        epochs: STEPS as u32 + 1,
        memory_max_bytes: task.memory_max_bytes,
        ..TrainParams::default()
    };
    let mut trainer = Trainer::new(task.model, task.rows.to_vec(), params)?;
    let (mut tokens, mut ms) = (0, 0.0);
    while let StepOutcome::Updated(step) = trainer.step(&|| false)? {
        alive("phase.train");
        if step.step > 1 {
            tokens += step.tokens;
            ms += step.step_ms;
        }
    }
    Ok(tokens as f64 / (ms / 1e3))
}

/// Tokens a second of a prompt and of an answer, for one request at a time.
fn serve(task: &Bench<'_>, alive: &mut dyn FnMut(&str)) -> Result<(f64, f64), ConvertError> {
    let vocabulary = GgufFile::open(task.model)?.require_tensor("token_embd.weight")?.dim(1) as usize;
    let params = EngineParams {
        slots: 1,
        context_tokens_per_slot: CONTEXT_TOKENS,
        threads: Some(task.threads),
        ..EngineParams::new(task.model)
    };
    let mut engine = Engine::load(params)?;
    let mut number = 0;
    // Prompts share no beginning, so none of them is found in the cache.
    let mut seconds = |prompt: usize, answer: u32| {
        number += 1;
        let tokens = (0..prompt).map(|at| ((number as usize * 7_919 + at * 104_729) % vocabulary) as i32).collect();
        let request = GenRequest {
            id: number,
            adapter: None,
            tokens,
            sampling: Sampling::greedy(),
            stop: Vec::new(),
            max_tokens: answer,
            cache_scope: [number as u8; 32],
            ignore_end: true,
            chances: None,
            echo: false,
            limit: None,
        };
        if let Err(refusal) = engine.submit(request) {
            return refuse(task.model, "serving", refusal.to_string());
        }
        let (begun, mut events) = (Instant::now(), Vec::new());
        while engine.step(&mut events) {
            alive("phase.bench_serve");
        }
        Ok(begun.elapsed().as_secs_f64())
    };
    // The first request also takes what comes with a first one.
    seconds(PROMPT_TOKENS, 1)?;
    let (mut prompts, mut answers) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        prompts.push(PROMPT_TOKENS as f64 / seconds(PROMPT_TOKENS, 1)?);
        let first = seconds(1, 1)?;
        let rest = (seconds(1, ANSWER_TOKENS)? - first).max(f64::MIN_POSITIVE);
        answers.push(f64::from(ANSWER_TOKENS - 1) / rest);
    }
    Ok((median(&mut prompts), median(&mut answers)))
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
