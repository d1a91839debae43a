//! `next-token`: what serving computes for the next token, as numbers: `next-token MODEL ADAPTER ROWS OUT`, ADAPTER a GGUF file or
//! `-`, ROWS a JSON list of lists of tokens, OUT a file of F32 that gets the logits of every position of every row.
//! `tests/prove/peft.py` compares them with PyTorch's. No part of the product.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use hone_kernels::serve::KvType;
use hone_kernels::serve::llama::{Adapter, Batch, Context, ContextParams, Model};

fn main() -> anyhow::Result<()> {
    let words: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [model, adapter, rows, out] = words.as_slice() else { bail!("usage: next-token MODEL ADAPTER|- ROWS OUT") };
    let rows: Vec<Vec<i32>> = serde_json::from_reader(File::open(rows)?).context("rows are lists of tokens")?;
    let longest = rows.iter().map(Vec::len).max().unwrap_or(0) as u32;
    let model = Model::load(model)?;
    let adapter = if adapter.as_os_str() == "-" { None } else { Some(Adapter::load(&model, adapter)?) };
    let params = ContextParams {
        slots: 1,
        tokens_per_slot: longest,
        batch_tokens_max: longest,
        graph_tokens_max: longest,
        outputs_max: longest,
        threads: std::thread::available_parallelism()?.get(),
        kv_type: KvType::F16,
        embeds: false,
    };
    let mut context = Context::new(&model, adapter, None, params)?;
    let mut out = BufWriter::new(File::create(out)?);
    let mut batch = Batch::default();
    for row in rows {
        context.clear();
        batch.clear();
        for (position, &token) in row.iter().enumerate() {
            batch.add(0, position, token, true);
        }
        context.decode(&mut batch)?;
        for position in 0..row.len() {
            let logits = context.logits(position).context("every position was asked for")?;
            for logit in logits {
                out.write_all(&logit.to_le_bytes())?;
            }
        }
    }
    out.flush()?;
    Ok(())
}
