//! Models for tests: tiny seeded random ones, and the real starter.

use std::path::{Path, PathBuf};

use crate::arch::Projection;
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
    TrainParams { threads: 1, seq_len: 32, batch_rows: 2, ..TrainParams::default() }
}

/// A llama of two layers with random F32 weights, that llama.cpp loads too. F16 holds the weights exactly, so that the
/// packed form must agree as well as the exact one.
pub(super) fn tiny(folder: &Path, seed: u64) -> PathBuf {
    let path = folder.join(format!("tiny-{seed}.gguf"));
    let mut random = SplitMix::new(seed);
    let mut writer = GgufWriter::new();
    let key = |name: &str| format!("llama.{name}");
    writer
        .meta("general.architecture", Value::Str("llama".to_owned()))
        .meta("general.name", Value::Str("tiny".to_owned()))
        .meta(&key("vocab_size"), Value::U32(VOCAB as u32))
        .meta(&key("context_length"), Value::U32(512))
        .meta(&key("embedding_length"), Value::U32(WIDTH as u32))
        .meta(&key("block_count"), Value::U32(2))
        .meta(&key("feed_forward_length"), Value::U32(FEED_FORWARD as u32))
        .meta(&key("attention.head_count"), Value::U32(HEADS as u32))
        .meta(&key("attention.head_count_kv"), Value::U32(KV_HEADS as u32))
        .meta(&key("rope.dimension_count"), Value::U32(HEAD_DIM as u32))
        .meta(&key("rope.freq_base"), Value::F32(10_000.0))
        .meta(&key("attention.layer_norm_rms_epsilon"), Value::F32(1e-5))
        .meta("tokenizer.ggml.model", Value::Str("no_vocab".to_owned()));
    let mut matrix = |writer: &mut GgufWriter, name: &str, input: usize, output: usize, spread: f32| {
        let values: Vec<f32> =
            (0..input * output).map(|_| (random.symmetric() * spread * 1024.0).round() / 1024.0).collect();
        writer.tensor_f32(name, &[input as u64, output as u64], &values);
    };
    matrix(&mut writer, "token_embd.weight", WIDTH, VOCAB, 1.0);
    matrix(&mut writer, "output.weight", WIDTH, VOCAB, 0.3);
    for layer in 0..2 {
        for projection in Projection::ALL {
            let (input, output) = match projection {
                Projection::Q => (WIDTH, HEADS * HEAD_DIM),
                Projection::K | Projection::V => (WIDTH, KV_HEADS * HEAD_DIM),
                Projection::O => (HEADS * HEAD_DIM, WIDTH),
                Projection::Gate | Projection::Up => (WIDTH, FEED_FORWARD),
                Projection::Down => (FEED_FORWARD, WIDTH),
            };
            matrix(&mut writer, &projection.tensor_name(layer), input, output, 0.25);
        }
    }
    let mut norm = |writer: &mut GgufWriter, name: &str| {
        let values: Vec<f32> = (0..WIDTH).map(|_| 1.0 + 0.2 * random.symmetric()).collect();
        writer.tensor_f32(name, &[WIDTH as u64], &values);
    };
    for layer in 0..2 {
        norm(&mut writer, &format!("blk.{layer}.attn_norm.weight"));
        norm(&mut writer, &format!("blk.{layer}.ffn_norm.weight"));
    }
    norm(&mut writer, "output_norm.weight");
    writer.write(&path).unwrap();
    path
}

/// Random rows of `lengths` tokens for the tiny model; about every second token is a target.
pub(super) fn tiny_rows(lengths: &[usize], seed: u64) -> Vec<TokenRow> {
    let mut random = SplitMix::new(seed);
    let rows = lengths.iter().enumerate().map(|(id, &len)| TokenRow {
        row_id: id as u64 + 100,
        tokens: (0..len).map(|_| random.below(VOCAB as u64) as i32).collect(),
        trained: (0..len).map(|at| at == 1 || random.below(2) == 1).collect(),
    });
    rows.collect()
}

/// The starter model; the test fails with a sentence where it is missing.
pub(super) fn starter() -> PathBuf {
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
pub(super) fn dequantised(source: &Path, target: &Path) {
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
