//! `bench-train-memory MODEL [LIMIT_MIB]`: one step of 512 tokens, what the planner said that it takes before, and what
//! it took: the buffers, and the peak of the process as the kernel counts it. One JSON line on standard output.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use hone_kernels::gguf::GgufFile;
use hone_kernels::train::{StepOutcome, TokenRow, TrainParams, Trainer, preflight};
use serde_json::json;

const MIB: f64 = (1 << 20) as f64;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (Some(model), limit) = (arguments.first(), arguments.get(1)) else {
        bail!("usage: bench-train-memory MODEL [LIMIT_MIB]")
    };
    let model = Path::new(model);
    let vocab = GgufFile::open(model)?.require_tensor("token_embd.weight")?.dim(1);
    let rows: Vec<TokenRow> = (0..4u64)
        .map(|row| TokenRow {
            row_id: row,
            tokens: (0..128u64).map(|at| ((row * 7919 + at * at * 31 + at * 577) % vocab) as i32).collect(),
            trained: vec![true; 128],
        })
        .collect();
    let params = TrainParams {
        sequence_tokens: 128,
        batch_windows: 4,
        max_steps: Some(1),
        memory_max_bytes: limit.map(|mib| mib.parse::<u64>()).transpose()?.map(|mib| mib << 20),
        ..TrainParams::default()
    };
    let before = status_bytes("VmRSS")?;
    let plan = preflight(model, &rows, &params)?;
    let started = Instant::now();
    let mut trainer = Trainer::new(model, rows, params)?;
    let load_s = started.elapsed().as_secs_f64();
    let StepOutcome::Updated(step) = trainer.step(&|| false)? else { bail!("no step was made") };
    let taken = trainer.plan().memory;
    let peak = status_bytes("VmHWM")? - before;
    println!(
        "{}",
        json!({
            "model": model.file_name().map(|name| name.to_string_lossy()),
            "streamed": plan.streamed,
            "recompute_every": plan.recompute_every,
            "predicted_mib": plan.memory.total() as f64 / MIB,
            "buffers_mib": taken.total() as f64 / MIB,
            "peak_mib": peak as f64 / MIB,
            "peak_vs_predicted": peak as f64 / plan.memory.total() as f64,
            "activations_vs_predicted": taken.activations as f64 / plan.memory.activations as f64,
            "load_s": load_s,
            "step_s": step.step_ms / 1e3,
            "tokens_per_s": step.tokens_per_s,
            "loss": step.loss,
        })
    );
    Ok(())
}

/// A field of the process's own status, in bytes.
fn status_bytes(field: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).context("the kernel does not say")?;
    let kib = line.trim_start_matches(':').trim().trim_end_matches(" kB").trim();
    Ok(kib.parse::<u64>()? * 1024)
}
