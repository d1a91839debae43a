//! A model from nothing: its sizes as metadata, its tokens learnt (`init/tokenizer.rs`) or taken over, its weights drawn. The file
//! is written tensor by tensor, so memory does not grow with the model. Sizes and tokens go through a Hugging Face folder
//! without weights, so that a new model says of itself what a converted one would. Never here: training.

pub mod tokenizer;

use std::fs;
use std::path::Path;

use hone_protocol::blueprint::{Blueprint, NewArchitecture};
use serde_json::json;

use super::merge::Store;
use super::{ConvertError, refuse};
use crate::arch::{self, Config, Matrix};
use crate::from_folder;
use crate::ggml::{self, BF16, F16, F32, Type};
use crate::gguf::{ALIGNMENT_DEFAULT, Array, GgufFile, GgufStream, PlannedTensor, TensorInfo, Value};
use crate::inspect;
use crate::train::SplitMix;

/// Standard deviation of weights, as GPT-2 and what follows it begin with.
const SPREAD: f32 = 0.02;
/// Values that are drawn at a time, at least one row.
const STRIP_VALUES: usize = 1 << 20;
/// Keys of tokens and templates.
const TOKENIZER: &str = "tokenizer.";

/// What to make.
#[derive(Debug)]
pub struct Init<'a> {
    /// Its sizes.
    pub blueprint: &'a Blueprint,
    /// `general.name`.
    pub name: &'a str,
    /// Where it came from, in words.
    pub source: &'a str,
    /// How matrices are stored: not [`Store::Same`]. Vectors are F32.
    pub store: Store,
    /// The same seed draws the same weights.
    pub seed: u64,
    /// Where files on the way may be written.
    pub folder: &'a Path,
    /// File to write.
    pub target: &'a Path,
}

/// Whose tokens the model has.
#[derive(Debug, Clone, Copy)]
pub enum Tokens<'a> {
    /// So many, that [`tokenizer::learn`] left in the folder.
    Learnt(u32),
    /// Those of a GGUF file.
    Of(&'a Path),
}

/// Makes the file. `progress` is told values drawn and in all.
pub fn init(task: &Init<'_>, tokens: Tokens<'_>, progress: &mut dyn FnMut(u64, u64)) -> Result<(), ConvertError> {
    let keys = match tokens {
        Tokens::Learnt(_) => Vec::new(),
        Tokens::Of(path) => tokenizer_of(path)?,
    };
    let rows = match tokens {
        Tokens::Learnt(rows) => rows,
        Tokens::Of(path) => tokens_in(path, &keys)?,
    };
    describe(task, rows)?;
    let mut metadata = general(task);
    metadata.extend(from_folder::sizes(task.folder)?);
    metadata.extend(if keys.is_empty() { from_folder::tokens(task.folder, rows)? } else { keys });
    let (config, tensors) = plan(task, &metadata, rows)?;
    let mut stream = GgufStream::create(task.target, &metadata, &tensors)?;
    let total = tensors.iter().map(|tensor| tensor.dims.iter().product::<u64>()).sum();
    let mut done = 0;
    for (number, tensor) in tensors.iter().enumerate() {
        let spread = spread(&config, &tensor.name);
        // A stream of its own for each tensor: no size changes what the others draw.
        let mut random = SplitMix::new(SplitMix::new(task.seed.wrapping_add(number as u64)).next());
        draw(tensor, spread, &mut random, &mut stream, &mut |values| {
            done += values;
            progress(done, total);
        })?;
    }
    Ok(stream.finish()?)
}

/// Everything that a file says of its tokens and templates.
fn tokenizer_of(path: &Path) -> Result<Vec<(String, Value)>, ConvertError> {
    let keys = GgufFile::open(path)?.metadata.into_iter().filter(|(key, _)| key.starts_with(TOKENIZER));
    Ok(keys.collect())
}

fn tokens_in(path: &Path, keys: &[(String, Value)]) -> Result<u32, ConvertError> {
    const KEY: &str = "tokenizer.ggml.tokens";
    match keys.iter().find(|(key, _)| key == KEY) {
        Some((_, Value::Array(Array::Str(tokens)))) => Ok(tokens.len() as u32),
        _ => refuse(path, KEY, "the model has no tokens that could be taken over"),
    }
}

/// Writes `config.json`.
fn describe(task: &Init<'_>, rows: u32) -> Result<(), ConvertError> {
    let of = task.blueprint;
    let (class, eps) = match of.architecture {
        NewArchitecture::Llama => ("LlamaForCausalLM", 1e-5),
        NewArchitecture::Qwen3 => ("Qwen3ForCausalLM", 1e-6),
    };
    let config = json!({
        "architectures": [class],
        "model_type": of.architecture.word(),
        "vocab_size": rows,
        "num_hidden_layers": of.layers,
        "hidden_size": of.embedding,
        "intermediate_size": of.feed_forward,
        "num_attention_heads": of.heads,
        "num_key_value_heads": of.kv_heads,
        "head_dim": of.embedding / of.heads,
        "max_position_embeddings": of.context_tokens,
        "rms_norm_eps": eps,
        "rope_theta": 10_000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": true,
    });
    let path = task.folder.join("config.json");
    fs::write(&path, config.to_string()).map_err(|source| ConvertError::Io { action: "write", path, source })
}

fn general(task: &Init<'_>) -> Vec<(String, Value)> {
    // llama.cpp's number of what most of a file is.
    let file_type = match task.store {
        Store::F16 => 1,
        Store::Bf16 => 32,
        Store::F32 | Store::Same => 0,
    };
    let text = |text: &str| Value::Str(text.to_owned());
    vec![
        ("general.architecture".to_owned(), text(task.blueprint.architecture.word())),
        ("general.type".to_owned(), text("model")),
        ("general.name".to_owned(), text(task.name)),
        ("general.file_type".to_owned(), Value::U32(file_type)),
        ("general.quantization_version".to_owned(), Value::U32(2)),
        ("hone.source".to_owned(), text(task.source)),
    ]
}

/// The model's numbers and every tensor of it. Registry and inspector are asked about the file before it is written.
fn plan(
    task: &Init<'_>,
    metadata: &[(String, Value)],
    rows: u32,
) -> Result<(Config, Vec<PlannedTensor>), ConvertError> {
    let matrix = match task.store {
        Store::F16 => F16,
        Store::Bf16 => BF16,
        Store::F32 | Store::Same => F32,
    };
    let planned = |(name, dims): (String, Vec<usize>)| {
        let type_id = if dims.len() > 1 { matrix } else { F32 };
        PlannedTensor { name, dims: dims.into_iter().map(|dim| dim as u64).collect(), type_id }
    };
    let embedding = ("token_embd.weight".to_owned(), vec![task.blueprint.embedding as usize, rows as usize]);
    let begun = header(task.target, metadata, &[planned(embedding)]);
    let tensors: Vec<PlannedTensor> = arch::planned(&begun)?.tensors().into_iter().map(planned).collect();
    let whole = header(task.target, metadata, &tensors);
    let (_, config) = arch::recognise(&whole)?;
    inspect::facts(&whole)?;
    Ok((config, tensors))
}

/// The header of a file that is not there yet.
fn header(path: &Path, metadata: &[(String, Value)], tensors: &[PlannedTensor]) -> GgufFile {
    let info = |tensor: &PlannedTensor| TensorInfo {
        name: tensor.name.clone(),
        dims: tensor.dims.clone(),
        type_id: tensor.type_id,
        type_name: crate::gguf::type_name(tensor.type_id).unwrap_or("?"),
        offset_bytes: 0,
        size_bytes: tensor.size_bytes().unwrap_or(0),
    };
    GgufFile {
        path: path.to_owned(),
        version: 3,
        metadata: metadata.to_vec(),
        tensors: tensors.iter().map(info).collect(),
        alignment_bytes: ALIGNMENT_DEFAULT,
        data_offset_bytes: 0,
        file_bytes: 0,
    }
}

/// Standard deviation of a tensor's first values; `None` for the ones of a norm. What is added to the residual stream is
/// smaller by the root of how often that happens, as in GPT-2 (section 2.3 of its paper).
fn spread(config: &Config, name: &str) -> Option<f32> {
    let adds = [Matrix::O, Matrix::Down].iter().any(|matrix| name.ends_with(&format!(".{}.weight", matrix.stem())));
    match name.ends_with("norm.weight") {
        true => None,
        false if adds => Some(SPREAD / (2.0 * config.layers as f32).sqrt()),
        false => Some(SPREAD),
    }
}

fn draw(
    tensor: &PlannedTensor,
    spread: Option<f32>,
    random: &mut SplitMix,
    stream: &mut GgufStream,
    progress: &mut dyn FnMut(u64),
) -> Result<(), ConvertError> {
    let row = tensor.dims[0] as usize;
    let rows = tensor.dims.iter().skip(1).product::<u64>() as usize;
    let kind = tensor.type_id as Type;
    let strip = (STRIP_VALUES / row).max(1);
    let (mut values, mut bytes) = (Vec::new(), Vec::new());
    for first in (0..rows).step_by(strip) {
        let count = strip.min(rows - first);
        values.clear();
        values.resize_with(count * row, || spread.map_or(1.0, |spread| spread * normal(random)));
        bytes.resize(ggml::row_bytes(kind, row) * count, 0);
        ggml::encode(kind, &values, row, &mut bytes);
        stream.data(&bytes)?;
        progress(values.len() as u64);
    }
    Ok(())
}

/// A number of the standard normal distribution (Box and Muller, <https://doi.org/10.1214/aoms/1177706645>).
fn normal(random: &mut SplitMix) -> f32 {
    const STEPS: f64 = (1u64 << 53) as f64;
    // In (0, 1], so that its logarithm is a number, and in [0, 1).
    let radius = ((random.next() >> 11) + 1) as f64 / STEPS;
    let turn = (random.next() >> 11) as f64 / STEPS;
    ((-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * turn).cos()) as f32
}
