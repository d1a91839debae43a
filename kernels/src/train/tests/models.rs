//! Models for tests: tiny seeded random ones, and the real starter.

use std::path::{Path, PathBuf};

use crate::arch::{Arch, REGISTRY};
use crate::gguf::{Array, GgufFile, GgufWriter, Value};
use crate::train::packing::SplitMix;
use crate::train::{TokenRow, TrainParams};

pub(super) const VOCAB: usize = 160;
const WIDTH: usize = 64;
const FEED_FORWARD: usize = 96;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = 16;

/// Settings for tiny runs. One thread: the tests run beside each other, and ggml's threads wait for each other busily.
pub(super) fn params() -> TrainParams {
    TrainParams { threads: 1, sequence_tokens: 32, batch_windows: 2, ..TrainParams::default() }
}

/// A llama of two layers with random F32 weights, that llama.cpp loads too.
pub(crate) fn tiny(folder: &Path, seed: u64) -> PathBuf {
    tiny_of(folder, "llama", seed)
}

/// The same of any architecture, deep enough to have every kind of layer. Weights are whole 1024ths, so that the packed
/// form is off by little.
pub(crate) fn tiny_of(folder: &Path, name: &str, seed: u64) -> PathBuf {
    let arch = REGISTRY.iter().find(|arch| arch.name == name).expect("a registered architecture");
    let layers = arch.local.map_or(2, |local| local.every + 1);
    let path = folder.join(format!("{name}-{seed}.gguf"));
    let mut random = SplitMix::new(seed);
    let mut writer = GgufWriter::new();
    let key = |suffix: &str| format!("{name}.{suffix}");
    writer
        .meta("general.architecture", Value::Str(name.to_owned()))
        .meta("general.name", Value::Str("tiny".to_owned()))
        .meta(&key("vocab_size"), Value::U32(VOCAB as u32))
        .meta(&key("context_length"), Value::U32(512))
        .meta(&key("embedding_length"), Value::U32(WIDTH as u32))
        .meta(&key("block_count"), Value::U32(layers as u32))
        .meta(&key("feed_forward_length"), Value::U32(FEED_FORWARD as u32))
        .meta(&key("attention.head_count"), Value::U32(HEADS as u32))
        .meta(&key("attention.head_count_kv"), Value::U32(KV_HEADS as u32))
        .meta(&key("rope.dimension_count"), Value::U32(HEAD_DIM as u32))
        .meta(&key("rope.freq_base"), Value::F32(10_000.0))
        .meta(&key("attention.layer_norm_rms_epsilon"), Value::F32(1e-5))
        .meta("tokenizer.ggml.model", Value::Str("no_vocab".to_owned()));
    if arch.local.is_some() {
        writer.meta(&key("attention.sliding_window"), Value::U32(7));
        writer.meta(&key("rope.freq_base_swa"), Value::F32(500.0));
    }
    if arch.score_cap.is_some() {
        // Low enough to bend what random weights give.
        writer.meta(&key("attn_logit_softcapping"), Value::F32(2.0));
        writer.meta(&key("final_logit_softcapping"), Value::F32(3.0));
    }
    for (tensor, dims) in tensors(arch, layers) {
        let (spread, middle) = match tensor.as_str() {
            "token_embd.weight" => (1.0, 0.0),
            "output.weight" => (0.3, 0.0),
            other if other.ends_with("norm.weight") => (0.2, 1.0),
            _ => (0.25, 0.0),
        };
        let values: Vec<f32> = (0..dims.iter().product::<usize>())
            .map(|_| middle + (random.symmetric() * spread * 1024.0).round() / 1024.0)
            .collect();
        let dims: Vec<u64> = dims.iter().map(|&dim| dim as u64).collect();
        writer.tensor_f32(&tensor, &dims, &values);
    }
    writer.write(&path).unwrap();
    path
}

/// Name and dimensions of every tensor of a tiny model, as GGUF has them; written down apart from `Config::tensors`.
fn tensors(arch: &Arch, layers: usize) -> Vec<(String, Vec<usize>)> {
    let (queries, keys) = (HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM);
    let mut tensors = vec![("token_embd.weight".to_owned(), vec![WIDTH, VOCAB])];
    // Models with scaled embeddings are tied, whose embeddings are also the head.
    if !arch.scaled_embedding {
        tensors.push(("output.weight".to_owned(), vec![WIDTH, VOCAB]));
    }
    for layer in 0..layers {
        let mut add = |stem: &str, dims: &[usize]| tensors.push((format!("blk.{layer}.{stem}"), dims.to_vec()));
        if arch.fused {
            add("attn_qkv.weight", &[WIDTH, queries + 2 * keys]);
            add("ffn_up.weight", &[WIDTH, 2 * FEED_FORWARD]);
        } else {
            for (stem, output) in [("attn_q", queries), ("attn_k", keys), ("attn_v", keys)] {
                add(&format!("{stem}.weight"), &[WIDTH, output]);
                if !arch.biases.is_empty() {
                    add(&format!("{stem}.bias"), &[output]);
                }
            }
            add("ffn_gate.weight", &[WIDTH, FEED_FORWARD]);
            add("ffn_up.weight", &[WIDTH, FEED_FORWARD]);
        }
        add("attn_output.weight", &[queries, WIDTH]);
        add("ffn_down.weight", &[FEED_FORWARD, WIDTH]);
        add("attn_norm.weight", &[WIDTH]);
        add("ffn_norm.weight", &[WIDTH]);
        if arch.post_norms {
            add("post_attention_norm.weight", &[WIDTH]);
            add("post_ffw_norm.weight", &[WIDTH]);
        }
        if arch.head_norms {
            add("attn_q_norm.weight", &[HEAD_DIM]);
            add("attn_k_norm.weight", &[HEAD_DIM]);
        }
    }
    tensors.push(("output_norm.weight".to_owned(), vec![WIDTH]));
    tensors
}

/// Random rows of `lengths` tokens for the tiny model; about every second token is a target.
pub(crate) fn tiny_rows(lengths: &[usize], seed: u64) -> Vec<TokenRow> {
    let mut random = SplitMix::new(seed);
    let rows = lengths.iter().enumerate().map(|(id, &len)| TokenRow {
        row_id: id as u64 + 100,
        tokens: (0..len).map(|_| random.below(VOCAB as u64) as i32).collect(),
        trained: (0..len).map(|at| at == 1 || random.below(2) == 1).collect(),
    });
    rows.collect()
}

/// The starter model; the test fails with a sentence where it is missing.
pub(crate) fn starter() -> PathBuf {
    let folder = std::env::var_os("HONE_ASSETS")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/hone/assets"));
    let path = folder.join("SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(path.exists(), "the starter is missing: no {}; run `make setup` or set HONE_ASSETS", path.display());
    path
}

/// A short chat as the starter's template writes it, tokenised, its answer being the target; at most `len` tokens.
pub(super) fn chat_row(model: &Path, row_id: u64, question: &str, answer: &str, len: usize) -> TokenRow {
    let prompt = format!("<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n");
    let first = super::llama_cpp::tokens(model, &prompt).len();
    let mut tokens = super::llama_cpp::tokens(model, &format!("{prompt}{answer}<|im_end|>\n"));
    tokens.truncate(len);
    TokenRow { row_id, trained: (0..tokens.len()).map(|at| at >= first).collect(), tokens }
}

/// A copy of `source` with every tensor as F32, the rest equal.
pub(crate) fn dequantised(source: &Path, target: &Path) {
    use std::os::unix::fs::FileExt;
    let file = GgufFile::open(source).unwrap();
    let data = std::fs::File::open(source).unwrap();
    let mut writer = GgufWriter::new();
    for (key, value) in file.metadata {
        // The tokenizer's lists are large and the test gives tokens itself.
        let list = matches!(&value, Value::Array(Array::Str(_) | Array::I32(_) | Array::F32(_)));
        if key != "general.file_type" && !(list && key.starts_with("tokenizer.")) && key != "tokenizer.ggml.model" {
            writer.meta(&key, value);
        }
    }
    writer.meta("tokenizer.ggml.model", Value::Str("no_vocab".to_owned()));
    for info in &file.tensors {
        let mut stored = vec![0; info.size_bytes as usize];
        data.read_exact_at(&mut stored, info.offset_bytes).unwrap();
        let mut values = vec![0.0f32; info.elements() as usize];
        crate::ggml::decode(info.type_id, &stored, &mut values);
        let mut bytes = vec![0; values.len() * 4];
        crate::ggml::encode(crate::ggml::F32, &values, info.dim(0) as usize, &mut bytes);
        writer.tensor(&info.name, &info.dims, crate::gguf::TYPE_F32, bytes);
    }
    writer.write(target).unwrap();
}
