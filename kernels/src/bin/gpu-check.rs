//! `gpu-check devices|parity|products|model …`: what a device is, whether it computes what the CPU does, and how fast it
//! is; JSON on standard output, one value or (parity) one a line. HONE_DEVICE names the device. `tests/gpu/check.py`
//! runs it. Never here: a judgement of the figures.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use hone_kernels::parity;
use hone_kernels::serve::llama::{Batch, Context, ContextParams, Model};
use hone_kernels::serve::{KvType, threads::physical_cores};
use hone_kernels::{Device, choose, devices, log_to_stderr, wished};
use serde_json::{Value, json};

/// Tokens of the prompt and of the answer when a model is timed.
const PROMPT: usize = 512;
const ANSWER: usize = 64;
const SAMPLES: usize = 5;

fn main() -> Result<()> {
    log_to_stderr();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let found = match words[..] {
        ["devices"] => json!({ "devices": devices(), "chosen": chosen()?.name }),
        ["parity"] => return parity_from(0),
        ["parity", first] => return parity_from(first.parse()?),
        ["products", outputs, inputs, columns] => {
            let (device, shape) = (chosen()?, [outputs.parse()?, inputs.parse()?, columns.parse()?]);
            json!({ "device": device, "results": parity::speeds(&device, physical_cores(), shape, SAMPLES)? })
        }
        ["model", file] => model(Path::new(file), None)?,
        ["model", file, logits] => model(Path::new(file), Some(Path::new(logits)))?,
        _ => bail!("usage: gpu-check devices | parity [FIRST] | products OUTPUTS INPUTS COLUMNS | model FILE [LOGITS]"),
    };
    println!("{found}");
    Ok(())
}

/// One line for each operation as soon as it is known, and its name on standard error before it runs.
fn parity_from(first: usize) -> Result<()> {
    let begins = |operation: &str| eprintln!("parity: {operation}");
    let ends = |result| println!("{}", json!(result));
    Ok(parity::compare(&chosen()?, physical_cores(), first, begins, ends)?)
}

fn chosen() -> Result<Device> {
    Ok(choose(&devices(), wished().as_deref())?)
}

/// Tokens that mean nothing, the same on every device.
fn token(position: usize, vocab: usize) -> i32 {
    ((position * 7919 + 17) % vocab) as i32
}

/// Loads a model as serving does and times a prompt and an answer; the logits after the prompt go to `logits` as F32.
fn model(file: &Path, logits: Option<&Path>) -> Result<Value> {
    let started = Instant::now();
    let model = Model::load(file)?;
    let load_seconds = started.elapsed().as_secs_f64();
    let params = ContextParams {
        slots: 1,
        tokens_per_slot: (PROMPT + ANSWER) as u32,
        batch_tokens_max: PROMPT as u32,
        graph_tokens_max: PROMPT as u32,
        outputs_max: 1,
        threads: physical_cores(),
        kv_type: KvType::F16,
        embeds: false,
    };
    let mut context = Context::new(&model, None, None, params)?;
    let mut batch = Batch::default();
    let vocab = model.vocab_size();
    let (mut prefill, mut decode) = (f64::INFINITY, f64::INFINITY);
    // The first round warms up: kernels are loaded and graphs captured then.
    for round in 0..3 {
        context.clear();
        batch.clear();
        for position in 0..PROMPT {
            batch.add(0, position, token(position, vocab), position + 1 == PROMPT);
        }
        let started = Instant::now();
        context.decode(&mut batch)?;
        let values = context.logits(PROMPT - 1).context("the model gave no logits")?;
        let seconds = started.elapsed().as_secs_f64();
        if let (0, Some(path)) = (round, logits) {
            std::fs::write(path, values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())?;
        }
        prefill = prefill.min(seconds);
        decode = decode.min(answer(&mut context, &mut batch, vocab)?);
    }
    Ok(json!({
        "weight_bytes": model.weight_bytes(),
        "devices": model.devices(),
        "load_seconds": load_seconds,
        "prefill_tok_s": PROMPT as f64 / prefill,
        "decode_tok_s": ANSWER as f64 / decode,
        "prompt_tokens": PROMPT,
        "answer_tokens": ANSWER,
    }))
}

/// Seconds of an answer after the prompt, one token at a time.
fn answer(context: &mut Context, batch: &mut Batch, vocab: usize) -> Result<f64> {
    let started = Instant::now();
    for step in 0..ANSWER {
        batch.clear();
        batch.add(0, PROMPT + step, token(PROMPT + step, vocab), true);
        context.decode(batch)?;
        context.logits(0).context("the model gave no logits")?;
    }
    Ok(started.elapsed().as_secs_f64())
}
