//! `bench-train-driver`: hone's trainer under remote control, one JSON command a line on standard input and one JSON
//! answer a line on standard output. `tests/peers/bench_train.py` drives this and PyTorch through the same commands,
//! so that both are measured from outside in the same way. No part of the product.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use hone_kernels::inspect::{Facts, inspect};
use hone_kernels::template::{ChatMessage, ChatTemplate, LossOn, TemplateFacts};
use hone_kernels::train::{LongRows, Schedule, StepOutcome, TokenRow, TrainParams, Trainer, Weights};
use hone_kernels::vocab::Vocab;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
enum Command {
    /// Chat rows of a JSONL file as tokens.
    Render { model: PathBuf, file: PathBuf },
    /// A run over rows; each step takes `batch_windows * sequence_tokens` tokens.
    Load {
        model: PathBuf,
        rows: Vec<Row>,
        batch_windows: u32,
        sequence_tokens: u32,
        steps: u64,
        epochs: u32,
        learning_rate: f32,
        #[serde(default = "fastest")]
        weights: Weights,
    },
    /// The rows of every step.
    Order,
    /// One update.
    Step,
    /// Writes the adapter, or the gradient of the last step in the same layout.
    Save { adapter: Option<PathBuf>, gradient: Option<PathBuf> },
    /// Mean loss of rows under the adapter as it is.
    Evaluate { rows: Vec<Row> },
    /// Most memory that was resident so far.
    Memory,
}

#[derive(Deserialize)]
struct Row {
    tokens: Vec<i32>,
    trained: Vec<bool>,
}

fn fastest() -> Weights {
    Weights::Auto
}

fn main() -> anyhow::Result<()> {
    let mut trainer = None;
    for line in std::io::stdin().lock().lines() {
        let command = serde_json::from_str(&line?).context("a command is a JSON object with \"do\"")?;
        let answer = obey(command, &mut trainer)?;
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn obey(command: Command, trainer: &mut Option<Trainer>) -> anyhow::Result<Value> {
    match command {
        Command::Render { model, file } => return render(&model, &file),
        Command::Memory => return Ok(json!({ "peak_mib": peak_mib()? })),
        Command::Load { model, rows, batch_windows, sequence_tokens, steps, epochs, learning_rate, weights } => {
            let params = TrainParams {
                batch_windows,
                sequence_tokens,
                max_steps: Some(steps),
                epochs,
                learning_rate,
                weights,
                schedule: Schedule::Constant,
                warmup_ratio: 0.0,
                long_rows: LongRows::Cut,
                threads: std::thread::available_parallelism().map_or(2, |count| count.get() as u32),
                ..TrainParams::default()
            };
            let loaded = Trainer::new(&model, token_rows(rows), params)?;
            let answer = json!({ "steps": loaded.steps_total(), "parameters": loaded.plan().parameters });
            *trainer = Some(loaded);
            return Ok(answer);
        }
        _ => {}
    }
    let trainer = trainer.as_mut().context("load comes first")?;
    Ok(match command {
        Command::Order => json!({ "order": trainer.row_order() }),
        Command::Step => match trainer.step(&|| false)? {
            StepOutcome::Updated(step) => {
                json!({ "seconds": step.step_ms / 1e3, "loss": step.loss, "tokens": step.tokens })
            }
            _ => bail!("all steps were made"),
        },
        Command::Save { adapter, gradient } => {
            if let Some(path) = adapter {
                trainer.save_adapter(&path, "bench", &[])?;
            }
            if let Some(path) = gradient {
                trainer.save_gradient(&path)?;
            }
            json!({})
        }
        Command::Evaluate { rows } => {
            let found = trainer.evaluate(&token_rows(rows), &|| false)?.context("nothing asked it to stop")?;
            json!({ "loss": found.loss(), "targets": found.targets })
        }
        Command::Render { .. } | Command::Memory | Command::Load { .. } => unreachable!("answered above"),
    })
}

fn token_rows(rows: Vec<Row>) -> Vec<TokenRow> {
    let with_id = |(id, row): (usize, Row)| TokenRow { row_id: id as u64, tokens: row.tokens, trained: row.trained };
    rows.into_iter().enumerate().map(with_id).collect()
}

fn render(model: &Path, file: &Path) -> anyhow::Result<Value> {
    let vocab = Vocab::load(model)?;
    let Facts::Model(facts) = inspect(model)? else { bail!("{} is no model", model.display()) };
    let source = facts.chat_template.context("this model has no chat template")?;
    let template = ChatTemplate::new(&source, TemplateFacts::of(&vocab))?;
    let mut rows = Vec::new();
    for line in std::fs::read_to_string(file)?.lines() {
        let row: Value = serde_json::from_str(line)?;
        let messages = row["messages"].as_array().context("a row has messages")?.iter();
        let text = |message: &Value, field: &str| message[field].as_str().unwrap_or_default().to_owned();
        let messages: Vec<ChatMessage> =
            messages.map(|message| ChatMessage::new(&text(message, "role"), &text(message, "content"))).collect();
        let row = template.training_row(&vocab, &messages, LossOn::AllAssistantTurns)?;
        rows.push(json!({ "tokens": row.tokens, "trained": row.trained }));
    }
    Ok(json!({ "rows": rows }))
}

fn peak_mib() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in /proc/self/status")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse().context("VmHWM is not a number")?;
    Ok(kib / 1024.0)
}
