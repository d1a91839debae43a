//! `bench-train MODEL.gguf`: speed of a LoRA training step against the frozen products alone, measured in the same
//! run, for all tokens as targets and for a quarter of them. Prints raw samples, memory, what the limit is, and ends
//! with one line of JSON. It trains on random tokens: speed does not depend on what they say.

use std::path::PathBuf;

use anyhow::{Context, bail};
use hone_kernels::train::measure::{self, Peak};
use hone_kernels::train::{StepOutcome, TokenRow, TrainParams, Trainer, preflight};
use serde_json::json;

/// Rows of one pass in this benchmark.
const BATCH_ROWS: u32 = 4;
/// Tokens of each row.
const SEQ_LEN: u32 = 128;
/// Timed steps of each case, after one that is not timed.
const SAMPLES: usize = 3;
/// Shapes of the starter: outputs, inputs, columns.
const SHAPES: [(usize, usize, usize); 5] =
    [(576, 576, 512), (1536, 576, 512), (576, 1536, 512), (49152, 576, 128), (576, 49152, 128)];

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args_os().skip(1);
    let Some(model) = args.next().map(PathBuf::from) else {
        bail!("which model? usage: bench-train MODEL.gguf [--types] [--operations]");
    };
    let threads = std::thread::available_parallelism().map_or(2, |count| count.get() as u32);
    println!(
        "model {} | threads {threads} | rank 8, 7 projections, {BATCH_ROWS}x{SEQ_LEN} tokens a step",
        model.display()
    );
    let options: Vec<_> = args.collect();
    let profile = options.iter().any(|option| option == "--operations");
    if options.iter().any(|option| option == "--types") {
        print_types(threads as usize)?;
    }
    // A shared machine is slower for moments: the limit is the best of what is seen between the cases.
    let look = || Peak::look(threads as usize, 8).context("hone has no kernels for this processor");
    let mut peak = look()?;
    let rss_mib = peak_rss_of_a_step(&model, threads)?;
    println!("peak resident memory of load and one step: {rss_mib:.0} MiB");
    let all = run_case(&model, threads, 1, profile)?;
    peak = peak.max(look()?);
    let quarter = run_case(&model, threads, 4, false)?;
    peak = peak.max(look()?);
    let chat = run_chat(&model, threads)?;
    peak = peak.max(look()?);
    println!(
        "from registers alone: F32 {:.0} GFLOP/s, the products' integers {:.0} Gop/s (the physical limits)",
        peak.float_gop_s, peak.integer_gop_s
    );
    println!(
        "limit: the frozen products take {:.0} % of a step and run at {:.0} of {:.0} Gop/s; what is left is attention, adapters and passes over memory",
        100.0 * all.own_share,
        all.own_gflop_s,
        peak.integer_gop_s
    );
    println!(
        "{}",
        json!({
            "bench": "train",
            "figures": {
                "tokens_per_s_all_targets": all.tokens_per_s,
                "tokens_per_s_quarter_targets": quarter.tokens_per_s,
                "tokens_per_s_short_chat_rows": chat,
                "ceiling_tokens_per_s_all_targets": all.ceiling_tokens_per_s,
                "ceiling_tokens_per_s_quarter_targets": quarter.ceiling_tokens_per_s,
                "ggml_f16_products_gflop_s": all.ceiling_gflop_s,
                "own_products_gflop_s": all.own_gflop_s,
                "peak_float_gop_s": peak.float_gop_s,
                "peak_integer_gop_s": peak.integer_gop_s,
                "flop_per_token_all_targets": all.flop_per_token,
                "peak_rss_mib": rss_mib,
                "load_s": all.load_s,
            },
            "ratios": {
                "share_of_mul_mat_ceiling_all_targets": all.share,
                "share_of_mul_mat_ceiling_quarter_targets": quarter.share,
                "own_products_share_of_step": all.own_share,
                "own_products_share_of_integer_peak": all.own_gflop_s / peak.integer_gop_s,
            }
        })
    );
    Ok(())
}

struct Case {
    tokens_per_s: f64,
    ceiling_tokens_per_s: f64,
    ceiling_gflop_s: f64,
    own_gflop_s: f64,
    flop_per_token: f64,
    share: f64,
    own_share: f64,
    load_s: f64,
}

fn params(threads: u32) -> TrainParams {
    TrainParams {
        threads,
        sequence_tokens: SEQ_LEN,
        batch_windows: BATCH_ROWS,
        max_steps: Some(SAMPLES as u64 + 1),
        epochs: SAMPLES as u32 + 1,
        ..TrainParams::default()
    }
}

/// Peak memory so far after loading and one step, before the comparison takes memory of its own.
fn peak_rss_of_a_step(model: &std::path::Path, threads: u32) -> anyhow::Result<f64> {
    let rows = (0..BATCH_ROWS as usize).map(|row| random_row(row, 1)).collect();
    Trainer::new(model, rows, params(threads))?.step(&|| false)?;
    peak_rss_mib()
}

/// One token of every `every` is a target.
fn run_case(model: &std::path::Path, threads: u32, every: usize, profile: bool) -> anyhow::Result<Case> {
    let rows = (0..BATCH_ROWS as usize).map(|row| random_row(row, every)).collect();
    let started = std::time::Instant::now();
    let mut trainer = Trainer::new(model, rows, params(threads))?;
    let load_s = started.elapsed().as_secs_f64();
    let compared = trainer.compare_with_products(SAMPLES)?;
    let (tokens, flop) = (compared.tokens, compared.flop);
    if profile {
        for (name, seconds, count) in trainer.time_operations()? {
            println!("  {:>8.1} ms  {count:>5} x {name}", seconds * 1e3);
        }
    }
    let plan = trainer.plan();
    let (step, ceiling, own) = (median(&compared.step_s), median(&compared.ggml_s), median(&compared.own_s));
    let case = Case {
        tokens_per_s: tokens as f64 / step,
        ceiling_tokens_per_s: tokens as f64 / ceiling,
        ceiling_gflop_s: flop / ceiling / 1e9,
        own_gflop_s: flop / own / 1e9,
        flop_per_token: flop / tokens as f64,
        share: ceiling / step,
        own_share: own / step,
        load_s,
    };
    println!();
    println!(
        "one target in {every} tokens | load {load_s:.2} s | memory planned: weights {:.0}, adapter {:.0}, activations {:.0} MiB",
        mib(plan.memory.weights),
        mib(plan.memory.adapter),
        mib(plan.memory.activations)
    );
    println!("  step, s                             {}", raw(&compared.step_s));
    println!("  same products, ggml_mul_mat F16, s  {}", raw(&compared.ggml_s));
    println!("  same products, own kernel, s        {}", raw(&compared.own_s));
    println!(
        "  {:.0} tokens/s | ggml_mul_mat alone {:.0} tokens/s ({:.1} GFLOP/s), share {:.0} % | own products {:.1} GFLOP/s, {:.0} % of the step | {:.0} MFLOP per token in products",
        case.tokens_per_s,
        case.ceiling_tokens_per_s,
        case.ceiling_gflop_s,
        100.0 * case.share,
        case.own_gflop_s,
        100.0 * case.own_share,
        case.flop_per_token / 1e6
    );
    Ok(case)
}

/// Tokens per second of rows as a chat set has them: 60 to 70 tokens, the second half of them targets.
fn run_chat(model: &std::path::Path, threads: u32) -> anyhow::Result<f64> {
    let rows: Vec<TokenRow> = (0..64)
        .map(|row| {
            let mut row = random_row(row, 1);
            let len = 60 + row.row_id as usize * 7 % 11;
            row.tokens.truncate(len);
            row.trained = (0..len).map(|at| at >= len / 2).collect();
            row
        })
        .collect();
    let estimate = preflight(model, &rows, &params(threads))?.memory;
    let mut trainer = Trainer::new(model, rows, params(threads))?;
    let plan = trainer.plan();
    let mut seconds = Vec::new();
    let mut tokens = 0;
    while let StepOutcome::Updated(metrics) = trainer.step(&|| false)? {
        if metrics.step > 1 {
            seconds.push(metrics.step_ms / 1e3);
            tokens += metrics.tokens;
        }
    }
    let speed = tokens as f64 / seconds.iter().sum::<f64>();
    println!();
    println!(
        "chat rows of 60 to 70 tokens, half of them targets | {:.1} % of computed tokens belong to rows",
        100.0 * plan.fill
    );
    println!(
        "  memory estimated {:.0} MiB before loading, {:.0} MiB taken",
        mib(estimate.total()),
        mib(plan.memory.total())
    );
    println!("  step, s                             {}", raw(&seconds));
    println!("  {speed:.0} tokens/s");
    Ok(speed)
}

fn random_row(row: usize, every: usize) -> TokenRow {
    let len = SEQ_LEN as usize;
    let tokens = (0..len).map(|at| ((row * 7919 + at * 104_729) % 40_000) as i32).collect();
    // With all targets the first token is the only one that nothing predicts.
    let trained = (0..len).map(|at| at % every == every - 1 || every == 1).collect();
    TokenRow { row_id: row as u64, tokens, trained }
}

fn print_types(threads: usize) -> anyhow::Result<()> {
    println!("ggml_mul_mat, GFLOP/s, best of 12");
    for speed in measure::type_speeds(threads, &SHAPES, 12)? {
        println!(
            "  {:>6} x {:>6} x {:>4}  {:<5} {:>7.1}",
            speed.outputs, speed.inputs, speed.columns, speed.type_name, speed.gflop_s
        );
    }
    Ok(())
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

fn raw(samples: &[f64]) -> String {
    samples.iter().map(|sample| format!("{sample:.3}")).collect::<Vec<_>>().join(" ")
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}

fn peak_rss_mib() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in /proc/self/status")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse().context("VmHWM is not a number")?;
    Ok(kib / 1024.0)
}
