//! `generate-gguf SHAPE FILE`: a model of a real one's shape with seeded random weights in Q4_0 and no tokenizer, for
//! measuring time and memory where no such model is at hand. It says nothing sensible.

use std::path::Path;

use anyhow::{Context, Result, bail};
use hone_kernels::gguf::{GgufWriter, TYPE_F32, Value};

/// ggml's number of Q4_0: 32 values as an F16 factor and 16 bytes of two values each.
const TYPE_Q4_0: u32 = 2;
const BLOCK_VALUES: usize = 32;
/// Factor of every block, 2^-8 as F16: values up to 8/256, as trained weights of this size have.
const FACTOR: [u8; 2] = 0x1c00u16.to_le_bytes();

struct Shape {
    name: &'static str,
    layers: u32,
    width: u32,
    feed_forward: u32,
    heads: u32,
    kv_heads: u32,
    vocab: u32,
    /// Whether the output head is the embedding.
    tied: bool,
}

const SHAPES: &[Shape] = &[
    // For trying what reads such files.
    Shape { name: "tiny", layers: 2, width: 256, feed_forward: 512, heads: 4, kv_heads: 2, vocab: 4096, tied: true },
    // SmolLM2 135M.
    Shape {
        name: "135m",
        layers: 30,
        width: 576,
        feed_forward: 1536,
        heads: 9,
        kv_heads: 3,
        vocab: 49_152,
        tied: true,
    },
    // TinyLlama 1.1B.
    Shape {
        name: "1b",
        layers: 22,
        width: 2048,
        feed_forward: 5632,
        heads: 32,
        kv_heads: 4,
        vocab: 32_000,
        tied: false,
    },
    // Llama 2 7B.
    Shape {
        name: "7b",
        layers: 32,
        width: 4096,
        feed_forward: 11008,
        heads: 32,
        kv_heads: 32,
        vocab: 32_000,
        tied: false,
    },
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, path] = arguments.as_slice() else { bail!("usage: generate-gguf tiny|135m|1b|7b FILE") };
    let shape = SHAPES.iter().find(|shape| shape.name == name).context("the shape is none of tiny, 135m, 1b, 7b")?;
    let mut writer = GgufWriter::new();
    let key = |suffix: &str| format!("llama.{suffix}");
    writer
        .meta("general.architecture", Value::Str("llama".to_owned()))
        .meta("general.name", Value::Str(format!("random-{name}")))
        .meta(&key("vocab_size"), Value::U32(shape.vocab))
        .meta(&key("context_length"), Value::U32(4096))
        .meta(&key("embedding_length"), Value::U32(shape.width))
        .meta(&key("block_count"), Value::U32(shape.layers))
        .meta(&key("feed_forward_length"), Value::U32(shape.feed_forward))
        .meta(&key("attention.head_count"), Value::U32(shape.heads))
        .meta(&key("attention.head_count_kv"), Value::U32(shape.kv_heads))
        .meta(&key("rope.dimension_count"), Value::U32(shape.width / shape.heads))
        .meta(&key("attention.layer_norm_rms_epsilon"), Value::F32(1e-5))
        .meta("tokenizer.ggml.model", Value::Str("no_vocab".to_owned()));
    let mut random = 1u64;
    let (width, ff, kv) = (shape.width, shape.feed_forward, shape.width / shape.heads * shape.kv_heads);
    matrix(&mut writer, &mut random, "token_embd", width, shape.vocab);
    if !shape.tied {
        matrix(&mut writer, &mut random, "output", width, shape.vocab);
    }
    norm(&mut writer, "output_norm", width);
    for layer in 0..shape.layers {
        for (stem, input, output) in [
            ("attn_q", width, width),
            ("attn_k", width, kv),
            ("attn_v", width, kv),
            ("attn_output", width, width),
            ("ffn_gate", width, ff),
            ("ffn_up", width, ff),
            ("ffn_down", ff, width),
        ] {
            matrix(&mut writer, &mut random, &format!("blk.{layer}.{stem}"), input, output);
        }
        norm(&mut writer, &format!("blk.{layer}.attn_norm"), width);
        norm(&mut writer, &format!("blk.{layer}.ffn_norm"), width);
    }
    Ok(writer.write(Path::new(path))?)
}

fn matrix(writer: &mut GgufWriter, random: &mut u64, stem: &str, input: u32, output: u32) {
    let blocks = input as usize * output as usize / BLOCK_VALUES;
    let mut data = Vec::with_capacity(blocks * (FACTOR.len() + BLOCK_VALUES / 2));
    for _ in 0..blocks {
        data.extend(FACTOR);
        data.extend(next(random).to_le_bytes());
        data.extend(next(random).to_le_bytes());
    }
    writer.tensor(&format!("{stem}.weight"), &[u64::from(input), u64::from(output)], TYPE_Q4_0, data);
}

fn norm(writer: &mut GgufWriter, stem: &str, width: u32) {
    let ones = (0..width).flat_map(|_| 1.0f32.to_le_bytes()).collect();
    writer.tensor(&format!("{stem}.weight"), &[u64::from(width)], TYPE_F32, ones);
}

/// SplitMix64 (<https://doi.org/10.1145/2714064.2660195>).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
